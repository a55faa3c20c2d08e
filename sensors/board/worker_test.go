package board

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// startWorker runs a worker during a test. It returns a function that ends it and waits.
func startWorker(t *testing.T) (*Worker, func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	w := NewWorker("i2c-1")
	ended := make(chan error, 1)
	go func() { ended <- w.Run(ctx) }()
	return w, func() {
		cancel()
		if err := <-ended; !errors.Is(err, context.Canceled) {
			t.Errorf("Run ended with %v, want %v", err, context.Canceled)
		}
	}
}

func TestWorkerReturnsResult(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, stop := startWorker(t)
		defer stop()
		if w.Name() != "i2c-1" {
			t.Errorf("Name() = %q", w.Name())
		}
		want := errors.New("no")
		if err := w.Do(t.Context(), func() error { return want }); err != want {
			t.Errorf("Do = %v, want %v", err, want)
		}
		if err := w.Do(t.Context(), func() error { return nil }); err != nil {
			t.Errorf("Do = %v, want nil", err)
		}
	})
}

// If a caller gives up, its function keeps running and the next caller waits for it.
func TestWorkerAbandoned(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, stop := startWorker(t)
		defer stop()
		release := make(chan struct{})
		finished := false
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		err := w.Do(ctx, func() error {
			<-release
			finished = true
			return nil
		})
		if !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "i2c-1") {
			t.Fatalf("Do = %v, want the deadline and the bus's name", err)
		}
		if got := w.Busy(); got != time.Second {
			t.Errorf("Busy() = %v while the function hangs, want 1s", got)
		}

		short, cancelShort := context.WithTimeout(t.Context(), time.Second)
		defer cancelShort()
		ran := false
		if err := w.Do(short, func() error { ran = true; return nil }); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("Do behind a hanging function = %v, want the deadline", err)
		}
		close(release)
		if err := w.Do(t.Context(), func() error { return nil }); err != nil {
			t.Errorf("Do after the hang = %v", err)
		}
		if ran || !finished {
			t.Errorf("ran the abandoned function %v, finished the first %v; want false, true", ran, finished)
		}
		if got := w.Busy(); got != 0 {
			t.Errorf("Busy() = %v when idle", got)
		}
	})
}

func TestWorkerPanic(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, stop := startWorker(t)
		defer stop()
		err := w.Do(t.Context(), func() error { panic("index out of range") })
		if err == nil || !strings.Contains(err.Error(), "index out of range") || !strings.Contains(err.Error(), "worker_test.go") {
			t.Errorf("Do = %v, want the panic and its place", err)
		}
		if err := w.Do(t.Context(), func() error { return nil }); err != nil {
			t.Errorf("Do after a panic = %v", err)
		}
	})
}

// Functions from many goroutines never overlap.
func TestWorkerSerialises(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, stop := startWorker(t)
		defer stop()
		inside, calls := 0, 0
		var all sync.WaitGroup
		for range 50 {
			all.Go(func() {
				err := w.Do(t.Context(), func() error {
					inside++
					if inside != 1 {
						t.Errorf("%d functions at once", inside)
					}
					<-time.After(time.Millisecond)
					calls++
					inside--
					return nil
				})
				if err != nil {
					t.Errorf("Do = %v", err)
				}
			})
		}
		all.Wait()
		if calls != 50 {
			t.Errorf("%d calls, want 50", calls)
		}
	})
}

// If the context has ended before the start, the function is not called.
func TestWorkerContextBeforeStart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		idle := NewWorker("i2c-1") // not running
		err := idle.Do(ctx, func() error { t.Error("ran"); return nil })
		if !errors.Is(err, context.Canceled) || !strings.Contains(err.Error(), "wait for i2c-1") {
			t.Errorf("Do = %v, want cancelled and the name", err)
		}

		// Both cases of Do's select may be ready; whichever is taken, the
		// function must not run.
		w, stop := startWorker(t)
		defer stop()
		for range 100 {
			synctest.Wait()
			if err := w.Do(ctx, func() error { t.Error("ran"); return nil }); !errors.Is(err, context.Canceled) {
				t.Errorf("Do = %v, want cancelled", err)
			}
		}
	})
}

// Run waits for the present function before it returns.
func TestWorkerEndWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		w := NewWorker("i2c-1")
		ended := make(chan struct{})
		go func() { _ = w.Run(ctx); close(ended) }()
		release := make(chan struct{})
		answer := make(chan error, 1)
		go func() { answer <- w.Do(t.Context(), func() error { <-release; return nil }) }()
		synctest.Wait()
		cancel()
		synctest.Wait()
		select {
		case <-ended:
			t.Error("Run returned while its function was under way")
		default:
		}
		close(release)
		<-ended
		if err := <-answer; err != nil {
			t.Errorf("Do = %v, want the function's answer", err)
		}
	})
}
