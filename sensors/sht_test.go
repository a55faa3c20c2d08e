package sensors

import (
	"errors"
	"math"
	"strings"
	"testing"
	"testing/synctest"

	"periph.io/x/conn/v3/i2c/i2ctest"

	"fieldpost/sensors/sim"
)

// CRC vectors of words: the data sheets' BEEF, and others.
func TestSensirionCRC(t *testing.T) {
	for word, want := range map[uint16]byte{
		0xBEEF: 0x92, 0x0000: 0x81, 0xFFFF: 0xAC, 0x0001: 0xB0, 0x0222: 0xBC, 0x6667: 0xA2, 0x01F4: 0x33, 0x5EB9: 0x3C,
		0xF896: 0x31, 0x9F07: 0xC2, 0x3BBE: 0x89, 0x648B: 0xC7, 0xA133: 0x1C, 0x8000: 0xA2, 0x8006: 0x04,
	} {
		if got := sensirionCRC([]byte{byte(word >> 8), byte(word)}); got != want {
			t.Errorf("%#04x: %#02x, want %#02x", word, got, want)
		}
	}
	for _, b := range [][]byte{{0, 0, 0}, {0xFF, 0xFF, 0xFF}, {0xBE, 0xEF, 0x93}} {
		if w, err := sensirionWords(b); !errors.Is(err, ErrFault) {
			t.Errorf("% x: %v, %v", b, w, err)
		}
	}
}

// openReadClose opens a chip on a recorded bus, reads it once and closes it.
func openReadClose(t *testing.T, c Chip, addr uint16, want []float64, ops ...i2ctest.IO) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		for i := range ops {
			ops[i].Addr = addr
		}
		p := &playbackBoard{sim.New(), i2ctest.Playback{Ops: ops, DontPanic: true}}
		s, err := c.Open(p, Config{Chip: c.Name, Options: I2C{Bus: "i2c-1", Address: addr}})
		if err != nil {
			t.Fatalf("open: %v", err)
		}
		f, err := s.Sense()
		if err != nil || len(f) != len(want) {
			t.Fatalf("%v, %v, want %v", f, err, want)
		}
		for i := range f {
			if math.Abs(f[i].Value.(float64)-want[i]) > 1e-9 {
				t.Errorf("%s is %v, want %v", f[i].Name, f[i].Value, want[i])
			}
		}
		if err := s.Close(); err != nil { // it also fails if recorded traffic is missing
			t.Errorf("close: %v", err)
		}
	})
}

// out and in are a write to a chip and a read from it.
func out(p ...byte) i2ctest.IO { return i2ctest.IO{W: p} }
func in(p ...byte) i2ctest.IO  { return i2ctest.IO{R: p} }

func TestSHTTraffic(t *testing.T) {
	status := []i2ctest.IO{out(0xF3, 0x2D), in(0x80, 0x10, 0xE1)}
	openReadClose(t, sht3x, 0x45, []float64{25, 37},
		append(append([]i2ctest.IO{out(0x30, 0x93), out(0x30, 0xA2)}, status...),
			append([]i2ctest.IO{out(0x24, 0x00), in(0x66, 0x67, 0xA2, 0x5E, 0xB9, 0x3C)}, status...)...)...)
	openReadClose(t, sht4x, 0x44, []float64{42.5, 56.5},
		out(0x94), out(0x89), in(0xBE, 0xEF, 0x92, 0x00, 0x01, 0xB0),
		out(0xFD), in(0x80, 0x00, 0xA2, 0x80, 0x00, 0xA2))
	openReadClose(t, shtc3, 0x70, []float64{23.73, 62.97},
		out(0x35, 0x17), out(0xEF, 0xC8), in(0x08, 0x87, 0x5B), out(0xB0, 0x98),
		out(0x35, 0x17), out(0x78, 0x66), in(0x64, 0x8B, 0xC7, 0xA1, 0x33, 0x1C), out(0xB0, 0x98))
}

