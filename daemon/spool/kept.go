package spool

import (
	"context"
	"slices"
	"time"
)

const (
	// mostKept bounds the entries for which [Spool.AppendKept] waits at a time, so that
	// memory is bounded. It is more than the orders that a broker sends without
	// acknowledgements (mosquitto 20, AWS IoT Core 100).
	mostKept = 256
	// keptWithin bounds the time until an entry of AppendKept is on disk, if AtRisk is
	// longer.
	keptWithin = 8 * time.Second
)

// keeping notifies callers when entries are on disk. The lock of the store guards it.
type keeping struct {
	n       int           // number of entries of AppendKept that are not kept yet
	settled chan struct{} // closed when fewer entries are at risk; nil if nobody is waiting
}

// keep records that a crash cannot cost an entry any longer.
func (k *keeping) keep(e *memEntry) {
	if e.kept != nil {
		close(e.kept)
		e.kept = nil
		k.n--
	}
}

// wake makes the callers of [Spool.Settle] check again.
func (k *keeping) wake() {
	if k.settled != nil {
		close(k.settled)
		k.settled = nil
	}
}

// AppendKept stores an entry like [Spool.Append]. It closes kept when a crash, even a power
// cut, cannot cost the entry any longer: the entry is on disk, which takes at most 8 s, or
// Options.AtRisk if that is less; or it is acknowledged, refused, or dropped and about to be
// reported in a gap. While the disk fails or hangs, kept stays open; after the end of Run it
// may stay open for ever. If the directory is lost later, the entry still counts as kept.
//
// kept is nil if there is an error, or if 256 entries are already being waited for; then the
// entry is stored without notification. Any goroutine.
func (s *Spool) AppendKept(e Entry) (kept <-chan struct{}, err error) {
	s.st.mu.Lock()
	var c chan struct{}
	if s.st.keeping.n < mostKept {
		c = make(chan struct{})
		s.st.keeping.n++
	}
	s.st.mu.Unlock()
	if err := s.appendAll([]Entry{e}, c); err != nil {
		if c != nil {
			s.st.mu.Lock()
			s.st.keeping.n--
			s.st.mu.Unlock()
		}
		return nil, err
	}
	return c, nil
}

// Settle waits until everything that the broker has not acknowledged is on disk, and reports
// whether it is. It does not speed that up. It returns false when ctx ends or while the disk
// cannot be used. Any goroutine.
func (s *Spool) Settle(ctx context.Context) bool {
	st := s.st
	for {
		st.mu.Lock()
		if safe, down := !anyUnsynced(st.logs[:]), st.down || st.hung > 0; safe || down {
			st.mu.Unlock()
			return safe
		}
		if st.keeping.settled == nil {
			st.keeping.settled = make(chan struct{})
		}
		changed := st.keeping.settled
		st.mu.Unlock()
		select {
		case <-ctx.Done():
			return false
		case <-changed:
		}
	}
}

// anyUnsynced reports whether any owed entry of some logs is not durable.
func anyUnsynced(logs []*log) bool { return slices.ContainsFunc(logs, (*log).hasUnsynced) }
