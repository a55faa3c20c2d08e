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

// recorderPatience is how long a call of the recorder may take before it is a fault and
// before a line is requested without being recorded.
const recorderPatience = 10 * time.Second

// lockPatience is how long the recorder waits for an output that is busy. One that takes
// longer hangs, and is retried later.
const lockPatience = time.Second

// Store passes on handles that must stay open after this process has ended: systemd's
// StoreHandles. It returns when they are stored.
type Store func(names []string, files []*os.File) error

// Unstore closes the stored handle of that name: systemd's RemoveHandle. It returns when
// systemd has answered.
type Unstore func(name string) error

// recorder keeps what outlives the process: the crash record, and the handles that
// systemd stores. A disk may hang, and systemd may not answer for seconds. So only Open
// waits for the recorder; after that it has its own goroutine, and the outputs' timers
// never wait for it. The fields above "Any goroutine" belong to that goroutine.
type recorder struct {
	b *Bank

	recorded      bool      // the record has all lines that were found
	lines         int       // how many the record has
	changed       bool      // it has lines that are no longer ours
	recordRetryAt time.Time // when to write it again after a failure
	storeRetryAt  time.Time // when to store handles again
	notStored     string    // why a handle is not stored, as it was logged; "" if all are

	// Any goroutine.
	wake     wake.Signal // there is something to do
	storeDue atomic.Bool // a line was requested whose handle must be stored

	mu   sync.Mutex
	call callUnderWay
}

// callUnderWay is a call that may hang.
type callUnderWay struct {
	since    time.Time // zero if there is none
	disk     bool      // true: to the disk; false: to systemd
	reported bool      // its hang was reported
}

func newRecorder(b *Bank) *recorder { return &recorder{b: b, wake: wake.New()} }

// run does the recorder's work until ctx ends.
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

// runDue does what is due and returns the time until it must be called again.
func (r *recorder) runDue(now time.Time) time.Duration {
	r.lookForRecord()
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

// lookForRecord has the record written again if somebody has removed or emptied it: without it
// nobody makes the lines safe after a crash. The recorder wakes up every retryMost anyway.
func (r *recorder) lookForRecord() {
	if !r.recorded || r.lines == 0 || r.b.o.Record == "" {
		return
	}
	there := true
	if r.watched(true, func() { there = r.b.o.there(r.b.o.Record) }); there {
		return
	}
	r.recorded, r.recordRetryAt = false, time.Time{}
	r.b.events.add(func() {
		r.b.o.Log.Warn("the record for `fieldpost safe` was removed; writing it again", "path", r.b.o.Record)
	})
}

// earliest returns the earlier of two times; zero means never.
func earliest(a, b time.Time) time.Time {
	if a.IsZero() || !b.IsZero() && b.Before(a) {
		return b
	}
	return a
}

// finishRemovals asks systemd to close its handles of released lines, and removes their
// outputs from the bank. If systemd does not answer, the line stays driven and recorded,
// and finishRemovals returns the time of the next attempt.
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

// unstore closes the other handles of a line: systemd's copy, and one of the last run
// that was never claimed, unless a present output will claim it.
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

// prepareRequests does what must come before the requests of lines: record them, and ask
// systemd to close its copies. Lines that need no answer from systemd come first.
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
				r.watched(false, func() { _ = r.b.o.Held.unstoreLine(lineKey(*id)) }) // claim reports the error
			}
			lines = append(lines, p)
		}
		if len(lines) == 0 {
			continue
		}
		// Run may have asked while the record was written, which has the lines then.
		if !r.recorded || r.changed || slices.ContainsFunc(lines, func(p *pin) bool { return p.record.written.Load() != p.id.Load() }) {
			r.writeRecord(now)
		}
		for _, p := range lines {
			p.record.awaited.Store(false)
		}
		r.b.wake.Set()
	}
}

// writeRecord writes the crash record with all lines that were found: those of the
// outputs, and those not released yet. If a line moves from one output to another, it
// records the one that still has it.
func (r *recorder) writeRecord(now time.Time) {
	b := r.b
	r.changed = false
	s := b.outputs.Load()
	var lines, leaving []Line
	var taken []string
	for _, p := range s.leaving {
		// Of two with the same line the first one has it: the second one was removed
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
	r.recorded, r.lines = true, len(lines)+len(leaving)
	for i, p := range s.pins {
		p.record.written.Store(ids[i])
	}
}

// requestStore asks the recorder to store the handle of a line with safe: keep.
func (r *recorder) requestStore() {
	r.storeDue.Store(true)
	r.wake.Set()
}

// storeHandles passes the handles of lines with safe: keep to systemd, so that they stay
// driven after a crash, and marks them in the crash record. The handles are copies, so
// later levels of a line apply to them too.
func (r *recorder) storeHandles(now time.Time) {
	b := r.b
	r.storeRetryAt = now.Add(retryMost)
	if b.o.Store == nil {
		return
	}
	var names []string
	var files []*os.File
	var stored []*pin
	var failed error
	defer func() { r.logNotStored(failed) }()
	for _, p := range b.outputs.Load().pins {
		if _, driven := p.c.Safe.Level(); driven || p.stored.Load() {
			continue
		}
		var h Handle
		var err error
		if !p.lockedBefore(time.Now().Add(lockPatience), func() { h, err = p.handleIfSafe() }) {
			continue
		}
		b.wake.Set() // Run may have passed over it
		if err != nil {
			failed = err
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
		failed = fmt.Errorf("store %q: %w", names, err)
		return
	}
	for _, p := range stored {
		p.stored.Store(true)
	}
	r.writeRecord(now)
}

// handleIfSafe returns a copy of the line's handle if the line is safe now. It returns no
// file if the line is not, or if the board has no handles.
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
	if f == nil {
		return Handle{}, nil
	}
	return Handle{p.recordLine(*p.id.Load()), f}, nil
}

// logNotStored logs why a handle is not stored when that is another reason than before: the
// next attempts, every retryMost for ever, need no line each.
func (r *recorder) logNotStored(err error) {
	before := r.notStored
	if r.notStored = ""; err == nil {
		return
	}
	if r.notStored = err.Error(); r.notStored != before {
		r.b.warnNotStored(err)
	}
}

func (b *Bank) warnNotStored(err error) {
	b.events.add(func() { b.o.Log.Warn("a crash may change an output with safe: keep", "err", err) })
}

// watched makes a call that may hang, so that reportHung can report it.
func (r *recorder) watched(disk bool, f func()) {
	r.mu.Lock()
	r.call = callUnderWay{since: time.Now(), disk: disk}
	r.mu.Unlock()
	f()
	r.mu.Lock()
	r.call = callUnderWay{}
	r.mu.Unlock()
}

// reportHung reports a call that hangs, once. The call's result is reported when it ends.
// Run calls reportHung, which does not block.
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

// recordWait is an output's state in the crash record.
type recordWait struct {
	written atomic.Pointer[board.LineID] // the recorded line
	awaited atomic.Bool                  // Run waits for the recorder before it requests the line
	since   time.Time                    // since when; zero if it does not; used only by Run
}

// mayRequest reports whether the line may be requested. No leaving output may have the
// line, and the recorder must have prepared the request, have failed, or take too long
// (both are faults). Otherwise it sets the time of the next check. Only Run calls it.
func (p *pin) mayRequest(now time.Time) bool {
	if p.b.outputs.Load().delays(p) {
		p.retry.at = time.Time{} // drop wakes Run
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
	p.retry.at = p.record.since.Add(recorderPatience)
	return false
}
