package sensors_test

import (
	"errors"
	"fmt"
	"os"
	"syscall"
	"testing"

	"periph.io/x/conn/v3/i2c"

	"fieldpost/sensors"
	"fieldpost/sensors/sim"
)

func TestContractReads(t *testing.T) {
	overCatalog(t, false, func(t *testing.T, c sensors.Chip) {
		b, _, cfg := place(t, c)
		s := mustOpen(t, c, b, cfg)
		for range 3 {
			mustSense(t, c, s)
		}
		if err := s.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
		if err := s.Close(); err != nil {
			t.Errorf("close again: %v", err)
		}
		if _, err := s.Sense(); !errors.Is(err, os.ErrClosed) {
			t.Errorf("sense after close: %v, want %v", err, os.ErrClosed)
		}
		mustSense(t, c, mustOpen(t, c, b, cfg)) // close has given everything back
	})
}

func TestContractAbsent(t *testing.T) {
	overCatalog(t, false, func(t *testing.T, c sensors.Chip) {
		b, chip, cfg := place(t, c)
		cut := rigs[c.Name].cut
		if cut == nil {
			cut = func(_ *testing.T, _ *sim.Board, away bool) {
				chip.Fault(sim.Healthy)
				if away {
					chip.Fault(sim.NACK)
				}
			}
		}
		s := mustOpen(t, c, b, cfg)
		mustSense(t, c, s)
		cut(t, b, true)
		if f, err := s.Sense(); !errors.Is(err, sensors.ErrAbsent) || f != nil {
			t.Errorf("sense of what is gone: %v, %v, want %v", f, err, sensors.ErrAbsent)
		}
		s.Close() // may say that nothing answers, must give the line back
		if _, err := c.Open(b, cfg); !errors.Is(err, sensors.ErrAbsent) {
			t.Errorf("open of what is gone: %v, want %v", err, sensors.ErrAbsent)
		}
		cut(t, b, false)
		mustSense(t, c, mustOpen(t, c, b, cfg))
	})
}

// Whatever the chip answers, it is an error of the right kind or a reading
// within the datasheet's range; and a new Open finds the chip well again.
func TestContractFaults(t *testing.T) {
	for _, f := range []struct {
		name  string
		fault sim.Fault
		want  error // nil: an error or a believable value
	}{
		{"nack", sim.NACK, sensors.ErrAbsent},
		{"timeout", sim.Timeout, syscall.ETIMEDOUT},
		{"eio", sim.EIO, syscall.EIO},
		{"ones", sim.Ones, sensors.ErrFault},
		{"zeros", sim.Zeros, sensors.ErrFault},
		{"noise", sim.Noise, nil},
	} {
		t.Run(f.name, func(t *testing.T) {
			overCatalog(t, true, func(t *testing.T, c sensors.Chip) {
				b, chip, cfg := place(t, c)
				s := mustOpen(t, c, b, cfg)
				for range 200 {
					chip.Fault(f.fault)
					judge(t, c, f.want, "sense", s)
					s.Close()
					if s, err := c.Open(b, cfg); err != nil {
						judgeError(t, f.want, "open", err)
					} else {
						judge(t, c, f.want, "sense after open", s)
						s.Close()
					}
					chip.Fault(sim.Healthy)
					s = mustOpen(t, c, b, cfg)
					mustSense(t, c, s)
				}
			})
		})
	}
}

func judge(t *testing.T, c sensors.Chip, want error, verb string, s sensors.Sensor) {
	t.Helper()
	fields, err := s.Sense()
	if err != nil {
		judgeError(t, want, verb, err)
		return
	}
	if want != nil {
		t.Errorf("%s gave %v, want an error that is %v", verb, fields, want)
	}
	if err := fits(c, fields); err != nil {
		t.Errorf("%s: %v", verb, err)
	}
}

func judgeError(t *testing.T, want error, verb string, err error) {
	t.Helper()
	if want == nil {
		want = sensors.ErrFault
	}
	if !errors.Is(err, want) {
		t.Errorf("%s: %v, want %v", verb, err, want)
	}
}

// cutBoard is a board whose buses end after so many transactions, as a wire
// that is cut in the middle of a reading.
type cutBoard struct {
	*sim.Board
	left int
}

type cutBus struct {
	i2c.BusCloser
	b *cutBoard
}

func (b *cutBoard) Bus(name string) (i2c.BusCloser, error) {
	bus, err := b.Board.Bus(name)
	return &cutBus{bus, b}, err
}

func (c *cutBus) Tx(addr uint16, w, r []byte) error {
	if c.b.left == 0 {
		return fmt.Errorf("cut: %w", syscall.EAGAIN)
	}
	c.b.left--
	return c.BusCloser.Tx(addr, w, r)
}

// The bus ends at each transaction in turn: the errno comes through, whatever
// the driver made of it, and there is never a value.
func TestContractCutAnywhere(t *testing.T) {
	overCatalog(t, true, func(t *testing.T, c sensors.Chip) {
		for n := range 100 {
			inner, _, cfg := place(t, c)
			b := &cutBoard{inner, n}
			s, err := c.Open(b, cfg)
			if err != nil {
				if !errors.Is(err, syscall.EAGAIN) {
					t.Fatalf("open, cut after %d: %v", n, err)
				}
				continue
			}
			fields, err := s.Sense()
			if err == nil {
				if n < 3 {
					t.Fatalf("a reading %v out of %d transactions", fields, n)
				}
				return
			}
			if !errors.Is(err, syscall.EAGAIN) || fields != nil {
				t.Fatalf("sense, cut after %d: %v, %v", n, fields, err)
			}
			s.Close()
		}
		t.Fatal("no reading within 100 transactions")
	})
}

// A chip that alone lost its power is read rightly or not at all, and a new
// Open always mends it.
func TestContractPowerCycle(t *testing.T) {
	overCatalog(t, true, func(t *testing.T, c sensors.Chip) {
		b, chip, cfg := place(t, c)
		s := mustOpen(t, c, b, cfg)
		want := fmt.Sprint(mustSense(t, c, s))
		chip.PowerCycle()
		if fields, err := s.Sense(); err == nil && fmt.Sprint(fields) != want {
			t.Errorf("after the power cut: %v, want %v", fields, want)
		}
		s.Close()
		s = mustOpen(t, c, b, cfg)
		if got := fmt.Sprint(mustSense(t, c, s)); got != want {
			t.Errorf("after a new open: %v, want %v", got, want)
		}
	})
}
