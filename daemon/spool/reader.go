package spool

import (
	"context"
	"errors"
	"io/fs"
	"sync"
	"time"

	"fieldpost/daemon/health"
)

// readBack reads what Next and Refuse want from files, until ctx ends.
func (s *Spool) readBack(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-s.read:
			s.watched(func() {
				for ctx.Err() == nil && s.readSome() {
				}
			})
		}
	}
}

// readSome does one thing that the reader has to do, and reports whether there
// was one.
func (s *Spool) readSome() bool {
	s.mu.Lock()
	if len(s.unread) > 0 {
		x := s.unread[0]
		s.unread = s.unread[1:]
		s.mu.Unlock()
		s.refuseUnread(x)
		return true
	}
	for i := range s.lanes {
		j := s.job(i)
		if j.load == nil && j.bad == nil {
			if s.pages[i].asked { // for what is done with by now
				s.pages[i].asked = false
				poke(s.ready)
			}
			continue
		}
		s.mu.Unlock()
		s.do(i, j)
		return true
	}
	s.mu.Unlock()
	return false
}

// job is what the reader does next for a lane.
type job struct {
	id    uint64   // what Next wants
	g     *segment // where that is
	bad   error    // it cannot be had
	load  *segment // or else what is to be loaded: g, or what follows it
	size  int64    // of load
	other *segment // what is to stay loaded
}

// job says what is to be done. Called with mu held.
func (s *Spool) job(i int) job {
	p, l := &s.pages[i], s.lanes[i]
	if !p.asked {
		return job{}
	}
	id, _, g := s.look(i)
	if g == nil {
		return job{}
	}
	after := l.after(g)
	x := p.of(g)
	switch {
	case x != nil && x.bad != nil:
		return job{id: id, g: g, bad: x.bad}
	case x == nil || x.size < g.size && !x.has(id-g.off):
		return job{id: id, g: g, load: g, size: g.size, other: after}
	case after != nil && p.of(after) == nil:
		return job{id: id, g: g, load: after, size: after.size, other: g}
	}
	return job{}
}

func (p *page) has(seq uint64) bool {
	_, ok := p.seek(seq)
	return ok
}

// after gives the segment behind g, where it holds something that is not in
// memory.
func (l *lane) after(g *segment) *segment {
	for k, x := range l.segs {
		if x == g && k+1 < len(l.segs) {
			if next := l.segs[k+1]; next.live > 0 && (len(l.mem) == 0 || next.lo < l.mem[0].id) {
				return next
			}
		}
	}
	return nil
}

func (s *Spool) do(i int, j job) {
	if j.bad != nil {
		s.unreadable(i, j.id, j.g, j.bad)
		return
	}
	data, err := s.disk.read(j.load.file(), int(min(j.size, maxFile)))
	if err != nil && j.load == j.g {
		s.unreadable(i, j.id, j.g, err)
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if err == nil {
		s.pages[i].keep(newPage(j.load, j.size, data), j.other)
	} else {
		s.pages[i].asked = false // until Next asks again
	}
	poke(s.ready) // what was read ahead may be wanted by now
}

// rereads is how often reading a segment is tried before it is given up.
const rereads = 3

// unreadable deals with a record that could not be read back: the segment is
// read again a second later, or what cannot be had of it given up.
func (s *Spool) unreadable(i int, id uint64, g *segment, err error) {
	if errors.Is(err, fs.ErrNotExist) {
		s.Verify() // it may be the directory that is gone
	}
	defer poke(s.ready) // whatever comes of it, another lane's turn if nothing else
	s.mu.Lock()
	s.pages[i] = pages{}
	if !s.lanes[i].owed(id) || s.lanes[i].segment(id) != g {
		s.mu.Unlock()
		return
	}
	if g.tries++; g.tries < rereads && !errors.Is(err, errMissing) && !errors.Is(err, errPayload) {
		s.since.reread = time.Now()
		poke(s.wake)
		s.mu.Unlock()
		return
	}
	size := g.size
	s.mu.Unlock()
	s.o.Health.Raise(health.SpoolDamaged, subject, g.file()+": "+err.Error())
	s.lose(g, size)
}

// lose gives up what a segment owes and can no longer be read from it.
func (s *Spool) lose(g *segment, size int64) {
	readable := s.readable(g, size)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.harmed = true
	poke(s.wake)
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

// patience is how long the disk may take for what is asked of it at one time.
const patience = 10 * time.Second

// watched does something with the disk, and tells of one that hangs while it
// does.
func (s *Spool) watched(f func()) {
	var mu sync.Mutex // held while a fault is told, so that the latest is the true one
	over, told := false, false
	timer := time.AfterFunc(patience, func() {
		mu.Lock()
		defer mu.Unlock()
		if !over {
			told = true
			s.hang(1)
			s.o.Health.Raise(health.SpoolUnavailable, subject, "the disk has not answered for "+patience.String())
		}
	})
	f()
	timer.Stop()
	mu.Lock()
	defer mu.Unlock()
	over = true
	if told && s.hang(-1) {
		s.o.Health.Clear(health.SpoolUnavailable, subject)
	}
}

// hang takes note that one thing more, or fewer, waits for a disk that hangs,
// and reports whether all is well then.
func (s *Spool) hang(n int) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.hung += n
	if n > 0 && s.drop != nil { // nobody waits for it any longer
		s.dropped()
	}
	poke(s.ready)
	return s.hung == 0 && !s.down
}
