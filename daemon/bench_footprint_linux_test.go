package daemon_test

import (
	"bufio"
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"fieldpost/daemon/spool"
	"fieldpost/sensors"

	"golang.org/x/sys/unix"
)

// warm is how long a daemon has run when its memory is looked at.
const warm = 20 * time.Second

// What the daemon costs, alone in a process, with ten sensors and the link up.
// The process is this test binary, which holds the test framework and the
// simulated board besides; it runs in the environment that the unit gives.
// An op is one reading, and at least warm's worth of them are awaited.
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
	s := newSite(b, nil)
	heard := s.ear("test-ear")
	start := time.Now()
	p := startChild(b, s, every)
	until(b, "message", heard, func(map[string]any) bool { return true })
	message := time.Since(start)
	until(b, "reading", heard, isReading)
	reading := time.Since(start)
	for range 50 { // the start's own work and files are not a reading's
		until(b, "reading", heard, isReading)
	}
	cpu, written, readings := p.cpu(), p.number("io", "write_bytes"), 0
	for b.Loop() {
		until(b, "reading", heard, isReading)
		readings++
	}
	for time.Since(start) < warm {
		until(b, "reading", heard, isReading)
		readings++
	}
	b.ReportMetric((p.cpu()-cpu).Seconds()*1e3/float64(readings), "cpu-ms/reading")
	b.ReportMetric(float64(p.number("io", "write_bytes")-written)/float64(readings), "disk-B/reading")
	b.ReportMetric(message.Seconds()*1e3, "first-PUBACK-ms")
	b.ReportMetric(reading.Seconds()*1e3, "first-reading-ms")
	b.ReportMetric(p.megabytes("VmRSS"), "RSS-MB")
	b.ReportMetric(p.megabytes("RssAnon"), "RSS-anon-MB") // the rest is the binary's own file
	b.ReportMetric(0, "ns/op")
}

// What it costs to deliver what was kept while the broker was away. An op is
// one reading.
func BenchmarkBacklog(b *testing.B) {
	const early = 100 // connecting is not a reading's work
	s := newSite(b, nil)
	now := s.clock()
	old, err := spool.Open(spool.Options{
		Dir: filepath.Join(s.dir, "spool"), AtRisk: time.Minute, MaxBytes: 1 << 34, Memory: 1 << 34, Clock: now, // all of it, and in memory until Close
	})
	if err != nil {
		b.Fatal(err)
	}
	for i := range b.N + early {
		r := spool.Record{Kind: spool.Reading, Sensor: "old", Run: old.RunNumber(), Seq: uint64(i) + 1, Stamp: now.Now()}
		r.Fields = []sensors.Field{{Name: "temperature", Value: 21.5}}
		if err := old.Append(r); err != nil {
			b.Fatal(err)
		}
	}
	if err := old.Close(); err != nil {
		b.Fatal(err)
	}
	p := startChild(b, s, 24*time.Hour, early, b.N+early)
	p.mark()
	cpu := p.cpu()
	b.ResetTimer()
	p.mark()
	b.ReportMetric((p.cpu()-cpu).Seconds()*1e3/float64(b.N), "cpu-ms/reading")
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "readings/s")
	b.ReportMetric(0, "ns/op")
}

func isReading(m map[string]any) bool { return m["sensor"] != nil && m["kind"] == nil }

// process is a child.
type process struct {
	b    *testing.B
	pid  int
	says *bufio.Reader
}

// startChild starts a daemon with ten sensors in a process of its own, until
// the end of the benchmark. See mark for the marks.
func startChild(b *testing.B, s *site, every time.Duration, marks ...int) process {
	b.Helper()
	c := childCommand(b, s, every, marks)
	var said bytes.Buffer
	c.Stderr = &said
	in, err := c.StdinPipe()
	if err != nil {
		b.Fatal(err)
	}
	out, err := c.StdoutPipe()
	if err != nil {
		b.Fatal(err)
	}
	if err := c.Start(); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		in.Close()
		if err := c.Wait(); err != nil {
			b.Errorf("child: %v", err)
		}
		if said.Len() > 0 {
			b.Logf("child: %s", said.String())
		}
	})
	return process{b, c.Process.Pid, bufio.NewReader(out)}
}

func childCommand(b *testing.B, s *site, every time.Duration, marks []int) *exec.Cmd {
	b.Helper()
	path := filepath.Join(s.dir, "fieldpost.yaml")
	if err := os.WriteFile(path, tenConfig(s.addr, every), 0o600); err != nil {
		b.Fatal(err)
	}
	c := exec.Command(os.Args[0])
	c.Env = append(append(os.Environ(), unitEnvironment(b)...), childConfig+"="+path)
	if len(marks) > 0 {
		c.Env = append(c.Env, childMarks+"="+strings.ReplaceAll(fmt.Sprint(marks), " ", ","))
	}
	return c
}

// mark waits until the broker has acknowledged as many messages as the next
// mark says.
func (p process) mark() {
	p.b.Helper()
	if _, err := p.says.ReadString('\n'); err != nil {
		p.b.Fatalf("wait for acknowledgements: %v", err)
	}
}

// unitEnvironment is what systemd gives the daemon.
func unitEnvironment(b *testing.B) []string {
	b.Helper()
	unit, err := os.ReadFile("../deploy/fieldpost.service")
	if err != nil {
		b.Fatal(err)
	}
	var env []string
	for _, m := range regexp.MustCompile(`(?m)^Environment=(\S+)$`).FindAllSubmatch(unit, -1) {
		env = append(env, string(m[1]))
	}
	if len(env) == 0 {
		b.Fatal("the unit has no line that begins with Environment=")
	}
	return env
}

// cpu is the time of the processor used so far. It asks the process's own
// clock, which counts finer than the ticks of proc(5); its number is made as
// in clock_getcpuclockid(3).
func (p process) cpu() time.Duration {
	p.b.Helper()
	var t unix.Timespec
	if err := unix.ClockGettime(int32(^p.pid<<3|2), &t); err != nil {
		p.b.Fatal(err)
	}
	return time.Duration(t.Nano())
}

// megabytes reads a size that proc(5) gives in KiB.
func (p process) megabytes(name string) float64 {
	p.b.Helper()
	return float64(p.number("status", name)) * 1024 / 1e6
}

// number reads one number of a file of the process's, proc(5).
func (p process) number(file, name string) int64 {
	p.b.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/%s", p.pid, file))
	if err != nil {
		p.b.Fatal(err)
	}
	m := regexp.MustCompile(`(?m)^` + name + `:\s*(\d+)`).FindSubmatch(text)
	if m == nil {
		p.b.Fatalf("%s of the child has no %s", file, name)
	}
	n, err := strconv.ParseInt(string(m[1]), 10, 64)
	if err != nil {
		p.b.Fatal(err)
	}
	return n
}
