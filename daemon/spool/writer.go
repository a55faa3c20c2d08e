package spool

import (
	"context"
	"errors"
	"fieldpost/daemon/wake"
	"fmt"
	"slices"
	"time"
)

const (
	settleDelay = time.Second // how long an entry may wait for its ack before it is written, and an ack before it is recorded
	leastRetry  = time.Second
	mostRetry   = time.Minute
)

// writer writes the files of the spool, on the goroutine of [Spool.Run]. Open uses it before
// that goroutine runs, and Close after it.
type writer struct {
	o     Options
	disk  disk
	st    *store
	watch diskWatch

	dir       directory
	runtime   runtimeDir
	risks     *riskFile
	acks      ackFile
	segments  [classes]segmentWriter
	limiter   limiter
	compactor compactor
	repairs   repairs

	retryAt   time.Time
	backoff   time.Duration
	refusedAt time.Time // when to try again to set refused entries aside
	began     bool
	finished  bool
}

func newWriter(o Options, st *store, d disk) *writer {
	w := &writer{o: o, disk: d, st: st, watch: diskWatch{st, o.Health}, acks: newAckFile(d, o.MaxBytes)}
	w.dir.o, w.dir.disk, w.dir.st = o, d, st
	w.runtime.st, w.runtime.log = st, o.Log
	w.risks = newRiskFile(o, st)
	w.dir.risks = w.risks.earlier
	if o.RuntimeDir != "" {
		w.runtime.dir = newDisk(o.RuntimeDir)
	}
	for i := range w.segments {
		w.segments[i] = segmentWriter{disk: d, st: st, log: st.logs[i]}
	}
	w.limiter = limiter{w: w, o: o, st: st}
	w.compactor = compactor{w: w, st: st, credit: o.segmentBound()}
	w.repairs = repairs{w: w, st: st, disk: d, maxBytes: o.MaxBytes / 8}
	return w
}

// run writes what is due until ctx ends. Then it writes everything.
func (w *writer) run(ctx context.Context) error {
	timer := wake.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return w.finish()
		case <-w.st.work.C():
		case <-timer.C:
		}
		var wait time.Duration
		var some bool
		w.watch.do(func() { wait, some = w.step(time.Now()) })
		if some {
			timer.Reset(wait)
		} else {
			timer.Stop()
		}
	}
}

// step does what is due. It returns how long until the next thing is due, if any.
func (w *writer) step(now time.Time) (wait time.Duration, some bool) {
	w.limiter.reportFull(now)
	var err error
	if isDown(w.st) {
		w.cutOffUnreported()
	}
	if !isDown(w.st) {
		err = w.doDue(now)
	} else if !now.Before(w.retryAt) {
		if err = w.bringUpToDate(); err == nil {
			w.markRecovered()
			err = w.doDue(now)
		}
	}
	if err != nil {
		w.checkVanished()
		w.fail(now, err)
	}
	w.limiter.reportFull(now)
	w.clearDamage()
	w.runtime.update(w.dir.recorded)
	w.risks.update(w.dir.recorded, w.disk.Place)
	p := w.plan(now)
	next := p.next
	if p.write || p.sync || p.sensors || p.acks || p.refused {
		next = now // it became due while the disk was working
	}
	if isDown(w.st) {
		next = earlier(w.retryAt, p.reread) // reading may work all the same
	}
	if next.IsZero() {
		return 0, false
	}
	return max(next.Sub(now), 0), true
}

// isDown reports whether the disk cannot be written.
func isDown(st *store) bool {
	st.mu.Lock()
	defer st.mu.Unlock()
	return st.down
}

// plan is what is due, and when the next thing will be.
type plan struct {
	write, sync, sensors, acks, refused bool
	next                                time.Time
	reread                              time.Time // when a segment that could not be read is read again; zero if none is
}

// isDue reports whether the time t has come. If not, p.next will be t at the latest.
func (p *plan) isDue(now, t time.Time) bool {
	if !t.After(now) {
		return true
	}
	if p.next.IsZero() || t.Before(p.next) {
		p.next = t
	}
	return false
}

