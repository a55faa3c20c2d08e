package spool

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"slices"
	"strings"

	"fieldpost/daemon/durable"
)

// A run that has no disk leaves no trace on it. So it is noted in another
// directory, which the end of the process leaves alone: where the run is killed,
// the next one tells of it. Each run has a file of its own there, which says what
// the file "run" of the spool would. It goes when the run has a disk, or when the
// gaps that tell of its crash are on disk or with the broker.

const besidePrefix = "spool-run-"

func besideName(run uint64) string { return fmt.Sprint(besidePrefix, run) }

// recall tells of the runs that ended without ever having had a disk, and gives
// the greatest number among them. A file that says nothing is removed.
func (s *Spool) recall() (greatest uint64) {
	if s.beside == nil {
		return 0
	}
	names, err := s.beside.List()
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		s.o.Log.Warn("runs that had no disk cannot be found", "err", err)
	}
	t := newTally()
	for _, name := range names {
		if !strings.HasPrefix(name, besidePrefix) {
			continue
		}
		b, err := s.beside.Read(name, maxState)
		if err != nil {
			continue
		}
		st, err := decodeState(b)
		if err != nil || name != besideName(st.run) {
			_ = s.beside.Remove(name) // it was cut short while it was written
			continue
		}
		greatest = max(greatest, st.run)
		s.w.diskless = append(s.w.diskless, st.run)
		if st.took != (Source{}) {
			s.sources = append(s.sources, tenure{st.run, st.run, st.took})
		}
		for _, sensor := range slices.Sorted(maps.Keys(st.sensors)) {
			t.lose(origin{sensor, st.run}, loss{lo: 1, open: true, uncertain: true})
		}
	}
	s.w.unsure = len(s.w.diskless) > 0
	s.mu.Lock()
	defer s.mu.Unlock()
	s.putGaps(t, reasonCrash)
	return greatest
}

// noteBeside notes this run where it has no disk yet, and removes what is noted
// and of no use any more. Only the writer calls it.
func (s *Spool) noteBeside() {
	switch {
	case s.beside == nil:
		return
	case s.w.recorded == s.w.noted: // it has a disk, and a note; or neither
		s.setNoted(!s.w.recorded)
	}
	if len(s.w.diskless) > 0 {
		s.forgetDiskless()
	}
}

func (s *Spool) setNoted(noted bool) {
	name := besideName(s.run)
	if !noted {
		s.w.noted = s.beside.Remove(name) != nil
		return
	}
	st := state{run: s.run, sensors: map[string][classes]bool{}, took: s.source}
	s.mu.Lock()
	for sensor, x := range s.seen {
		st.sensors[sensor] = x.in
	}
	s.mu.Unlock()
	s.w.noted = durable.Replace(s.beside, name, st.encode()) == nil
}

// forgetDiskless removes the notes of runs of whose crash the disk or the
// broker has been told.
func (s *Spool) forgetDiskless() {
	s.mu.Lock()
	untold := map[uint64]bool{}
	for _, x := range s.gaps {
		if h, ok := peek(x.payload); ok && (s.down || !x.noted) {
			untold[h.run] = true
		}
	}
	s.mu.Unlock()
	s.w.diskless = slices.DeleteFunc(s.w.diskless, func(run uint64) bool {
		return !untold[run] && s.beside.Remove(besideName(run)) == nil
	})
}

// endBeside removes the note of a run that ends well although it never had a
// disk, as it owes nothing. What it gave out of earlier runs' files is there again
// the next time, which is to know of it.
func (s *Spool) endBeside() {
	if s.beside == nil || !s.w.noted {
		return
	}
	st := s.Stats()
	if st.Pending() == 0 && len(s.rubbish()) == 0 {
		s.setNoted(false)
	}
}
