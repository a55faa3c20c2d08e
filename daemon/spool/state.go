package spool

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"

	"fieldpost/daemon/clock"
	"fieldpost/daemon/durable"
)

// The file "run" says which run was the latest and whether it still runs or has
// stopped in good order. For one that runs it names the sensors and the lanes
// they have had records in, as the file of acks does too, so that a crash can
// be told of each whatever becomes of one of the two. A checksum ends it.
//
//	fieldpost spool 1 run 7 running
//	sensor "air" samples
//	sensor "door" samples edges
//	sensor "soil"
//	sum 1c291ca3
//
// Beside the spool, where such a file stands for a run that has no disk, a line
// before the first sensor says who that run is: took "k7m2qx" "greenhouse".
const stateName = "run"

// maxState bounds what is read of it.
const maxState = 1 << 20

// state is what the file says.
type state struct {
	run     uint64
	stopped bool                     // in good order, with everything written
	sensors map[string][classes]bool // of a run that has not stopped
	took    Source                   // of one that has no disk
}

var errState = errors.New("run file is damaged")

func (s state) encode() []byte {
	word := "running"
	if s.stopped {
		word = "stopped"
	}
	b := fmt.Appendf(nil, "fieldpost spool 1 run %d %s\n", s.run, word)
	if s.took != (Source{}) {
		b = fmt.Appendf(b, "took %q %q\n", s.took.Spool, s.took.Thing)
	}
	for _, sensor := range slices.Sorted(maps.Keys(s.sensors)) {
		b = fmt.Appendf(b, "sensor %q", sensor)
		for i, has := range s.sensors[sensor] {
			if has {
				b = append(append(b, ' '), classNames[i]...)
			}
		}
		b = append(b, '\n')
	}
	return fmt.Appendf(b, "sum %08x\n", durable.Checksum(b))
}

func decodeState(b []byte) (state, error) {
	lines := strings.Split(string(b), "\n")
	var s state
	var word string
	if _, err := fmt.Sscanf(lines[0], "fieldpost spool 1 run %d %s", &s.run, &word); err != nil || len(lines) < 3 {
		return state{}, errState
	}
	s.stopped, s.sensors = word == "stopped", map[string][classes]bool{}
	for _, line := range lines[1 : len(lines)-2] {
		if n, _ := fmt.Sscanf(line, "took %q %q", &s.took.Spool, &s.took.Thing); n == 2 {
			continue
		}
		var sensor string
		if _, err := fmt.Sscanf(line, "sensor %q", &sensor); err != nil {
			return state{}, errState
		}
		s.sensors[sensor] = classesOf(line)
	}
	if string(s.encode()) != string(b) { // the checksum among all else
		return state{}, errState
	}
	return s, nil
}

// classesOf gives the lanes that a line ends with, in their order.
func classesOf(line string) (in [classes]bool) {
	for i := classes - 1; i >= 0; i-- {
		line, in[i] = strings.CutSuffix(line, " "+classNames[i])
	}
	return in
}

// readState reads the file; a spool that never ran has the zero state, and
// has stopped in good order.
func readState(d disk) (state, error) {
	b, err := d.Read(stateName, maxState)
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
// the wall clock's seconds since 1970, not before 2026, times 2^20, or what is
// known where that is more because the clock was ahead once; and random bits, so
// that of two starts that know the same each gets a number of its own, but for
// once in a million times. It stays below 2^53, the greatest integer that every
// JSON reader keeps (RFC 8259, section 6).
func strayRun(now clock.Stamp, known uint64) uint64 {
	secs := uint64(max(now.Wall.Unix(), epoch)) & (1<<32 - 1)
	return max(secs<<20, known+1) + rand.Uint64N(1<<20)
}
