package refresh_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"fieldpost/daemon/refresh"
	"fieldpost/daemon/task"
)

// disk answers when it is let, with how many reads there have been.
type disk struct {
	reads int // of the one goroutine that reads
	let   chan struct{}
}

func (d *disk) read() int {
	d.reads++
	<-d.let
	return d.reads
}

func closed(c <-chan struct{}) bool {
	synctest.Wait()
	select {
	case <-c:
		return true
	default:
		return false
	}
}

// A read that is asked for while one is under way is another one, and one only.
func TestAsk(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := &disk{let: make(chan struct{})}
		v := refresh.New(d.read, nil)
		if n, ok := v.Last(); n != 0 || ok {
			t.Errorf("before the first: %d, %v", n, ok)
		}
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error)
		first := v.Refresh() // before Run
		go func() { ended <- v.Run(ctx) }()
		synctest.Wait()
		second, third := v.Refresh(), v.Refresh()
		if closed(first) || closed(second) || second != third {
			t.Error("nothing has been read yet")
		}
		d.let <- struct{}{}
		synctest.Wait()
		if n, ok := v.Last(); !closed(first) || closed(second) || n != 1 || !ok {
			t.Errorf("after the first: %d, %v", n, ok)
		}
		d.let <- struct{}{}
		synctest.Wait()
		if n, _ := v.Last(); !closed(second) || n != 2 || v.Pending() != 0 {
			t.Errorf("after the second: %d", n)
		}
		synctest.Wait()
		if d.reads != 2 {
			t.Errorf("%d reads", d.reads)
		}
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
}

// While a read hangs everybody has what was read before, it is told once, and
// when it is over; the end of Run does not wait for it.
func TestHang(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := &disk{let: make(chan struct{}, 1)}
		var told []time.Duration
		v := refresh.New(d.read, func(d time.Duration) { told = append(told, d) })
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error)
		go func() { ended <- v.Run(ctx) }()
		d.let <- struct{}{}
		<-v.Refresh()
		asked := v.Refresh()
		for range 60 {
			v.Refresh()
			<-time.After(time.Second)
		}
		synctest.Wait()
		if n, ok := v.Last(); n != 1 || !ok || d.reads != 2 || closed(asked) || v.Pending() != time.Minute || !slices.Equal(told, []time.Duration{refresh.Slow}) {
			t.Errorf("last %d, %d reads, waits %v, told %v", n, d.reads, v.Pending(), told)
		}
		d.let <- struct{}{}
		<-asked
		d.let <- struct{}{} // those who asked meanwhile
		synctest.Wait()
		if n, _ := v.Last(); n != 3 || d.reads != 3 || !slices.Equal(told, []time.Duration{refresh.Slow, 0}) {
			t.Errorf("last %d, %d reads, told %v", n, d.reads, told)
		}
		v.Refresh()
		synctest.Wait()
		cancel()
		began := time.Now()
		if err := <-ended; err != nil || time.Since(began) > time.Second/4 {
			t.Errorf("ended with %v after %v", err, time.Since(began))
		}
		d.let <- struct{}{} // for the read that was left behind
	})
}

// A read that ends soon after the end is not left behind.
func TestEndDuringRead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v := refresh.New(func() int { <-time.After(time.Second / 5); return 1 }, nil)
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error)
		go func() { ended <- v.Run(ctx) }()
		asked := v.Refresh()
		synctest.Wait()
		cancel()
		<-asked
		if err := <-ended; err != nil {
			t.Error(err)
		}
		if n, ok := v.Last(); n != 1 || !ok {
			t.Errorf("%d, %v", n, ok)
		}
	})
}

// A panic of the read is told to the owner of the task that runs it, who can end it.
func TestPanic(t *testing.T) {
	v := refresh.New(func() int { panic("of the reader") }, nil)
	v.Refresh()
	failed := make(chan error, 1)
	running := task.Start("value", failed, v.Run)
	if err := <-failed; !errors.Is(err, task.ErrPanicked) || !strings.Contains(err.Error(), ": of the reader\n") {
		t.Errorf("got %v", err)
	}
	if err := running.Stop(time.Minute); !errors.Is(err, task.ErrPanicked) || !running.Ended() {
		t.Errorf("ended with %v", err)
	}
}
