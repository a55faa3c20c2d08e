package spool

import (
	"context"
	"errors"
	"io/fs"
	"slices"
	"sync"
	"time"

	"fieldpost/daemon/durable"
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
	g, ended := s.nextRead()
	s.mu.Unlock()
	if g != nil {
		s.readFor(g)
	}
	return g != nil || ended
}

// stashAll bounds what is read back and not given.
const stashAll = 4 * segmentSize

// stashRoom is how much of it is for each flow that is read back.
func (s *Spool) stashRoom() int64 {
	n := int64(0)
	for _, f := range s.turns.active {
		if f.onDisk || len(f.stash) > 0 {
			n++
		}
	}
	if e := s.logs[Events].flow(""); e.onDisk || len(e.stash) > 0 {
		n++
	}
	return stashAll / max(n, 1)
}

// nextRead gives the segment that is to be read back: for a flow that has nothing
// ready, or else one that runs short, and of these the one whose turn it is. One
// whose segment is to be read again later is passed over. That there is no more
// of a flow on disk is noted; ended says that there was one. Called with mu held.
func (s *Spool) nextRead() (seg *segment, ended bool) {
	var best *flow
	room := s.stashRoom()
	look := func(f *flow) {
		if !f.onDisk || f.held > room/2 && f.held > 0 {
			return
		}
		l := s.logs[f.class]
		g := l.nextOf(f)
		switch {
		case g == nil:
			f.onDisk, ended = false, true
			poke(s.ready)
		case g.tries > 0 && !s.since.reread.IsZero():
		case best == nil, f.held == 0 && best.held > 0, (f.held == 0) == (best.held == 0) && f.before(best):
			best, seg = f, g
		}
	}
	look(s.logs[Events].flow(""))
	if best != nil && best.held == 0 {
		return seg, ended
	}
	for _, f := range s.turns.active {
		look(f)
	}
	return seg, ended
}

// readFor reads a segment back.
func (s *Spool) readFor(g *segment) {
	s.mu.Lock()
	i, size, until, corrupt := g.class, g.size, g.hi, len(g.corrupt.spans) > 0
	s.mu.Unlock()
	data, err := s.disk.Read(g.file(), int(min(size, maxFile)))
	switch {
	case err == nil && corrupt:
		err = errForm
	case err == nil:
		err = s.takeIn(i, g, data, until)
	}
	if err != nil {
		s.unreadable(i, g, err)
		return
	}
	poke(s.ready)
}

// takeIn shares what was read of a segment out to the flows whose turn it is to
// be read from there. An error says that something owed is not in it; the ids
// before until should be.
func (s *Spool) takeIn(i Class, g *segment, data []byte, until uint64) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	l := s.logs[i]
	until = min(until, l.memoryFrom())
	var takers []*taker
	by := map[*flow]*taker{}
	l.flowsOf(g, func(f *flow) {
		if by[f] == nil && f.onDisk && l.nextOf(f) == g {
			by[f] = &taker{flow: f, room: s.stashRoom() - f.held}
			takers = append(takers, by[f])
		}
	})
	expected := l.done.free(g.lo)
	at := durable.Scan(data, headerSize)
	for at.Next() {
		id := g.off + at.Seq
		if id >= until {
			break
		}
		if id < expected {
			continue // done
		}
		h, ok := peek(at.Payload)
		if id > expected || !ok {
			break
		}
		expected = l.done.free(id + 1)
		if t := by[l.known(h.sensor)]; t != nil {
			t.take(id, at.Payload)
		}
	}
	if slices.Contains(l.segs, g) && expected < until {
		return errMissing
	}
	g.tries = 0
	for _, t := range takers {
		t.finish(until, len(data))
		t.flow.onDisk = l.nextOf(t.flow) != nil
	}
	return nil
}

// taker is a flow that is read back.
type taker struct {
	flow  *flow
	room  int64
	full  bool
	found []piece // share the data
	bytes int
}

// take takes a record, if there is room, or it is the first.
func (t *taker) take(id uint64, payload []byte) {
	if t.full || id < t.flow.readTo {
		return
	}
	x := piece{id, payload}
	if t.room -= x.cost(); t.room < 0 && len(t.found) > 0 {
		t.full = true
		t.flow.readTo = id
		return
	}
	t.found = append(t.found, x)
	t.bytes += len(payload)
}

// finish puts what was taken into the flow. Little of much data is copied, so that
// it does not keep the rest in memory.
func (t *taker) finish(until uint64, all int) {
	if t.bytes < all/2 {
		b := make([]byte, 0, t.bytes)
		for k, x := range t.found {
			b = append(b, x.payload...)
			t.found[k].payload = b[len(b)-len(x.payload) : len(b) : len(b)]
		}
	}
	f := t.flow
	f.stash = append(f.stash, t.found...)
	for _, x := range t.found {
		f.held += x.cost()
	}
	if !t.full {
		f.readTo = max(f.readTo, until)
	}
}

// errMissing is the reason when a segment does not hold what it should.
var errMissing = errors.New("record is missing")

// rereads is how often reading a segment is tried before it is given up.
const rereads = 3

// unreadable deals with a segment of which something could not be read back: it
// is read again a second later, or what cannot be had of it given up.
func (s *Spool) unreadable(i Class, g *segment, err error) {
	if errors.Is(err, fs.ErrNotExist) {
		s.Verify() // it may be the directory that is gone
	}
	defer poke(s.ready) // whatever comes of it, another flow's turn if nothing else
	s.mu.Lock()
	if !slices.Contains(s.logs[i].segs, g) {
		s.mu.Unlock()
		return
	}
	if g.tries++; g.tries < rereads && !errors.Is(err, errMissing) && !errors.Is(err, errForm) {
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
	l, lost, t, corrupt := s.logs[g.class], 0, newTally(), g.corrupt
	g.corrupt = ids{}
	for id := l.done.free(g.lo); id < g.hi; id = l.done.free(id + 1) {
		if (!readable.has(id) || corrupt.has(id)) && l.entry(id) == nil {
			switch x := s.gaps[id]; {
			case g.class != Events:
			case x != nil:
				s.again(x.payload)
			default: // an answer, a fault or an event
				t.other(g.run, 1, true)
			}
			s.giveUpOne(g.class, id)
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
	g.loseAll(t)
	s.stats.Dropped += uint64(lost)
	s.putGaps(t, reasonDamaged)
}

// readable gives the ids of the records that can be read from a segment.
func (s *Spool) readable(g *segment, size int64) ids {
	var out ids
	data, err := s.disk.Read(g.file(), int(min(size, maxFile)))
	if err != nil {
		return out
	}
	at := durable.Scan(data, headerSize)
	for at.Next() {
		if _, _, err := decodeEntry(g.class, at.Payload); err == nil {
			out.add(g.off+at.Seq, g.off+at.Seq+1)
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
		s.dropped(false)
	}
	poke(s.ready)
	return s.hung == 0 && !s.down
}
