package sensors_test

import (
	"errors"
	"fmt"
	"slices"
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

// tapBoard is a board whose transactions, on I2C, SPI and serial ports, can be disturbed. They are
// counted from 0.
type tapBoard struct {
	*sim.Board
	n      int
	before func(n int) error       // its error becomes the transaction's; may be nil
	after  func(n int, got []byte) // may change what was read; may be nil
}

// do makes a transaction that reads into got.
func (b *tapBoard) do(got []byte, transaction func() error) error {
	n := b.n
	b.n++
	if b.before != nil {
		if err := b.before(n); err != nil {
			return err
		}
	}
	err := transaction()
	if err == nil && b.after != nil && len(got) > 0 {
		b.after(n, got)
	}
	return err
}

type tapBus struct {
	i2c.BusCloser
	b *tapBoard
}

func (b *tapBoard) Bus(name string) (i2c.BusCloser, error) {
	bus, err := b.Board.Bus(name)
	return tapBus{bus, b}, err
}

func (c tapBus) Tx(addr uint16, w, r []byte) error {
	return c.b.do(r, func() error { return c.BusCloser.Tx(addr, w, r) })
}

type tapSPI struct {
	board.SPI
	b *tapBoard
}

func (b *tapBoard) SPI(c board.SPIConfig) (board.SPI, error) {
	dev, err := b.Board.SPI(c)
	return tapSPI{dev, b}, err
}

func (c tapSPI) Tx(w, r []byte) error {
	return c.b.do(r, func() error { return c.SPI.Tx(w, r) })
}

type tapSerial struct {
	board.Serial
	b *tapBoard
}

func (b *tapBoard) Serial(c board.SerialConfig) (board.Serial, error) {
	port, err := b.Board.Serial(c)
	return tapSerial{port, b}, err
}

func (c tapSerial) Write(p []byte) error {
	return c.b.do(nil, func() error { return c.Serial.Write(p) })
}

func (c tapSerial) Read(p []byte, within time.Duration) (n int, err error) {
	err = c.b.do(p, func() error {
		n, err = c.Serial.Read(p, within)
		return err
	})
	return n, err
}

// overWired runs a test in a synctest bubble for each chip on a bus or a port.
func overWired(t *testing.T, test func(*testing.T, sensors.Chip)) {
	for _, c := range sensors.Catalog() {
		f := fixtures[c.Name]
		if p := f.config.Place(); f.chip == nil && p.SPI == "" && p.Port == "" {
			continue
		}
		t.Run(c.Name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { test(t, c) })
		})
	}
}

// placeWired puts a chip on a bus or a port of a new board.
func placeWired(t *testing.T, c sensors.Chip) (*tapBoard, *sim.Chip, sensors.Config) {
	t.Helper()
	b, chip, cfg := place(t, c)
	if p := cfg.Place(); chip == nil {
		chip = b.PortChip(p.SPI + p.Port)
	}
	return &tapBoard{Board: b}, chip, cfg
}

// The chip, or the wire, fails at each transaction in turn, from then on or only once. The error
// wraps the reason, and there is never a wrong value.
func TestWiredCutAnywhere(t *testing.T) {
	nack := fmt.Errorf("%w (%w)", board.ErrAbsent, syscall.ENXIO)
	for name, reason := range map[string]error{"again": syscall.EAGAIN, "eio": syscall.EIO, "timeout": syscall.ETIMEDOUT, "nack": nack} {
		t.Run(name, func(t *testing.T) {
			overWired(t, func(t *testing.T, c sensors.Chip) {
				if name == "nack" && c.Addresses == nil {
					return // only I2C has acknowledgements
				}
				for _, once := range []bool{false, true} {
					cutAnywhere(t, c, reason, once)
				}
			})
		})
	}
}

