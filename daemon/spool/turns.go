package spool

import "cmp"

// What is given next. Events go first, but while others wait one of these goes
// after every eventsInARow of them. Those take turns by the sensor: each flow is
// charged with the bytes it has been given, and the one with the least charge is
// next, of two alike the edges. A flow that had nothing to give begins at the
// charge of the latest that was given, so it saves nothing up: that is start-time
// fair queueing (Goyal, Vin and Cheng, SIGCOMM 1996), whose bound holds for links
// of any and of changing speed. So a sensor that gives little waits for no more
// than one record of each other sensor, however much these have waiting.

// eventsInARow is how many events go for one other record that waits.
const eventsInARow = 3

// lag is how far behind the others a flow may stay that waited for the disk. It
// bounds what it then gives without a turn of theirs.
const lag = 16 << 10

// turns is whose turn it is.
type turns struct {
	active []*flow // those of edges and samples that may have something to give
	clock  int64   // the charge of the latest whose turn it was, before it was
	row    int     // events in a row that were given while others waited
	last   *flow   // that gave last
	item   uint64  // and the item's id
}

// queue takes note that a flow may have something to give.
func (t *turns) queue(f *flow) {
	if f.class == Events || f.queued {
		return
	}
	f.queued = true
	f.tag = max(f.tag, t.clock-1) // of those that are alike it is the first
	t.active = append(t.active, f)
}

// begin takes note that it is a flow's turn.
func (t *turns) begin(f *flow) {
	f.tag = max(f.tag, t.clock-lag)
	t.clock = max(t.clock, f.tag)
}

// charge takes note that a flow has given a record.
func (t *turns) charge(f *flow, payload []byte) {
	f.tag += int64(len(payload)) + entryCost
}

// before reports whether a flow is to give before another one.
func (f *flow) before(x *flow) bool {
	if f.tag != x.tag {
		return f.tag < x.tag
	}
	return f.class > x.class // edges before samples
}

// prospect is what can be had of a flow.
type prospect int

const (
	empty   prospect = iota
	blocked          // not yet on disk
	unread           // on disk, and to be read first
	ready
)

func (s *Spool) prospect(f *flow) prospect {
	switch {
	case len(f.stash) > 0:
		return ready
	case f.onDisk:
		return unread
	}
	e := f.prune()
	if e == nil {
		return empty
	}
	if s.o.AtRisk == 0 && !e.synced && !s.down && s.hung == 0 {
		return blocked
	}
	return ready
}

// Next gives the next unsent record. Events go first, but for every three of them
// one other record that waits. The others take turns by sensor and kind, so that
// what one has waiting does not hold up another's; each by itself keeps its order.
//
// It never waits for the disk: while a backlog is read back there may be nothing
// for the moment, and Ready tells when there is. It gives nothing from files
// unless Run runs. Others pass events that are on a disk that hangs. When Run is to
// end it gives nothing more. Any goroutine.
func (s *Spool) Next() (Item, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for s.mayGive() {
		f := s.turn()
		if f == nil {
			break
		}
		if item, ok := s.give(f); ok {
			return item, true
		}
	}
	return Item{}, false
}

// More gives the next record of the sensor and kind that Next or More gave last,
// which is to have had this id, out of turn: for who sends several in one message.
// It counts for the turns to come. There may be none now although Next will give
// one. Any goroutine.
func (s *Spool) More(id uint64) (Item, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f := s.turns.last
	for s.mayGive() && f != nil && s.turns.item == id && s.prospect(f) == ready {
		if item, ok := s.give(f); ok {
			return item, true
		}
	}
	return Item{}, false
}

// mayGive reports whether anything may be given out. What is given up is not to be
// found by a later run, which would send it behind what comes later; so until that
// is on disk nothing goes, for as long as a disk may take.
func (s *Spool) mayGive() bool {
	return s.drop == nil && !s.ended && (!s.halfGone || s.hung > 0)
}

// turn gives the flow whose turn it is; nil where none has anything now.
func (s *Spool) turn() *flow {
	e := s.logs[Events].flow("")
	can := s.prospect(e)
	if can == unread {
		poke(s.read)
		if s.hung == 0 && !s.isReread(e) {
			return nil
		}
	}
	if can == ready && s.turns.row < eventsInARow {
		s.turns.row++
		return e
	}
	s.turns.row = 0
	f := s.least()
	if f == nil && can == ready {
		return e
	}
	if f != nil {
		s.turns.begin(f)
	}
	return f
}

// isReread reports whether what a flow wants could not be read, and waits to be
// read again.
func (s *Spool) isReread(f *flow) bool {
	g := s.logs[f.class].nextOf(f)
	return g != nil && g.tries > 0 && !s.since.reread.IsZero()
}

// least gives the flow that can give and has the least charge, but for the
// events.
func (s *Spool) least() (best *flow) {
	keep, wanted := s.turns.active[:0], false
	for _, f := range s.turns.active {
		switch s.prospect(f) {
		case empty:
			f.queued = false
			continue
		case unread:
			wanted = true
		case ready:
			if best == nil || f.before(best) {
				best = f
			}
		}
		keep = append(keep, f)
	}
	clear(s.turns.active[len(keep):])
	s.turns.active = keep
	if wanted {
		poke(s.read)
	}
	return best
}

// give gives a flow's next record; not ok where that is done by now, or not a
// record.
func (s *Spool) give(f *flow) (item Item, ok bool) {
	id, payload := f.pop()
	l := s.logs[f.class]
	if f.onDisk && f.held < s.stashRoom()/2 {
		poke(s.read)
	}
	if !l.owed(id) {
		return Item{}, false
	}
	e, gap, err := decodeEntry(f.class, payload)
	if err != nil { // of what is in memory all can be read
		if g := l.segment(id); g != nil {
			g.corrupt.add(id, id+1)
		}
		f.back(id)
		return Item{}, false
	}
	f.give(id)
	s.turns.charge(f, payload)
	s.turns.last, s.turns.item = f, s.itemID(f.class, id)
	took := e.Run
	if took == 0 {
		took = cmp.Or(l.runOf(id), s.run)
	}
	return Item{s.turns.item, e, gap, s.sourceOf(took)}, true
}

// runOf gives the run that took what an earlier one left under an id; 0 where that
// is not known.
func (l *log) runOf(id uint64) uint64 {
	if g := l.segment(id); id < firstLive && g != nil {
		return g.run
	}
	return 0
}
