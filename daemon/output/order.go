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
	For     time.Duration // for how long, 0 or more; then it goes back to its safe level. 0 is for ever, for a pulse [DefaultPulse]
	Expires time.Time     // the order does not act from then on, by the time's monotonic reading; zero is never
	ID      string        // the order's id, for the event; may be empty
	Cause   string        // who gave it, for the event: "mqtt", "local"
}

// by names the order in a state and in the log.
func (o Order) by() string {
	if o.ID == "" {
		return o.Cause
	}
	return fmt.Sprintf("%s order %s", o.Cause, o.ID)
}

// ErrExpired is the reason when an order had to wait for its line until it had
// expired. Nothing was done.
var ErrExpired = errors.New("expired while it waited for its output")

// late says whether the order may not act any more. It is asked when nothing
// stands between it and the line any more.
func (o Order) late(now time.Time) error {
	if !o.Expires.IsZero() && !now.Before(o.Expires) {
		return ErrExpired
	}
	return nil
}

// Do carries out an order now. It returns when the line has its level and the
// level was read back. The time an order gives has no meaning where it leads to
// the safe level. Each order replaces the end that one before it has set;
// max_on goes on from when the output was switched on.
//
// An order waits for the call into the kernel that is under way on its line,
// until it expires, and from then on does nothing.
//
// An order that fails leaves the line on its way to safe, never to act later.
// The error is or wraps [ErrUnknown], [ErrAction], [ErrStopped], [ErrExpired]
// or a [*FailedError]. The state is what the output is in then.
func (b *Bank) Do(o Order) (State, error) {
	p, ok := b.byName[o.Output]
	if !ok {
		return State{Name: o.Output}, fmt.Errorf("%w %q", ErrUnknown, o.Output)
	}
	if _, err := ParseAction(string(o.Action)); err != nil {
		return *p.state.Load(), err
	}
	if o.For < 0 {
		return *p.state.Load(), fmt.Errorf("drive output %q: negative duration %s", o.Output, o.For)
	}
	defer b.again()
	if !p.mu.LockBefore(o.Expires) {
		return *p.state.Load(), fmt.Errorf("drive output %q: %w", o.Output, ErrExpired)
	}
	defer p.mu.Unlock()
	if _, stopped := b.linkDown(); stopped {
		return *p.state.Load(), ErrStopped
	}
	if err := o.late(time.Now()); err != nil {
		return *p.state.Load(), fmt.Errorf("drive output %q: %w", o.Output, err)
	}
	err := p.order(o)
	if err != nil {
		err = &FailedError{o.Output, err}
	}
	return *p.state.Load(), err
}

// Energises reports whether an action asks an output for any level but its
// safe one; ok is false where there is no such output.
func (b *Bank) Energises(output string, a Action) (energises, ok bool) {
	p, ok := b.byName[output]
	if !ok {
		return false, false
	}
	return a.Energises(p.c.Safe), true
}
