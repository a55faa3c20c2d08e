package command

import (
	"fmt"
	"time"

	"fieldpost/daemon/clock"
)

// rfc3339Milli is RFC 3339 with milliseconds.
const rfc3339Milli = "2006-01-02T15:04:05.000Z07:00"

// verdict is the gate's decision on a well-formed order.
type verdict int

const (
	carryOut verdict = iota // carry out, and record the result under its id
	justDo                  // carry out without recording
	join                    // the same order is pending: give its answer
	repeat                  // give the first answer again
	refuse
)

// ruling is a verdict with its details.
type ruling struct {
	verdict
	answer Answer       // for repeat and refuse
	write  *queuedWrite // for repeat: done when that answer is on disk
	first  *job         // for join: the pending order with this id
}

// gateLocked applies the rules from CMD-4 on; see the package documentation. It is called
// when an order comes, and again when it is its turn.
func (d *Dispatcher) gateLocked(j *job, now clock.Stamp) ruling {
	o := j.order
	energises, exists := d.o.Outputs.Energises(o.Output, o.Action, o.Level)
	j.energises = energises || !exists
	if r, known := d.knownLocked(j, now); known { // [CMD-4]
		return r
	}
	if !exists { // [CMD-5]
		return ruling{verdict: refuse, answer: answerFor(UnknownOutput, fmt.Sprintf("%q", o.Output))}
	}
	if j.energises {
		if c, detail := d.checkTimeLocked(j, now); c != "" {
			return ruling{verdict: refuse, answer: answerFor(c, detail)}
		}
		if d.ledger.queue.hung { // [CMD-14]
			return ruling{verdict: refuse, answer: answerFor(NoLedger, errHung.Error())}
		}
	}
	if o.ID == "" { // [CMD-6]
		return ruling{verdict: justDo}
	}
	return ruling{verdict: carryOut}
}

// knownLocked looks up an order's id among the pending and the recorded orders.
func (d *Dispatcher) knownLocked(j *job, now clock.Stamp) (r ruling, known bool) {
	o := j.order
	if o.ID == "" {
		return ruling{}, false
	}
	if first := d.underWay[o.ID]; first != nil && first != j {
		if !j.energises && !o.same(first.order) {
			return ruling{verdict: justDo}, true
		}
		return ruling{verdict: join, first: first}, true
	}
	before := d.ledger.findLocked(o.ID)
	switch {
	case before == nil:
		return ruling{}, false
	case !j.energises && !o.same(before.order):
		return ruling{verdict: justDo}, true
	case before.answer == nil: // [CMD-12]
		return ruling{verdict: repeat, answer: *noResult(before.order, now)}, true
	}
	return ruling{verdict: repeat, answer: *before.answer, write: before.write}, true
}

// checkTimeLocked applies the rules on the time of an energising order. It checks
// everything that the order has, even if something else is missing.
func (d *Dispatcher) checkTimeLocked(j *job, now clock.Stamp) (c Code, detail string) {
	o, s := j.order, d.settings.Load()
	left := o.Expires.Sub(now.Wall)
	// An order that a broker may have stored always needs id and expires.
	unstamped := s.Unstamped && !j.from.stored
	switch {
	case o.ID == "" && !unstamped: // [CMD-7]
		return Unstamped, "no id"
	case o.Expires.IsZero() && !unstamped: // [CMD-7]
		return Unstamped, "no expires"
	case o.Expires.IsZero() && time.Since(j.came) >= unstampedLife: // [CMD-7]
		return Expired, fmt.Sprintf("it has no expires, and came %s ago", unstampedLife)
	case o.Expires.IsZero():
		return "", ""
	case !now.Synced: // [CMD-8]
		return ClockUnsynced, ""
	case left <= 0: // [CMD-9]
		return Expired, fmt.Sprintf("it expired at %s, and here it is %s", o.Expires.Format(rfc3339Milli), now.Wall.UTC().Format(rfc3339Milli))
	case left > s.MaxLife: // [CMD-10]
		return TooFarAhead, fmt.Sprintf("it expires in %s, and %s is the most", left.Round(time.Second), s.MaxLife)
	case d.ledger.orders.forgotten.has(o.Expires): // [CMD-20]
		return Forgotten, "it expires at " + o.Expires.Format(rfc3339Milli)
	}
	return "", ""
}