func cutAnywhere(t *testing.T, c sensors.Chip, reason error, once bool) {
	t.Helper()
	b, _, cfg := placeWired(t, c)
	want := mustSense(t, c, mustOpen(t, c, b, cfg))
	for at := range 200 {
		b, _, cfg := placeWired(t, c)
		b.before = func(n int) error {
			if n == at || n > at && !once {
				return fmt.Errorf("cut: %w", reason)
			}
			return nil
		}
		s, err := c.Open(b, cfg)
		var fields []sensors.Field
		if err == nil {
			fields, err = sense(c, s)
		}
		over := b.n <= at
		switch {
		case err == nil && !over && !once:
			t.Fatalf("cut at %d of %d: %v", at, b.n, fields)
		case err == nil && !near(fields, want):
			t.Fatalf("cut at %d: %v, want %v", at, fields, want)
		case err != nil && !errors.Is(err, reason) && !errors.Is(err, sensors.ErrFault):
			t.Fatalf("cut at %d: %v, want %v", at, err, reason)
		case err != nil && !once && !errors.Is(err, reason):
			t.Fatalf("cut at %d for good: %v, want %v", at, err, reason)
		case err != nil && fields != nil:
			t.Fatalf("cut at %d: %v and %v", at, fields, err)
		}
		if s != nil {
			s.Close()
		}
		if over {
			return
		}
	}
	t.Fatal("no reading within 200 transactions")
}

// What TestContractFaults shows for I2C holds on every wire.
func TestWiredFaults(t *testing.T) {
	for _, f := range []struct {
		name  string
		fault sim.Fault
		want  error // nil: an error or a plausible value
	}{
		{"silent", sim.NACK, sensors.ErrAbsent},
		{"eio", sim.EIO, syscall.EIO},
		{"ones", sim.Ones, sensors.ErrFault},
		{"zeros", sim.Zeros, sensors.ErrFault},
		{"noise", sim.Noise, nil},
	} {
		t.Run(f.name, func(t *testing.T) {
			overWired(t, func(t *testing.T, c sensors.Chip) {
				b, chip, cfg := placeWired(t, c)
				if c.Addresses != nil || f.fault == sim.NACK && cfg.Place().SPI != "" {
					return // in TestContractFaults; SPI has no silence
				}
				for range 50 {
					s := mustOpen(t, c, b, cfg)
					mustSense(t, c, s)
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
				}
			})
		})
	}
}

// A chip on any wire loses its power, or is exchanged, before each transaction in turn: its values
// are right or missing.
func TestWiredSetupLost(t *testing.T) {
	for name, lose := range map[string]func(*sim.Chip){
		"power": (*sim.Chip).PowerCycle, "exchanged": (*sim.Chip).Exchange,
	} {
		t.Run(name, func(t *testing.T) {
			overWired(t, func(t *testing.T, c sensors.Chip) {
				for at := range 200 {
					b, chip, cfg := placeWired(t, c)
					want := mustSense(t, c, mustOpen(t, c, b, cfg))
					b.n, b.before = 0, func(n int) error {
						if n == at {
							lose(chip)
						}
						return nil
					}
					s, err := c.Open(b, cfg)
					for range 3 {
						if err != nil && !errors.Is(err, sensors.ErrFault) && !errors.Is(err, sensors.ErrAbsent) {
							t.Fatalf("lost before transaction %d: %v", at, err)
						}
						if s == nil {
							break
						}
						var fields []sensors.Field
						if fields, err = sense(c, s); err == nil && !near(fields, want) {
							t.Fatalf("lost before transaction %d: %v, want %v", at, fields, want)
						}
					}
					if s != nil {
						s.Close()
					}
					over := b.n <= at
					if b.before = nil; !near(mustSense(t, c, mustOpen(t, c, b, cfg)), want) {
						t.Fatalf("lost before transaction %d: not well again", at)
					}
					if over {
						return
					}
				}
				t.Fatal("opened and read three times within 200 transactions")
			})
		})
	}
}

// noChecksum are the chips whose values have no checksum and are read once, with what that means:
// a wrong byte in a value is a wrong value, in that reading only.
var noChecksum = []string{
	"ads1015", "ads1115", "aht10", "bh1750", "bme280", "bme680", "bmp180", "bmp280", "bmp388", "bmp390",
	"ezodo", "ezoec", "ezoorp", "ezoph", "ezortd", "ina219", "ina226", "ina260", "ina3221",
	"lm75", "lm75b", "max31855", "max31865", "max6675",
	"mcp3008", "mcp3208", // all bits of a value come twice, but for the lowest
	"mcp9808", "pct2075", "tmp102", "tmp117",
	"tsl2561", "tsl2591", "veml7700",
}

