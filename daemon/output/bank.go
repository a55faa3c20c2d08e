package output

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"fieldpost/daemon/clock"
	"fieldpost/daemon/health"
	"fieldpost/daemon/journal"
	"fieldpost/daemon/message"
	"fieldpost/daemon/wake"
	"fieldpost/sensors/board"
)

// Options is what a bank is made of. Board, Outputs and Clock are needed.
type Options struct {
	Board     board.Board
	Outputs   []Config             // names and pins unique, as package config sees to
	Record    string               // path of the crash record; "" keeps none
	Held      *Held                // lines taken over from the run before; nil is none
	Store     Store                // keeps lines driven that are to stay as they are; nil does not
	Unstore   Unstore              // takes back what Store keeps; nil cannot
	Levels    journal.Storage      // where levels are kept for the next run; nil keeps none
	Clock     clock.Clock          // stamps events
	Health    *health.Health       // told of faults, with the output's name as subject; nil tells nobody
	Heartbeat *health.Heartbeat    // beaten by Run; may be nil
	Log       *slog.Logger         // nil discards
	Event     func(message.Record) // takes events, one at a time; must not call back

	write func(path string, lines []Line) error // writes the crash record; nil is writeRecord
}

// Bank is all outputs of the daemon. Its methods may be called from any
// goroutine.
//
// Each output has a lock of its own, which is held during the calls into the
// kernel and during nothing else that may block: log lines and events are queued, and
// given when the lock is free again. So a call that hangs hangs one output, and a log
// that blocks hangs none. Run itself passes over an
// output that is busy and comes back to it, and one that stays busy is a fault.
// If a call that Run makes on a line hangs, timers can no longer act, Heartbeat no
// longer beats, and the watchdog ends the daemon so that `fieldpost safe` can
// try. What waits for a disk or for systemd runs on goroutines of its own, apart
// from the timers.
type Bank struct {
	o        Options
	outputs  atomic.Pointer[outputSet]
	events   *eventQueue
	levels   *levelJournal
	recorder *recorder
	opening  bool          // Open is under way
	wake     wake.Signal   // Run looks again
	stopping chan struct{} // closed when stopped

	changing sync.Mutex // held by who puts another set in the place of outputs

	mu            sync.Mutex
	stopped       bool
	linkDownSince time.Time // zero while the link is up

	energisedMu sync.Mutex // guards every pin's energised and peers; see interlock.go
}

// Open writes the crash record, then requests each line at its initial level,
// those first that begin at their safe levels. A line that fails is a fault of
// its own, and Run tries it again; so is a record that cannot be written. Open
// and Run are one goroutine's.
//
// A line that is requested later gets its initial level too, as if the daemon
// had just started, unless the link has been down for its safe_after by then.
func Open(o Options) *Bank {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Event == nil {
		o.Event = func(message.Record) {}
	}
	if o.write == nil {
		o.write = writeRecord
	}
	b := &Bank{
		o: o, opening: true, events: newEventQueue(),
		wake: wake.New(), stopping: make(chan struct{}), linkDownSince: time.Now(),
	}
	var pins []*pin
	for _, c := range o.Outputs {
		p := newPin(b, c)
		pins = append(pins, p)
		p.findLine()
	}
	s := newOutputSet(pins, nil)
	b.connectInterlocks(s)
	b.outputs.Store(s)
	b.levels = newLevelJournal(o)
	b.recorder = newRecorder(b)
	o.Held.unstoreAll()
	b.recorder.writeRecord(time.Now())
	b.requestAll()
	b.recorder.storeHandles(time.Now())
	b.opening = false
	b.events.flush()
	return b
}

// requestAll requests every line, and releases the held lines that are no output
// any more.
func (b *Bank) requestAll() {
	var ours []string
	pins := b.outputs.Load().pins
	for _, first := range []bool{true, false} {
		for _, p := range pins {
			if p.beginsSafe() != first {
				continue
			}
			p.mu.Lock()
			p.requestLine(time.Now())
			p.mu.Unlock()
			if id := p.id.Load(); id != nil {
				ours = append(ours, lineKey(*id))
			}
		}
	}
	if err := b.o.Held.releaseExcept(ours); err != nil {
		b.events.add(func() { b.o.Log.Warn("a line that is no longer an output is still held", "err", err) })
	}
}

