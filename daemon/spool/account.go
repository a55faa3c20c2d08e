package spool

import (
	"time"

	"fieldpost/daemon/durable"
)

// noteAcks appends to the file of acks what was acknowledged since the last
// time.
func (s *Spool) noteAcks() error {
	if s.w.notes.grown() {
		return s.rewriteNotes()
	}
	return s.appendNotes(func(f *frames) {
		for i, l := range s.logs {
			for _, g := range l.segs {
				for _, x := range s.acked[i].within(g.lo, g.hi) {
					f.done(noteKey{Class(i), g.run}, span{x.lo - g.off, x.hi - g.off})
				}
			}
			s.acked[i] = ids{}
		}
		for _, k := range s.gone {
			f.done(noteKey{Events, k.run}, span{k.seq, k.seq + 1})
		}
		s.gone = nil
		s.since.acks = time.Time{}
	}, false)
}

// noteMarks appends how far the sensors of this run are safe.
func (s *Spool) noteMarks(sync bool) error { return s.appendNotes(s.marks, sync) }

// appendNotes appends the gaps that are not noted yet, and what fill collects.
// Where the file is not open all of it is written anew.
func (s *Spool) appendNotes(fill func(*frames), sync bool) error {
	if s.w.notes.file == nil {
		return s.rewriteNotes()
	}
	err := s.w.notes.append(func(f *frames) {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.noteFresh(f)
		fill(f)
	}, sync)
	s.mu.Lock()
	s.noted = s.w.notes.size
	s.mu.Unlock()
	return err
}

// rewriteNotes durably puts all that is worth knowing into the file of acks.
func (s *Spool) rewriteNotes() error {
	err := s.w.notes.rewrite(func(f *frames) {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.noteOwed(f)
		for _, t := range s.sources.only(s.mentioned()) {
			f.took(t)
		}
		for _, g := range s.garbage {
			f.removed(g)
		}
		for _, l := range s.logs {
			for _, g := range l.segs {
				f.file(g)
			}
		}
		s.noteGiven(f)
		s.oldMarks(f)
		s.marks(f)
		s.noteDone(f, doneRoom)
	})
	s.mu.Lock()
	s.noted = s.w.notes.size
	s.mu.Unlock()
	return err
}

// noteDone collects what is done of the segments that are still here, until all
// together takes up the room. What does not fit comes again. Called with mu held.
func (s *Spool) noteDone(f *frames, room int) {
	for i, l := range s.logs {
		keep := s.keeping(Class(i))
		for _, g := range l.segs {
			if len(f.b) > room {
				break
			}
			for _, x := range l.done.without(g.lo, g.hi, &keep) {
				f.done(noteKey{Class(i), g.run}, span{x.lo - g.off, x.hi - g.off})
			}
		}
		s.acked[i] = ids{}
	}
	s.since.acks = time.Time{}
}

// noteGiven collects how far the records of each flow and run have been given out
// of which some are still here. Next gives them in order, so that one number tells
// it; and when they are written down for good it gives no more.
func (s *Spool) noteGiven(f *frames) {
	for i, l := range s.logs {
		far := map[origin]uint64{}
		for _, g := range l.segs {
			l.flowsOf(g, func(x *flow) {
				o, seq := origin{x.sensor, g.run}, uint64(0)
				if until := min(g.hi, x.givenOf(g.lo)); until > g.lo {
					seq = until - g.off
				}
				far[o] = max(far[o], seq)
			})
		}
		for _, o := range sorted(far) {
			f.handed(noteKey{Class(i), o.run}, o.sensor, far[o])
		}
	}
}

// oldMarks collects what sensors earlier runs had of whose records some are
// still here, so that damage can be told of that leaves none of a sensor's.
func (s *Spool) oldMarks(f *frames) {
	for i, l := range s.logs {
		far := map[origin]uint64{}
		for _, g := range l.segs {
			for _, x := range g.sums {
				if x.run != s.run && x.hi > 0 {
					o := origin{x.sensor, x.run}
					far[o] = max(far[o], x.hi)
				}
			}
		}
		for _, o := range sorted(far) {
			f.mark(noteKey{Class(i), o.run}, o.sensor, far[o])
		}
	}
}

// marks collects how far each sensor is safe: everything up to there is
// acknowledged, durable, or told of in a durable gap. It collects too how far
// the files are durable, so that damage to their end can be told from an end
// that was never written.
func (s *Spool) marks(f *frames) {
	s.since.sight, s.noticed = time.Time{}, s.sights
	unsafe := map[string]uint64{}
	for _, l := range s.logs {
		if n := len(l.segs); n > 0 && l.segs[n-1].run == s.run {
			f.file(l.segs[n-1])
		}
		l.unsynced(func(e *entry) {
			if e.done || e.run != s.run || e.seq == 0 {
				return
			}
			if lo, known := unsafe[e.sensor]; !known || e.seq < lo {
				unsafe[e.sensor] = e.seq
			}
		})
	}
	for sensor, x := range s.seen {
		safe := x.last
		if lo, known := unsafe[sensor]; known {
			safe = lo - 1
		}
		for i, has := range x.in {
			if has {
				f.mark(noteKey{Class(i), s.run}, sensor, safe)
			}
		}
		if x.in == [classes]bool{} {
			f.sensor(s.run, sensor)
		}
	}
}

func (s *Spool) sightCount() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.sights
}

// noteSights durably notes which lanes sensors have had records in, where that
// has changed. It comes before the first of these records is written, so that
// one that is on disk says nothing of others in the other lane.
func (s *Spool) noteSights() error {
	if s.sightCount() == s.w.sights {
		return nil
	}
	if err := s.noteMarks(true); err != nil || !s.w.recorded {
		return err
	}
	return s.record()
}

// record durably writes the run file of a run that runs.
func (s *Spool) record() error {
	st := state{run: s.run, sensors: map[string][classes]bool{}}
	s.mu.Lock()
	n := s.noticed // one that came since is noted the next time
	for sensor, x := range s.seen {
		st.sensors[sensor] = x.in
	}
	s.mu.Unlock()
	if err := durable.Replace(s.disk, stateName, st.encode()); err != nil {
		return err
	}
	s.w.recorded, s.w.sights = true, n
	return nil
}
