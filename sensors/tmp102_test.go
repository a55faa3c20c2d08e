package sensors

import (
	"errors"
	"strings"
	"testing"
	"testing/synctest"

	"periph.io/x/conn/v3/i2c"
	"periph.io/x/conn/v3/i2c/i2ctest"

	"fieldpost/sensors/sim"
)

// playbackBoard is a board whose bus plays back a recording.
type playbackBoard struct {
	*sim.Board
	i2ctest.Playback
}

func (p *playbackBoard) Bus(string) (i2c.BusCloser, error) { return &p.Playback, nil }

// String returns the board's name.
func (p *playbackBoard) String() string { return p.Board.String() }

// playback returns a board with the recorded traffic of a chip at 0x48.
func playback(ops ...i2ctest.IO) *playbackBoard {
	for i := range ops {
		ops[i].Addr = 0x48
	}
	return &playbackBoard{sim.New(), i2ctest.Playback{Ops: ops, DontPanic: true}}
}

// The 13-bit format, SBOS397C, table 6.
var tmp102Examples = []struct {
	reg     uint16 // without the bit of extended mode
	celsius float64
}{
	{0x0960, 150}, {0x0800, 128}, {0x07FF, 127.9375}, {0x0640, 100}, {0x0500, 80}, {0x04B0, 75},
	{0x0320, 50}, {0x0190, 25}, {0x0004, 0.25}, {0x0000, 0}, {0x1FFC, -0.25}, {0x1E70, -25}, {0x1C90, -55},
}

func TestTMP102Celsius(t *testing.T) {
	for _, c := range tmp102Examples {
		if got, err := tmp102Celsius(c.reg<<3 | 1); err != nil || got != c.celsius {
			t.Errorf("%#04x: %g, %v, want %g", c.reg, got, err, c.celsius)
		}
	}
	for _, reg := range []uint16{0x0000, 0xFFFF, 0x1900, 0x1903, 0x1905} {
		if got, err := tmp102Celsius(reg); !errors.Is(err, ErrFault) {
			t.Errorf("%#04x: %g, %v, want ErrFault", reg, got, err)
		}
	}
}

// Opening, reading and closing, transaction by transaction, with the datasheet's examples
// as measurements.
func TestTMP102Traffic(t *testing.T) {
	conf := func(hi, lo byte) i2ctest.IO { return i2ctest.IO{W: []byte{1}, R: []byte{hi, lo}} }
	for _, c := range tmp102Examples {
		synctest.Test(t, func(t *testing.T) {
			reg := c.reg<<3 | 1
			p := playback(
				conf(0x64, 0xA0), // power-on, and a fault queue set by another program
				i2ctest.IO{W: []byte{1, 0x05, 0x90}},
				conf(0xE5, 0xB0),
				i2ctest.IO{W: []byte{1, 0x85, 0x90}},
				conf(0x65, 0xB0), // still converting
				conf(0xE5, 0xB0),
				i2ctest.IO{W: []byte{0}, R: []byte{byte(reg >> 8), byte(reg)}},
				i2ctest.IO{W: []byte{1, 0x05, 0x90}},
			)
			s, err := tmp102.Open(p, Config{Chip: "tmp102", Options: I2C{Bus: "i2c-1"}})
			if err != nil {
				t.Fatal(err)
			}
			f, err := s.Sense()
			if err != nil || f[0].Value != c.celsius {
				t.Errorf("%v, %v, want %g", f, err, c.celsius)
			}
			if err := s.Close(); err != nil {
				t.Errorf("close: %v", err)
			}
		})
	}
}

func TestTMP102Stuck(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := sim.New()
		chip := b.AddBus("i2c-1").AddTMP102(0x4B)
		s, err := tmp102.Open(b, Config{Chip: "tmp102", Options: I2C{Bus: "i2c-1", Address: 0x4B}})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := s.Sense(); err != nil {
			t.Fatal(err)
		}
		chip.FreezeConversion(true)
		if f, err := s.Sense(); !errors.Is(err, ErrFault) || f != nil {
			t.Errorf("%v, %v, want ErrFault", f, err)
		}
		chip.FreezeConversion(false)
		chip.SetTemperature(-40.0625)
		if f, err := s.Sense(); err != nil || f[0].Value != -40.0625 {
			t.Errorf("%v, %v once it is free", f, err)
		}
	})
}

// Zero degrees are a value, but a frame of zeros is not.
func TestTMP102Zero(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := sim.New()
		b.AddBus("i2c-1").AddTMP102(0x48).SetTemperature(0)
		s, err := tmp102.Open(b, Config{Chip: "tmp102", Options: I2C{Bus: "i2c-1"}})
		if err != nil {
			t.Fatal(err)
		}
		if f, err := s.Sense(); err != nil || f[0].Value != 0.0 {
			t.Errorf("%v, %v, want 0", f, err)
		}
	})
}

// Another chip at the address: an LM75 has no such configuration.
func TestTMP102Mistaken(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := sim.New()
		b.AddBus("i2c-1").AddLM75(0x48, 11)
		_, err := tmp102.Open(b, Config{Chip: "tmp102", Options: I2C{Bus: "i2c-1"}})
		if !errors.Is(err, ErrFault) || !strings.Contains(err.Error(), "not a TMP102's") {
			t.Errorf("%v, want ErrFault", err)
		}
	})
}

// Every register value is refused or is within the format's range, in sixteenths.
func FuzzTMP102(f *testing.F) {
	for _, c := range tmp102Examples {
		f.Add(c.reg<<3 | 1)
	}
	f.Add(uint16(0xFFFF))
	f.Fuzz(func(t *testing.T, reg uint16) {
		v, err := tmp102Celsius(reg)
		if err == nil && (v < -256 || v >= 256 || v*16 != float64(int(v*16))) {
			t.Errorf("%#04x: %g", reg, v)
		}
	})
}
