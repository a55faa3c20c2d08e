package command

import (
	"context"
	"strings"
	"time"

	"fieldpost/daemon/clock"
	"fieldpost/daemon/message"
	"fieldpost/sensors"
)

// Status is what became of an order.
type Status string

// The statuses.
const (
	Done    Status = "done"    // the line has its level
	Refused Status = "refused" // nothing was done
	Failed  Status = "failed"  // it was begun and did not succeed
	Unknown Status = "unknown" // it was begun, and its end is not recorded
)

// Answer is what became of an order, for who gave it.
type Answer struct {
	ID     string // the order's; "" where it had none that could be read
	Status Status
	Output string      // "" where the order named none
	State  string      // on or off, the output's level after it; "" where it was not looked at
	Reason Code        // why it is not done; "" when it is
	Hint   string      // what in particular, and what to do; "" when it is done
	Count  uint64      // of [NotAnswered], how many orders; else 0
	Stamp  clock.Stamp // when it was decided

	sure       bool // its order gets it again if that comes again, in a later boot too
	saved      bool // its order gets it again in a later run, until the next boot
	noWait     bool // so many are refused that nobody waits until the broker has it
	suppressed bool // it is counted, and not given
}

// Record is the answer as a message.
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
	if a.Count > 0 {
		fields = append(fields, sensors.Field{Name: "count", Value: int64(a.Count)})
	}
	return message.Record{Kind: message.Answer, Stamp: a.Stamp, Fields: fields}
}

// answerFor makes an answer of a reason; detail says what in particular.
func answerFor(c Code, detail string) Answer {
	r := lookup(c)
	means := r.Means
	if detail != "" {
		means = strings.TrimSuffix(means, ".") + ": " + detail + "."
	}
	return Answer{Status: r.Status, Reason: c, Hint: means + " " + r.Do}
}

// acknowledgeAndAnswer acknowledges an order and delivers its answer, in the sequence
// that costs least if the daemon ends in between. [CMD-13]
func (d *Dispatcher) acknowledgeAndAnswer(ctx context.Context, a Answer, acks *inOrderAcks, ack *pendingAck) {
	switch {
	case a.Status == "": // the broker sends it again
		acks.finish(ack, false)
	case a.suppressed:
		acks.finish(ack, true)
	case a.sure:
		acks.finish(ack, d.deliver(ctx, a, ack != nil && !a.noWait))
	case a.Status == Refused:
		// It must not act after it was answered, and a power cut would have it
		// forgotten: acknowledged first, it does not come again.
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

// noteDelivered notes in the runtime journal, where an answer is there, that a crash
// cannot cost it any more: if that is not known, the next run gives it again. It waits
// for that until ctx ends.
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
	_ = d.ledger.saveRuntime(a.ID, true) // if not, it is given once more
	d.ledger.queue.wake.Set()
}

const (
	// answerPatience is how long the acknowledgement of an order waits for its answer
	// to be safe from a crash. It is much longer than the spool takes, unless the disk
	// fails. If the broker takes no answers then, it sends orders all the same: the
	// next may switch something off.
	answerPatience = 10 * time.Second
	// lastPatience is how long an answer may take, once the dispatcher is to end, to be
	// where a crash cannot cost it.
	lastPatience = time.Second
)

// awaitKept waits until a crash cannot cost an answer any more, at most for
// answerPatience or until ctx ends.
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

// deliver delivers an answer. Where its order waits for its acknowledgement, deliver
// returns when a crash cannot cost the answer any more, or after answerPatience. ok is
// false when the end comes first: then the broker sends the order again, and it gets the
// same answer. [CMD-13]
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
