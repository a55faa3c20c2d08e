package board

import (
	"errors"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

func TestTake(t *testing.T) {
	m, _, lines := benchMachine(t)
	pump := lines[1]
	held, err := m.drive(OutputConfig{Line: "PUMP"})
	if err != nil {
		t.Fatal(err)
	}
	id, f := held.id, held.file
	// Take it over with the other polarity, and the level that belongs to it.
	out, err := m.Take(f, id, OutputConfig{ActiveLow: true, Active: false})
	if err != nil {
		t.Fatal(err)
	}
	if !pump.high || pump.requests != 1 || out.ID() != id {
		t.Errorf("high %v after %d requests; want high, and no new request", pump.high, pump.requests)
	}
	if err := out.Set(true); err != nil || pump.high {
		t.Errorf("Set(true): %v, high %v", err, pump.high)
	}
	if active, err := out.Active(); err != nil || !active {
		t.Errorf("Active: %v, %v", active, err)
	}
	if err := out.Close(); err != nil || pump.held() {
		t.Errorf("Close: %v, held %v", err, pump.held())
	}
}

func TestTakeInvalidHandle(t *testing.T) {
	m, _, lines := benchMachine(t)
	held, err := m.drive(OutputConfig{Line: "PUMP"})
	if err != nil {
		t.Fatal(err)
	}
	id, f := held.id, held.file
	defer f.Close()
	if _, err := m.Take(f, id, OutputConfig{Drive: "push"}); err == nil || !strings.Contains(err.Error(), "want push-pull") {
		t.Errorf("drive push: %v", err)
	}
	lines[1].broken = unix.ENODEV
	if _, err := m.Take(f, id, OutputConfig{Active: true}); !errors.Is(err, unix.ENODEV) || !strings.Contains(err.Error(), "PUMP") {
		t.Errorf("chip gone: %v", err)
	}
	if _, err := f.Stat(); err != nil {
		t.Errorf("the handle was closed: %v", err)
	}
}