// writeDelay returns how long an entry waits for its ack before it is written.
func (o Options) writeDelay() time.Duration { return min(settleDelay, o.AtRisk/4) }

func (w *writer) plan(now time.Time) plan {
	st := w.st
	st.mu.Lock()
	defer st.mu.Unlock()
	var p plan
	st.due.findOldest(st.logs[:])
	delay := w.o.writeDelay()
	if t := st.due.unwritten; !t.IsZero() {
		p.write = p.isDue(now, t.Add(delay))
		p.sync = p.write && (st.due.syncNow || w.o.AtRisk == 0)
	}
	if t := st.due.unsynced; !t.IsZero() && p.isDue(now, t.Add(w.o.AtRisk-delay)) {
		p.sync = true
	}
	if t := st.due.kept; !t.IsZero() && p.isDue(now, t.Add(min(w.o.AtRisk, keptWithin)-delay)) {
		p.sync = true
	}
	if t := st.due.sensors; !t.IsZero() {
		p.sensors = p.isDue(now, t.Add(delay))
	}
	if t := st.due.acks; !t.IsZero() {
		p.acks = p.isDue(now, t.Add(settleDelay))
	}
	p.refused = len(st.refusals.waiting) > 0 && p.isDue(now, w.refusedAt)
	if p.refused || len(st.losses.segments) > 0 || len(st.losses.entries) > 0 {
		p.sync = true
	}
	if t := st.due.reread; !t.IsZero() {
		if p.reread = t.Add(settleDelay); p.isDue(now, p.reread) {
			p.reread, st.due.reread = time.Time{}, time.Time{}
			st.ready.Set()
		}
	}
	if w.o.MaxAge > 0 {
		p.isDue(now, w.limiter.aged.Add(ageEvery))
	}
	if !w.limiter.fullAt.IsZero() {
		p.isDue(now, w.limiter.fullAt.Add(calm))
	}
	return p
}

// findOldest determines since when the oldest entries have been waiting. Acknowledged entries
// do not count.
func (d *dueTimes) findOldest(logs []*log) {
	d.unwritten, d.unsynced, d.kept = time.Time{}, time.Time{}, time.Time{}
	for _, l := range logs {
		unwritten, unsynced, kept := l.oldest()
		d.kept = earlier(d.kept, kept)
		d.unwritten = earlier(d.unwritten, unwritten)
		d.unsynced = earlier(d.unsynced, unsynced)
	}
}

// earlier returns the earlier of two times. The zero time means none.
func earlier(a, b time.Time) time.Time {
	if a.IsZero() || !b.IsZero() && b.Before(a) {
		return b
	}
	return a
}

// doDue does what is due now, while the disk can be written.
func (w *writer) doDue(now time.Time) error {
	if w.dir.verify.Swap(false) {
		if err := w.verify(); err != nil {
			return err
		}
	}
	if err := w.limiter.dropOld(now); err != nil {
		return err
	}
	p := w.plan(now)
	if p.sensors {
		if err := w.recordSensors(); err != nil {
			return err
		}
	}
	if p.write || p.sync {
		if err := w.commit(p.sync); err != nil {
			return err
		}
	}
	if p.refused {
		if err := w.keepRefused(); err != nil {
			return err
		}
	}
	if p.acks {
		if err := w.recordAcks(); err != nil {
			return err
		}
		return w.removeGarbage()
	}
	return nil
}

