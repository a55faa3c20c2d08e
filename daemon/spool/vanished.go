package spool

import (
	"cmp"
	"errors"
	"slices"
	"time"

	"fieldpost/daemon/durable"
	"fieldpost/daemon/health"
)

// Somebody may remove, rename or mount over the directory, or a file in it, while it is open.
// Writes and syncs still succeed then, but without effect. So after each sync, and on
// [Spool.Verify], the names are compared with the open files. If they differ, the directory
// is created again, and everything in memory, in the open files and read ahead is written to
// it; a gap covers the rest.

// verify compares the names with the open files. It restores immediately what it can.
func (w *writer) verify() error {
	if !w.dir.attached {
		return nil
	}
	if err := w.disk.Same(); err != nil {
		return err
	}
	var gone error
	for i := range w.segments {
		if f := w.segments[i].file; f != nil {
			if err := f.There(); err != nil {
				w.segmentFailed(Class(i), err)
				gone = cmp.Or(gone, err)
			}
		}
	}
	if gone != nil {
		return gone
	}
	if err := w.verifyAcks(); err != nil {
		return err
	}
	if w.dir.recorded {
		if err := w.dir.putFilesBack(); err != nil {
			return err
		}
	}
	return w.dir.putJournalsBack()
}

func (w *writer) verifyAcks() error {
	err := w.acks.isThere()
	if !errors.Is(err, durable.ErrGone) {
		return err
	}
	w.dir.warnPutBack(ackName)
	return w.rewriteAcks()
}

// putFilesBack restores the identity file and the run file if they were removed. It also
// updates the identity file if the lock file was restored.
func (d *directory) putFilesBack() error {
	identify := func() error { d.identified = 0; return d.identify() }
	if d.place != d.disk.Place() {
		if err := identify(); err != nil {
			return err
		}
	}
	for _, x := range []struct {
		name  string
		write func() error
	}{{identityName, identify}, {runName, d.recordRun}} {
		if _, err := d.disk.Size(x.name); err != nil { // whatever it is, a new file helps
			d.warnPutBack(x.name)
			if err := x.write(); err != nil {
				return err
			}
		}
	}
	return nil
}

func (d *directory) warnPutBack(name string) {
	d.o.Log.Warn("file of the spool was removed; writing it again", "dir", d.o.Dir, "file", name)
}

// checkVanished checks after an error whether the directory is gone, and if so forgets it.
func (w *writer) checkVanished() bool {
	if w.dir.lock == nil || !errors.Is(w.disk.Same(), durable.ErrGone) {
		return false
	}
	w.loseDirectory()
	return true
}

// segmentFailed stops using the active segment of a log, because its file is gone or cannot
// be synced. Its entries go to a new one.
func (w *writer) segmentFailed(c Class, err error) {
	sw := &w.segments[c]
	if !errors.Is(err, durable.ErrGone) {
		sw.abandon()
		return
	}
	w.dir.verify.Store(true) // whoever removed this file may have removed others
	data := sw.readOpen()
	sw.closeFile() // nothing in it is of any use
	b := takeBack{st: w.st, t: newTally()}
	w.st.mu.Lock()
	l := w.st.logs[c]
	g := l.active
	b.addSegmentLocked(g, data)
	l.active = nil
	l.segs = without(l.segs, g)
	g.live = 0
	w.st.garbage = append(w.st.garbage, g) // so that it is not found missing again
	b.finishLocked()
	w.st.mu.Unlock()
	b.raise(w.o.Health, g.file()+" "+durable.ErrGone.Error())
}

// loseDirectory forgets the directory, because its name no longer leads to it, as if there
// had been none. The next attempt opens or creates one.
func (w *writer) loseDirectory() {
	w.dir.held.Store(false)
	data := map[*segment][]byte{}
	for i := range w.segments {
		sw := &w.segments[i]
		if sw.file != nil {
			data[sw.log.active] = sw.readOpen()
			sw.closeFile() // nothing in it is of any use
		}
		sw.newborn = false
	}
	w.acks.close()
	w.risks.remove()
	w.dir.giveUp()
	w.repairs.forget()
	b := takeBack{st: w.st, t: newTally()}
	w.st.mu.Lock()
	for _, l := range w.st.logs {
		for _, g := range l.segs {
			b.addSegmentLocked(g, data[g])
		}
		l.segs, l.active = nil, nil
		l.unrecorded, l.maybeWritten = ids{}, ids{}
	}
	w.st.forgetFilesLocked()
	b.finishLocked()
	w.st.mu.Unlock()
	b.raise(w.o.Health, "the directory "+durable.ErrGone.Error())
}

