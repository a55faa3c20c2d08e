package board

import (
	"context"
	"fmt"
	"runtime/debug"
	"sync"
	"time"
)

// Worker is the one goroutine that uses a bus, or anything else that may
// block in the kernel. Callers hand it functions and may give up waiting; the
// worker finishes what it has begun, because a transaction in the kernel
// cannot be cancelled.
type Worker struct {
	name string
	jobs chan job

	mu    sync.Mutex
	since time.Time // when the present function began; zero when idle
}

type job struct {
	ctx  context.Context
	fn   func() error
	done chan error
}

// NewWorker makes a worker; name says for what, in errors. It does nothing
// until [Worker.Run] is called.
func NewWorker(name string) *Worker {
	return &Worker{name: name, jobs: make(chan job)}
}

// Name is what NewWorker was given.
func (w *Worker) Name() string { return w.name }

// Run does the work until ctx ends. It returns only when the function under
// way has returned, which on a stuck bus may be never: an owner that waits
// for it bounds the wait.
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
			j.done <- err
		}
	}
}

// Do has the worker call fn and waits for it, or until ctx ends; then fn may
// be called, be under way, or never be called. A panic in fn comes back as an
// error. Any goroutine but the worker's own.
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

// Busy tells for how long the present function has been under way; 0 when
// there is none. Any goroutine.
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

// guard calls fn and turns a panic into an error with the place it came from.
func guard(fn func() error) (err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("driver panicked: %v\n%s", r, debug.Stack())
		}
	}()
	return fn()
}
