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
	b         *Bank
	c         Config
	peers     []*pin // with which it is interlocked
	state     atomic.Pointer[State]
	id        atomic.Pointer[board.LineID] // which line it is; nil while that is not known
	stored    atomic.Bool                  // Store has a copy of its handle
	energised bool                         // it may be away from its safe level; guarded by b.rights

	recorded     atomic.Pointer[board.LineID] // the line that the crash record has of it
	awaitsRecord atomic.Bool                  // Run waits for the keeper before it requests the line

	// Of Run alone.
	awaitsRecordSince time.Time // since when it waits for the keeper; zero while it does not
	busySince         time.Time // since when Run finds it busy; zero when it is not
	hungReported      bool      // that has been told

	mu            timedMutex
	line          board.Output   // nil until requested
	onSince       time.Time      // since when it may be on; zero when it is off
	changedAt     time.Time      // when its level changed last, or may have
	scheduled     scheduledLevel // what becomes of it in time
	waitingOrders int            // orders to its safe level that wait for the end of min_on or min_off
	changed       chan struct{}  // closed when its level changes; nil while nobody waits for that
	lastOrder     time.Time      // when the last order was carried out
	owed          owed           // what it must still be driven to
	retryAt       time.Time      // when the next attempt is, after a failure
	retryWait     time.Duration  // the wait before the attempt after that
	wrongOn       bool           // on was read back wrongly, and has not been right since
	wrongOff      bool           // off was
}

// owed is a level that a line did not take and must still be given.
type owed struct {
	level Level
	why   why // its cause is "" where nothing is owed
}

func newPin(b *Bank, c Config) *pin {
	p := &pin{b: b, c: c, retryWait: retryFirst, mu: newTimedMutex(), energised: true}
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
func (p *pin) setErr(err error) {
	s := *p.state.Load()
	s.Err = err
	p.state.Store(&s)
}

// drive gives the line a level that no order asks for.
func (p *pin) driveLevel(level Level, w why) error {
	if err := p.setLevel(level, w); err != nil {
		p.driveFailed(level, level, w, err)
		return err
	}
	p.scheduled = scheduledLevel{}
	return nil
}

// failed follows a level that the line did not take: it goes to safe, or where
// it has no safe level to back, at once if that was not what has just failed,
// and otherwise when Run comes round.
func (p *pin) driveFailed(level, back Level, w why, err error) {
	if safe, ok := p.c.Safe.Level(); ok {
		back = safe
	}
	p.owed, p.retryAt = owed{back, w}, time.Now().Add(retryFirst)
	p.scheduled = scheduledLevel{}
	if errors.Is(err, syscall.ENODEV) {
		p.lineVanished(err)
		return
	}
	if level == back {
		return
	}
	if p.driveLevel(back, w) == nil {
		p.setErr(err) // it is safe, but the order's failure is still worth seeing
	}
}

// vanished gives up a line whose chip is gone: its handle will never work
// again. Run requests the line anew.
func (p *pin) lineVanished(err error) {
	line := p.line
	p.line, p.owed, p.onSince = nil, owed{}, time.Time{}
	p.id.Store(nil)
	p.stored.Store(false)
	p.requestFailed(errors.Join(err, line.Close()), time.Now())
}

// set gives the line a level and reads it back. Whoever has it leave its safe
// level has the right to; see interlock.
func (p *pin) setLevel(level Level, w why) error {
	now, has := time.Now(), p.state.Load().Level
	if level == On && p.onSince.IsZero() {
		p.onSince = now // from the attempt on: a failed one may have switched it on
	}
	if level != has {
		p.changedAt = now
	}
	if err := p.line.Set(bool(level)); err != nil {
		err = fmt.Errorf("set to %s: %w", level, err)
		p.b.o.Health.Raise(health.OutputFailed, p.c.Name, err.Error())
		p.setErr(err)
		p.b.setEnergised(p, true)
		return err
	}
	if err := p.readBack(level); err != nil {
		p.b.setEnergised(p, true)
		return err
	}
	p.b.o.Health.Clear(health.OutputFailed, p.c.Name)
	p.noteLevel(level, w, now)
	p.clearEnergisedAt(level)
	return nil
}

// settled gives back the right to be away from the safe level, when the line
// was read back at it.
func (p *pin) clearEnergisedAt(level Level) {
	if safe, ok := p.c.Safe.Level(); ok && level == safe {
		p.b.setEnergised(p, false)
	}
}

// has notes a level that the line has taken.
func (p *pin) noteLevel(level Level, w why, now time.Time) {
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
		p.b.levels.set(p.c.Name, level)
	}
	p.queueEvent(level, w)
}

