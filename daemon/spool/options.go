package spool

import (
	"errors"
	"fmt"
	"log/slog"
	"time"

	"fieldpost/daemon/clock"
	"fieldpost/daemon/health"
)

// Options say where the spool is and what bounds it.
type Options struct {
	Dir      string         // the directory, made where it is missing; no other process may use it
	Beside   string         // a directory that is there and outlasts the process, not the power (systemd's RuntimeDirectory=): a run that has no disk is noted there, so that its crash is told; "" is none
	Thing    string         // the board's name, which what is appended keeps for good; see [Source]
	Board    string         // a fingerprint of the board: where the directory has another's it gets a new id; "" is not known
	AtRisk   time.Duration  // the most time's worth of unacknowledged records a power cut may cost; 0 has each on disk before Next gives it
	Sensors  []string       // the sensors that records may come of; a crash is told of each, also where none had come. Others may come too
	MaxBytes int64          // bound of the disk used, at least 1 MiB; 0 is 64 MiB
	MaxAge   time.Duration  // how old a record may become; 0 is any age
	Memory   int64          // bound of the records in memory while the disk fails, at least 512 KiB; 0 is 4 MiB
	Clock    clock.Clock    // stamps gaps and tells ages
	Health   *health.Health // is told of the faults of the spool by Open, Run and Close; nil tells nobody
	Log      *slog.Logger   // nil discards

	// RefusedLine gives the line of refused.jsonl, with its end, for what [Spool.Refuse]
	// was called for; nil keeps no such file.
	RefusedLine func(x Item, reason string, at time.Time) ([]byte, error)
}

const (
	defaultBytes  = 64 << 20
	leastBytes    = 1 << 20
	defaultMemory = 4 << 20
	leastMemory   = 512 << 10
)

// complete fills in the defaults. An error names the option that makes no
// sense.
func (o Options) complete() (Options, error) {
	if o.MaxBytes == 0 {
		o.MaxBytes = defaultBytes
	}
	if o.Memory == 0 {
		o.Memory = defaultMemory
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	switch {
	case o.Dir == "":
		return o, errors.New("open spool: no directory given")
	case o.Clock == nil:
		return o, errors.New("open spool: no clock given")
	case o.AtRisk < 0:
		return o, fmt.Errorf("open spool: time at risk of %v is negative", o.AtRisk)
	case o.MaxAge < 0:
		return o, fmt.Errorf("open spool: greatest age of %v is negative", o.MaxAge)
	case o.MaxBytes < leastBytes:
		return o, fmt.Errorf("open spool: bound of %d bytes is less than %d", o.MaxBytes, leastBytes)
	case o.Memory < leastMemory:
		return o, fmt.Errorf("open spool: memory of %d bytes is less than %d", o.Memory, leastMemory)
	}
	return o, nil
}
