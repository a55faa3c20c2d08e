package output

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"
	"syscall"
	"time"

	"fieldpost/daemon/health"
	"fieldpost/daemon/task"
	"fieldpost/daemon/wake"
	"fieldpost/sensors/board"
)

// checkEvery is how often the outputs of an expander are read back.
const checkEvery = time.Second

// expander is the outputs on one I/O expander, one GPIO chip on USB or one PWM chip. They have
// a goroutine of their own, which does for them what Run does for the others: a bus that hangs
// must not delay the timers of other outputs, nor the heartbeat.
//
// It also reads their levels back. A chip that lost its power for a moment comes back
// with other levels, or with inputs, and says nothing. An output that lost its level is
// made safe. Its level is not set again, because nobody knows for how long it was lost and
// whether it is still wanted.
//
// The kernel writes all levels of a chip together, from its own copy. So all outputs are
// read before any of them is set: in each check, and before each order. All that have lost
// their levels have the safe one in the kernel's copy before the first of them is driven
// again.
type expander struct {
	b         *Bank
	device    string
	wake      wake.Signal
	stop      context.CancelFunc // ends run
	nextCheck time.Time          // used only by run
}

// levelCheck is what an output on an expander knows of its chip.
type levelCheck struct {
	device atomic.Pointer[string] // the kernel's name of the expander; nil: the line is not on one
	turns  atomic.Uint64          // how often the expander's goroutine had the pin, for hangWatch

	// Guarded by the pin's mu.
	unread   bool // the level could not be read, and a fault is raised
	lost     bool // the level was lost, and a fault is raised
	restored bool // the lost level was the safe one, and was set again
	undriven bool // the line may be an input although the kernel believes that it drives it
}

// on returns the expander's name, or "".
func (c *levelCheck) on() string {
	if d := c.device.Load(); d != nil {
		return *d
	}
	return ""
}

// placePWM gives the channels of a PWM chip a goroutine too: the chip may be on a bus, and
// other programs may change its files.
func (c *levelCheck) placePWM(id board.LineID) {
	device := "pwm " + id.Label
	c.device.Store(&device)
}

// place sets the expander of a line.
func (c *levelCheck) place(b board.Board, id board.LineID) {
	if e, ok := b.(board.Expander); ok {
		if device := e.Expander(id); device != "" {
			c.device.Store(&device)
			return
		}
	}
	c.device.Store(nil)
}

// startExpanders starts the goroutines of expanders that have none yet, and ends those of
// expanders that have no output any more: one on a USB adapter may get another name each time
// that is plugged in. Only Run calls it.
func (b *Bank) startExpanders(ctx context.Context, others *task.Group) {
	for device, e := range b.expanders {
		if !slices.ContainsFunc(b.outputs.Load().all, func(p *pin) bool { return p.check.on() == device }) {
			e.stop()
			delete(b.expanders, device)
		}
	}
	for _, p := range b.outputs.Load().all {
		device := p.check.on()
		if device == "" || b.expanders[device] != nil {
			continue
		}
		e := &expander{b: b, device: device, wake: wake.New()}
		var present context.Context
		present, e.stop = context.WithCancel(ctx)
		if b.expanders == nil {
			b.expanders = map[string]*expander{}
		}
		b.expanders[device] = e
		others.Go("outputs on an expander", func() { e.run(present) })
	}
}

// wakeExpanders has all of them check what is due. Only Run calls it.
func (b *Bank) wakeExpanders() {
	for _, e := range b.expanders {
		e.wake.Set()
	}
}

// run does what is due until ctx ends.
func (e *expander) run(ctx context.Context) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
		case <-e.wake.C():
		}
		timer.Reset(e.runDue())
	}
}

// runDue does what is due and returns the time until it must be called again.
func (e *expander) runDue() time.Duration {
	pins := e.b.onExpander(e.device)
	if now := time.Now(); !now.Before(e.nextCheck) {
		e.b.makeLostSafe(e.b.findLost(pins, nil), pins, nil)
		e.nextCheck = now.Add(checkEvery)
	}
	next := e.nextCheck
	for _, p := range pins {
		if !p.mu.TryLock() {
			continue // the holder wakes Run, which wakes this
		}
		p.check.turns.Add(1)
		now := time.Now()
		func() {
			defer p.mu.Unlock()
			if due := p.runDue(now); !due.IsZero() {
				next = earliest(next, due)
			}
			if due := stepRamp(p, now); !due.IsZero() {
				next = earliest(next, due)
			}
		}()
	}
	if wait := time.Until(next); wait > 0 {
		return wait
	}
	return time.Millisecond
}

// onExpander returns the outputs on an expander.
func (b *Bank) onExpander(device string) []*pin {
	var pins []*pin
	for _, p := range b.outputs.Load().all {
		if p.check.on() == device {
			pins = append(pins, p)
		}
	}
	return pins
}

// lostLevel is an output that was found to have lost its level.
type lostLevel struct {
	p     *pin
	found Level
	was   *State // its state then: another one means that it was set since
}

// findLost returns those of the outputs that have lost their levels. It skips busy ones.
// The caller has locked held, if that is not nil.
func (b *Bank) findLost(pins []*pin, held *pin) (lost []lostLevel) {
	for _, p := range pins {
		withPin(p, held, func() {
			if found, gone := p.check.read(p); gone {
				lost = append(lost, lostLevel{p, found, p.state.Load()})
			}
		})
	}
	return lost
}

