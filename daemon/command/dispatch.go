package command

import (
	"errors"
	"log/slog"
	"sync"
	"time"

	"fieldpost/daemon/clock"
	"fieldpost/daemon/health"
	"fieldpost/daemon/journal"
	"fieldpost/daemon/message"
	"fieldpost/daemon/output"
)

// Outputs is what orders move: an [output.Bank].
type Outputs interface {
	// Do carries out an order and returns when the line has its level. It
	// does nothing from the order's expiry on.
	Do(o output.Order) (output.State, error)
	// Energises reports whether an action asks an output for any level but
	// its safe one; ok is false where there is no such output.
	Energises(name string, a output.Action) (energises, ok bool)
}

// Options is what a dispatcher is made of.
type Options struct {
	Thing   string          // our name in messages
	Topic   string          // the one topic on which orders come by MQTT; "" is none
	MaxLife time.Duration   // how far ahead an order's expiry may lie; 0 is an hour
	Outputs Outputs         // what orders move
	Clock   clock.Clock     // whether an order is late
	Answer  Answerer        // passes an answer on, from several goroutines
	Journal journal.Storage // where orders are remembered; nil is in memory, until the process ends
	// Fallback is a second journal that outlives the process but not the boot. It
	// notes what the first one cannot take; nil is none. [CMD-14]
	RuntimeJournal journal.Storage
	Health         *health.Health // is told of the journal's faults; nil tells nobody
	Log            *slog.Logger   // nil discards
	// Unstamped has orders that energise carried out though they lack id or
	// expires, if nothing can have stored them on their way. [CMD-7]
	Unstamped bool
}

// Answerer passes an answer on. It does not wait, and does not call the dispatcher.
// kept is closed when a crash cannot cost the answer any more; nil is from the
// first.
type Answerer func(message.Record) (kept <-chan struct{})

// Stats counts what came in since the start.
type Stats struct {
	Done    uint64 // orders carried out
	Refused uint64 // orders refused
	Failed  uint64 // orders that did not succeed, or of which that is not known
	Again   uint64 // orders that came again, and were answered as before
	Passed  uint64 // messages that were no orders to this board
	// Elsewhere counts messages that came on another topic than that of orders.
	Elsewhere uint64
	// Unanswered counts those among the refused and those that came again which
	// were told in a summary only. [CMD-19]
	Unanswered uint64
}

// Desk takes orders and answers them. Its methods may be called from any
// goroutine; [Desk.Serve] from one.
type Dispatcher struct {
	o             Options
	ending        chan struct{} // closed when no order may begin any more
	stopAccepting func()        // closes it
	strays        strays        // Serve's own

	// mu is never held while a line or the disk works.
	mu       sync.Mutex
	ledger   *ledger
	queues   map[string]*outputQueue
	underWay map[string]*job // orders between the gate and their answer, by id
	stats    Stats
	// Rates of answers to orders that came from the broker and did not act.
	malformed, refused, repeated limiter
	notAnswered                  suppressed
}

