package spool

import (
	"maps"
	"slices"
	"sync"
	"time"

	"fieldpost/daemon/clock"
	"fieldpost/daemon/wake"
)

// store is everything that the spool knows about its entries: what is in memory, which file
// contains what, what was sent and what is dropped. Its lock guards all of it and is never
// held during disk operations. Methods whose names end in Locked need that lock.
type store struct {
	o     Options
	ready wake.Signal // Next may have more
	work  wake.Signal // there may be something to do for the writer
	read  wake.Signal // there may be something to do for the reader

	mu sync.Mutex
	runs
	logs       [classes]*log
	schedule   scheduler
	keeping    keeping
	linger     linger // delays the signal of Ready for samples
	sensors    sensorBook
	gaps       gapBook
	losses     unreportedLosses
	refusals   refusals
	garbage    []*segment      // files that are no longer needed
	due        dueTimes        // what waits for the writer, and since when
	ackBytes   int64           // size of the ack file
	lostFrames map[logRun]*ids // owed frames that were lost with a directory; if it comes back, they are still owed
	hung       int             // number of goroutines that wait for a disk that does not answer
	down       bool            // the disk is not writable
	ended      bool            // no more entries are stored or returned
	damaged    bool            // the fault of a damaged spool is raised
	timesFull  int             // how often entries were dropped because there was no room
	stats      Stats
}

// runs identifies this run, and who took the entries of earlier runs.
type runs struct {
	run     uint64 // this run's number; it is set before anything runs
	source  Source // the source of what is appended in this run
	sources runSources
}

// logRun identifies the entries of one run in one log.
type logRun struct {
	class Class
	run   uint64
}

// unreportedLosses are dropped entries and segments whose gaps are not on disk yet. The lock
// of the store guards it.
type unreportedLosses struct {
	entries  []heldEntry // released when the gap is on disk
	segments []*segment  // removed when the gap is on disk
	drop     *drop       // a segment is about to be dropped; nothing is sent meanwhile
	inFile   bool        // some entries were dropped from memory but are in a file; nothing is sent until that is reported or cut off
}

// heldEntry is an entry that is done, but that its segment must keep until something else
// is on disk.
type heldEntry struct {
	class Class
	id    uint64
	seg   *segment
}

// dueTimes says since when something has been waiting for the writer; zero: nothing is.
type dueTimes struct {
	unwritten time.Time // an entry in no file
	unsynced  time.Time // an entry that is written and not durable
	kept      time.Time // an entry that is not durable and somebody is waiting for
	acks      time.Time // an ack that is not in the ack file
	sensors   time.Time // a sensor that is not in the ack file
	reread    time.Time // a segment that could not be read
	syncNow   bool      // the next write must be synced

	alarm *wake.Timer // wakes the writer when the oldest of unwritten is due; nil until the first
}

// sensorBook records which sensors have had entries in this run, and in which logs. The lock
// of the store guards it.
type sensorBook struct {
	seen     map[string]*sensorSeen
	count    int // number of pairs of a sensor and a log
	recorded int // how many of them are in the ack file
}

// sensorSeen is a sensor that has had entries in this run.
type sensorSeen struct {
	in   [classes]bool // in which logs
	last uint64        // its latest count
}

// see records an entry of a sensor. It reports whether it is the sensor's first in its log.
func (b *sensorBook) see(e Entry) (news bool) {
	x := b.seen[e.Sensor]
	if x == nil {
		x = &sensorSeen{}
		b.seen[e.Sensor] = x
	}
	x.last = max(x.last, e.Seq)
	if x.in[e.Class] {
		return false
	}
	x.in[e.Class] = true
	b.count++
	return true
}

// logs returns in which logs each sensor has had entries.
func (b *sensorBook) logs() map[string][classes]bool {
	out := map[string][classes]bool{}
	for sensor, x := range b.seen {
		out[sensor] = x.in
	}
	return out
}

func newStore(o Options) *store {
	st := &store{o: o, ready: wake.New(), work: wake.New(), read: wake.New(), lostFrames: map[logRun]*ids{}, gaps: newGapBook()}
	st.schedule = scheduler{ready: st.ready, read: st.read}
	st.linger = linger{lock: &st.mu, tell: st.ready.Set}
	st.sensors.seen = map[string]*sensorSeen{}
	for _, sensor := range o.Sensors {
		st.sensors.seen[sensor] = &sensorSeen{}
	}
	for i := range st.logs {
		st.logs[i] = newLog(Class(i), &st.keeping)
	}
	return st
}

