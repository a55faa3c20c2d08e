package sensors_test

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"periph.io/x/conn/v3/i2c"

	"fieldpost/sensors"
	"fieldpost/sensors/board"
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
		mustSense(t, c, mustOpen(t, c, b, cfg)) // Close has released everything
	})
}

// pausingBoard lets drivers wait for longer than they ask for.
type pausingBoard struct {
	*sim.Board
	longer time.Duration
	paused time.Duration
}

func (b *pausingBoard) Pause(d time.Duration) {
	b.paused += d + b.longer
	<-time.After(d + b.longer)
}

// All waits of drivers on I2C are their board's, and may be somewhat longer than asked for.
func TestContractPauses(t *testing.T) {
	overCatalog(t, true, func(t *testing.T, c sensors.Chip) {
		b, _, cfg := place(t, c)
		p := &pausingBoard{b, 20 * time.Millisecond, 0}
		began := time.Now()
		s := mustOpen(t, c, p, cfg)
		for range 3 {
			mustSense(t, c, s)
		}
		if err := s.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
		if took := time.Since(began); took > p.paused && c.WarmUp == 0 {
			t.Errorf("it took %v, of which %v are pauses of the board", took, p.paused)
		}
	})
}

func TestContractAbsent(t *testing.T) {
	overCatalog(t, false, func(t *testing.T, c sensors.Chip) {
		b, chip, cfg := place(t, c)
		cut := fixtures[c.Name].cut
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
		s.Close() // may fail because nothing answers, but must release the line
		if _, err := c.Open(b, cfg); !errors.Is(err, sensors.ErrAbsent) {
			t.Errorf("open of what is gone: %v, want %v", err, sensors.ErrAbsent)
		}
		cut(t, b, false)
		mustSense(t, c, mustOpen(t, c, b, cfg))
	})
}

