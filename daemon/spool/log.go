package spool

import (
	"slices"
	"time"
)

// firstLive is the id of the first entry that is appended in this run. Entries of earlier
// runs have lower ids, so they stay first even if their files can only be read later.
const firstLive = 1 << 50

// Each directory in which entries are found gets its own range of ids, below the range of the
// previous one. There is more than one only if a directory was lost.
const (
	idRangeSize = 1 << 44
	idRanges    = firstLive / idRangeSize
)

// idRange returns the range of the n-th such directory, counted from 0.
func idRange(n int) span {
	hi := uint64(firstLive) - uint64(n)*idRangeSize
	return span{hi - idRangeSize, hi}
}

// entryCost is what an entry in memory costs in addition to its form, in bytes.
const entryCost = 128

// memEntry is an entry, or a gap, in memory.
type memEntry struct {
	id       uint64
	form     []byte // nil when done
	sensor   string
	flow     *flow
	run      uint64
	seq      uint64    // its own count; for a gap the first missing one
	at       time.Time // when it was appended
	seg      *segment  // the file that has it; nil if none
	synced   bool      // it is durable in seg
	done     bool
	lost     bool          // done but not acknowledged: a gap reports it
	evicted  bool          // it is now only in its segment
	kept     chan struct{} // closed when a crash cannot cost it any longer; nil if nobody is waiting
	saidSent bool          // the risk file says that it may have been sent, because it was next when it was appended
}

func (e *memEntry) cost() int64 { return int64(len(e.form)) + entryCost }

// log is what the spool knows about the entries of one class. An entry that is not done is in
// mem or only in a segment; in a segment its id is lower than those in mem.
//
//	ids  ...done... | only in segments | in mem: synced | written | in no file | next
//
// The lock of the store guards it.
type log struct {
	class   Class
	flows   map[string]*flow // by sensor
	mem     []*memEntry      // ascending; done ones are removed when convenient
	dead    int              // how many of mem are done
	bytes   int64            // the cost of mem
	segs    []*segment
	active  *segment // the last of segs while it is being written, else nil; only the writer changes it
	done    ids      // every id below next is either in here or still owed
	next    uint64   // the id of the next entry
	pending int      // number of owed entries
	keeping *keeping // callers that wait for entries

	saidSentUntil uint64 // the risk file says that all entries before this may have been sent
	settled       int    // how many entries in the risk file are now on disk or done
	mustRewrite   bool   // the risk file must be rewritten, whatever settled is

	unrecorded   ids // done, in a segment, and not in the ack file yet
	maybeWritten ids // dropped from memory, but a running or failed write may have left them in a file
}

func newLog(c Class, k *keeping) *log {
	l := &log{class: c, keeping: k, flows: map[string]*flow{}, next: firstLive}
	l.done.add(0, firstLive)
	return l
}

// append adds an entry at the end and sets its id.
func (l *log) append(e *memEntry) {
	e.id = l.next
	l.next++
	e.flow = l.flow(e.sensor)
	e.flow.append(e)
	l.mem = append(l.mem, e)
	l.bytes += e.cost()
	l.pending++
}

// inMemory returns the entry of an id; nil if it is done or not in memory.
func (l *log) inMemory(id uint64) *memEntry {
	i, ok := slices.BinarySearchFunc(l.mem, id, func(e *memEntry, id uint64) int {
		switch {
		case e.id < id:
			return -1
		case e.id > id:
			return 1
		}
		return 0
	})
	if !ok || l.mem[i].done {
		return nil
	}
	return l.mem[i]
}

// memoryFrom returns the id from which on all owed entries are in memory.
func (l *log) memoryFrom() uint64 {
	if len(l.mem) > 0 {
		return l.mem[0].id
	}
	return l.next
}

