package daemontest

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	"fieldpost/daemon/uplink"
)

// Patience bounds every wait. No test asserts on how long something took, so
// it is far longer than anything takes on a busy machine.
const Patience = 60 * time.Second

// Background runs f in a goroutine until stop is called or the test ends. stop
// cancels f's context, waits for f and returns what it returned; an error other
// than context.Canceled fails the test.
func Background(t testing.TB, f func(context.Context) error) (stop func() error) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- f(ctx) }()
	stop = sync.OnceValue(func() error {
		cancel()
		end := time.NewTimer(Patience)
		defer end.Stop()
		select {
		case err := <-done:
			return err
		case <-end.C:
			return errors.New("did not end")
		}
	})
	t.Cleanup(func() {
		if err := stop(); err != nil && !errors.Is(err, context.Canceled) {
			t.Errorf("background: %v", err)
		}
	})
	return stop
}

// Await receives from ch until ok accepts a value, and returns that value. It
// fails the test with what it waited for after [Patience].
func Await[T any](t testing.TB, what string, ch <-chan T, ok func(T) bool) T {
	t.Helper()
	end := time.NewTimer(Patience)
	defer end.Stop()
	for {
		select {
		case v := <-ch:
			if ok(v) {
				return v
			}
		case <-end.C:
			t.Fatalf("no %s", what)
		}
	}
}

// Receive receives one value, like [Await].
func Receive[T any](t testing.TB, what string, ch <-chan T) T {
	t.Helper()
	return Await(t, what, ch, func(T) bool { return true })
}

// Has accepts a message that has this value under this key.
func Has(key string, want any) func(map[string]any) bool {
	return func(m map[string]any) bool { return m[key] == want }
}

// ConnectionChanges gives an observer for a link or a daemon. It passes on a
// status when the connection or the number of denied topics has changed, so
// that a buffered channel nobody reads any more does not fill.
func ConnectionChanges(to chan<- uplink.Status) func(uplink.Status) {
	var last uplink.Status
	return func(st uplink.Status) {
		if st.Connected != last.Connected || len(st.Denied) != len(last.Denied) {
			to <- st
		}
		last = st
	}
}
