package output

import (
	"errors"
	"fmt"
	"time"
)

// MaxOrdersPerDay is how many orders with an id all outputs together can carry out in a day:
// package command keeps their ids for at least a day, so that none acts twice.
const MaxOrdersPerDay = 16384

// Order is a command for an output.
type Order struct {
	Output  string        // the output's name
	Action  Action        // what to do
	Level   Level         // the level of set; a line has only Off and On
	For     time.Duration // for how long, 0 or more; 0 means for ever, for a pulse [DefaultPulse]
	Expires time.Time     // from then on it does not begin, by the monotonic clock; zero means never
	ID      string        // the order's id, for the event; may be empty
	Cause   string        // where it came from, for the event: "mqtt", "local"; "" means [CauseOrder]
	// Safe says that the order was accepted because it leads to the safe level. It is
	// refused if it energises after a reload.
	Safe  bool
	Waits func() // called when the order begins to wait for the end of min_on or min_off; may be nil
}

func (o Order) why() why {
	if o.Cause == "" {
		o.Cause = CauseOrder
	}
	return why{o.Cause, o.ID}
}

// ErrExpired is the reason when an order expired while it waited for its line. Nothing
// was done.
var ErrExpired = errors.New("expired while it waited for its output")

// Do carries out an order. It returns after the line has its level and the level was read
// back.
//
// After an order's duration the output goes back to its safe level. With safe: keep it
// goes to the opposite of the order's level, and after a pulse to the level before. An
// order to the safe level has no duration. Each order replaces the end set by an earlier
// one, but max_on counts from when the output was switched on. Each order that is carried
// out restarts refresh, also one for the present level; a refused one does not.
//
// An order waits for the present kernel call on its line, and does nothing once it has
// expired. An energising order is refused while min_on or min_off keep the output's
// level, and while an interlocked output may be away from its safe level.
//
// An order to the safe level waits for the end of min_on or min_off. It has begun by then
// and can no longer expire. [Bank.Safe], max_on, refresh and the loss of the link end the
// wait. Meanwhile the output accepts other orders, but refuses those that energise. Waits
// is called so that the order's queue can continue. It is called only for the first eight
// orders that wait for an output, so that the queue still limits their number.
//
// After an order that fails the line goes to its safe level, or with safe: keep to the
// level before; the order never acts later. The error is or wraps [ErrUnknown],
// [ErrAction], [ErrStopped], [ErrExpired], a [*TooSoonError], an [*InterlockError] or a
// [*FailedError]; only with the last one may something have been done. Do returns the
// output's state after that.
func (b *Bank) Do(o Order) (State, error) {
	p, ok := b.outputs.Load().byName[o.Output]
	if !ok {
		return State{Name: o.Output}, fmt.Errorf("%w %q", ErrUnknown, o.Output)
	}
	if _, err := ParseAction(string(o.Action)); err != nil {
		return *p.state.Load(), err
	}
	if o.Action == ActionSet && p.c.PWM == "" && o.Level != Off && o.Level != On {
		return *p.state.Load(), fmt.Errorf("drive output %q: %w", o.Output, ErrNoLevels)
	}
	if o.For < 0 {
		return *p.state.Load(), fmt.Errorf("drive output %q: negative duration %s", o.Output, o.For)
	}
	for waited := false; ; {
		a := p.attempt(o, waited)
		b.wake.Set()
		b.events.flush()
		if a.removed { // after it was looked up
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

// attempt is the result of one attempt to carry out an order: it is done, or refused, or
// has to wait until the output changes, for at most wait.
type attempt struct {
	state   State
	err     error
	wait    time.Duration
	changed <-chan struct{}
	frees   bool // few enough others wait
	removed bool // the output is no longer one of the bank's, and nothing was done
}

// mostWaiting is how many orders for one output may leave their queue while they wait.
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
	energises := o.Action.Energises(p.c.Safe, o.Level)
	switch {
	case stopped && !waited:
		return attempt{state: *p.state.Load(), err: ErrStopped}
	case p.removal.begun.Load() && !waited:
		return attempt{removed: true}
	case p.removal.safe: // the removal has made the output safe, as the order wants
		return attempt{state: *p.state.Load()}
	case energises && o.Safe:
		return attempt{state: *p.state.Load(), err: fmt.Errorf("drive output %q: %w", o.Output, ErrEnergises)}
	}
	level := o.Action.target(p.state.Load().Level, p.restLevel(), o.Level)
	if !stopped && p.line != nil && level.Word() != p.state.Load().Level.Word() && !energises {
		if wait := p.minimumLeft(time.Now()); wait > 0 {
			p.waitingOrders++
			return attempt{wait: wait, changed: p.waiters.next(), frees: p.waitingOrders <= mostWaiting}
		}
	}
	err := p.execute(o, level)
	return attempt{state: *p.state.Load(), err: err}
}

// checkEnergise returns an error if an energising order must not act now. It is called
// last, immediately before the line is set.
func (p *pin) checkEnergise(o Order, level Level) error {
	now := time.Now()
	if !o.Expires.IsZero() && !now.Before(o.Expires) {
		return fmt.Errorf("drive output %q: %w", o.Output, ErrExpired)
	}
	has := p.state.Load().Level
	if left := p.minimumLeft(now); level.Word() != has.Word() && left > 0 {
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

// execute carries out an order now if it is allowed.
func (p *pin) execute(o Order, level Level) error {
	if p.line == nil {
		return &FailedError{o.Output, p.state.Load().Err}
	}
	if p.b.checkBefore(p); p.line == nil {
		return &FailedError{o.Output, p.state.Load().Err}
	}
	if o.Action.Energises(p.c.Safe, o.Level) {
		if err := p.checkEnergise(o, level); err != nil {
			return err
		}
	}
	before, next := p.state.Load().Level, p.scheduledAfter(o, level)
	if err := p.setLevel(level, o.why()); err != nil {
		p.driveFailed(level, before, why{CauseFailed, o.ID}, err)
		return &FailedError{o.Output, err}
	}
	p.check.noteWanted(p)
	p.lastOrder, p.scheduled = time.Now(), scheduledLevel{}
	if next.level != level {
		next.at = p.lastOrder.Add(next.after)
		p.scheduled = next
	}
	return nil
}

// scheduledAfter returns the level that is scheduled after an order. If none is, its
// level is the order's own.
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
		e.level = level.opposite()
	}
	if e.after == 0 {
		e.level = level
	}
	return e
}

// restLevel returns the level to which the output goes back: the safe one, or without one
// its level outside of pulses.
func (p *pin) restLevel() Level {
	if safe, ok := p.c.Safe.Level(); ok {
		return safe
	}
	if p.scheduled.why.cause == CausePulse {
		return p.scheduled.level
	}
	return p.state.Load().Level
}

// Energises reports whether an action leads to another level than the output's safe one.
// level is that of set. ok is false if there is no such output.
func (b *Bank) Energises(output string, a Action, level Level) (energises, ok bool) {
	p, ok := b.outputs.Load().byName[output]
	if !ok {
		return false, false
	}
	return a.Energises(p.c.Safe, level), true
}
