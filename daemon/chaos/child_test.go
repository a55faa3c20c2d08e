//go:build chaos && linux

package chaos

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"fieldpost/daemon/daemontest"
)

// buildSimulated builds the program with a simulated board; see
// cmd/fieldpost/simulated.go. CHAOS_BUILD has more flags for the build, such as -race.
func buildSimulated(t *testing.T) (program string) {
	t.Helper()
	program = filepath.Join(t.TempDir(), "fieldpost")
	args := append([]string{"build", "-tags", "chaos", "-o", program}, strings.Fields(os.Getenv("CHAOS_BUILD"))...)
	if out, err := exec.Command("go", append(args, "fieldpost/cmd/fieldpost")...).CombinedOutput(); err != nil {
		t.Fatalf("build the program: %v\n%s", err, out)
	}
	return program
}

// daemonProcess is a running daemon.
type daemonProcess struct {
	cmd   *exec.Cmd
	stdin io.WriteCloser
	ended chan error // gets one value when cmd has ended
}

// command makes a command of the program with a pipe as file descriptor 3 for its
// reports, and its output in a file of that name. The caller closes the files after it
// has started the command.
func (c *testbed) command(log string, args ...string) (cmd *exec.Cmd, read, write *os.File) {
	c.t.Helper()
	out, err := os.OpenFile(filepath.Join(c.dir, log), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		c.t.Fatal(err)
	}
	read, write, err = os.Pipe()
	if err != nil {
		c.t.Fatal(err)
	}
	words := c.memory.Command(c.program, args...)
	cmd = exec.Command(words[0], words[1:]...)
	cmd.Env = append(os.Environ(), "RUNTIME_DIRECTORY="+filepath.Join(c.dir, "run"), "GORACE=halt_on_error=1 atexit_sleep_ms=0")
	if c.memory != nil {
		cmd.Env = append(cmd.Env, daemontest.UnitEnvironment(c.t)...)
	}
	cmd.Stdout, cmd.Stderr, cmd.ExtraFiles = out, out, []*os.File{write}
	return cmd, read, write
}

// launched starts a command and closes our copies of its files.
func launched(cmd *exec.Cmd, checker *os.File) error {
	err := cmd.Start()
	_ = checker.Close()
	_ = cmd.Stdout.(*os.File).Close()
	return err
}

// start starts the daemon and waits until it has taken a reading.
func (c *testbed) start() {
	c.t.Helper()
	cmd, r, w := c.command("daemon.log", "run", "-c", c.config(), "--log-level", "DEBUG")
	stdin, err := cmd.StdinPipe()
	if err != nil {
		c.t.Fatal(err)
	}
	err = launched(cmd, w)
	if err != nil {
		_ = r.Close()
		c.t.Fatal(err)
	}
	c.child = &daemonProcess{cmd: cmd, stdin: stdin, ended: make(chan error, 1)}
	before := c.checker.prepareRun(c.dial)
	c.say(c.dial.String())
	go func(x *daemonProcess) {
		c.checker.recordReports(r)
		x.ended <- x.cmd.Wait()
	}(c.child)
	started := false
	c.checker.wait(daemontest.Patience, func() bool {
		started = c.checker.nTaken > before
		return started || c.checker.silent
	})
	if !started {
		c.checkMemory()
		c.t.Fatal("the daemon does not start; see daemon.log")
	}
}

// checkMemory reports a daemon that the kernel has killed for its memory.
func (c *testbed) checkMemory() {
	c.t.Helper()
	if n := c.memory.Killed(); n > 0 {
		c.t.Errorf("the kernel has killed %d daemons that needed more memory than the unit allows", n)
	}
}

// prepareRun prepares the checker for a run.
func (b *checker) prepareRun(d clockDial) (taken int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.linked, b.denied, b.silent, b.halted = false, false, false, ""
	b.diskDown, b.ledgerDown, b.flood = false, false, false
	b.weigh()
	b.before = d
	b.dialled(d)
	return b.nTaken
}

