package command

import (
	"errors"
	"fmt"
	"time"

	"fieldpost/daemon/clock"
	"fieldpost/daemon/output"
)

// outcome is how an order ended: its answer, and the entry of the ledger that
// says so. An answer without a status is none: the order was dropped.
type outcome struct {
	answer Answer
	note   *pending // nil where there is none
	again  bool     // the answer was given before
}

// admit takes a well-formed order to its lane, if the gate lets it.
func (d *Desk) admit(o Order, from source) (finish func() Answer) {
	t := newTicket(o, from)
	now := d.o.Clock.Now()
	d.mu.Lock()
	defer d.mu.Unlock()
	d.ledger.forget(now)
	r := d.gate(t, now)
	if from.overtaken && (r.verdict == carryOut || r.verdict == justDo) { // [CMD-15]
		r = ruling{verdict: refuse, answer: because(Overtaken, "")}
	}
	switch first := r.first; {
	case r.verdict == join && first.joins(from):
		return func() Answer {
			<-first.done
			if first.answer.Status == "" {
				return d.unbegun(o, from)
			}
			return d.repeat(first.answer, from)
		}
	case r.verdict == join: // it hangs
		a := because(NoResult, "it is still under way")
		a.ID, a.Output, a.Stamp = o.ID, first.order.Output, now
		return func() Answer { return d.repeat(a, from) }
	case r.verdict == again:
		return func() Answer { return d.give(t, &outcome{answer: r.answer, note: r.note, again: true}) }
	case r.verdict == refuse:
		end := d.refuse(t, r.answer, now)
		return func() Answer { return d.give(t, end) }
	}
	t.noted = r.verdict == carryOut
	if !d.lane(o.Output).enter(t) {
		end := d.crowded(t, now)
		return func() Answer { return d.give(t, end) }
	}
	if t.noted {
		d.flying[o.ID] = t
	}
	return func() Answer { return d.carry(t) }
}

// carry takes an order from its lane to its answer. Only one goroutine does
// that; those who sent the same meanwhile wait for it.
func (d *Desk) carry(t *ticket) Answer {
	end := d.await(t)
	if end == nil && t.energises {
		end = d.intend(t)
	}
	if end == nil {
		end = d.act(t)
	}
	a := d.give(t, end)
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.flying[t.order.ID] == t {
		delete(d.flying, t.order.ID)
	}
	t.answer = a
	close(t.done)
	return a
}

// give waits until the ledger has the answer, counts it and gives it.
func (d *Desk) give(t *ticket, end *outcome) Answer {
	err := d.ledger.wait(end.note, patience) // a fault tells; it is kept in memory
	known := end.note != nil || end.again
	end.answer.sure = end.note != nil && err == nil || known && d.ledger.whole()
	if known && !end.answer.sure && !end.answer.suppressed { // [CMD-14]
		end.answer.saved = d.ledger.saveFallback(t.order.ID, !t.from.limited) == nil
	}
	switch {
	case end.answer.Status == "":
		return end.answer
	case end.again:
		return d.repeat(end.answer, t.from)
	}
	return d.tally(end.answer, t.from.cause)
}

// await waits for the order's turn. It gives an outcome when it is not to begin.
func (d *Desk) await(t *ticket) *outcome {
	left := t.left(d.o.Clock.Now(), d.o.MaxLife)
	d.turn(t, min(left, crowdedAfter))
	d.mu.Lock()
	far := t.far()
	d.mu.Unlock()
	if !far {
		d.turn(t, left-crowdedAfter)
	}
	now := d.o.Clock.Now()
	d.mu.Lock()
	defer d.mu.Unlock()
	switch {
	case t.gone(): // [CMD-13]
		t.leave()
		return &outcome{}
	case d.ended():
		t.leave()
		return &outcome{answer: d.unbegun(t.order, t.from)}
	case t.overtaken: // [CMD-15]
		return d.refuse(t, because(Overtaken, ""), now)
	case t.hasTurn:
		return nil
	}
	return d.crowded(t, now)
}

// turn waits until it is the order's turn or it is not to have one, at most for
// limit.
func (d *Desk) turn(t *ticket, limit time.Duration) {
	timer := time.NewTimer(limit)
	defer timer.Stop()
	select {
	case <-t.turn:
	case <-t.over:
	case <-d.ending:
	case <-timer.C:
	}
}

// crowded ends an order that finds no room, or has waited for its turn for as
// long as it may. One to the safe level is not remembered: sent again, it tries
// again. [CMD-16]
func (d *Desk) crowded(t *ticket, now clock.Stamp) *outcome {
	switch {
	case !t.energises:
		t.noted = false
		a := because(Hangs, "")
		a.ID, a.Output, a.Stamp = t.order.ID, t.order.Output, now
		t.leave()
		return &outcome{answer: a}
	case t.lane == nil || t.far():
		return d.refuse(t, because(Busy, ""), now)
	}
	return d.refuse(t, because(Expired, "it waited for its output until then"), now)
}