func TestSHTConversion(t *testing.T) {
	for _, c := range []struct{ got, want float64 }{
		{celsius175(0x6667, 65535), 25.0027}, {celsius175(0, 65535), -45}, {celsius175(0xFFFF, 65535), 130}, {celsius175(0x648B, 65536), 23.730},
		{sht4xHumidity(0), 0}, {sht4xHumidity(0xFFFF), 100}, {sht4xHumidity(0x8000), 56.50},
	} {
		if math.Abs(c.got-c.want) > 0.001 {
			t.Errorf("%v, want %v", c.got, c.want)
		}
	}
}

// A measurement that never ends, a wrong checksum, and a chip of another kind at the
// address.
func TestSHTFaults(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := sim.New()
		bus := b.AddBus("i2c-1")
		chips := map[string]*sim.SHT{"sht3x": sim.AddSHT3x(bus, 0x44), "shtc3": sim.AddSHTC3(bus), "sht4x": sim.AddSHT4x(bus, 0x46)}
		for name, chip := range chips {
			c, _ := Lookup(name)
			cfg := Config{Chip: name, Options: I2C{Bus: "i2c-1"}}
			if name == "sht4x" {
				cfg.Options = I2C{Bus: "i2c-1", Address: 0x46}
			}
			s, err := c.Open(b, cfg)
			if err != nil {
				t.Fatal(err)
			}
			chip.SetAir(-12.5, 93)
			if f, err := s.Sense(); err != nil || f[0].Value != -12.5 || f[1].Value != 93.0 {
				t.Errorf("%s: %v, %v", name, f, err)
			}
			chip.FreezeConversion(true)
			if f, err := s.Sense(); !errors.Is(err, ErrFault) || f != nil || !strings.Contains(err.Error(), "does not answer") {
				t.Errorf("%s, frozen: %v, %v", name, f, err)
			}
			chip.FreezeConversion(false)
			chip.FaultNext(1, sim.Healthy)
			s.Close()
			if s, err = c.Open(b, cfg); err != nil {
				t.Fatal(err)
			}
			if f, err := s.Sense(); err != nil || len(f) != 2 {
				t.Errorf("%s, well again: %v, %v", name, f, err)
			}
		}
		sim.AddSHT4x(bus, 0x44)
		if _, err := sht3x.Open(b, Config{Chip: "sht3x", Options: I2C{Bus: "i2c-1"}}); !errors.Is(err, ErrFault) {
			t.Errorf("an SHT4x was taken for an SHT3x: %v", err)
		}
	})
}

// Words are accepted only with their checksums.
func FuzzSensirion(f *testing.F) {
	f.Add([]byte{0x66, 0x67, 0xA2, 0x5E, 0xB9, 0x3C})
	f.Fuzz(func(t *testing.T, b []byte) {
		words, err := sensirionWords(b)
		if err != nil && !errors.Is(err, ErrFault) {
			t.Errorf("% x: %v", b, err)
		}
		if err == nil && len(words) != len(b)/3 {
			t.Errorf("% x: %d words", b, len(words))
		}
	})
}

func TestHDC302xTraffic(t *testing.T) {
	status := []i2ctest.IO{out(0xF3, 0x2D), in(0x80, 0x10, 0xE1)}
	ops := append([]i2ctest.IO{out(0x30, 0x93), out(0x30, 0xA2), out(0x37, 0x81), in(0x30, 0x00, sensirionCRC([]byte{0x30, 0}))}, status...)
	ops = append(ops, out(0x24, 0x00), in(0x66, 0x67, 0xA2, 0x5E, 0xB9, 0x3C))
	openReadClose(t, hdc302x, 0x47, []float64{25, 37}, append(ops, status...)...)
	synctest.Test(t, func(t *testing.T) {
		b := sim.New()
		sim.AddSHT3x(b.AddBus("i2c-1"), 0x44)
		if _, err := hdc302x.Open(b, Config{Chip: "hdc302x", Options: I2C{Bus: "i2c-1"}}); !errors.Is(err, ErrFault) {
			t.Errorf("an SHT3x was taken for an HDC302x: %v", err)
		}
	})
}