// recordReports records all reports of the daemon until it ends.
func (b *checker) recordReports(r *os.File) {
	lines := bufio.NewScanner(r)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		b.entry(lines.Text())
	}
	_ = r.Close()
	b.mu.Lock()
	b.silent = true
	b.wakeLocked()
	b.mu.Unlock()
}

// kill kills the daemon.
func (c *testbed) kill() { c.end(syscall.SIGKILL, daemontest.Patience) }

// end ends the daemon, if one runs, waits until its last report is recorded, and makes
// its lines safe, as systemd does after every end.
func (c *testbed) end(how syscall.Signal, d time.Duration) {
	c.t.Helper()
	if c.child == nil {
		return
	}
	x := c.child
	c.child = nil
	c.checker.ends(how == syscall.SIGKILL)
	_ = x.cmd.Process.Signal(how) // if it has ended by itself, that shows below
	var err error
	select {
	case err = <-x.ended:
	case <-time.After(d):
		_ = x.cmd.Process.Kill()
		<-x.ended
		err = fmt.Errorf("it did not end within %v", d)
	}
	_ = x.stdin.Close()
	c.checker.ended()
	c.checkMemory()
	var died *exec.ExitError
	killed := errors.As(err, &died) && died.Sys().(syscall.WaitStatus).Signal() == syscall.SIGKILL
	switch {
	case how == syscall.SIGKILL && !killed:
		c.t.Errorf("the daemon had ended before it was killed: %v; see daemon.log", err)
	case how != syscall.SIGKILL && err != nil:
		c.t.Errorf("end the daemon with %v: %v; see daemon.log", how, err)
	}
	c.makeSafe()
}

// makeSafe runs the unit's ExecStopPost command. On the simulated board it only reports
// what it drives, because there is no systemd to keep the lines.
func (c *testbed) makeSafe() {
	c.t.Helper()
	cmd, r, w := c.command("safe.log", "safe")
	if err := launched(cmd, w); err != nil {
		_ = r.Close()
		c.t.Fatal(err)
	}
	c.checker.recordReports(r)
	if err := cmd.Wait(); err != nil {
		c.t.Errorf("fieldpost safe: %v; see safe.log", err)
	}
	c.checker.mu.Lock()
	defer c.checker.mu.Unlock()
	for output, line := range lines {
		if s := c.checker.levels[line]; s.how != "held" || s.on {
			c.checker.complain("after `fieldpost safe` %s is %+v", output, s)
		}
	}
	c.checker.count["lines made safe after the end of the daemon"] += len(lines)
}

// hasRace reports whether the race detector of the daemon has found a race.
func (c *testbed) hasRace() bool {
	log, err := os.ReadFile(filepath.Join(c.dir, "daemon.log"))
	return err == nil && bytes.Contains(log, []byte("WARNING: DATA RACE"))
}

// crashLine matches the daemon's log line about an earlier run that did not stop in
// order.
var crashLine = regexp.MustCompile(`an earlier run did not stop in order.* spool=(\S+) run=(\d+)(?: reason=("(?:[^"\\]|\\.)*"|\S+))?`)

// readCrashes records what the daemon's log says about the ends of its runs.
func (c *testbed) readCrashes() {
	c.t.Helper()
	log := c.get(filepath.Join(c.dir, "daemon.log"))
	c.checker.mu.Lock()
	defer c.checker.mu.Unlock()
	for _, m := range crashLine.FindAllStringSubmatch(string(log), -1) {
		run, err := strconv.ParseUint(m[2], 10, 64)
		if err != nil {
			c.checker.complain("daemon.log: %q", m[0])
		}
		why := m[3]
		if text, err := strconv.Unquote(why); err == nil {
			why = text
		}
		c.checker.unknown[runOf(m[1], run)] = why
	}
}
