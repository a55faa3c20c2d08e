package spool

import (
	"errors"
	"time"

	"fieldpost/daemon/health"
)

// page is the one segment of a lane that is held in memory to be read back.
type page struct {
	seg  *segment
	data []byte
	at   scanner
}

// errMissing is the reason when a segment does not hold what it should.
var errMissing = errors.New("record is missing")

// payload finds the record of an id in the first size bytes of g's file. What
// it gives is shared with the page.
func (p *page) payload(d disk, g *segment, size int64, id uint64) ([]byte, error) {
	seq := id - g.off
	if p.seg == g {
		if b, ok := p.seek(seq); ok {
			return b, nil
		}
	}
	if p.seg != g || int64(len(p.data)) < size {
		data, err := d.read(g.file(), int(min(size, maxFile)))
		if err != nil {
			return nil, err
		}
		p.seg, p.data = g, data
		p.at = scanner{data: data, pos: min(headerSize, len(data))}
	}
	if b, ok := p.seek(seq); ok {
		return b, nil
	}
	return nil, errMissing
}

// seek looks for a frame, from where the last one was or else from the start.
func (p *page) seek(seq uint64) ([]byte, bool) {
	if p.at.any && p.at.seq >= seq {
		if p.at.seq == seq && p.at.payload != nil {
			return p.at.payload, true
		}
		p.at = scanner{data: p.data, pos: min(headerSize, len(p.data))}
	}
	for p.at.next() {
		if p.at.seq >= seq {
			return p.at.payload, p.at.seq == seq
		}
	}
	return nil, false
}

// drop lets go of the memory.
func (p *page) drop() { *p = page{} }

// Next gives the next unsent record, events before samples. One goroutine at a
// time; it may wait for the disk where a backlog is read back.
func (s *Spool) Next() (Item, bool) {
	s.reading.Lock()
	defer s.reading.Unlock()
	for i := range s.lanes {
		for {
			item, more, ok := s.nextOf(i)
			if ok {
				return item, true
			}
			if !more {
				break
			}
		}
	}
	return Item{}, false
}

// nextOf gives the next record of a lane; more asks to be called again.
func (s *Spool) nextOf(i int) (item Item, more, ok bool) {
	s.mu.Lock()
	id, payload, g := s.look(i)
	var size int64
	if g != nil {
		size = g.size
	}
	s.mu.Unlock()
	if id == 0 {
		return Item{}, false, false
	}
	if payload == nil {
		var err error
		if payload, err = s.pages[i].payload(s.disk, g, size, id); err != nil {
			return Item{}, s.unreadable(i, id, g, err), false
		}
	} else if s.pages[i].seg != nil {
		s.pages[i].drop()
	}
	r, err := decodeRecord(payload)
	if err != nil {
		return Item{}, s.unreadable(i, id, g, err), false
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	l := s.lanes[i]
	if !l.owed(id) || l.cursor > id { // acknowledged, dropped or rewound meanwhile
		return Item{}, true, false
	}
	if g != nil {
		g.tries = 0
	}
	l.cursor = id + 1
	return Item{ID: id*lanes + uint64(i), Record: r}, false, true
}

// look finds the id to be given next: its payload where it is in memory, or
// else its segment. The id is 0 when there is none now.
func (s *Spool) look(i int) (id uint64, payload []byte, g *segment) {
	l := s.lanes[i]
	for {
		id = l.done.free(l.cursor)
		if id >= l.next {
			return 0, nil, nil
		}
		if e := l.entry(id); e != nil {
			if s.o.AtRisk == 0 && !e.synced && !s.down {
				return 0, nil, nil
			}
			return id, e.payload, nil
		}
		if g = l.segment(id); g != nil {
			if !s.since.reread.IsZero() && g.tries > 0 {
				return 0, nil, nil
			}
			return id, nil, g
		}
		l.settle(id) // cannot be: what is owed is in memory or in a segment
	}
}

// rereads is how often reading a segment is tried before it is given up.
const rereads = 3

// unreadable deals with a record that could not be read back, and reports
// whether there is anything to read now.
func (s *Spool) unreadable(i int, id uint64, g *segment, err error) (more bool) {
	s.pages[i].drop()
	s.mu.Lock()
	if g == nil || !s.lanes[i].owed(id) || s.lanes[i].segment(id) != g {
		s.mu.Unlock()
		return g != nil
	}
	if g.tries++; g.tries < rereads && !errors.Is(err, errMissing) && !errors.Is(err, errPayload) {
		s.since.reread = time.Now()
		poke(s.wake)
		s.mu.Unlock()
		return false
	}
	size := g.size
	s.mu.Unlock()
	s.lose(g, size)
	s.o.Health.Raise(health.SpoolDamaged, subject, g.file()+": "+err.Error())
	return true
}

// lose gives up what a segment owes and can no longer be read from it.
func (s *Spool) lose(g *segment, size int64) {
	readable := s.readable(g, size)
	s.mu.Lock()
	defer s.mu.Unlock()
	l, lost := s.lanes[g.lane], 0
	for id := l.done.free(g.lo); id < g.hi; id = l.done.free(id + 1) {
		if !readable.has(id) && l.entry(id) == nil {
			if x := s.gaps[id]; g.lane == events && x != nil {
				s.again(x.payload)
			}
			s.giveUpOne(g.lane, id)
			lost++
		}
	}
	if lost == 0 {
		return
	}
	if !g.bad {
		g.bad = true
		s.stats.Damaged++
	}
	t := newTally()
	for _, x := range g.sums {
		t.lose(origin{x.sensor, x.run}, loss{lo: x.lo, hi: x.hi, uncertain: true})
	}
	s.stats.Dropped += uint64(lost)
	s.putGaps(t, reasonDamaged)
}

// readable gives the ids of the records that can be read from a segment.
func (s *Spool) readable(g *segment, size int64) ids {
	var out ids
	data, err := s.disk.read(g.file(), int(min(size, maxFile)))
	if err != nil {
		return out
	}
	at := scanner{data: data, pos: min(headerSize, len(data))}
	for at.next() {
		if _, err := decodeRecord(at.payload); err == nil {
			out.add(g.off+at.seq, g.off+at.seq+1)
		}
	}
	return out
}

// subject is what the spool's faults are about.
const subject = "spool"
