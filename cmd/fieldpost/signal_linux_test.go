package main

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"fieldpost/daemon/broker"
)

// aDaemon is `fieldpost run` as a person starts it, running.
type aDaemon struct {
	*exec.Cmd
	log   *bufio.Scanner
	pipe  *os.File // the reading end of its standard error
	spool string
}

func startDaemon(t *testing.T) *aDaemon {
	t.Helper()
	dir := t.TempDir()
	if _, err := broker.Certificates(filepath.Join(dir, "certs")); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(dir, "fieldpost.yaml")
	config := "thing: thing-1\nbroker: {endpoint: '127.0.0.1:1'}\nreadings: {topic: test/topic}\nspool: {dir: spool}\n"
	if err := os.WriteFile(file, []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	return startDaemonWith(t, file)
}

// startDaemonWith starts it with a configuration file, in whose directory it
// has everything.
func startDaemonWith(t *testing.T, file string) *aDaemon {
	t.Helper()
	dir := filepath.Dir(file)
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.Close() })
	d := &aDaemon{Cmd: exec.Command("fieldpost", "run", "-c", file), log: bufio.NewScanner(r), pipe: r, spool: filepath.Join(dir, "spool")}
	d.Stderr, d.Env = w, append(os.Environ(), "RUNTIME_DIRECTORY="+dir, "NOTIFY_SOCKET=")
	if err := d.Start(); err != nil {
		t.Fatal(err)
	}
	w.Close()
	d.says(t, " started ")
	return d
}

// says reads the log until it has words.
func (d *aDaemon) says(t *testing.T, words string) {
	t.Helper()
	for d.log.Scan() {
		if strings.Contains(d.log.Text(), words) {
			return
		}
	}
	t.Fatalf("the log ended without %q", words)
}

// A good end: the outputs were made safe and everything written.
func (d *aDaemon) endedWell(t *testing.T) {
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

// A terminal that is closed is a stop like any other.
func TestEndWhenTheTerminalIsClosed(t *testing.T) {
	// Under nohup the daemon would rightly ignore it; a signal that is caught
	// here is not ignored there.
	caught := make(chan os.Signal, 1)
	signal.Notify(caught, syscall.SIGHUP)
	defer signal.Stop(caught)
	d := startDaemon(t)
	if err := d.Process.Signal(syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
	d.says(t, " stopped ")
	d.endedWell(t)
}
