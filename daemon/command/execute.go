package command

import (
	"errors"
	"fmt"
	"time"

	"fieldpost/daemon/clock"
	"fieldpost/daemon/output"
)

// outcome is the end of an order: its answer and the ledger's record of it. An answer
// without a status means that the order was dropped.
type outcome struct {
	answer   Answer
	write    *queuedWrite // nil if there is none
	repeated bool         // the answer was given before
}

// execute carries out a queued order: it waits for its turn, records the intent, sets the
// line, records the result and returns the answer. One goroutine does this for each
// order; goroutines with a copy of the same order wait for it.
func (d *Dispatcher) execute(j *job) Answer {
	end := d.awaitTurn(j)
	if end == nil && j.energises {
		end = d.recordIntent(j)
	}
	if end == nil {
		end = d.act(j)
	}
	a := d.recordAnswer(j, end)
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.underWay[j.order.ID] == j {
		delete(d.underWay, j.order.ID)
	}
	j.answer = a
	close(j.done)
	return a
}

// recordAnswer waits until the ledger has the answer, counts it and returns it.
func (d *Dispatcher) recordAnswer(j *job, end *outcome) Answer {
	err := d.ledger.wait(end.write, patience) // on an error there is a fault, and the answer is known in memory
	known := end.write != nil || end.repeated
	end.answer.sure = end.write != nil && err == nil || known && d.ledger.isWhole()
	if known && !end.answer.sure && !end.answer.suppressed { // [CMD-14]
		end.answer.saved = d.ledger.saveRuntime(j.order.ID, !j.from.limited) == nil
	}
	switch {
	case end.answer.Status == "":
		return end.answer
	case end.repeated:
		return d.repeatAnswer(end.answer, j.from)
	}
	return d.countAnswer(end.answer, j.from.cause)
}

// awaitTurn waits for the order's turn. It returns an outcome if the order must not
// begin.
func (d *Dispatcher) awaitTurn(j *job) *outcome {
	left := j.timeLeft(d.o.Clock.Now(), d.settings.Load().MaxLife)
	d.waitTurn(j, min(left, crowdedAfter))
	d.mu.Lock()
	far := j.farBack()
	d.mu.Unlock()
	if !far {
		d.waitTurn(j, left-crowdedAfter)
	}
	now := d.o.Clock.Now()
	d.mu.Lock()
	defer d.mu.Unlock()
	switch {
	case j.allLost(): // [CMD-13]
		j.leaveQueue()
		return &outcome{}
	case d.isEnding():
		j.leaveQueue()
		return &outcome{answer: d.notBegun(j.order, j.from)}
	case j.overtaken: // [CMD-15]
		return d.refuseLocked(j, answerFor(Overtaken, ""), now)
	case j.hasTurn:
		return nil
	}
	return d.refuseCrowdedLocked(j, now)
}

// waitTurn waits until it is the order's turn, or it cannot get one any more, for at most
// limit.
func (d *Dispatcher) waitTurn(j *job, limit time.Duration) {
	timer := time.NewTimer(limit)
	defer timer.Stop()
	select {
	case <-j.turn:
	case <-j.over:
	case <-d.ending:
	case <-timer.C:
	}
}

// refuseCrowdedLocked ends an order that has no room, or has waited too long for its
// turn. One to the safe level is not remembered, so that it can be sent again. [CMD-16]
func (d *Dispatcher) refuseCrowdedLocked(j *job, now clock.Stamp) *outcome {
	switch {
	case !j.energises:
		j.remember = false
		a := answerFor(Hangs, "")
		a.ID, a.Output, a.Stamp = j.order.ID, j.order.Output, now
		j.leaveQueue()
		return &outcome{answer: a}
	case j.queue == nil || j.farBack():
		return d.refuseLocked(j, answerFor(Busy, ""), now)
	}
	return d.refuseLocked(j, answerFor(Expired, "it waited for its output until then"), now)
}

// recordIntent checks an energising order at the gate again when it is its turn, and
// waits until its intent is on disk before the line may be set. [CMD-12]
func (d *Dispatcher) recordIntent(j *job) *outcome {
	if err := d.ledger.wait(d.ledger.readable(), patience); err != nil {
		d.o.Log.Debug("cannot read the ledger of orders", "err", err)
	}
	now := d.o.Clock.Now()
	d.mu.Lock()
	r := d.gateLocked(j, now)
	v, a := r.verdict, r.answer
	switch {
	case j.overtaken:
		v, a = refuse, answerFor(Overtaken, "")
	case v == carryOut:
		var err error
		if j.intent, err = d.ledger.recordIntentLocked(j.order, now); errors.Is(err, errFull) { // [CMD-11]
			v, a = refuse, answerFor(TooMany, err.Error())
		} else if err != nil { // [CMD-14]
			v, a = refuse, answerFor(NoLedger, err.Error())
		}
	case v == justDo: // [CMD-14]
		if err := d.ledger.queue.checkLocked(); err != nil {
			v, a = refuse, answerFor(NoLedger, err.Error())
		}
	}
	if v == refuse || v == repeat {
		defer d.mu.Unlock()
		if v == repeat {
			j.leaveQueue()
			return &outcome{answer: a, write: r.write, repeated: true}
		}
		return d.refuseLocked(j, a, now)
	}
	d.mu.Unlock()
	return d.checkAfterIntent(j, d.ledger.wait(j.intent, min(patience, j.timeLeft(now, d.settings.Load().MaxLife))))
}