// tell has a change told, to the log and as an event.
func (p *pin) queueEvent(level Level, w why) {
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
	p.b.events.add(func() {
		p.b.o.Log.Log(context.Background(), severity, "output changed", "output", p.c.Name, "state", level.String(), "cause", w.cause, "id", w.id)
		p.b.o.Event(message.Record{Kind: message.Event, Stamp: stamp, Fields: fields})
	})
}

// verify reads the level back.
func (p *pin) readBack(level Level) error {
	for range readBacks {
		got, err := p.line.Active()
		if err != nil {
			err = fmt.Errorf("read back: %w", err)
			p.b.o.Health.Raise(health.OutputFailed, p.c.Name, err.Error())
			p.setErr(err)
			return err
		}
		if Level(got) == level {
			p.noteReadBack(level, false)
			return nil
		}
	}
	err := fmt.Errorf("%w: set to %s, reads %s", errMismatch, level, !level)
	p.noteReadBack(level, true)
	p.b.o.Health.Raise(health.LevelMismatch, p.c.Name, err.Error())
	p.setErr(err)
	return err
}

// readWrong keeps the fault up until the very level that was wrong has been
// right: a line shorted to ground is off without fault, and no less shorted.
func (p *pin) noteReadBack(level Level, wrong bool) {
	if level == On {
		p.wrongOn = wrong
	} else {
		p.wrongOff = wrong
	}
	if !p.wrongOn && !p.wrongOff {
		p.b.o.Health.Clear(health.LevelMismatch, p.c.Name)
	}
}

// find learns which line it is.
func (p *pin) findLine() bool {
	id, err := p.b.o.Board.Find(p.c.Pin)
	if err != nil {
		p.requestFailed(err, time.Now())
		return false
	}
	p.id.Store(&id)
	return true
}

// initial is the level that the configuration asks for at the start; keep is
// the one that the line has.
func (p *pin) initial() (level Level, keep bool) {
	switch p.c.Initial {
	case InitialOn:
		return On, false
	case InitialOff:
		return Off, false
	case InitialLast:
		if last, ok := p.b.levels.get(p.c.Name); ok {
			return last, false
		}
		safe, ok := p.c.Safe.Level()
		return safe, !ok
	}
	return Off, true
}

// beginsSafe reports whether the line is to begin at its safe level.
func (p *pin) beginsSafe() bool {
	level, keep := p.initial()
	safe, ok := p.c.Safe.Level()
	return ok && !keep && level == safe
}

// begin decides with which level the line is requested, and what it is given
// in time: an output that may have been switched off a moment ago, by the end
// of the run before, stays so for its min_off.
func (p *pin) initialRequest(now time.Time) (level Level, keep bool, next scheduledLevel) {
	level, keep = p.initial()
	safe, has := p.c.Safe.Level()
	if keep || has && level == safe {
		return level, keep, scheduledLevel{}
	}
	if lost := p.linkLostAt(level); !lost.IsZero() && !now.Before(lost) {
		return safe, false, scheduledLevel{}
	}
	if wait := p.minimum(!level); wait > 0 {
		return safe, !has, scheduledLevel{at: now.Add(wait), level: level, why: why{cause: CauseInitial}}
	}
	if err := p.b.claimEnergised(p); err != nil {
		p.warnNotInitial(level, err)
		return safe, false, scheduledLevel{}
	}
	return level, false, scheduledLevel{}
}

