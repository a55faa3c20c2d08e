package health

import (
	"sync"
	"time"

	"fieldpost/daemon/task"
)

// Heartbeats says whether the daemon's loops go round. Each loop that never blocks by
// design registers a [Heartbeat] and beats it at least every few seconds. The watchdog
// of systemd is fed only when all of them have beaten since it was last fed. The zero
// value is ready.
type Heartbeats struct {
	mu   sync.Mutex
	all  []*Heartbeat
	grid time.Time // the start of the steps at whose ends loops wake up; see Pace
}

// Heartbeat is one loop's. Its methods may be called from any goroutine, and on a nil
// Heartbeat, where they do nothing.
type Heartbeat struct {
	name  string
	of    *Heartbeats
	beat  bool // since Check last succeeded
	ended bool
	last  time.Time // when it last beat
}

// Register adds a loop, which counts as having beaten now. Any goroutine.
func (h *Heartbeats) Register(loop string) *Heartbeat {
	h.mu.Lock()
	defer h.mu.Unlock()
	b := &Heartbeat{name: loop, of: h, beat: true, last: time.Now()}
	h.all = append(h.all, b)
	return b
}

// Beat says that the loop goes round.
func (b *Heartbeat) Beat() {
	if b != nil {
		task.Rehearse(b.name)
	}
	b.set(false)
}

// IdleEvery is how often a loop wakes up that waits for nothing else.
const IdleEvery = 2 * time.Second

// Pace has loops that wait for nothing else wake up at whole multiples of [IdleEvery] after
// now, when this loop does, so that the process wakes up once for all of them.
func (b *Heartbeat) Pace(now time.Time) {
	if b == nil {
		return
	}
	b.of.mu.Lock()
	b.of.grid = now
	b.of.mu.Unlock()
}

// Wait is [Heartbeats.Wait], and most for a nil Heartbeat.
func (b *Heartbeat) Wait(now time.Time, most time.Duration) time.Duration {
	if b == nil {
		return most
	}
	return b.of.Wait(now, most)
}

// Wait returns how long a loop may wait that has nothing to do for most: until the last moment
// before most is over at which all such loops wake up, which is each multiple of [IdleEvery]
// after [Heartbeat.Pace]; each whole second, if most is less than IdleEvery. It is most if most
// is less than a second, or no loop sets the pace. Otherwise it is more than 0. Any goroutine.
func (h *Heartbeats) Wait(now time.Time, most time.Duration) time.Duration {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.grid.IsZero() || now.Before(h.grid) || most < time.Second {
		return most
	}
	step := time.Second
	if most >= IdleEvery {
		step = IdleEvery
	}
	return most - now.Add(most).Sub(h.grid)%step
}

// End says that the loop has ended in good order. Nobody waits for it any more.
func (b *Heartbeat) End() { b.set(true) }

func (b *Heartbeat) set(ended bool) {
	if b == nil {
		return
	}
	b.of.mu.Lock()
	b.beat, b.ended, b.last = true, ended, time.Now()
	b.of.mu.Unlock()
}

// Check reports whether every loop has beaten since Check last succeeded. Where one
// has not, stuck names it. Any goroutine.
func (h *Heartbeats) Check() (stuck string, ok bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, b := range h.all {
		if !b.beat {
			return b.name, false
		}
	}
	for _, b := range h.all {
		b.beat = b.ended
	}
	return "", true
}

// Slowest names the loop whose last beat is the longest ago, and how long ago that is.
// Loops that have ended do not count. Without any it returns "" and 0. Any goroutine.
func (h *Heartbeats) Slowest() (loop string, age time.Duration) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, b := range h.all {
		if d := time.Since(b.last); !b.ended && (loop == "" || d > age) {
			loop, age = b.name, d
		}
	}
	return loop, age
}
