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

// readBacks is how often a level is read back before it counts as wrong. An open-drain
// line rises within some microseconds.
const readBacks = 3

// errMismatch is the reason when a line reads back another level than was set.
var errMismatch = errors.New("reads back another level")

// pin is one output. Its mu is held during calls into the kernel and guards the fields
// below it. The line may be unplugged and come back with another ID.
type pin struct {
	b         *Bank
	c         Config // the first configuration; bounds has what reloads change
	bounds    atomic.Pointer[bounds]
	peers     []*pin // interlocked with this one; guarded by b.energisedMu
	energised bool   // may be away from its safe level; guarded by b.energisedMu
	state     publishedState
	id        atomic.Pointer[board.LineID] // nil if the board does not have the line
	stored    atomic.Bool                  // systemd has a copy of the line's handle
	record    recordWait
	removal   removal
	hang      hangWatch // used only by Run

	mu            timedMutex
	check         levelCheck
	line          actuator  // nil if the line is not requested
	onSince       time.Time // since when it may be on; zero if it is off
	changedAt     time.Time // when its level last changed or may have changed
	scheduled     scheduledLevel
	waitingOrders int           // orders to the safe level that wait for the end of min_on or min_off
	waiters       changeWaiters // waits for another level or other bounds
	lastOrder     time.Time     // when an order was last carried out
	owed          owed          // the level it must still be driven to
	retry         retry         // after a failure
	misreads      misreads
	tried         chan struct{} // closed after the first request of the line, also if it fails
	boundsSeen    *bounds       // the bounds that Run used last
}

// bounds is the part of an output's configuration that a reload can change without
// touching its line.
type bounds struct {
	maxOn, minOn, minOff, safeAfter, refresh time.Duration
	interlock                                []string
}

func boundsOf(c Config) *bounds {
	return &bounds{maxOn: c.MaxOn, minOn: c.MinOn, minOff: c.MinOff, safeAfter: c.SafeAfter, refresh: c.Refresh, interlock: c.Interlock}
}

// minimum returns the shortest time at a level: min_on or min_off.
func (b *bounds) minimum(l Level) time.Duration {
	if l != Off {
		return b.minOn
	}
	return b.minOff
}

// retry is when Run tries again after a failure.
type retry struct {
	at   time.Time
	wait time.Duration // the wait after the next failed request
}

// owed is a level that a line did not take and must still get.
type owed struct {
	level Level
	why   why // no level is owed if its cause is empty
}

func newPin(b *Bank, c Config) *pin {
	p := &pin{b: b, c: c, retry: retry{wait: retryFirst}, mu: newTimedMutex(), energised: true, tried: make(chan struct{})}
	p.removal.done = make(chan struct{})
	p.boundsSeen = boundsOf(c)
	p.bounds.Store(p.boundsSeen)
	p.state.Store(&State{Name: c.Name, PWM: c.PWM != "", Err: errors.New("not requested yet")})
	return p
}

// locked calls f with mu held. A panic leaves mu free, so that the line can yet be made
// safe.
func (p *pin) locked(f func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	f()
}

// lockedBefore is locked for who waits for mu until end and no longer. It reports whether
// it has called f.
func (p *pin) lockedBefore(end time.Time, f func()) bool {
	if !p.mu.LockBefore(end) {
		return false
	}
	defer p.mu.Unlock()
	f()
	return true
}

// findLine looks for the line on the board.
func (p *pin) findLine() bool {
	find, name := p.b.o.Board.Find, p.c.Pin
	if p.c.PWM != "" {
		find, name = p.b.o.Board.FindPWM, p.c.PWM
	}
	id, err := find(name)
	if err != nil {
		p.requestFailed(err, time.Now())
		return false
	}
	if p.check.place(p.b.o.Board, id); p.c.PWM != "" {
		p.check.placePWM(id)
	}
	p.id.Store(&id)
	return true
}

