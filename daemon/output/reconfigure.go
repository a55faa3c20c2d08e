package output

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"
	"time"

	"fieldpost/daemon/health"
	"fieldpost/daemon/task"
)

// outputSet is an immutable set of a bank's outputs. [Bank.Reconfigure] replaces it.
type outputSet struct {
	pins    []*pin          // in the configuration's order
	byName  map[string]*pin // the same
	leaving []*pin          // removed outputs whose lines are not released yet
	all     []*pin          // pins and leaving
}

func newOutputSet(pins, leaving []*pin) *outputSet {
	s := &outputSet{pins: pins, byName: make(map[string]*pin, len(pins)), leaving: leaving, all: slices.Concat(pins, leaving)}
	for _, p := range pins {
		s.byName[p.c.Name] = p
	}
	return s
}

// delays reports whether the line of an output must not be requested yet because a
// leaving output has the same line or name.
func (s *outputSet) delays(p *pin) bool {
	return slices.ContainsFunc(s.leaving, func(q *pin) bool {
		a, b := p.id.Load(), q.id.Load()
		return q.c.Name == p.c.Name || a != nil && b != nil && lineKey(*a) == lineKey(*b)
	})
}

// Changes lists what [Bank.Reconfigure] has done with each output, by name, in the order
// of the configuration. An output whose line changes is both removed and added.
type Changes struct {
	Kept     []string // nothing has changed
	Adjusted []string // other times or interlocks, on the same line
	Removed  []string // driven safe and released
	Added    []string // requested at its initial level
}

// Any reports whether there is any change.
func (c Changes) Any() bool { return len(c.Adjusted)+len(c.Removed)+len(c.Added) > 0 }

// Reconfigure gives a running bank another set of outputs, which package config has
// validated. It may be called from any goroutine; concurrent calls wait for each other.
//
// An output with the same name, line, active_low, drive, safe and initial is kept: its
// line is not set, and its level, cause, orders and timers continue. New values of
// max_on, min_on, min_off, safe_after, refresh and interlock apply at once, as if they
// had been in effect from the start: a max_on that has passed switches off at once. A new
// interlock does not change outputs that are already away from their safe levels.
//
// Every other old output is removed: it is driven safe, regardless of min_on, then
// released, then removed from the crash record. A line that does not become safe is
// retried for 10 s and then released, with a warning. An order that waits for such an
// output is answered when it is safe; a later one gets [ErrUnknown]. Every other new
// output is added: its line is written to the crash record and then requested at its
// initial level. A failure is a fault of this output only, and is retried as usual. If an
// output is removed and added again, its line is requested after the old one is released.
// So the crash record always has every line that is ours.
//
// Run does this work, and each removal has its own goroutine, so a line that hangs delays
// no other line and no timer. Reconfigure waits until all is done, or until ctx ends.
// Then the error wraps ctx's and names the outputs that are not done yet, because a line
// or the disk hangs; Run continues with these. The error is or wraps [ErrStopped] if the
// bank has been stopped; then nothing more will change.
func (b *Bank) Reconfigure(ctx context.Context, outputs []Config) (Changes, error) {
	b.levels.keep(outputs)
	next, added, removed, changes, err := b.replaceOutputs(outputs)
	if err != nil {
		return Changes{}, err
	}
	for _, p := range removed {
		p.removal.begun.Store(true)
	}
	b.wake.Set()
	return changes, b.awaitChanges(ctx, added, next.leaving)
}

