package main

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"fieldpost/daemon/api"
	"fieldpost/daemon/client"
	"fieldpost/daemon/local"
)

// A killed daemon leaves its socket, on which nobody answers. The next daemon replaces
// it. A clean stop removes it.
func TestSocketAfterAKill(t *testing.T) {
	first := startDaemon(t)
	file := first.Args[len(first.Args)-1]
	socket := filepath.Join(filepath.Dir(file), "fieldpost.sock")
	if r := awaitAnswer(t, socket); r.PID != first.Process.Pid {
		t.Errorf("process %d answers, want %d", r.PID, first.Process.Pid)
	}
	if err := first.Process.Signal(syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	_ = first.Wait() // killed
	if _, err := os.Lstat(socket); err != nil {
		t.Errorf("the kill left no socket, so this tests nothing: %v", err)
	}
	if _, err := client.AskStatus(t.Context(), socket); !errors.Is(err, local.ErrNotRunning) {
		t.Errorf("after the kill: %v", err)
	}
	second := startDaemonWith(t, file)
	r := awaitAnswer(t, socket)
	for _, f := range r.Faults {
		if f.Code == "local_unavailable" {
			t.Errorf("fault %+v", f)
		}
	}
	if r.PID != second.Process.Pid {
		t.Errorf("process %d answers, want %d", r.PID, second.Process.Pid)
	}
	if err := second.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	second.endedWell(t)
	if _, err := os.Lstat(socket); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a good end left the socket: %v", err)
	}
}

// awaitAnswer waits until a daemon answers on the socket.
func awaitAnswer(t *testing.T, socket string) api.Status {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	again := time.NewTicker(10 * time.Millisecond)
	defer again.Stop()
	for {
		r, err := client.AskStatus(ctx, socket)
		if err == nil {
			return r
		}
		select {
		case <-again.C:
		case <-ctx.Done():
			t.Fatalf("nobody answers: %v", err)
		}
	}
}
