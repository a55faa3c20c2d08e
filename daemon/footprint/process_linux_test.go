package footprint

import (
	"bufio"
	"bytes"
	"cmp"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"fieldpost/daemon/daemontest"

	"golang.org/x/sys/unix"
)

// process is a daemon in a process of its own.
type process struct {
	b    testing.TB
	pid  int
	says *bufio.Reader
}

// startChild starts a daemon with the plan's sensors on a simulated board in a process
// of its own, until the end of the benchmark. See mark for the marks.
func startChild(b testing.TB, s *daemontest.Site, plan childPlan) process {
	b.Helper()
	plan.endpoint = cmp.Or(plan.endpoint, s.Addr)
	return startChildIn(b, s.Dir, plan)
}

// startChildIn starts one in a directory that has its certificates.
func startChildIn(b testing.TB, dir string, plan childPlan) process {
	b.Helper()
	path := filepath.Join(dir, "fieldpost.yaml")
	if err := os.WriteFile(path, plan.config(), 0o600); err != nil {
		b.Fatal(err)
	}
	c := exec.Command(os.Args[0])
	c.Env = append(append(os.Environ(), daemontest.UnitEnvironment(b)...), childConfig+"="+path, childCounts+"="+plan.counts)
	slack := daemontest.UnitTimerSlack(b)
	if plan.allCPUs {
		c.Env = append(c.Env, fmt.Sprint("GOMAXPROCS=", runtime.NumCPU()))
		slack = 0
	}
	c.Env = append(c.Env, childRuntime+"="+memoryDir(b))
	c.Env = append(c.Env, childByteTime+"="+plan.byteTime.String())
	if plan.sets > 0 {
		c.Env = append(c.Env, fmt.Sprint(childSets, "=", plan.sets))
	}
	if plan.chatter {
		c.Env = append(c.Env, childChatter+"=1")
	}
	if len(plan.marks) > 0 {
		c.Env = append(c.Env, childMarks+"="+strings.ReplaceAll(fmt.Sprint(plan.marks), " ", ","))
	}
	return launch(b, c, slack)
}

// memoryDir makes a directory in memory, as the unit's RuntimeDirectory= is. It is removed at the
// end of the benchmark. "" is none: the machine has no /dev/shm.
func memoryDir(b testing.TB) string {
	b.Helper()
	dir, err := os.MkdirTemp("/dev/shm", "fieldpost-bench-")
	if err != nil {
		return ""
	}
	b.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			b.Error(err)
		}
	})
	return dir
}

// start starts a program whose timers may be late by slack; 0 is the kernel's default. A
// process gets that from the thread that makes it (prctl(2), PR_SET_TIMERSLACK).
func start(c *exec.Cmd, slack time.Duration) error {
	if slack == 0 {
		return c.Start()
	}
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	if err := unix.Prctl(unix.PR_SET_TIMERSLACK, uintptr(slack), 0, 0, 0); err != nil {
		return err
	}
	defer unix.Prctl(unix.PR_SET_TIMERSLACK, 0, 0, 0, 0) // the default again
	return c.Start()
}

// launch starts a program that ends when its standard input does, or at the
// latest at a SIGTERM, and does so at the end of the benchmark.
func launch(b testing.TB, c *exec.Cmd, slack time.Duration) process {
	b.Helper()
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
	if err := start(c, slack); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		in.Close()
		_ = c.Process.Signal(syscall.SIGTERM) // it may have ended
		if err := c.Wait(); err != nil && err.Error() != "signal: terminated" {
			b.Errorf("child: %v", err)
		}
		if b.Failed() && said.Len() > 0 {
			b.Logf("child: %s", said.String())
		}
	})
	return process{b, c.Process.Pid, bufio.NewReader(out)}
}

// mark waits until the next mark is reached, and returns how many objects the process has
// allocated and how often it has appended to the spool by then.
func (p process) mark() (allocated, appends uint64) {
	p.b.Helper()
	line, err := p.says.ReadString('\n')
	if err != nil {
		p.b.Fatalf("wait for a mark: %v", err)
	}
	var n int
	if _, err := fmt.Sscan(line, &n, &allocated, &appends); err != nil {
		p.b.Fatalf("mark %q: %v", line, err)
	}
	return allocated, appends
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

// switches counts how often a thread of the process has gone to sleep and was
// woken (proc(5), voluntary_ctxt_switches).
func (p process) switches() (n int64) {
	p.b.Helper()
	threads, err := os.ReadDir(fmt.Sprintf("/proc/%d/task", p.pid))
	if err != nil {
		p.b.Fatal(err)
	}
	for _, t := range threads {
		n += p.number("task/"+t.Name()+"/status", "voluntary_ctxt_switches")
	}
	return n
}

// aimed reports a figure beside the one that is aimed at.
func aimed(b *testing.B, got float64, unit string, aim float64) {
	b.ReportMetric(got, unit)
	b.ReportMetric(aim, "aim-"+unit)
}
