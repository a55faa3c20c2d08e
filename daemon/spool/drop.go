package spool

import "fieldpost/daemon/durable"

// A segment, or what is in it of some sensors, is given up in one step of the disk:
// the gaps that tell of it and that it goes are one frame of the file of acks. Until that is on disk nothing
// is given out, and where it fails nothing is given up. Else a daemon that is
// killed while its disk fails would find the segment again, and send what it
// had told to be lost, behind what came later.

// drop is a segment that is about to be given up, or part of it.
type drop struct {
	seg    *segment
	part   bool     // the rest of it stays
	ids    []uint64 // of the records in it that are owed
	lost   int      // how many records that loses
	gaps   span     // the ids of the gaps that tell of it
	joined [][]byte // the gaps that those have taken in
}

// giveUp drops a whole segment, and tells what it still owed. An error is the
// disk's: then it is still there. Only the writer calls it.
func (s *Spool) giveUp(g *segment, reason string) error { return s.giveUpOf(g, reason, nil) }

// giveUpOf drops what a segment has of some sensors, or all of it where which is
// nil or where not all of it can be read. Its file stays as it is.
func (s *Spool) giveUpOf(g *segment, reason string, which func(sensor string) bool) error {
	if s.isActive(g) {
		if err := s.roll(g.class); err != nil {
			return err
		}
	}
	data, err := s.disk.Read(g.file(), int(min(g.size, maxFile)))
	if err != nil {
		data = nil
	}
	s.mu.Lock()
	t, d := s.account(g, data, which)
	s.drop = d
	if !d.part {
		s.doomed = append(s.doomed, g)
	}
	d.gaps.lo = s.logs[Events].next
	if d.lost > 0 {
		s.putGaps(t, reason)
	}
	d.gaps.hi = s.logs[Events].next
	if s.hung > 0 {
		s.dropped(false)
	}
	s.mu.Unlock()
	err = s.noteGaps()
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.drop == nil: // the disk hung
	case err != nil:
		s.keepDrop()
	default:
		s.dropped(true)
	}
	return err
}

// account adds up what a segment owes, of which data is what can be read: of some
// sensors, or of all where which is nil or not all can be read. Called with mu held.
func (s *Spool) account(g *segment, data []byte, which func(sensor string) bool) (*tally, *drop) {
	t, l, d := newTally(), s.logs[g.class], &drop{seg: g, part: which != nil}
	var known ids
	at := durable.Scan(data, headerSize)
	for at.Next() {
		if id := g.off + at.Seq; id >= g.lo && id < g.hi && l.owed(id) {
			known.add(id, id+1)
			if h, ok := peek(at.Payload); which != nil && (!ok || !which(string(h.sensor))) {
				continue
			}
			t.giveUp(g.run, at.Payload, l.sender(at.Payload).mayHaveCome(id))
			d.ids = append(d.ids, id)
		}
	}
	d.lost = t.n
	unread := false
	for id := l.done.free(g.lo); id < g.hi; id = l.done.free(id + 1) {
		if known.has(id) {
			continue
		}
		if which != nil {
			return s.account(g, data, nil)
		}
		unread = true
		switch x := s.gaps[id]; {
		case g.class != Events:
		case x != nil:
			t.giveUp(g.run, x.payload, false)
		default: // an answer, a fault or an event
			t.other(g.run, 1, true)
		}
		d.ids = append(d.ids, id)
		d.lost++
	}
	if unread { // so what it held is known only roughly
		g.loseAll(t)
	}
	return t, d
}

// dropped gives the segment up, or the part; noted says that the file of acks has
// it. Called with mu held.
func (s *Spool) dropped(noted bool) {
	d := s.drop
	g := d.seg
	l := s.logs[g.class]
	for _, id := range d.ids {
		switch {
		case !l.owed(id):
		case d.part && !noted:
			s.giveUpOne(g.class, id)
		default:
			l.settle(id)
			g.live--
		}
	}
	if !d.part {
		g.live = 0
		l.segs = without(l.segs, g)
	}
	if d.lost > 0 {
		s.stats.Dropped += uint64(d.lost)
		s.full++
	}
	s.resume()
	s.retire(g)
}

// keepDrop keeps the segment, as the disk would not take that it goes: what
// was to tell of its loss is taken back. Called with mu held.
func (s *Spool) keepDrop() {
	d, l := s.drop, s.logs[Events]
	for id := d.gaps.lo; id < d.gaps.hi; id++ {
		l.settle(id)
		s.unowe(id)
	}
	s.doomed = without(s.doomed, d.seg)
	s.drop = nil
	for _, payload := range d.joined {
		s.again(payload)
	}
	s.retire(d.seg)
	s.resume()
}

// resume has records given out again. Called with mu held.
func (s *Spool) resume() {
	s.drop = nil
	poke(s.ready)
}
