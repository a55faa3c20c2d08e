package output

import (
	"errors"
	"fmt"
	"time"
)

// Order is what somebody asks of an output.
type Order struct {
	Output  string        // its name
	Action  Action        // what it is to do
	For     time.Duration // for how long, 0 or more; 0 is for ever, for a pulse [DefaultPulse]
	Expires time.Time     // it does not begin from then on, by the time's monotonic reading; zero is never
	ID      string        // the order's id, for the event; may be empty
	Cause   string        // who gave it, for the event: "mqtt", "local"; [CauseOrder] where it is empty
	// Safe says that the order was let through because it leads to the safe level. It is
	// refused where it energises by now, after a reload.
	Safe  bool
	Waits func() // called when it begins to wait for the end of min_on or min_off; may be nil
}

func (o Order) why() why {
	if o.Cause == "" {
		o.Cause = CauseOrder
	}
	return why{o.Cause, o.ID}
}

// ErrExpired is the reason when an order had to wait for its line until it had
// expired. Nothing was done.
var ErrExpired = errors.New("expired while it waited for its output")

// Do carries out an order. It returns when the line has its level and the
// level was read back.
//
// After the time that an order gives, the output goes back to its safe level;
// where that is keep, to the other level than the order's, and after a pulse to
// the one before. The time has no meaning where the order leads to the safe
// level. Each order replaces the end that one before it has set; max_on goes
// on from when the output was switched on. Each order that is carried out has
// refresh start over, also one for the level that the output has; one that is
// refused has not.
//
// An order waits for the call into the kernel that is under way on its line,
// until it expires, and from then on does nothing. One that energises is refused
// while the output has to keep its level, by min_on or min_off, and while one
// that it is interlocked with may be away from its safe level.
//
// An order to the safe level waits for the end of min_on or min_off, and Do with
// it; it has begun then, and does not expire any more. [Bank.Safe], max_on,
// refresh and the loss of the link end that wait. The output takes other orders meanwhile:
// those that energise are refused. Waits is called so that a queue need not be
// held up, but for the first eight orders that wait for one output only, so that
// a queue still bounds how many do.
//
// An order that fails leaves the line on its way to safe, or where that is
// keep to the level it had, never to act later. The error is or wraps
// [ErrUnknown], [ErrAction], [ErrStopped], [ErrExpired], a [*TooSoonError], an
// [*InterlockError] or a [*FailedError]; nothing was done but for the last. The
// state is what the output is in then.
func (b *Bank) Do(o Order) (State, error) {
	p, ok := b.outputs.Load().byName[o.Output]
	if !ok {
		return State{Name: o.Output}, fmt.Errorf("%w %q", ErrUnknown, o.Output)
	}
	if _, err := ParseAction(string(o.Action)); err != nil {
		return *p.state.Load(), err
	}
	if o.For < 0 {
		return *p.state.Load(), fmt.Errorf("drive output %q: negative duration %s", o.Output, o.For)
	}
	for waited := false; ; {
		a := p.attempt(o, waited)
		b.wake.Set()
		b.events.flush()
		if a.removed { // since it was looked up
			if p, ok = b.outputs.Load().byName[o.Output]; !ok {
				return State{Name: o.Output}, fmt.Errorf("%w %q", ErrUnknown, o.Output)
			}
			continue
		}
		if a.wait == 0 {
			return a.state, a.err
		}
		if !waited && a.frees && o.Waits != nil {
			o.Waits()
		}
		o.Expires, waited = time.Time{}, true
		t := time.NewTimer(a.wait)
		select {
		case <-t.C:
		case <-a.changed:
		case <-b.stopping:
		}
		t.Stop()
	}
}

// attempt is what came of one try to carry out an order: it is done or refused,
// or it has to wait until the output changes, for wait at most.
type attempt struct {
	state   State
	err     error
	wait    time.Duration
	changed <-chan struct{}
	frees   bool // few others wait
	removed bool // the output is no longer one of the bank's, and nothing was done
}

// mostWaiting is how many orders may wait for one output and leave their queue.
const mostWaiting = 8

