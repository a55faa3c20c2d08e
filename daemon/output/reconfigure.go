package output

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"fieldpost/daemon/health"
)

// outputSet is the outputs of a bank at one moment. It does not change:
// [Bank.Reconfigure] puts another one in its place.
type outputSet struct {
	pins    []*pin          // in the configuration's order
	byName  map[string]*pin // the same
	leaving []*pin          // no longer outputs, and their lines not yet released
	all     []*pin          // pins and leaving
}

func newOutputSet(pins, leaving []*pin) *outputSet {
	s := &outputSet{pins: pins, byName: make(map[string]*pin, len(pins)), leaving: leaving, all: slices.Concat(pins, leaving)}
	for _, p := range pins {
		s.byName[p.c.Name] = p
	}
	return s
}

// delays reports whether the line of an output may not be requested yet because
// one that leaves has the same line or the same name.
func (s *outputSet) delays(p *pin) bool {
	return slices.ContainsFunc(s.leaving, func(q *pin) bool {
		a, b := p.id.Load(), q.id.Load()
		return q.c.Name == p.c.Name || a != nil && b != nil && lineKey(*a) == lineKey(*b)
	})
}

// Changes says what [Bank.Reconfigure] has done with each output, by name, in the
// order of the configuration. One whose line changes is both removed and added.
type Changes struct {
	Kept     []string // nothing has changed
	Adjusted []string // the line stays as it is, with other times or interlocks
	Removed  []string // driven safe and released
	Added    []string // requested at its initial level
}

// Any reports whether anything has changed.
func (c Changes) Any() bool { return len(c.Adjusted)+len(c.Removed)+len(c.Added) > 0 }

// Reconfigure gives a bank that runs another set of outputs, valid as package
// config sees to. It may be called from any goroutine; calls follow one another.
//
// An output stays untouched when its name, line, active_low, drive, safe and initial
// are the same: its line is not set, its level, cause, orders and timers go on.
// New values of max_on, min_on, min_off, safe_after, refresh and interlock hold at once,
// and the times run from when they would have run with these values from the start: a
// max_on that is over by now switches off at once. An interlock that is new does not
// move outputs that are away from their safe levels already.
//
// Every other output that was there is removed: it is driven safe, whatever its
// min_on says, then released, then taken out of the crash record. A line that does not
// become safe is tried for 10 s and then released, with a warning. An
// order that waits for such an output is answered when it is safe; one that
// comes later gets [ErrUnknown]. Every other output that is there now is added: the
// crash record gets its line, then the line is requested at its initial level, and
// what fails there is a fault of that output alone, tried again as ever. The line
// of an output that is removed and added again is requested when the old one is
// released. So at any moment the crash record has every line that is ours.
//
// Run does all that, and each removal on a goroutine of its own, so a line that hangs
// holds up no other and no timer. Reconfigure waits until it is done, or until ctx ends: then
// the error wraps ctx's and names the outputs that are not done yet, whose lines or
// disk hang; Run goes on with these. The error is or wraps [ErrStopped] when the bank
// has been stopped; then nothing has changed, or nothing more will.
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

// replaceOutputs puts the set that belongs to a configuration in the place of the
// one before.
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
			p.findLine() // where it is not there, Run looks again
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

// Compare says what [Bank.Reconfigure] would do now with each output, and does nothing. It
// may be called from any goroutine.
func (b *Bank) Compare(outputs []Config) Changes { return b.outputs.Load().compare(outputs) }

// compare says what another configuration means for each output.
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

// isStill reports whether a configuration means this output, on its line as it is.
func (p *pin) isStill(c Config) bool {
	if p.c.Name != c.Name || p.c.ActiveLow != c.ActiveLow || driveOf(p.c) != driveOf(c) || p.c.Safe != c.Safe || p.c.Initial != c.Initial {
		return false
	}
	if p.c.Pin == c.Pin {
		return true
	}
	ours := p.id.Load()
	id, err := p.b.o.Board.Find(c.Pin) // another name of the same line, perhaps
	return err == nil && ours != nil && id == *ours
}

// equal reports whether two sets of bounds say the same.
func (b *bounds) equal(o *bounds) bool {
	return b.maxOn == o.maxOn && b.minOn == o.minOn && b.minOff == o.minOff && b.safeAfter == o.safeAfter && b.refresh == o.refresh &&
		slices.Equal(b.interlock, o.interlock)
}

// awaitChanges waits until lines were requested and released.
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

// removalPatience is how long a line that is to be released is tried to be made
// safe. A line that fails for longer is released as it is: it may be removed just
// because it is broken, and a new output on it must not wait for ever.
const removalPatience = 10 * time.Second

// errRemoved is why an output that was removed cannot be driven.
var errRemoved = errors.New("the output is no longer in the configuration")

// removal is an output's way out of its bank.
type removal struct {
	started  bool          // Run has started remove; Run's own
	begun    atomic.Bool   // a reload has taken the output out: it gets no orders any more
	released atomic.Bool   // the line is not ours any more: the recorder does the rest
	done     chan struct{} // closed when nothing is left of it
	safe     bool          // it was made safe before it was released; guarded by the pin's mu
	retryAt  time.Time     // when the recorder tries again
}

// startRemovals starts the removal of the outputs that leave, each on a goroutine of
// its own: a line that hangs must hold up no timer. Run waits for them.
func (b *Bank) startRemovals(ctx context.Context, removals *sync.WaitGroup) {
	for _, p := range b.outputs.Load().leaving {
		if p.removal.begun.Load() && !p.removal.started {
			p.removal.started = true
			removals.Go(func() { p.remove(ctx) })
		}
	}
}

// remove makes the line safe and releases it. It ends before that when ctx does, or
// when the bank is stopped.
func (p *pin) remove(ctx context.Context) {
	var since time.Time // when the line was free for the first time
	for ctx.Err() == nil {
		if !p.mu.LockBefore(time.Now().Add(lockPatience)) {
			continue // somebody's call hangs, and Run reports it
		}
		if since.IsZero() {
			since = time.Now()
		}
		released := p.makeSafeAndRelease(time.Since(since) >= removalPatience)
		p.mu.Unlock()
		p.b.wake.Set() // Run may have passed over it
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

// makeSafeAndRelease makes the line safe and releases it, the last time whether it
// is safe or not. It reports whether the line is released.
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

// releaseLine gives the line back to the kernel.
func (p *pin) releaseLine() {
	line := p.line
	p.line, p.scheduled, p.owed = nil, scheduledLevel{}, owed{}
	p.waiters.wake()
	if line == nil {
		return
	}
	err := line.Close()
	p.b.events.add(func() {
		if err != nil {
			p.b.o.Log.Warn("cannot release output", "output", p.c.Name, "err", err)
			return
		}
		p.b.o.Log.Info("output released", "output", p.c.Name)
	})
	if !p.removal.safe {
		p.setErr(errRemoved)
	}
}

// drop ends the removal of an output. Its faults end with it, but for those of an
// output that has its name by now.
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

// outputFaults are all faults that an output of its own can have.
var outputFaults = slices.Concat(health.Codes(health.Line), health.Codes(health.Level))
