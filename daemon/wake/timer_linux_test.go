package wake

import (
	"sync"
	"syscall"
	"testing"
	"time"
)

func useKernelTimer(t *testing.T) {
	t.Helper()
	stop, err := UseKernelTimer()
	if err != nil {
		t.Fatal(err)
	}
	also, err := UseKernelTimer()
	if err != nil {
		t.Fatal(err)
	}
	also()
	also()
	if inUse.Load() == nil {
		t.Fatal("it is not in use any more")
	}
	t.Cleanup(func() {
		stop()
		if inUse.Load() != nil {
			t.Error("it is still in use")
		}
	})
}

// waiting returns how many timers have not expired, and when the kernel's will.
func waiting() (n int, next time.Time) {
	k := inUse.Load()
	k.mu.Lock()
	defer k.mu.Unlock()
	return len(k.all), k.armed
}

// Timers expire in their order and never early, whatever the order in which they are set.
func TestKernelTimersExpireInOrder(t *testing.T) {
	useKernelTimer(t)
	began := time.Now()
	third, first, second := NewTimer(30*time.Millisecond), NewTimer(time.Millisecond), NewTimer(15*time.Millisecond)
	for i, x := range []struct {
		t *Timer
		d time.Duration
	}{{first, time.Millisecond}, {second, 15 * time.Millisecond}, {third, 30 * time.Millisecond}} {
		at := <-x.t.C
		if at.Sub(began) < x.d {
			t.Errorf("timer %d expired after %v", i+1, at.Sub(began))
		}
	}
	if n, next := waiting(); n != 0 || !next.IsZero() {
		t.Errorf("%d are left, the kernel's expires at %v", n, next)
	}
}

// What is reset expires at its new time only, and what is stopped does not.
func TestKernelTimerResetAndStop(t *testing.T) {
	useKernelTimer(t)
	long, stopped := NewTimer(time.Hour), NewTimer(2*time.Hour)
	if !long.Stop() || long.Stop() {
		t.Error("Stop does not know whether the timer waits")
	}
	if _, next := waiting(); time.Until(next) < time.Hour+30*time.Minute {
		t.Errorf("the kernel's timer expires in %v", time.Until(next))
	}
	over := NewTimer(0)
	for len(over.C) == 0 { // it has expired, and nobody has received it
		<-NewTimer(0).C
	}
	over.Reset(time.Hour)
	select {
	case <-over.C:
		t.Error("C gives an earlier time after Reset")
	default:
	}
	began := time.Now()
	for range 3 {
		over.Reset(time.Millisecond)
		if at := <-over.C; at.Sub(began) < time.Millisecond {
			t.Errorf("it expired after %v", at.Sub(began))
		}
	}
	if !stopped.Stop() {
		t.Error("it does not know that it waits")
	}
	if n, next := waiting(); n != 0 || !next.IsZero() {
		t.Errorf("%d are left, the kernel's expires at %v", n, next)
	}
}

// AfterFunc calls its function each time it expires, and not when it was stopped.
func TestKernelTimerCalls(t *testing.T) {
	useKernelTimer(t)
	called := make(chan struct{})
	never := AfterFunc(time.Hour, func() { t.Error("a stopped timer calls") })
	f := AfterFunc(0, func() { called <- struct{}{} })
	<-called
	f.Reset(time.Millisecond)
	<-called
	if never.C != nil || !never.Stop() || f.Stop() {
		t.Error("they do not know whether they wait")
	}
}

// Many goroutines may use timers at the same time.
func TestKernelTimersAreSafe(t *testing.T) {
	useKernelTimer(t)
	var all sync.WaitGroup
	for n := range 8 {
		all.Go(func() {
			x := NewTimer(time.Hour)
			for i := range 200 {
				x.Reset(time.Duration((n+i)%5) * 100 * time.Microsecond)
				if i%3 == 0 {
					x.Stop()
				} else {
					<-x.C
				}
			}
		})
	}
	all.Wait()
	if n, _ := waiting(); n != 0 {
		t.Errorf("%d are left", n)
	}
}

// Without the kernel's timer they are Go's.
func TestTimersOfGo(t *testing.T) {
	x, called := NewTimer(0), make(chan struct{})
	<-x.C
	x.Reset(time.Hour)
	if !x.Stop() || x.Stop() {
		t.Error("Stop does not know whether the timer waits")
	}
	if f := AfterFunc(0, func() { close(called) }); f.C != nil {
		t.Error("AfterFunc has a channel")
	}
	<-called
}

// The timerfd is read once each time it expires, and not once more to find that it has not: all
// is one read of the connection, which a new one would begin with such a call.
func TestKernelTimerIsReadOnce(t *testing.T) {
	k, err := newKernelTimers()
	if err != nil {
		t.Fatal(err)
	}
	reads := &countedReads{RawConn: k.raw}
	k.raw = reads
	go k.run()
	for range 20 {
		x := &Timer{fired: make(chan time.Time, 1)}
		k.reset(x, time.Millisecond)
		<-x.fired
	}
	k.file.Close()
	<-k.ended
	if reads.n != 1 {
		t.Errorf("20 timers took %d reads, want one", reads.n)
	}
}

// countedReads counts the reads of a connection.
type countedReads struct {
	syscall.RawConn
	n int
}

func (c *countedReads) Read(f func(fd uintptr) (done bool)) error {
	c.n++
	return c.RawConn.Read(f)
}
