package spool

import "time"

// Backlog is the mail that the broker has not acknowledged.
type Backlog struct {
	Records int           // how many
	AtRisk  int           // how many of them are not on disk for certain: a power cut now would cost them
	Oldest  time.Duration // the age of the oldest; 0 where there is none, or where that is of another boot and was not stamped with a true time
}

// Backlog tells what waits now. Where the oldest is in a file, its age is that
// of the first record in the file. Any goroutine.
func (s *Spool) Backlog() Backlog {
	now := s.o.Clock.Now()
	s.mu.Lock()
	defer s.mu.Unlock()
	var b Backlog
	for _, l := range s.logs {
		b.Records += l.pending
		l.unsynced(func(e *entry) {
			if !e.done {
				b.AtRisk++
			}
		})
		first := l.done.free(0)
		if e, g := l.entry(first), l.segment(first); e != nil {
			b.Oldest = max(b.Oldest, time.Since(e.at))
		} else if g != nil && first < l.next {
			if a, known := age(now, g.oldest); known {
				b.Oldest = max(b.Oldest, a)
			}
		}
	}
	return b
}