// intend takes an order that energises through the gate once more, now that it
// is its turn, and has its intent on disk before the line may move. [CMD-12]
func (d *Desk) intend(t *ticket) *outcome {
	if err := d.ledger.wait(d.ledger.readable(), patience); err != nil {
		d.o.Log.Debug("ledger of orders is not readable", "err", err)
	}
	now := d.o.Clock.Now()
	d.mu.Lock()
	r := d.gate(t, now)
	v, a := r.verdict, r.answer
	switch {
	case t.overtaken:
		v, a = refuse, because(Overtaken, "")
	case v == carryOut:
		var err error
		if t.note, err = d.ledger.intend(t.order, now); errors.Is(err, errFull) { // [CMD-11]
			v, a = refuse, because(TooMany, err.Error())
		} else if err != nil { // [CMD-14]
			v, a = refuse, because(NoLedger, err.Error())
		}
	case v == justDo: // [CMD-14]
		if err := d.ledger.usable(); err != nil {
			v, a = refuse, because(NoLedger, err.Error())
		}
	}
	if v == refuse || v == again {
		defer d.mu.Unlock()
		if v == again {
			t.leave()
			return &outcome{answer: a, note: r.note, again: true}
		}
		return d.refuse(t, a, now)
	}
	d.mu.Unlock()
	return d.intended(t, d.ledger.wait(t.note, min(patience, t.left(now, d.o.MaxLife))))
}

// intended has the line move, or not, now that the intent is on disk, or is not.
func (d *Desk) intended(t *ticket, err error) *outcome {
	now := d.o.Clock.Now()
	d.mu.Lock()
	defer d.mu.Unlock()
	var a Answer
	switch c, detail := d.late(t, now); {
	case t.overtaken: // [CMD-15]
		a = because(Overtaken, "")
	case d.ended():
		a = because(Stopping, "")
	case c != "":
		a = because(c, detail)
	case err != nil: // [CMD-14]
		a = because(NoLedger, err.Error())
	default:
		t.begun = true
		return nil
	}
	return d.refuse(t, a, now)
}

// act moves the line.
func (d *Desk) act(t *ticket) *outcome {
	a := d.drive(t)
	d.mu.Lock()
	defer d.mu.Unlock()
	end := &outcome{answer: a}
	switch {
	case !t.noted:
	case a.Reason == Hangs: // [CMD-16]
	case t.energises:
		end.note = d.ledger.settle(t.order.ID, a) // [CMD-12]
	default:
		end.note = d.ledger.acted(t.order, a) // [CMD-6]
	}
	t.leave()
	return end
}

// refuse ends an order that does not act, and has it remembered. Where it
// cannot be, and might act if it came again, it is not answered: nobody is told
// of a refusal that need not last. Nor is it where so many are refused; that one
// is not remembered. [CMD-11] [CMD-19] [CMD-20]
func (d *Desk) refuse(t *ticket, a Answer, now clock.Stamp) *outcome {
	a.ID, a.Output, a.Stamp = t.order.ID, t.order.Output, now
	told := d.limitLocked(&a, t.from, &d.refused)
	end := &outcome{answer: a}
	if t.order.ID != "" && (told || t.note != nil) {
		var lasts bool
		end.note, lasts = d.ledger.refuse(t.order, a)
		if !lasts && told {
			d.suppress(&end.answer)
		}
	}
	t.leave()
	return end
}

// unbegun is the answer to an order that may not begin any more: none for the
// broker's, which it sends again. [CMD-13]
func (d *Desk) unbegun(o Order, from source) Answer {
	if from.mail {
		return Answer{}
	}
	a := because(Stopping, "")
	a.ID, a.Output, a.Stamp = o.ID, o.Output, d.o.Clock.Now()
	return a
}

func (d *Desk) ended() bool {
	select {
	case <-d.ending:
		return true
	default:
		return false
	}
}

// drive carries out an order and makes its answer.
func (d *Desk) drive(t *ticket) Answer {
	o := t.order
	state, err := d.o.Outputs.Do(output.Order{
		Output: o.Output, Action: o.Action, For: o.For, ID: o.ID, Cause: t.from.cause,
		Expires: time.Now().Add(t.left(d.o.Clock.Now(), d.o.MaxLife)),
		Waits: func() { // [CMD-15]
			d.mu.Lock()
			defer d.mu.Unlock()
			t.leave()
		},
	})
	var a Answer
	var soon *output.TooSoonError
	var locked *output.InterlockError
	switch {
	case err == nil:
		a = Answer{Status: Done}
	case errors.Is(err, output.ErrStopped):
		a = because(Stopping, "")
	case errors.Is(err, output.ErrUnknown):
		a = because(UnknownOutput, fmt.Sprintf("%q", o.Output))
	case errors.Is(err, output.ErrExpired) && t.energises: // [CMD-9]
		a = because(Expired, "it waited for its output until then")
	case errors.Is(err, output.ErrExpired): // [CMD-16]
		a = because(Hangs, "")
	case errors.As(err, &soon): // [CMD-17]
		a = because(TooSoon, soon.Error())
	case errors.As(err, &locked): // [CMD-17]
		a = because(Interlocked, locked.Error())
	default:
		a = because(OutputFailed, err.Error())
	}
	a.ID, a.Output, a.Stamp = o.ID, o.Output, d.o.Clock.Now()
	if !state.Since.IsZero() { // else the line was never ours, and nobody knows its level
		a.State = state.Level.String()
	}
	return a
}
