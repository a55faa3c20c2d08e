package footprint

import (
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"fieldpost/daemon/daemontest"
	"fieldpost/daemon/message"
	"fieldpost/daemon/records"
	"fieldpost/daemon/spool"
	"fieldpost/sensors"
	"fieldpost/sensors/board"

	"golang.org/x/sys/unix"
)

const (
	warm   = 20 * time.Second // how long a daemon has run when its memory is looked at
	settle = 3 * time.Second  // how long after its start the start's own work is over

	released = 12 * time.Second  // how long after its start it has given back what only the start used
	lasting  = 150 * time.Second // after that the garbage collector has run, which touches most of what is used again
)

// What the daemon costs while nothing is read: the program that is installed,
// connected, without sensors and outputs, in the environment of its unit. An op is some
// minutes, because memory is given back after the start and part of it is used again.
func BenchmarkIdle(b *testing.B) {
	p := startIdle(b)
	for b.Loop() {
		start, cpu, woken := time.Now(), p.cpu(), p.switches()
		<-time.After(lasting)
		d := time.Since(start).Seconds()
		aimed(b, (p.cpu()-cpu).Seconds()*1e3/d, "cpu-ms/s", 0.1)
		aimed(b, float64(p.switches()-woken)/d, "thread-wakes/s", 2)
	}
	reportMemory(b, p)
	b.ReportMetric(0, "ns/op")
}

// While nothing is read the process wakes up every two seconds, which is one thread switch, and
// three every ten seconds. With Go's timers each wake-up was three: of the thread that runs them,
// and two of Go's monitor thread. With the MQTT client's pings they were 2.1 a second.
func TestIdleWakesUpSeldom(t *testing.T) {
	const parts, part, most = 8, 4 * time.Second, 1 // a second
	p := startIdle(t)
	var perSecond []float64
	for range parts {
		start, woken := time.Now(), p.switches()
		<-time.After(part)
		perSecond = append(perSecond, float64(p.switches()-woken)/time.Since(start).Seconds())
	}
	t.Logf("%.2f thread switches a second", perSecond)
	slices.Sort(perSecond)
	if few := perSecond[1]; few > most { // a busy machine adds some to the others
		t.Errorf("%.2f thread switches a second, want at most %v", few, most)
	}
}

// startIdle starts the installed program in the environment of its unit, without sensors and
// outputs, and waits until it is connected and its start is over.
func startIdle(b testing.TB) process {
	b.Helper()
	s := daemontest.NewSite(b, nil)
	program := buildProgram(b)
	heard := s.Listen("test-ear")
	path := filepath.Join(s.Dir, "fieldpost.yaml")
	config := "thing: thing-greenhouse\nbroker: {endpoint: " + s.Addr + "}\nreadings: {topic: test/topic}\nspool: {dir: spool}\n"
	if err := os.WriteFile(path, []byte(config), 0o600); err != nil {
		b.Fatal(err)
	}
	c := exec.Command(program, "run", "-c", path, "--log-level", "warn")
	c.Env = append(append(os.Environ(), daemontest.UnitEnvironment(b)...), "RUNTIME_DIRECTORY="+s.Dir)
	p := launch(b, c, daemontest.UnitTimerSlack(b))
	daemontest.Await(b, "online", heard, daemontest.Has("state", "online"))
	<-time.After(released)
	return p
}

// buildProgram builds the program as it is installed and returns its path.
func buildProgram(b testing.TB) string {
	b.Helper()
	path := filepath.Join(b.TempDir(), "fieldpost")
	build := exec.Command("go", "build", "-trimpath", "-ldflags", "-s -w", "-o", path, "fieldpost/cmd/fieldpost")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		b.Fatalf("build: %v: %s", err, out)
	}
	return path
}

// reportMemory reports what a daemon has in memory now. What is not anonymous is pages of the
// program's file; of pages that other processes use too, PSS counts its share.
func reportMemory(b *testing.B, p process) {
	aimed(b, p.megabytes("VmRSS"), "RSS-MB", 12)
	aimed(b, p.megabytes("RssAnon"), "RSS-anon-MB", 3)
	aimed(b, float64(p.number("smaps_rollup", "Pss"))*1024/1e6, "PSS-MB", 10)
}

// What a reading costs end to end, with ten sensors and the link up. The broker
// has a process of its own. The daemon's is this test binary, which holds the
// test framework and the simulated board besides; BenchmarkBoard tells what of
// it is the board's, BenchmarkIdle what is no reading's. An op is one reading,
// and at least warm's worth of them are awaited.
//
// Once a second is what people do; what a reading costs then is mostly the
// machine waking up. Ten times a second shows the memory after days, when
// garbage has been collected.
func BenchmarkFootprint(b *testing.B) {
	for _, at := range []struct {
		name  string
		every time.Duration
	}{{"once a second", time.Second}, {"ten times a second", 100 * time.Millisecond}} {
		b.Run(at.name, func(b *testing.B) { footprint(b, at.every) })
	}
}

