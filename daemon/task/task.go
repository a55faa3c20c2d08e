// Package task runs the pieces of a program: each a goroutine with one owner, who
// starts it, ends it and waits for it, and never for ever.
package task

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"time"
)

// Within calls f and waits for it, at most for limit: a call into the kernel
// may never return. One that has not by then is left behind and named.
func Within(limit time.Duration, what string, f func() error) error {
	done := make(chan error, 1)
	go func() { done <- f() }()
	t := time.NewTimer(limit)
	defer t.Stop()
	select {
	case err := <-done:
		return err
	case <-t.C:
		return fmt.Errorf("%s: not done after %v", what, limit)
	}
}

// Task is one running piece of a program: its goroutine, the means to end it and
// what it ended with. Its methods may be called from any goroutine.
type Task struct {
	name   string
	cancel context.CancelFunc
	done   chan struct{} // closed when run has returned
	err    error         // valid after done
}

// Start runs a task until it is stopped. One that ends by itself, or panics, reports
// that on failed, which must have room for every task.
func Start(name string, failed chan<- error, run func(context.Context) error) *Task {
	ctx, cancel := context.WithCancel(context.Background())
	t := &Task{name: name, cancel: cancel, done: make(chan struct{})}
	go func() {
		defer close(t.done)
		t.err = caught(ctx, run)
		if ctx.Err() == nil || errors.Is(t.err, errPanic) {
			failed <- fmt.Errorf("%s ended: %w", name, reason(t.err))
		}
	}()
	return t
}

// errPanic is the reason when a task panicked.
var errPanic = errors.New("panicked; please report this as a bug of fieldpost")

// caught makes an error of a panic, so that the other tasks end in order and the
// pins are made safe.
func caught(ctx context.Context, run func(context.Context) error) (err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("%w: %v\n%s", errPanic, r, debug.Stack())
		}
	}()
	return run(ctx)
}

// reason makes an error of a task that ended without one.
func reason(err error) error {
	if err == nil {
		return errors.New("without a reason")
	}
	return err
}

// Cancel asks the task to end; it does not wait.
func (t *Task) Cancel() { t.cancel() }

// Ended reports whether the task's goroutine has returned.
func (t *Task) Ended() bool {
	select {
	case <-t.done:
		return true
	default:
		return false
	}
}

// Stop ends the task and waits, at most for limit. A task that does not end in
// time is left behind and named.
func (t *Task) Stop(limit time.Duration) error {
	t.cancel()
	over := time.NewTimer(limit)
	defer over.Stop()
	select {
	case <-t.done:
		if t.err != nil && !errors.Is(t.err, context.Canceled) {
			return fmt.Errorf("end %s: %w", t.name, t.err)
		}
		return nil
	case <-over.C:
		return fmt.Errorf("end %s: still running after %v", t.name, limit)
	}
}
