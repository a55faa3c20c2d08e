package command

import (
	"context"
	"fmt"
	"slices"
	"time"

	"fieldpost/daemon/health"
	"fieldpost/daemon/journal"
)

// patience is how long an order waits for the disk. Cards go away for seconds
// now and then to tidy up.
const patience = 10 * time.Second

// How often the ledger is looked through for what may be forgotten, and how
// often a journal that failed is tried again though no order comes.
const (
	tidyEvery  = time.Minute
	againAfter = 10 * time.Second
)

// compactAt is the size from which on the journal is written anew when most of
// it is of no use any more.
const compactAt = 256 << 10

// pending is an entry on its way to the disk.
type queuedWrite struct {
	payload []byte        // nil asks only whether the journal is sound
	done    chan struct{} // closed when it is on disk, or will not be
	err     error         // why it will not; valid after done
}

func (w *queuedWrite) finish(err error) {
	w.err, w.payload = err, nil
	close(w.done)
}

// ended reports whether it is on disk, or will not be; nil is on disk.
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

func (l *ledger) poke() {
	select {
	case l.wake <- struct{}{}:
	default:
	}
}

// note has an entry written. What does not fit into the queue is written with
// the whole index later.
func (l *ledger) note(r ledgerRecord) *queuedWrite { return l.enqueue(r.encode()) }

func (l *ledger) enqueue(payload []byte) *queuedWrite {
	w := &queuedWrite{payload: payload, done: make(chan struct{})}
	switch {
	case l.journal == nil:
		w.finish(nil)
	case l.over:
		l.sound, l.missed = false, true
		w.finish(errOver)
	case len(l.queue) >= maxQueue:
		l.sound, l.missed = false, true
		w.finish(errHung)
	default:
		l.queue = append(l.queue, w)
		l.poke()
	}
	return w
}

// readable has the journal read, if that is yet to be done, and gives what to
// wait for; nil is nothing.
func (l *ledger) readable() *queuedWrite {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.read {
		return nil
	}
	return l.enqueue(nil)
}

// whole reports whether the journal holds what the index does, or is about to.
func (l *ledger) whole() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.read && l.sound && !l.hung
}

// wait waits until an entry is on disk, at most for limit, and says why it is
// not. A disk that takes longer than patience is a fault, and nobody waits for
// it any more until it answers.
func (l *ledger) wait(w *queuedWrite, limit time.Duration) error {
	if w == nil {
		return nil
	}
	l.mu.Lock()
	if l.hung {
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
		l.hung = true
		l.health.Raise(health.LedgerUnavailable, subject, fmt.Sprintf("the disk has not answered for %v", patience))
	}
	return errHung
}

// close writes what is left, and has nobody wait for more.
func (l *ledger) close() {
	l.pass()
	l.mu.Lock()
	defer l.mu.Unlock()
	l.over = true
	if len(l.queue) > 0 {
		l.sound, l.missed = false, true
	}
	for _, w := range l.queue {
		w.finish(errOver)
	}
	l.queue = nil
}

// run reads and writes the journal until ctx ends, and then what is left.
func (l *ledger) run(ctx context.Context) {
	l.mu.Lock()
	l.over = false
	l.mu.Unlock()
	journal.Keep(ctx, l.wake, func(last bool) time.Duration {
		if last {
			l.close()
			return 0
		}
		l.pass()
		l.noteDelivered()
		l.clearFallback()
		return l.tidy()
	})
}

// tidy forgets what has lapsed, and gives the time until the next pass though
// nothing is to be written.
func (l *ledger) tidy() time.Duration {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.forget(l.clock.Now())
	if !l.sound {
		return againAfter
	}
	return tidyEvery
}

// pass has the journal hold what the index does: it reads it where that was
// not possible before, appends what is in the queue with one sync, or writes
// the whole index after a failure or when most of the journal is of no use any
// more. What fails is told, and tried again with every order and every 10 s.
func (l *ledger) pass() {
	l.mu.Lock()
	read, sound := l.read, l.sound
	batch := l.queue
	l.queue = nil
	l.mu.Unlock()
	if l.journal == nil {
		return
	}
	var begun []*knownOrder
	var err error
	if !read {
		begun, err = l.load()
	}
	switch {
	case err != nil:
		l.failed(batch, err)
		return
	case sound:
		err = l.append(batch)
		if err == nil && l.journal.Size() <= l.largest() {
			return
		}
	}
	switch {
	case sound && err != nil:
		l.log.Warn("ledger of orders is written anew", "err", err)
		l.rewrite(batch)
	case sound:
		l.rewrite(nil)
	default:
		l.rewrite(batch)
	}
	// Results are on disk before they are told: what is told twice is told
	// because the disk fails.
	for _, k := range begun {
		l.log.Warn("order of the run before has no result", "id", k.order.ID, "output", k.order.Output)
		saved := (k.mustDeliver || !l.whole()) && l.saveFallback(k.order.ID, false) == nil
		kept := l.answer(k.answer.Record())
		if saved {
			l.mu.Lock()
			l.delivering = append(l.delivering, delivery{k.order.ID, kept})
			l.mu.Unlock()
		}
	}
}

// largest is the size beyond which the journal is written anew.
func (l *ledger) largest() int64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return max(compactAt, 2*l.live)
}

// append puts entries at the journal's end. Where it fails they are still to
// be ended.
func (l *ledger) append(batch []*queuedWrite) error {
	var payloads [][]byte
	for _, w := range batch {
		if w.payload != nil {
			payloads = append(payloads, w.payload)
		}
	}
	if len(payloads) > 0 {
		if err := l.journal.Append(payloads...); err != nil {
			return err
		}
	}
	l.written(batch)
	return nil
}

// rewrite puts the index in the place of the journal, and with it what is in
// batch and in the queue, which the index has too.
func (l *ledger) rewrite(batch []*queuedWrite) {
	l.mu.Lock()
	all, forgot := l.inOrder(), slices.Clone(l.forgot)
	batch = slices.Concat(batch, l.queue)
	l.queue, l.missed = nil, false
	l.mu.Unlock()
	err := l.journal.Rewrite(func(yield func([]byte) bool) {
		if len(forgot) > 0 && !yield(forgottenRecord(forgot).encode()) {
			return
		}
		for _, e := range all {
			if !yield(e.wholeRecord().encode()) {
				return
			}
		}
	})
	if err != nil {
		l.failed(batch, wrap("write", err))
		return
	}
	l.mu.Lock()
	l.sound = !l.missed
	l.health.Clear(health.LedgerUnavailable, subject)
	l.mu.Unlock()
	l.written(batch)
}

// written ends entries that are on disk.
func (l *ledger) written(batch []*queuedWrite) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.hung {
		l.hung = false
		if l.sound {
			l.health.Clear(health.LedgerUnavailable, subject)
		}
	}
	for _, w := range batch {
		w.finish(nil)
	}
}

// failed ends entries that could not be written.
func (l *ledger) failed(batch []*queuedWrite, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.hung, l.sound = false, false
	l.health.Raise(health.LedgerUnavailable, subject, err.Error())
	for _, w := range batch {
		w.finish(err)
	}
}