func footprint(b *testing.B, every time.Duration) {
	s := daemontest.NewSite(b, nil)
	heard := s.Listen("test-ear")
	start := time.Now()
	p := startChild(b, s, childPlan{every: every})
	daemontest.Await(b, "message", heard, func(map[string]any) bool { return true })
	message := time.Since(start)
	daemontest.Await(b, "reading", heard, isReading)
	reading := time.Since(start)
	for range 50 { // the start's own work and files are not a reading's
		daemontest.Await(b, "reading", heard, isReading)
	}
	cpu, written, readings := p.cpu(), p.number("io", "write_bytes"), 0
	for b.Loop() {
		daemontest.Await(b, "reading", heard, isReading)
		readings++
	}
	for time.Since(start) < warm {
		daemontest.Await(b, "reading", heard, isReading)
		readings++
	}
	aimed(b, (p.cpu()-cpu).Seconds()*1e3/float64(readings), "cpu-ms/reading", 0.03)
	b.ReportMetric(float64(p.number("io", "write_bytes")-written)/float64(readings), "disk-B/reading")
	b.ReportMetric(message.Seconds()*1e3, "first-PUBACK-ms")
	b.ReportMetric(reading.Seconds()*1e3, "first-reading-ms")
	reportMemory(b, p)
	b.ReportMetric(0, "ns/op")
}

// What fifty sensors on ten buses cost that are read once a second: processor time a reading, and
// wake-ups of threads a second. An op is one reading, and at least warm's worth of them are awaited.
func BenchmarkFiftySensors(b *testing.B) {
	s := daemontest.NewSite(b, nil)
	heard := s.Listen("test-ear")
	p := startChild(b, s, childPlan{every: time.Second, sets: 5})
	for range 250 { // the start's own work and files are not a reading's
		daemontest.Await(b, "reading", heard, isReading)
	}
	start, cpu, woken, readings := time.Now(), p.cpu(), p.switches(), 0
	read := func() {
		daemontest.Await(b, "reading", heard, isReading)
		readings++
	}
	for b.Loop() {
		read()
	}
	for time.Since(start) < warm {
		read()
	}
	d := time.Since(start).Seconds()
	aimed(b, (p.cpu()-cpu).Seconds()*1e3/float64(readings), "cpu-ms/reading", 0.03)
	aimed(b, float64(p.switches()-woken)/d, "thread-wakes/s", 50)
	reportMemory(b, p)
	b.ReportMetric(0, "ns/op")
}

// What an hour of ten sensors costs that are read every 10 s: all its 3600 readings, but ten
// every 100 ms, so that it takes 36 s. What the other 3564 s cost in which nothing is read,
// BenchmarkIdle has. An op is the hour.
func BenchmarkHour(b *testing.B) {
	const first, last = 100, 100 + 3600
	for b.Loop() {
		s := daemontest.NewSite(b, nil)
		p := startChild(b, s, childPlan{every: 100 * time.Millisecond, marks: []int{first, last}})
		p.mark()
		cpu, written := p.cpu(), p.number("io", "write_bytes")
		p.mark()
		b.ReportMetric((p.cpu() - cpu).Seconds(), "cpu-s/hour")
		b.ReportMetric(float64(p.number("io", "write_bytes")-written)/1e3, "disk-KB/hour")
		reportMemory(b, p)
	}
	b.ReportMetric(0, "ns/op")
}

// An edge storm: what ten inputs cost that chatter at 1 kHz, beside ten sensors that are read once
// a second: all ten thousand changes a second are counted, and ten messages a
// second tell of them. What the lines of the simulated board cost by themselves is
// taken off; what real ones cost until they are read,
// fieldpost/sensors/board.BenchmarkChatteringInputs tells. An op is half a minute.
func BenchmarkChatter(b *testing.B) {
	for b.Loop() {
		lines, _ := chattering(b, false)
		cpu, messages := chattering(b, true)
		aimed(b, (cpu-lines)*1e3, "cpu-ms/s", 50)
		aimed(b, messages, "messages/s", 20)
	}
	b.ReportMetric(0, "ns/op")
}

// chattering gives how much of the processor a daemon beside lines that chatter
// takes, and how many readings and edges it sends, both a second.
func chattering(b *testing.B, inputs bool) (cpu, messages float64) {
	b.Helper()
	s := daemontest.NewSite(b, nil)
	heard := s.Listen("test-ear")
	p := startChild(b, s, childPlan{every: time.Second, inputs: inputs, chatter: true})
	daemontest.Await(b, "reading", heard, isReading)
	for start := time.Now(); time.Since(start) < settle; { // until each is told once a second
		daemontest.Await(b, "reading", heard, isReading)
	}
	start, before, n := time.Now(), p.cpu(), 0.0
	for time.Since(start) < warm/2 {
		daemontest.Await(b, "reading", heard, isReading)
		n++
	}
	d := time.Since(start).Seconds()
	return (p.cpu() - before).Seconds() / d, n / d
}