// One bit of one byte that is read is wrong, once: each byte of each transaction in turn, while the
// chip is opened or read. If the chip has a checksum, there is no wrong value. Otherwise there is
// at most one: settings, identities and calibrations that were read wrongly are not kept.
func TestWiredFlippedByte(t *testing.T) {
	overWired(t, func(t *testing.T, c sensors.Chip) {
		wrong := 0
		for at, i, bit := 0, 0, 0; ; bit += 3 {
			b, _, cfg := placeWired(t, c)
			want := mustSense(t, c, mustOpen(t, c, b, cfg))
			more, flipped := false, false
			b.n, b.after = 0, func(n int, got []byte) {
				if n == at && i < len(got) {
					got[i] ^= 1 << (bit % 8)
					more, flipped = i+1 < len(got), true
				}
			}
			s, err := c.Open(b, cfg)
			opened := b.n
			for reading := 0; err == nil && reading < 3; reading++ {
				before := b.n
				var fields []sensors.Field
				if fields, err = sense(c, s); err != nil {
					break
				}
				for _, f := range fields {
					if err := possible(s, f); err != nil {
						t.Fatalf("byte %d of transaction %d: %v", i, at, err)
					}
				}
				if near(fields, onlyOf(want, fields)) {
					continue
				}
				wrong++
				if at < before || at >= b.n {
					t.Fatalf("byte %d of transaction %d (%d to open) was wrong, and reading %d is %v, want %v", i, at, opened, reading, fields, want)
				}
			}
			if err != nil && !errors.Is(err, sensors.ErrFault) && !errors.Is(err, sensors.ErrAbsent) {
				t.Fatalf("byte %d of transaction %d: %v", i, at, err)
			}
			if s != nil {
				s.Close()
			}
			switch {
			case more:
				i++
			case !flipped && b.n <= at:
				if has := !slices.Contains(noChecksum, c.Name); has != (wrong == 0) {
					t.Errorf("%d wrong values; it is listed as having a checksum: %v", wrong, has)
				}
				return
			default:
				at, i = at+1, 0
			}
		}
	})
}

// possible checks a field against the sensor's quantities.
func possible(s sensors.Sensor, f sensors.Field) error {
	for _, q := range s.Quantities() {
		if v, ok := f.Value.(float64); ok && q.Name == f.Name && v >= q.Min && v <= q.Max {
			return nil
		}
	}
	return fmt.Errorf("%+v is none of %+v", f, s.Quantities())
}

// onlyOf returns the fields that have the names of others: a chip leaves out a value that it
// marks as not measured.
func onlyOf(fields, others []sensors.Field) (some []sensors.Field) {
	for _, f := range fields {
		if slices.ContainsFunc(others, func(o sensors.Field) bool { return o.Name == f.Name }) {
			some = append(some, f)
		}
	}
	return some
}

// Two chips have the same address: both hear, and each bit that one of them pulls low is low. The
// driver gives an error or a possible value, in bounded time, and is well once the other chip is
// gone.
func TestWiredAddressClash(t *testing.T) {
	for _, other := range sensors.Catalog() {
		if other.Addresses == nil {
			continue
		}
		t.Run("with "+other.Name, func(t *testing.T) {
			overWired(t, func(t *testing.T, c sensors.Chip) {
				if c.Addresses == nil || !slices.Contains(other.Addresses, c.Addresses[0]) {
					return
				}
				b, _, cfg := place(t, c)
				want := mustSense(t, c, mustOpen(t, c, b, cfg))
				second := sim.New()
				if !second.AddBus("i2c-1").AddChip(other.Name, c.Addresses[0]) {
					return
				}
				both := &clashBoard{b, second}
				for range 5 {
					s, err := c.Open(both, cfg)
					for range 3 {
						var fields []sensors.Field
						if err == nil {
							fields, err = sense(c, s)
						}
						if err == nil {
							err = fits(s, fields)
						} else if !errors.Is(err, sensors.ErrFault) && !errors.Is(err, sensors.ErrAbsent) {
							t.Fatalf("%v", err)
						}
					}
					if s != nil {
						s.Close()
					}
				}
				if got := mustSense(t, c, mustOpen(t, c, b, cfg)); !near(got, want) {
					t.Errorf("alone again: %v, want %v", got, want)
				}
			})
		})
	}
}

