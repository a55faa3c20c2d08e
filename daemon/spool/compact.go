package spool

import (
	"errors"
	"io/fs"
	"slices"

	"fieldpost/daemon/durable"
)

// compactor rewrites segments of which little is still needed. It joins a segment with
// the ones before it if these are small too, so that there are few files. The new file
// replaces the first of them in one step. Before that, the ack file records where the new
// file ends and which segments it replaces, so that after a crash the next run knows
// whether it finds the old file or the new one.
//
// The amount of rewriting is bounded: one byte for each byte of samples and edges that is
// written, plus the size limit once per run. When that is used up, or if the disk has no
// room for the new file, whole segments are dropped instead.
//
// Only the writer's goroutine uses it.
type compactor struct {
	w      *writer
	st     *store
	credit int64    // bytes that may still be rewritten
	failed *segment // its new file could not be put in its place; if that fails once more, it stays as it is
}

// affords reports whether n bytes may be rewritten.
func (c *compactor) affords(n int64) bool { return n <= c.credit }

// compact rewrites a segment without the entries that are done.
func (c *compactor) compact(g *segment) error {
	w, st := c.w, c.st
	if st.logs[g.class].active == g {
		if err := w.rollSegment(g.class); err != nil {
			return err
		}
	}
	st.mu.Lock()
	group := c.groupLocked(g)
	st.mu.Unlock()
	if group == nil {
		return w.removeGarbage() // nothing in it is needed, or it is gone or cannot be read
	}
	first := group[0]
	fresh := &segment{class: first.class, run: first.run, number: first.number, off: first.off}
	b := first.header()
	for _, x := range group {
		data, err := readSegment(w.disk, x, x.size)
		if err == nil {
			b, err = c.copyNeeded(fresh, x, data, b)
		}
		if err != nil {
			c.spare(x, err)
			return nil
		}
	}
	if fresh.frames == 0 {
		return w.removeGarbage() // all was acknowledged meanwhile
	}
	if err := c.recordExchange(group, fresh); err != nil {
		return err
	}
	switch err := c.put(first, b); {
	case noRoom(err):
		c.credit = 0 // so whole segments are dropped, which needs no room
		return nil
	case errors.Is(err, durable.ErrGone), err != nil && c.failed != first:
		c.failed = first // perhaps it is the disk
		return err
	case err != nil:
		c.spare(first, err)
		return nil
	}
	if err := w.disk.Sync(); err != nil {
		return err
	}
	c.credit -= int64(len(b))
	c.exchange(group, fresh, int64(len(b)))
	return w.removeGarbage()
}

// put gives the file of a segment a new content, or leaves it as it was.
func (c *compactor) put(g *segment, b []byte) error {
	tmp := g.file() + durable.TmpExt
	err := durable.WriteNew(c.w.disk, tmp, b)
	if err == nil {
		if err = c.w.disk.Rename(tmp, g.file()); err != nil {
			_ = c.w.disk.Remove(tmp) // the first error is the one to report
		}
	}
	return err
}

// spare records that a segment cannot be rewritten, because its file was removed, cannot be
// read or replaced, or does not have all that is needed. That must not keep other entries from
// the disk. The reader reports what is lost once it needs the segment, or a gap does when the
// segment is dropped.
func (c *compactor) spare(g *segment, err error) {
	c.w.o.Log.Warn("segment of the spool cannot be rewritten", "dir", c.w.o.Dir, "file", g.file(), "err", err)
	if errors.Is(err, fs.ErrNotExist) {
		c.w.dir.verify.Store(true) // whoever removed this file may have removed others
	}
	c.st.mu.Lock()
	defer c.st.mu.Unlock()
	g.noRewrite = true
}

// recordExchange durably records which segments the new file replaces. If the first of them
// ended later, it also records where the new file ends: entries after that are not needed, so
// neither the old file nor the new one need have them.
func (c *compactor) recordExchange(group []*segment, fresh *segment) error {
	if !c.w.acks.isOpen() {
		if err := c.w.rewriteAcks(); err != nil {
			return err
		}
	}
	first, last := group[0], fresh.syncedUntil-1-fresh.off
	return c.w.appendAcks(func(f *ackEncoder) {
		if first.syncedUntil > fresh.syncedUntil { // otherwise it would look as if it had been cut short
			// Also in memory, and before the exchange: addSensorsLocked and all later records
			// of this segment use that, and the latest record counts.
			first.syncedUntil = fresh.syncedUntil
			f.addWrittenUntil(first, last)
		}
		if len(group) > 1 {
			f.addJoined(group, last)
		}
		f.addSensorsLocked(c.st)
	}, true)
}

