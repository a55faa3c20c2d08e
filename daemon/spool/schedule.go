package spool

import "fieldpost/daemon/wake"

// Events are sent first, but after eventsInARow of them another entry is sent, if any is
// waiting. The others take turns by sensor and class: each flow is charged with the bytes
// that it has sent, and the flow with the lowest charge is next; edges win a tie. A flow that
// had nothing to send starts at the charge of the flow that was served last, so it saves up
// no credit. This is start-time fair queueing (Goyal, Vin and Cheng, SIGCOMM 1996). Its bound
// holds for links of any speed, even if the speed changes. So a sensor that sends little
// waits for at most one entry of each other sensor, however many the others have waiting.

// eventsInARow is how many events are sent before one other waiting entry.
const eventsInARow = 3

// maxLag is how far the charge of a flow that waited for the disk may stay behind the others,
// in bytes. It bounds how much that flow then sends before their turn.
const maxLag = 16 << 10

// flow is the entries of one sensor in one log. All events together are one flow. A flow is
// sent in order, and the flows take turns.
//
//	ids  ...returned... | read ahead | only in segments, from readTo on | unsent
type flow struct {
	class  Class
	sensor string
	tag    int64       // its charge, in bytes
	queued bool        // it is in scheduler.active
	unsent []*memEntry // in memory and not returned by Next, ascending, from first on; some may be done or evicted
	first  int

	readAhead      []readEntry       // read back and not returned; all before readTo
	readAheadBytes int64             // the cost of readAhead
	onDisk         bool              // segments may contain more that is not returned
	readTo         uint64            // if so, from this id on
	cursor         uint64            // after the last one returned since the latest rewind
	given          uint64            // after the last one ever returned of those appended in this run
	givenFound     map[uint64]uint64 // the same for those found in a directory, by id range; perhaps returned by an earlier run
}

// readEntry is an entry that was read back.
type readEntry struct {
	id   uint64
	form []byte
}

// cost returns its cost in memory.
func (x readEntry) cost() int64 { return int64(len(x.form)) + 32 }

// append adds an entry at the end.
func (f *flow) append(e *memEntry) {
	if f.peekUnsent(); f.first == len(f.unsent) {
		f.unsent, f.first = f.unsent[:0], 0
	} else if f.first > len(f.unsent)/2+32 {
		n := copy(f.unsent, f.unsent[f.first:])
		clear(f.unsent[n:])
		f.unsent, f.first = f.unsent[:n], 0
	}
	f.unsent = append(f.unsent, e)
}

// peekUnsent returns the next entry to return from memory, nil if there is none. It removes
// entries that are no longer needed.
func (f *flow) peekUnsent() *memEntry {
	for ; f.first < len(f.unsent); f.removeFirst() {
		if e := f.unsent[f.first]; !e.done && !e.evicted {
			return e
		}
	}
	return nil
}

// waits reports whether the flow has anything that is not returned.
func (f *flow) waits() bool { return f.onDisk || len(f.readAhead) > 0 || f.peekUnsent() != nil }

func (f *flow) removeFirst() {
	f.unsent[f.first] = nil
	f.first++
}

// pop removes and returns the next entry. There must be one.
func (f *flow) pop() (id uint64, form []byte) {
	if len(f.readAhead) > 0 {
		x := f.readAhead[0]
		f.readAhead[0] = readEntry{}
		f.readAhead = f.readAhead[1:]
		f.readAheadBytes -= x.cost()
		return x.id, x.form
	}
	e := f.unsent[f.first]
	f.removeFirst()
	f.readTo = max(f.readTo, e.id+1)
	return e.id, e.form
}

func (f *flow) dropReadAhead() { f.readAhead, f.readAheadBytes = nil, 0 }

// rereadFrom drops what was read ahead: the flow is read again from id on.
func (f *flow) rereadFrom(id uint64) {
	f.dropReadAhead()
	f.onDisk, f.readTo = true, id
}

// give records that Next returns an id.
func (f *flow) give(id uint64) {
	f.cursor = id + 1
	f.markGiven(id, id+1)
}

