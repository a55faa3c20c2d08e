// Package task runs the pieces of a program: each a goroutine with one owner, who
// starts it, ends it and waits for it, and never for ever. A piece that needs further
// goroutines starts them in a [Group], so that a panic of any of them is its owner's to
// handle and does not end the process.
package task

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"sync"
	"time"
)

// Within calls f and waits for it, at most for limit: a call into the kernel
// may never return. One that has not by then is left behind and named. A panic of f is
// an error that wraps [ErrPanicked].
func Within(limit time.Duration, what string, f func() error) error {
	done := make(chan error, 1)
	go func() { done <- Guard(f) }()
	t := time.NewTimer(limit)
	defer t.Stop()
	select {
	case err := <-done:
		if errors.Is(err, ErrPanicked) {
			return fmt.Errorf("%s: %w", what, err)
		}
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

	failed   chan<- error
	once     sync.Once // for failed
	mu       sync.Mutex
	panicked error // of the goroutines of its groups
}

// Start runs a task until it is stopped. One that ends by itself, or panics, reports
// that on failed, which must have room for every task. So does one of whose [Group]s a
// goroutine panics; it does not end by that.
func Start(name string, failed chan<- error, run func(context.Context) error) *Task {
	ctx, cancel := context.WithCancel(context.Background())
	t := &Task{name: name, cancel: cancel, done: make(chan struct{}), failed: failed}
	ctx = context.WithValue(ctx, ownerKey{}, t)
	go func() {
		defer close(t.done)
		t.err = Guard(func() error { return run(ctx) })
		if ctx.Err() == nil || errors.Is(t.err, ErrPanicked) {
			t.report(fmt.Errorf("%s ended: %w", name, reason(t.err)))
		}
	}()
	return t
}

// report tells why the task has failed, the first time.
func (t *Task) report(err error) { t.once.Do(func() { t.failed <- err }) }

// ErrPanicked is the reason when something panicked.
var ErrPanicked = errors.New("panicked; please report this as a bug in fieldpost")

// Guard calls f. A panic is an error that wraps [ErrPanicked] and has the stack.
func Guard(f func() error) (err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("%w: %v\n%s", ErrPanicked, r, debug.Stack())
		}
	}()
	return f()
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
// time is left behind and named. The error tells panics of its groups, too.
func (t *Task) Stop(limit time.Duration) error { return StopAll(limit, t) }

// StopAll ends tasks and waits for them, for all together at most for limit. Otherwise it is
// like [Task.Stop].
func StopAll(limit time.Duration, tasks ...*Task) error {
	for _, t := range tasks {
		t.cancel()
	}
	over, stop := context.WithTimeout(context.Background(), limit)
	defer stop()
	var errs []error
	for _, t := range tasks {
		select {
		case <-t.done:
		case <-over.Done():
		}
		errs = append(errs, t.result(limit))
	}
	return errors.Join(errs...)
}

// result says what the task ended with, or that it has not ended after limit.
func (t *Task) result(limit time.Duration) error {
	var err error
	switch {
	case !t.Ended():
		err = fmt.Errorf("end %s: still running after %v", t.name, limit)
	case t.err != nil && !errors.Is(t.err, context.Canceled):
		err = fmt.Errorf("end %s: %w", t.name, t.err)
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	return errors.Join(err, t.panicked)
}
