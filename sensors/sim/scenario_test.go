package sim

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"

	"fieldpost/sensors/board"
)

func TestScenario(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := New()
		s := Scenario{Air: b.AddBus("i2c-1").AddBME280(0x76), Door: b.Line("GPIO17")}
		in := input1(t, b, board.InputConfig{Line: "GPIO17"})
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- s.Run(ctx) }()
		low, high := 1000.0, -1000.0
		for range 300 {
			<-time.After(time.Second)
			s.Air.update(func() {
				low, high = min(low, s.Air.temperature), max(high, s.Air.temperature)
			})
		}
		if low > 19 || high < 24 {
			t.Errorf("the air went from %g to %g in a day", low, high)
		}
		edges := 0
		for _, e := range drain(in) {
			edges += 1 + int(e.Lost)
		}
		if edges < 70 || edges > 80 {
			t.Errorf("the door moved %d times in 300 s, want once in 4 s or so", edges)
		}
		cancel()
		if err := <-done; !errors.Is(err, context.Canceled) {
			t.Errorf("Run: %v", err)
		}
	})
}

func TestEmptyScenario(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := (Scenario{}).Run(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("Run: %v", err)
	}
}

func TestRoot(t *testing.T) {
	b := New()
	if _, err := os.Stat(b.Root()); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a new board's root: %v, want that it does not exist", err)
	}
	dir := t.TempDir()
	b.SetRoot(dir)
	if err := b.WriteThermal(1, "cpu-thermal", 48.312); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{"type": "cpu-thermal\n", "temp": "48312\n"} {
		got, err := os.ReadFile(filepath.Join(dir, "sys/class/thermal/thermal_zone1", name))
		if err != nil || string(got) != want {
			t.Errorf("%s is %q, %v, want %q", name, got, err, want)
		}
	}
	b.SetRoot(filepath.Join(dir, "sys/class/thermal/thermal_zone1/type"))
	if err := b.WriteThermal(1, "cpu-thermal", 1); err == nil {
		t.Error("a root that is a file is accepted")
	}
}
