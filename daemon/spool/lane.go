package spool

import (
	"slices"
	"time"
)

// firstLive is the id of the first record appended in this run. What an
// earlier run left has lower ids, so that it stays ahead even where its files
// could only be read later.
const firstLive = 1 << 50

// Each directory in which something was found has a room of its own for the ids,
// below those of the one before. More than one is only where one was lost.
const (
	roomSize = 1 << 44
	rooms    = firstLive / roomSize
)

// room gives the room for ids of the n-th such directory, from 0.
func room(n int) span {
	hi := uint64(firstLive) - uint64(n)*roomSize
	return span{hi - roomSize, hi}
}

// entryCost is what an entry costs in memory besides its payload.
const entryCost = 128

// entry is a record in memory.
type entry struct {
	id      uint64
	payload []byte // nil when done
	sensor  string
	flow    *flow
	run     uint64
	seq     uint64    // the sensor's count it speaks for; a gap's is its first lost one
	at      time.Time // when it was appended
	seg     *segment  // the file it is written to; nil while it is in none
	synced  bool      // it is durably in seg
	done    bool
	lost    bool // done, but not acknowledged: a gap tells of it
	evicted bool // it is in its segment only
}

// log is one log. What is not done is either in mem, or in a segment only and
// then has a lower id than all in mem.
//
//	ids  ...done... | in segments only | in mem: synced | written | in no file | next
type log struct {
	class   Class
	flows   map[string]*flow // by sensor
	mem     []*entry         // ascending; done ones are taken out when convenient
	dead    int              // how many of mem are done
	bytes   int64            // what mem costs
	segs    []*segment
	done    ids    // every id below next is in here or is a record still owed
	next    uint64 // the id of the next record
	pending int    // records owed
}

func newLog(c Class) *log {
	l := &log{class: c, flows: map[string]*flow{}, next: firstLive}
	l.done.add(0, firstLive)
	return l
}

func (e *entry) cost() int64 { return int64(len(e.payload)) + entryCost }

// push takes a record in.
func (l *log) push(e *entry) {
	e.id = l.next
	l.next++
	e.flow = l.flow(e.sensor)
	e.flow.push(e)
	l.mem = append(l.mem, e)
	l.bytes += e.cost()
	l.pending++
}

// entry gives the entry of an id, or nil where it is not in memory.
func (l *log) entry(id uint64) *entry {
	i, ok := slices.BinarySearchFunc(l.mem, id, func(e *entry, id uint64) int {
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

// segment gives the segment that spans an id, or nil.
func (l *log) segment(id uint64) *segment {
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

// owed reports whether id names a record that is not done.
func (l *log) owed(id uint64) bool { return id < l.next && !l.done.has(id) }

// ahead puts what was found in a directory ahead of what there is, as the ids of
// a room. Of what is on disk of a flow all is given anew.
func (l *log) ahead(room span, segs []*segment, done ids, given map[string]uint64, pending int) {
	if len(segs) == 0 {
		return
	}
	for _, old := range []span{{0, room.lo}, {room.hi, l.next}} {
		for _, x := range l.done.within(old.lo, old.hi) {
			done.add(x.lo, x.hi)
		}
	}
	l.done = done
	l.segs = append(segs, l.segs...)
	l.pending += pending
	for _, g := range segs {
		l.flowsOf(g, func(f *flow) {
			f.back(0)
			f.cursor = 0
			f.gave(room.lo, given[f.sensor])
		})
	}
}

// settle makes an owed record done and gives the segment it is in, or nil.
func (l *log) settle(id uint64) *segment {
	l.done.add(id, id+1)
	l.pending--
	e := l.entry(id)
	if e == nil {
		return l.segment(id)
	}
	l.bytes -= int64(len(e.payload))
	e.payload, e.done = nil, true
	l.dead++
	l.trim()
	return e.seg
}

// trim takes done entries out of mem.
func (l *log) trim() {
	for len(l.mem) > 0 && l.mem[0].done {
		l.shift()
	}
	if l.dead > len(l.mem)/2+32 {
		l.bury()
	}
}

// bury takes all done entries out of mem.
func (l *log) bury() {
	l.mem = slices.DeleteFunc(l.mem, func(e *entry) bool { return e.done })
	l.bytes -= int64(l.dead) * entryCost
	l.dead = 0
}

func (l *log) shift() {
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

// evict takes entries that are on disk out of memory, oldest first, until mem
// costs no more than keep.
func (l *log) evict(keep int64) {
	for len(l.mem) > 0 && (l.mem[0].done || l.mem[0].synced && l.bytes > keep) {
		l.shift()
	}
}

// unwritten gives the entries that are in no file and not done, oldest first.
func (l *log) unwritten() []*entry {
	i := len(l.mem)
	for i > 0 && l.mem[i-1].seg == nil {
		i--
	}
	out := make([]*entry, 0, len(l.mem)-i)
	for _, e := range l.mem[i:] {
		if !e.done {
			out = append(out, e)
		}
	}
	return out
}

// unsynced calls f for the entries that are not durable, done or not, newest
// first.
func (l *log) unsynced(f func(*entry)) {
	for _, e := range slices.Backward(l.mem) {
		if e.synced {
			return
		}
		f(e)
	}
}

// oldest gives when the first was appended of those that are in no file and of
// those that are written but not durable; zero where there is none.
func (l *log) oldest() (dirty, unsynced time.Time) {
	l.unsynced(func(e *entry) {
		switch {
		case e.done:
		case e.seg == nil:
			dirty = e.at
		default:
			unsynced = e.at
		}
	})
	return dirty, unsynced
}