// replaceOutputs replaces the set of outputs by that of a configuration.
func (b *Bank) replaceOutputs(outputs []Config) (next *outputSet, added, removed []*pin, changes Changes, err error) {
	b.changing.Lock()
	defer b.changing.Unlock()
	old := b.outputs.Load()
	changes = old.compare(outputs)
	var pins []*pin
	adjusted := map[*pin]*bounds{}
	for _, c := range outputs {
		p := old.byName[c.Name]
		switch {
		case slices.Contains(changes.Added, c.Name):
			p = newPin(b, c)
			p.findLine() // if the board does not have it, Run tries again
			added = append(added, p)
		case slices.Contains(changes.Adjusted, c.Name):
			adjusted[p] = boundsOf(c)
		}
		pins = append(pins, p)
	}
	for _, name := range changes.Removed {
		removed = append(removed, old.byName[name])
	}
	next = newOutputSet(pins, slices.Concat(old.leaving, removed))
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.stopped {
		return nil, nil, nil, Changes{}, ErrStopped
	}
	for p, limits := range adjusted {
		p.bounds.Store(limits)
	}
	b.connectInterlocks(next)
	b.outputs.Store(next)
	return next, added, removed, changes, nil
}

// Compare returns what [Bank.Reconfigure] would do with each output now. It may be called
// from any goroutine.
func (b *Bank) Compare(outputs []Config) Changes { return b.outputs.Load().compare(outputs) }

// compare returns what another configuration would do with each output.
func (s *outputSet) compare(outputs []Config) (c Changes) {
	stays := map[string]bool{}
	for _, o := range outputs {
		p := s.byName[o.Name]
		switch {
		case p == nil || !p.isStill(o):
			c.Added = append(c.Added, o.Name)
			continue
		case p.bounds.Load().equal(boundsOf(o)):
			c.Kept = append(c.Kept, o.Name)
		default:
			c.Adjusted = append(c.Adjusted, o.Name)
		}
		stays[o.Name] = true
	}
	for _, p := range s.pins {
		if !stays[p.c.Name] {
			c.Removed = append(c.Removed, p.c.Name)
		}
	}
	return c
}

// isStill reports whether a configuration keeps this output with its line.
func (p *pin) isStill(c Config) bool {
	if p.c.Name != c.Name || p.c.ActiveLow != c.ActiveLow || driveOf(p.c) != driveOf(c) || p.c.Safe != c.Safe || p.c.Initial != c.Initial {
		return false
	}
	if p.c.PWM != c.PWM || p.c.Frequency != c.Frequency || p.c.Ramp != c.Ramp {
		return false
	}
	if p.c.Pin == c.Pin {
		return true
	}
	ours := p.id.Load()
	id, err := p.b.o.Board.Find(c.Pin) // it may be another name of the same line
	return err == nil && ours != nil && id == *ours
}

// equal reports whether two sets of bounds are the same.
func (b *bounds) equal(o *bounds) bool {
	return b.maxOn == o.maxOn && b.minOn == o.minOn && b.minOff == o.minOff && b.safeAfter == o.safeAfter && b.refresh == o.refresh &&
		slices.Equal(b.interlock, o.interlock)
}

// awaitChanges waits until lines have been requested and released.
func (b *Bank) awaitChanges(ctx context.Context, added, leaving []*pin) error {
	var open []string
	var ended error
	wait := func(p *pin, done <-chan struct{}) {
		select {
		case <-done:
			return
		default:
		}
		select {
		case <-done:
		case <-ctx.Done():
			ended = ctx.Err()
			open = append(open, p.c.Name)
		case <-b.stopping:
			ended = ErrStopped
			open = append(open, p.c.Name)
		}
	}
	for _, p := range leaving {
		wait(p, p.removal.done)
	}
	for _, p := range added {
		wait(p, p.tried)
	}
	if ended == nil {
		return nil
	}
	slices.Sort(open)
	return fmt.Errorf("reconfigure outputs %q: not done yet: %w", slices.Compact(open), ended)
}

// removalPatience is how long the bank tries to make a line safe before it releases it.
// Then it releases the line as it is: the line may be removed because it is broken, and a
// new output on it must not wait for ever.
const removalPatience = 10 * time.Second

// errRemoved is the reason when a removed output cannot be driven.
var errRemoved = errors.New("the output is no longer in the configuration")