// notBegun tells why a line is not given its initial level.
func (p *pin) warnNotInitial(level Level, err error) {
	p.b.events.add(func() {
		p.b.o.Log.Warn("output does not get its initial level", "output", p.c.Name, "initial", level.String(), "err", err)
	})
}

// request claims the line, at its initial level, when it has been recorded.
func (p *pin) requestLine(now time.Time) {
	if p.id.Load() == nil && !p.findLine() || !p.b.opening && !p.mayRequest(now) {
		return
	}
	level, keep, next := p.initialRequest(now)
	line, err := p.b.o.Held.claim(p.b.o.Board, *p.id.Load(), board.OutputConfig{
		Line: p.c.Pin, ActiveLow: p.c.ActiveLow, Drive: p.c.Drive, Active: bool(level), Keep: keep,
	}, p.b.opening)
	if err != nil {
		p.requestFailed(err, now)
		return
	}
	if keep {
		got, err := line.Active()
		if err != nil {
			p.requestFailed(errors.Join(err, line.Close()), now)
			return
		}
		level = Level(got)
	}
	p.b.o.Health.ClearAll(p.c.Name, lineFaults...)
	p.line, p.retryWait, p.retryAt, p.changedAt, p.onSince = line, retryFirst, time.Time{}, now, time.Time{}
	p.afterRequest(level, next, now)
}

// begun follows the request of a line.
func (p *pin) afterRequest(level Level, next scheduledLevel, now time.Time) {
	id := p.id.Load().String()
	p.b.events.add(func() { p.b.o.Log.Info("output is ours", "output", p.c.Name, "line", id) })
	p.state.Store(&State{Name: p.c.Name, Level: level, Trips: p.state.Load().Trips})
	err := p.readBack(level)
	p.noteLevel(level, why{cause: CauseInitial}, now)
	if err != nil {
		p.setErr(err)
		p.b.setEnergised(p, true)
		p.driveFailed(level, level, why{cause: CauseFailed}, err)
		return
	}
	p.clearEnergisedAt(level)
	if next.level != level {
		p.scheduled = next
	}
	safe, ok := p.c.Safe.Level()
	if !ok {
		p.b.recorder.requestStore()
		return
	}
	if level == safe {
		return
	}
	if err := p.b.claimEnergised(p); err != nil { // a line that was found at that level
		p.warnNotInitial(level, err)
		_ = p.driveLevel(safe, why{cause: CauseInterlock}) // its fault says what is wrong
	}
}

// unclaimed reports why the line is not ours and sets the next attempt.
func (p *pin) requestFailed(err error, now time.Time) {
	p.b.setEnergised(p, true)
	code := faultOf(err)
	for _, c := range lineFaults {
		if c != code {
			p.b.o.Health.Clear(c, p.c.Name)
		}
	}
	p.b.o.Health.Raise(code, p.c.Name, err.Error())
	p.setErr(err)
	p.retryAt = now.Add(p.retryWait)
	p.retryWait = min(2*p.retryWait, retryMost)
}

// lock is a mutex for which one can wait until some time, and no longer: who
// holds it may be in a call into the kernel that does not return.
type timedMutex chan struct{}

func newTimedMutex() timedMutex { return make(timedMutex, 1) }

func (m timedMutex) Lock()   { m <- struct{}{} }
func (m timedMutex) Unlock() { <-m }

// TryLock reports whether it was free, and is the caller's now.
func (m timedMutex) TryLock() bool {
	select {
	case m <- struct{}{}:
		return true
	default:
		return false
	}
}

// LockBefore waits for it until end; the zero time is for ever. It reports
// whether it is the caller's now.
func (m timedMutex) LockBefore(end time.Time) bool {
	if end.IsZero() {
		m.Lock()
		return true
	}
	if m.TryLock() {
		return true
	}
	t := time.NewTimer(time.Until(end))
	defer t.Stop()
	select {
	case m <- struct{}{}:
		return true
	case <-t.C:
		return false
	}
}
