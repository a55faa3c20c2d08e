package task

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// A task that panics is reported as one that ended, with the place, and the
// program goes on to end in order.
func TestPanickingTask(t *testing.T) {
	failed := make(chan error, 1)
	p := Start("scheduler", failed, func(context.Context) error {
		panic("a mistake of ours")
	})
	err := <-failed
	if !errors.Is(err, ErrPanicked) || !strings.Contains(err.Error(), "scheduler ended") || !strings.Contains(err.Error(), "task_test.go") {
		t.Errorf("reported %v", err)
	}
	if err := p.Stop(time.Minute); !errors.Is(err, ErrPanicked) {
		t.Errorf("stop gives %v", err)
	}
}

// A task that ends by itself, with or without an error, is reported; one that
// is stopped is not; one that does not end is left behind and named.
func TestTaskEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		failed := make(chan error, 3)
		Start("silent", failed, func(context.Context) error { return nil })
		if err := <-failed; err.Error() != "silent ended: without a reason" {
			t.Errorf("got %v", err)
		}
		waits := Start("waits", failed, func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() })
		if err := waits.Stop(time.Second); err != nil || len(failed) > 0 {
			t.Errorf("an orderly end: %v, %d reports", err, len(failed))
		}
		release := make(chan struct{})
		stuck := Start("stuck", failed, func(context.Context) error { <-release; return nil })
		if err := stuck.Stop(3 * time.Second); err == nil || !strings.Contains(err.Error(), "end stuck: still running after 3s") {
			t.Errorf("got %v", err)
		}
		if stuck.Ended() {
			t.Error("it has not ended")
		}
		close(release)
		<-stuck.done
	})
}

// Several tasks share the limit: those that end in time are not named, and those that do
// not cost it once.
func TestStopAll(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		failed, release := make(chan error, 4), make(chan struct{})
		stuck := func(context.Context) error { <-release; return nil }
		all := []*Task{
			Start("one", failed, stuck),
			Start("slow", failed, func(ctx context.Context) error { <-ctx.Done(); <-time.After(time.Second); return ctx.Err() }),
			Start("two", failed, stuck),
			Start("broken", failed, func(ctx context.Context) error { <-ctx.Done(); return errors.New("no disk") }),
		}
		began := time.Now()
		err := StopAll(3*time.Second, all...)
		if want := "end one: still running after 3s\nend two: still running after 3s\nend broken: no disk"; err == nil || err.Error() != want {
			t.Errorf("got %v, want %s", err, want)
		}
		if took := time.Since(began); took != 3*time.Second {
			t.Errorf("took %v", took)
		}
		close(release)
		if err := StopAll(0, all[1]); err != nil {
			t.Errorf("one that has ended, at once: %v", err)
		}
	})
}