// removal is the state of an output's removal from its bank.
type removal struct {
	started  bool          // Run has started remove; used only by Run
	begun    atomic.Bool   // a reload has removed the output; it gets no more orders
	released atomic.Bool   // the line is released; the recorder does the rest
	done     chan struct{} // closed when the removal is complete
	safe     bool          // it was made safe before it was released; guarded by the pin's mu
	retryAt  time.Time     // when the recorder retries
}

// startRemovals starts the removal of the leaving outputs, each on its own goroutine,
// because a line that hangs must not delay timers. Run waits for them.
func (b *Bank) startRemovals(ctx context.Context, removals *task.Group) {
	for _, p := range b.outputs.Load().leaving {
		if p.removal.begun.Load() && !p.removal.started {
			p.removal.started = true
			removals.Go("output removal", func() { p.remove(ctx) })
		}
	}
}

// remove makes the line safe and releases it. It returns early if ctx ends or the bank is
// stopped.
func (p *pin) remove(ctx context.Context) {
	var since time.Time // when the pin was free for the first time
	for ctx.Err() == nil {
		released := false
		if !p.lockedBefore(time.Now().Add(lockPatience), func() {
			if since.IsZero() {
				since = time.Now()
			}
			released = p.makeSafeAndRelease(time.Since(since) >= removalPatience)
		}) {
			continue // another call hangs; Run reports it
		}
		p.b.wake.Set() // Run may have skipped it
		if released {
			p.removal.released.Store(true)
			p.b.recorder.wake.Set()
			return
		}
		retry := time.NewTimer(retryFirst)
		select {
		case <-ctx.Done():
		case <-p.b.stopping:
		case <-retry.C:
		}
		retry.Stop()
		if _, stopped := p.b.linkState(); stopped {
			return // Safe makes the line safe, and Close releases it
		}
	}
}

// makeSafeAndRelease makes the line safe and releases it; with last also if it is not
// safe. It reports whether the line is released.
func (p *pin) makeSafeAndRelease(last bool) bool {
	if _, stopped := p.b.linkState(); stopped {
		return false
	}
	if safe, ok := p.c.Safe.Level(); ok && p.line != nil {
		err := p.driveLevel(safe, why{cause: CauseRemoved})
		if err != nil && p.line != nil && !last {
			return false
		}
		if p.removal.safe = err == nil; err != nil {
			p.b.events.add(func() { p.b.o.Log.Warn("output released, but perhaps not safe", "output", p.c.Name, "err", err) })
		}
	}
	p.releaseLine()
	return true
}

// releaseLine closes the line.
func (p *pin) releaseLine() {
	line := p.line
	p.line, p.scheduled, p.owed = nil, scheduledLevel{}, owed{}
	p.waiters.wake()
	if line == nil {
		return
	}
	err := line.release()
	p.b.events.add(func() {
		if err != nil {
			p.b.o.Log.Warn("cannot release output", "output", p.c.Name, "err", err)
			return
		}
		p.b.o.Log.Info("output released", "output", p.c.Name)
	})
	if !p.removal.safe {
		p.state.setErr(errRemoved)
	}
}

// drop completes the removal of an output. It clears the output's faults, unless another
// output has its name now.
func (b *Bank) drop(p *pin) {
	b.changing.Lock()
	defer b.changing.Unlock()
	old := b.outputs.Load()
	next := newOutputSet(old.pins, slices.DeleteFunc(slices.Clone(old.leaving), func(q *pin) bool { return q == p }))
	b.connectInterlocks(next)
	b.outputs.Store(next)
	switch q := next.byName[p.c.Name]; {
	case q == nil:
		b.o.Health.ClearAll(p.c.Name, outputFaults...)
	case q.state.Load().Err == nil:
		b.o.Health.ClearAll(p.c.Name, health.LevelMismatch, health.OutputFailed)
	}
	close(p.removal.done)
	b.wake.Set()
}

// outputFaults are all faults of an output.
var outputFaults = slices.Concat(health.Codes(health.Line), health.Codes(health.Level))