func (p *pin) attempt(o Order, waited bool) (a attempt) {
	if !p.mu.LockBefore(o.Expires) {
		return attempt{state: *p.state.Load(), err: fmt.Errorf("drive output %q: %w", o.Output, ErrExpired)}
	}
	defer p.mu.Unlock()
	if waited {
		p.waitingOrders--
	}
	_, stopped := p.b.linkState()
	energises := o.Action.Energises(p.c.Safe)
	switch {
	case stopped && !waited:
		return attempt{state: *p.state.Load(), err: ErrStopped}
	case p.removal.begun.Load() && !waited:
		return attempt{removed: true}
	case p.removal.safe: // it has made the output safe, which is what the order waits for
		return attempt{state: *p.state.Load()}
	case energises && o.Safe:
		return attempt{state: *p.state.Load(), err: fmt.Errorf("drive output %q: %w", o.Output, ErrEnergises)}
	}
	level := o.Action.target(p.state.Load().Level, p.restLevel())
	if !stopped && p.line != nil && level != p.state.Load().Level && !energises {
		if wait := p.minimumLeft(time.Now()); wait > 0 {
			p.waitingOrders++
			return attempt{wait: wait, changed: p.waiters.next(), frees: p.waitingOrders <= mostWaiting}
		}
	}
	err := p.execute(o, level)
	return attempt{state: *p.state.Load(), err: err}
}

// checkEnergise says whether an order that energises may act now. It is asked last,
// when nothing else stands between the order and the line.
func (p *pin) checkEnergise(o Order, level Level) error {
	now := time.Now()
	if !o.Expires.IsZero() && !now.Before(o.Expires) {
		return fmt.Errorf("drive output %q: %w", o.Output, ErrExpired)
	}
	has := p.state.Load().Level
	if left := p.minimumLeft(now); level != has && left > 0 {
		return &TooSoonError{p.c.Name, has, left}
	}
	if p.waitingOrders > 0 {
		return &TooSoonError{p.c.Name, has, 0}
	}
	if safe, ok := p.c.Safe.Level(); ok && level == safe {
		return nil
	}
	return p.b.claimEnergised(p)
}

// execute carries out an order now, if it may.
func (p *pin) execute(o Order, level Level) error {
	if p.line == nil {
		return &FailedError{o.Output, p.state.Load().Err}
	}
	if o.Action.Energises(p.c.Safe) {
		if err := p.checkEnergise(o, level); err != nil {
			return err
		}
	}
	before, next := p.state.Load().Level, p.scheduledAfter(o, level)
	if err := p.setLevel(level, o.why()); err != nil {
		p.driveFailed(level, before, why{CauseFailed, o.ID}, err)
		return &FailedError{o.Output, err}
	}
	p.lastOrder, p.scheduled = time.Now(), scheduledLevel{}
	if next.level != level {
		next.at = p.lastOrder.Add(next.after)
		p.scheduled = next
	}
	return nil
}

// scheduledAfter is what an order schedules after it. Its level is the order's own
// where it schedules nothing.
func (p *pin) scheduledAfter(o Order, level Level) scheduledLevel {
	e := scheduledLevel{after: o.For, level: p.restLevel(), why: why{CauseForEnded, o.ID}}
	_, has := p.c.Safe.Level()
	switch {
	case o.Action == ActionPulse:
		e.why.cause = CausePulse
		if o.For == 0 {
			e.after = DefaultPulse
		}
	case !has:
		e.level = !level
	}
	if e.after == 0 {
		e.level = level
	}
	return e
}

// restLevel is the level to which the output goes back: the safe one, or without
// one the level that it has when no pulse is under way.
func (p *pin) restLevel() Level {
	if safe, ok := p.c.Safe.Level(); ok {
		return safe
	}
	if p.scheduled.why.cause == CausePulse {
		return p.scheduled.level
	}
	return p.state.Load().Level
}

// Energises reports whether an action asks an output for any level but its
// safe one; ok is false where there is no such output.
func (b *Bank) Energises(output string, a Action) (energises, ok bool) {
	p, ok := b.outputs.Load().byName[output]
	if !ok {
		return false, false
	}
	return a.Energises(p.c.Safe), true
}
