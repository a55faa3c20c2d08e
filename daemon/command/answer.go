package command

import (
	"context"
	"strings"
	"time"

	"fieldpost/daemon/clock"
	"fieldpost/daemon/message"
	"fieldpost/sensors"
)

// Status is the outcome of an order.
type Status string

// The statuses.
const (
	Done    Status = "done"    // the line has its level
	Refused Status = "refused" // nothing was done
	Failed  Status = "failed"  // it was begun and failed
	Unknown Status = "unknown" // it was begun, and its result is not recorded
)

// Answer tells the sender of an order its outcome.
type Answer struct {
	ID     string // the order's id; "" if it has none or it cannot be read
	Status Status
	Output string      // "" if the order names none
	State  string      // on or off, the output's level after the order; "" if it is not known
	Level  Percent     // the level of a PWM output; not Known of others, or if it is not known
	Reason Code        // why it is not done; "" if it is
	Hint   string      // details and what to do; "" if it is done
	Count  uint64      // the number of orders of a [NotAnswered]; otherwise 0
	Stamp  clock.Stamp // when the outcome was decided

	sure       bool // a repeated order gets it again, also in a later boot
	saved      bool // a repeated order gets it again in a later run, until the next boot
	noWait     bool // too many are refused to wait until the broker has this answer
	suppressed bool // it is only counted, not given
}

// Percent is the level of a PWM output.
type Percent struct {
	Value float64 // 0 to 100
	Known bool
}

// Pointer returns the value, or nil if it is not known.
func (p Percent) Pointer() *float64 {
	if !p.Known {
		return nil
	}
	return &p.Value
}

// Record returns the answer as a message.
func (a Answer) Record() message.Record {
	var fields []sensors.Field
	for _, f := range []sensors.Field{
		{Name: "id", Value: a.ID},
		{Name: "status", Value: string(a.Status)},
		{Name: "output", Value: a.Output},
		{Name: "state", Value: a.State},
		{Name: "reason", Value: string(a.Reason)},
		{Name: "hint", Value: a.Hint},
	} {
		if f.Value != "" {
			fields = append(fields, f)
		}
	}
	if a.Level.Known {
		fields = append(fields, sensors.Field{Name: "level", Value: a.Level.Value})
	}
	if a.Count > 0 {
		fields = append(fields, sensors.Field{Name: "count", Value: int64(a.Count)})
	}
	return message.Record{Kind: message.Answer, Stamp: a.Stamp, Fields: fields}
}

// answerFor makes an answer with a reason and details.
func answerFor(c Code, detail string) Answer {
	r := lookup(c)
	means := r.Means
	if detail != "" {
		means = strings.TrimSuffix(means, ".") + ": " + detail + "."
	}
	return Answer{Status: r.Status, Reason: c, Hint: means + " " + r.Do}
}

// acknowledgeAndAnswer acknowledges an order and delivers its answer, in the order that
// loses least if the daemon ends in between. [CMD-13]
func (d *Dispatcher) acknowledgeAndAnswer(ctx context.Context, a Answer, acks *inOrderAcks, ack *pendingAck) {
	switch {
	case a.Status == "": // the broker sends it again
		acks.finish(ack, false)
	case a.suppressed:
		acks.finish(ack, true)
	case a.sure:
		acks.finish(ack, d.deliver(ctx, a, ack != nil && !a.noWait))
	case a.Status == Refused:
		// The order must not act after this answer, but a power cut would make the ledger
		// forget it. If it is acknowledged first, it does not come again.
		acks.finish(ack, true)
		if ack != nil {
			select {
			case <-ack.sent:
			case <-ctx.Done():
			}
		}
		d.deliverUnsure(ctx, a)
	default:
		kept := d.o.Answer(a.Record())
		if a.saved {
			awaitKept(ctx, kept)
		}
		acks.finish(ack, true)
		d.noteDelivered(ctx, a, kept)
	}
}

// deliverUnsure delivers an answer that is not in the ledger on disk.
func (d *Dispatcher) deliverUnsure(ctx context.Context, a Answer) {
	d.noteDelivered(ctx, a, d.o.Answer(a.Record()))
}

// noteDelivered marks an answer in the runtime journal as delivered when it is safe from
// a crash. It waits for that until ctx ends. Without the mark the next run gives the
// answer again.
func (d *Dispatcher) noteDelivered(ctx context.Context, a Answer, kept <-chan struct{}) {
	if !a.saved {
		return
	}
	if kept != nil {
		select {
		case <-kept:
		case <-ctx.Done():
			return
		}
	}
	_ = d.ledger.saveRuntime(a.ID, true) // if that fails, it is given once more
	d.ledger.queue.wake.Set()
}

const (
	// answerPatience is how long the acknowledgement of an order waits for its answer to
	// be safe from a crash. The spool takes much less, unless the disk fails. Even if the
	// broker accepts no answers then, it must get acknowledgements, because it may have
	// more orders, such as one to switch off.
	answerPatience = 10 * time.Second
	// lastPatience is how long the ending dispatcher waits until an answer is safe from a
	// crash.
	lastPatience = time.Second
)

// awaitKept waits until an answer is safe from a crash, for at most answerPatience, or
// until ctx ends.
func awaitKept(ctx context.Context, kept <-chan struct{}) {
	if kept == nil {
		return
	}
	timer := time.NewTimer(answerPatience)
	defer timer.Stop()
	select {
	case <-kept:
	case <-ctx.Done():
	case <-timer.C:
	}
}

// deliver delivers an answer. With waits it returns when the answer is safe from a crash,
// or after answerPatience. ok is false if the dispatcher ends first: then the broker
// sends the order again, and it gets the same answer. [CMD-13]
func (d *Dispatcher) deliver(ctx context.Context, a Answer, waits bool) (ok bool) {
	kept := d.o.Answer(a.Record())
	if kept == nil || !waits {
		return true
	}
	awaitKept(ctx, kept)
	if ctx.Err() == nil {
		return true
	}
	timer := time.NewTimer(lastPatience)
	defer timer.Stop()
	select {
	case <-kept:
		return true
	case <-timer.C:
		return false
	}
}
