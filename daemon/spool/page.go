package spool

import (
	"cmp"
	"errors"
)

// page is a segment in memory, to be read back from.
type page struct {
	seg  *segment
	size int64 // of the segment when it was read
	data []byte
	at   scanner
	bad  error // why what is wanted of it cannot be had
}

// errMissing is the reason when a segment does not hold what it should.
var errMissing = errors.New("record is missing")

func newPage(g *segment, size int64, data []byte) page {
	return page{seg: g, size: size, data: data, at: scanner{data: data, pos: min(headerSize, len(data))}}
}

// seek looks for a frame, from where the last one was or else from the start.
// What it gives is shared with the page.
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

// pages are what a lane has in memory of its files: the segment that is read
// from, and the next one, so that a backlog goes out without a break.
type pages struct {
	slots [2]page
	from  int  // the slot that was read from last
	asked bool // something else should be in them
}

// of gives the page of a segment, or nil.
func (p *pages) of(g *segment) *page {
	for k := range p.slots {
		if p.slots[k].seg == g {
			return &p.slots[k]
		}
	}
	return nil
}

// payload finds the record of an id. Where it is not there, asked says that
// the reader has something to do.
func (p *pages) payload(g *segment, id uint64) ([]byte, bool) {
	for k := range p.slots {
		x := &p.slots[k]
		if x.seg != g {
			continue
		}
		if b, ok := x.seek(id - g.off); ok {
			p.asked = p.asked || p.from != k // the other one is done with
			p.from = k
			return b, true
		}
		if x.size >= g.size {
			x.bad = errMissing
		}
	}
	p.asked = true
	return nil, false
}

// keep puts a page in, in the place of its older self or of that which is not
// the other one that is needed.
func (p *pages) keep(x page, other *segment) {
	k := 0
	if p.slots[0].seg != x.seg && (p.slots[1].seg == x.seg || p.slots[0].seg == other && other != nil) {
		k = 1
	}
	p.slots[k] = x
}

// Next gives the next unsent record, events before samples. It never waits for
// the disk: while a backlog is read back there is nothing for the moment, and
// Ready tells when there is. It gives nothing from files unless Run runs.
// Samples pass events that are on a disk that hangs. When Run is to end it gives
// nothing more. Any goroutine.
func (s *Spool) Next() (Item, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i := range s.lanes {
		if s.drop != nil || s.ended {
			break
		}
		item, ok, later := s.nextOf(i)
		if ok {
			return item, true
		}
		if later && s.hung == 0 {
			return Item{}, false
		}
	}
	return Item{}, false
}

// nextOf gives the next record of a lane; later says that it has to be read
// first.
func (s *Spool) nextOf(i int) (item Item, ok, later bool) {
	id, payload, g := s.look(i)
	if id == 0 {
		return Item{}, false, false
	}
	if g == nil {
		s.pages[i] = pages{}
	} else if payload, ok = s.pages[i].payload(g, id); s.pages[i].asked {
		poke(s.read)
	}
	if g != nil && !ok {
		return Item{}, false, true
	}
	r, err := decodeRecord(payload)
	if err != nil { // of what is in memory all can be read
		if p := s.pages[i].of(g); p != nil {
			p.bad = err
		}
		s.pages[i].asked = true
		poke(s.read)
		return Item{}, false, true
	}
	took := s.run
	if g != nil {
		g.tries, took = 0, g.run
	}
	r.Source = s.sourceOf(cmp.Or(r.Run, took))
	s.lanes[i].give(id)
	return Item{ID: id*lanes + uint64(i), Record: r}, true, false
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
			if s.o.AtRisk == 0 && !e.synced && !s.down && s.hung == 0 {
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
