package board

import (
	"os"
	"runtime"
	"testing"
	"time"

	"go.uber.org/goleak"
	"golang.org/x/sys/unix"
)

// A line that changes rarely is read at once, and one that changes often twenty times a
// second.
func TestPacer(t *testing.T) {
	now := time.Now()
	var p pacer
	for range 1000 {
		if wait := p.read(now); wait > 0 {
			t.Fatalf("a meter's line waits for %v", wait)
		}
		now = now.Add(readEvery)
	}
	reads, start := 0, now
	for now.Sub(start) < 10*time.Second {
		now = now.Add(p.read(now) + time.Microsecond)
		reads++
	}
	if want := int(10*time.Second/readEvery) + readBurst; reads < want-1 || reads > want+1 {
		t.Errorf("%d reads in 10 s, want %d", reads, want)
	}
}

// Close delivers the events that wait in the kernel before it closes Edges, also while
// reads are delayed because the line chatters.
func TestInputCloseDeliversPendingEdges(t *testing.T) {
	defer goleak.VerifyNone(t)
	m, k, _ := benchMachine(t)
	in, err := m.Input(InputConfig{Line: "DOOR"})
	if err != nil {
		t.Fatal(err)
	}
	high, total := false, uint32(0)
	change := func() {
		high, total = !high, total+1
		k.wire("gpiochip0", 0, high, time.Duration(total), 0)
	}
	for range readBurst + 1 { // reads are delayed after the last one
		change()
		<-in.Edges()
	}
	for range 201 {
		change()
	}
	if err := in.Close(); err != nil {
		t.Fatal(err)
	}
	got, last := uint32(readBurst+1), Edge{}
	for e := range in.Edges() {
		got, last = got+1+e.Lost, e
	}
	if got != total || last.Active != high || last.Mono != time.Duration(total) {
		t.Errorf("told %d of %d changes, the last %+v; the line is high: %v", got, total, last, high)
	}
}

// BenchmarkChatteringInputs measures the processor time for reading ten lines at 1 kHz. A
// pipe replaces the kernel; its writer and its ticks are not counted.
func BenchmarkChatteringInputs(b *testing.B) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	for b.Loop() {
		events, stop := chatteringInputs(b, 10)
		idle := used(b, func(uint32) {})
		busy := used(b, func(n uint32) {
			for _, fd := range events {
				if _, err := unix.Write(fd, event(n+1, n%2 == 0, time.Duration(n))); err != nil {
					b.Fatal(err)
				}
			}
		})
		stop()
		b.ReportMetric((busy-idle).Seconds()*1e3, "cpu-ms/s")
	}
}

// used calls each a thousand times a second. It returns the processor time per second of
// all other threads.
func used(b *testing.B, each func(n uint32)) time.Duration {
	const span = 2 // s
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	before, writer := usage(b, unix.RUSAGE_SELF), usage(b, unix.RUSAGE_THREAD)
	for n := range uint32(span * 1000) {
		<-tick.C
		each(n)
	}
	return (usage(b, unix.RUSAGE_SELF) - before - (usage(b, unix.RUSAGE_THREAD) - writer)) / span
}

// chatteringInputs opens that many inputs and reads their edges until stop is called. It
// returns the file descriptors to write their events to.
func chatteringInputs(b *testing.B, inputs int) (events []int, stop func()) {
	b.Helper()
	type reader struct {
		in   *inputLine
		done chan struct{}
	}
	var all []reader
	for range inputs {
		var p [2]int
		if err := unix.Pipe2(p[:], unix.O_CLOEXEC|unix.O_NONBLOCK); err != nil {
			b.Fatal(err)
		}
		in := &inputLine{kernel: charDev{}, file: os.NewFile(uintptr(p[0]), "line"), queue: newEdgeQueue(), ended: make(chan struct{}), quit: make(chan struct{})}
		go in.follow()
		r := reader{in, make(chan struct{})}
		go func() {
			defer close(r.done)
			for range in.Edges() {
			}
		}()
		all, events = append(all, r), append(events, p[1])
	}
	return events, func() {
		for i, r := range all {
			if err := r.in.Close(); err != nil {
				b.Error(err)
			}
			<-r.done
			_ = unix.Close(events[i])
		}
	}
}

func usage(b *testing.B, who int) time.Duration {
	b.Helper()
	var u unix.Rusage
	if err := unix.Getrusage(who, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
