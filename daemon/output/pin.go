package output

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync/atomic"
	"syscall"
	"time"

	"fieldpost/daemon/health"
	"fieldpost/daemon/message"
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
// calls into the kernel. A line that is lost and found again may be another one.
type pin struct {
	b      *Bank
	c      Config
	peers  []*pin // with which it is interlocked
	state  atomic.Pointer[State]
	id     atomic.Pointer[board.LineID] // which line it is; nil while that is not known
	stored atomic.Bool                  // Store has a copy of its handle
	away   bool                         // it may be away from its safe level; guarded by b.rights

	recorded atomic.Pointer[board.LineID] // the line that the crash record has of it
	waits    atomic.Bool                  // Run waits for the keeper before it requests the line

	// Of Run alone.
	asked     time.Time // since when it waits for the keeper; zero while it does not
	busySince time.Time // since when Run finds it busy; zero when it is not
	hung      bool      // that has been told

	mu       lock
	line     board.Output  // nil until requested
	onSince  time.Time     // since when it may be on; zero when it is off
	moved    time.Time     // when its level changed last, or may have
	next     end           // what becomes of it in time
	waiting  int           // orders to its safe level that wait for the end of min_on or min_off
	changed  chan struct{} // closed when its level changes; nil while nobody waits for that
	ordered  time.Time     // when the last order was carried out
	owed     owed          // what it must still be driven to
	again    time.Time     // when the next attempt is, after a failure
	wait     time.Duration // the wait before the attempt after that
	wrongOn  bool          // on was read back wrongly, and has not been right since
	wrongOff bool          // off was
}

// owed is a level that a line did not take and must still be given.
type owed struct {
	level Level
	why   why // its cause is "" where nothing is owed
}

func newPin(b *Bank, c Config) *pin {
	p := &pin{b: b, c: c, wait: retryFirst, mu: newLock(), away: true}
	p.state.Store(&State{Name: c.Name, Err: errors.New("not requested yet")})
	return p
}

// recordLine is the pin's line of the crash record, as that line is id.
func (p *pin) recordLine(id board.LineID) Line {
	drive := p.c.Drive
	if drive == "" {
		drive = board.PushPull
	}
	return Line{
		Output: p.c.Name, Label: id.Label, Chip: id.Chip, Offset: id.Offset, Name: id.Name,
		ActiveLow: p.c.ActiveLow, Drive: drive, Safe: p.c.Safe, Held: p.stored.Load(),
	}
}

// fail puts a reason into the state.
func (p *pin) fail(err error) {
	s := *p.state.Load()
	s.Err = err
	p.state.Store(&s)
}

// drive gives the line a level that no order asks for.
func (p *pin) drive(level Level, w why) error {
	if err := p.set(level, w); err != nil {
		p.failed(level, level, w, err)
		return err
	}
	p.next = end{}
	return nil
}

// failed follows a level that the line did not take: it goes to safe, or where
// it has no safe level to back, at once if that was not what has just failed,
// and otherwise when Run comes round.
func (p *pin) failed(level, back Level, w why, err error) {
	if safe, ok := p.c.Safe.Level(); ok {
		back = safe
	}
	p.owed, p.again = owed{back, w}, time.Now().Add(retryFirst)
	p.next = end{}
	if errors.Is(err, syscall.ENODEV) {
		p.vanished(err)
		return
	}
	if level == back {
		return
	}
	if p.drive(back, w) == nil {
		p.fail(err) // it is safe, but the order's failure is still worth seeing
	}
}

// vanished gives up a line whose chip is gone: its handle will never work
// again. Run requests the line anew.
func (p *pin) vanished(err error) {
	line := p.line
	p.line, p.owed, p.onSince = nil, owed{}, time.Time{}
	p.id.Store(nil)
	p.stored.Store(false)
	p.unclaimed(errors.Join(err, line.Close()), time.Now())
}

// set gives the line a level and reads it back. Whoever has it leave its safe
// level has the right to; see interlock.
func (p *pin) set(level Level, w why) error {
	now, has := time.Now(), p.state.Load().Level
	if level == On && p.onSince.IsZero() {
		p.onSince = now // from the attempt on: a failed one may have switched it on
	}
	if level != has {
		p.moved = now
	}
	if err := p.line.Set(bool(level)); err != nil {
		err = fmt.Errorf("set to %s: %w", level, err)
		p.b.o.Health.Raise(health.OutputFailed, p.c.Name, err.Error())
		p.fail(err)
		p.b.whereabouts(p, true)
		return err
	}
	if err := p.verify(level); err != nil {
		p.b.whereabouts(p, true)
		return err
	}
	p.b.o.Health.Clear(health.OutputFailed, p.c.Name)
	p.has(level, w, now)
	p.settled(level)
	return nil
}

// settled gives back the right to be away from the safe level, when the line
// was read back at it.
func (p *pin) settled(level Level) {
	if safe, ok := p.c.Safe.Level(); ok && level == safe {
		p.b.whereabouts(p, false)
	}
}

// has notes a level that the line has taken.
func (p *pin) has(level Level, w why, now time.Time) {
	s := *p.state.Load()
	changed := s.Level != level || s.Since.IsZero()
	if changed {
		s.Since = now
	}
	s.Level, s.Cause, s.Order, s.Err = level, w.cause, w.id, nil
	p.state.Store(&s)
	p.owed = owed{}
	switch {
	case level == Off:
		p.onSince = time.Time{}
	case p.onSince.IsZero():
		p.onSince = now
	}
	if !changed {
		return
	}
	if p.changed != nil {
		close(p.changed)
		p.changed = nil
	}
	if w.cause != CauseStop && w.cause != CauseInitial {
		p.b.levels.put(p.c.Name, level)
	}
	p.tell(level, w)
}

// tell has a change told, to the log and as an event.
func (p *pin) tell(level Level, w why) {
	stamp := p.b.o.Clock.Now()
	fields := []sensors.Field{
		{Name: "output", Value: p.c.Name},
		{Name: "state", Value: level.String()},
		{Name: "cause", Value: w.cause},
	}
	if w.id != "" {
		fields = append(fields, sensors.Field{Name: "id", Value: w.id})
	}
	severity := slog.LevelInfo
	if w.cause == CauseRefresh { // whoever should care for the output has gone
		severity = slog.LevelWarn
	}
	p.b.tells.put(func() {
		p.b.o.Log.Log(context.Background(), severity, "output changed", "output", p.c.Name, "state", level.String(), "cause", w.cause, "id", w.id)
		p.b.o.Event(message.Record{Kind: message.Event, Stamp: stamp, Fields: fields})
	})
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
