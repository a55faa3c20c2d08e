package main

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// A second daemon with the same crash record, but another spool, is refused before it
// touches a line. After the first one was killed, a daemon starts.
func TestSecondDaemonWithTheRecordIsRefused(t *testing.T) {
	first := startDaemon(t)
	file := first.Args[len(first.Args)-1]
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	other := filepath.Join(filepath.Dir(file), "other.yaml")
	if err := os.WriteFile(other, []byte(strings.Replace(string(text), "{dir: spool}", "{dir: other}", 1)), 0o600); err != nil {
		t.Fatal(err)
	}
	second := exec.Command("fieldpost", "run", "-c", other)
	second.Env = first.Env
	out, err := second.CombinedOutput()
	var exit *exec.ExitError
	if !errors.As(err, &exit) || exit.ExitCode() != 1 || !strings.Contains(string(out), "another fieldpost runs with it") {
		t.Errorf("%v\n%s", err, out)
	}
	if _, err := os.Stat(filepath.Join(filepath.Dir(file), "other")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the second made its spool: %v", err)
	}
	if err := first.Process.Signal(syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	_ = first.Wait() // killed
	third := startDaemonWith(t, file)
	if err := third.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if err := third.Wait(); err != nil {
		t.Errorf("the third: %v", err)
	}
}
