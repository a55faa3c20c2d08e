package spool

import (
	"cmp"
	"errors"
	"io/fs"
	"slices"
	"strings"
	"sync"
	"time"

	"fieldpost/daemon/durable"
	"fieldpost/daemon/health"
)

// subject is the subject of the spool's faults.
const subject = "spool"

// hangAfter is how long the disk may take for one step of the writer or the reader.
const hangAfter = 10 * time.Second

// diskWatch reports a disk that hangs.
type diskWatch struct {
	st     *store
	health *health.Health
}

// do calls f, which uses the disk. It raises a fault while f takes longer than hangAfter.
func (w diskWatch) do(f func()) {
	var mu sync.Mutex // held while a fault is raised or cleared, so that the latest state wins
	over, raised := false, false
	timer := time.AfterFunc(hangAfter, func() {
		mu.Lock()
		defer mu.Unlock()
		if !over {
			raised = true
			w.st.countHung(1)
			w.health.Raise(health.SpoolUnavailable, subject, "the disk has not answered for "+hangAfter.String())
		}
	})
	f()
	timer.Stop()
	mu.Lock()
	defer mu.Unlock()
	over = true
	if raised && w.st.countHung(-1) {
		w.health.Clear(health.SpoolUnavailable, subject)
	}
}

// countHung records that one more, or one fewer, goroutine waits for a disk that hangs. It
// reports whether the disk works then.
func (st *store) countHung(n int) bool {
	st.mu.Lock()
	defer st.mu.Unlock()
	st.hung += n
	if n > 0 && st.losses.drop != nil { // sending no longer waits for it
		st.finishDropLocked(false)
	}
	st.ready.Set()
	st.keeping.wake()
	return st.hung == 0 && !st.down
}

// fail records that the disk cannot be used, and when to retry.
func (w *writer) fail(now time.Time, err error) {
	w.cutOffUnreported()
	w.st.mu.Lock()
	was := w.st.down
	w.st.down = true
	w.st.ready.Set()
	w.st.keeping.wake()
	w.st.mu.Unlock()
	w.backoff = min(max(2*w.backoff, leastRetry), mostRetry)
	w.retryAt = now.Add(w.backoff)
	w.o.Health.Raise(health.SpoolUnavailable, subject, err.Error())
	if !was {
		w.o.Log.Warn("spool cannot be written", "dir", w.o.Dir, "err", err)
	}
}

// cutOffUnreported cuts off from the active segments the entries that were dropped from
// memory while their gaps are not on disk. After a kill they must not be found and sent after
// newer entries. It cuts at the last sync; memory has everything written since.
func (w *writer) cutOffUnreported() {
	for i := range w.segments {
		g := w.st.logs[i].active
		if g == nil {
			continue
		}
		w.st.mu.Lock()
		has := slices.ContainsFunc(w.st.losses.entries, func(x heldEntry) bool { return x.seg == g && x.id >= g.syncedUntil })
		w.st.mu.Unlock()
		if has {
			w.segments[i].abandon()
		}
	}
	w.st.mu.Lock()
	defer w.st.mu.Unlock()
	if w.st.losses.inFile {
		w.st.losses.inFile = false
		w.st.ready.Set()
	}
}

// markRecovered records that the disk works again.
func (w *writer) markRecovered() {
	w.st.mu.Lock()
	was, hung := w.st.down, w.st.hung > 0
	w.st.down = false
	w.st.mu.Unlock()
	w.backoff = 0
	if !hung {
		w.o.Health.Clear(health.SpoolUnavailable, subject)
	}
	if was {
		w.o.Log.Info("spool works again", "dir", w.o.Dir)
	}
}

// bringUpToDate writes everything to the disk, at the start and after a failure.
func (w *writer) bringUpToDate() error {
	if !w.dir.attached {
		if err := w.attach(); err != nil {
			return err
		}
	}
	w.retryStuck()
	if err := w.dir.identify(); err != nil {
		return err
	}
	if err := w.writeAll(); err != nil {
		// Files that nothing needs may be what fills the disk. Their removal is not
		// recorded, so after a crash before the next attempt it looks like damage.
		w.removeFiles(w.garbage())
		return err
	}
	if !w.dir.recorded || w.dir.sensorsRecorded != w.st.sensorCount() {
		if err := w.dir.recordRun(); err != nil {
			return err
		}
	}
	return w.dir.moveJournals()
}

