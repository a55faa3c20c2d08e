package spool

import (
	"fmt"
	"slices"
)

// toldLoss is what goes when the gaps that tell of it are on disk.
type toldLoss struct {
	records []kept
	files   []*segment
}

// forget lets go of what was lost, now that the gaps that tell of it are on
// disk.
func (s *Spool) forget(told toldLoss) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.lost = slices.Clone(s.lost[len(told.records):])
	if s.halfGone && len(s.lost) == 0 {
		s.halfGone = false
		poke(s.ready)
	}
	s.doomed = slices.Clone(s.doomed[len(told.files):])
	s.garbage = append(s.garbage, told.files...)
	if len(told.files) > 0 {
		s.ackDue()
	}
	for _, g := range told.files {
		if g.class == Events {
			for id := range s.gaps {
				if g.lo <= id && id < g.hi {
					s.unowe(id)
				}
			}
		}
	}
	for _, x := range told.records {
		s.release(x.class, x.id, x.seg)
	}
}

// cramped reports whether files that nothing needs are in the way of need more
// bytes.
func (s *Spool) cramped(need int64) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.garbage) > 0 && s.used()+need > s.bound()
}

// rubbish gives the files that nothing needs any more.
func (s *Spool) rubbish() []*segment {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.garbage)
}

// sweep removes the files that nothing needs any more. That they go is on disk
// before they do, for a file that is missing is damage. After a crash they no
// longer tell how far the sensors had come, so that is noted too.
func (s *Spool) sweep() error {
	batch := s.rubbish()
	if len(batch) == 0 {
		return nil
	}
	if err := s.appendNotes(func(f *frames) {
		for _, g := range batch {
			f.removed(g)
		}
		s.marks(f)
	}, true); err != nil {
		return err
	}
	return s.removeAll(batch)
}

func (s *Spool) removeAll(batch []*segment) error {
	for _, g := range batch {
		var err error
		if g.bad {
			err = s.setAside(g.file())
		} else {
			err = s.disk.Remove(g.file())
		}
		if err != nil {
			return fmt.Errorf("remove segment %q: %w", g.file(), err)
		}
		s.mu.Lock()
		s.garbage = without(s.garbage, g)
		s.mu.Unlock()
	}
	return nil
}
