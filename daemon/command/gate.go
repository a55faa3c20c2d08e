package command

import (
	"fmt"
	"time"

	"fieldpost/daemon/clock"
)

// precise is RFC 3339 with milliseconds.
const precise = "2006-01-02T15:04:05.000Z07:00"

// verdict is what the gate says of a well-formed order.
type verdict int

const (
	carryOut verdict = iota // and note the result under its id
	justDo                  // carry out, with nothing to be noted
	join                    // the same is under way: answer as that
	repeat                  // answer as before
	refuse
)

// ruling is a verdict with what belongs to it.
type ruling struct {
	verdict
	answer Answer       // of again and refuse
	write  *queuedWrite // of again: what to wait for until that answer is on disk
	first  *job         // of join: the order that is under way under this id
}

// gate applies the rules from CMD-4 on; see the package's documentation. An
// order passes it when it comes, and when it is its turn. With mu held.
func (d *Dispatcher) gateLocked(j *job, now clock.Stamp) ruling {
	o := j.order
	energises, exists := d.o.Outputs.Energises(o.Output, o.Action)
	j.energises = energises || !exists
	if r, known := d.knownLocked(j, now); known { // [CMD-4]
		return r
	}
	if !exists { // [CMD-5]
		return ruling{verdict: refuse, answer: answerFor(UnknownOutput, fmt.Sprintf("%q", o.Output))}
	}
	if j.energises {
		if c, detail := d.lateLocked(j, now); c != "" {
			return ruling{verdict: refuse, answer: answerFor(c, detail)}
		}
		if err := d.ledger.broken(); err != nil { // [CMD-14]
			return ruling{verdict: refuse, answer: answerFor(NoLedger, err.Error())}
		}
	}
	if o.ID == "" { // [CMD-6]
		return ruling{verdict: justDo}
	}
	return ruling{verdict: carryOut}
}

// known looks for an order's id among those under way and those answered.
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
	before, answer, note, known := d.ledger.first(o.ID)
	switch {
	case !known:
		return ruling{}, false
	case !j.energises && !o.same(before):
		return ruling{verdict: justDo}, true
	case answer == nil: // [CMD-12]
		return ruling{verdict: repeat, answer: *unknown(before, now)}, true
	}
	return ruling{verdict: repeat, answer: *answer, write: note}, true
}

// late applies the rules on the time of an order that energises. What an order
// has is looked at, whatever it may lack.
func (d *Dispatcher) lateLocked(j *job, now clock.Stamp) (c Code, detail string) {
	o := j.order
	left := o.Expires.Sub(now.Wall)
	switch {
	case o.ID == "" && !d.mayBeUnstamped(j): // [CMD-7]
		return Unstamped, "no id"
	case o.Expires.IsZero() && !d.mayBeUnstamped(j): // [CMD-7]
		return Unstamped, "no expires"
	case o.Expires.IsZero() && time.Since(j.came) >= unstampedLife: // [CMD-7]
		return Expired, fmt.Sprintf("it has no expires, and came %s ago", unstampedLife)
	case o.Expires.IsZero():
		return "", ""
	case !now.Synced: // [CMD-8]
		return ClockUnsynced, ""
	case left <= 0: // [CMD-9]
		return Expired, fmt.Sprintf("it expired at %s, and here it is %s", o.Expires.Format(precise), now.Wall.UTC().Format(precise))
	case left > d.o.MaxLife: // [CMD-10]
		return TooFarAhead, fmt.Sprintf("it expires in %s, and %s is the most", left.Round(time.Second), d.o.MaxLife)
	case d.ledger.forgot.has(o.Expires): // [CMD-20]
		return Forgotten, "it expires at " + o.Expires.Format(precise)
	}
	return "", ""
}

// unstamped reports whether the order may go without id and expires. One that
// may have lain with the broker may not, whatever was configured.
func (d *Dispatcher) mayBeUnstamped(j *job) bool { return d.o.Unstamped && !j.from.stored }
