package spool

import (
	"maps"
	"slices"
	"time"

	"fieldpost/daemon/clock"
	"fieldpost/daemon/durable"
	"fieldpost/daemon/health"
)

// What is given up for want of room comes from the sensors that have more than their
// share of what waits, oldest first. The share is such that those that have less keep
// all, and the others have as much as each other (max-min fairness). What counts is
// what a sensor has in the files of samples and edges together, or in memory, as it
// may be. Events are given up when nothing else is left.

// maxCached is how many bytes of entries that are on disk already stay in memory, of
// each log, because they are likely to be wanted soon.
const maxCached = 64 << 10

// calm is how long nothing must have been given up before the spool counts as not full
// again.
const calm = 10 * time.Minute

const ageEvery = time.Minute

// segmentBound is the room for segments; the rest of MaxBytes is for what is set
// aside.
func (o Options) segmentBound() int64 { return o.MaxBytes / 4 * 3 }

// counted is the logs whose entries belong to sensors that have shares.
var counted = [...]Class{Samples, Edges}

// fairShare returns the most that each may have so that all together fit into room.
func fairShare(use map[string]int64, room int64) int64 {
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

// shares is what the sensors have, and what each may have.
type shares struct {
	use  map[string]int64
	most int64
}

// exceeds reports whether a sensor has more than its share.
func (s shares) exceeds(sensor string) bool { return s.use[sensor] > s.most }

// limitMemoryLocked keeps memory within its bound: first what is on disk leaves it,
// then samples and edges are given up, and last the oldest events.
func (st *store) limitMemoryLocked() {
	if st.losses.drop != nil || st.memoryLocked() <= st.o.Memory {
		return
	}
	for _, l := range st.logs {
		l.evict(0)
		l.removeDead()
	}
	if st.memoryLocked() <= st.o.Memory {
		return
	}
	room := st.o.Memory / 8 * 7 // so that it is not full again at once
	s := shares{use: map[string]int64{}}
	for _, c := range counted {
		for _, e := range st.logs[c].mem {
			if !e.done {
				s.use[e.sensor] += e.cost()
			}
		}
	}
	s.most = fairShare(s.use, room-st.logs[Events].bytes)
	t := newTally()
	for _, c := range counted {
		var excess []*memEntry
		for _, e := range st.logs[c].mem {
			if !e.done && s.exceeds(e.sensor) {
				s.use[e.sensor] -= e.cost()
				excess = append(excess, e)
			}
		}
		st.giveUpEntriesLocked(c, excess, t)
	}
	st.limitEventsLocked(room, t)
	st.tellGivenUpLocked(t)
}

// limitEventsLocked gives up the oldest events until memory takes no more than room.
func (st *store) limitEventsLocked(room int64, t *tally) {
	var excess []*memEntry
	over := st.memoryLocked() - room
	for _, e := range st.logs[Events].mem {
		if over <= 0 {
			break
		}
		if !e.done {
			over -= e.cost()
			excess = append(excess, e)
		}
	}
	st.giveUpEntriesLocked(Events, excess, t)
}

// giveUpEntriesLocked gives up entries of a log that are in memory, in ascending
// order.
func (st *store) giveUpEntriesLocked(c Class, entries []*memEntry, t *tally) {
	l := st.logs[c]
	for _, e := range entries {
		if e.seg != nil && !st.losses.inFile {
			st.losses.inFile = true
			st.work.Set()
		}
		t.addEntry(st.run, e.form, e.flow.mayHaveCome(e.id))
		st.giveUpLocked(c, e.id)
	}
	if n := len(entries); n > 0 {
		// What is done between them may be among these ids too, so their spans are few.
		lo := entries[0].id
		if have := l.maybeWritten.spans; len(have) > 0 {
			lo = min(lo, have[0].lo)
		}
		for _, x := range l.done.within(lo, entries[n-1].id+1) {
			l.maybeWritten.add(x.lo, x.hi)
		}
		l.removeDead()
	}
	l.evict(maxCached)
}

// tellGivenUpLocked has gaps tell of what was given up from memory.
func (st *store) tellGivenUpLocked(t *tally) {
	if t.n == 0 {
		return
	}
	st.stats.Dropped += uint64(t.n)
	st.timesFull++
	st.tellLocked(t, reasonFull)
}

// pressure is what is to be done when the files have become too large.
type pressure struct {
	shares
	compact *segment // half of it, or more, is done
	drop    *segment // the oldest with something of those that have more than their share
}

// pressureLocked says what is to be done next so that what is in no file fits; not
// over where it does.
func pressureLocked(st *store) (p pressure, over bool) {
	bound, need := st.o.segmentBound(), st.unwrittenLocked()
	used := st.diskBytesLocked() - sizeOf(st.losses.segments)
	if used+need <= bound {
		return p, false
	}
	p.use = map[string]int64{}
	mine := int64(0) // of used and need, what is of samples and edges
	for _, c := range counted {
		l := st.logs[c]
		for _, g := range l.segs {
			mine += g.size
			for _, x := range g.sums {
				p.use[x.sensor] += x.bytes
			}
			if !g.damaged && l.active != g && g.live > 0 && g.live <= g.frames/2 && (p.compact == nil || g.live*p.compact.frames < p.compact.live*g.frames) {
				p.compact = g
			}
		}
		for _, e := range l.unwritten() {
			mine += frameLen(e)
			p.use[e.sensor] += frameLen(e)
		}
	}
	// A little more is given up than must be, so that sensors that have about the
	// same lose together, by whole files.
	p.most = fairShare(p.use, (bound-(used+need-mine))/8*7)
	most := int64(0)
	for _, c := range counted {
		if g, n := st.logs[c].oldestExcess(p.shares); n > most {
			p.drop, most = g, n
		}
	}
	return p, true
}

// oldestExcess returns the log's oldest segment with something of those that
// have more than their share, and how much the log has of theirs.
func (l *log) oldestExcess(s shares) (oldest *segment, n int64) {
	for _, g := range l.segs {
		for _, x := range g.sums {
			if s.exceeds(x.sensor) && x.bytes > 0 {
				n += x.bytes
				if oldest == nil {
					oldest = g
				}
			}
		}
	}
	return oldest, n
}

// limiter keeps the files within their bounds in bytes and age, and tells when the
// spool is full. Only the writer's goroutine uses it.
type limiter struct {
	w    *writer
	o    Options
	st   *store
	aged time.Time // when ages were looked at last

	fullTold int       // store.timesFull when the fault was raised last
	fullAt   time.Time // when that was; zero while it is cleared
}

// makeRoom gives up what it takes that everything that is in no file fits. It reports
// whether it gave up anything.
func (m *limiter) makeRoom() (dropped bool, err error) {
	for {
		m.st.mu.Lock()
		p, over := pressureLocked(m.st)
		events := m.st.logs[Events].segs
		m.st.mu.Unlock()
		switch {
		case !over:
			return dropped, nil
		case p.compact != nil && m.w.compactor.affords(p.compact.size):
			err = m.w.compactor.compact(p.compact)
		case p.drop != nil:
			dropped, err = true, m.dropExcess(p)
		case m.dropUnwritten(p.shares):
			dropped = true
		case len(events) > 0:
			dropped, err = true, m.w.drop(events[0], reasonFull, nil)
		default:
			return dropped, nil
		}
		if err != nil {
			return dropped, err
		}
	}
}

// dropExcess gives up what is in a segment of those that have more than their share;
// where nothing else is in it, or the rest may not be written anew, all of it.
func (m *limiter) dropExcess(p pressure) error {
	g, rest := p.drop, int64(0)
	for _, x := range g.sums {
		if !p.exceeds(x.sensor) {
			rest += x.bytes
		}
	}
	if rest == 0 || g.damaged || !m.w.compactor.affords(rest) {
		return m.w.drop(g, reasonFull, nil)
	}
	if err := m.w.drop(g, reasonFull, p.exceeds); err != nil {
		return err
	}
	return m.w.compactor.compact(g)
}

// dropUnwritten gives up what is in no file of those that have more than their share.
// It reports whether there was any.
func (m *limiter) dropUnwritten(s shares) bool {
	st := m.st
	st.mu.Lock()
	defer st.mu.Unlock()
	t := newTally()
	for _, c := range counted {
		var excess []*memEntry
		for _, e := range st.logs[c].unwritten() {
			if s.exceeds(e.sensor) {
				s.use[e.sensor] -= durable.FrameLen(e.form)
				excess = append(excess, e)
			}
		}
		st.giveUpEntriesLocked(c, excess, t)
	}
	st.tellGivenUpLocked(t)
	return t.n > 0
}

// ageOf tells how old a stamp is, where that can be known.
func ageOf(now, then clock.Stamp) (time.Duration, bool) {
	switch {
	case now.Boot == then.Boot:
		return now.Mono - then.Mono, true
	case now.Synced && then.Synced:
		return now.Wall.Sub(then.Wall), true
	}
	return 0, false
}

// dropOld gives up, once a minute, the segments whose last entry is older than MaxAge,
// and closes one whose first entry is an eighth of that old, so that it does not keep
// young entries with old ones. A segment whose age cannot be known, because the clock
// was or is not true, is kept.
func (m *limiter) dropOld(now time.Time) error {
	if m.o.MaxAge == 0 || now.Sub(m.aged) < ageEvery {
		return nil
	}
	m.aged = now
	stamp := m.o.Clock.Now()
	for _, l := range m.st.logs {
		m.st.mu.Lock()
		segs := slices.Clone(l.segs)
		m.st.mu.Unlock()
		for _, g := range segs {
			if a, ok := ageOf(stamp, g.newest); ok && a > m.o.MaxAge {
				if err := m.w.drop(g, reasonOld, nil); err != nil {
					return err
				}
			} else if a, ok := ageOf(stamp, g.oldest); ok && a > m.o.MaxAge/8 && l.active == g {
				if err := m.w.rollSegment(l.class); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

// isYoungLocked reports whether no segment will soon be too old.
func (m *limiter) isYoungLocked() bool {
	if m.o.MaxAge == 0 {
		return true
	}
	now := m.o.Clock.Now()
	for _, l := range m.st.logs {
		if len(l.segs) > 0 {
			if a, ok := ageOf(now, l.segs[0].newest); ok && a > m.o.MaxAge/4*3 {
				return false
			}
		}
	}
	return true
}

// tellFull raises and clears the fault of a full spool.
func (m *limiter) tellFull(now time.Time) {
	m.st.mu.Lock()
	n := m.st.timesFull
	room := m.st.diskBytesLocked() < m.o.segmentBound()/4*3 && m.st.memoryLocked() < m.o.Memory/4*3 && m.isYoungLocked()
	m.st.mu.Unlock()
	switch {
	case n != m.fullTold:
		m.fullTold, m.fullAt = n, now
		m.o.Health.Raise(health.SpoolFull, subject, "the oldest records were dropped")
	case !m.fullAt.IsZero() && room && now.Sub(m.fullAt) >= calm:
		m.fullAt = time.Time{}
		m.o.Health.Clear(health.SpoolFull, subject)
	}
}
