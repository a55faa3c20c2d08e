package board

import (
	"os"
	"runtime"
	"testing"
	"time"

	"go.uber.org/goleak"
	"golang.org/x/sys/unix"
)

// A line that changes seldom is read at once; one that changes often, twenty
// times a second.
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

// What waits in the kernel when a line is closed is told before Edges closes,
// also while the line rests because it chatters.
func TestInputCloseTellsWhatWaits(t *testing.T) {
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
	for range readBurst + 1 { // the last read has the line rest
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

// BenchmarkChatteringInputs is what ten lines at 1 kHz cost of the processor
// until they are read: here a pipe is the kernel, and neither its writer nor the
// ticks that pace it are counted.
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

// used calls each a thousand times a second, and gives what a second of that
// takes of the processor on all threads but this.
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

// chatteringInputs returns the ends for writing of the events of that many inputs,
// which somebody reads until stop.
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
