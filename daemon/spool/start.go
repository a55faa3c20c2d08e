package spool

import (
	"errors"
	"fmt"
	"maps"
	"strings"
	"time"

	"fieldpost/daemon/health"
)

// start opens the directory and finds the run number.
func (s *Spool) start() error {
	diskless := s.recall()
	err := s.attach()
	if locked := (*LockedError)(nil); errors.As(err, &locked) {
		return fmt.Errorf("open spool: %w", err)
	}
	if err == nil {
		s.run = s.w.known + 1
		if diskless < epoch<<20 { // one that was counted, and then lost its disk
			s.run = max(s.w.known, diskless) + 1
		}
		if !s.w.counted {
			s.run = strayRun(s.o.Clock.Now(), max(s.w.known, diskless))
		}
		s.name()
		err = s.repair()
	}
	if err != nil {
		s.run = strayRun(s.o.Clock.Now(), max(s.w.known, diskless))
		s.name()
		s.fail(time.Now(), err)
	}
	s.noteBeside()
	return nil
}

// attach takes the directory and what is in it.
func (s *Spool) attach() error {
	if s.w.lock == nil {
		lock, err := s.disk.Lock()
		if err != nil {
			return err
		}
		s.w.lock = lock
	}
	f, err := load(s.disk, own{s.run, s.source, s.wanted, room(s.w.loads)})
	if err != nil {
		return err
	}
	if f.taken {
		return fmt.Errorf("directory %q holds mail of another run %d; it goes out after a restart", s.o.Dir, s.run)
	}
	if f.some() && s.w.loads < rooms-1 {
		s.w.loads++
	}
	s.w.attached = true
	s.held.Store(true)
	s.w.known, s.w.counted = f.known, f.counted
	if len(f.damaged) > 0 {
		s.o.Log.Warn("spool was damaged", "dir", s.o.Dir, "files", f.damaged)
		s.o.Health.Raise(health.SpoolDamaged, subject, strings.Join(f.damaged, "; "))
	}
	if s.w.unsure {
		f.allGiven()
	}
	s.adopt(f)
	s.install(f)
	return nil
}

// some reports whether anything was found that is owed.
func (f *found) some() bool {
	for _, segs := range f.segs {
		if len(segs) > 0 {
			return true
		}
	}
	return false
}

// allGiven takes all for given out that was found.
func (f *found) allGiven() {
	for i := range f.segs {
		for _, g := range f.segs[i] {
			for _, sensor := range g.sensors() {
				f.gave(Class(i), sensor, g.hi)
			}
		}
	}
}

// install puts what an earlier run left ahead of what there is.
func (s *Spool) install(f *found) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i, l := range s.logs {
		l.ahead(f.room, f.segs[i], f.done[i], f.given[i], f.pending[i])
		s.w.number[i] = max(s.w.number[i], f.number[i])
	}
	s.queueAll()
	maps.Copy(s.gaps, f.gaps)
	s.garbage = append(s.garbage, f.empty...)
	for _, g := range f.bad {
		if g.live == 0 {
			s.doomed = append(s.doomed, g)
		}
	}
	s.w.mend, s.w.torn = f.bad, f.torn
	s.stats.Damaged += uint64(len(f.damaged))
	s.harmed = s.harmed || len(f.damaged) > 0
	for _, t := range f.holes {
		s.putGaps(t, reasonDamaged)
	}
	s.putGaps(f.crash, reasonCrash)
	for _, payload := range f.missing {
		s.again(payload)
	}
	poke(s.ready)
}
