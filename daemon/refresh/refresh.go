// Package refresh keeps a value that is read from something that may hang, such as files on
// a failing SD card. One goroutine reads, at most one read is under way, and nobody else
// waits for the disk: all others use the result of the last read.
package refresh

import (
	"context"
	"sync"
	"time"

	"fieldpost/daemon/task"
	"fieldpost/daemon/wake"
)

const (
	// Slow is how long a read may take before it counts as stuck.
	Slow = 10 * time.Second
	// stopWait is how long the end of Run waits for a read.
	stopWait = time.Second / 4
)

// Value is a value that is read again on request. Its methods may be called from any
// goroutine, and none waits.
type Value[T any] struct {
	read  func() T
	stuck func(time.Duration)
	wake  wake.Signal // set when next is wanted

	mu    sync.Mutex
	last  T
	known bool          // last has been read
	next  chan struct{} // closed when the next read to begin is done
	began time.Time     // of the read under way; zero when there is none
}

// New returns a Value that read reads, on request, while Run runs. If stuck is not nil, Run
// calls it with the duration when a read has taken Slow, and with 0 when that read has
// returned. stuck must not block.
func New[T any](read func() T, stuck func(time.Duration)) *Value[T] {
	if stuck == nil {
		stuck = func(time.Duration) {}
	}
	return &Value[T]{read: read, stuck: stuck, wake: wake.New()}
}

// Refresh requests a new read. The channel is closed when a read that began after this call
// is done, which may be never.
func (v *Value[T]) Refresh() <-chan struct{} {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.next == nil {
		v.next = make(chan struct{})
		v.wake.Set()
	}
	return v.next
}

// Last returns the result of the last read; false if there is none yet.
func (v *Value[T]) Last() (T, bool) {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.last, v.known
}

// Pending returns for how long the read under way has been; 0 where there is none.
func (v *Value[T]) Pending() time.Duration {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.began.IsZero() {
		return 0
	}
	return time.Since(v.began)
}

// Run reads on request until ctx ends. It returns a quarter of a second after that at the
// latest, whatever the disk does: a read that hangs is left behind, with one goroutine and
// one thread, however many requests there were. A panic of the read is reported by the task
// that calls Run, and nothing is read after it. Call it once.
func (v *Value[T]) Run(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-v.wake.C():
		}
		if !v.refresh(ctx) {
			return nil
		}
	}
}

// refresh reads once, and reports whether the read is done.
func (v *Value[T]) refresh(ctx context.Context) bool {
	v.mu.Lock()
	asked := v.next
	v.next, v.began = nil, time.Now()
	v.mu.Unlock()
	done := make(chan T, 1)
	task.NewGroup(ctx).Go("read", func() { done <- v.read() })
	slow := time.NewTimer(Slow)
	defer slow.Stop()
	late := false
	for over, gone := (<-chan time.Time)(nil), ctx.Done(); ; {
		select {
		case value := <-done:
			v.store(value, asked)
			if late {
				v.stuck(0)
			}
			return true
		case <-slow.C:
			late = true
			v.stuck(Slow)
		case <-gone:
			t := time.NewTimer(stopWait)
			defer t.Stop()
			over, gone = t.C, nil
		case <-over:
			return false
		}
	}
}

// store keeps the result and wakes those who asked.
func (v *Value[T]) store(value T, asked chan struct{}) {
	v.mu.Lock()
	v.last, v.known, v.began = value, true, time.Time{}
	v.mu.Unlock()
	close(asked)
}
