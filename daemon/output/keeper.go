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
const keeperPatience = 10 * time.Second

// lockPatience is how long the keeper waits for an output that somebody drives
// just now. One that takes longer hangs, and is tried again later.
const lockPatience = time.Second

// keeper sees to what outlives the process: the crash record, and the handles
// that systemd keeps. A disk may hang, and systemd may not answer for seconds; so
// Open waits for it, and after that it has a goroutine of its own, and the timers
// of the outputs wait for neither. Only its fields under "any goroutine" are not
// that goroutine's.
type keeper struct {
	b *Bank

	recorded    bool      // the record holds all lines that were found
	recordAgain time.Time // when to try to write it again
	storeAgain  time.Time // when to try again to have lines kept

	// Any goroutine.
	wake   chan struct{} // buffered, one: there is something to do
	toKeep atomic.Bool   // a line was requested that is to be kept

	mu   sync.Mutex
	call call // what is under way
}

// call is a call that may hang.
type call struct {
	since time.Time // zero where none is under way
	disk  bool      // the record's, or else systemd's
	told  bool      // that it hangs has been told
}

func newKeeper(b *Bank) *keeper { return &keeper{b: b, wake: make(chan struct{}, 1)} }

// run does what there is to do until ctx ends.
func (k *keeper) run(ctx context.Context) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
		case <-k.wake:
		}
		timer.Reset(k.turn(time.Now()))
	}
}

// turn does what is due, and gives the time until something may be.
func (k *keeper) turn(now time.Time) time.Duration {
	k.prepare(now)
	if !k.recorded && !now.Before(k.recordAgain) {
		k.record(now)
	}
	if k.toKeep.Swap(false) || !now.Before(k.storeAgain) {
		k.store(now)
	}
	next := k.storeAgain
	if !k.recorded && k.recordAgain.Before(next) {
		next = k.recordAgain
	}
	return max(time.Until(next), time.Millisecond)
}

// prepare does what must come before the request of the lines that Run has found
// by now: they are recorded, and systemd lets go of them. Those for which systemd
// need not be waited for come first.
func (k *keeper) prepare(now time.Time) {
	for _, systemd := range []bool{false, true} {
		var lines []*pin
		for _, p := range k.b.pins {
			id := p.id.Load()
			if id == nil || !p.waits.Load() {
				continue
			}
			if still, _ := k.b.o.Held.stored(lineKey(*id)); still && !systemd {
				continue
			}
			if systemd {
				k.do(false, func() { _ = k.b.o.Held.forget(lineKey(*id)) }) // its claim reports the error
			}
			lines = append(lines, p)
		}
		if len(lines) == 0 {
			continue
		}
		k.record(now)
		for _, p := range lines {
			p.waits.Store(false)
		}
		k.b.again()
	}
}

// record writes the crash record of all lines found so far.
func (k *keeper) record(now time.Time) {
	b := k.b
	var lines []Line
	ids := make([]*board.LineID, len(b.pins))
	for i, p := range b.pins {
		if ids[i] = p.id.Load(); ids[i] != nil {
			lines = append(lines, p.recordLine(*ids[i]))
		}
	}
	if b.o.Record != "" {
		var err error
		k.do(true, func() { err = b.o.write(b.o.Record, lines) })
		if err != nil {
			k.recorded, k.recordAgain = false, now.Add(retryMost)
			b.o.Health.Raise(health.SafeUnrecorded, "outputs", err.Error())
			return
		}
		b.o.Health.Clear(health.SafeUnrecorded, "outputs")
	}
	k.recorded = true
	for i, p := range b.pins {
		p.recorded.Store(ids[i])
	}
}

// keep has a line kept that is to stay as it is.
func (k *keeper) keep() {
	k.toKeep.Store(true)
	k.stir()
}

func (k *keeper) stir() {
	select {
	case k.wake <- struct{}{}:
	default:
	}
}

// store has the lines kept that are to stay as they are, so that a crash does
// not end what drives them, and notes that in the crash record. Handles are
// copies: what a line is set to later holds for them too.
func (k *keeper) store(now time.Time) {
	b := k.b
	k.storeAgain = now.Add(retryMost)
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
		h, err := p.handle()
		p.mu.Unlock()
		b.again() // Run has passed over it, perhaps
		if err != nil {
			b.notKept(err)
		}
		if h.File != nil {
			names, files, kept = append(names, h.Name()), append(files, h.File), append(kept, p)
		}
	}
	if len(files) == 0 {
		return
	}
	var err error
	k.do(false, func() { err = b.o.Store(names, files) })
	for _, f := range files {
		_ = f.Close() // a copy
	}
	if err != nil {
		b.notKept(fmt.Errorf("keep %q: %w", names, err))
		return
	}
	for _, p := range kept {
		p.stored.Store(true)
	}
	k.record(now)
}

func (b *Bank) notKept(err error) {
	b.tells.put(func() { b.o.Log.Warn("a crash may change an output that is to stay as it is", "err", err) })
}

// do makes a call that may hang.
func (k *keeper) do(disk bool, f func()) {
	k.mu.Lock()
	k.call = call{since: time.Now(), disk: disk}
	k.mu.Unlock()
	f()
	k.mu.Lock()
	k.call = call{}
	k.mu.Unlock()
}

// watch tells of a call that hangs, once; when it ends, what came of it is told
// after that. It is Run's, and does not wait.
func (k *keeper) watch(now time.Time) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if c := k.call; c.since.IsZero() || c.told || now.Sub(c.since) < keeperPatience {
		return
	}
	k.call.told = true
	if k.call.disk {
		k.b.o.Health.Raise(health.SafeUnrecorded, "outputs", fmt.Sprintf("a write has been under way for %v", keeperPatience))
		return
	}
	k.b.notKept(fmt.Errorf("systemd has not answered for %v", keeperPatience))
}

// prepared reports whether the line may be requested: what the keeper has to do
// before is done, has failed, or takes too long; each is a fault then. Otherwise
// it sets the time at which to look again. Only Run asks.
func (p *pin) prepared(now time.Time) bool {
	id := p.id.Load()
	still, _ := p.b.o.Held.stored(lineKey(*id))
	switch {
	case p.asked.IsZero() && p.recorded.Load() == id && !still:
		return true
	case p.asked.IsZero():
		p.asked = now
		p.waits.Store(true)
		p.b.keeper.stir()
	case !p.waits.Load(), now.Sub(p.asked) >= keeperPatience:
		p.asked = time.Time{}
		return true
	}
	p.again = p.asked.Add(keeperPatience)
	return false
}
