package spool

import (
	"maps"
	"slices"

	"fieldpost/daemon/durable"
)

// What is given up for want of room comes from the sensors that have more than
// their share of what waits, oldest first. The share is such that those that have
// less keep all, and the others have as much as each other (max-min fairness).
// What counts is what a sensor has in the files of samples and edges together, or
// in memory, as it may be. Events are given up when nothing else is left.

// level gives the most that each may have so that all together fit into room.
func level(use map[string]int64, room int64) int64 {
	sizes := slices.Sorted(maps.Values(use))
	for i, n := range sizes {
		each := max(room, 0) / int64(len(sizes)-i)
		if n > each {
			return each
		}
		room -= n
	}
	return 1 << 62
}

// shed keeps memory within its bound: first what is on disk leaves it, then
// readings and edges are given up, and last the oldest events. Called with mu
// held.
func (s *Spool) shed() {
	if s.drop != nil || s.memory() <= s.o.Memory {
		return
	}
	for _, l := range s.logs {
		l.evict(0)
		l.bury()
	}
	if s.memory() <= s.o.Memory {
		return
	}
	room := s.o.Memory / 8 * 7 // so that it is not full again at once
	use := map[string]int64{}
	for _, i := range [...]Class{Samples, Edges} {
		for _, e := range s.logs[i].mem {
			if !e.done {
				use[e.sensor] += e.cost()
			}
		}
	}
	t := newTally()
	s.trim(use, level(use, room-s.logs[Events].bytes), t, func(l *log) []*entry { return l.mem })
	s.shedEvents(room, t)
	s.tellTrimmed(t)
}

func (s *Spool) memory() int64 {
	var n int64
	for _, l := range s.logs {
		n += l.bytes
	}
	return n
}

// trim gives up the oldest of those of the sensors that use more than most.
func (s *Spool) trim(use map[string]int64, most int64, t *tally, of func(*log) []*entry) {
	for _, i := range [...]Class{Samples, Edges} {
		var drop []*entry
		for _, e := range of(s.logs[i]) {
			if !e.done && use[e.sensor] > most {
				use[e.sensor] -= e.cost()
				drop = append(drop, e)
			}
		}
		s.giveUpEntries(i, drop, t)
	}
}

// shedEvents gives up the oldest events until memory takes no more than room.
func (s *Spool) shedEvents(room int64, t *tally) {
	var drop []*entry
	over := s.memory() - room
	for _, e := range s.logs[Events].mem {
		if over <= 0 {
			break
		}
		if !e.done {
			over -= e.cost()
			drop = append(drop, e)
		}
	}
	s.giveUpEntries(Events, drop, t)
}

// giveUpEntries gives up entries of a lane, which are in ascending order.
func (s *Spool) giveUpEntries(i Class, drop []*entry, t *tally) {
	l := s.logs[i]
	for _, e := range drop {
		if e.seg != nil && !s.halfGone {
			s.halfGone = true
			poke(s.wake)
		}
		t.giveUp(s.run, e.payload, e.flow.mayHaveCome(e.id))
		s.giveUpOne(Class(i), e.id)
	}
	if n := len(drop); n > 0 {
		// What is done between them may be among the ghosts too, so these are few.
		lo, ghosts := drop[0].id, &s.ghosts[i]
		if len(ghosts.spans) > 0 {
			lo = min(lo, ghosts.spans[0].lo)
		}
		for _, x := range l.done.within(lo, drop[n-1].id+1) {
			ghosts.add(x.lo, x.hi)
		}
		l.bury()
	}
	l.evict(cached)
}

// tellTrimmed has gaps tell of what was given up from memory.
func (s *Spool) tellTrimmed(t *tally) {
	if t.n == 0 {
		return
	}
	s.stats.Dropped += uint64(t.n)
	s.full++
	s.putGaps(t, reasonFull)
}

// plight is what is to be done when the files have become too large.
type plight struct {
	compact *segment         // is half done, or more
	seg     *segment         // is the oldest with something of those that have too much
	use     map[string]int64 // what each sensor has
	most    int64            // what each may have
}

