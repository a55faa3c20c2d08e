package command

import (
	"cmp"
	"errors"
	"log/slog"
	"sync"
	"sync/atomic"
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
	// RuntimeJournal is a second journal that outlives the process but not the boot. It
	// holds what the first one cannot take; nil is none. [CMD-14]
	RuntimeJournal journal.Storage
	Health         *health.Health // is told of the journal's faults; nil tells nobody
	Log            *slog.Logger   // nil discards
	// Unstamped has orders that energise carried out though they lack id or
	// expires, if nothing can have stored them on their way. [CMD-7]
	Unstamped bool
}

// Settings is what a reload may change of a dispatcher. The fields are those of
// [Options].
type Settings struct {
	Thing     string
	Topic     string
	MaxLife   time.Duration
	Unstamped bool
}

// Answerer passes an answer on. It does not wait, and does not call the dispatcher.
// kept is closed when a crash cannot cost the answer any more, which may be never; nil
// is from the first.
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

// Dispatcher takes orders, has them carried out and answers them. Its methods may be
// called from any goroutine; [Dispatcher.Serve] from one.
type Dispatcher struct {
	o             Options
	settings      atomic.Pointer[Settings]
	ending        chan struct{} // closed when no order may begin any more
	stopAccepting func()        // closes it
	strays        strays        // Serve's own

	// mu is never held while a line or the disk works. It guards the ledger and the
	// floods too.
	mu       sync.Mutex
	ledger   *ledger
	floods   *floodControl
	queues   map[string]*outputQueue
	underWay map[string]*job // orders between the gate and their answer, by id
	stats    Stats
}

// New makes a dispatcher that knows the orders in its journal, which it reads.
// Those that were begun, and whose end is not recorded, it answers.
func New(o Options) *Dispatcher {
	o.MaxLife = cmp.Or(o.MaxLife, time.Hour)
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	d := &Dispatcher{o: o, ending: make(chan struct{}), queues: map[string]*outputQueue{}, underWay: map[string]*job{}}
	d.settings.Store(&Settings{Thing: o.Thing, Topic: o.Topic, MaxLife: o.MaxLife, Unstamped: o.Unstamped})
	d.stopAccepting = sync.OnceFunc(func() { close(d.ending) })
	d.ledger = newLedger(o, &d.mu)
	d.floods = newFloodControl(o, &d.mu)
	d.ledger.loadRuntime()
	d.ledger.writeDue()
	return d
}

// Reconfigure gives other settings to a dispatcher that works. Orders that come from
// now on, and those that have not begun, go by them. What is remembered stays:
// an id is known at least as long as it would have been, and an order that was
// carried out or refused does not act when it comes again. Outputs that a reload has
// removed refuse their orders, waiting ones included, as soon as
// [Options].Outputs does not know them; see [output.Bank.Reconfigure].
//
// A dispatcher without a journal stays without: whoever may get outputs by a reload
// gives it one from the start.
func (d *Dispatcher) Reconfigure(s Settings) {
	s.MaxLife = cmp.Or(s.MaxLife, time.Hour)
	d.mu.Lock()
	defer d.mu.Unlock()
	d.settings.Store(&s)
	d.ledger.orders.maxLife, d.ledger.orders.unstamped = s.MaxLife, s.Unstamped
	for name, q := range d.queues {
		if len(q.jobs) == 0 {
			delete(d.queues, name) // a new one is made when it is needed
		}
	}
}

// source is where a message came from.
type source struct {
	cause    string
	retained bool
	broker   bool // the broker sends it again if it is not acknowledged
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
	o, err := Decode(payload, d.settings.Load().Thing)
	finish := d.accept(o, err, len(payload), source{cause: cause, retained: retained})
	if finish == nil {
		return Answer{}, false
	}
	return finish(), true
}

