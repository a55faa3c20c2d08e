package daemon_test

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// warm is how long a daemon has run when its memory is looked at.
const warm = 20 * time.Second

// What the daemon costs, alone in a process, with ten sensors once a second
// and the link up. The process is this test binary, which holds the test
// framework and the simulated board besides. An op is one reading, and at
// least that much time's worth of them are awaited.
func BenchmarkFootprint(b *testing.B) {
	s := newSite(b, nil)
	heard := s.ear("test-ear")
	path := filepath.Join(s.dir, "fieldpost.yaml")
	if err := os.WriteFile(path, tenConfig(s.addr), 0o600); err != nil {
		b.Fatal(err)
	}
	reading := func(m map[string]any) bool { return m["sensor"] != nil && m["kind"] == nil }

	start := time.Now()
	p := startChild(b, path)
	until(b, "reading", heard, reading)
	first := time.Since(start)
	for range 20 { // the start's own work and files are not a reading's
		until(b, "reading", heard, reading)
	}
	cpu, written := p.cpu(), p.status("io", "write_bytes")
	readings := 0
	for b.Loop() {
		until(b, "reading", heard, reading)
		readings++
	}
	for time.Since(start) < warm {
		until(b, "reading", heard, reading)
		readings++
	}
	b.ReportMetric(float64(p.cpu()-cpu)/1e6/float64(readings), "cpu-ms/reading")
	b.ReportMetric(float64(p.status("io", "write_bytes")-written)/float64(readings), "disk-B/reading")
	b.ReportMetric(first.Seconds()*1e3, "first-PUBACK-ms")
	b.ReportMetric(float64(p.status("status", "VmRSS"))*1024/1e6, "RSS-MB")
	b.ReportMetric(float64(p.status("status", "RssAnon"))*1024/1e6, "RSS-anon-MB")
	b.ReportMetric(float64(p.status("smaps_rollup", "Pss"))*1024/1e6, "PSS-MB")
	b.ReportMetric(0, "ns/op")
}

// process is a child.
type process struct {
	b   *testing.B
	pid int
}

// startChild starts the daemon in a process of its own, until the end of the
// benchmark.
func startChild(b *testing.B, config string) process {
	b.Helper()
	c := exec.Command(os.Args[0])
	c.Env = append(os.Environ(), childConfig+"="+config)
	var said bytes.Buffer
	c.Stdout, c.Stderr = io.Discard, &said
	in, err := c.StdinPipe()
	if err == nil {
		err = c.Start()
	}
	if err != nil {
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
	return process{b, c.Process.Pid}
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

// status reads one number of a file of the process's, proc(5).
func (p process) status(file, name string) int64 {
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
