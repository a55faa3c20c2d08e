package spool

// flow is what a lane holds of one sensor; the events are one flow all together.
// Each flow is given in its order, and the flows take turns; see turns.go.
//
//	ids  ...given... | stash | in segments only, from readTo on | unsent
type flow struct {
	class  Class
	sensor string
	tag    int64    // of the link so much has been charged to it, as turns.go says
	queued bool     // it is in Spool.active
	unsent []*entry // in memory and not given, ascending, from first on; some are done or on disk only by now
	first  int
	stash  []piece           // read back and not given; all before readTo
	held   int64             // bytes of stash
	onDisk bool              // segments may hold more that is not given
	readTo uint64            // and if so from here on
	cursor uint64            // behind the last that was given since the latest rewind
	live   uint64            // behind the last that was ever given of those appended in this run
	old    map[uint64]uint64 // behind the last that was, or perhaps was, of those found in a directory, by room
}

// piece is a record that was read back.
type piece struct {
	id      uint64
	payload []byte
}

// flow gives the flow of a sensor, made where there is none.
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

// known gives the flow of a sensor whose name is in a payload, or nil.
func (l *log) known(sensor []byte) *flow {
	if l.class == Events {
		return l.flows[""]
	}
	return l.flows[string(sensor)]
}

// sender gives the flow of a record, or nil.
func (l *log) sender(payload []byte) *flow {
	h, _ := peek(payload)
	return l.known(h.sensor)
}

// push puts an entry behind all.
func (f *flow) push(e *entry) {
	if f.prune(); f.first == len(f.unsent) {
		f.unsent, f.first = f.unsent[:0], 0
	} else if f.first > len(f.unsent)/2+32 {
		n := copy(f.unsent, f.unsent[f.first:])
		clear(f.unsent[n:])
		f.unsent, f.first = f.unsent[:n], 0
	}
	f.unsent = append(f.unsent, e)
}

// prune forgets what need not be given from memory any more, and gives what is to
// be given next of the rest; nil where there is none.
func (f *flow) prune() *entry {
	for ; f.first < len(f.unsent); f.shift() {
		if e := f.unsent[f.first]; !e.done && !e.evicted {
			return e
		}
	}
	return nil
}

func (f *flow) shift() {
	f.unsent[f.first] = nil
	f.first++
}

// pop takes the next record, of those that are ready.
func (f *flow) pop() (id uint64, payload []byte) {
	if len(f.stash) > 0 {
		x := f.stash[0]
		f.stash[0] = piece{}
		f.stash = f.stash[1:]
		f.held -= x.cost()
		return x.id, x.payload
	}
	e := f.unsent[f.first]
	f.shift()
	f.readTo = max(f.readTo, e.id+1)
	return e.id, e.payload
}

// cost is what a piece costs in memory.
func (x piece) cost() int64 { return int64(len(x.payload)) + 32 }

// back forgets what was read back from id on: it is read again.
func (f *flow) back(id uint64) {
	f.stash, f.held, f.onDisk, f.readTo = nil, 0, true, id
}

// give takes note that an id is given.
func (f *flow) give(id uint64) {
	f.cursor = id + 1
	f.gave(id, id+1)
}

// gave takes note that of the room of an id all before another has been given.
func (f *flow) gave(id, until uint64) {
	if id >= firstLive {
		f.live = max(f.live, until)
		return
	}
	if f.old == nil {
		f.old = map[uint64]uint64{}
	}
	f.old[id/roomSize] = max(f.old[id/roomSize], until)
}

// givenOf gives what is behind the last that was given in the room of an id.
func (f *flow) givenOf(id uint64) uint64 {
	if id >= firstLive {
		return f.live
	}
	return f.old[id/roomSize]
}

// mayHaveCome reports whether an owed id has been given, in this run or perhaps
// an earlier one: then the broker may have it, and only its acknowledgement be
// on its way or lost. As a flow is given in its order, one id tells it.
func (f *flow) mayHaveCome(id uint64) bool { return f != nil && id < f.givenOf(id) }

// flowsOf calls do for the flows of which a segment has records.
func (l *log) flowsOf(g *segment, do func(*flow)) {
	for _, sensor := range g.sensors() {
		do(l.flow(sensor))
	}
}

// has reports whether a segment has records of a flow.
func (g *segment) has(f *flow) bool {
	if g.class == Events {
		return true
	}
	for _, x := range g.sums {
		if x.sensor == f.sensor {
			return true
		}
	}
	return false
}

// memoryFrom gives the id from which on what is owed is in memory.
func (l *log) memoryFrom() uint64 {
	if len(l.mem) > 0 {
		return l.mem[0].id
	}
	return l.next
}

// rewind makes all that is owed unsent.
func (l *log) rewind() {
	for _, f := range l.flows {
		f.cursor, f.tag = 0, 0
	}
	l.arrange()
}

// arrange finds out anew what is unsent, and where it is.
func (l *log) arrange() {
	for _, f := range l.flows {
		f.unsent, f.first, f.stash, f.held, f.onDisk, f.readTo = nil, 0, nil, 0, false, f.cursor
	}
	for _, e := range l.mem {
		if !e.done && e.id >= e.flow.cursor {
			e.flow.push(e)
		}
	}
	for _, g := range l.segs {
		if g.live > 0 && g.lo < l.memoryFrom() {
			l.flowsOf(g, func(f *flow) { f.onDisk = true })
		}
	}
}

// nextOf gives the segment that may hold the flow's next record, where that is to be
// read back; nil where none is.
func (l *log) nextOf(f *flow) *segment {
	from := l.memoryFrom()
	for _, g := range l.segs {
		switch {
		case g.lo >= from, f.readTo >= from:
			return nil
		case g.hi > f.readTo && g.live > 0 && g.has(f):
			return g
		}
	}
	return nil
}