// unwrittenLocked records that an entry is in no file. It wakes the writer only when the
// entry must be written; most are acknowledged before that.
func (st *store) unwrittenLocked(now time.Time) {
	if !st.due.unwritten.IsZero() {
		return
	}
	st.due.unwritten = now
	if st.due.alarm != nil {
		st.due.alarm.Stop()
	}
	if d := st.o.writeDelay(); d > 0 {
		st.due.alarm = wake.AfterFunc(d, st.work.Set) // a new timer each time; see uplink's connection.serve
	} else {
		st.work.Set()
	}
}

// ackedLocked stops the alarm if every entry that is in no file is acknowledged.
func (st *store) ackedLocked() {
	if st.due.unwritten.IsZero() || st.due.alarm == nil || slices.ContainsFunc(st.logs[:], (*log).owesUnwritten) {
		return
	}
	st.due.alarm.Stop()
	st.due.unwritten = time.Time{}
}

// appendGapsLocked appends the gaps of a tally. They are synced with the next write, so that
// no drop is on disk before its gap.
func (st *store) appendGapsLocked(t *tally, reason string) {
	at := st.o.Clock.Now()
	for _, x := range t.uncertainGaps(reason) {
		st.appendGapLocked(at, x, st.gaps.latestSent)
	}
	for _, x := range t.gaps(reason) {
		st.appendGapLocked(at, x, st.gaps.latest)
	}
	st.due.syncNow = true
}

func (st *store) appendGapLocked(at clock.Stamp, x originGap, latest map[origin]uint64) {
	g := st.extendLocked(x.origin, x.Gap, latest)
	e := Entry{Class: Events, Sensor: x.sensor, Run: x.run, Stamp: at}
	latest[x.origin] = st.logs[Events].next
	st.stats.Gaps++
	st.appendLocked(time.Now(), e, &g, appendGap(nil, e, g))
}

// extendLocked merges a gap with the previous one, if possible, and returns it. The previous
// one is then dropped.
func (st *store) extendLocked(o origin, g Gap, latest map[origin]uint64) Gap {
	all, before, ok := st.gaps.extended(o, g, latest, st.logs[Events].flow("").cursor)
	if !ok {
		return g
	}
	if d := st.losses.drop; d != nil {
		if d.gaps.hi > 0 { // a gap that may be withdrawn is not merged
			return g
		}
		d.replaced = append(d.replaced, st.gaps.owed[before].form)
	}
	st.giveUpLocked(Events, before)
	return all
}

// appendAgainLocked appends a gap again because its entry was lost.
func (st *store) appendAgainLocked(form []byte) {
	if e, g, err := decodeEntry(Events, form); err == nil {
		st.appendLocked(time.Now(), e, g, form)
		st.due.syncNow = true
	}
}

// giveUpLocked marks an owed entry as done. The caller adds the gap.
func (st *store) giveUpLocked(c Class, id uint64) {
	if e := st.logs[c].inMemory(id); e != nil {
		e.lost = true
	}
	if g := st.logs[c].markDone(id); g != nil {
		st.losses.entries = append(st.losses.entries, heldEntry{c, id, g})
	} else if c == Events {
		st.removeGapLocked(id)
	}
}

// releaseLocked records that the segment need no longer keep an entry.
func (st *store) releaseLocked(x heldEntry) {
	if x.class == Events {
		st.removeGapLocked(x.id)
	}
	if x.seg == nil {
		return
	}
	x.seg.live--
	st.logs[x.class].unrecorded.add(x.id, x.id+1)
	st.acksDueLocked()
	st.retireLocked(x.seg)
}

// removeGapLocked removes the gap of an event that need not be sent any longer, if it is one.
func (st *store) removeGapLocked(id uint64) {
	x := st.gaps.remove(id)
	if x == nil {
		return
	}
	if x.damage {
		st.work.Set()
	}
	if x.recorded {
		st.acksDueLocked()
	}
}

// acksDueLocked makes the writer write the ack file within a second.
func (st *store) acksDueLocked() {
	if st.due.acks.IsZero() {
		st.due.acks = time.Now()
		st.work.Set()
	}
}

// heldLocked returns the ids of a log that are done but must be kept.
func (st *store) heldLocked(c Class) (out ids) {
	for _, x := range st.refusals.waiting {
		if x.class == c {
			out.add(x.id, x.id+1)
		}
	}
	for _, x := range st.losses.entries {
		if x.class == c {
			out.add(x.id, x.id+1)
		}
	}
	return out
}

