package board

import (
	"context"
	"fmt"
	"runtime/debug"
	"sync"
	"time"
)

// Worker is the one goroutine that uses a bus, or anything else that may block in the
// kernel. Callers pass it functions and may stop waiting for them. The worker finishes
// what it has begun, because a transaction in the kernel cannot be cancelled.
type Worker struct {
	name string
	jobs chan job

	mu    sync.Mutex
	since time.Time // when the present function began; zero when idle
}

type job struct {
	ctx  context.Context
	fn   func() error
	done chan error // receives the error; nil: nobody waits for it
}

// NewWorker makes a worker. name says in errors what it is for. The worker does nothing
// until [Worker.Run] is called.
func NewWorker(name string) *Worker {
	return &Worker{name: name, jobs: make(chan job)}
}

// Name returns the name that NewWorker was given.
func (w *Worker) Name() string { return w.name }

// Run calls the functions until ctx ends. It waits for the present function, which on a
// stuck bus may never return, so an owner that waits for Run must limit the wait.
func (w *Worker) Run(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case j := <-w.jobs:
			if err := j.ctx.Err(); err != nil {
				j.done <- err
				continue
			}
			w.mark(time.Now())
			err := guard(j.fn)
			w.mark(time.Time{})
			if j.done != nil {
				j.done <- err
			}
		}
	}
}

// Do makes the worker call fn, and waits until fn returns or ctx ends. After ctx has
// ended, fn may still be running, or may never be called. If fn panics, Do returns a
// [*PanicError]. Do may be called from any goroutine except the worker's own.
func (w *Worker) Do(ctx context.Context, fn func() error) error {
	j := job{ctx, fn, make(chan error, 1)}
	select {
	case w.jobs <- j:
	case <-ctx.Done():
		return fmt.Errorf("wait for %s: %w", w.name, ctx.Err())
	}
	select {
	case err := <-j.done:
		return err
	case <-ctx.Done():
		return fmt.Errorf("wait for %s to answer: %w", w.name, ctx.Err())
	}
}

// Try has the worker call fn if it is idle, and does not wait for it. It reports whether the
// worker was idle. Nobody learns of an error or a panic of fn. It may be called from any
// goroutine.
func (w *Worker) Try(fn func() error) bool {
	select {
	case w.jobs <- job{ctx: context.Background(), fn: fn}:
		return true
	default:
		return false
	}
}

// Busy returns how long the present function has been running; 0 if there is none. It may
// be called from any goroutine.
func (w *Worker) Busy() time.Duration {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.since.IsZero() {
		return 0
	}
	return time.Since(w.since)
}

func (w *Worker) mark(t time.Time) {
	w.mu.Lock()
	w.since = t
	w.mu.Unlock()
}

// PanicError is a panic in a function that a [Worker] called.
type PanicError struct {
	Value any    // what was passed to panic
	Stack string // where
}

// Error says what was passed to panic. The stack follows on lines of its own.
func (e *PanicError) Error() string { return fmt.Sprintf("driver panicked: %v\n%s", e.Value, e.Stack) }

// guard calls fn and turns a panic into a [*PanicError].
func guard(fn func() error) (err error) {
	defer func() {
		if r := recover(); r != nil {
			err = &PanicError{Value: r, Stack: string(debug.Stack())}
		}
	}()
	return fn()
}
