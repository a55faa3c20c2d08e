//go:build unix

package daemontest

import (
	"bufio"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// TestMain is the process that TestChildrenEndWithTheirProcess kills.
func TestMain(m *testing.M) {
	if os.Getenv("FIELDPOST_TEST_PARENT") == "" {
		os.Exit(m.Run())
	}
	cmd := exec.Command("/bin/sh", "-c", "sleep 1000 & echo started; wait")
	cmd.Stdout = os.Stdout
	exited, err := StartChild(cmd)
	if err != nil {
		panic(err)
	}
	<-exited
}

// A process that is killed takes what it has started with it, and what that has started.
func TestChildrenEndWithTheirProcess(t *testing.T) {
	parent := exec.Command(os.Args[0])
	parent.Env = append(os.Environ(), "FIELDPOST_TEST_PARENT=1")
	out, err := parent.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := parent.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewReader(out)
	if line, err := lines.ReadString('\n'); line != "started\n" {
		t.Fatalf("read %q, %v", line, err)
	}
	if err := parent.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() {
		_, err := io.ReadAll(lines) // ends when nobody has the other end any more
		ended <- err
	}()
	if err := Receive(t, "end of all that have our pipe", ended); err != nil {
		t.Error(err)
	}
	if err := parent.Wait(); err == nil {
		t.Error("it was not killed")
	}
}

// A program that ends delivers that, once, and another can be started.
func TestChildThatEnds(t *testing.T) {
	exited, err := StartChild(exec.Command("/bin/sh", "-c", "exit 3"))
	if err != nil {
		t.Fatal(err)
	}
	var status *exec.ExitError
	if err := Receive(t, "end", exited); !errors.As(err, &status) || status.ExitCode() != 3 {
		t.Errorf("ended with %v", err)
	}
	if err, more := <-exited; err != nil || more {
		t.Errorf("then %v", err)
	}
	if _, err := StartChild(exec.Command(filepath.Join(t.TempDir(), "none"))); err == nil {
		t.Error("what is not there was started")
	}
}

// A program gets no file that our own process was given, such as one with a lock.
func TestChildInheritsNothing(t *testing.T) {
	if os.Getenv("FIELDPOST_TEST_INHERITS") == "" {
		f, err := os.Create(filepath.Join(t.TempDir(), "lock"))
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		again := exec.Command(os.Args[0], "-test.run=^TestChildInheritsNothing$", "-test.v")
		again.Env, again.ExtraFiles = append(os.Environ(), "FIELDPOST_TEST_INHERITS=1"), []*os.File{f} // number 3
		if out, err := again.CombinedOutput(); err != nil || !strings.Contains(string(out), "PASS") {
			t.Errorf("%v\n%s", err, out)
		}
		return
	}
	if err := exec.Command("/bin/sh", "-c", "echo x >&3").Run(); err != nil {
		t.Fatalf("number 3 is not open here: %v", err)
	}
	exited, err := StartChild(exec.Command("/bin/sh", "-c", "echo x >&3"))
	if err != nil {
		t.Fatal(err)
	}
	if err := Receive(t, "end", exited); err == nil {
		t.Error("it has our file")
	}
}