// Any answer of a chip becomes an error of the right kind or a reading within the
// datasheet's range. After that Open finds the chip working again.
func TestContractFaults(t *testing.T) {
	for _, f := range []struct {
		name  string
		fault sim.Fault
		want  error // nil: an error or a plausible value
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
				f := f
				if f.fault == sim.Zeros && fixtures[c.Name].zeros {
					f.want = nil
				}
				for range 200 {
					chip.Fault(f.fault)
					checkOutcome(t, c, f.want, "sense", s)
					s.Close()
					if s, err := c.Open(b, cfg); err != nil {
						checkErrorIs(t, f.want, "open", err)
					} else {
						checkOutcome(t, c, f.want, "sense after open", s)
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

func checkOutcome(t *testing.T, c sensors.Chip, want error, verb string, s sensors.Sensor) {
	t.Helper()
	fields, err := sense(c, s)
	if err != nil {
		checkErrorIs(t, want, verb, err)
		return
	}
	if want != nil {
		t.Errorf("%s gave %v, want an error that is %v", verb, fields, want)
	}
	if err := fits(s, fields); err != nil {
		t.Errorf("%s: %v", verb, err)
	}
}

func checkErrorIs(t *testing.T, want error, verb string, err error) {
	t.Helper()
	if want == nil {
		want = sensors.ErrFault
	}
	if !errors.Is(err, want) {
		t.Errorf("%s: %v, want %v", verb, err, want)
	}
}

// hookBoard is a board that calls hook before a transaction on one of its buses.
type hookBoard struct {
	*sim.Board
	left int          // transactions before the call
	hook func() error // its error becomes the transaction's
}

type hookBus struct {
	i2c.BusCloser
	b *hookBoard
}

func (b *hookBoard) Bus(name string) (i2c.BusCloser, error) {
	bus, err := b.Board.Bus(name)
	return &hookBus{bus, b}, err
}

func (c *hookBus) Tx(addr uint16, w, r []byte) error {
	if c.b.left > 0 {
		c.b.left--
	} else if c.b.hook != nil {
		if err := c.b.hook(); err != nil {
			return err
		}
	}
	return c.BusCloser.Tx(addr, w, r)
}

// The bus fails at each transaction in turn. The error wraps the errno, and there is
// never a value.
func TestContractCutAnywhere(t *testing.T) {
	overCatalog(t, true, func(t *testing.T, c sensors.Chip) {
		for n := range 100 {
			inner, _, cfg := place(t, c)
			b := &hookBoard{inner, n, func() error { return fmt.Errorf("cut: %w", syscall.EAGAIN) }}
			s, err := c.Open(b, cfg)
			if err != nil {
				if !errors.Is(err, syscall.EAGAIN) {
					t.Fatalf("open, cut after %d: %v", n, err)
				}
				continue
			}
			fields, err := sense(c, s)
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

// A chip loses its power or is exchanged before any transaction: between two readings, in
// one, or while it is opened. It never returns a value by the old settings: values are
// right or missing until it is opened again, and right after that.
func TestContractSetupLost(t *testing.T) {
	for name, lose := range map[string]func(*sim.Chip){
		"power": (*sim.Chip).PowerCycle, "exchanged": (*sim.Chip).Exchange,
	} {
		t.Run(name, func(t *testing.T) {
			overCatalog(t, true, func(t *testing.T, c sensors.Chip) {
				for n := range 100 {
					if !loseSetup(t, c, n, lose) {
						return
					}
				}
				t.Fatal("opened and read three times within 100 transactions")
			})
		})
	}
}

// loseSetup makes the chip lose its settings before transaction n, counted from its
// opening. It reports whether there were that many transactions.
func loseSetup(t *testing.T, c sensors.Chip, n int, lose func(*sim.Chip)) (lost bool) {
	t.Helper()
	inner, chip, cfg := place(t, c)
	want := mustSense(t, c, mustOpen(t, c, inner, cfg))
	b := &hookBoard{Board: inner, left: n}
	b.hook = func() error {
		lose(chip)
		b.hook, lost = nil, true
		return nil
	}
	s, err := c.Open(b, cfg)
	for range 3 {
		if err != nil && !errors.Is(err, sensors.ErrFault) {
			t.Fatalf("lost before transaction %d: %v, want %v", n, err, sensors.ErrFault)
		}
		if s == nil {
			break
		}
		var fields []sensors.Field
		if fields, err = sense(c, s); err == nil && !near(fields, want) {
			t.Fatalf("lost before transaction %d: %v, want %v", n, fields, want)
		}
	}
	if s != nil {
		s.Close()
	}
	b.hook = nil
	s = mustOpen(t, c, b, cfg)
	defer s.Close()
	if got := mustSense(t, c, s); !near(got, want) {
		t.Fatalf("lost before transaction %d, opened again: %v, want %v", n, got, want)
	}
	return lost
}

// A setting that another program has changed counts as lost.
func TestContractSetupChanged(t *testing.T) {
	for name, write := range map[string][]byte{
		"bme280": {0xF2, 0}, "bmp280": {0xF5, 0x10}, "tmp102": {1, 0x60, 0x90}, "lm75": {1, 0x02}, "lm75b": {1, 0x01}, "sht3x": {0x30, 0x6D}, "bmp388": {0x1C, 0}, "bme680": {0x72, 1}, "mcp9808": {1, 1, 0}, "hdc302x": {0x30, 0x6D}, "si7021": {0xE6, 0x3E}, "htu21d": {0xE6, 0x06},
	} {
		c, ok := sensors.Lookup(name)
		if !ok {
			t.Fatalf("no %s", name)
		}
		synctest.Test(t, func(t *testing.T) {
			b, _, cfg := place(t, c)
			s := mustOpen(t, c, b, cfg)
			mustSense(t, c, s)
			bus, err := b.Bus("i2c-1")
			if err != nil {
				t.Fatal(err)
			}
			if err := bus.Tx(c.Addresses[0], write, nil); err != nil {
				t.Fatal(err)
			}
			if f, err := s.Sense(); !errors.Is(err, sensors.ErrFault) || !strings.Contains(err.Error(), "was set to") {
				t.Errorf("%s: %v, %v, want ErrFault", name, f, err)
			}
			s.Close()
			mustSense(t, c, mustOpen(t, c, b, cfg))
		})
	}
}

// Look returns the error that Open will return because of the board, and makes no
// transaction.
func TestContractLook(t *testing.T) {
	overCatalog(t, false, func(t *testing.T, c sensors.Chip) {
		b, chip, cfg := place(t, c)
		if err := c.Look(b, cfg); err != nil {
			t.Errorf("what is there: %v", err)
		}
		s := mustOpen(t, c, b, cfg)
		if err := c.Look(b, cfg); err != nil {
			t.Errorf("what we have open: %v", err)
		}
		s.Close()
		elsewhere := cfg
		switch {
		case chip != nil:
			bus := b.AddBus("i2c-1")
			before := bus.Transactions()
			chip.Fault(sim.NACK)
			if err := c.Look(b, cfg); err != nil || bus.Transactions() != before {
				t.Errorf("a chip that is away: %v, %d transactions", err, bus.Transactions()-before)
			}
			elsewhere.Options = sensors.I2C{Bus: "i2c-7"}
		case cfg.Place().Pin != "":
			elsewhere.Options = sensors.GPIO{Pin: "GPIO99"}
			b.Line(cfg.Place().Pin).Hold("gpio-keys")
			var busy *board.BusyError
			if err := c.Look(b, cfg); !errors.As(err, &busy) || busy.Holder != "gpio-keys" {
				t.Errorf("held by somebody: %v", err)
			}
		default:
			elsewhere.Options = fixtures[c.Name].nowhere
		}
		if err := c.Look(b, elsewhere); !errors.Is(err, sensors.ErrAbsent) && cfg.Place().Pin == "" || err == nil {
			t.Errorf("what is not there: %v, want %v", err, sensors.ErrAbsent)
		}
	})
}

// A chip that a kernel driver owns is refused, with the driver's name, before any
// transaction, so that neither its settings nor the driver are disturbed.
func TestContractKernelOwns(t *testing.T) {
	overCatalog(t, true, func(t *testing.T, c sensors.Chip) {
		b, chip, cfg := place(t, c)
		bus := b.AddBus("i2c-1")
		said := 0
		chip.OnTransaction(func() { said++ })
		s := mustOpen(t, c, b, cfg)
		mustSense(t, c, s)
		bus.Own(c.Addresses[0], "lm75")
		said = 0
		var owned *board.OwnedError
		if f, err := s.Sense(); !errors.As(err, &owned) || f != nil { // the driver was bound after Open
			t.Errorf("sense: %v, %v", f, err)
		}
		s.Close()
		for verb, err := range map[string]error{"open": second(c.Open(b, cfg)), "look": c.Look(b, cfg)} {
			if !errors.As(err, &owned) || owned.Driver != "lm75" || !strings.Contains(err.Error(), "driver lm75") {
				t.Errorf("%s: %v, want an error that names the driver", verb, err)
			}
		}
		if said > 0 {
			t.Errorf("%d transactions with the kernel's chip", said)
		}
		bus.Own(c.Addresses[0], "")
		mustSense(t, c, mustOpen(t, c, b, cfg))
	})
}

func second(_ sensors.Sensor, err error) error { return err }

// near compares two readings of the same air, because chips have different resolutions.
func near(a, b []sensors.Field) bool {
	steps := map[string]float64{"temperature": 0.0101, "humidity": 0.05, "pressure": 2}
	for i := range a {
		if d := a[i].Value.(float64) - b[i].Value.(float64); d > steps[a[i].Name] || -d > steps[a[i].Name] {
			return false
		}
	}
	return len(a) == len(b)
}
