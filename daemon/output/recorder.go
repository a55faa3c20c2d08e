package output

import (
	"context"
	"fmt"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"fieldpost/daemon/health"
	"fieldpost/daemon/wake"
	"fieldpost/sensors/board"
)

// recorderPatience is how long a call of the recorder may take before it is a
// fault, and before a line is requested though it is not recorded.
const recorderPatience = 10 * time.Second

// lockPatience is how long the recorder waits for an output that somebody drives
// at the moment. One that takes longer hangs, and is tried again later.
const lockPatience = time.Second

// Store takes handles to keep open when this process is gone: systemd's
// StoreHandles. It returns when they are kept.
type Store func(names []string, files []*os.File) error

// Unstore closes what Store keeps under a name: systemd's RemoveHandle. It returns
// when it is closed.
type Unstore func(name string) error

// recorder writes what outlives the process: the crash record, and the handles
// that systemd keeps. A disk may hang, and systemd may not answer for seconds, so
// only Open waits for it; after that it has a goroutine of its own, and the timers
// of the outputs wait for neither. What stands above "any goroutine" is that
// goroutine's.
type recorder struct {
	b *Bank

	recorded      bool      // the record holds all lines that were found
	changed       bool      // lines that it holds are not ours any more
	recordRetryAt time.Time // when to write it again after a failure
	storeRetryAt  time.Time // when to store handles again

	// Any goroutine.
	wake     wake.Signal // there is something to do
	storeDue atomic.Bool // a line was requested that is to be stored

	mu   sync.Mutex
	call callUnderWay
}

// callUnderWay is a call that may hang.
type callUnderWay struct {
	since    time.Time // zero where there is none
	disk     bool      // to the disk, else to systemd
	reported bool      // that it hangs
}

func newRecorder(b *Bank) *recorder { return &recorder{b: b, wake: wake.New()} }

// run does what there is to do until ctx ends.
func (r *recorder) run(ctx context.Context) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
		case <-r.wake.C():
		}
		timer.Reset(r.runDue(time.Now()))
	}
}

// runDue does what is due, and gives the time until something may be.
func (r *recorder) runDue(now time.Time) time.Duration {
	next := r.finishRemovals(now)
	r.prepareRequests(now)
	if r.changed || !r.recorded && !now.Before(r.recordRetryAt) {
		r.writeRecord(now)
	}
	if r.storeDue.Swap(false) || !now.Before(r.storeRetryAt) {
		r.storeHandles(now)
	}
	next = earliest(next, r.storeRetryAt)
	if !r.recorded {
		next = earliest(next, r.recordRetryAt)
	}
	return max(time.Until(next), time.Millisecond)
}

// earliest gives the earlier of two times; a zero one is never.
func earliest(a, b time.Time) time.Time {
	if a.IsZero() || !b.IsZero() && b.Before(a) {
		return b
	}
	return a
}

// finishRemovals has systemd close its handles of lines that were released, and
// takes their outputs out of the bank. It gives the time of its next attempt where
// systemd does not answer: until then the line stays driven, and recorded.
func (r *recorder) finishRemovals(now time.Time) (next time.Time) {
	for _, p := range r.b.outputs.Load().leaving {
		if !p.removal.released.Load() {
			continue
		}
		if now.Before(p.removal.retryAt) {
			next = earliest(next, p.removal.retryAt)
			continue
		}
		if err := r.unstore(p); err != nil {
			p.removal.retryAt = now.Add(retryMost)
			next = earliest(next, p.removal.retryAt)
			r.b.events.add(func() {
				r.b.o.Log.Warn("systemd still drives a line that is no longer an output", "output", p.c.Name, "err", err)
			})
			continue
		}
		r.b.drop(p)
		r.changed = true
	}
	return next
}

// unstore releases what still drives a line beside us: the handle that systemd
// keeps, and one of the run before that was never claimed, unless an output that
// is there now is to claim it.
func (r *recorder) unstore(p *pin) (err error) {
	id := p.id.Load()
	if id == nil {
		return nil
	}
	if p.stored.Load() && r.b.o.Unstore != nil {
		name := Handle{Line: p.recordLine(*id)}.Name()
		if r.watched(false, func() { err = r.b.o.Unstore(name) }); err != nil {
			return err
		}
		p.stored.Store(false)
	}
	key := lineKey(*id)
	for _, q := range r.b.outputs.Load().pins {
		if id := q.id.Load(); id != nil && lineKey(*id) == key {
			return nil
		}
	}
	r.watched(false, func() { err = r.b.o.Held.release(key) })
	return err
}

// prepareRequests does what must come before the request of the lines that Run has
// found by now: they are recorded, and systemd lets go of them. Those for which systemd
// need not be waited for come first.
func (r *recorder) prepareRequests(now time.Time) {
	for _, systemd := range []bool{false, true} {
		var lines []*pin
		for _, p := range r.b.outputs.Load().pins {
			id := p.id.Load()
			if id == nil || !p.record.awaited.Load() {
				continue
			}
			if still, _ := r.b.o.Held.isStored(lineKey(*id)); still && !systemd {
				continue
			}
			if systemd {
				r.watched(false, func() { _ = r.b.o.Held.unstoreLine(lineKey(*id)) }) // its claim reports the error
			}
			lines = append(lines, p)
		}
		if len(lines) == 0 {
			continue
		}
		r.writeRecord(now)
		for _, p := range lines {
			p.record.awaited.Store(false)
		}
		r.b.wake.Set()
	}
}