// What of a reading's cost is the simulated board's, which stands for the
// kernel's part of real ones: the same ten sensors, read without a daemon; also
// on buses of 100 kHz, where a thread sleeps for each transaction.
func BenchmarkBoard(b *testing.B) {
	b.Run("in memory", func(b *testing.B) { benchmarkBoard(b, simulated(1)) })
	b.Run("100 kHz", func(b *testing.B) { benchmarkBoard(b, slowBoard{simulated(1), byteTime100kHz}) })
}

func benchmarkBoard(b *testing.B, board board.Board) {
	readings := 0
	var open []sensors.Sensor
	for _, c := range sensorConfigs(1) {
		chip, _ := sensors.Lookup(c.Chip)
		s, err := chip.Open(board, c)
		if err != nil {
			b.Fatal(err)
		}
		open = append(open, s)
	}
	cpu := ownCPU(b)
	for b.Loop() {
		for _, s := range open {
			if _, err := s.Sense(); err != nil {
				b.Fatal(err)
			}
			readings++
		}
	}
	b.ReportMetric((ownCPU(b)-cpu).Seconds()*1e3/float64(readings), "cpu-ms/reading")
	b.ReportMetric(0, "ns/op")
}

func ownCPU(b *testing.B) time.Duration {
	b.Helper()
	var r unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &r); err != nil {
		b.Fatal(err)
	}
	return time.Duration(r.Utime.Nano() + r.Stime.Nano())
}

// What is written while the broker cannot be reached: 100 readings a second for
// warm. An op is the whole time.
func BenchmarkOutage(b *testing.B) {
	const first, last = 100, 100 + 100*int(warm/time.Second)
	l, err := net.Listen("tcp", "127.0.0.1:0") // nobody answers there
	if err != nil {
		b.Fatal(err)
	}
	nobody := l.Addr().String()
	if err := l.Close(); err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		s := daemontest.NewSite(b, nil)
		p := startChild(b, s, childPlan{endpoint: nobody, every: 100 * time.Millisecond, marks: []int{first, last}, counts: "readings"})
		p.mark()
		cpu, written := p.cpu(), p.number("io", "write_bytes")
		p.mark()
		b.ReportMetric(float64(p.number("io", "write_bytes")-written)/float64(last-first), "disk-B/reading")
		b.ReportMetric((p.cpu()-cpu).Seconds()*1e3/float64(last-first), "cpu-ms/reading")
	}
	b.ReportMetric(0, "ns/op")
}

// What it costs to deliver what was kept while the broker was away. An op is
// the whole backlog.
func BenchmarkBacklog(b *testing.B) {
	b.Run("200000 readings, one a message", func(b *testing.B) { backlog(b, 200_000, 0) })
	b.Run("1000000 readings, 64 a message", func(b *testing.B) { backlog(b, 1_000_000, 64) })
}

func backlog(b *testing.B, n, batch int) {
	const early = 100 // connecting is not a reading's work
	for b.Loop() {
		s := daemontest.NewSite(b, nil)
		keepReadings(b, s, n+early*max(batch, 1))
		messages := n / max(batch, 1)
		p := startChild(b, s, childPlan{every: 24 * time.Hour, batch: batch, marks: []int{early, early + messages}})
		p.mark()
		cpu, before, start := p.cpu(), p.megabytes("VmRSS"), time.Now()
		p.mark()
		d := time.Since(start).Seconds()
		aimed(b, (p.cpu()-cpu).Seconds()*1e3/float64(n), "cpu-ms/reading", 0.03)
		aimed(b, float64(n)/d, "readings/s", 20_000)
		b.ReportMetric(before, "RSS-before-MB")
		b.ReportMetric(p.megabytes("VmHWM"), "RSS-peak-MB")
		<-time.After(settle)
		b.ReportMetric(p.megabytes("VmRSS"), "RSS-after-MB")
	}
	b.ReportMetric(0, "ns/op")
}

// keepReadings leaves so many readings in the spool of a site. They are kept in
// parts, each by a run of its own, so that they need not all be in memory.
func keepReadings(b *testing.B, s *daemontest.Site, n int) {
	b.Helper()
	now := s.Clock()
	for n > 0 {
		part := min(n, 100_000)
		n -= part
		old, err := records.Open(spool.Options{
			Dir: filepath.Join(s.Dir, "spool"), AtRisk: time.Minute, MaxBytes: 256 << 20, Memory: 1 << 34, Clock: now, // in memory until Close
		})
		if err != nil {
			b.Fatal(err)
		}
		for i := range part {
			r := message.Record{Kind: message.Reading, Sensor: "old", Run: old.RunNumber(), Seq: uint64(i) + 1, Stamp: now.Now()}
			r.Fields = []sensors.Field{{Name: "temperature", Value: 21.5}}
			if err := old.Append(r); err != nil {
				b.Fatal(err)
			}
		}
		if err := old.Close(); err != nil {
			b.Fatal(err)
		}
	}
}

func isReading(m map[string]any) bool { return m["sensor"] != nil && m["kind"] == nil }
