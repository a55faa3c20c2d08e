package sensors_test

import (
	"runtime"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"fieldpost/sensors"
)

// mostAllocations is how many allocations one read of a chip may need on the simulated bus, its
// side included. Most need a third of it, for answers and for the fields of the reading; under the
// race detector it is some more.
const mostAllocations = 150

// One read of each chip needs few allocations. With -v the table is printed.
func TestReadAllocations(t *testing.T) {
	for _, c := range sensors.Catalog() {
		t.Run(c.Name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b, _, cfg := place(t, c)
				s := mustOpen(t, c, b, cfg)
				defer s.Close()
				mustSense(t, c, s)
				if n := testing.AllocsPerRun(10, func() { mustSense(t, c, s) }); n > mostAllocations {
					t.Errorf("%v allocations, want %v at most", n, mostAllocations)
				} else {
					t.Logf("%v allocations", n)
				}
			})
		})
	}
}

// BenchmarkRead is the CPU time and the memory of one read of each chip on the simulated bus. The
// time that a conversion takes is simulated, and is "wait-ms": so long the driver waits for its
// chip, in which the bus is free.
func BenchmarkRead(b *testing.B) {
	for _, c := range sensors.Catalog() {
		b.Run(c.Name, func(b *testing.B) {
			b.ReportAllocs()
			everything := func(string, string) (bool, error) { return true, nil }
			// A bubble needs a test.
			ok := testing.RunTests(everything, []testing.InternalTest{{Name: c.Name, F: func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) { benchmarkRead(b, t, c) })
			}}})
			if !ok {
				b.Fatal("the chip cannot be read")
			}
		})
	}
}

func benchmarkRead(b *testing.B, t *testing.T, c sensors.Chip) {
	board, _, cfg := place(t, c)
	s := mustOpen(t, c, board, cfg)
	defer s.Close()
	mustSense(t, c, s)
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	began, cpu := time.Now(), cpuTime(t)
	for range b.N {
		mustSense(t, c, s)
	}
	cpu = cpuTime(t) - cpu
	runtime.ReadMemStats(&after)
	n := float64(b.N)
	b.ReportMetric(float64(cpu)/n, "ns/op")
	b.ReportMetric(float64(after.Mallocs-before.Mallocs)/n, "allocs/op")
	b.ReportMetric(mostAllocations, "aim-allocs/op")
	b.ReportMetric(float64(after.TotalAlloc-before.TotalAlloc)/n, "B/op")
	b.ReportMetric(float64(time.Since(began).Milliseconds())/n, "wait-ms")
}

// cpuTime is the CPU time of the process: in a bubble the clock is not real.
func cpuTime(t *testing.T) time.Duration {
	t.Helper()
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		t.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
