// Package refresh keeps a value that is read from something that may hang, such
// as files on a failing card: one goroutine reads, at most one read is under
// way, and nobody but it waits for the disk. Everybody else has what was read last.
package refresh

import (
	"context"
	"fmt"
	"runtime/debug"
	"sync"
	"time"

	"fieldpost/daemon/wake"
)

const (
	// Slow is how long a read may take before it counts as stuck.
	Slow = 10 * time.Second
	// parting is how long the end of Run waits for a read.
	parting = time.Second / 4
)

// Value is a value that is read again when somebody asks for that. Its methods
// may be called from any goroutine, and none waits.
type Value[T any] struct {
	read  func() T
	stuck func(time.Duration)
	wake  wake.Signal // set when next is wanted

	mu    sync.Mutex
	last  T
	known bool          // last has been read
	next  chan struct{} // closed when a read that has not begun yet is done
	began time.Time     // of the read under way; zero when there is none
}

// New makes a value that read gives, once it is asked for and Run runs. stuck,
// where it is not nil, is told from Run's goroutine when a read has taken Slow,
// for how long then, and 0 when it has come back. It must not block.
func New[T any](read func() T, stuck func(time.Duration)) *Value[T] {
	if stuck == nil {
		stuck = func(time.Duration) {}
	}
	return &Value[T]{read: read, stuck: stuck, wake: wake.New()}
}

// Refresh has the value read anew. What is given is closed when a read that began
// after this call is done, which may be never.
func (v *Value[T]) Refresh() <-chan struct{} {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.next == nil {
		v.next = make(chan struct{})
		v.wake.Set()
	}
	return v.next
}

// Last gives what was read last; false where nothing has been yet.
func (v *Value[T]) Last() (T, bool) {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.last, v.known
}

// Pending gives for how long the read under way has been; 0 where there is none.
func (v *Value[T]) Pending() time.Duration {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.began.IsZero() {
		return 0
	}
	return time.Since(v.began)
}

// Run reads whenever it is asked to, until ctx ends. It ends a quarter of a
// second later at the latest, whatever the disk does: a read that hangs is left
// behind, and with it one goroutine and one thread, however often it was asked
// for. It is called once.
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

// result is what a read came to.
type result[T any] struct {
	value T
	panic string // "" is none
}

// refresh reads once. It reports whether the read is done.
func (v *Value[T]) refresh(ctx context.Context) bool {
	v.mu.Lock()
	asked := v.next
	v.next, v.began = nil, time.Now()
	v.mu.Unlock()
	done := make(chan result[T], 1)
	go func() { done <- v.guarded() }()
	slow := time.NewTimer(Slow)
	defer slow.Stop()
	late := false
	for over, gone := (<-chan time.Time)(nil), ctx.Done(); ; {
		select {
		case r := <-done:
			v.take(r, asked)
			if late {
				v.stuck(0)
			}
			return true
		case <-slow.C:
			late = true
			v.stuck(Slow)
		case <-gone:
			t := time.NewTimer(parting)
			defer t.Stop()
			over, gone = t.C, nil
		case <-over:
			return false
		}
	}
}

// take keeps what was read and tells those who asked.
func (v *Value[T]) take(r result[T], asked chan struct{}) {
	if r.panic != "" {
		panic(r.panic)
	}
	v.mu.Lock()
	v.last, v.known, v.began = r.value, true, time.Time{}
	v.mu.Unlock()
	close(asked)
}

// guarded reads. A panic is passed on to Run, whose caller knows what to do.
func (v *Value[T]) guarded() (r result[T]) {
	defer func() {
		if p := recover(); p != nil {
			r.panic = fmt.Sprintf("%v\n%s", p, debug.Stack())
		}
	}()
	r.value = v.read()
	return r
}
