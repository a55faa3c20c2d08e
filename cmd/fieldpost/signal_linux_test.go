package main

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"fieldpost/daemon/broker"

	"golang.org/x/sys/unix"
)

// runningDaemon is a process of `fieldpost run`.
type runningDaemon struct {
	*exec.Cmd
	log   *bufio.Scanner
	pipe  *os.File // the reading end of its standard error
	spool string
}

func startDaemon(t *testing.T) *runningDaemon {
	t.Helper()
	return startDaemonWith(t, configFor(t))
}

// configFor writes a configuration file, and the certificates that it needs.
func configFor(t *testing.T) (file string) {
	t.Helper()
	dir := t.TempDir()
	if _, err := broker.Certificates(filepath.Join(dir, "certs")); err != nil {
		t.Fatal(err)
	}
	file = filepath.Join(dir, "fieldpost.yaml")
	config := "thing: thing-1\nbroker: {endpoint: '127.0.0.1:1'}\nreadings: {topic: test/topic}\nspool: {dir: spool}\n"
	if err := os.WriteFile(file, []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

// startDaemonWith starts it with a configuration file. All its files are in the same
// directory.
func startDaemonWith(t *testing.T, file string) *runningDaemon {
	t.Helper()
	return startDaemonIn(t, file, nil, nil)
}

// startDaemonIn starts it with process attributes, a standard input, and a command line
// to put before its own.
func startDaemonIn(t *testing.T, file string, attributes *syscall.SysProcAttr, in *os.File, before ...string) *runningDaemon {
	t.Helper()
	dir := filepath.Dir(file)
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.Close() })
	words := append(before, "fieldpost", "run", "-c", file)
	d := &runningDaemon{Cmd: exec.Command(words[0], words[1:]...), log: bufio.NewScanner(r), pipe: r, spool: filepath.Join(dir, "spool")}
	d.Stderr, d.Env = w, append(os.Environ(), "RUNTIME_DIRECTORY="+dir, "NOTIFY_SOCKET=")
	d.SysProcAttr = attributes
	if in != nil {
		d.Stdin = in
	}
	if err := d.Start(); err != nil {
		t.Fatal(err)
	}
	w.Close()
	d.says(t, " started ")
	return d
}

// says reads the log until a line contains words.
func (d *runningDaemon) says(t *testing.T, words string) {
	t.Helper()
	for d.log.Scan() {
		if strings.Contains(d.log.Text(), words) {
			return
		}
	}
	t.Fatalf("the log ended without %q", words)
}

// endedWell checks that the daemon stopped with exit status 0 and recorded a clean stop.
func (d *runningDaemon) endedWell(t *testing.T) {
	t.Helper()
	if err := d.Wait(); err != nil {
		t.Errorf("it ended with %v, want status 0", err)
	}
	if state := fmt.Sprint(readAll(t, d.spool)); !strings.Contains(state, " stopped") {
		t.Errorf("no good stop is recorded: %s", state)
	}
}

func readAll(t *testing.T, dir string) (all []string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		text, err := os.ReadFile(filepath.Join(dir, e.Name()))
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, string(text))
	}
	return all
}

// Ctrl-C on `fieldpost run 2>&1 | tee log` ends tee first.
func TestEndWithNobodyReadingTheLog(t *testing.T) {
	d := startDaemon(t)
	d.pipe.Close()
	if err := d.Process.Signal(syscall.SIGINT); err != nil {
		t.Fatal(err)
	}
	d.endedWell(t)
}

// catchHangup makes sure that daemons do not inherit an ignored SIGHUP, as under nohup: a
// signal that this process catches is not ignored in theirs.
func catchHangup(t *testing.T) {
	caught := make(chan os.Signal, 1)
	signal.Notify(caught, syscall.SIGHUP)
	t.Cleanup(func() { signal.Stop(caught) })
}

// When the terminal is closed the daemon stops cleanly.
func TestEndWhenTheTerminalIsClosed(t *testing.T) {
	catchHangup(t)
	window, terminal := openTerminal(t)
	d := startDaemonIn(t, configFor(t), &syscall.SysProcAttr{Setsid: true, Setctty: true, Ctty: 0}, terminal)
	terminal.Close()
	window.Close()
	d.says(t, " stopped ")
	d.endedWell(t)
}

// openTerminal opens a pseudoterminal, pts(4): its window, and what runs in it.
func openTerminal(t *testing.T) (window, terminal *os.File) {
	t.Helper()
	fd, err := unix.Open("/dev/ptmx", unix.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	window = os.NewFile(uintptr(fd), "window")
	t.Cleanup(func() { window.Close() })
	if err := unix.IoctlSetPointerInt(fd, unix.TIOCSPTLCK, 0); err != nil {
		t.Fatal(err)
	}
	n, err := unix.IoctlGetInt(fd, unix.TIOCGPTN)
	if err != nil {
		t.Fatal(err)
	}
	terminal, err = os.OpenFile(fmt.Sprint("/dev/pts/", n), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { terminal.Close() })
	return window, terminal
}

// Without a terminal SIGHUP reloads: the log has the problems of a wrong configuration,
// or what a good one changed, and the daemon keeps running.
func TestReloadOnHangup(t *testing.T) {
	catchHangup(t)
	file := configFor(t)
	good, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	d := startDaemonIn(t, file, &syscall.SysProcAttr{Setsid: true}, nil)
	for _, c := range []struct{ text, says string }{
		{string(good) + "nonsense: true\n", `fieldpost.yaml:5: unknown key "nonsense"`},
		{string(good) + "outputs: [{name: pump, pin: GPIO999}]\n", " configuration swapped "},
		{string(good), " configuration swapped "},
	} {
		if err := os.WriteFile(file, []byte(c.text), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := d.Process.Signal(syscall.SIGHUP); err != nil {
			t.Fatal(err)
		}
		d.says(t, "reloading the configuration cause=SIGHUP")
		d.says(t, c.says)
	}
	if err := d.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	d.says(t, " stopped ")
	d.endedWell(t)
}

// Under nohup SIGHUP stays ignored.
func TestHangupUnderNohup(t *testing.T) {
	d := startDaemonIn(t, configFor(t), &syscall.SysProcAttr{Setsid: true}, nil, "nohup")
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", d.Process.Pid))
	if err != nil {
		t.Fatal(err)
	}
	_, mask, _ := strings.Cut(string(status), "\nSigIgn:\t")
	ignored, err := strconv.ParseUint(strings.SplitN(mask, "\n", 2)[0], 16, 64)
	if err != nil || ignored&(1<<(syscall.SIGHUP-1)) == 0 {
		t.Errorf("ignored are %x, %v", ignored, err)
	}
	if err := d.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	d.endedWell(t)
}
