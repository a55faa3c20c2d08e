package spool

import (
	"errors"
	"fmt"
	"hash/crc32"
	"io/fs"
	"math/rand/v2"

	"fieldpost/daemon/clock"
)

// The file "run" holds one line: the number of the latest run, whether it
// still runs or has stopped in good order, and a checksum.
//
//	fieldpost spool 1 run 7 stopped 1c291ca3
const stateName = "run"

// state is what the file says.
type state struct {
	run     uint64
	stopped bool // in good order, with everything written
}

var errState = errors.New("run file is damaged")

func (s state) encode() []byte {
	word := "running"
	if s.stopped {
		word = "stopped"
	}
	line := fmt.Sprintf("fieldpost spool 1 run %d %s", s.run, word)
	return fmt.Appendf(nil, "%s %08x\n", line, crc32.Checksum([]byte(line), castagnoli))
}

func decodeState(b []byte) (state, error) {
	var s state
	var word string
	var sum uint32
	if _, err := fmt.Sscanf(string(b), "fieldpost spool 1 run %d %s %x\n", &s.run, &word, &sum); err != nil {
		return state{}, errState
	}
	s.stopped = word == "stopped"
	if string(s.encode()) != string(b) {
		return state{}, errState
	}
	return s, nil
}

// readState reads the file; a spool that never ran has the zero state, and
// has stopped in good order.
func readState(d disk) (state, error) {
	b, err := d.read(stateName, 256)
	if errors.Is(err, fs.ErrNotExist) {
		return state{stopped: true}, nil
	}
	if err != nil {
		return state{}, fmt.Errorf("read run number: %w", err)
	}
	return decodeState(b)
}

// epoch is the start of 2026, the earliest that a run can be said to begin.
const epoch = 1767225600

// strayRun gives a run number where none can be counted, greater than known:
// the wall clock's seconds since 1970, not before 2026, times 2^20 and 20 random bits. Two such
// numbers are the same only if two starts fall into the same second of a clock
// that was set back, and then once in a million times. It stays below 2^53,
// the greatest integer that every JSON reader keeps (RFC 8259, section 6).
func strayRun(now clock.Stamp, known uint64) uint64 {
	secs := uint64(max(now.Wall.Unix(), epoch)) & (1<<32 - 1)
	return max(secs<<20|rand.Uint64N(1<<20), known+1)
}
