package spool

import (
	"maps"
	"slices"
	"time"

	"fieldpost/daemon/health"
)

// A gap that the broker does not have yet is kept twice: as a record among the
// events, and in the file of acks. So no damage to one file loses it. It is
// noted under its frame's run and seq, and no longer given back when these are
// done.

// owedGap is a gap that the broker does not have yet.
type owedGap struct {
	run     uint64 // its frame's; 0 is this run
	seq     uint64 // its frame's
	payload []byte
	noted   bool // it may be in the file of acks
	damaged bool // it tells of damage found in this run
}

// frameKey names a frame of the events.
type frameKey struct{ run, seq uint64 }

func (s *Spool) key(x *owedGap) frameKey {
	if x.run == 0 {
		return frameKey{s.run, x.seq}
	}
	return frameKey{x.run, x.seq}
}

// owe keeps a gap of this run until its id is done. Called with mu held.
func (s *Spool) owe(id uint64, g Gap, payload []byte) {
	x := &owedGap{seq: id, payload: payload, damaged: g.Reason == reasonDamaged}
	if x.damaged {
		s.untold++
	}
	s.gaps[id] = x
	s.fresh = append(s.fresh, id)
}

// unowe lets go of what was kept of an event that need not be sent any more.
// Called with mu held.
func (s *Spool) unowe(id uint64) {
	x := s.gaps[id]
	if x == nil {
		return
	}
	delete(s.gaps, id)
	if h, ok := peek(x.payload); ok {
		for _, latest := range []map[origin]uint64{s.latest, s.maybe} {
			if o := (origin{string(h.sensor), h.run}); latest[o] == id {
				delete(latest, o)
			}
		}
	}
	if x.damaged {
		s.untold--
		poke(s.wake)
	}
	if x.noted {
		s.gone = append(s.gone, s.key(x))
		s.ackDue()
	}
}

// ackDue has the file of acks written within a second. Called with mu held.
func (s *Spool) ackDue() {
	if s.since.acks.IsZero() {
		s.since.acks = time.Now()
		poke(s.wake)
	}
}

// noteFresh collects the gaps that are not in the file of acks, and together
// with them that what they tell of is given up: so that none of it comes after
// a crash although a gap says that it is missing. Called with mu held.
func (s *Spool) noteFresh(f *frames) {
	f.together(func() {
		for _, id := range s.fresh {
			if x := s.gaps[id]; x != nil {
				f.gap(s.key(x), x.payload)
				x.noted = true
			}
		}
		s.fresh = nil
		s.noteLost(f)
	})
}

// noteLost collects what is given up. Called with mu held.
func (s *Spool) noteLost(f *frames) {
	for _, x := range s.lost {
		f.done(noteKey{x.class, x.seg.run}, span{x.id - x.seg.off, x.id - x.seg.off + 1})
	}
	for i := range s.ghosts {
		for _, x := range s.ghosts[i].spans {
			f.done(noteKey{Class(i), s.run}, x)
		}
	}
	for _, g := range s.doomed {
		f.removed(g)
	}
	if d := s.drop; d != nil && d.part {
		for _, id := range d.ids {
			f.done(noteKey{d.seg.class, d.seg.run}, span{id - d.seg.off, id - d.seg.off + 1})
		}
	}
}

// noteOwed collects all gaps. Called with mu held.
func (s *Spool) noteOwed(f *frames) {
	for _, id := range slices.Sorted(maps.Keys(s.gaps)) {
		x := s.gaps[id]
		f.gap(s.key(x), x.payload)
		x.noted = true
	}
	s.fresh, s.gone = nil, nil
	s.noteLost(f)
}

// noteGaps durably notes the gaps that are not noted yet.
func (s *Spool) noteGaps() error {
	s.mu.Lock()
	n := len(s.fresh)
	s.mu.Unlock()
	if n == 0 {
		return nil
	}
	return s.appendNotes(func(*frames) {}, true)
}

// again puts a gap in once more whose record was lost. Called with mu held.
func (s *Spool) again(payload []byte) {
	if e, g, err := decodeEntry(Events, payload); err == nil {
		s.put(e, g, payload)
		s.syncNow = true
	}
}

// harmless clears the fault of a damaged spool once the files are mended or set
// aside and the broker has every gap that tells what they cost.
func (s *Spool) harmless() {
	s.mu.Lock()
	clear := s.harmed && s.untold == 0 && !s.down && len(s.w.mend) == 0
	if clear {
		s.harmed = false
	}
	s.mu.Unlock()
	if clear {
		s.o.Health.Clear(health.SpoolDamaged, subject)
	}
}

// joined gives the gap that tells of r's loss and of the one before it, where
// one and the same drop went on, so that a long outage leaves few gaps. The
// one before, as latest says, is given up. Called with mu held.
func (s *Spool) joined(o origin, r Gap, latest map[origin]uint64) Gap {
	id, told := latest[o]
	x := s.gaps[id]
	if !told || x == nil || id < s.logs[Events].flow("").cursor || r.Reason != reasonFull && r.Reason != reasonOld {
		return r
	}
	_, before, err := decodeEntry(Events, x.payload)
	if err != nil || before == nil || before.Reason != r.Reason {
		return r
	}
	a, b := before.loss(), r.loss()
	if a.open || b.open || b.lo != a.hi+1 && !(a.uncertain && b.uncertain) {
		return r
	}
	if d := s.drop; d != nil {
		if d.gaps.hi > 0 { // one that may be taken back takes part in nothing
			return r
		}
		d.joined = append(d.joined, x.payload)
	}
	s.giveUpOne(Events, id)
	all := loss{lo: min(a.lo, b.lo), hi: max(a.hi, b.hi), uncertain: a.uncertain || b.uncertain}
	return all.gap(r.Reason)
}
