package spool

import (
	"maps"
	"slices"
	"time"

	"fieldpost/daemon/clock"
	"fieldpost/daemon/durable"
	"fieldpost/daemon/health"
)

// If there is no room, the sensors with more than their share lose entries, the oldest first.
// Sensors below their share keep everything, and the others end up with the same amount each
// (max-min fairness). A sensor's amount is what it has in the files of samples and edges, or
// in memory. Events are dropped only when nothing else is left.

// maxCached is how many bytes of entries that are on disk stay in memory, per log, because
// they are likely to be sent soon.
const maxCached = 64 << 10

// calm is the time without a drop after which the spool no longer counts as full.
const calm = 10 * time.Minute

const ageEvery = time.Minute

// segmentBound is the room for segments. The rest of MaxBytes is for files that are set
// aside.
func (o Options) segmentBound() int64 { return o.MaxBytes / 4 * 3 }

// counted are the logs in which sensors have shares.
var counted = [...]Class{Samples, Edges}

// fairShare returns the most that each sensor may have so that all fit into room.
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

// shares is how much each sensor has, and how much each may have.
type shares struct {
	use  map[string]int64
	most int64
}

// exceeds reports whether a sensor has more than its share.
func (s shares) exceeds(sensor string) bool { return s.use[sensor] > s.most }

// limitMemoryLocked keeps memory within its bound. It first evicts what is on disk, then
// drops samples and edges, and finally the oldest events.
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
	room := st.o.Memory / 8 * 7 // so that it does not fill up again immediately
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
	st.reportGivenUpLocked(t)
}

// limitEventsLocked drops the oldest events until memory is at most room.
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

// giveUpEntriesLocked drops entries of a log that are in memory. They are in ascending
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
		// Ids in between that are already done may be included, so there are few spans.
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

// reportGivenUpLocked adds gaps for entries that were dropped from memory.
func (st *store) reportGivenUpLocked(t *tally) {
	if t.n == 0 {
		return
	}
	st.stats.Dropped += uint64(t.n)
	st.timesFull++
	st.appendGapsLocked(t, reasonFull)
}

// pressure says what to do if the files are too large.
type pressure struct {
	shares
	compact *segment // a segment of which at least half is done
	drop    *segment // the oldest segment with entries of sensors that exceed their share
}

// pressureLocked determines what to do next to make room for the entries that are in no file.
// over is false if there is room.
func pressureLocked(st *store) (p pressure, over bool) {
	bound, need := st.o.segmentBound(), st.unwrittenBytesLocked()
	used := st.diskBytesLocked() - sizeOf(st.losses.segments)
	if used+need <= bound {
		return p, false
	}
	p.use = map[string]int64{}
	mine := int64(0) // the part of used and need that belongs to samples and edges
	for _, c := range counted {
		l := st.logs[c]
		for _, g := range l.segs {
			mine += g.size
			for _, x := range g.sums {
				p.use[x.sensor] += x.bytes
			}
			if !g.damaged && !g.noRewrite && l.active != g && g.live > 0 && g.live <= g.frames/2 && (p.compact == nil || g.live*p.compact.frames < p.compact.live*g.frames) {
				p.compact = g
			}
		}
		for _, e := range l.unwritten() {
			mine += frameLen(e)
			p.use[e.sensor] += frameLen(e)
		}
	}
	// A little more is dropped than necessary, so that sensors with about the same
	// amount lose entries together, in whole files.
	p.most = fairShare(p.use, (bound-(used+need-mine))/8*7)
	most := int64(0)
	for _, c := range counted {
		if g, n := st.logs[c].oldestExcess(p.shares); n > most {
			p.drop, most = g, n
		}
	}
	return p, true
}

// oldestExcess returns the oldest segment with entries of sensors that exceed their share,
// and how much the log has of these sensors.
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

// limiter keeps the files within their bounds in bytes and age, and reports when the spool is
// full. Only the writer's goroutine uses it.
type limiter struct {
	w    *writer
	o    Options
	st   *store
	aged time.Time // when ages were last checked

	fullReported int       // store.timesFull when the fault was last raised
	fullAt       time.Time // when the fault was last raised; zero while it is cleared
}

// makeRoom drops as much as is necessary to write all entries that are in no file. It reports
// whether it dropped anything.
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

// dropExcess drops from a segment the entries of sensors that exceed their share. If it has
// no others, or if the rest may not or cannot be rewritten, it drops the whole segment.
func (m *limiter) dropExcess(p pressure) error {
	g, rest := p.drop, int64(0)
	for _, x := range g.sums {
		if !p.exceeds(x.sensor) {
			rest += x.bytes
		}
	}
	if rest == 0 || g.damaged || g.noRewrite || !m.w.compactor.affords(rest) {
		return m.w.drop(g, reasonFull, nil)
	}
	if err := m.w.drop(g, reasonFull, p.exceeds); err != nil {
		return err
	}
	return m.w.compactor.compact(g)
}

// dropUnwritten drops entries that are in no file and belong to sensors that exceed their
// share. It reports whether there were any.
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
	st.reportGivenUpLocked(t)
	return t.n > 0
}

// ageOf returns the age of a stamp. ok is false if it is unknown.
func ageOf(now, then clock.Stamp) (age time.Duration, ok bool) {
	switch {
	case now.Boot == then.Boot:
		return now.Mono - then.Mono, true
	case now.Synced && then.Synced:
		return now.Wall.Sub(then.Wall), true
	}
	return 0, false
}

// dropOld drops, once a minute, the segments whose last entry is older than MaxAge. It
// ends an active segment whose first entry is older than an eighth of that, so that young
// entries are not in a file with old ones. A segment of unknown age stays: the clock was
// wrong then, or is now.
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

// isYoungLocked reports whether no segment will be too old soon.
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

// reportFull raises and clears the fault of a full spool.
func (m *limiter) reportFull(now time.Time) {
	m.st.mu.Lock()
	n := m.st.timesFull
	room := !m.fullAt.IsZero() && m.st.diskBytesLocked() < m.o.segmentBound()/4*3 && m.st.memoryLocked() < m.o.Memory/4*3 && m.isYoungLocked()
	m.st.mu.Unlock()
	switch {
	case n != m.fullReported:
		m.fullReported, m.fullAt = n, now
		m.o.Health.Raise(health.SpoolFull, subject, "the oldest records were dropped")
	case room && now.Sub(m.fullAt) >= calm:
		m.fullAt = time.Time{}
		m.o.Health.Clear(health.SpoolFull, subject)
	}
}
