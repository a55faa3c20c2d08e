package spool

import (
	"context"
	"errors"
	"io/fs"
	"slices"
	"time"

	"fieldpost/daemon/durable"
	"fieldpost/daemon/health"
)

// maxReadAhead bounds the bytes that are read back and not returned by Next yet.
const maxReadAhead = 4 * segmentSize

// maxReads is how often the reader tries to read a segment.
const maxReads = 3

// errMissing is the error when a segment does not contain what it should.
var errMissing = errors.New("record is missing")

// reader reads back from segments what Next and Refuse need. It has its own goroutine, so
// that a disk that hangs delays neither the writer nor the sender.
type reader struct {
	o     Options
	disk  disk
	st    *store
	dir   *directory
	watch diskWatch
}

// run reads until ctx ends.
func (r *reader) run(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-r.st.read.C():
			r.watch.do(func() {
				for ctx.Err() == nil && r.readOne() {
				}
			})
		}
	}
}

// readOne makes one pending read. It reports whether there was one.
func (r *reader) readOne() bool {
	r.st.mu.Lock()
	if unread := r.st.refusals.unread; len(unread) > 0 {
		r.st.refusals.unread = unread[1:]
		r.st.mu.Unlock()
		r.refuseUnread(unread[0])
		return true
	}
	g, ended := r.nextSegmentLocked()
	r.st.mu.Unlock()
	if g != nil {
		r.readBack(g)
	}
	return g != nil || ended
}

// nextSegmentLocked returns the segment to read back next: for a flow that has nothing read
// ahead, or else for one that has little; of these, for the one whose turn is first. It skips
// flows whose segment will be read again later. ended reports whether it found a flow that
// has nothing more on disk.
func (r *reader) nextSegmentLocked() (seg *segment, ended bool) {
	st := r.st
	var best *flow
	room := st.readAheadRoomLocked()
	consider := func(f *flow) {
		if !f.onDisk || f.readAheadBytes > room/2 && f.readAheadBytes > 0 {
			return
		}
		short := f.readAheadBytes == 0
		g := st.logs[f.class].nextSegmentOf(f)
		switch {
		case g == nil:
			f.onDisk, ended = false, true
			st.ready.Set()
		case g.readErrors > 0 && !st.due.reread.IsZero():
		case best == nil, short && best.readAheadBytes > 0, short == (best.readAheadBytes == 0) && f.goesBefore(best):
			best, seg = f, g
		}
	}
	consider(st.logs[Events].flow(""))
	if best != nil && best.readAheadBytes == 0 {
		return seg, ended
	}
	for _, f := range st.schedule.active {
		consider(f)
	}
	return seg, ended
}

// readBack reads a segment and hands its entries to their flows.
func (r *reader) readBack(g *segment) {
	st := r.st
	st.mu.Lock()
	size, until, corrupt := g.size, g.hi, len(g.corrupt.spans) > 0
	st.mu.Unlock()
	data, err := readSegment(r.disk, g, size)
	switch {
	case err == nil && corrupt:
		err = errForm
	case err == nil:
		st.mu.Lock()
		err = r.distributeLocked(g, data, until)
		st.mu.Unlock()
	}
	if err != nil {
		r.failed(g, err)
		return
	}
	st.ready.Set()
}

