package output

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"time"

	"fieldpost/daemon/clock"
	"fieldpost/daemon/health"
	"fieldpost/daemon/spool"
	"fieldpost/sensors/board"
)

// Options is what a bank is made of. Board, Outputs and Clock are needed.
type Options struct {
	Board   board.Board
	Outputs []Config           // names and pins unique, as package config sees to
	Record  string             // path of the crash record; "" keeps none
	Held    *Held              // lines taken over from the run before; nil is none
	Clock   clock.Clock        // stamps events
	Health  *health.Health     // told of faults, with the output's name as subject
	Loop    *health.Loop       // turned by Run
	Log     *slog.Logger       // nil discards
	Event   func(spool.Record) // takes events, from several goroutines; must not block nor call back
}

// Bank is all outputs of the daemon. Its methods may be called from any
// goroutine.
//
// Each output has a mutex of its own, which is held during the calls into the
// kernel. So a call that hangs hangs one output. Run itself passes over an
// output that is busy and comes back to it, and one that stays busy is a fault;
// should a call that Run makes hang,
// then timers can no longer act, Loop is no longer turned, and the watchdog
// ends the daemon so that `fieldpost safe` can try.
type Bank struct {
	o      Options
	pins   []*pin
	byName map[string]*pin
	wake   chan struct{} // buffered, one: Run looks again

	mu      sync.Mutex
	stopped bool
	down    time.Time // since when the link is down; zero while it is up

	recorded    bool      // the record holds all lines that were found
	recordAgain time.Time // when Run tries to write it again
}

// Open writes the crash record, then requests each line at its initial level.
// A line that fails is a fault of its own, and Run tries it again; so is a
// record that cannot be written. Open and Run are one goroutine's.
//
// A line that is requested later gets its initial level too, as if the daemon
// had just been started, unless the link has been down for its safe_after by
// then.
func Open(o Options) *Bank {
	if o.Health == nil {
		o.Health = health.New(func(health.Change) {})
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Event == nil {
		o.Event = func(spool.Record) {}
	}
	b := &Bank{o: o, byName: map[string]*pin{}, wake: make(chan struct{}, 1), down: time.Now()}
	for _, c := range o.Outputs {
		p := newPin(b, c)
		b.pins = append(b.pins, p)
		b.byName[c.Name] = p
		p.find()
	}
	o.Held.unstore()
	b.record(time.Now())
	var ours []string
	for _, p := range b.pins {
		p.mu.Lock()
		p.request(time.Now())
		p.mu.Unlock()
		ours = append(ours, lineKey(p.id))
	}
	if err := o.Held.rest(ours); err != nil {
		o.Log.Warn("a line that is no longer an output is still held", "err", err)
	}
	return b
}

// record writes the crash record of all lines found so far.
func (b *Bank) record(now time.Time) {
	if b.recorded = b.o.Record == ""; b.recorded {
		return
	}
	var lines []Line
	for _, p := range b.pins {
		if p.found.Load() {
			lines = append(lines, p.recordLine())
		}
	}
	if err := writeRecord(b.o.Record, lines); err != nil {
		b.recordAgain = now.Add(retryMost)
		b.o.Health.Raise(health.SafeUnrecorded, "outputs", err.Error())
		return
	}
	b.recorded = true
	b.o.Health.Clear(health.SafeUnrecorded, "outputs")
}

// Run keeps the timers of all outputs and tries failed lines again, until ctx
// ends. It drives nothing when it ends: see [Bank.Safe].
func (b *Bank) Run(ctx context.Context) error {
	defer b.o.Loop.End()
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-timer.C:
		case <-b.wake:
		}
		b.o.Loop.Turn()
		timer.Reset(b.turn(time.Now()))
	}
}

// turn does what is due and gives the time until it must look again, a second
// at most.
func (b *Bank) turn(now time.Time) time.Duration {
	if !b.recorded && !now.Before(b.recordAgain) {
		b.record(now)
	}
	wait := time.Second
	for _, p := range b.pins {
		if !p.mu.TryLock() {
			p.busy(now)
			continue // whoever holds it wakes us when done
		}
		p.free()
		if next := p.turn(now); !next.IsZero() {
			wait = min(wait, next.Sub(now))
		}
		p.mu.Unlock()
	}
	return max(wait, time.Millisecond)
}

func (b *Bank) again() {
	select {
	case b.wake <- struct{}{}:
	default:
	}
}

// Link tells whether the link to the broker is up. Saying the same again
// changes nothing.
func (b *Bank) Link(up bool) {
	b.mu.Lock()
	switch {
	case up:
		b.down = time.Time{}
	case b.down.IsZero():
		b.down = time.Now()
	}
	b.mu.Unlock()
	b.again()
}

func (b *Bank) linkDown() (since time.Time, stopped bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.down, b.stopped
}

// Safe drives every line safe, now and for good: orders are refused from then
// on. It goes on after an error and may be called again, also while it is
// under way. Outputs that are busy come last, so that one that hangs keeps no
// other from being made safe.
func (b *Bank) Safe(cause string) error {
	return b.all(func(p *pin) error {
		if p.line == nil {
			return nil
		}
		if err := p.drive(p.c.Safe, cause); err != nil {
			return &FailedError{p.c.Name, err}
		}
		return nil
	})
}

// shared is a line whose handle can be copied; see board's lines on Linux.
type shared interface {
	Handle() (*os.File, error)
}

// Handles gives a copy of the handle of every line that is at its safe level,
// for somebody else to keep open; the caller closes them. It goes on after an
// error. Lines of a board without handles are left out.
func (b *Bank) Handles() ([]Handle, error) {
	var handles []Handle
	err := b.all(func(p *pin) error {
		line, ok := p.line.(shared)
		if s := p.state.Load(); !ok || s.Err != nil || s.Level != p.c.Safe {
			return nil
		}
		f, err := line.Handle()
		if err != nil {
			return fmt.Errorf("share output %q: %w", p.c.Name, err)
		}
		handles = append(handles, Handle{p.recordLine(), f})
		return nil
	})
	return handles, err
}

// Close makes every line safe where [Bank.Safe] has not, and releases them.
// The crash record stays, for `fieldpost safe`.
func (b *Bank) Close() error {
	return errors.Join(b.Safe(CauseStop), b.all(func(p *pin) error {
		if p.line == nil {
			return nil
		}
		line := p.line
		p.line = nil
		p.fail(ErrStopped)
		if err := line.Close(); err != nil {
			return fmt.Errorf("release output %q: %w", p.c.Name, err)
		}
		return nil
	}))
}

// all stops the bank and calls fn for each pin, the busy ones last.
func (b *Bank) all(fn func(*pin) error) error {
	b.mu.Lock()
	b.stopped = true
	b.mu.Unlock()
	var errs []error
	var busy []*pin
	for _, p := range b.pins {
		if !p.mu.TryLock() {
			busy = append(busy, p)
			continue
		}
		errs = append(errs, fn(p))
		p.mu.Unlock()
	}
	for _, p := range busy {
		p.mu.Lock()
		errs = append(errs, fn(p))
		p.mu.Unlock()
	}
	return errors.Join(errs...)
}

// States gives all outputs in the configuration's order. It never waits.
func (b *Bank) States() []State {
	all := make([]State, 0, len(b.pins))
	for _, p := range b.pins {
		all = append(all, *p.state.Load())
	}
	return all
}
