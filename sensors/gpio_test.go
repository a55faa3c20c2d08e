package sensors

import (
	"errors"
	"slices"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"fieldpost/sensors/board"
	"fieldpost/sensors/sim"
)

// A door's contact to ground that bounces: pull, active_low and debounce are applied.
func TestGPIODoor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := sim.New()
		door := b.Line("GPIO17")
		s, err := gpioLine.Open(b, Config{
			Chip: "gpio", Options: GPIO{Pin: "GPIO17", Pull: board.PullUp, ActiveLow: true, Debounce: 20 * time.Millisecond},
		})
		if err != nil {
			t.Fatal(err)
		}
		sense := func(want bool) {
			t.Helper()
			f, err := s.Sense()
			if err != nil || !slices.Equal(f, []Field{{Name: "active", Value: want}}) {
				t.Errorf("%v, %v, want %v", f, err, want)
			}
		}
		sense(false)
		for range 5 {
			door.Drive(false)
			<-time.After(time.Millisecond)
			door.Float()
			<-time.After(time.Millisecond)
		}
		door.Drive(false)
		sense(false)
		<-time.After(time.Second)
		sense(true)
		edges := s.(Edger).Edges()
		if e := <-edges; e != (board.Edge{Active: true, Mono: 30 * time.Millisecond}) {
			t.Errorf("edge %+v", e)
		}
		if err := s.Close(); err != nil {
			t.Error(err)
		}
		if e, open := <-edges; open {
			t.Errorf("edge %v after close", e)
		}
	})
}

func TestGPIOErrors(t *testing.T) {
	b := sim.New()
	b.Line("GPIO17").Hold("gpio-keys")
	var busy *board.BusyError
	if _, err := gpioLine.Open(b, Config{Options: GPIO{Pin: "GPIO17"}}); !errors.As(err, &busy) || busy.Holder != "gpio-keys" {
		t.Errorf("a busy line: %v", err)
	}
	if _, err := gpioLine.Open(b, Config{Options: GPIO{Pin: "gpiochip7:1"}}); !errors.Is(err, ErrAbsent) {
		t.Errorf("no such line: %v", err)
	}
	s, err := gpioLine.Open(b, Config{Options: GPIO{Pin: "GPIO18"}})
	if err != nil {
		t.Fatal(err)
	}
	b.Line("GPIO18").Fail(syscall.ENODEV)
	if f, err := s.Sense(); !errors.Is(err, syscall.ENODEV) || f != nil {
		t.Errorf("a line gone: %v, %v", f, err)
	}
	b.Crash() // the line is no longer ours
	if err := s.Close(); err == nil {
		t.Error("the line's error on close is swallowed")
	}
}
