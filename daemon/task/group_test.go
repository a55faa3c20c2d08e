package task

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// A panic of a goroutine of a group is told at once, with its name and its place. The
// task and its other goroutines go on until they are stopped.
func TestPanicInGroup(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		failed, other := make(chan error, 1), 0
		p := Start("outputs", failed, func(ctx context.Context) error {
			g := NewGroup(context.WithoutCancel(ctx))
			g.Go("timers", func() {
				<-ctx.Done()
				other++
			})
			g.Go("events", func() { panic("a mistake of ours") })
			g.Wait()
			return ctx.Err()
		})
		synctest.Wait()
		err := <-failed
		if !errors.Is(err, ErrPanicked) || !strings.HasPrefix(err.Error(), "outputs: events: panicked") || !strings.Contains(err.Error(), "group_test.go") {
			t.Errorf("told %v", err)
		}
		if p.Ended() || other != 0 {
			t.Error("it was ended by the panic")
		}
		if err := p.Stop(time.Minute); !errors.Is(err, ErrPanicked) || other != 1 {
			t.Errorf("stop gives %v; %d", err, other)
		}
	})
}

// The first failure of a task is reported; Stop tells all panics. A panic in the end of a
// task is told there, too.
func TestManyPanics(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		failed := make(chan error, 1)
		p := Start("link", failed, func(ctx context.Context) error {
			g := NewGroup(ctx)
			for _, name := range []string{"first", "second"} {
				g.Call(name, func() { panic(name + " mistake") })
			}
			<-ctx.Done()
			g.Go("last", func() { panic("last mistake") })
			g.Wait()
			panic("its own mistake")
		})
		synctest.Wait()
		if err := <-failed; !strings.Contains(err.Error(), "first mistake") {
			t.Errorf("told %v", err)
		}
		err := p.Stop(time.Minute)
		for _, mistake := range []string{"first mistake", "second mistake", "last mistake", "its own mistake"} {
			if err == nil || !strings.Contains(err.Error(), mistake) {
				t.Errorf("stop does not tell of the %s: %v", mistake, err)
			}
		}
		if len(failed) > 0 {
			t.Error("told again")
		}
	})
}

// A function that somebody else's goroutine calls says whether it panicked; without a
// task a panic is the caller's.
func TestCall(t *testing.T) {
	failed := make(chan error, 1)
	got := make(chan bool, 2)
	p := Start("link", failed, func(ctx context.Context) error {
		g := NewGroup(ctx)
		go func() {
			got <- g.Call("reader", func() {})
			got <- g.Call("reader", func() { panic("a mistake") })
		}()
		<-ctx.Done()
		return nil
	})
	if !<-got || <-got {
		t.Error("want the first call to end well, and the second not to")
	}
	<-failed
	_ = p.Stop(time.Minute) // tested above
	for _, g := range []*Group{nil, {}, NewGroup(t.Context())} {
		func() {
			defer func() {
				if recover() != "a mistake" {
					t.Error("the panic was caught")
				}
			}()
			g.Call("reader", func() { panic("a mistake") })
		}()
	}
}

// A panic within a time limit is an error that says of what.
func TestPanicWithin(t *testing.T) {
	err := Within(time.Minute, "make outputs safe", func() error { panic("a mistake") })
	if !errors.Is(err, ErrPanicked) || !strings.HasPrefix(err.Error(), "make outputs safe: panicked") {
		t.Errorf("got %v", err)
	}
}