// segmentOf returns the segment that spans an id, or nil.
func (l *log) segmentOf(id uint64) *segment {
	i, _ := slices.BinarySearchFunc(l.segs, id, func(g *segment, id uint64) int {
		if g.hi <= id {
			return -1
		}
		return 1
	})
	if i < len(l.segs) && l.segs[i].lo <= id {
		return l.segs[i]
	}
	return nil
}

// runOf returns the run that took an entry of an earlier run; 0 if unknown.
func (l *log) runOf(id uint64) uint64 {
	if g := l.segmentOf(id); id < firstLive && g != nil {
		return g.run
	}
	return 0
}

// owed reports whether id names an entry that is not done.
func (l *log) owed(id uint64) bool { return id < l.next && !l.done.has(id) }

// insertFound inserts what was found in a directory before everything else, with the ids of a
// range. The flows start again with what is on disk.
func (l *log) insertFound(x span, segs []*segment, done ids, given map[string]uint64, pending int) {
	if len(segs) == 0 {
		return
	}
	for _, old := range []span{{0, x.lo}, {x.hi, l.next}} {
		for _, d := range l.done.within(old.lo, old.hi) {
			done.add(d.lo, d.hi)
		}
	}
	l.done = done
	l.segs = append(segs, l.segs...)
	l.pending += pending
	for _, g := range segs {
		l.flowsIn(g, func(f *flow) {
			f.rereadFrom(0)
			f.cursor = 0
			f.markGiven(x.lo, given[f.sensor])
		})
	}
}

// markDone marks an owed entry as done. It returns the segment that contains it, or nil.
func (l *log) markDone(id uint64) *segment {
	l.done.add(id, id+1)
	l.pending--
	e := l.inMemory(id)
	if e == nil {
		return l.segmentOf(id)
	}
	l.bytes -= int64(len(e.form))
	e.form, e.done = nil, true
	if !e.synced {
		l.settled++
		l.keeping.keep(e)
		l.keeping.wake()
	}
	l.dead++
	for len(l.mem) > 0 && l.mem[0].done {
		l.removeFirst()
	}
	if l.dead > len(l.mem)/2+32 {
		l.removeDead()
	}
	return e.seg
}

// removeDead removes all done entries from memory.
func (l *log) removeDead() {
	l.mem = slices.DeleteFunc(l.mem, func(e *memEntry) bool { return e.done })
	l.bytes -= int64(l.dead) * entryCost
	l.dead = 0
}

func (l *log) removeFirst() {
	e := l.mem[0]
	l.mem[0] = nil
	l.mem = l.mem[1:]
	l.bytes -= e.cost()
	if e.evicted = true; e.done {
		l.dead--
	} else if e.id >= e.flow.readTo {
		e.flow.onDisk = true
	}
}

// evict removes entries that are on disk from memory, oldest first, until memory costs at
// most keep.
func (l *log) evict(keep int64) {
	for len(l.mem) > 0 && (l.mem[0].done || l.mem[0].synced && l.bytes > keep) {
		l.removeFirst()
	}
}

// unwritten returns the entries that are in no file and not done, oldest first.
func (l *log) unwritten() []*memEntry {
	i := len(l.mem)
	for i > 0 && l.mem[i-1].seg == nil {
		i--
	}
	out := make([]*memEntry, 0, len(l.mem)-i)
	for _, e := range l.mem[i:] {
		if !e.done {
			out = append(out, e)
		}
	}
	return out
}

// owesUnwritten reports whether an entry is in no file and not done.
func (l *log) owesUnwritten() bool {
	for _, e := range slices.Backward(l.mem) {
		if e.seg != nil {
			return false
		}
		if !e.done {
			return true
		}
	}
	return false
}

// eachUnsynced calls f for the entries that are not durable, done or not, newest
// first.
func (l *log) eachUnsynced(f func(*memEntry)) {
	for _, e := range slices.Backward(l.mem) {
		if e.synced {
			return
		}
		f(e)
	}
}