// writeRecord writes the crash record of all lines that were found: those of the
// outputs, and those that are not yet released. A line that is to change hands in
// the bank is recorded for the output that still has it.
func (r *recorder) writeRecord(now time.Time) {
	b := r.b
	r.changed = false
	s := b.outputs.Load()
	var lines, leaving []Line
	var taken []string
	for _, p := range s.leaving {
		// Of two with the same line the first has it: the second one was removed
		// before it was requested.
		if id := p.id.Load(); id != nil && !slices.Contains(taken, lineKey(*id)) {
			leaving, taken = append(leaving, p.recordLine(*id)), append(taken, lineKey(*id))
		}
	}
	ids := make([]*board.LineID, len(s.pins))
	for i, p := range s.pins {
		if id := p.id.Load(); id != nil && !slices.Contains(taken, lineKey(*id)) {
			ids[i] = id
			lines = append(lines, p.recordLine(*id))
		}
	}
	if b.o.Record != "" {
		var err error
		r.watched(true, func() { err = b.o.write(b.o.Record, append(lines, leaving...)) })
		if err != nil {
			r.recorded, r.recordRetryAt = false, now.Add(retryMost)
			b.o.Health.Raise(health.SafeUnrecorded, "outputs", err.Error())
			return
		}
		b.o.Health.Clear(health.SafeUnrecorded, "outputs")
	}
	r.recorded = true
	for i, p := range s.pins {
		p.record.written.Store(ids[i])
	}
}

// requestStore has a line stored that is to stay as it is.
func (r *recorder) requestStore() {
	r.storeDue.Store(true)
	r.wake.Set()
}

// storeHandles has systemd keep the lines that are to stay as they are, so that a
// crash does not end what drives them, and notes that in the crash record. Handles
// are copies: what a line is set to later holds for them too.
func (r *recorder) storeHandles(now time.Time) {
	b := r.b
	r.storeRetryAt = now.Add(retryMost)
	if b.o.Store == nil {
		return
	}
	var names []string
	var files []*os.File
	var stored []*pin
	for _, p := range b.outputs.Load().pins {
		if _, driven := p.c.Safe.Level(); driven || p.stored.Load() || !p.mu.LockBefore(time.Now().Add(lockPatience)) {
			continue
		}
		h, err := p.handleIfSafe()
		p.mu.Unlock()
		b.wake.Set() // Run may have passed over it
		if err != nil {
			b.warnNotStored(err)
		}
		if h.File != nil {
			names, files, stored = append(names, h.Name()), append(files, h.File), append(stored, p)
		}
	}
	if len(files) == 0 {
		return
	}
	var err error
	r.watched(false, func() { err = b.o.Store(names, files) })
	for _, f := range files {
		_ = f.Close() // a copy
	}
	if err != nil {
		b.warnNotStored(fmt.Errorf("store %q: %w", names, err))
		return
	}
	for _, p := range stored {
		p.stored.Store(true)
	}
	r.writeRecord(now)
}

// handleIfSafe gives a copy of the line's handle, if the line is safe as it is now.
// There is no file where it is not, or where the board has no handles.
func (p *pin) handleIfSafe() (Handle, error) {
	line, ok := p.line.(handleSharer)
	s := p.state.Load()
	if safe, driven := p.c.Safe.Level(); !ok || s.Err != nil || driven && s.Level != safe {
		return Handle{}, nil
	}
	f, err := line.Handle()
	if err != nil {
		return Handle{}, fmt.Errorf("share output %q: %w", p.c.Name, err)
	}
	return Handle{p.recordLine(*p.id.Load()), f}, nil
}

func (b *Bank) warnNotStored(err error) {
	b.events.add(func() { b.o.Log.Warn("a crash may change an output with safe: keep", "err", err) })
}

// watched makes a call that may hang.
func (r *recorder) watched(disk bool, f func()) {
	r.mu.Lock()
	r.call = callUnderWay{since: time.Now(), disk: disk}
	r.mu.Unlock()
	f()
	r.mu.Lock()
	r.call = callUnderWay{}
	r.mu.Unlock()
}

// reportHung reports a call that hangs, once. Its outcome is reported when it ends.
// Run calls it; it does not wait.
func (r *recorder) reportHung(now time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if c := r.call; c.since.IsZero() || c.reported || now.Sub(c.since) < recorderPatience {
		return
	}
	r.call.reported = true
	if r.call.disk {
		r.b.o.Health.Raise(health.SafeUnrecorded, "outputs", fmt.Sprintf("a write has been under way for %v", recorderPatience))
		return
	}
	r.b.warnNotStored(fmt.Errorf("systemd has not answered for %v", recorderPatience))
}

// recordWait is what an output knows of its line in the crash record.
type recordWait struct {
	written atomic.Pointer[board.LineID] // the line that the record has
	awaited atomic.Bool                  // Run waits for the recorder before it requests the line
	since   time.Time                    // of Run: since when; zero while it does not
}

// mayRequest reports whether the line may be requested: no output that leaves has
// it, and what the recorder has to do before is done, has failed, or takes too long;
// each of these is a fault then. Otherwise it sets the time at which to look again. Only
// Run asks.
func (p *pin) mayRequest(now time.Time) bool {
	if p.b.outputs.Load().delays(p) {
		p.retryAt = time.Time{} // drop wakes Run
		return false
	}
	id := p.id.Load()
	still, _ := p.b.o.Held.isStored(lineKey(*id))
	switch r := &p.record; {
	case r.since.IsZero() && r.written.Load() == id && !still:
		return true
	case r.since.IsZero():
		r.since = now
		r.awaited.Store(true)
		p.b.recorder.wake.Set()
	case !r.awaited.Load(), now.Sub(r.since) >= recorderPatience:
		r.since = time.Time{}
		return true
	}
	p.retryAt = p.record.since.Add(recorderPatience)
	return false
}
