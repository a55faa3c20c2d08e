package sensors

import (
	"errors"
	"math"
	"testing"
	"testing/synctest"

	"periph.io/x/conn/v3/i2c/i2ctest"

	"fieldpost/sensors/sim"
)

// An answer that was recorded, with its checksum (periph's aht20 test).
var ahtAnswer = []byte{0x18, 0x75, 0x52, 0x05, 0x8E, 0x40, 0x7F}

func TestAHTValues(t *testing.T) {
	for _, n := range []int{6, 7} {
		if v, err := ahtValues(ahtAnswer[:n]); err != nil || math.Abs(v[0]-19.45) > 1e-9 || math.Abs(v[1]-45.83) > 1e-9 {
			t.Errorf("%d bytes: %v, %v, want 19.45 and 45.83", n, v, err)
		}
	}
	for _, b := range [][]byte{
		{0x18, 0x75, 0x52, 0x05, 0x8E, 0x40, 0x7E}, {0x10, 0x75, 0x52, 0x05, 0x8E, 0x40}, {0x18, 0, 0, 0x05, 0x8E, 0x40}, {0x18, 0, 0, 0, 0, 0},
	} {
		if v, err := ahtValues(b); !errors.Is(err, ErrFault) {
			t.Errorf("% x: %v, %v, want a fault", b, v, err)
		}
	}
}

func TestAHTTraffic(t *testing.T) {
	busy := append([]byte{0x98}, ahtAnswer[1:]...)
	openReadClose(t, aht20, 0x38, []float64{19.45, 45.83},
		out(0xBA), out(0x71), in(0x18), out(0xAC, 0x33, 0), in(busy...), in(ahtAnswer...))
	openReadClose(t, aht10, 0x39, []float64{19.45, 45.83},
		out(0xBA), out(0x71), in(0x10), out(0xE1, 8, 0), out(0x71), in(0x19), out(0xAC, 0x33, 0), in(ahtAnswer[:6]...))
}

func TestAHTStuck(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := sim.New()
		chip := sim.AddAHT20(b.AddBus("i2c-1"))
		s, err := aht20.Open(b, Config{Chip: "aht20", Options: I2C{Bus: "i2c-1"}})
		if err != nil {
			t.Fatal(err)
		}
		chip.SetAir(-10, 12.5)
		if f, err := s.Sense(); err != nil || f[0].Value != -10.0 || f[1].Value != 12.5 {
			t.Errorf("%v, %v", f, err)
		}
		chip.FreezeConversion(true)
		if f, err := s.Sense(); !errors.Is(err, ErrFault) || f != nil {
			t.Errorf("frozen: %v, %v", f, err)
		}
	})
}

// The checksums of HPC199_6, section "CRC", and the formulas of the data sheets.
func TestHTU21(t *testing.T) {
	for _, c := range []struct {
		word uint16
		crc  byte
	}{{0x683A, 0x7C}, {0x4E85, 0x6B}} {
		if got := crc8(0x31, 0, []byte{byte(c.word >> 8), byte(c.word)}); got != c.crc {
			t.Errorf("%#04x: %#02x, want %#02x", c.word, got, c.crc)
		}
	}
	if got := crc8(0x31, 0, []byte{0xDC}); got != 0x79 {
		t.Errorf("0xdc: %#02x, want 0x79", got)
	}
	for _, c := range []struct{ got, want float64 }{
		{htuCelsius(0x683A), 24.69}, {htuPercent(0x4E85), 32.34}, {htuPercent(0x7C80), 54.79}, {htuPercent(0), 0}, {htuPercent(0xFFFC), 100},
	} {
		if math.Abs(c.got-c.want) > 0.005 {
			t.Errorf("%v, want %v", c.got, c.want)
		}
	}
	for _, c := range []struct {
		b      []byte
		status uint16
	}{{[]byte{0, 0, 0}, 0}, {[]byte{0x68, 0x3A, 0x7D}, 2}, {[]byte{0x68, 0x3A, 0x7C}, 0}, {[]byte{0x4E, 0x85, 0x6B}, 2}} {
		if w, err := htuWord(c.b, c.status); !errors.Is(err, ErrFault) {
			t.Errorf("% x for %d: %#x, %v, want a fault", c.b, c.status, w, err)
		}
	}
}

func TestHTU21Traffic(t *testing.T) {
	// HTU21D: 0x4E85 is a temperature and 0x683A a humidity, by their status bits.
	openReadClose(t, htu21d, 0x40, []float64{7.04, 44.89},
		out(0xFE), i2ctest.IO{W: []byte{0xE7}, R: []byte{0x06}}, out(0xE6, 0x02),
		i2ctest.IO{W: []byte{0xE7}, R: []byte{0x02}}, out(0xF3), in(0x4E, 0x85, 0x6B), out(0xF5), in(0x68, 0x3A, 0x7C))
	openReadClose(t, si7021, 0x40, []float64{7.04, 44.89},
		out(0xFE), i2ctest.IO{W: []byte{0xFC, 0xC9}, R: []byte{0x15, 0xFF, crc8(0x31, 0, []byte{0x15, 0xFF}), 0xB5, 0xFF, 0xFF}}, i2ctest.IO{W: []byte{0xE7}, R: []byte{0x3A}},
		i2ctest.IO{W: []byte{0xE7}, R: []byte{0x3A}}, out(0xF3), in(0x4E, 0x85, 0x6B), out(0xF5), in(0x68, 0x3A, 0x7C))
}

func TestHTU21Mistaken(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := sim.New()
		chip := sim.AddHTU21D(b.AddBus("i2c-1"))
		if _, err := si7021.Open(b, Config{Chip: "si7021", Options: I2C{Bus: "i2c-1"}}); err == nil {
			t.Error("an HTU21D was taken for a Si7021")
		}
		s, err := htu21d.Open(b, Config{Chip: "htu21d", Options: I2C{Bus: "i2c-1"}})
		if err != nil {
			t.Fatal(err)
		}
		chip.SetAir(-20, 99)
		if f, err := s.Sense(); err != nil || math.Abs(f[0].Value.(float64)+20) > 0.02 || math.Abs(f[1].Value.(float64)-99) > 0.02 {
			t.Errorf("%v, %v", f, err)
		}
		chip.FreezeConversion(true)
		if f, err := s.Sense(); err == nil {
			t.Errorf("frozen: %v", f)
		}
	})
}

func FuzzAHT(f *testing.F) {
	f.Add(ahtAnswer)
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) != 6 && len(b) != 7 {
			return
		}
		if v, err := ahtValues(b); err != nil && !errors.Is(err, ErrFault) || err == nil && !(v[0] >= -50 && v[0] <= 150 && v[1] >= 0 && v[1] <= 100) {
			t.Errorf("% x: %v, %v", b, v, err)
		}
	})
}