// retireLocked marks a segment for removal if nothing needs it any more.
func (st *store) retireLocked(g *segment) {
	l, d := st.logs[g.class], st.losses.drop
	if g.live > 0 || l.active == g || d != nil && d.seg == g {
		return
	}
	if l.removeSegment(g) {
		st.garbage = append(st.garbage, g)
		st.acksDueLocked()
	}
}

// startRangesAgain forgets the ranges of ids that were given to what was found in directories,
// so that they can be given again. It returns false if an entry with such an id is still owed.
// No directory may be in use.
func (st *store) startRangesAgain() bool {
	st.mu.Lock()
	defer st.mu.Unlock()
	for _, l := range st.logs {
		if len(l.mem) > 0 && l.done.free(l.mem[0].id) < firstLive {
			return false
		}
	}
	for _, l := range st.logs {
		for _, f := range l.flows {
			f.givenFound = nil
		}
	}
	return true
}

// enqueueAllLocked enqueues all flows that may have something to send.
func (st *store) enqueueAllLocked() {
	for _, l := range st.logs {
		for _, sensor := range slices.Sorted(maps.Keys(l.flows)) {
			if f := l.flows[sensor]; f.onDisk || f.peekUnsent() != nil {
				st.schedule.enqueue(f)
			}
		}
	}
}

// maySendLocked reports whether anything may be sent. A later run must not find dropped
// entries, because it would send them after newer ones. So nothing is sent until a drop is on
// disk, or until the disk hangs.
func (st *store) maySendLocked() bool {
	return st.losses.drop == nil && !st.ended && (!st.losses.inFile || st.hung > 0)
}

// availableLocked returns what a flow has.
func (st *store) availableLocked(f *flow) availability {
	switch {
	case len(f.readAhead) > 0:
		return available
	case f.onDisk:
		return unread
	}
	e := f.peekUnsent()
	if e == nil {
		return nothing
	}
	if st.o.AtRisk == 0 && !e.synced && !st.down && st.hung == 0 {
		return notSynced
	}
	return available
}

// nextFlowLocked returns the flow whose turn it is, nil if none has anything now.
func (st *store) nextFlowLocked() *flow {
	events := st.logs[Events].flow("")
	return st.schedule.next(events, st.availableLocked, func() bool {
		return st.hung > 0 || st.waitsForRereadLocked(events)
	})
}

// waitsForRereadLocked reports whether the next entries of a flow could not be read and will
// be read again later.
func (st *store) waitsForRereadLocked(f *flow) bool {
	g := st.logs[f.class].nextSegmentOf(f)
	return g != nil && g.readErrors > 0 && !st.due.reread.IsZero()
}

// giveLocked returns the next item of a flow. ok is false if it is already done, or damaged.
func (st *store) giveLocked(f *flow) (item Item, ok bool) {
	id, form := f.pop()
	l := st.logs[f.class]
	if f.onDisk && f.readAheadBytes < st.readAheadRoomLocked()/2 {
		st.read.Set()
	}
	if !l.owed(id) {
		return Item{}, false
	}
	e, gap, err := decodeEntry(f.class, form)
	if err != nil { // everything in memory can be decoded
		if g := l.segmentOf(id); g != nil {
			g.corrupt.add(id, id+1)
		}
		f.rereadFrom(id)
		return Item{}, false
	}
	f.give(id)
	st.schedule.endTurn(f, form, itemID(f.class, id))
	took := e.Run
	if took == 0 {
		if took = l.runOf(id); took == 0 {
			took = st.run
		}
	}
	return Item{st.schedule.lastID, e, gap, st.sourceOfLocked(took)}, true
}

func (st *store) readAheadRoomLocked() int64 {
	return st.schedule.readAheadRoom(st.logs[Events].flow(""))
}

// memoryLocked returns what the entries in memory cost, in bytes.
func (st *store) memoryLocked() (n int64) {
	for _, l := range st.logs {
		n += l.bytes
	}
	return n
}

// diskBytesLocked returns the disk space in use, without files that are set aside.
func (st *store) diskBytesLocked() int64 {
	n := st.ackBytes + sizeOf(st.losses.segments) + sizeOf(st.garbage)
	for _, l := range st.logs {
		n += l.segmentBytes()
	}
	return n
}

func sizeOf(segs []*segment) (n int64) {
	for _, g := range segs {
		n += g.size
	}
	return n
}

// unwrittenBytesLocked returns how many bytes are in no file.
func (st *store) unwrittenBytesLocked() (n int64) {
	for _, l := range st.logs {
		for _, e := range l.unwritten() {
			n += frameLen(e)
		}
	}
	return n
}
