package spool

import (
	"time"

	"fieldpost/daemon/clock"
	"fieldpost/daemon/health"
)

// cached is how many bytes of records that are on disk already stay in memory,
// of each lane, because they are likely to be wanted soon.
const cached = 64 << 10

// bound is the room for segments; the rest of MaxBytes is for what is set
// aside.
func (s *Spool) bound() int64 { return s.o.MaxBytes / 4 * 3 }

func (s *Spool) doomedSize() int64 {
	var n int64
	for _, g := range s.doomed {
		n += g.size
	}
	return n
}

func without(segs []*segment, g *segment) []*segment {
	out := make([]*segment, 0, len(segs))
	for _, x := range segs {
		if x != g {
			out = append(out, x)
		}
	}
	return out
}

// age tells how old a stamp is, where that can be known.
func age(now, then clock.Stamp) (time.Duration, bool) {
	switch {
	case now.Boot == then.Boot:
		return now.Mono - then.Mono, true
	case now.Synced && then.Synced:
		return now.Wall.Sub(then.Wall), true
	}
	return 0, false
}

// dropOld gives up the segments whose last record is older than MaxAge, and
// closes one whose first record is an eighth of that old, so that it does not
// keep young records with old ones. A segment whose age cannot be known,
// because the clock was or is not true, is kept.
func (s *Spool) dropOld() error {
	now := s.o.Clock.Now()
	for i := range s.logs {
		s.mu.Lock()
		segs := append([]*segment(nil), s.logs[i].segs...)
		s.mu.Unlock()
		for _, g := range segs {
			if a, ok := age(now, g.newest); ok && a > s.o.MaxAge {
				if err := s.giveUp(g, reasonOld); err != nil {
					return err
				}
			} else if a, ok := age(now, g.oldest); ok && a > s.o.MaxAge/8 && s.isActive(g) {
				if err := s.roll(Class(i)); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

// calm is how long nothing must have been given up before the spool counts as
// not full again.
const calm = 10 * time.Minute

// young reports whether no segment will soon be too old.
func (s *Spool) young() bool {
	if s.o.MaxAge == 0 {
		return true
	}
	now := s.o.Clock.Now()
	for _, l := range s.logs {
		if len(l.segs) > 0 {
			if a, ok := age(now, l.segs[0].newest); ok && a > s.o.MaxAge/4*3 {
				return false
			}
		}
	}
	return true
}

// tellFull raises and clears the fault of a full spool.
func (s *Spool) tellFull(now time.Time) {
	s.mu.Lock()
	n := s.full
	room := s.used() < s.bound()/4*3 && s.memory() < s.o.Memory/4*3 && s.young()
	s.mu.Unlock()
	switch {
	case n != s.w.toldFull:
		s.w.toldFull, s.w.fullAt = n, now
		s.o.Health.Raise(health.SpoolFull, subject, "the oldest records were dropped")
	case !s.w.fullAt.IsZero() && room && now.Sub(s.w.fullAt) >= calm:
		s.w.fullAt = time.Time{}
		s.o.Health.Clear(health.SpoolFull, subject)
	}
}
