package command

import (
	"context"
	"fmt"
	"slices"
	"time"

	"fieldpost/daemon/clock"
	"fieldpost/daemon/health"
	"fieldpost/daemon/journal"
	"fieldpost/daemon/wake"
)

// patience is how long an order waits for the disk. SD cards sometimes do not answer for
// seconds while they tidy up.
const patience = 10 * time.Second

// How often lapsed orders are removed, and how often a failed journal is retried without
// an order.
const (
	dropEvery  = time.Minute
	retryEvery = 10 * time.Second
)

// compactAt is the size above which the journal is rewritten if most of it is out of
// date.
const compactAt = 256 << 10

// maxQueuedWrites limits the number of queued records.
const maxQueuedWrites = 1024

// queuedWrite is a record that waits to be written.
type queuedWrite struct {
	record []byte        // nil only checks that the journal is sound
	done   chan struct{} // closed when it is on disk or has failed
	err    error         // why it failed; valid after done
}

func (w *queuedWrite) finish(err error) {
	w.err, w.record = err, nil
	close(w.done)
}

// finished reports whether the record is on disk or has failed. A nil write is on disk.
func (w *queuedWrite) finished() bool {
	if w == nil {
		return true
	}
	select {
	case <-w.done:
		return true
	default:
		return false
	}
}

// writeQueue holds the records that wait for the disk, and the state of the journal. The
// dispatcher's mu guards it.
type writeQueue struct {
	wake    wake.Signal // there is something to write or to retry
	off     bool        // there is no journal: every write succeeds at once
	waiting []*queuedWrite
	read    bool // the journal has been read, or begun anew
	sound   bool // the journal, with the queue, has everything that is known
	missed  bool // a record was not queued since the last rewrite began
	hung    bool // the disk does not answer
	closed  bool // the ledger writer has ended

	unreadSince *clock.Stamp // when reading the journal failed first; nil if it never did
}

// addLocked queues a record. If the queue is full, a later rewrite writes it.
func (q *writeQueue) addLocked(record []byte) *queuedWrite {
	w := &queuedWrite{record: record, done: make(chan struct{})}
	switch {
	case q.off:
		w.finish(nil)
	case q.closed:
		q.missLocked()
		w.finish(errClosed)
	case len(q.waiting) >= maxQueuedWrites:
		q.missLocked()
		w.finish(errHung)
	default:
		q.waiting = append(q.waiting, w)
		q.wake.Set()
	}
	return w
}

func (q *writeQueue) missLocked() { q.sound, q.missed = false, true }

// takeLocked removes and returns the queue.
func (q *writeQueue) takeLocked() []*queuedWrite {
	batch := q.waiting
	q.waiting = nil
	return batch
}

// closeLocked fails all queued and all later writes.
func (q *writeQueue) closeLocked() {
	q.closed = true
	if len(q.waiting) > 0 {
		q.missLocked()
	}
	for _, w := range q.takeLocked() {
		w.finish(errClosed)
	}
}

// checkLocked returns an error if nothing can be recorded now, and makes the ledger
// writer retry.
func (q *writeQueue) checkLocked() error {
	switch {
	case q.hung:
		return errHung
	case q.read && q.sound:
		return nil
	}
	q.wake.Set()
	if !q.read {
		return errUnread
	}
	return errUnsound
}