// forgetFilesLocked forgets everything about files that are gone.
func (st *store) forgetFilesLocked() {
	for _, x := range st.losses.entries {
		if x.class == Events {
			st.removeGapLocked(x.id)
		}
	}
	for _, g := range st.losses.segments {
		for _, id := range st.gaps.within(g) {
			st.removeGapLocked(id)
		}
	}
	for i := range st.refusals.waiting {
		st.refusals.waiting[i].seg = nil
	}
	st.losses.entries, st.losses.segments, st.garbage, st.refusals.unread = nil, nil, nil, nil
	st.ackBytes, st.due.acks, st.due.reread, st.due.syncNow = 0, time.Time{}, time.Time{}, true
	st.gaps.forgetFiles()
}

// takeBack loads the owed entries of segments whose files are gone back into memory.
type takeBack struct {
	st    *store
	mem   [classes][]*memEntry
	t     *tally
	lost  int
	again [][]byte // the forms of gaps that are no longer in a file
}

// addSegmentLocked takes a segment back. Entries that are not in memory come from data;
// entries that are not there either are lost. Call it in the order of the segments.
func (b *takeBack) addSegmentLocked(g *segment, data []byte) {
	st, l := b.st, b.st.logs[g.class]
	for _, e := range l.mem {
		if e.seg == g {
			e.seg, e.synced = nil, false
			l.mustRewrite = true
		}
	}
	var found ids
	take := func(id uint64, form []byte) {
		if id < g.lo || id >= g.hi || !l.owed(id) || found.has(id) || l.inMemory(id) != nil {
			return
		}
		if e, gap, err := decodeEntry(g.class, form); err == nil {
			found.add(id, id+1)
			b.mem[g.class] = append(b.mem[g.class], &memEntry{
				id: id, form: slices.Clone(form), sensor: e.Sensor, flow: l.flow(e.Sensor),
				run: e.Run, seq: countOf(e, gap), at: time.Now(),
			})
		}
	}
	at := durable.Scan(data, headerSize)
	for at.Next() {
		take(g.off+at.Seq, at.Payload)
	}
	for _, f := range l.flows {
		for _, x := range f.readAhead {
			take(x.id, x.form)
		}
	}
	lost, gaps := 0, 0
	for id := l.done.free(g.lo); id < g.hi; id = l.done.free(id + 1) {
		if found.has(id) || l.inMemory(id) != nil {
			continue
		}
		lost++
		l.markDone(id)
		if x := st.gaps.owed[id]; g.class == Events && x != nil {
			b.again = append(b.again, x.form)
			gaps++
			st.removeGapLocked(id)
			continue
		}
		k := logRun{g.class, g.run}
		if st.lostFrames[k] == nil {
			st.lostFrames[k] = &ids{}
		}
		st.lostFrames[k].add(id-g.off, id-g.off+1)
	}
	b.lost += lost
	if lost == gaps {
		return
	}
	b.t.addSegment(g)
	if g.class == Events {
		b.t.addUncounted(g.run, int64(lost-gaps), true)
	}
}

// finishLocked inserts the entries that were taken back before those in memory, because they
// are older.
func (b *takeBack) finishLocked() {
	st := b.st
	for i, l := range st.logs {
		for _, e := range b.mem[i] {
			l.bytes += e.cost()
		}
		slices.SortFunc(b.mem[i], func(x, y *memEntry) int { return cmp.Compare(x.id, y.id) })
		l.mem = append(b.mem[i], l.mem...)
		l.rebuildFlows()
	}
	st.enqueueAllLocked()
	for _, form := range b.again {
		st.appendAgainLocked(form)
	}
	if b.lost -= len(b.again); b.lost > 0 {
		st.stats.Dropped += uint64(b.lost)
		st.damaged = true
		st.appendGapsLocked(b.t, reasonDamaged)
	}
	st.ready.Set()
}

// raise raises a fault if something was lost.
func (b *takeBack) raise(h *health.Health, what string) {
	if b.lost > 0 {
		h.Raise(health.SpoolDamaged, subject, what)
	}
}
