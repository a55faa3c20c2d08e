package command

import (
	"errors"
	"log/slog"
	"sync"
	"time"

	"fieldpost/daemon/clock"
	"fieldpost/daemon/health"
	"fieldpost/daemon/journal"
	"fieldpost/daemon/wake"
)

// MaxActed is how many orders that were carried out are remembered.
const MaxActed = 16384

// The other bounds of what is remembered. A full ledger takes some 10 MB of memory.
const (
	maxRefused      = 4096    // orders refused; those that cannot act any more give way
	maxActedBytes   = 8 << 20 // bytes that orders carried out may take in the journal
	maxRefusedBytes = 2 << 20 // bytes that orders refused may take there
	maxForeign      = 256     // orders of earlier boots that are known for longer than the clock says
	maxResult       = 512     // bytes set aside for the result of an order
)

// subject is what the ledger's faults are about.
const subject = "orders"

// Reasons why an order cannot be remembered.
var (
	errFull    = errors.New("no room for another order")
	errUnread  = errors.New("the ledger of orders could not be read")
	errUnsound = errors.New("the ledger of orders could not be written")
	errHung    = errors.New("the disk does not answer")
	errClosed  = errors.New("the daemon is stopping")
)

// ledger remembers the orders that the dispatcher was given. The orders are in
// memory, and in a journal that says the same in the order in which it was
// decided. What the dispatcher decides it notes here, under its mu, and gets a
// [queuedWrite] to wait for; one goroutine, which does not hold mu meanwhile,
// reads and writes the journal: see ledger_writer.go.
type ledger struct {
	mu      *sync.Mutex // the dispatcher's; guards orders, queue and delivering
	orders  knownOrders
	queue   writeQueue
	runtime runtimeJournal

	journal *journal.Journal // nil is none: what is in memory is all there is
	clock   clock.Clock
	health  *health.Health
	log     *slog.Logger
	answer  Answerer // answers an order of a run before

	delivering []delivery
}

// delivery is the answer to an order of a run before, on its way. The runtime
// journal has it until it has arrived.
type delivery struct {
	id   string
	kept <-chan struct{} // [Answerer]
}

func newLedger(o Options, mu *sync.Mutex) *ledger {
	l := &ledger{
		mu: mu, clock: o.Clock, health: o.Health, log: o.Log, answer: o.Answer,
		orders: knownOrders{
			capacity: capacity{MaxActed, maxRefused, maxForeign, maxActedBytes, maxRefusedBytes},
			maxLife:  o.MaxLife, unstamped: o.Unstamped, byID: map[string]*knownOrder{},
			energises: func(order Order) bool {
				energises, exists := o.Outputs.Energises(order.Output, order.Action)
				return energises || !exists
			},
		},
		queue: writeQueue{wake: wake.New()},
	}
	if o.Journal == nil {
		l.queue.off, l.queue.read, l.queue.sound = true, true, true
		return l
	}
	l.journal = journal.New(o.Journal)
	if o.RuntimeJournal != nil {
		l.runtime.journal = journal.New(o.RuntimeJournal)
	}
	return l
}

// findLocked gives what is known of an order; nil is nothing.
func (l *ledger) findLocked(id string) *knownOrder { return l.orders.byID[id] }

// recordIntentLocked records that the order is about to be carried out. It may act
// once that is on disk. The error wraps errFull when there is no room.
func (l *ledger) recordIntentLocked(o Order, now clock.Stamp) (*queuedWrite, error) {
	if !l.queue.read {
		return nil, errUnread
	}
	k := l.orders.create(o, now, false)
	if !l.orders.fits(k) {
		return nil, errFull
	}
	l.orders.add(k)
	return l.queue.addLocked(k.intentRecord().encode()), nil
}

// recordResultLocked records the answer to an order whose intent was recorded.
func (l *ledger) recordResultLocked(id string, a Answer) *queuedWrite {
	k, ok := l.orders.byID[id]
	if !ok {
		l.log.Error("cannot remember an order", "id", id, "err", "not intended")
		return nil
	}
	l.orders.settle(k, a)
	k.write = l.queue.addLocked(resultRecord(a).encode())
	return k.write
}

// recordActLocked records an order to the safe level that was carried out, if there
// is room.
func (l *ledger) recordActLocked(o Order, a Answer) *queuedWrite {
	k := l.orders.create(o, a.Stamp, !l.queue.read)
	k.answer = &a
	if !l.orders.fits(k) {
		return nil
	}
	l.orders.add(k)
	k.write = l.queue.addLocked(k.wholeRecord().encode())
	return k.write
}

// recordRefusalLocked records an order that was refused. lasts is false where there
// is no room for it, and the order could act if it came again. [CMD-20]
func (l *ledger) recordRefusalLocked(o Order, a Answer) (w *queuedWrite, lasts bool) {
	k, known, lasts, ranges := l.orders.addRefused(o, a, !l.queue.read)
	switch {
	case known:
		k.write = l.queue.addLocked(k.wholeRecord().encode())
		return k.write, true
	case ranges:
		return l.queue.addLocked(forgottenRecord(l.orders.forgotten).encode()), true
	}
	return nil, lasts
}

// isWhole reports whether the journal holds what is known, or is about to.
func (l *ledger) isWhole() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.queue.read && l.queue.sound && !l.queue.hung
}

// readable has the journal read, if that is yet to be done, and gives what to
// wait for; nil is nothing.
func (l *ledger) readable() *queuedWrite {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.queue.read {
		return nil
	}
	return l.queue.addLocked(nil)
}

// sweepLocked forgets what has lapsed, and gives the time until it is to be called
// again though nothing is to be written.
func (l *ledger) sweepLocked() time.Duration {
	l.orders.sweep(l.clock.Now())
	if !l.queue.sound {
		return retryEvery
	}
	return sweepEvery
}
