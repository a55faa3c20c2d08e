package command

import (
	"errors"
	"fmt"
	"time"

	"fieldpost/daemon/clock"
	"fieldpost/daemon/output"
)

// precise is RFC 3339 with milliseconds.
const precise = "2006-01-02T15:04:05.000Z07:00"

// verdict is what the gate says of a well-formed order.
type verdict int

const (
	carryOut verdict = iota // and note the result under its id
	justDo                  // carry out, with nothing to be noted
	again                   // answer as before
	refuse
)

// order takes a well-formed order through the gate and carries it out. The
// lock is not held during the act, so that a line that hangs does not hold up
// orders that come from elsewhere.
func (d *Desk) order(o Order, now clock.Stamp, cause string) Answer {
	v, a := d.judge(o, now)
	switch v {
	case again:
		d.count(func(s *Stats) { s.Again++ })
		d.o.Log.Info("order came again", "id", o.ID, "status", string(a.Status), "cause", cause)
		return a
	case refuse:
		return d.tally(a, cause)
	}
	a = d.act(o, cause)
	if v == carryOut {
		d.mu.Lock()
		d.noted(d.known.settle(o.ID, a), o) // [CMD-12]
		d.mu.Unlock()
	}
	return d.tally(a, cause)
}

// judge asks the gate and notes its verdict, so that of two orders under one
// id, at the same time, only one is carried out.
func (d *Desk) judge(o Order, now clock.Stamp) (verdict, Answer) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.known.forget(now)
	v, a := d.gate(o, now)
	if v == refuse {
		a.ID, a.Output, a.Stamp = o.ID, o.Output, now
		if o.ID != "" {
			d.noted(d.known.refuse(o, a), o) // [CMD-11]
		}
	}
	return v, a
}

// gate applies the rules from CMD-4 on; see the package's documentation.
func (d *Desk) gate(o Order, now clock.Stamp) (verdict, Answer) {
	energises, exists := d.o.Outputs.Energises(o.Output, o.Action)
	if first, answer, known := d.known.first(o.ID); known && o.ID != "" { // [CMD-4]
		switch {
		case exists && !energises && !o.same(first):
			return justDo, Answer{}
		case answer == nil: // [CMD-12]
			a := because(NoResult, "")
			a.ID, a.Output, a.Stamp = first.ID, first.Output, now
			return again, a
		}
		return again, *answer
	}
	if !exists { // [CMD-5]
		return refuse, because(UnknownOutput, fmt.Sprintf("%q", o.Output))
	}
	if energises {
		if c, detail := d.late(o, now); c != "" {
			return refuse, because(c, detail)
		}
	}
	if o.ID == "" { // [CMD-6]
		return justDo, Answer{}
	}
	switch err := d.known.intend(o, now); { // [CMD-12]
	case err == nil:
		return carryOut, Answer{}
	case energises && errors.Is(err, errFull): // [CMD-11]
		return refuse, because(TooMany, err.Error())
	case energises: // [CMD-14]
		return refuse, because(NoLedger, err.Error())
	}
	return justDo, Answer{} // [CMD-6]
}

// late applies the rules on the time of an order that energises.
func (d *Desk) late(o Order, now clock.Stamp) (c Code, detail string) {
	left := o.Expires.Sub(now.Wall)
	switch {
	case o.ID == "": // [CMD-7]
		return Unstamped, "no id"
	case o.Expires.IsZero(): // [CMD-7]
		return Unstamped, "no expires"
	case !now.Synced: // [CMD-8]
		return ClockUnsynced, ""
	case left <= 0: // [CMD-9]
		return Expired, fmt.Sprintf("it expired at %s, and here it is %s", o.Expires.Format(precise), now.Wall.UTC().Format(precise))
	case left > d.o.MaxLife: // [CMD-10]
		return TooFarAhead, fmt.Sprintf("it expires in %s, and %s is the most", left.Round(time.Second), d.o.MaxLife)
	}
	return "", ""
}

// act carries out an order and makes its answer.
func (d *Desk) act(o Order, cause string) Answer {
	state, err := d.o.Outputs.Do(output.Order{Output: o.Output, Action: o.Action, For: o.For, ID: o.ID, Cause: cause})
	var a Answer
	switch {
	case err == nil:
		a = Answer{Status: Done}
	case errors.Is(err, output.ErrStopped):
		a = because(Stopping, "")
	case errors.Is(err, output.ErrUnknown):
		a = because(UnknownOutput, fmt.Sprintf("%q", o.Output))
	default:
		a = because(OutputFailed, err.Error())
	}
	a.ID, a.Output, a.Stamp = o.ID, o.Output, d.o.Clock.Now()
	if !state.Since.IsZero() { // else the line was never ours, and nobody knows its level
		a.State = state.Level.String()
	}
	return a
}

// noted reports that what was decided on an order could not be noted.
func (d *Desk) noted(err error, o Order) {
	if err != nil {
		d.o.Log.Error("order cannot be remembered", "id", o.ID, "err", err)
	}
}