// wait waits until a record is on disk, for at most limit, and returns an error if it is
// not. A disk that takes longer than patience is a fault, and nobody waits for it again
// until it answers.
func (l *ledger) wait(w *queuedWrite, limit time.Duration) error {
	if w == nil {
		return nil
	}
	l.mu.Lock()
	if l.queue.hung {
		limit = 0
	}
	l.mu.Unlock()
	t := time.NewTimer(limit)
	defer t.Stop()
	select {
	case <-w.done:
		return w.err
	case <-t.C:
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if w.finished() {
		return w.err
	}
	if limit >= patience {
		l.queue.hung = true
		l.health.Raise(health.LedgerUnavailable, subject, fmt.Sprintf("the disk has not answered for %v", patience))
	}
	return errHung
}

// run is the ledger writer. It reads and writes the journal until ctx ends, and then
// writes the rest.
func (l *ledger) run(ctx context.Context) {
	l.mu.Lock()
	l.queue.closed = false
	l.mu.Unlock()
	journal.Keep(ctx, l.queue.wake.C(), func(last bool) time.Duration {
		l.writeDue()
		if last {
			l.mu.Lock()
			defer l.mu.Unlock()
			l.queue.closeLocked()
			return 0
		}
		l.noteDelivered()
		l.clearRuntime()
		l.mu.Lock()
		defer l.mu.Unlock()
		return l.dropLapsedLocked()
	})
}

// writeDue brings the journal up to date. It reads the journal if that was not possible
// before, and begins it anew if that remains impossible. It appends the waiting records with
// one sync, or rewrites everything after a failure or when most of the journal is out of
// date. A failure raises a fault, and is retried with every order and every 10 s.
func (l *ledger) writeDue() {
	l.mu.Lock()
	read, sound := l.queue.read, l.queue.sound
	batch := l.queue.takeLocked()
	l.mu.Unlock()
	if l.journal == nil {
		return
	}
	var unended []*knownOrder
	var err error
	if !read {
		if unended, err = l.load(); err != nil {
			if l.mayBeginAnew() {
				l.beginAnew(batch, err)
			} else {
				l.writeFailed(batch, err)
			}
			return
		}
	}
	if sound {
		if err = l.append(batch); err == nil && l.journal.Size() <= l.maxSize() {
			return
		}
	}
	switch {
	case sound && err != nil:
		l.log.Warn("writing the ledger of orders again", "err", err)
		l.rewrite(batch)
	case sound:
		l.rewrite(nil)
	default:
		l.rewrite(batch)
	}
	l.answerUnended(unended)
}

// answerUnended answers orders of the last run that were begun and have no result. The
// answers are written to disk first, so they are given twice only if the disk fails.
func (l *ledger) answerUnended(orders []*knownOrder) {
	for _, k := range orders {
		l.log.Warn("order of the last run has no result", "id", k.order.ID, "output", k.order.Output)
		saved := (k.mustDeliver || !l.isWhole()) && l.saveRuntime(k.order.ID, false) == nil
		kept := l.answer(k.answer.Record())
		if saved {
			l.mu.Lock()
			l.delivering = append(l.delivering, delivery{k.order.ID, kept})
			l.mu.Unlock()
		}
	}
}

// maxSize returns the size above which the journal is rewritten.
func (l *ledger) maxSize() int64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return max(compactAt, 2*l.orders.used.bytes)
}

// append appends records to the journal. If it fails, the caller must finish them.
func (l *ledger) append(batch []*queuedWrite) error {
	var records [][]byte
	for _, w := range batch {
		if w.record != nil {
			records = append(records, w.record)
		}
	}
	if len(records) > 0 {
		if err := l.journal.Append(records...); err != nil {
			return err
		}
	}
	l.written(batch)
	return nil
}

// rewrite replaces the journal by everything that is known, which includes batch and the
// queue.
func (l *ledger) rewrite(batch []*queuedWrite) {
	l.mu.Lock()
	all, forgotten := l.orders.sorted(), slices.Clone(l.orders.forgotten)
	batch = slices.Concat(batch, l.queue.takeLocked())
	l.queue.missed = false
	l.mu.Unlock()
	err := l.journal.Rewrite(func(yield func([]byte) bool) {
		if len(forgotten) > 0 && !yield(forgottenRecord(forgotten).encode()) {
			return
		}
		for _, k := range all {
			if !yield(k.wholeRecord().encode()) {
				return
			}
		}
	})
	if err != nil {
		l.writeFailed(batch, wrapLedger("write", err))
		return
	}
	l.mu.Lock()
	l.queue.sound = !l.queue.missed
	l.health.Clear(health.LedgerUnavailable, subject)
	l.mu.Unlock()
	l.written(batch)
}

