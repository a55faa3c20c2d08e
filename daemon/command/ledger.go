package command

import (
	"errors"
	"log/slog"
	"sync"
	"time"

	"fieldpost/daemon/clock"
	"fieldpost/daemon/health"
	"fieldpost/daemon/journal"
	"fieldpost/daemon/output"
	"fieldpost/daemon/wake"
)

// The limits of the ledger, besides [output.MaxOrdersPerDay]. A full ledger needs some 10 MB of
// memory.
const (
	maxRefused      = 4096    // refused orders; those that cannot act any more are evicted
	maxActedBytes   = 8 << 20 // bytes of carried-out orders in the journal
	maxRefusedBytes = 2 << 20 // bytes of refused orders in the journal
	maxForeign      = 256     // orders of earlier boots that are kept longer than the clock says
	maxResult       = 512     // bytes reserved for the result of an order
)

// subject is the subject of the ledger's faults.
const subject = "orders"

// Reasons why an order cannot be recorded.
var (
	errFull    = errors.New("no room for another order")
	errUnread  = errors.New("the ledger of orders could not be read")
	errUnsound = errors.New("the ledger of orders could not be written")
	errHung    = errors.New("the disk does not answer")
	errClosed  = errors.New("the daemon is stopping")
)

// ledger records the orders of the dispatcher, in memory and in a journal that has the
// same records in the order in which they were decided. The dispatcher records its
// decisions under its mu and gets a [queuedWrite] to wait for. One goroutine reads and
// writes the journal, without holding mu: see ledger_writer.go.
type ledger struct {
	mu      *sync.Mutex // the dispatcher's mu; guards orders, queue and delivering
	orders  knownOrders
	queue   writeQueue
	runtime runtimeJournal

	journal *journal.Journal // nil: orders are only in memory
	clock   clock.Clock
	health  *health.Health
	log     *slog.Logger
	answer  Answerer // answers orders of earlier runs

	delivering []delivery
}

// delivery is the answer to an order of an earlier run while it is being delivered. The
// runtime journal keeps it until it has arrived.
type delivery struct {
	id   string
	kept <-chan struct{} // [Answerer]
}

func newLedger(o Options, mu *sync.Mutex) *ledger {
	l := &ledger{
		mu: mu, clock: o.Clock, health: o.Health, log: o.Log, answer: o.Answer,
		orders: knownOrders{
			capacity: capacity{output.MaxOrdersPerDay, maxRefused, maxForeign, maxActedBytes, maxRefusedBytes},
			maxLife:  o.MaxLife, unstamped: o.Unstamped, byID: map[string]*knownOrder{},
			energises: func(order Order) bool {
				energises, exists := o.Outputs.Energises(order.Output, order.Action, order.Level)
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

// findLocked returns a recorded order; nil if there is none.
func (l *ledger) findLocked(id string) *knownOrder { return l.orders.byID[id] }

// recordIntentLocked records that the order is about to be carried out. It may act when
// the record is on disk. The error wraps errFull if there is no room.
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

// recordActLocked records a carried-out order to the safe level, if there is room.
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

// recordRefusalLocked records a refused order. lasts is false if there is no room and the
// order could act if it is repeated. [CMD-20]
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

// isWhole reports whether the journal, with the queued writes, has everything that is
// known.
func (l *ledger) isWhole() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.queue.read && l.queue.sound && !l.queue.hung
}

// readable makes the ledger writer read the journal if it has not been read. It returns
// what to wait for, or nil.
func (l *ledger) readable() *queuedWrite {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.queue.read {
		return nil
	}
	return l.queue.addLocked(nil)
}

// dropLapsedLocked removes lapsed orders. It returns the time until it must be called
// again, even without a write.
func (l *ledger) dropLapsedLocked() time.Duration {
	l.orders.dropLapsed(l.clock.Now())
	if !l.queue.sound {
		return retryEvery
	}
	return dropEvery
}
