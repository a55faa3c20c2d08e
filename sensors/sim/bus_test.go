package sim

import (
	"errors"
	"os"
	"slices"
	"syscall"
	"testing"
	"testing/synctest"

	"periph.io/x/conn/v3/i2c"

	"fieldpost/sensors/board"
)

// open opens a board's bus and fails the test if it cannot.
func open(t *testing.T, b *Board, name string) i2c.BusCloser {
	t.Helper()
	bus, err := b.Bus(name)
	if err != nil {
		t.Fatal(err)
	}
	return bus
}

// id reads the chip id of a BMx280 at 0x76.
func id(bus i2c.Bus) (byte, error) {
	var r [1]byte
	err := bus.Tx(0x76, []byte{regID}, r[:])
	return r[0], err
}

func TestBusAbsent(t *testing.T) {
	b := New()
	if _, err := b.Bus("i2c-1"); !errors.Is(err, board.ErrAbsent) {
		t.Errorf("no such bus: %v", err)
	}
	first := b.AddBus("i2c-1")
	if again := b.AddBus("i2c-1"); again != first {
		t.Error("AddBus made a second bus of one name")
	}
	_, err := id(open(t, b, "i2c-1"))
	if !errors.Is(err, board.ErrAbsent) || !errors.Is(err, syscall.ENXIO) {
		t.Errorf("no such chip: %v, want ErrAbsent and ENXIO", err)
	}
}

func TestBusFault(t *testing.T) {
	b := New()
	bus := b.AddBus("i2c-1")
	bus.AddBME280(0x76)
	h := open(t, b, "i2c-1")
	bus.Fault(syscall.ETIMEDOUT)
	if _, err := id(h); !errors.Is(err, syscall.ETIMEDOUT) {
		t.Errorf("broken bus: %v", err)
	}
	bus.Fault(nil)
	if v, err := id(h); err != nil || v != idBME280 {
		t.Errorf("repaired bus: %#x, %v", v, err)
	}
	if n := bus.Transactions(); n != 2 {
		t.Errorf("%d transactions counted, want 2", n)
	}
}

func TestHandleClosed(t *testing.T) {
	b := New()
	b.AddBus("i2c-1").AddBME280(0x76)
	h, other := open(t, b, "i2c-1"), open(t, b, "i2c-1")
	if err := h.Close(); err != nil {
		t.Error(err)
	}
	if err := h.Close(); !errors.Is(err, os.ErrClosed) {
		t.Errorf("second close: %v", err)
	}
	if _, err := id(h); !errors.Is(err, os.ErrClosed) {
		t.Errorf("closed handle: %v", err)
	}
	if _, err := id(other); err != nil {
		t.Errorf("the other handle: %v", err)
	}
}

// stuck starts a transaction that hangs, and returns a channel for its error.
func stuck(t *testing.T, h i2c.Bus) <-chan error {
	t.Helper()
	done := make(chan error, 1)
	go func() {
		_, err := id(h)
		done <- err
	}()
	synctest.Wait()
	select {
	case err := <-done:
		t.Fatalf("transaction on a stuck bus returned: %v", err)
	default:
	}
	return done
}

func TestStuckBus(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := New()
		bus := b.AddBus("i2c-1")
		bus.AddBME280(0x76)
		h := open(t, b, "i2c-1")
		bus.Stick()
		bus.Stick()
		done := stuck(t, h)
		bus.Release()
		bus.Release()
		if err := <-done; err != nil {
			t.Errorf("after the release: %v", err)
		}
		bus.Stick()
		done = stuck(t, h)
		h.Close()
		if err := <-done; !errors.Is(err, os.ErrClosed) {
			t.Errorf("after the close: %v", err)
		}
	})
}

func TestStuckChip(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := New()
		bus := b.AddBus("i2c-1")
		chip := bus.AddBME280(0x76)
		h := open(t, b, "i2c-1")
		chip.Fault(Stuck)
		done := stuck(t, h)
		if err := h.Tx(0x48, []byte{0}, nil); !errors.Is(err, board.ErrAbsent) {
			t.Errorf("another address meanwhile: %v", err)
		}
		chip.Fault(Healthy)
		if err := <-done; !errors.Is(err, syscall.ETIMEDOUT) {
			t.Errorf("stuck transaction ended in %v", err)
		}
		if _, err := id(h); err != nil {
			t.Errorf("healthy chip: %v", err)
		}
	})
}

func TestChipFaults(t *testing.T) {
	b := New()
	chip := b.AddBus("i2c-1").AddBME280(0x76)
	h := open(t, b, "i2c-1")
	for f, want := range map[Fault]error{
		NACK: board.ErrAbsent, Timeout: syscall.ETIMEDOUT, EIO: syscall.EIO,
	} {
		chip.FaultNext(2, f)
		for range 2 {
			if _, err := id(h); !errors.Is(err, want) {
				t.Errorf("fault %d: %v, want %v", f, err, want)
			}
		}
		if _, err := id(h); err != nil {
			t.Errorf("fault %d lasts too long: %v", f, err)
		}
	}
	frame := func(f Fault) []byte {
		chip.FaultNext(1, f)
		r := make([]byte, 4)
		if err := h.Tx(0x76, []byte{regID}, r); err != nil {
			t.Fatal(err)
		}
		return r
	}
	if f := frame(Ones); !slices.Equal(f, []byte{0xFF, 0xFF, 0xFF, 0xFF}) {
		t.Errorf("ones: % x", f)
	}
	if f := frame(Zeros); !slices.Equal(f, make([]byte, 4)) {
		t.Errorf("zeros: % x", f)
	}
	if slices.Equal(frame(Noise), frame(Noise)) {
		t.Error("noise is the same twice")
	}
	chip.FaultNext(0, NACK)
	if _, err := id(h); err != nil {
		t.Errorf("a fault of no transactions: %v", err)
	}
}