// writeAll writes everything that should be on disk.
func (w *writer) writeAll() error {
	for _, f := range []func() error{
		w.repairs.seal, func() error { return w.commit(true) }, w.repairs.repairAll, w.keepRefused, w.rewriteAcks, w.removeGarbage,
	} {
		if err := f(); err != nil {
			return err
		}
	}
	return nil
}

// saveAll writes everything, even if the directory or a file of it turns out to be gone.
func (w *writer) saveAll() (err error) {
	for range classes + 1 { // the segment of each log may be gone; each attempt discovers one
		if err = w.verify(); err == nil {
			err = w.bringUpToDate()
		}
		if err == nil || !w.checkVanished() && !errors.Is(err, durable.ErrGone) {
			return err
		}
	}
	return err
}

// isCramped reports whether need more bytes fit only without the files that nothing needs.
func (w *writer) isCramped(need int64) bool {
	w.st.mu.Lock()
	defer w.st.mu.Unlock()
	return len(w.st.garbage) > 0 && w.st.diskBytesLocked()+need > w.o.segmentBound()
}

// garbage returns the files that nothing needs any more, without those that cannot be removed.
func (w *writer) garbage() []*segment {
	w.st.mu.Lock()
	defer w.st.mu.Unlock()
	return slices.DeleteFunc(slices.Clone(w.st.garbage), func(g *segment) bool { return g.stuck })
}

// retryStuck has the files removed that could not be removed before.
func (w *writer) retryStuck() {
	w.st.mu.Lock()
	defer w.st.mu.Unlock()
	for _, g := range w.st.garbage {
		g.stuck = false
	}
}

// removeGarbage removes the files that nothing needs any more. It records that first, because
// a missing file is damage. It also records how far the sensors came, which after a crash
// these files no longer show.
func (w *writer) removeGarbage() error {
	batch := w.garbage()
	if len(batch) == 0 {
		return nil
	}
	if err := w.appendAcks(func(f *ackEncoder) {
		for _, g := range batch {
			f.addRemoved(g)
		}
		f.addSensorsLocked(w.st)
	}, true); err != nil {
		return err
	}
	w.removeFiles(batch)
	return nil
}

// removeFiles removes files. One that cannot be removed does not stop the others, nor anything
// else: somebody may have made it immutable, or put a directory in its place.
func (w *writer) removeFiles(batch []*segment) {
	for _, g := range batch {
		var err error
		if g.damaged {
			err = w.repairs.setAside(g.file())
		} else {
			err = w.disk.Remove(g.file())
		}
		if err != nil {
			w.o.Log.Warn("segment of the spool is not needed any more, but cannot be removed", "dir", w.o.Dir, "file", g.file(), "err", err)
		}
		w.st.mu.Lock()
		if g.stuck = err != nil; !g.stuck {
			w.st.garbage = without(w.st.garbage, g)
		}
		w.st.mu.Unlock()
	}
}

// clearDamage clears the fault of a damaged spool once the files are repaired or set aside
// and the broker has all gaps about the damage.
func (w *writer) clearDamage() {
	st := w.st
	repaired := !slices.ContainsFunc(w.repairs.damaged, func(g *segment) bool { return !w.repairs.isGone(g) })
	st.mu.Lock()
	over := st.damaged && st.gaps.damage == 0 && !st.down && repaired
	if over {
		st.damaged = false
	}
	st.mu.Unlock()
	if over {
		w.o.Health.Clear(health.SpoolDamaged, subject)
	}
}

// repairs are the files of a directory that must be repaired. Only the goroutine of the
// writer uses it.
type repairs struct {
	w        *writer
	st       *store
	disk     disk
	maxBytes int64      // bound of the files that are set aside
	damaged  []*segment // found damaged
	torn     []*segment // found with an end that may not be durable
}

// forget forgets files that are gone.
func (r *repairs) forget() { r.damaged, r.torn = nil, nil }

// isGone reports whether a segment is no longer needed.
func (r *repairs) isGone(g *segment) bool {
	r.st.mu.Lock()
	defer r.st.mu.Unlock()
	return !slices.Contains(r.st.logs[g.class].segs, g)
}

// seal syncs what a killed run wrote and did not sync, and cuts off a torn end, so that the
// next run does not find it.
func (r *repairs) seal() (err error) {
	r.torn, err = r.each(r.torn, "sealed", r.sealSegment)
	return err
}