// distributeLocked hands the entries of a segment to the flows that need them next. It fails
// if an owed entry before until is not in data.
func (r *reader) distributeLocked(g *segment, data []byte, until uint64) error {
	l := r.st.logs[g.class]
	until = min(until, l.memoryFrom())
	var takers []*taker
	by := map[*flow]*taker{}
	l.flowsIn(g, func(f *flow) {
		if by[f] == nil && f.onDisk && l.nextSegmentOf(f) == g {
			by[f] = &taker{flow: f, room: r.st.readAheadRoomLocked() - f.readAheadBytes}
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
		if t := by[l.knownFlow(h.sensor)]; t != nil {
			t.addEntry(id, at.Payload)
		}
	}
	if slices.Contains(l.segs, g) && expected < until {
		return errMissing
	}
	g.readErrors = 0
	for _, t := range takers {
		t.finish(until, len(data))
		t.flow.onDisk = l.nextSegmentOf(t.flow) != nil
	}
	return nil
}

// taker is a flow that receives entries of a segment.
type taker struct {
	flow  *flow
	room  int64
	full  bool
	found []readEntry // share the data
	bytes int
}

// addEntry adds an entry if there is room, or if it is the first.
func (t *taker) addEntry(id uint64, form []byte) {
	if t.full || id < t.flow.readTo {
		return
	}
	x := readEntry{id, form}
	if t.room -= x.cost(); t.room < 0 && len(t.found) > 0 {
		t.full = true
		t.flow.readTo = id
		return
	}
	t.found = append(t.found, x)
	t.bytes += len(form)
}

// finish adds the entries to the flow. It copies them if they are a small part of the data,
// so that they do not keep the rest in memory.
func (t *taker) finish(until uint64, all int) {
	if t.bytes < all/2 {
		b := make([]byte, 0, t.bytes)
		for k, x := range t.found {
			b = append(b, x.form...)
			t.found[k].form = b[len(b)-len(x.form) : len(b) : len(b)]
		}
	}
	f := t.flow
	f.readAhead = append(f.readAhead, t.found...)
	for _, x := range t.found {
		f.readAheadBytes += x.cost()
	}
	if !t.full {
		f.readTo = max(f.readTo, until)
	}
}

// failed handles a segment that could not be read completely. It is read again a second
// later, or what cannot be read is dropped.
func (r *reader) failed(g *segment, err error) {
	st := r.st
	if errors.Is(err, fs.ErrNotExist) { // the directory may be gone
		r.dir.verify.Store(true)
		st.work.Set()
	}
	defer st.ready.Set() // in any case, if only for the turn of another flow
	st.mu.Lock()
	if !slices.Contains(st.logs[g.class].segs, g) {
		st.mu.Unlock()
		return
	}
	if g.readErrors++; g.readErrors < maxReads && !errors.Is(err, errMissing) && !errors.Is(err, errForm) {
		st.due.reread = time.Now()
		st.work.Set()
		st.mu.Unlock()
		return
	}
	size := g.size
	st.mu.Unlock()
	r.o.Health.Raise(health.SpoolDamaged, subject, g.file()+": "+err.Error())
	r.loseUnreadable(g, size)
}

// loseUnreadable drops the owed entries that can no longer be read from a segment.
func (r *reader) loseUnreadable(g *segment, size int64) {
	readable := r.readableIDs(g, size)
	st := r.st
	st.mu.Lock()
	defer st.mu.Unlock()
	st.damaged = true
	st.work.Set()
	l, lost, t, corrupt := st.logs[g.class], 0, newTally(), g.corrupt
	g.corrupt = ids{}
	for id := l.done.free(g.lo); id < g.hi; id = l.done.free(id + 1) {
		if (!readable.has(id) || corrupt.has(id)) && l.inMemory(id) == nil {
			switch x := st.gaps.owed[id]; {
			case g.class != Events:
			case x != nil:
				st.appendAgainLocked(x.form)
			default: // an answer, a fault or an event
				t.addUncounted(g.run, 1, true)
			}
			st.giveUpLocked(g.class, id)
			lost++
		}
	}
	if lost == 0 { // it can be read after all; not at once, so that this is no endless loop
		st.due.reread = time.Now()
		return
	}
	if !g.damaged {
		g.damaged = true
		st.stats.Damaged++
	}
	t.addSegment(g)
	st.stats.Dropped += uint64(lost)
	st.appendGapsLocked(t, reasonDamaged)
}

// readableIDs returns the ids of the entries that can be read from a segment.
func (r *reader) readableIDs(g *segment, size int64) ids {
	var out ids
	data, err := readSegment(r.disk, g, size)
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
