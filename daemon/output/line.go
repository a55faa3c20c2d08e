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

// Waits between attempts of Run. The request of a line is retried after
// retryFirst, then after twice as long each time, up to retryMost. A line that
// must become safe is retried every retryFirst.
const (
	retryFirst = time.Second
	retryMost  = 30 * time.Second
)

// readBacks is how often a level is read back before it counts as wrong. An
// open-drain line takes some microseconds to rise.
const readBacks = 3

// errMismatch is the reason when a line reads back another level than it was
// set to.
var errMismatch = errors.New("reads back another level")

// pin is one output. Its mu is held during calls into the kernel and guards the
// fields below it. The line may be lost and found again, under another ID.
type pin struct {
	b         *Bank
	c         Config // as it was first configured; what a reload may change of it is in bounds
	bounds    atomic.Pointer[bounds]
	peers     []*pin // interlocked with this one; guarded by b.energisedMu
	energised bool   // may be away from its safe level; guarded by b.energisedMu
	state     atomic.Pointer[State]
	id        atomic.Pointer[board.LineID] // nil while the line is not found
	stored    atomic.Bool                  // systemd has a copy of the line's handle
	record    recordWait
	removal   removal
	hang      hangWatch // Run's own

	mu            timedMutex
	line          board.Output // nil while the line is not requested
	onSince       time.Time    // since when it may be on; zero when it is off
	changedAt     time.Time    // when its level last changed, or may have
	scheduled     scheduledLevel
	waitingOrders int           // orders to the safe level that wait for the end of min_on or min_off
	waiters       changeWaiters // who waits for another level or other bounds
	lastOrder     time.Time     // when an order was last carried out
	owed          owed          // the level it must still be driven to
	retryAt       time.Time     // when Run tries again after a failure
	retryWait     time.Duration // the wait after the next failed request
	wrong         struct{ on, off bool }
	tried         chan struct{} // closed when the line was requested for the first time, with or without success
	boundsSeen    *bounds       // those that Run saw last
}

// bounds is what a reload may change of an output while its line stays as it is.
type bounds struct {
	maxOn, minOn, minOff, safeAfter, refresh time.Duration
	interlock                                []string
}

func boundsOf(c Config) *bounds {
	return &bounds{maxOn: c.MaxOn, minOn: c.MinOn, minOff: c.MinOff, safeAfter: c.SafeAfter, refresh: c.Refresh, interlock: c.Interlock}
}

// minimum is the shortest time for which the output stays at a level.
func (b *bounds) minimum(l Level) time.Duration {
	if l == On {
		return b.minOn
	}
	return b.minOff
}

// owed is a level that a line did not take and must still be given.
type owed struct {
	level Level
	why   why // without a cause nothing is owed
}

func newPin(b *Bank, c Config) *pin {
	p := &pin{b: b, c: c, retryWait: retryFirst, mu: newTimedMutex(), energised: true, tried: make(chan struct{})}
	p.removal.done = make(chan struct{})
	p.boundsSeen = boundsOf(c)
	p.bounds.Store(p.boundsSeen)
	p.state.Store(&State{Name: c.Name, Err: errors.New("not requested yet")})
	return p
}

// findLine looks for the line on the board.
func (p *pin) findLine() bool {
	id, err := p.b.o.Board.Find(p.c.Pin)
	if err != nil {
		p.requestFailed(err, time.Now())
		return false
	}
	p.id.Store(&id)
	return true
}

// initial is the level that the configuration asks for at the start; with keep it
// is the level that the line has.
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

// initialRequest decides the level with which the line is requested and what is
// scheduled after it. An output that the end of the run before may have switched
// off a moment ago stays off for its min_off.
func (p *pin) initialRequest(now time.Time) (level Level, keep bool, next scheduledLevel) {
	level, keep = p.initial()
	safe, has := p.c.Safe.Level()
	if keep || has && level == safe {
		return level, keep, scheduledLevel{}
	}
	if lost := p.linkLostAt(level); !lost.IsZero() && !now.Before(lost) {
		return safe, false, scheduledLevel{}
	}
	if p.bounds.Load().minimum(!level) > 0 { // nextDue waits for it
		return safe, !has, scheduledLevel{at: now, level: level, why: why{cause: CauseInitial}}
	}
	if err := p.b.claimEnergised(p); err != nil {
		p.warnNotInitial(level, err)
		return safe, false, scheduledLevel{}
	}
	return level, false, scheduledLevel{}
}

// warnNotInitial logs why a line does not get its initial level.
func (p *pin) warnNotInitial(level Level, err error) {
	p.b.events.add(func() {
		p.b.o.Log.Warn("output cannot have its initial level", "output", p.c.Name, "initial", level.String(), "err", err)
	})
}

// requestLine requests the line at its initial level, once the crash record has
// it.
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
	closeOnce(p.tried)
	p.afterRequest(level, next, now)
}