// markGiven records that all ids before until have been returned, in the range of id.
func (f *flow) markGiven(id, until uint64) {
	if id >= firstLive {
		f.given = max(f.given, until)
		return
	}
	if f.givenFound == nil {
		f.givenFound = map[uint64]uint64{}
	}
	f.givenFound[id/idRangeSize] = max(f.givenFound[id/idRangeSize], until)
}

// givenUntil returns the id after the last that was returned, in the range of id.
func (f *flow) givenUntil(id uint64) uint64 {
	if id >= firstLive {
		return f.given
	}
	return f.givenFound[id/idRangeSize]
}

// mayHaveCome reports whether an owed id has been returned, in this run or perhaps an earlier
// one. Then the broker may have it, and only the acknowledgement is lost or on its way. A
// flow is returned in order, so one id is enough to know.
func (f *flow) mayHaveCome(id uint64) bool { return f != nil && id < f.givenUntil(id) }

// goesBefore reports whether f's turn is before x's.
func (f *flow) goesBefore(x *flow) bool {
	if f.tag != x.tag {
		return f.tag < x.tag
	}
	return f.class > x.class // edges before samples
}

// scheduler decides whose turn it is. The lock of the store guards it.
type scheduler struct {
	ready, read wake.Signal // for the sender, and for the reader

	active []*flow // flows of edges and samples that may have something to send
	clock  int64   // the charge of the flow served last, before its turn
	inARow int     // events sent in a row while others waited
	last   *flow   // the flow served last
	lastID uint64  // the id of its item
}

// reset forgets all turns.
func (t *scheduler) reset() {
	for _, f := range t.active {
		f.queued = false
	}
	*t = scheduler{ready: t.ready, read: t.read}
}

// enqueue records that a flow may have something to send.
func (t *scheduler) enqueue(f *flow) {
	if f.class == Events || f.queued {
		return
	}
	f.queued = true
	f.tag = max(f.tag, t.clock-1) // so that it wins a tie
	t.active = append(t.active, f)
}

// beginTurn begins a flow's turn.
func (t *scheduler) beginTurn(f *flow) {
	f.tag = max(f.tag, t.clock-maxLag)
	t.clock = max(t.clock, f.tag)
}

// endTurn charges a flow for the item that it sent.
func (t *scheduler) endTurn(f *flow, form []byte, item uint64) {
	f.tag += int64(len(form)) + entryCost
	t.last, t.lastID = f, item
}

// availability says what a flow has to send.
type availability int

const (
	nothing   availability = iota
	notSynced              // not yet on disk
	unread                 // on disk, must be read first
	available
)

// next returns the flow whose turn it is, nil if none has anything now. events is the flow of
// the events. of returns what a flow has. mayPass reports whether others may pass events that
// must be read first.
func (t *scheduler) next(events *flow, of func(*flow) availability, mayPass func() bool) *flow {
	can := of(events)
	if can == unread {
		t.read.Set()
		if !mayPass() {
			return nil
		}
	}
	if can == available && t.inARow < eventsInARow {
		t.inARow++
		return events
	}
	t.inARow = 0
	f := t.leastCharged(of)
	if f == nil && can == available {
		return events
	}
	if f != nil {
		t.beginTurn(f)
	}
	return f
}

// leastCharged returns the available flow with the lowest charge, except the events.
func (t *scheduler) leastCharged(of func(*flow) availability) (best *flow) {
	keep, wanted := t.active[:0], false
	for _, f := range t.active {
		switch of(f) {
		case nothing:
			f.queued = false
			continue
		case unread:
			wanted = true
		case available:
			if best == nil || f.goesBefore(best) {
				best = f
			}
		}
		keep = append(keep, f)
	}
	clear(t.active[len(keep):])
	t.active = keep
	if wanted {
		t.read.Set()
	}
	return best
}

// readAheadRoom returns how many bytes may be read ahead for each flow.
func (t *scheduler) readAheadRoom(events *flow) int64 {
	n := int64(0)
	for _, f := range t.active {
		if f.onDisk || len(f.readAhead) > 0 {
			n++
		}
	}
	if events.onDisk || len(events.readAhead) > 0 {
		n++
	}
	return maxReadAhead / max(n, 1)
}
