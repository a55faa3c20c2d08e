package output

import (
	"context"
	"fmt"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"fieldpost/daemon/health"
	"fieldpost/sensors/board"
)

// keeperPatience is how long a call of the keeper's may take before it is told,
// and before a line is requested though it has not been recorded.
const recorderPatience = 10 * time.Second

// lockPatience is how long the keeper waits for an output that somebody drives
// just now. One that takes longer hangs, and is tried again later.
const lockPatience = time.Second

// keeper sees to what outlives the process: the crash record, and the handles
// that systemd keeps. A disk may hang, and systemd may not answer for seconds; so
// Open waits for it, and after that it has a goroutine of its own, and the timers
// of the outputs wait for neither. Only its fields under "any goroutine" are not
// that goroutine's.
type recorder struct {
	b *Bank

	recorded      bool      // the record holds all lines that were found
	recordRetryAt time.Time // when to try to write it again
	storeRetryAt  time.Time // when to try again to have lines kept

	// Any goroutine.
	wake     chan struct{} // buffered, one: there is something to do
	storeDue atomic.Bool   // a line was requested that is to be kept

	mu   sync.Mutex
	call callUnderWay // what is under way
}

// call is a call that may hang.
type callUnderWay struct {
	since time.Time // zero where none is under way
	disk  bool      // the record's, or else systemd's
	told  bool      // that it hangs has been told
}

func newRecorder(b *Bank) *recorder { return &recorder{b: b, wake: make(chan struct{}, 1)} }

// run does what there is to do until ctx ends.
func (r *recorder) run(ctx context.Context) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
		case <-r.wake:
		}
		timer.Reset(r.runDue(time.Now()))
	}
}

// turn does what is due, and gives the time until something may be.
func (r *recorder) runDue(now time.Time) time.Duration {
	r.prepareRequests(now)
	if !r.recorded && !now.Before(r.recordRetryAt) {
		r.writeRecord(now)
	}
	if r.storeDue.Swap(false) || !now.Before(r.storeRetryAt) {
		r.storeHandles(now)
	}
	next := r.storeRetryAt
	if !r.recorded && r.recordRetryAt.Before(next) {
		next = r.recordRetryAt
	}
	return max(time.Until(next), time.Millisecond)
}

// prepare does what must come before the request of the lines that Run has found
// by now: they are recorded, and systemd lets go of them. Those for which systemd
// need not be waited for come first.
func (r *recorder) prepareRequests(now time.Time) {
	for _, systemd := range []bool{false, true} {
		var lines []*pin
		for _, p := range r.b.pins {
			id := p.id.Load()
			if id == nil || !p.awaitsRecord.Load() {
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
			p.awaitsRecord.Store(false)
		}
		r.b.wakeRun()
	}
}

// record writes the crash record of all lines found so far.
func (r *recorder) writeRecord(now time.Time) {
	b := r.b
	var lines []Line
	ids := make([]*board.LineID, len(b.pins))
	for i, p := range b.pins {
		if ids[i] = p.id.Load(); ids[i] != nil {
			lines = append(lines, p.recordLine(*ids[i]))
		}
	}
	if b.o.Record != "" {
		var err error
		r.watched(true, func() { err = b.o.write(b.o.Record, lines) })
		if err != nil {
			r.recorded, r.recordRetryAt = false, now.Add(retryMost)
			b.o.Health.Raise(health.SafeUnrecorded, "outputs", err.Error())
			return
		}
		b.o.Health.Clear(health.SafeUnrecorded, "outputs")
	}
	r.recorded = true
	for i, p := range b.pins {
		p.recorded.Store(ids[i])
	}
}

// keep has a line kept that is to stay as it is.
func (r *recorder) requestStore() {
	r.storeDue.Store(true)
	r.wakeUp()
}

func (r *recorder) wakeUp() {
	select {
	case r.wake <- struct{}{}:
	default:
	}
}

// store has the lines kept that are to stay as they are, so that a crash does
// not end what drives them, and notes that in the crash record. Handles are
// copies: what a line is set to later holds for them too.
func (r *recorder) storeHandles(now time.Time) {
	b := r.b
	r.storeRetryAt = now.Add(retryMost)
	if b.o.Store == nil {
		return
	}
	var names []string
	var files []*os.File
	var kept []*pin
	for _, p := range b.pins {
		if _, driven := p.c.Safe.Level(); driven || p.stored.Load() || !p.mu.LockBefore(time.Now().Add(lockPatience)) {
			continue
		}
		h, err := p.handleIfSafe()
		p.mu.Unlock()
		b.wakeRun() // Run has passed over it, perhaps
		if err != nil {
			b.warnNotStored(err)
		}
		if h.File != nil {
			names, files, kept = append(names, h.Name()), append(files, h.File), append(kept, p)
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
		b.warnNotStored(fmt.Errorf("keep %q: %w", names, err))
		return
	}
	for _, p := range kept {
		p.stored.Store(true)
	}
	r.writeRecord(now)
}

func (b *Bank) warnNotStored(err error) {
	b.events.add(func() { b.o.Log.Warn("a crash may change an output that is to stay as it is", "err", err) })
}

// do makes a call that may hang.
func (r *recorder) watched(disk bool, f func()) {
	r.mu.Lock()
	r.call = callUnderWay{since: time.Now(), disk: disk}
	r.mu.Unlock()
	f()
	r.mu.Lock()
	r.call = callUnderWay{}
	r.mu.Unlock()
}

// watch tells of a call that hangs, once; when it ends, what came of it is told
// after that. It is Run's, and does not wait.
func (r *recorder) reportHung(now time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if c := r.call; c.since.IsZero() || c.told || now.Sub(c.since) < recorderPatience {
		return
	}
	r.call.told = true
	if r.call.disk {
		r.b.o.Health.Raise(health.SafeUnrecorded, "outputs", fmt.Sprintf("a write has been under way for %v", recorderPatience))
		return
	}
	r.b.warnNotStored(fmt.Errorf("systemd has not answered for %v", recorderPatience))
}

// prepared reports whether the line may be requested: what the keeper has to do
// before is done, has failed, or takes too long; each is a fault then. Otherwise
// it sets the time at which to look again. Only Run asks.
func (p *pin) mayRequest(now time.Time) bool {
	id := p.id.Load()
	still, _ := p.b.o.Held.isStored(lineKey(*id))
	switch {
	case p.awaitsRecordSince.IsZero() && p.recorded.Load() == id && !still:
		return true
	case p.awaitsRecordSince.IsZero():
		p.awaitsRecordSince = now
		p.awaitsRecord.Store(true)
		p.b.recorder.wakeUp()
	case !p.awaitsRecord.Load(), now.Sub(p.awaitsRecordSince) >= recorderPatience:
		p.awaitsRecordSince = time.Time{}
		return true
	}
	p.retryAt = p.awaitsRecordSince.Add(recorderPatience)
	return false
}

// Store takes handles to keep open when this process is gone: systemd's
// StoreHandles. It returns when they are kept.
type Store func(names []string, files []*os.File) error

// handle gives a copy of the line's handle, if the line is safe as it is now.
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
