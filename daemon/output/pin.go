package output

import (
	"errors"
	"fmt"
	"sync/atomic"
	"syscall"
	"time"

	"fieldpost/daemon/health"
	"fieldpost/daemon/spool"
	"fieldpost/sensors"
	"fieldpost/sensors/board"
)

// How long Run waits before it tries again: to request a line, growing from
// the first to the last; to make a line safe, always the first.
const (
	retryFirst = time.Second
	retryMost  = 30 * time.Second
)

// readBacks is how often a level is read back until it is believed to be
// wrong. An open-drain line takes some microseconds to rise.
const readBacks = 3

// errMismatch is the reason when a line reads back another level than it was
// set to.
var errMismatch = errors.New("reads back another level")

// pin is one output. What stands below mu is guarded by it; it is held during
// calls into the kernel. Only Run's goroutine writes id.
type pin struct {
	b     *Bank
	c     Config
	state atomic.Pointer[State]
	found atomic.Bool // which line it is is known; that it is not any more, by whoever meets that

	// Of Run alone.
	busySince time.Time // since when Run finds it busy; zero when it is not
	hung      bool      // that has been told

	mu       lock
	id       board.LineID
	line     board.Output // nil until requested
	onSince  time.Time    // since when it may be on; zero when it is off
	ends     time.Time    // when the last order's time is over; zero is never
	endCause string
	ordered  time.Time     // when the last order was carried out
	owed     string        // the cause for which it must still be made safe; "" when it need not
	again    time.Time     // when the next attempt is, after a failure
	wait     time.Duration // the wait before the attempt after that
	wrongOn  bool          // on was read back wrongly, and has not been right since
	wrongOff bool          // off was
}

func newPin(b *Bank, c Config) *pin {
	p := &pin{b: b, c: c, wait: retryFirst, mu: newLock()}
	p.state.Store(&State{Name: c.Name, Err: errors.New("not requested yet")})
	return p
}

// recordLine is the pin's line of the crash record.
func (p *pin) recordLine() Line {
	drive := p.c.Drive
	if drive == "" {
		drive = board.PushPull
	}
	return Line{
		Output: p.c.Name, Label: p.id.Label, Chip: p.id.Chip, Offset: p.id.Offset, Name: p.id.Name,
		ActiveLow: p.c.ActiveLow, Drive: drive, Safe: p.c.Safe,
	}
}

// find learns which line it is.
func (p *pin) find() bool {
	id, err := p.b.o.Board.Find(p.c.Pin)
	if err != nil {
		p.unclaimed(err, time.Now())
		return false
	}
	p.id = id
	p.found.Store(true)
	return true
}

// request claims the line, at its initial level, and records it before that.
func (p *pin) request(now time.Time) {
	if !p.found.Load() {
		if !p.find() {
			return
		}
		p.b.record(now)
	}
	level := p.c.Initial
	if p.linkLostAt(level) != (time.Time{}) && !now.Before(p.linkLostAt(level)) {
		level = p.c.Safe
	}
	line, err := p.b.o.Held.claim(p.b.o.Board, p.id, board.OutputConfig{
		Line: p.c.Pin, ActiveLow: p.c.ActiveLow, Drive: p.c.Drive, Active: bool(level),
	})
	if err != nil {
		p.unclaimed(err, now)
		return
	}
	p.b.o.Health.ClearAll(p.c.Name, health.Absent, health.Denied, health.LineBusy, health.OutputFailed)
	p.line, p.wait, p.again = line, retryFirst, time.Time{}
	if level == On {
		p.onSince = now
	}
	p.state.Store(&State{Name: p.c.Name, Level: level, Since: now, Cause: CauseInitial})
	p.b.o.Log.Info("output is ours", "output", p.c.Name, "line", p.id.String(), "state", level.String())
	if err := p.verify(level); err != nil {
		p.failed(level, CauseFailed, err)
	}
}

// unclaimed reports why the line is not ours and sets the next attempt.
func (p *pin) unclaimed(err error, now time.Time) {
	code := faultOf(err)
	for _, c := range []health.Code{health.Absent, health.Denied, health.LineBusy, health.OutputFailed} {
		if c != code {
			p.b.o.Health.Clear(c, p.c.Name)
		}
	}
	p.b.o.Health.Raise(code, p.c.Name, err.Error())
	p.fail(err)
	p.again = now.Add(p.wait)
	p.wait = min(2*p.wait, retryMost)
}

// fail puts a reason into the state.
func (p *pin) fail(err error) {
	s := *p.state.Load()
	s.Err = err
	p.state.Store(&s)
}