// Run keeps the timers of all outputs, tries failed lines again, gives log lines and
// events, keeps the crash record, the handles that systemd has and the levels for the
// next run, and carries out what [Bank.Reconfigure] asks for, until ctx ends. It drives
// nothing when it ends: see [Bank.Safe]. It waits for all that it has started: a disk
// that hangs holds up its end, and no timer.
func (b *Bank) Run(ctx context.Context) error {
	var others sync.WaitGroup
	defer others.Wait()
	others.Go(func() { b.events.run(ctx) })
	others.Go(func() { b.levels.run(ctx) })
	others.Go(func() { b.recorder.run(ctx) })
	defer b.o.Heartbeat.End()
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-timer.C:
		case <-b.wake.C():
		}
		b.o.Heartbeat.Beat()
		b.startRemovals(ctx, &others)
		now := time.Now()
		wait := b.runDue(now)
		if wait == lookEvery { // nothing is due before
			wait = b.o.Heartbeat.Wait(now, wait)
		}
		timer.Reset(wait)
	}
}

// lookEvery is the longest that Run waits.
const lookEvery = time.Second

// runDue does what is due and gives the time until it must look again, a second
// at most.
func (b *Bank) runDue(now time.Time) time.Duration {
	b.recorder.reportHung(now)
	wait := lookEvery
	for _, p := range b.outputs.Load().all {
		if !p.mu.TryLock() {
			p.noteBusy(now)
			continue // whoever holds it wakes us when done
		}
		p.noteFree()
		if next := p.runDue(now); !next.IsZero() {
			wait = min(wait, next.Sub(now))
		}
		p.mu.Unlock()
	}
	return max(wait, time.Millisecond)
}

// Link tells whether the link to the broker is up. Saying the same again
// changes nothing.
func (b *Bank) Link(up bool) {
	b.mu.Lock()
	switch {
	case up:
		b.linkDownSince = time.Time{}
	case b.linkDownSince.IsZero():
		b.linkDownSince = time.Now()
	}
	b.mu.Unlock()
	b.wake.Set()
}

func (b *Bank) linkState() (downSince time.Time, stopped bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.linkDownSince, b.stopped
}

// States gives all outputs in the configuration's order. It never waits.
func (b *Bank) States() []State {
	pins := b.outputs.Load().pins
	all := make([]State, 0, len(pins))
	for _, p := range pins {
		all = append(all, *p.state.Load())
	}
	return all
}

// Safe drives every line safe, now and for good: orders are refused from then
// on. A line whose output is safe as it is stays as it is. Safe goes on after an error
// and may be called again, also while it is under way. Outputs that are busy
// come last, so one that hangs keeps no other from being made safe. Nothing is logged
// and no event is given before all are safe.
func (b *Bank) Safe(cause string) error {
	defer b.events.flushUnlessRunning()
	return b.stopAll(func(p *pin) error {
		safe, ok := p.c.Safe.Level()
		if !ok || p.line == nil {
			p.scheduled = scheduledLevel{}
			return nil
		}
		if err := p.driveLevel(safe, why{cause: cause}); err != nil {
			return &FailedError{p.c.Name, err}
		}
		return nil
	})
}

// handleSharer is a line whose handle can be copied; see board's lines on Linux.
type handleSharer interface {
	Handle() (*os.File, error)
}

// Handles gives a copy of the handle of every line that is at its safe level,
// or safe as it is, for somebody else to keep open; the caller closes them. It
// goes on after an error. It leaves out lines of a board without handles, and those
// that Store has already.
func (b *Bank) Handles() ([]Handle, error) {
	var handles []Handle
	err := b.stopAll(func(p *pin) error {
		if p.stored.Load() {
			return nil
		}
		h, err := p.handleIfSafe()
		if h.File != nil {
			handles = append(handles, h)
		}
		return err
	})
	return handles, err
}

// Close makes every line safe where [Bank.Safe] has not, and releases them.
// The crash record stays, for `fieldpost safe`.
func (b *Bank) Close() error {
	defer b.events.flushUnlessRunning()
	return errors.Join(b.Safe(CauseStop), b.stopAll(func(p *pin) error {
		if p.line == nil {
			return nil
		}
		line := p.line
		p.line = nil
		p.setErr(ErrStopped)
		if err := line.Close(); err != nil {
			return fmt.Errorf("release output %q: %w", p.c.Name, err)
		}
		return nil
	}))
}

// stopAll stops the bank and calls fn for each pin, the busy ones last.
func (b *Bank) stopAll(fn func(*pin) error) error {
	b.mu.Lock()
	if !b.stopped {
		b.stopped = true
		close(b.stopping)
	}
	b.mu.Unlock()
	var errs []error
	var busy []*pin
	for _, p := range b.outputs.Load().all {
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