// initial returns the configured initial level; with keep the line's present level is
// used.
func (p *pin) initial() (level Level, keep bool) {
	switch p.c.Initial {
	case InitialKeep:
		return Off, true
	case InitialLast:
		if last, ok := p.b.levels.get(p.c.Name); ok && (p.c.PWM != "" || last == Off || last == On) {
			return last, false
		} // a line that was a PWM output in the last run has no such level
		safe, ok := p.c.Safe.Level()
		return safe, !ok
	}
	return Level(p.c.Initial), false
}

// beginsSafe reports whether the line is to begin at its safe level.
func (p *pin) beginsSafe() bool {
	level, keep := p.initial()
	safe, ok := p.c.Safe.Level()
	return ok && !keep && level == safe
}

// initialRequest decides the level of the request and the level that is scheduled after
// it. An output that the end of the last run may just have switched off stays off for its
// min_off.
func (p *pin) initialRequest(now time.Time) (level Level, keep bool, next scheduledLevel) {
	level, keep = p.initial()
	safe, has := p.c.Safe.Level()
	if keep || has && level == safe {
		return level, keep, scheduledLevel{}
	}
	if lost := p.linkLostAt(level); !lost.IsZero() && !now.Before(lost) {
		return safe, false, scheduledLevel{}
	}
	if p.bounds.Load().minimum(level.opposite()) > 0 { // nextDue waits for the end of it
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

// requestLine requests the line at its initial level, if the crash record has it.
func (p *pin) requestLine(now time.Time) {
	found := p.id.Load() != nil
	if !found && !p.findLine() {
		return
	}
	if !found && p.check.on() != "" {
		p.b.wake.Set() // the expander's goroutine requests it
		return
	}
	if !p.b.opening && !p.mayRequest(now) {
		return
	}
	level, keep, next := p.initialRequest(now)
	line, err := p.claim(level, keep)
	if err != nil {
		p.requestFailed(err, now)
		return
	}
	if keep {
		if level, err = line.level(); err != nil {
			p.requestFailed(errors.Join(err, line.release()), now)
			return
		}
	} else if p.check.on() != "" { // the chip may have lost its power before the request
		got, err := line.level()
		if err == nil && got != level {
			err = line.set(level)
		}
		if err != nil {
			p.requestFailed(errors.Join(err, line.release()), now)
			return
		}
	}
	p.b.o.Health.ClearAll(p.c.Name, lineFaults...)
	p.line, p.retry.wait, p.retry.at, p.changedAt, p.onSince = line, retryFirst, time.Time{}, now, time.Time{}
	closeOnce(p.tried)
	p.afterRequest(level, next, now)
}

// claim requests the line, or the PWM channel.
func (p *pin) claim(level Level, keep bool) (actuator, error) {
	if p.c.PWM != "" {
		return claimPWM(p.b.o.Board, p.c, level, keep)
	}
	line, err := p.b.o.Held.claim(p.b.o.Board, *p.id.Load(), board.OutputConfig{
		Line: p.c.Pin, ActiveLow: p.c.ActiveLow, Drive: p.c.Drive, Active: level == On, Keep: keep,
	}, p.b.opening)
	if err != nil {
		return nil, err
	}
	return newActuator(line, p.check.on()), nil
}

// afterRequest reads back the level of a requested line and records it.
func (p *pin) afterRequest(level Level, next scheduledLevel, now time.Time) {
	id := p.id.Load().String()
	p.b.events.add(func() { p.b.o.Log.Info("output claimed", "output", p.c.Name, "line", id) })
	p.state.Store(&State{Name: p.c.Name, Level: level, PWM: p.c.PWM != "", Trips: p.state.Load().Trips})
	err := p.readBack(level)
	p.noteLevel(level, why{cause: CauseInitial}, now)
	if err != nil {
		p.state.setErr(err)
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
	if err := p.b.claimEnergised(p); err != nil { // the line was found energised
		p.warnNotInitial(level, err)
		_ = p.driveLevel(safe, why{cause: CauseInterlock}) // a failure raises its fault
	}
}

// requestFailed raises the fault for a failed request and sets the time of the next
// attempt.
func (p *pin) requestFailed(err error, now time.Time) {
	p.b.setEnergised(p, true)
	code := faultOf(err)
	for _, c := range lineFaults {
		if c != code {
			p.b.o.Health.Clear(c, p.c.Name)
		}
	}
	p.b.o.Health.Raise(code, p.c.Name, err.Error())
	p.state.setErr(err)
	p.retry.at = now.Add(p.retry.wait)
	p.retry.wait = min(2*p.retry.wait, retryMost)
	closeOnce(p.tried)
}

// recordLine returns the line's entry in the crash record.
func (p *pin) recordLine(id board.LineID) Line {
	return Line{
		Output: p.c.Name, PWM: p.c.PWM != "", Label: id.Label, Chip: id.Chip, Offset: id.Offset, Name: id.Name,
		ActiveLow: p.c.ActiveLow, Drive: driveOf(p.c), Safe: p.c.Safe, Held: p.stored.Load(),
		Expander: p.check.on(), Period: p.c.Frequency.Period(),
	}
}

// changeWaiters wakes everybody who waits for a change.
type changeWaiters struct{ changed chan struct{} } // nil while nobody waits

// next returns a channel that is closed at the next change. Do not wait for it with a
// lock held.
func (w *changeWaiters) next() <-chan struct{} {
	if w.changed == nil {
		w.changed = make(chan struct{})
	}
	return w.changed
}

// wake wakes all waiters.
func (w *changeWaiters) wake() {
	if w.changed != nil {
		close(w.changed)
		w.changed = nil
	}
}

// closeOnce closes a channel unless it is closed. The caller holds the lock that guards
// it.
func closeOnce(c chan struct{}) {
	select {
	case <-c:
	default:
		close(c)
	}
}

// driveOf returns how a line is driven; the default is push-pull.
func driveOf(c Config) board.Drive {
	if c.Drive == "" {
		return board.PushPull
	}
	return c.Drive
}

// publishedState is an output's state, which any goroutine may load. It is changed with mu of
// the pin held.
type publishedState struct{ atomic.Pointer[State] }

// setErr sets the error.
func (p *publishedState) setErr(err error) {
	s := *p.Load()
	s.Err = err
	p.Store(&s)
}

// countTrip counts that the output was made safe because no order came.
func (p *publishedState) countTrip() {
	s := *p.Load()
	s.Trips++
	p.Store(&s)
}

// driveLevel gives the line a level without an order.
func (p *pin) driveLevel(level Level, w why) error {
	if err := p.setLevel(level, w); err != nil {
		p.driveFailed(level, level, w, err)
		return err
	}
	p.scheduled = scheduledLevel{}
	return nil
}

// driveFailed handles a level that the line did not take. The line goes to its safe
// level, or without one to back. If that differs from the failed level it is set at once,
// otherwise Run retries it.
func (p *pin) driveFailed(level, back Level, w why, err error) {
	if safe, ok := p.c.Safe.Level(); ok {
		back = safe
	}
	p.owed, p.retry.at = owed{back, w}, time.Now().Add(retryFirst)
	p.scheduled = scheduledLevel{}
	if errors.Is(err, syscall.ENODEV) {
		p.lineVanished(err)
		return
	}
	if level == back {
		return
	}
	if p.driveLevel(back, w) == nil {
		p.state.setErr(err) // the line is safe, but the state keeps the order's failure
	}
}

// lineVanished closes a line whose chip was unplugged: its handle will never work again.
// Run requests the line again, at its initial level. What an order had scheduled for later
// ends with the old line.
func (p *pin) lineVanished(err error) {
	line := p.line
	p.line, p.owed, p.scheduled, p.onSince = nil, owed{}, scheduledLevel{}, time.Time{}
	p.id.Store(nil)
	p.stored.Store(false)
	p.requestFailed(errors.Join(err, line.release()), time.Now())
}

// setLevel sets the line's level and reads it back. For an energising level call
// claimEnergised first.
func (p *pin) setLevel(level Level, w why) error {
	now, has := time.Now(), p.state.Load().Level
	if level != Off && p.onSince.IsZero() {
		p.onSince = now // from the attempt on, because a failed one may have switched it on
	}
	if level.Word() != has.Word() {
		p.changedAt = now
	}
	set := p.check.setter(p)
	safe, driven := p.c.Safe.Level()
	if a, ok := p.line.(*pwmActuator); ok && w.ordered() && !(driven && level == safe) {
		set = a.ramp
	}
	if err := set(level); err != nil {
		return p.noteSetFailed(level, err)
	}
	if err := p.readBack(level); err != nil {
		p.b.setEnergised(p, true)
		return err
	}
	p.check.undriven = false
	p.b.o.Health.Clear(health.OutputFailed, p.c.Name)
	p.noteLevel(level, w, now)
	p.clearEnergisedAt(level)
	return nil
}

// noteSetFailed records that a level could not be set.
func (p *pin) noteSetFailed(level Level, err error) error {
	err = fmt.Errorf("set to %s: %w", level, err)
	p.b.o.Health.Raise(health.OutputFailed, p.c.Name, err.Error())
	p.state.setErr(err)
	p.b.setEnergised(p, true)
	return err
}

// clearEnergisedAt records that the output is not energised if level, which was read
// back, is its safe one.
func (p *pin) clearEnergisedAt(level Level) {
	if safe, ok := p.c.Safe.Level(); ok && level == safe {
		p.b.setEnergised(p, false)
	}
}

// noteLevel records a level that the line has taken.
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
		{Name: "state", Value: level.Word()},
	}
	if p.c.PWM != "" {
		fields = append(fields, sensors.Field{Name: "level", Value: level.Percent()})
	}
	fields = append(fields, sensors.Field{Name: "cause", Value: w.cause})
	if w.id != "" {
		fields = append(fields, sensors.Field{Name: "id", Value: w.id})
	}
	severity := slog.LevelInfo
	if w.cause == CauseRefresh || w.cause == CauseLevelLost { // the controller has stopped sending orders, or does not know
		severity = slog.LevelWarn
	}
	p.b.events.add(func() {
		p.b.o.Log.Log(context.Background(), severity, "output changed", "output", p.c.Name, "state", level.String(), "cause", w.cause, "id", w.id)
		p.b.o.Event(message.Record{Kind: message.Event, Stamp: stamp, Fields: fields})
	})
}

// readBack reads the level back.
func (p *pin) readBack(level Level) error {
	var got Level
	for range readBacks {
		var err error
		if got, err = p.line.level(); err != nil {
			err = fmt.Errorf("read back: %w", err)
			p.b.o.Health.Raise(health.OutputFailed, p.c.Name, err.Error())
			p.state.setErr(err)
			return err
		}
		if got == level {
			if p.misreads.set(level, false); !p.misreads.any() {
				p.b.o.Health.Clear(health.LevelMismatch, p.c.Name)
			}
			return nil
		}
	}
	err := fmt.Errorf("%w: set to %s, reads %s", errMismatch, level, got)
	p.misreads.set(level, true)
	p.b.o.Health.Raise(health.LevelMismatch, p.c.Name, err.Error())
	p.state.setErr(err)
	return err
}

// misreads are the levels that were set and read back wrongly. The fault stays raised until
// such a level has been read back correctly: a line that is shorted to ground reads back off
// correctly.
type misreads struct{ on, off bool }

// set records whether a level was read back wrongly.
func (m *misreads) set(level Level, wrong bool) {
	if level != Off {
		m.on = wrong
	} else {
		m.off = wrong
	}
}

// any reports whether there are any.
func (m *misreads) any() bool { return m.on || m.off }

// timedMutex is a mutex with a deadline for waiting, because its holder may be in a
// kernel call that does not return.
type timedMutex chan struct{}

func newTimedMutex() timedMutex { return make(timedMutex, 1) }

func (m timedMutex) Lock()   { m <- struct{}{} }
func (m timedMutex) Unlock() { <-m }

// TryLock locks the mutex if it is free, and reports whether it was.
func (m timedMutex) TryLock() bool {
	select {
	case m <- struct{}{}:
		return true
	default:
		return false
	}
}

// LockBefore waits for the mutex until end; the zero time means for ever. It reports
// whether it has locked the mutex.
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