// groupLocked returns a segment and those before it that should be joined with it; nil if
// the segment need not be rewritten.
func (c *compactor) groupLocked(g *segment) []*segment {
	segs := c.st.logs[g.class].segs
	k := slices.Index(segs, g)
	if k < 0 || g.live == 0 || g.noRewrite {
		return nil
	}
	size := g.size * int64(g.live) / int64(max(g.frames, 1)) // approximately what is left of it
	group := []*segment{g}
	for k--; k >= 0; k-- {
		x := segs[k]
		if x.damaged || x.noRewrite || x.run != g.run || x.off != g.off || x.live == 0 || slices.Contains(c.w.repairs.torn, x) ||
			x.size > 2*size || x.size+size > segmentSize || !c.affords(x.size+size) || c.isTooLong(x, g) {
			break
		}
		size += x.size
		group = append([]*segment{x}, group...)
	}
	return group
}

// isTooLong reports whether the entries of two segments are too far apart in time for one
// file: the entries of a file become too old together.
func (c *compactor) isTooLong(first, last *segment) bool {
	d, known := ageOf(last.newest, first.oldest)
	return c.st.o.MaxAge > 0 && (!known || d > c.st.o.MaxAge/8)
}

// copyNeeded appends the frames of g that are still needed to b, and adds them to fresh. It
// fails if any of them is not in data: the file that replaces g would hide that loss.
func (c *compactor) copyNeeded(fresh, g *segment, data, b []byte) ([]byte, error) {
	st := c.st
	st.mu.Lock()
	defer st.mu.Unlock()
	l := st.logs[g.class]
	keep := st.heldLocked(g.class)
	missing := neededLocked(l, g, &keep)
	at := durable.Scan(data, headerSize)
	for at.Next() {
		id := g.off + at.Seq
		if id < g.lo || id >= g.hi || !l.owed(id) && !keep.has(id) {
			continue
		}
		h, ok := peek(at.Payload)
		if !ok {
			return nil, errForm
		}
		missing--
		b = durable.AppendFrame(b, at.Seq, at.Payload)
		fresh.syncedUntil = id + 1
		fresh.add(string(h.sensor), h.run, h.seq, durable.FrameLen(at.Payload))
	}
	if missing > 0 {
		return nil, errMissing
	}
	return b, nil
}

// neededLocked returns how many entries of a segment are owed or held.
func neededLocked(l *log, g *segment, held *ids) uint64 {
	return g.hi - g.lo - l.done.count(g.lo, g.hi) + held.count(g.lo, g.hi)
}

// exchange makes the first segment of a group replace all: its file is the new one.
func (c *compactor) exchange(group []*segment, fresh *segment, size int64) {
	st := c.st
	st.mu.Lock()
	defer st.mu.Unlock()
	first, last := group[0], group[len(group)-1]
	l := st.logs[first.class]
	for _, x := range group[1:] {
		first.live += x.live
		l.segs = without(l.segs, x)
		st.garbage = append(st.garbage, x)
		st.moveEntriesLocked(x, first)
	}
	first.hi, first.newest = last.hi, last.newest
	first.size, first.synced, first.syncedUntil = size, size, fresh.syncedUntil
	first.sums, first.frames = fresh.sums, fresh.frames
	st.acksDueLocked()
	st.retireLocked(first)
}

// moveEntriesLocked records that everything that was in one segment is in another.
func (st *store) moveEntriesLocked(from, to *segment) {
	for _, e := range st.logs[from.class].mem {
		if e.seg == from {
			e.seg = to
		}
	}
	for k := range st.losses.entries {
		if st.losses.entries[k].seg == from {
			st.losses.entries[k].seg = to
		}
	}
	for k := range st.refusals.waiting {
		if st.refusals.waiting[k].seg == from {
			st.refusals.waiting[k].seg = to
		}
	}
}
