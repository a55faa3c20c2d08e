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

// patience is how long an order waits for the disk. Cards go away for seconds
// now and then to tidy up.
const patience = 10 * time.Second

// How often what has lapsed is forgotten, and how often a journal that failed is
// tried again though no order comes.
const (
	sweepEvery = time.Minute
	retryEvery = 10 * time.Second
)

// compactAt is the size from which on the journal is rewritten when most of
// it is of no use any more.
const compactAt = 256 << 10

// maxQueuedWrites bounds the records on their way to the disk.
const maxQueuedWrites = 1024

// queuedWrite is a record on its way to the disk.
type queuedWrite struct {
	record []byte        // nil asks only whether the journal is sound
	done   chan struct{} // closed when it is on disk, or will not be
	err    error         // why it will not; valid after done
}

func (w *queuedWrite) finish(err error) {
	w.err, w.record = err, nil
	close(w.done)
}

// finished reports whether the record is on disk, or will not be; nil is on disk.
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

// writeQueue is the records that wait for the disk, and what is known of the
// journal behind it. The dispatcher's mu guards it.
type writeQueue struct {
	wake    wake.Signal // there is something to write, or to try again
	off     bool        // there is no journal: all is written at once
	waiting []*queuedWrite
	read    bool // the journal has been read
	sound   bool // the journal, with what waits, holds what is known
	missed  bool // something was not queued since all was last copied
	hung    bool // the disk does not answer
	closed  bool // nobody writes the journal any more
}

// addLocked has a record written. What does not fit is written with everything
// else later.
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

// takeLocked takes out what waits.
func (q *writeQueue) takeLocked() []*queuedWrite {
	batch := q.waiting
	q.waiting = nil
	return batch
}

// closeLocked ends all that waits, and from now on all that comes.
func (q *writeQueue) closeLocked() {
	q.closed = true
	if len(q.waiting) > 0 {
		q.missLocked()
	}
	for _, w := range q.takeLocked() {
		w.finish(errClosed)
	}
}

// checkLocked says why nothing can be remembered as things are, and has that tried
// again.
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

// wait waits until a record is on disk, for limit at most, and says why it is not.
// A disk that takes longer than patience is a fault, and nobody waits for it any
// more until it answers.
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

// run is the ledger writer: it reads and writes the journal until ctx ends, and
// then writes what is left.
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
		return l.sweepLocked()
	})
}

// writeDue brings the journal up to date. It reads the journal if that was not possible
// before. It appends the waiting records with one sync, or rewrites everything after a
// failure or when most of the journal is out of date. A failure raises a fault, and is
// retried with every order and every 10 s.
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
			l.writeFailed(batch, err)
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

// answerUnended answers orders of the run before that were begun and not ended.
// That is on disk first: what is answered twice is so because the disk fails.
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

// maxSize is the size beyond which the journal is rewritten.
func (l *ledger) maxSize() int64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return max(compactAt, 2*l.orders.used.bytes)
}

// append puts records at the journal's end. Where it fails they are still to be
// finished.
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

// rewrite puts everything that is known in the place of the journal, and with it
// what is in batch and what waits.
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

// load reads the journal. What was decided while it could not be read gives way to
// what it holds; what the runtime journal holds and is later does not. Intents
// without a result are those of a run that ended in between: they get the answer
// unknown, and are given. [CMD-12]
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
			k.boot, k.until = now.Boot, now.Mono+l.orders.maxLife+keepFor // nobody has had this answer yet
			unended = append(unended, k)
		}
		k.mustDeliver = old != nil // its message may have been acknowledged with another answer
		l.orders.add(k)
	}
	for _, k := range l.orders.byID {
		k.unread = false
	}
	return unended, nil
}

// noResult is the answer to an order whose end nobody knows.
func noResult(o Order, now clock.Stamp) *Answer {
	a := answerFor(NoResult, "")
	a.ID, a.Output, a.Stamp = o.ID, o.Output, now
	return &a
}

// reportDamage reports what could not be read. A tail that is cut off is what a
// power cut leaves of the last write; a hole is not.
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
