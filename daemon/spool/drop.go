package spool

import "fieldpost/daemon/durable"

// A segment, or the part of it that belongs to some sensors, is dropped in one write: the
// gaps and the drop are in the same frame of the ack file. Nothing is sent until that frame
// is on disk, and if the write fails nothing is dropped. Otherwise a daemon that is killed
// while its disk fails would find the segment again, and send entries that it had reported as
// lost, after newer ones.

// drop is a segment, or a part of one, that is about to be dropped. The lock of the store
// guards it.
type drop struct {
	seg      *segment
	part     bool     // only a part is dropped, the rest stays
	ids      []uint64 // the owed entries that are dropped
	lost     int      // number of entries lost
	gaps     span     // the ids of the gaps that report it
	replaced [][]byte // the forms of gaps that those have replaced
}

// drop drops the entries of some sensors from a segment, and reports them in gaps. If which
// is nil, or if the segment cannot be read completely, it drops the whole segment. If it
// drops only a part, it does not change the file. An error comes from the disk; then nothing
// is dropped.
func (w *writer) drop(g *segment, reason string, which func(sensor string) bool) error {
	st := w.st
	if st.logs[g.class].active == g {
		if err := w.rollSegment(g.class); err != nil {
			return err
		}
	}
	data, err := readSegment(w.disk, g, g.size)
	if err != nil {
		data = nil
	}
	st.mu.Lock()
	t, d := st.tallySegmentLocked(g, data, which)
	st.losses.drop = d
	if !d.part {
		st.losses.segments = append(st.losses.segments, g)
	}
	d.gaps.lo = st.logs[Events].next
	if d.lost > 0 {
		st.appendGapsLocked(t, reason)
	}
	d.gaps.hi = st.logs[Events].next
	if st.hung > 0 {
		st.finishDropLocked(false)
	}
	st.mu.Unlock()
	err = w.recordGaps()
	st.mu.Lock()
	defer st.mu.Unlock()
	switch {
	case st.losses.drop == nil: // the disk hung
	case err != nil:
		st.undoDropLocked()
	default:
		st.finishDropLocked(true)
	}
	return err
}

// tallySegmentLocked adds up the owed entries of a segment: of some sensors, or of all if
// which is nil or if not all can be read. data is the content of the file.
func (st *store) tallySegmentLocked(g *segment, data []byte, which func(sensor string) bool) (*tally, *drop) {
	t, l, d := newTally(), st.logs[g.class], &drop{seg: g, part: which != nil}
	var known ids
	at := durable.Scan(data, headerSize)
	for at.Next() {
		if id := g.off + at.Seq; id >= g.lo && id < g.hi && l.owed(id) {
			known.add(id, id+1)
			h, ok := peek(at.Payload)
			if which != nil && (!ok || !which(string(h.sensor))) {
				continue
			}
			t.addEntry(g.run, at.Payload, l.knownFlow(h.sensor).mayHaveCome(id))
			d.ids = append(d.ids, id)
		}
	}
	d.lost = t.n
	unread := false
	for id := l.done.free(g.lo); id < g.hi; id = l.done.free(id + 1) {
		if known.has(id) {
			continue
		}
		if which != nil {
			return st.tallySegmentLocked(g, data, nil)
		}
		unread = true
		switch x := st.gaps.owed[id]; {
		case g.class != Events:
		case x != nil:
			t.addEntry(g.run, x.form, false)
		default: // an answer, a fault or an event
			t.addUncounted(g.run, 1, true)
		}
		d.ids = append(d.ids, id)
		d.lost++
	}
	if unread { // so its content is known only approximately
		t.addSegment(g)
	}
	return t, d
}

// finishDropLocked completes the drop. recorded says whether the ack file has it.
func (st *store) finishDropLocked(recorded bool) {
	d := st.losses.drop
	g := d.seg
	l := st.logs[g.class]
	for _, id := range d.ids {
		switch {
		case !l.owed(id):
		case d.part && !recorded:
			st.giveUpLocked(g.class, id)
		default:
			l.markDone(id)
			g.live--
		}
	}
	if !d.part {
		g.live = 0
		l.segs = without(l.segs, g)
	}
	if d.lost > 0 {
		st.stats.Dropped += uint64(d.lost)
		st.timesFull++
	}
	st.losses.drop = nil
	st.ready.Set()
	st.retireLocked(g)
}

// undoDropLocked keeps the segment and withdraws its gaps, because the drop could not be
// written.
func (st *store) undoDropLocked() {
	d, l := st.losses.drop, st.logs[Events]
	for id := d.gaps.lo; id < d.gaps.hi; id++ {
		l.markDone(id)
		st.removeGapLocked(id)
	}
	st.losses.segments = without(st.losses.segments, d.seg)
	st.losses.drop = nil
	for _, form := range d.replaced {
		st.appendAgainLocked(form)
	}
	st.retireLocked(d.seg)
	st.ready.Set()
}

// reportable holds drops that can be released when their gaps are on disk.
type reportable struct {
	entries  []heldEntry
	segments []*segment
}

// releaseReportedLocked releases lost entries, because their gaps are on disk.
func (st *store) releaseReportedLocked(reported reportable) {
	x := &st.losses
	x.entries = append([]heldEntry(nil), x.entries[len(reported.entries):]...)
	if x.inFile && len(x.entries) == 0 {
		x.inFile = false
		st.ready.Set()
	}
	x.segments = append([]*segment(nil), x.segments[len(reported.segments):]...)
	st.garbage = append(st.garbage, reported.segments...)
	if len(reported.segments) > 0 {
		st.acksDueLocked()
	}
	for _, g := range reported.segments {
		for _, id := range st.gaps.within(g) {
			st.removeGapLocked(id)
		}
	}
	for _, e := range reported.entries {
		st.releaseLocked(e)
	}
}