// New makes a dispatcher that knows of the orders in its journal, which it reads.
// Those that were begun, and whose end is not recorded, it answers.
func New(o Options) *Dispatcher {
	if o.MaxLife == 0 {
		o.MaxLife = time.Hour
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	d := &Dispatcher{o: o, ending: make(chan struct{}), queues: map[string]*outputQueue{}, underWay: map[string]*job{}}
	d.stopAccepting = sync.OnceFunc(func() { close(d.ending) })
	d.malformed = limiter{burst: malformedBurst, interval: malformedInterval}
	d.refused, d.repeated = limiter{burst: refusedBurst, interval: refusedInterval}, limiter{burst: refusedBurst, interval: refusedInterval}
	d.notAnswered.wake = make(chan struct{}, 1)
	d.ledger = newLedger(o, &d.mu)
	d.ledger.loadFallback()
	d.ledger.pass()
	return d
}

// source is where a message came from.
type source struct {
	cause    string
	retained bool
	mail     bool // from the broker, who sends it again if it is not acknowledged
	stored   bool // somebody may have stored it on its way
	limited  bool // its answer goes to the broker, and not to somebody who waits for it
	// overtaken says that an order to the safe level that came later was carried
	// out before this one was looked at.
	overtaken bool
	lost      func() bool // whether its connection has ended; nil is never
}

// Handle does with one message what is to be done and gives the answer; ok is
// false for one that is no order to this board. cause says where it came from.
// The answer is the caller's to pass on.
//
// It waits for the order's turn, for the line and for the ledger: as long as
// the order's expiry, and for a line that hangs as long as that does. Orders
// that energise are carried out only while Serve runs.
func (d *Dispatcher) Handle(payload []byte, retained bool, cause string) (a Answer, ok bool) {
	o, err := Decode(payload, d.o.Thing)
	finish := d.accept(o, err, len(payload), source{cause: cause, retained: retained})
	if finish == nil {
		return Answer{}, false
	}
	return finish(), true
}

// take decides what is to be done with a message, from what [Decode] made of
// it. It does not wait, so that orders keep the order in which they are taken.
// What it gives does it, and gives the answer: nil for a message that is no
// order to this board.
func (d *Dispatcher) accept(o Order, err error, size int, from source) (finish func() Answer) {
	if errors.Is(err, ErrNotOrder) {
		d.count(func(s *Stats) { s.Passed++ })
		d.o.Log.Debug("message passed over", "cause", from.cause, "bytes", size, "err", err.Error())
		return nil
	}
	var a Answer
	var malformed *RefusedError
	switch {
	case errors.As(err, &malformed): // [CMD-2]
		a = answerFor(malformed.Code, malformed.Detail)
		a.ID, a.Output, a.sure = malformed.ID, malformed.Output, true
		d.limit(&a, from, &d.malformed)
	case from.retained: // [CMD-3]
		a = answerFor(Retained, "")
		a.ID, a.Output = o.ID, o.Output
		d.limit(&a, from, &d.refused)
	default:
		return d.admit(o, from)
	}
	a.Stamp = d.o.Clock.Now()
	return func() Answer { return d.countAnswer(a, from.cause) }
}

// limit has an answer only counted where there have been so many. [CMD-19]
func (d *Dispatcher) limit(a *Answer, from source, m *limiter) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.limitLocked(a, from, m)
}

// limitLocked is limit with mu held. It reports whether the answer is given.
func (d *Dispatcher) limitLocked(a *Answer, from source, m *limiter) bool {
	if !from.limited {
		return true
	}
	ok, calm := m.take(time.Now())
	a.noWait = !calm
	if !ok {
		d.suppressLocked(a)
	}
	return ok
}

// Stats gives the counts now.
func (d *Dispatcher) Stats() Stats {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.stats
}

func (d *Dispatcher) count(fn func(*Stats)) {
	d.mu.Lock()
	defer d.mu.Unlock()
	fn(&d.stats)
}

// tally counts and logs the first answer to an order.
func (d *Dispatcher) countAnswer(a Answer, cause string) Answer {
	d.count(func(s *Stats) {
		switch a.Status {
		case Done:
			s.Done++
		case Refused:
			s.Refused++
		default:
			s.Failed++
		}
	})
	if !a.suppressed {
		d.o.Log.Info("order answered", "id", a.ID, "output", a.Output, "status", string(a.Status), "reason", string(a.Reason), "cause", cause)
	}
	return a
}

// repeat counts and logs an answer that is given once more.
func (d *Dispatcher) repeatAnswer(a Answer, from source) Answer {
	d.count(func(s *Stats) { s.Again++ })
	if !a.suppressed {
		d.limit(&a, from, &d.repeated)
	}
	if !a.suppressed {
		d.o.Log.Info("order came again", "id", a.ID, "status", string(a.Status), "cause", from.cause)
	}
	return a
}
