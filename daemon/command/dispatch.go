package command

import (
	"cmp"
	"errors"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"fieldpost/daemon/clock"
	"fieldpost/daemon/health"
	"fieldpost/daemon/journal"
	"fieldpost/daemon/message"
	"fieldpost/daemon/output"
)

// Outputs carries out orders: an [output.Bank].
type Outputs interface {
	// Do carries out an order and returns when the line has its level. It does nothing
	// after the order has expired.
	Do(o output.Order) (output.State, error)
	// Energises reports whether an action leads to another level than the output's safe
	// one. ok is false if there is no such output.
	Energises(name string, a output.Action, level output.Level) (energises, ok bool)
}

// Options are the parts of a dispatcher.
type Options struct {
	Thing   string          // this board's name in messages
	Topic   string          // the topic of orders over MQTT; "" means none
	MaxLife time.Duration   // how far ahead an order's expiry may be; 0 means an hour
	Outputs Outputs         // the outputs
	Clock   clock.Clock     // decides whether an order is late
	Answer  Answerer        // delivers answers; called from several goroutines
	Journal journal.Storage // stores the ledger; nil: in memory until the process ends
	// RuntimeJournal is a second journal that outlives the process but not the boot. It
	// takes what cannot be written to Journal; nil means none. [CMD-14]
	RuntimeJournal journal.Storage
	Health         *health.Health // gets the journal's faults; may be nil
	Log            *slog.Logger   // nil discards
	// Unstamped accepts energising orders without id or expires, if nothing can have
	// stored them on the way. [CMD-7]
	Unstamped bool
}

// Settings is the part of [Options] that a reload can change.
type Settings struct {
	Thing     string
	Topic     string
	MaxLife   time.Duration
	Unstamped bool
}

// Answerer delivers an answer. It must not block or call the dispatcher. kept is closed
// when the answer is safe from a crash, which may be never; nil means that it already is.
type Answerer func(message.Record) (kept <-chan struct{})

// Stats counts messages since the start.
type Stats struct {
	Done    uint64 // orders carried out
	Refused uint64 // orders refused
	Failed  uint64 // orders that failed, or whose result is unknown
	Again   uint64 // repeated orders, answered as before
	Passed  uint64 // messages that were no orders for this board
	// Elsewhere counts messages on other topics than that of orders.
	Elsewhere uint64
	// Unanswered counts refused and repeated orders that were only reported in a summary.
	// [CMD-19]
	Unanswered uint64
}

// Dispatcher receives orders, has them carried out and answers them. Its methods may be
// called from any goroutine, but [Dispatcher.Serve] only from one.
type Dispatcher struct {
	o             Options
	settings      atomic.Pointer[Settings]
	ending        chan struct{} // closed when no more orders may begin
	stopAccepting func()        // closes ending
	strays        strays        // used only by Serve

	// mu is never held during calls to a line or the disk. It also guards the ledger and
	// the flood control.
	mu       sync.Mutex
	ledger   *ledger
	floods   *floodControl
	queues   map[string]*outputQueue
	underWay map[string]*job // orders between the gate and their answer, by id
	stats    Stats
	recent   []Answered // the latest answers, oldest first
}

// recentMax is how many answers are remembered for whoever looks.
const recentMax = 20

// Answered is an order's first answer, and who gave the order.
type Answered struct {
	Answer
	Cause string
}

// Recent returns the answers to the latest orders, at most 20, the latest first. Repeated
// orders are not among them, nor those that were only counted.
func (d *Dispatcher) Recent() []Answered {
	d.mu.Lock()
	defer d.mu.Unlock()
	all := slices.Clone(d.recent)
	slices.Reverse(all)
	return all
}

// New makes a dispatcher and reads its journal. It answers orders that were begun and
// have no recorded result.
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

// Reconfigure changes the settings of a running dispatcher. They apply to new orders and
// to those that have not begun. The ledger is kept: an id is known at least as long as
// before, and an order that was carried out or refused does not act if it is repeated.
// Orders for removed outputs, also waiting ones, are refused as soon as [Options].Outputs
// does not know the output; see [output.Bank.Reconfigure].
//
// A dispatcher without a journal never gets one. If a reload may add outputs, give it one
// from the start.
func (d *Dispatcher) Reconfigure(s Settings) {
	s.MaxLife = cmp.Or(s.MaxLife, time.Hour)
	d.mu.Lock()
	defer d.mu.Unlock()
	d.settings.Store(&s)
	d.ledger.orders.maxLife, d.ledger.orders.unstamped = s.MaxLife, s.Unstamped
	for name, q := range d.queues {
		if len(q.jobs) == 0 {
			delete(d.queues, name) // made again when needed
		}
	}
}

// source describes where a message came from.
type source struct {
	cause    string
	retained bool
	broker   bool // the broker sends it again if it is not acknowledged
	stored   bool // a broker may have stored it on the way
	limited  bool // the flood limits apply: its answer goes to the broker, not to a local caller
	// overtaken says that a later order to the safe level was carried out before this one
	// was checked.
	overtaken bool
	lost      func() bool // whether its connection has ended; nil: never
}

// Handle carries out one message and returns its answer, which the caller delivers. ok is
// false if the message is no order for this board. cause says where it came from.
//
// Handle waits for the order's turn, for the line and for the ledger: until the order
// expires, or for a line that hangs until the call returns. Energising orders are carried
// out only while Serve runs.
func (d *Dispatcher) Handle(payload []byte, retained bool, cause string) (a Answer, ok bool) {
	o, err := Decode(payload, d.settings.Load().Thing)
	finish := d.accept(o, err, len(payload), source{cause: cause, retained: retained})
	if finish == nil {
		return Answer{}, false
	}
	return finish(), true
}

// accept decides what to do with a decoded message. It does not block, so that orders
// keep their order. The returned function does the rest and returns the answer. It is nil
// if the message is no order for this board.
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

// admit queues a well-formed order for its output if it passes the gate.
func (d *Dispatcher) admit(o Order, from source) (finish func() Answer) {
	j := newJob(o, from)
	now := d.o.Clock.Now()
	d.mu.Lock()
	defer d.mu.Unlock()
	d.ledger.orders.dropLapsed(now)
	r := d.gateLocked(j, now)
	if from.overtaken && (r.verdict == carryOut || r.verdict == justDo) { // [CMD-15]
		r = ruling{verdict: refuse, answer: answerFor(Overtaken, "")}
	}
	switch first := r.first; {
	case r.verdict == join && first.join(from):
		return func() Answer {
			<-first.done
			if first.answer.Status != "" {
				return d.repeatAnswer(first.answer, from)
			}
			if d.isEnding() || from.lost != nil && from.lost() {
				return d.notBegun(o, from)
			}
			// The first one was dropped with its connection, and this message, of the next
			// one, came before that was known. The broker does not send it again. [CMD-13]
			return d.admit(o, from)()
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

// limit marks an answer as suppressed if there have been too many. [CMD-19]
func (d *Dispatcher) limit(a *Answer, from source, m *limiter) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.floods.limitLocked(a, from, m)
}

// Stats returns the present counts.
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

// remember adds an answer to the recent ones.
func (d *Dispatcher) remember(a Answered) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if len(d.recent) == recentMax {
		copy(d.recent, d.recent[1:])
		d.recent = d.recent[:recentMax-1]
	}
	d.recent = append(d.recent, a)
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
		d.remember(Answered{a, cause})
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