// afterRequest reads back a line that was requested and notes its level.
func (p *pin) afterRequest(level Level, next scheduledLevel, now time.Time) {
	id := p.id.Load().String()
	p.b.events.add(func() { p.b.o.Log.Info("output claimed", "output", p.c.Name, "line", id) })
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

// requestFailed raises a fault that says why the line is not ours, and sets the
// time of the next attempt.
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
	closeOnce(p.tried)
}

// recordLine is the line's entry in the crash record.
func (p *pin) recordLine(id board.LineID) Line {
	return Line{
		Output: p.c.Name, Label: id.Label, Chip: id.Chip, Offset: id.Offset, Name: id.Name,
		ActiveLow: p.c.ActiveLow, Drive: driveOf(p.c), Safe: p.c.Safe, Held: p.stored.Load(),
	}
}

// changeWaiters is who waits for a change.
type changeWaiters struct{ changed chan struct{} } // nil while nobody waits

// next gives a channel that is closed at the next change. Who waits for that holds
// nothing else.
func (w *changeWaiters) next() <-chan struct{} {
	if w.changed == nil {
		w.changed = make(chan struct{})
	}
	return w.changed
}

// wake has all that wait look again.
func (w *changeWaiters) wake() {
	if w.changed != nil {
		close(w.changed)
		w.changed = nil
	}
}

// closeOnce closes a channel unless it is closed; the caller holds what guards it.
func closeOnce(c chan struct{}) {
	select {
	case <-c:
	default:
		close(c)
	}
}

// driveOf is how a line is driven; push-pull unless given.
func driveOf(c Config) board.Drive {
	if c.Drive == "" {
		return board.PushPull
	}
	return c.Drive
}

// setErr puts a reason into the state.
func (p *pin) setErr(err error) {
	s := *p.state.Load()
	s.Err = err
	p.state.Store(&s)
}

// driveLevel gives the line a level that no order asks for.
func (p *pin) driveLevel(level Level, w why) error {
	if err := p.setLevel(level, w); err != nil {
		p.driveFailed(level, level, w, err)
		return err
	}
	p.scheduled = scheduledLevel{}
	return nil
}

// driveFailed handles a level that the line did not take. The line goes to its
// safe level, or where it has none to the level back: at once if that is another
// level than the one that failed, else when Run comes round.
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

// lineVanished gives up a line whose chip is gone: its handle will never work
// again. Run requests the line again.
func (p *pin) lineVanished(err error) {
	line := p.line
	p.line, p.owed, p.onSince = nil, owed{}, time.Time{}
	p.id.Store(nil)
	p.stored.Store(false)
	p.requestFailed(errors.Join(err, line.Close()), time.Now())
}

// setLevel gives the line a level and reads it back. The caller of an energising
// level has claimed it with claimEnergised.
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

// clearEnergisedAt notes that the output is not energised, if the level that was
// read back is its safe one.
func (p *pin) clearEnergisedAt(level Level) {
	if safe, ok := p.c.Safe.Level(); ok && level == safe {
		p.b.setEnergised(p, false)
	}
}

// noteLevel notes a level that the line has taken.
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
	p.waiters.wake()
	if w.outlivesRun() {
		p.b.levels.set(p.c.Name, level)
	}
	p.queueEvent(level, w)
}

// queueEvent queues the log line and the event of a change.
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
	if w.cause == CauseRefresh { // whoever should refresh the output is gone
		severity = slog.LevelWarn
	}
	p.b.events.add(func() {
		p.b.o.Log.Log(context.Background(), severity, "output changed", "output", p.c.Name, "state", level.String(), "cause", w.cause, "id", w.id)
		p.b.o.Event(message.Record{Kind: message.Event, Stamp: stamp, Fields: fields})
	})
}

// readBack reads the level back.
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

// noteReadBack keeps the fault raised until the very level that was wrong has
// been right: a line shorted to ground reads off rightly, and is no less shorted.
func (p *pin) noteReadBack(level Level, wrong bool) {
	if level == On {
		p.wrong.on = wrong
	} else {
		p.wrong.off = wrong
	}
	if !p.wrong.on && !p.wrong.off {
		p.b.o.Health.Clear(health.LevelMismatch, p.c.Name)
	}
}

// timedMutex is a mutex that one can wait for until some time, and no longer: who
// holds it may be in a call into the kernel that does not return.
type timedMutex chan struct{}

func newTimedMutex() timedMutex { return make(timedMutex, 1) }

func (m timedMutex) Lock()   { m <- struct{}{} }
func (m timedMutex) Unlock() { <-m }

// TryLock reports whether the mutex was free, and is the caller's now.
func (m timedMutex) TryLock() bool {
	select {
	case m <- struct{}{}:
		return true
	default:
		return false
	}
}

// LockBefore waits for the mutex until end; the zero time is for ever. It reports
// whether the mutex is the caller's now.
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
