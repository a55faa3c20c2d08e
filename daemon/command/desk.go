package command

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	"fieldpost/daemon/clock"
	"fieldpost/daemon/health"
	"fieldpost/daemon/output"
	"fieldpost/daemon/spool"
	"fieldpost/daemon/uplink"
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

// Options is what a desk is made of.
type Options struct {
	Thing   string             // our name in messages
	MaxLife time.Duration      // how far ahead an order's expiry may lie; 0 is an hour
	Outputs Outputs            // what orders move
	Clock   clock.Clock        // whether an order is late
	Answer  func(spool.Record) // records an answer; returns when it is kept, and does not call the desk
	Journal Journal            // where orders are remembered; nil is in memory, until the process ends
	Health  *health.Health     // is told of the journal's faults; nil tells nobody
	Log     *slog.Logger       // nil discards
}

// Stats counts what came in since the start.
type Stats struct {
	Done    uint64 // orders carried out
	Refused uint64 // orders refused
	Failed  uint64 // orders that did not succeed, or of which that is not known
	Again   uint64 // orders that came again, and were answered as before
	Passed  uint64 // messages that were no orders to this board
}

// Desk takes orders and answers them. Its methods may be called from any
// goroutine.
type Desk struct {
	o Options

	mu    sync.Mutex
	known remember
	stats Stats
}

// New makes a desk that knows of the orders in its journal. Those that were
// begun, and whose end is not recorded, it answers.
func New(o Options) *Desk {
	if o.MaxLife == 0 {
		o.MaxLife = time.Hour
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Health == nil {
		o.Health = health.New(func(health.Change) {})
	}
	if o.Journal == nil {
		return &Desk{o: o, known: newMemory(o.MaxLife)}
	}
	return &Desk{o: o, known: newLedger(o)}
}

// Serve carries out the orders that come in, one after the other, until ctx
// ends or in is closed. After ctx has ended it takes none. [CMD-13]
func (d *Desk) Serve(ctx context.Context, in <-chan uplink.Message) error {
	sweep := time.NewTicker(time.Minute)
	defer sweep.Stop()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-sweep.C:
			d.tidy()
		case m, ok := <-in:
			switch {
			case ctx.Err() != nil:
				return ctx.Err()
			case !ok:
				return nil
			case m.Lost():
				continue
			}
			if a, ok := d.Handle(m.Payload, m.Retained, "mqtt"); ok {
				d.o.Answer(a.Record())
			}
			m.Ack()
		}
	}
}

// tidy forgets, and tries a journal again that failed, though no order comes.
func (d *Desk) tidy() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.known.forget(d.o.Clock.Now())
}

// Handle does with one message what is to be done and gives the answer; ok is
// false for one that is no order to this board. cause says where it came from.
// The answer is the caller's to pass on.
func (d *Desk) Handle(payload []byte, retained bool, cause string) (a Answer, ok bool) {
	o, err := Decode(payload, d.o.Thing)
	if errors.Is(err, ErrNotOrder) {
		d.count(func(s *Stats) { s.Passed++ })
		d.o.Log.Debug("message passed over", "cause", cause, "bytes", len(payload), "err", err.Error())
		return Answer{}, false
	}
	now := d.o.Clock.Now()
	var malformed *RefusedError
	switch {
	case errors.As(err, &malformed): // [CMD-2]
		a = because(malformed.Code, malformed.Detail)
		a.ID, a.Output = malformed.ID, malformed.Output
	case retained: // [CMD-3]
		a = because(Retained, "")
		a.ID, a.Output = o.ID, o.Output
	default:
		return d.order(o, now, cause), true
	}
	a.Stamp = now
	return d.tally(a, cause), true
}

// Stats gives the counts now.
func (d *Desk) Stats() Stats {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.stats
}

func (d *Desk) count(fn func(*Stats)) {
	d.mu.Lock()
	defer d.mu.Unlock()
	fn(&d.stats)
}

// tally counts and logs the first answer to an order.
func (d *Desk) tally(a Answer, cause string) Answer {
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
	d.o.Log.Info("order answered", "id", a.ID, "output", a.Output, "status", string(a.Status), "reason", string(a.Reason), "cause", cause)
	return a
}