// accept decides what is to be done with a message, from what [Decode] made of
// it. It does not wait, so orders keep the order in which they came. The function it
// gives does the rest and gives the answer; it is nil for a message that is no
// order to this board.
func (d *Dispatcher) accept(o Order, err error, size int, from source) (finish func() Answer) {
	if errors.Is(err, ErrNotOrder) {
		d.countStats(func(s *Stats) { s.Passed++ })
		d.o.Log.Debug("message ignored", "cause", from.cause, "bytes", size, "err", err.Error())
		return nil
	}
	var a Answer
	var malformed *RefusedError
	switch {
	case errors.As(err, &malformed): // [CMD-2]
		a = answerFor(malformed.Code, malformed.Detail)
		a.ID, a.Output, a.sure = malformed.ID, malformed.Output, true
		d.limit(&a, from, &d.floods.malformed)
	case from.retained: // [CMD-3]
		a = answerFor(Retained, "")
		a.ID, a.Output = o.ID, o.Output
		d.limit(&a, from, &d.floods.refused)
	default:
		return d.admit(o, from)
	}
	a.Stamp = d.o.Clock.Now()
	return func() Answer { return d.countAnswer(a, from.cause) }
}

// admit queues a well-formed order for its output, if the gate lets it.
func (d *Dispatcher) admit(o Order, from source) (finish func() Answer) {
	j := newJob(o, from)
	now := d.o.Clock.Now()
	d.mu.Lock()
	defer d.mu.Unlock()
	d.ledger.orders.sweep(now)
	r := d.gateLocked(j, now)
	if from.overtaken && (r.verdict == carryOut || r.verdict == justDo) { // [CMD-15]
		r = ruling{verdict: refuse, answer: answerFor(Overtaken, "")}
	}
	switch first := r.first; {
	case r.verdict == join && first.join(from):
		return func() Answer {
			<-first.done
			if first.answer.Status == "" {
				return d.notBegun(o, from)
			}
			return d.repeatAnswer(first.answer, from)
		}
	case r.verdict == join: // it hangs
		a := answerFor(NoResult, "it is still under way")
		a.ID, a.Output, a.Stamp = o.ID, first.order.Output, now
		return func() Answer { return d.repeatAnswer(a, from) }
	case r.verdict == repeat:
		return func() Answer {
			return d.recordAnswer(j, &outcome{answer: r.answer, write: r.write, repeated: true})
		}
	case r.verdict == refuse:
		end := d.refuseLocked(j, r.answer, now)
		return func() Answer { return d.recordAnswer(j, end) }
	}
	j.remember = r.verdict == carryOut
	if !d.queueLocked(o.Output).add(j) {
		end := d.refuseCrowdedLocked(j, now)
		return func() Answer { return d.recordAnswer(j, end) }
	}
	if j.remember {
		d.underWay[o.ID] = j
	}
	return func() Answer { return d.execute(j) }
}

// limit has an answer only counted where there have been so many. [CMD-19]
func (d *Dispatcher) limit(a *Answer, from source, m *limiter) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.floods.limitLocked(a, from, m)
}

// Stats gives the counts now.
func (d *Dispatcher) Stats() Stats {
	d.mu.Lock()
	defer d.mu.Unlock()
	s := d.stats
	s.Unanswered = d.floods.suppressed
	return s
}

func (d *Dispatcher) countStats(fn func(*Stats)) {
	d.mu.Lock()
	defer d.mu.Unlock()
	fn(&d.stats)
}

// countAnswer counts and logs the first answer to an order.
func (d *Dispatcher) countAnswer(a Answer, cause string) Answer {
	d.countStats(func(s *Stats) {
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

// repeatAnswer counts and logs an answer that is given once more.
func (d *Dispatcher) repeatAnswer(a Answer, from source) Answer {
	d.countStats(func(s *Stats) { s.Again++ })
	if !a.suppressed {
		d.limit(&a, from, &d.floods.repeated)
	}
	if !a.suppressed {
		d.o.Log.Info("order repeated", "id", a.ID, "status", string(a.Status), "cause", from.cause)
	}
	return a
}