// greedy reports whether a sensor has more than its share.
func (p plight) greedy(sensor string) bool { return p.use[sensor] > p.most }

// plight says what is to be done next so that need more bytes fit; not over where
// they do. Called with mu held.
func (s *Spool) plight() (p plight, over bool) {
	used := s.used() - s.doomedSize()
	need := s.unwrittenSize()
	if used+need <= s.bound() {
		return p, false
	}
	p.use = map[string]int64{}
	mine := int64(0) // of used and need, what is of samples and edges
	for _, i := range [...]Class{Samples, Edges} {
		for _, g := range s.logs[i].segs {
			mine += g.size
			for _, x := range g.sums {
				p.use[x.sensor] += x.bytes
			}
			if !g.bad && s.active[i] != g && g.live > 0 && g.live <= g.frames/2 && (p.compact == nil || g.live*p.compact.frames < p.compact.live*g.frames) {
				p.compact = g
			}
		}
		for _, e := range s.logs[i].unwritten() {
			mine += durable.FrameLen(e.payload)
			p.use[e.sensor] += durable.FrameLen(e.payload)
		}
	}
	// A little more is given up than must be, so that sensors that have about the
	// same lose together, by whole files.
	p.most = level(p.use, (s.bound()-(used+need-mine))/8*7)
	most := int64(0)
	for _, i := range [...]Class{Samples, Edges} {
		if g, n := s.oldestGreedy(i, p); n > most {
			p.seg, most = g, n
		}
	}
	return p, true
}

// oldestGreedy gives the lane's oldest segment with something of those that have
// too much, and how much the lane has of theirs.
func (s *Spool) oldestGreedy(i Class, p plight) (oldest *segment, n int64) {
	for _, g := range s.logs[i].segs {
		for _, x := range g.sums {
			if p.greedy(x.sensor) && x.bytes > 0 {
				n += x.bytes
				if oldest == nil {
					oldest = g
				}
			}
		}
	}
	return oldest, n
}

// unwrittenSize is how many bytes are in no file. Called with mu held.
func (s *Spool) unwrittenSize() (n int64) {
	for _, l := range s.logs {
		for _, e := range l.unwritten() {
			n += durable.FrameLen(e.payload)
		}
	}
	return n
}

// makeRoom gives up what it takes that all that is in no file fits. It reports
// whether any was. Only the writer calls it.
func (s *Spool) makeRoom() (dropped bool, err error) {
	for {
		s.mu.Lock()
		p, over := s.plight()
		s.mu.Unlock()
		switch {
		case !over:
			return dropped, nil
		case p.compact != nil && s.affords(p.compact.size):
			err = s.compact(p.compact)
		case p.seg != nil:
			dropped, err = true, s.giveUpShare(p)
		case s.trimUnwritten(p):
			dropped = true
		case len(s.logs[Events].segs) > 0:
			dropped, err = true, s.giveUp(s.logs[Events].segs[0], reasonFull)
		default:
			return dropped, nil
		}
		if err != nil {
			return dropped, err
		}
	}
}

// trimUnwritten gives up what is in no file of those that have too much. It
// reports whether there was any.
func (s *Spool) trimUnwritten(p plight) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	t := newTally()
	for _, i := range [...]Class{Samples, Edges} {
		var drop []*entry
		for _, e := range s.logs[i].unwritten() {
			if p.greedy(e.sensor) {
				p.use[e.sensor] -= durable.FrameLen(e.payload)
				drop = append(drop, e)
			}
		}
		s.giveUpEntries(i, drop, t)
	}
	s.tellTrimmed(t)
	return t.n > 0
}

// giveUpShare gives up what is in a segment of those that have too much; where
// nothing else is in it, or the rest may not be written anew, all of it.
func (s *Spool) giveUpShare(p plight) error {
	g, rest := p.seg, int64(0)
	for _, x := range g.sums {
		if !p.greedy(x.sensor) {
			rest += x.bytes
		}
	}
	if rest == 0 || g.bad || !s.affords(rest) {
		return s.giveUp(g, reasonFull)
	}
	if err := s.giveUpOf(g, reasonFull, p.greedy); err != nil {
		return err
	}
	return s.compact(g)
}