// commit writes what is in no file, and syncs it if sync is set. It writes the events first,
// so that no drop is on disk before its gap.
func (w *writer) commit(sync bool) error {
	if err := w.recordSensors(); err != nil {
		return err
	}
	if w.isCramped(w.unwritten()) {
		if err := w.removeGarbage(); err != nil {
			return err
		}
	}
	dropped, err := w.limiter.makeRoom()
	if err != nil {
		return err
	}
	need := w.unwritten()
	sync = sync || dropped
	batches, reported := w.takeBatches(sync)
	if err := w.recordGaps(); err != nil {
		return err
	}
	for c := range classes {
		if err := w.writeBatch(c, batches[c]); err != nil {
			return err
		}
		if !sync {
			continue
		}
		if err := w.syncSegment(c); err != nil {
			return err
		}
		if c == Events {
			w.st.mu.Lock()
			w.st.releaseReportedLocked(reported)
			w.st.mu.Unlock()
			if w.isCramped(need) {
				if err := w.removeGarbage(); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

// unwritten returns how many bytes are in no file.
func (w *writer) unwritten() int64 {
	w.st.mu.Lock()
	defer w.st.mu.Unlock()
	return w.st.unwrittenBytesLocked()
}

// takeBatches returns the entries to write, of all logs at the same moment, and the drops
// whose gaps are among them.
func (w *writer) takeBatches(sync bool) (out [classes][]writing, reported reportable) {
	st := w.st
	st.mu.Lock()
	defer st.mu.Unlock()
	for c, l := range st.logs {
		for _, e := range l.unwritten() {
			out[c] = append(out[c], writing{e, e.form})
		}
	}
	if sync {
		st.due.syncNow = false
	}
	return out, reportable{slices.Clone(st.losses.entries), slices.Clone(st.losses.segments)}
}

// writeBatch writes a batch to as many segments as necessary.
func (w *writer) writeBatch(c Class, batch []writing) error {
	sw := &w.segments[c]
	for len(batch) > 0 {
		if sw.isFull(batch[0]) {
			if err := w.rollSegment(c); err != nil {
				return err
			}
		}
		n, size, err := sw.append(batch)
		if failed := (*writeError)(nil); errors.As(err, &failed) {
			w.writeFailed(c, err)
		}
		if err != nil {
			return err
		}
		if c != Events {
			w.compactor.credit += size
		}
		batch = batch[n:]
	}
	return nil
}

// writeFailed handles a failed write to the active segment of a log.
func (w *writer) writeFailed(c Class, err error) {
	if !w.segments[c].cutUnwritten(err) {
		w.segments[c].abandon()
		return
	}
	_ = w.syncSegment(c) // abandons the segment if that fails; the first error is the one to report
}

// syncSegment syncs the active segment of a log, if it has owed entries that are not
// durable.
func (w *writer) syncSegment(c Class) error {
	sw := &w.segments[c]
	if !sw.owesSync() {
		return nil
	}
	g := sw.log.active
	if err := sw.sync(); err != nil {
		w.segmentFailed(c, err)
		return fmt.Errorf("sync segment %q: %w", g.file(), err)
	}
	return nil
}

// rollSegment ends the active segment of a log.
func (w *writer) rollSegment(c Class) error {
	if err := w.syncSegment(c); err != nil {
		return err
	}
	if g := w.st.logs[c].active; g != nil {
		if err := w.appendAcks(func(f *ackEncoder) { f.addWrittenLocked(w.st.logs[c], g) }, true); err != nil {
			return err
		}
	}
	w.segments[c].close()
	w.risks.save() // before the segment is rewritten or removed
	return nil
}

// finish writes everything. From then on the spool accepts nothing.
func (w *writer) finish() error {
	w.st.mu.Lock()
	w.st.ended = true
	w.st.linger.endLocked()
	w.st.mu.Unlock()
	if w.finished {
		return nil
	}
	w.finished = true
	err := w.saveAll()
	for c := range w.segments {
		w.segments[c].close()
	}
	for _, f := range []func() error{w.rewriteAcks, w.removeGarbage, w.dir.recordStop} {
		if err == nil {
			err = f()
		}
	}
	w.acks.close()
	w.runtime.update(w.dir.recorded)
	if err == nil {
		w.risks.remove()
	} else {
		w.risks.save()
		w.runtime.removeRecord()
		return fmt.Errorf("finish spool %q: %w", w.o.Dir, err)
	}
	return nil
}