// each calls do for files, and returns those for which it failed; they are tried again after the
// next failure of the disk, and at the end. A file that is bad must not keep anything else from
// the disk. If the disk itself fails, what is written next finds out. An error is that the
// directory is gone.
func (r *repairs) each(files []*segment, done string, do func(*segment) error) (left []*segment, err error) {
	for k, g := range files {
		if r.isGone(g) {
			continue
		}
		switch err := do(g); {
		case err == nil, errors.Is(err, fs.ErrNotExist): // it was removed; the reader reports what that costs
		case errors.Is(err, durable.ErrGone):
			return append(left, files[k:]...), err
		default:
			r.w.o.Log.Warn("segment of the spool cannot be "+done, "dir", r.w.o.Dir, "file", g.file(), "err", err)
			left = append(left, g)
		}
	}
	return left, nil
}

func (r *repairs) sealSegment(g *segment) error {
	var err error
	if g.damaged {
		_, err = r.disk.Size(g.file()) // a missing file must not be created
	} else {
		err = r.disk.Truncate(g.file(), g.synced)
	}
	if err != nil {
		return err
	}
	f, err := r.disk.Append(g.file())
	if err != nil {
		return err
	}
	if err := cmp.Or(f.Sync(), f.Close()); err != nil {
		return err
	}
	return r.disk.Sync()
}

// repairAll replaces the damaged files with files that have their intact entries, and sets
// the damaged ones aside. The gaps for what is missing are on disk by now. A file that cannot be
// repaired is set aside when nothing needs it any more.
func (r *repairs) repairAll() (err error) {
	r.damaged, err = r.each(r.damaged, "repaired", r.repairSegment)
	return err
}

func (r *repairs) repairSegment(g *segment) error {
	data, err := readSegment(r.disk, g, maxFile)
	if err != nil {
		return nil // the reader handles what it cannot read
	}
	out, syncedUntil := r.salvage(g, data)
	if syncedUntil == 0 {
		return nil // it stays as it is, and is set aside instead of being removed
	}
	tmp := g.file() + durable.TmpExt
	if err := durable.WriteNew(r.disk, tmp, out); err != nil {
		return err
	}
	// Between these two a crash leaves the new file under its first name only;
	// the next load finds it there.
	if err := r.disk.Rename(g.file(), g.file()+damagedExt); err != nil {
		return err
	}
	if err := r.disk.Rename(tmp, g.file()); err != nil {
		_ = r.disk.Rename(g.file()+damagedExt, g.file()) // it can still be read
		return err
	}
	r.st.mu.Lock()
	g.damaged, g.size, g.synced, g.syncedUntil = false, int64(len(out)), int64(len(out)), syncedUntil
	r.st.mu.Unlock()
	r.limitSetAside()
	return r.disk.Sync()
}

// salvage returns a segment file with the entries in data that are still needed, and the id
// after the last of them. It is 0 if there is none, or if any of them is not in data, because
// the file came to harm once more: the new file would hide that loss.
func (r *repairs) salvage(g *segment, data []byte) (out []byte, syncedUntil uint64) {
	r.st.mu.Lock()
	defer r.st.mu.Unlock()
	l := r.st.logs[g.class]
	if !slices.Contains(l.segs, g) {
		return nil, 0
	}
	out = g.header()
	keep := r.st.heldLocked(g.class)
	missing := neededLocked(l, g, &keep)
	at := durable.Scan(data, headerSize)
	for at.Next() {
		if id := g.off + at.Seq; id >= g.lo && id < g.hi && (l.owed(id) || keep.has(id)) {
			missing--
			out = durable.AppendFrame(out, at.Seq, at.Payload)
			syncedUntil = id + 1
		}
	}
	if missing > 0 {
		return nil, 0
	}
	return out, syncedUntil
}

// setAside renames a damaged file, if it exists.
func (r *repairs) setAside(name string) error {
	if err := r.disk.Rename(name, name+damagedExt); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	r.limitSetAside()
	return nil
}

// limitSetAside removes the oldest damaged files beyond their bound. It ignores errors,
// because it is called again.
func (r *repairs) limitSetAside() {
	names, err := r.disk.List()
	if err != nil {
		return
	}
	var old []*segment
	for _, name := range names {
		if body, ok := strings.CutSuffix(name, damagedExt); ok {
			if g, ok := parseSegment(body); ok {
				g.size, _ = r.disk.Size(name)
				old = append(old, g)
			}
		}
	}
	slices.SortFunc(old, func(a, b *segment) int {
		return cmp.Or(cmp.Compare(b.run, a.run), cmp.Compare(b.number, a.number))
	})
	var sum int64
	for _, g := range old {
		if sum += g.size; sum > r.maxBytes {
			_ = r.disk.Remove(g.file() + damagedExt)
		}
	}
}