// order carries out an order.
func (p *pin) order(o Order) error {
	if p.line == nil {
		return p.state.Load().Err
	}
	level := o.Action.target(p.state.Load().Level, p.c.Safe)
	if err := p.set(level, o.by()); err != nil {
		p.failed(level, CauseFailed, err)
		return err
	}
	now := time.Now()
	p.ordered, p.ends, p.endCause = now, time.Time{}, CauseForEnded
	d := o.For
	if o.Action == ActionPulse {
		p.endCause = CausePulse
		if d == 0 {
			d = DefaultPulse
		}
	}
	if d > 0 && level != p.c.Safe {
		p.ends = now.Add(d)
	}
	return nil
}

// drive gives the line a level that no order asked for, and tells of it.
func (p *pin) drive(level Level, cause string) error {
	before := p.state.Load().Level
	if err := p.set(level, cause); err != nil {
		p.failed(level, cause, err)
		return err
	}
	p.ends = time.Time{}
	if before != level {
		p.event(level, cause)
	}
	return nil
}

// failed follows a level that the line did not take: it goes to safe, at once
// if that was not what has just failed, and otherwise when Run comes round.
func (p *pin) failed(level Level, cause string, err error) {
	p.owed, p.again = cause, time.Now().Add(retryFirst)
	p.ends = time.Time{}
	if errors.Is(err, syscall.ENODEV) {
		p.vanished(err)
		return
	}
	if level == p.c.Safe {
		return
	}
	if p.drive(p.c.Safe, cause) == nil {
		p.fail(err) // it is safe, but the order's failure is still worth seeing
	}
}

// vanished gives up a line whose chip is gone: its handle will never work
// again. Run requests the line anew.
func (p *pin) vanished(err error) {
	line := p.line
	p.line, p.owed, p.onSince = nil, "", time.Time{}
	p.found.Store(false)
	p.unclaimed(errors.Join(err, line.Close()), time.Now())
}

// set gives the line a level and reads it back.
func (p *pin) set(level Level, cause string) error {
	now := time.Now()
	if level == On && p.onSince.IsZero() {
		p.onSince = now // from the attempt on: a failed one may have switched it on
	}
	if err := p.line.Set(bool(level)); err != nil {
		err = fmt.Errorf("set to %s: %w", level, err)
		p.b.o.Health.Raise(health.OutputFailed, p.c.Name, err.Error())
		p.fail(err)
		return err
	}
	if err := p.verify(level); err != nil {
		return err
	}
	p.b.o.Health.Clear(health.OutputFailed, p.c.Name)
	p.owed = ""
	if level == Off {
		p.onSince = time.Time{}
	}
	s := *p.state.Load()
	if s.Level != level {
		s.Since = now
		p.b.o.Log.Info("output changed", "output", p.c.Name, "state", level.String(), "cause", cause)
	}
	s.Level, s.Cause, s.Err = level, cause, nil
	p.state.Store(&s)
	return nil
}

// verify reads the level back.
func (p *pin) verify(level Level) error {
	for range readBacks {
		got, err := p.line.Active()
		if err != nil {
			err = fmt.Errorf("read back: %w", err)
			p.b.o.Health.Raise(health.OutputFailed, p.c.Name, err.Error())
			p.fail(err)
			return err
		}
		if Level(got) == level {
			p.readWrong(level, false)
			return nil
		}
	}
	err := fmt.Errorf("%w: set to %s, reads %s", errMismatch, level, !level)
	p.readWrong(level, true)
	p.b.o.Health.Raise(health.LevelMismatch, p.c.Name, err.Error())
	p.fail(err)
	return err
}

// readWrong keeps the fault up until the very level that was wrong has been
// right: a line shorted to ground is off without fault, and no less shorted.
func (p *pin) readWrong(level Level, wrong bool) {
	if level == On {
		p.wrongOn = wrong
	} else {
		p.wrongOff = wrong
	}
	if !p.wrongOn && !p.wrongOff {
		p.b.o.Health.Clear(health.LevelMismatch, p.c.Name)
	}
}

// event reports a change that no order made.
func (p *pin) event(level Level, cause string) {
	p.b.o.Event(spool.Record{
		Kind:  spool.Event,
		Stamp: p.b.o.Clock.Now(),
		Fields: []sensors.Field{
			{Name: "output", Value: p.c.Name},
			{Name: "state", Value: level.String()},
			{Name: "cause", Value: cause},
		},
	})
}