// markSynced records that everything written to a segment is durable.
func (l *log) markSynced(g *segment) {
	l.eachUnsynced(func(e *memEntry) {
		if e.synced = e.seg == g; e.synced && !e.done {
			l.settled++
			l.keeping.keep(e)
		}
	})
	l.keeping.wake()
}

// unsyncedFrom returns the entries from an id on that are not durable, done or not, oldest
// first.
func (l *log) unsyncedFrom(id uint64) []*memEntry {
	i := len(l.mem)
	for i > 0 && !l.mem[i-1].synced && l.mem[i-1].id >= id {
		i--
	}
	return l.mem[i:]
}

// isSaidSent reports whether the risk file says that an entry may have been sent.
func (l *log) isSaidSent(e *memEntry) bool { return e.saidSent || e.id < l.saidSentUntil }

// oldest returns when the oldest entries were appended: the oldest in no file, the oldest
// that is written but not durable, and the oldest that is not durable and waited for; zero if
// there is none.
func (l *log) oldest() (unwritten, unsynced, kept time.Time) {
	l.eachUnsynced(func(e *memEntry) {
		switch {
		case e.done:
			return
		case e.seg == nil:
			unwritten = e.at
		default:
			unsynced = e.at
		}
		if e.kept != nil {
			kept = e.at
		}
	})
	return unwritten, unsynced, kept
}

// owesUnsynced reports whether the active segment has an owed entry that is not durable.
func (l *log) owesUnsynced() bool {
	owes := false
	l.eachUnsynced(func(e *memEntry) { owes = owes || e.seg == l.active && !e.done })
	return owes
}

// removeSegment removes a segment from the log. It returns false if it is not there.
func (l *log) removeSegment(g *segment) bool {
	if !slices.Contains(l.segs, g) {
		return false
	}
	l.segs = without(l.segs, g)
	return true
}

// without returns a copy of segs without g.
func without(segs []*segment, g *segment) []*segment {
	out := make([]*segment, 0, len(segs))
	for _, x := range segs {
		if x != g {
			out = append(out, x)
		}
	}
	return out
}

// segmentBytes returns the size of the log's files.
func (l *log) segmentBytes() (n int64) {
	for _, g := range l.segs {
		n += g.size
	}
	return n
}

// writtenUntil returns the id after the last one that a segment has on disk. Of a damaged segment
// only what is owed counts: what it has lost is reported, and is not missed again.
func (l *log) writtenUntil(g *segment) uint64 {
	if g.damaged {
		return min(g.syncedUntil, l.done.freeBefore(g.hi)+1)
	}
	return g.syncedUntil
}

// flow returns the flow of a sensor. It creates the flow if there is none.
func (l *log) flow(sensor string) *flow {
	if l.class == Events {
		sensor = ""
	}
	f := l.flows[sensor]
	if f == nil {
		f = &flow{class: l.class, sensor: sensor}
		l.flows[sensor] = f
	}
	return f
}

// knownFlow returns the flow of a sensor, or nil.
func (l *log) knownFlow(sensor []byte) *flow {
	if l.class == Events {
		return l.flows[""]
	}
	return l.flows[string(sensor)]
}

// flowsIn calls do for the flows of which a segment has entries.
func (l *log) flowsIn(g *segment, do func(*flow)) {
	for _, sensor := range g.sensors() {
		do(l.flow(sensor))
	}
}

// rewind marks everything that is owed as unsent.
func (l *log) rewind() {
	for _, f := range l.flows {
		f.cursor, f.tag = 0, 0
	}
	l.rebuildFlows()
}

// rebuildFlows recalculates what is unsent, and where it is.
func (l *log) rebuildFlows() {
	for _, f := range l.flows {
		f.unsent, f.first, f.onDisk, f.readTo = nil, 0, false, f.cursor
		f.dropReadAhead()
	}
	for _, e := range l.mem {
		if !e.done && e.id >= e.flow.cursor {
			e.flow.append(e)
		}
	}
	for _, g := range l.segs {
		if g.live > 0 && g.lo < l.memoryFrom() {
			l.flowsIn(g, func(f *flow) { f.onDisk = true })
		}
	}
}

