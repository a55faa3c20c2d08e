package spool

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"fieldpost/daemon/clock"
)

func TestInUse(t *testing.T) {
	dir := t.TempDir()
	if err := InUse(filepath.Join(dir, "none")); err != nil {
		t.Errorf("no such directory: %v", err)
	}
	if err := InUse(dir); err != nil {
		t.Errorf("an empty directory: %v", err)
	}
	s, err := Open(Options{Dir: dir, AtRisk: time.Second, Clock: clock.Fake()})
	if err != nil {
		t.Fatal(err)
	}
	var locked *LockedError
	for range 2 {
		if err := InUse(dir); !errors.As(err, &locked) || locked.Dir != dir || locked.PID != os.Getpid() {
			t.Errorf("in use: %v", err)
		}
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := InUse(dir); err != nil {
			t.Errorf("after its end: %v", err)
		}
	}
}