// clashBoard is a board with a second chip at each address, that of another board.
type clashBoard struct {
	*sim.Board
	second *sim.Board
}

type clashBus struct {
	i2c.BusCloser
	second i2c.BusCloser
}

func (b *clashBoard) Bus(name string) (i2c.BusCloser, error) {
	first, err1 := b.Board.Bus(name)
	second, err2 := b.second.Bus(name)
	return clashBus{first, second}, errors.Join(err1, err2)
}

func (c clashBus) Tx(addr uint16, w, r []byte) error {
	other := make([]byte, len(r))
	err, err2 := c.BusCloser.Tx(addr, w, r), c.second.Tx(addr, w, other)
	switch {
	case err2 != nil:
		return err
	case err != nil:
		copy(r, other)
		return nil
	}
	for i := range r {
		r[i] &= other[i]
	}
	return nil
}

// noStatus are the chips without a status that could be stuck, with what they have instead.
var noStatus = map[string]string{
	"bh1750": "the conversion's longest time is waited for",
	"lm75":   "the first conversion's time is waited for, and then the value is the newest", "lm75b": "as lm75", "pct2075": "as lm75", "mcp9808": "as lm75",
	"max31855": "it converts all the time", "max6675": "it converts all the time", "mlx90614": "it converts all the time",
	"max31865": "the conversion's longest time is waited for",
	"mcp3008":  "it converts while it is read", "mcp3208": "it converts while it is read",
	"veml7700": "the integration time is waited for", "tsl2561": "the integration time is waited for",
	"mhz19": "the answer to a question is the newest value", "pms5003": "as mhz19", "sds011": "as mhz19",
	"modbus": "as mhz19", "pzem004t": "as mhz19", "sdm120": "as mhz19", "sdm230": "as mhz19", "sdm630": "as mhz19",
}

// A status that never changes, of a measurement that does not end, is a fault within the chip's
// time, and never an old value.
func TestWiredStuckStatus(t *testing.T) {
	overWired(t, func(t *testing.T, c sensors.Chip) {
		b, chip, cfg := placeWired(t, c)
		s := mustOpen(t, c, b, cfg)
		want := mustSense(t, c, s)
		if noStatus[c.Name] != "" {
			return
		}
		if !chip.Freeze(true) {
			t.Fatal("the simulated chip has no status that could be stuck, and the chip is not in noStatus")
		}
		began := time.Now()
		fields, err := sense(c, s)
		if !errors.Is(err, sensors.ErrFault) || fields != nil {
			t.Errorf("%v, %v, want %v", fields, err, sensors.ErrFault)
		}
		if took, most := time.Since(began), c.Worst+c.WarmUp+2*time.Second; took > most {
			t.Errorf("it took %v, want %v at most", took, most)
		}
		s.Close()
		if s, err := c.Open(b, cfg); err == nil {
			if fields, err := sense(c, s); !errors.Is(err, sensors.ErrFault) || fields != nil {
				t.Errorf("opened again: %v, %v", fields, err)
			}
			s.Close()
		} else if !errors.Is(err, sensors.ErrFault) {
			t.Errorf("open: %v", err)
		}
		chip.Freeze(false)
		if got := mustSense(t, c, mustOpen(t, c, b, cfg)); !near(got, want) {
			t.Errorf("well again: %v, want %v", got, want)
		}
	})
}

// A slow bus, of which each transaction takes 50 ms, gives the same values.
func TestWiredSlow(t *testing.T) {
	overWired(t, func(t *testing.T, c sensors.Chip) {
		b, _, cfg := placeWired(t, c)
		want := mustSense(t, c, mustOpen(t, c, b, cfg))
		b.n, b.before = 0, func(int) error {
			<-time.After(50 * time.Millisecond)
			return nil
		}
		began := time.Now()
		s := mustOpen(t, c, b, cfg)
		for range 3 {
			if got := mustSense(t, c, s); !near(got, want) {
				t.Errorf("%v, want %v", got, want)
			}
		}
		if took, most := time.Since(began), 4*c.Worst+3*c.WarmUp+4*time.Second+time.Duration(b.n)*50*time.Millisecond; took > most {
			t.Errorf("%d transactions took %v, want %v at most", b.n, took, most)
		}
		if err := s.Close(); err != nil {
			t.Error(strings.TrimSpace(err.Error()))
		}
	})
}
