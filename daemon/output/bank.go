package output

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"fieldpost/daemon/clock"
	"fieldpost/daemon/health"
	"fieldpost/daemon/journal"
	"fieldpost/daemon/message"
	"fieldpost/daemon/task"
	"fieldpost/daemon/wake"
	"fieldpost/sensors/board"
)

// Options are the parts of a bank. Board, Outputs and Clock are required.
type Options struct {
	Board     board.Board
	Outputs   []Config             // names and pins are unique; package config checks that
	Record    string               // path of the crash record; "" keeps none
	Held      *Held                // lines taken over from the last run; nil is none
	Store     Store                // keeps lines with safe: keep driven after a crash; nil does not
	Unstore   Unstore              // removes what Store keeps; nil cannot
	Levels    journal.Storage      // where levels are kept for the next run; nil keeps none
	Clock     clock.Clock          // stamps events
	Health    *health.Health       // gets faults with the output's name as subject; may be nil
	Heartbeat *health.Heartbeat    // beaten by Run; may be nil
	Log       *slog.Logger         // nil discards
	Event     func(message.Record) // receives events, one at a time; must not call the bank

	write func(path string, lines []Line) error // writes the crash record; nil is writeRecord
	there func(path string) bool                // whether the crash record is still there; nil is recordThere, with another write always
}

// Bank is all outputs of the daemon. Its methods may be called from any
// goroutine.
//
// Each output has its own lock. It is held during calls into the kernel, and during
// nothing else that may block: log lines and events are queued and delivered after the
// lock is released. So a hanging call blocks one output, and a blocking log blocks none.
// Run skips an output that is busy and comes back to it; one that stays busy is a fault.
// If one of Run's own calls hangs, timers can no longer act and Heartbeat stops beating,
// so the watchdog ends the daemon and `fieldpost safe` can try. Everything that waits for
// a disk or for systemd runs on other goroutines than the timers.
type Bank struct {
	o        Options
	outputs  atomic.Pointer[outputSet]
	events   *eventQueue
	levels   *levelJournal
	recorder *recorder
	opening  bool          // Claim has not returned
	wake     wake.Signal   // makes Run check again
	stopping chan struct{} // closed when stopped

	expanders map[string]*expander // by the kernel's name; used only by Run

	changing sync.Mutex // held while another set replaces outputs

	mu            sync.Mutex
	stopped       bool
	linkDownSince time.Time // zero while the link is up

	energisedMu sync.Mutex // guards every pin's energised and peers; see interlock.go
}

// Open is [New] and then [Bank.Claim].
func Open(o Options) *Bank {
	b := New(o)
	b.Claim()
	return b
}

// New makes a bank. It touches no line; call [Bank.Claim] next.
func New(o Options) *Bank {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Event == nil {
		o.Event = func(message.Record) {}
	}
	if o.write == nil {
		o.write, o.there = writeRecord, recordThere
	}
	if o.there == nil {
		o.there = func(string) bool { return true }
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
	return b
}

// Claim writes the crash record, then requests each line at its initial level. Outputs
// that begin at their safe levels come first. A line that fails, or a record that cannot
// be written, is a fault, and Run retries it. Call Claim once, before Run and from the same
// goroutine. If it panics, [Bank.Safe], [Bank.Handles] and [Bank.Close] still work.
//
// A line that is requested later also gets its initial level, as if the daemon had just
// started, unless the link has been down for safe_after by then.
func (b *Bank) Claim() {
	b.o.Held.unstoreAll()
	b.recorder.writeRecord(time.Now())
	b.requestAll()
	b.recorder.storeHandles(time.Now())
	b.opening = false
	b.events.flush()
}

// slowRequest is how long the request of a line takes at least that fails because of a
// bus that hangs; the kernel's limit is 100 ms or more.
const slowRequest = 50 * time.Millisecond

// requestAll requests every line, and releases held lines that are no longer outputs.
// Lines of expanders come last. If one fails slowly, the others of its expander are left
// to Run: a bus that hangs must not delay the start.
func (b *Bank) requestAll() {
	var ours []string
	pins := expandersLast(b.outputs.Load().pins)
	failed := map[string]error{}
	for _, first := range []bool{true, false} {
		for _, p := range pins {
			if p.beginsSafe() != first {
				continue
			}
			device := p.check.on()
			p.locked(func() {
				if failed[device] != nil {
					p.requestFailed(failed[device], time.Now())
					return
				}
				began := time.Now()
				p.requestLine(began)
				if err := p.state.Load().Err; device != "" && p.line == nil && err != nil && time.Since(began) >= slowRequest {
					failed[device] = err
				}
			})
			if id := p.id.Load(); id != nil {
				ours = append(ours, lineKey(*id))
			}
		}
	}
	if err := b.o.Held.releaseExcept(ours); err != nil {
		b.events.add(func() { b.o.Log.Warn("a line that is no longer an output is still held", "err", err) })
	}
}

// Run does the work of a bank until ctx ends. It runs the timers of all outputs, retries
// failed lines, delivers log lines and events, and carries out [Bank.Reconfigure]. It
// updates the crash record, the handles that systemd has, and the levels for the next
// run. It drives no line when it ends; see [Bank.Safe]. It waits for everything that it
// has started, so a disk that hangs delays its end, but no timer.
func (b *Bank) Run(ctx context.Context) error {
	others := task.NewGroup(ctx) // not waited for where Run panics: they go on until ctx ends
	others.Go("output events", func() { b.events.run(ctx) })
	others.Go("output levels", func() { b.levels.run(ctx) })
	others.Go("output recorder", func() { b.recorder.run(ctx) })
	defer b.o.Heartbeat.End()
	timer := wake.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			b.o.Heartbeat.End()
			others.Wait()
			return ctx.Err()
		case <-timer.C:
		case <-b.wake.C():
			b.wakeExpanders()
		}
		b.o.Heartbeat.Beat()
		b.startExpanders(ctx, others)
		b.startRemovals(ctx, others)
		now := time.Now()
		wait := b.runDue(now)
		if wait == health.IdleEvery || wait == lookEvery { // nothing is due earlier
			wait = b.o.Heartbeat.Wait(now, wait)
		}
		timer.Reset(wait)
	}
}