// nextSegmentOf returns the segment that may contain the next entry of a flow, if it must be
// read back; nil if there is none. A segment of which only lost entries are left, beside those in
// memory, is none: it may be unreadable, and stays until the disk takes the gap about them.
func (l *log) nextSegmentOf(f *flow) *segment {
	from := l.memoryFrom()
	for _, g := range l.segs {
		switch {
		case g.lo >= from, f.readTo >= from:
			return nil
		case g.hi > f.readTo && g.live > 0 && g.holds(f) && l.done.free(max(g.lo, f.readTo)) < min(g.hi, from):
			return g
		}
	}
	return nil
}

// span is the ids from lo up to but not including hi.
type span struct{ lo, hi uint64 }

// ids is a set of ids, kept as ascending spans that neither overlap nor touch.
// Its size follows the number of holes, not the number of ids.
type ids struct{ spans []span }

// find returns the index of the first span that ends behind id.
func (s *ids) find(id uint64) int {
	lo, hi := 0, len(s.spans)
	for lo < hi {
		if m := (lo + hi) / 2; s.spans[m].hi <= id {
			lo = m + 1
		} else {
			hi = m
		}
	}
	return lo
}

// has reports whether id is in the set.
func (s *ids) has(id uint64) bool {
	i := s.find(id)
	return i < len(s.spans) && s.spans[i].lo <= id
}

// add puts the ids from lo up to but not including hi into the set.
func (s *ids) add(lo, hi uint64) {
	if lo >= hi {
		return
	}
	i := s.find(lo)
	if i > 0 && s.spans[i-1].hi == lo {
		i--
	}
	j := i
	for j < len(s.spans) && s.spans[j].lo <= hi {
		lo, hi = min(lo, s.spans[j].lo), max(hi, s.spans[j].hi)
		j++
	}
	if j == i+1 {
		s.spans[i] = span{lo, hi}
		return
	}
	s.spans = slices.Replace(s.spans, i, j, span{lo, hi})
}

// free returns the least id from id on that is not in the set.
func (s *ids) free(id uint64) uint64 {
	if i := s.find(id); i < len(s.spans) && s.spans[i].lo <= id {
		return s.spans[i].hi
	}
	return id
}

// freeBefore returns the greatest id before id that is not in the set, 0 if there is none.
func (s *ids) freeBefore(id uint64) uint64 {
	if id == 0 {
		return 0
	}
	if i := s.find(id - 1); i < len(s.spans) && s.spans[i].lo < id {
		id = s.spans[i].lo
	}
	return max(id, 1) - 1
}

// within returns the parts of the set from lo up to but not including hi.
func (s *ids) within(lo, hi uint64) []span {
	var out []span
	for i := s.find(lo); i < len(s.spans) && s.spans[i].lo < hi; i++ {
		out = append(out, span{max(lo, s.spans[i].lo), min(hi, s.spans[i].hi)})
	}
	return out
}

// count returns how many ids from lo up to but not including hi are in the set.
func (s *ids) count(lo, hi uint64) (n uint64) {
	for _, x := range s.within(lo, hi) {
		n += x.hi - x.lo
	}
	return n
}

// without returns the parts of the set from lo up to but not including hi that
// are not in other.
func (s *ids) without(lo, hi uint64, other *ids) []span {
	var out []span
	for _, x := range s.within(lo, hi) {
		for _, y := range other.within(x.lo, x.hi) {
			if x.lo < y.lo {
				out = append(out, span{x.lo, y.lo})
			}
			x.lo = y.hi
		}
		if x.lo < x.hi {
			out = append(out, x)
		}
	}
	return out
}
