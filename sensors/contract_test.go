package sensors_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"testing/synctest"

	"periph.io/x/conn/v3/i2c"

	"fieldpost/sensors"
	"fieldpost/sensors/board"
	"fieldpost/sensors/sim"
)

// rig is how the contract reaches a chip: a place for it on a simulated board
// and a way to take it away and bring it back.
type rig struct {
	config sensors.Config
	chip   func(*sim.Bus) *sim.Chip           // an I2C chip, on i2c-1
	set    func(*testing.T, *sim.Board)       // anything else
	cut    func(*testing.T, *sim.Board, bool) // takes it away, or brings it back
}

// rigs has one for every chip of the catalog.
var rigs = map[string]rig{
	"bme280": {chip: func(b *sim.Bus) *sim.Chip { return b.AddBME280(0x76).Chip }},
	"bmp280": {chip: func(b *sim.Bus) *sim.Chip { return b.AddBMP280(0x76).Chip }},
	"tmp102": {chip: func(b *sim.Bus) *sim.Chip { return b.AddTMP102(0x48).Chip }},
	"lm75":   {chip: func(b *sim.Bus) *sim.Chip { return b.AddLM75(0x48, 9).Chip }},
	"lm75b":  {chip: func(b *sim.Bus) *sim.Chip { return b.AddLM75(0x48, 11).Chip }},
	"gpio": {
		config: sensors.Config{Pin: "GPIO17"},
		cut: func(t *testing.T, b *sim.Board, away bool) {
			b.Line("GPIO17").Fail(nil)
			if away {
				b.Line("GPIO17").Fail(sensors.ErrAbsent)
			}
		},
	},
	"thermal": {
		set: setThermal,
		cut: func(t *testing.T, b *sim.Board, away bool) {
			if !away {
				setThermal(t, b)
				return
			}
			if err := os.RemoveAll(filepath.Join(b.Root(), "sys/class/thermal/thermal_zone0")); err != nil {
				t.Fatal(err)
			}
		},
	},
}

func setThermal(t *testing.T, b *sim.Board) {
	if err := b.WriteThermal(0, "cpu-thermal", 48.312); err != nil {
		t.Fatal(err)
	}
}

// place puts the chip of a catalog entry on a new board.
func place(t *testing.T, c sensors.Chip) (*sim.Board, *sim.Chip, sensors.Config) {
	t.Helper()
	r, ok := rigs[c.Name]
	if !ok {
		t.Fatalf("chip %q has no rig: the contract cannot be tested on it", c.Name)
	}
	b := sim.New()
	b.SetRoot(t.TempDir())
	cfg := r.config
	cfg.Name, cfg.Chip = "it", c.Name
	var chip *sim.Chip
	if r.chip != nil {
		cfg.Bus = "i2c-1"
		chip = r.chip(b.AddBus(cfg.Bus))
	}
	if r.set != nil {
		r.set(t, b)
	}
	return b, chip, cfg
}

// overCatalog runs a test in a bubble for each chip; the i2c ones only, or all.
func overCatalog(t *testing.T, i2cOnly bool, test func(*testing.T, sensors.Chip)) {
	for _, c := range sensors.Catalog() {
		if i2cOnly && c.Addresses == nil {
			continue
		}
		t.Run(c.Name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { test(t, c) })
		})
	}
}

func mustOpen(t *testing.T, c sensors.Chip, b board.Board, cfg sensors.Config) sensors.Sensor {
	t.Helper()
	s, err := c.Open(b, cfg)
	if err != nil {
		t.Fatalf("open: %v", err)
	}
	return s
}

func mustSense(t *testing.T, c sensors.Chip, s sensors.Sensor) []sensors.Field {
	t.Helper()
	fields, err := s.Sense()
	if err != nil {
		t.Fatalf("sense: %v", err)
	}
	if err := fits(c, fields); err != nil {
		t.Fatal(err)
	}
	return fields
}

// fits checks fields against the catalog: names, order and range.
func fits(c sensors.Chip, fields []sensors.Field) error {
	if len(fields) != len(c.Quantities) {
		return fmt.Errorf("%d fields, want %d", len(fields), len(c.Quantities))
	}
	for i, q := range c.Quantities {
		f := fields[i]
		if f.Name != q.Name {
			return fmt.Errorf("field %d is %q, want %q", i, f.Name, q.Name)
		}
		switch v := f.Value.(type) {
		case bool:
		case float64:
			if !(v >= q.Min && v <= q.Max) {
				return fmt.Errorf("%s is %g, want %g to %g", f.Name, v, q.Min, q.Max)
			}
		default:
			return fmt.Errorf("%s is a %T", f.Name, v)
		}
	}
	return nil
}

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
		return fmt.Errorf("cut: %w", syscall.EREMOTEIO)
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
				if !errors.Is(err, syscall.EREMOTEIO) {
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
			if !errors.Is(err, syscall.EREMOTEIO) || fields != nil {
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