// lookEvery is the longest time that Run waits while an output is busy.
const lookEvery = time.Second

// runDue does what is due and returns the time until it must be called again, at most
// [health.IdleEvery].
func (b *Bank) runDue(now time.Time) time.Duration {
	b.recorder.reportHung(now)
	wait := health.IdleEvery
	for _, p := range b.outputs.Load().all {
		if !p.mu.TryLock() {
			if detail := p.hang.busy(now, p.check.turns.Load()); detail != "" {
				b.o.Health.Raise(health.OutputFailed, p.c.Name, detail)
			}
			wait = min(wait, lookEvery)
			continue // the holder wakes Run when it is done
		}
		if next := p.runFree(now); !next.IsZero() {
			wait = min(wait, next.Sub(now))
		}
	}
	return max(wait, time.Millisecond)
}

// Link reports whether the link to the broker is up. Repeating the same state changes
// nothing.
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

// States returns all outputs in the configuration's order. It never blocks.
func (b *Bank) States() []State {
	pins := b.outputs.Load().pins
	all := make([]State, 0, len(pins))
	for _, p := range pins {
		all = append(all, *p.state.Load())
	}
	return all
}

// Safe drives every line to its safe level. From then on orders are refused. Lines with
// safe: keep stay as they are. Safe continues after an error or a panic and may be called
// again, also concurrently. Outputs on expanders come last, and busy ones after those, so
// that one that hangs does not prevent making the others safe. Log lines and events wait
// until all are safe.
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

// Handles returns a copy of the handle of every line that is at its safe level or has
// safe: keep. Another process can keep the copies open; the caller closes them. Handles
// continues after an error. It leaves out lines of a board without handles, and lines
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

// Close makes every line safe if [Bank.Safe] has not, and releases them. The crash record
// remains for `fieldpost safe`.
func (b *Bank) Close() error {
	defer b.events.flushUnlessRunning()
	return errors.Join(b.Safe(CauseStop), b.stopAll(func(p *pin) error {
		if p.line == nil {
			return nil
		}
		line := p.line
		p.line = nil
		p.state.setErr(ErrStopped)
		if err := line.release(); err != nil {
			return fmt.Errorf("release output %q: %w", p.c.Name, err)
		}
		return nil
	}))
}

// stopAll stops the bank and calls fn for each pin, for busy ones last. A panic becomes the
// error of its pin, and fn is still called for the others.
func (b *Bank) stopAll(fn func(*pin) error) error {
	b.mu.Lock()
	if !b.stopped {
		b.stopped = true
		close(b.stopping)
	}
	b.mu.Unlock()
	var errs []error
	var busy []*pin
	for _, p := range expandersLast(b.outputs.Load().all) {
		if !p.mu.TryLock() {
			busy = append(busy, p)
			continue
		}
		errs = append(errs, p.stopLocked(fn))
		p.mu.Unlock()
	}
	for _, p := range busy {
		p.mu.Lock()
		errs = append(errs, p.stopLocked(fn))
		p.mu.Unlock()
	}
	return errors.Join(errs...)
}

// stopLocked calls fn for a pin that is locked.
func (p *pin) stopLocked(fn func(*pin) error) error {
	err := task.Guard(func() error { return fn(p) })
	if errors.Is(err, task.ErrPanicked) {
		return &FailedError{p.c.Name, err}
	}
	return err
}
