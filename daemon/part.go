package daemon

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"time"
)

// within calls f and waits for it, at most for limit: a call into the kernel
// may never return. One that has not by then is left behind and named.
func within(limit time.Duration, what string, f func() error) error {
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

// part is one running piece of the daemon: its goroutine, the means to end it
// and what it ended with.
type part struct {
	name   string
	cancel context.CancelFunc
	done   chan struct{} // closed when run has returned
	err    error         // valid after done
}

// start runs a part until it is stopped. A part that ends by itself reports
// that on failed (buffered for every part).
func start(name string, failed chan<- error, run func(context.Context) error) *part {
	ctx, cancel := context.WithCancel(context.Background())
	p := &part{name: name, cancel: cancel, done: make(chan struct{})}
	go func() {
		defer close(p.done)
		p.err = caught(ctx, run)
		if ctx.Err() == nil || errors.Is(p.err, errPanic) {
			failed <- fmt.Errorf("%s ended: %w", name, reason(p.err))
		}
	}()
	return p
}

// errPanic is the reason when a part panicked.
var errPanic = errors.New("panicked; please report this as a bug of fieldpost")

// caught makes an error of a panic, so that the others end in order and the
// pins are made safe.
func caught(ctx context.Context, run func(context.Context) error) (err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("%w: %v\n%s", errPanic, r, debug.Stack())
		}
	}()
	return run(ctx)
}

// reason makes an error of a part that ended without one.
func reason(err error) error {
	if err == nil {
		return errors.New("without a reason")
	}
	return err
}

// ended reports whether the part's goroutine has returned.
func (p *part) ended() bool {
	select {
	case <-p.done:
		return true
	default:
		return false
	}
}

// stop ends the part and waits, at most for limit. A part that does not end in
// time is left behind and named.
func (p *part) stop(limit time.Duration) error {
	p.cancel()
	t := time.NewTimer(limit)
	defer t.Stop()
	select {
	case <-p.done:
		if p.err != nil && !errors.Is(p.err, context.Canceled) {
			return fmt.Errorf("end %s: %w", p.name, p.err)
		}
		return nil
	case <-t.C:
		return fmt.Errorf("end %s: still running after %v", p.name, limit)
	}
}