// withPin calls f with p locked, unless p is busy. The caller has locked held.
func withPin(p, held *pin, f func()) {
	if p != held {
		if !p.mu.TryLock() {
			return
		}
		p.check.turns.Add(1)
		defer p.mu.Unlock()
	}
	f()
}

// makeLostSafe makes outputs safe that have lost their levels. all are those of their
// expander: its other outputs may have lost their directions too, where a resistor holds
// them at the safe level.
func (b *Bank) makeLostSafe(lost []lostLevel, all []*pin, held *pin) {
	if len(lost) == 0 {
		return
	}
	for _, prepared := range []bool{false, true} {
		for _, l := range lost {
			p := l.p
			withPin(p, held, func() {
				switch {
				case p.line == nil || p.state.Load() != l.was:
				case prepared:
					p.check.makeSafe(p, l.found)
				default:
					p.line.prepare(p.check.target(p, l.found))
				}
			})
		}
	}
	for _, p := range all {
		if !slices.ContainsFunc(lost, func(l lostLevel) bool { return l.p == p }) {
			withPin(p, held, func() { p.check.driveSafe(p) })
		}
	}
}

// checkBefore checks the outputs on p's expander before p is set, because that would set
// lost levels again. The caller has locked p.
func (b *Bank) checkBefore(p *pin) {
	device := p.check.on()
	if device == "" {
		return
	}
	all := b.onExpander(device)
	pins := slices.DeleteFunc(slices.Clone(all), func(q *pin) bool {
		safe, ok := q.c.Safe.Level()
		return q != p && ok && q.state.Load().Level == safe
	})
	b.makeLostSafe(b.findLost(pins, p), all, p)
}

// read reads an output's level, and reports whether it has lost it. It leaves out an
// output whose level is to be set again anyhow. The caller has locked the pin.
func (c *levelCheck) read(p *pin) (found Level, lost bool) {
	if p.line == nil || p.owed.why.cause != "" || p.removal.begun.Load() {
		return Off, false
	}
	has := p.state.Load().Level
	for range readBacks {
		var err error
		if found, err = p.line.level(); err != nil {
			c.noteUnread(p, err)
			return Off, false
		}
		if found == has {
			break
		}
	}
	c.noteRead(p, found == has)
	return found, found != has
}

// noteUnread records that the level cannot be read. It may still be what it was, so
// nothing is set.
func (c *levelCheck) noteUnread(p *pin, err error) {
	if errors.Is(err, syscall.ENODEV) {
		p.lineVanished(err)
		return
	}
	c.unread = true
	err = fmt.Errorf("read back: %w", err)
	p.b.o.Health.Raise(health.OutputFailed, p.c.Name, err.Error())
	p.b.setEnergised(p, true)
	p.state.setErr(err)
}

// noteRead records that the level was read. right: it is the one that it should be.
func (c *levelCheck) noteRead(p *pin, right bool) {
	level := p.state.Load().Level
	if c.unread && right {
		p.b.o.Health.Clear(health.OutputFailed, p.c.Name)
		p.clearEnergisedAt(level)
		p.state.setErr(nil)
	}
	c.unread = c.unread && !right
	if c.restored && right {
		c.noteWanted(p)
	}
}

// noteWanted records that the output has a level that somebody wants.
func (c *levelCheck) noteWanted(p *pin) {
	if c.lost {
		c.lost, c.restored = false, false
		p.b.o.Health.Clear(health.LevelLost, p.c.Name)
	}
}

// target returns the level for an output that has lost its own: the safe one, or without
// one what was found.
func (c *levelCheck) target(p *pin, found Level) Level {
	if safe, ok := p.c.Safe.Level(); ok {
		return safe
	}
	return found
}

// makeSafe makes an output safe that has lost its level.
func (c *levelCheck) makeSafe(p *pin, found Level) {
	has, safe := p.state.Load().Level, c.target(p, found)
	detail := fmt.Sprintf("set to %s, found %s on %s", has, found, c.on())
	c.restored = has == safe && (c.restored || !c.lost)
	c.lost, c.unread = true, false
	c.undriven = found == safe // only a resistor may hold it there
	p.b.o.Health.Raise(health.LevelLost, p.c.Name, detail)
	p.b.events.add(func() { p.b.o.Log.Warn("output lost its level", "output", p.c.Name, "detail", detail) })
	p.b.setEnergised(p, true)
	_ = p.driveLevel(safe, why{cause: CauseLevelLost}) // a failure has its fault, and Run retries
}

// driveSafe makes an output again of one that is at its safe level. The caller has locked
// the pin.
func (c *levelCheck) driveSafe(p *pin) {
	line, ok := p.line.(expanderLine)
	safe, has := p.c.Safe.Level()
	if !ok || !has || p.owed.why.cause != "" || p.state.Load().Level != safe {
		return
	}
	if err := line.chip.Drive(safe != Off); err != nil {
		c.undriven = true
		w := why{cause: CauseLevelLost}
		p.driveFailed(safe, safe, w, p.noteSetFailed(safe, err))
	}
}

// setter returns what sets an output on an expander.
func (c *levelCheck) setter(p *pin) func(Level) error {
	if line, ok := p.line.(expanderLine); ok && c.undriven {
		return line.restore
	}
	return p.line.set
}

// expandersLast returns the outputs with those on expanders at the end, because these
// need a bus, which may hang.
func expandersLast(pins []*pin) []*pin {
	remote := func(p *pin) int { return min(len(p.check.on()), 1) }
	return slices.SortedStableFunc(slices.Values(pins), func(p, q *pin) int { return remote(p) - remote(q) })
}
