package board_test

import (
	"errors"
	"os"
	"syscall"
	"testing"

	"periph.io/x/conn/v3/physic"

	"fieldpost/sensors/board"
	"fieldpost/sensors/sim"
)

// A resting bus holds no handle. Its next use opens it again, also under another number.
func TestResting(t *testing.T) {
	inner := sim.New()
	bus := inner.AddBus("i2c-7")
	bus.SetAdapter("i2c-ch341-usb at bus 001 device 004")
	bus.AddTMP102(0x48)
	r := board.NewResting(inner)
	if _, err := r.Bus("i2c-9"); !errors.Is(err, board.ErrAbsent) {
		t.Errorf("a bus that is not there: %v", err)
	}
	b, err := r.Bus("CH341")
	if err != nil {
		t.Fatal(err)
	}
	conf := func() error { return b.Tx(0x48, []byte{1}, make([]byte, 2)) }
	for range 3 {
		if err := conf(); err != nil || bus.Handles() != 1 || b.String() != "i2c-7" {
			t.Errorf("in use: %v, %d handles, %q", err, bus.Handles(), b)
		}
		r.Rest()
		r.Rest()
		if bus.Handles() != 0 || b.String() != "CH341" {
			t.Errorf("resting: %d handles, %q", bus.Handles(), b)
		}
	}
	inner.Unplug(bus)
	if err := conf(); !errors.Is(err, board.ErrAbsent) || bus.Handles() != 0 {
		t.Errorf("unplugged: %v, %d handles", err, bus.Handles())
	}
	inner.Plug(bus, "i2c-8")
	if err := conf(); err != nil || b.String() != "i2c-8" {
		t.Errorf("plugged in again: %v, %q", err, b)
	}
	inner.Unplug(bus)
	if err := conf(); !errors.Is(err, board.ErrAbsent) || !errors.Is(err, syscall.ENODEV) || bus.Handles() != 1 {
		t.Errorf("unplugged in use: %v, %d handles", err, bus.Handles())
	}
	r.Rest()
	inner.Plug(bus, "i2c-7")
	bus.Own(0x48, "tmp102")
	var owned *board.OwnedError
	if err := b.(board.Claimer).Claim(0x48); !errors.As(err, &owned) || owned.Bus != "i2c-7" {
		t.Errorf("claim of what the kernel owns: %v", err)
	}
	r.Rest()
	if err := b.SetSpeed(physic.KiloHertz); err != nil || bus.Handles() != 1 {
		t.Errorf("set speed: %v, %d handles", err, bus.Handles())
	}
	closing(t, b.Close, func() error { return b.Tx(0x48, []byte{1}, nil) }, bus)
}

// closing checks that a closed bus stays closed.
func closing(t *testing.T, closes, use func() error, bus *sim.Bus) {
	t.Helper()
	if err := closes(); err != nil || bus.Handles() != 0 {
		t.Errorf("close: %v, %d handles", err, bus.Handles())
	}
	if err := closes(); !errors.Is(err, os.ErrClosed) {
		t.Errorf("close again: %v", err)
	}
	if err := use(); !errors.Is(err, os.ErrClosed) || bus.Handles() != 0 {
		t.Errorf("use after close: %v, %d handles", err, bus.Handles())
	}
}