// written finishes records that are on disk.
func (l *ledger) written(batch []*queuedWrite) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.queue.hung {
		l.queue.hung = false
		if l.queue.sound {
			l.health.Clear(health.LedgerUnavailable, subject)
		}
	}
	for _, w := range batch {
		w.finish(nil)
	}
}

// writeFailed finishes records that could not be written.
func (l *ledger) writeFailed(batch []*queuedWrite, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.queue.hung, l.queue.sound = false, false
	l.health.Raise(health.LedgerUnavailable, subject, err.Error())
	for _, w := range batch {
		w.finish(err)
	}
}

// load reads the journal. Its orders replace those decided while it could not be read,
// but not newer ones of the runtime journal. Intents without a result belong to a run
// that ended in between: load returns them, with the answer unknown. [CMD-12]
func (l *ledger) load() (unended []*knownOrder, err error) {
	found, err := replay(l.journal)
	if err != nil {
		return nil, wrapLedger("read", err)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.queue.read = true
	l.reportDamage(found.damage)
	now := l.clock.Now()
	for _, x := range found.forgotten {
		l.orders.forgotten.addRange(x, now.Wall)
	}
	for _, k := range found.orders {
		k.unread, k.delivered = false, false
		old := l.orders.byID[k.order.ID]
		if old != nil && old.overrules(k) {
			continue
		}
		if k.answer == nil {
			k.answer = noResult(k.order, now)
			k.boot, k.until = now.Boot, now.Mono+l.orders.maxLife+keepFor // this answer was not given yet
			unended = append(unended, k)
		}
		k.mustDeliver = old != nil // the message may have been acknowledged with another answer
		l.orders.add(k)
	}
	for _, k := range l.orders.byID {
		k.unread = false
	}
	return unended, nil
}

// mayBeginAnew reports whether every order that the journal may have has expired. Call it
// after the journal could not be read: no order was accepted since that failed first.
func (l *ledger) mayBeginAnew() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := l.clock.Now()
	if l.queue.unreadSince == nil {
		l.queue.unreadSince = &now
	}
	return now.Synced && now.Mono-l.queue.unreadSince.Mono >= l.orders.maxLife
}

// beginAnew replaces a journal that cannot be read by what is known, so that a file with a
// bad sector does not keep all orders from being carried out for ever. unread is why it
// cannot be read. What expires by now counts as forgotten, in case the clock is set back. If
// the journal cannot be written either, nothing changes, and it may yet be read. [CMD-21]
func (l *ledger) beginAnew(batch []*queuedWrite, unread error) {
	l.mu.Lock()
	now := l.clock.Now()
	l.orders.forgotten.addRange(timeRange{time.Unix(0, 0), now.Wall}, now.Wall)
	l.mu.Unlock()
	if l.rewrite(batch); !l.journal.Sound() {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.queue.read = true
	for _, k := range l.orders.byID {
		k.unread = false
	}
	l.health.Raise(health.LedgerDamaged, subject, "begun anew: "+unread.Error())
}

// noResult returns the answer to an order whose result is not known.
func noResult(o Order, now clock.Stamp) *Answer {
	a := answerFor(NoResult, "")
	a.ID, a.Output, a.Stamp = o.ID, o.Output, now
	return &a
}

// reportDamage reports what could not be read. A power cut may leave an incomplete last
// entry, but no damage before it.
func (l *ledger) reportDamage(damage journal.Damage) {
	if damage.Tail > 0 {
		l.log.Warn("ledger of orders ended in the middle of an entry", "bytes", damage.Tail)
	}
	if damage.Holes > 0 {
		l.health.Raise(health.LedgerDamaged, subject, fmt.Sprintf("%d places", damage.Holes))
	}
}

// wrapLedger names the ledger in an error of its journal.
func wrapLedger(verb string, err error) error {
	return fmt.Errorf("%s ledger of orders: %w", verb, err)
}