// checkAfterIntent decides whether the line may be set after the intent was written, or
// failed to be.
func (d *Dispatcher) checkAfterIntent(j *job, err error) *outcome {
	now := d.o.Clock.Now()
	d.mu.Lock()
	defer d.mu.Unlock()
	var a Answer
	switch c, detail := d.checkTimeLocked(j, now); {
	case j.overtaken: // [CMD-15]
		a = answerFor(Overtaken, "")
	case d.isEnding():
		a = answerFor(Stopping, "")
	case c != "":
		a = answerFor(c, detail)
	case err != nil: // [CMD-14]
		a = answerFor(NoLedger, err.Error())
	default:
		j.begun = true
		return nil
	}
	return d.refuseLocked(j, a, now)
}

// act sets the line and records the result.
func (d *Dispatcher) act(j *job) *outcome {
	a := d.drive(j)
	d.mu.Lock()
	defer d.mu.Unlock()
	end := &outcome{answer: a}
	switch {
	case !j.remember:
	case a.Reason == Hangs: // [CMD-16]
	case j.energises:
		end.write = d.ledger.recordResultLocked(j.order.ID, a) // [CMD-12]
	default:
		end.write = d.ledger.recordActLocked(j.order, a) // [CMD-6]
	}
	j.leaveQueue()
	return end
}

// refuseLocked ends an order that does not act, and records it. If there is no room and
// the order might act when it is repeated, it is not answered, because an answered
// refusal must be final. If too many are refused it is neither answered nor recorded.
// [CMD-11] [CMD-19] [CMD-20]
func (d *Dispatcher) refuseLocked(j *job, a Answer, now clock.Stamp) *outcome {
	a.ID, a.Output, a.Stamp = j.order.ID, j.order.Output, now
	answered := d.floods.limitLocked(&a, j.from, &d.floods.refused)
	end := &outcome{answer: a}
	if j.order.ID != "" && (answered || j.intent != nil) {
		var lasts bool
		end.write, lasts = d.ledger.recordRefusalLocked(j.order, a)
		if !lasts && answered {
			d.floods.suppressLocked(&end.answer)
		}
	}
	j.leaveQueue()
	return end
}

// notBegun returns the answer to an order that cannot begin any more. It is empty for an
// order from the broker, which sends it again. [CMD-13]
func (d *Dispatcher) notBegun(o Order, from source) Answer {
	if from.broker {
		return Answer{}
	}
	a := answerFor(Stopping, "")
	a.ID, a.Output, a.Stamp = o.ID, o.Output, d.o.Clock.Now()
	return a
}

func (d *Dispatcher) isEnding() bool {
	select {
	case <-d.ending:
		return true
	default:
		return false
	}
}

// drive makes the output carry out an order and returns its answer.
func (d *Dispatcher) drive(j *job) Answer {
	o := j.order
	state, err := d.o.Outputs.Do(output.Order{
		Output: o.Output, Action: o.Action, Level: o.Level, For: o.For, ID: o.ID, Cause: j.from.cause,
		Safe:    !j.energises,
		Expires: time.Now().Add(j.timeLeft(d.o.Clock.Now(), d.settings.Load().MaxLife)),
		Waits: func() { // [CMD-15]
			d.mu.Lock()
			defer d.mu.Unlock()
			j.leaveQueue()
		},
	})
	var a Answer
	var soon *output.TooSoonError
	var locked *output.InterlockError
	switch {
	case err == nil:
		a = Answer{Status: Done}
	case errors.Is(err, output.ErrStopped):
		a = answerFor(Stopping, "")
	case errors.Is(err, output.ErrUnknown): // [CMD-5]
		a = answerFor(UnknownOutput, fmt.Sprintf("%q", o.Output))
	case errors.Is(err, output.ErrEnergises): // [CMD-12]
		a = answerFor(Reloaded, "")
	case errors.Is(err, output.ErrExpired) && j.energises: // [CMD-9]
		a = answerFor(Expired, "it waited for its output until then")
	case errors.Is(err, output.ErrExpired): // [CMD-16]
		a = answerFor(Hangs, "")
	case errors.Is(err, output.ErrNoLevels): // [CMD-5]
		a = answerFor(NoLevels, fmt.Sprintf("%q", o.Output))
	case errors.As(err, &soon): // [CMD-17]
		a = answerFor(TooSoon, soon.Error())
	case errors.As(err, &locked): // [CMD-17]
		a = answerFor(Interlocked, locked.Error())
	default:
		a = answerFor(OutputFailed, err.Error())
	}
	a.ID, a.Output, a.Stamp = o.ID, o.Output, d.o.Clock.Now()
	if !state.Since.IsZero() { // otherwise the line was never requested, and its level is not known
		a.State = state.Level.Word()
		if state.PWM {
			a.Level = Percent{state.Level.Percent(), true}
		}
	}
	return a
}
