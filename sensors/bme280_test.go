package sensors

import (
	"errors"
	"math"
	"strings"
	"testing"
	"testing/synctest"

	"fieldpost/sensors/sim"
)

// air is a simulated board with a BME280 at 0x76 and what opens it.
func air(t *testing.T) (*sim.Board, *sim.BME280, func() (Sensor, error)) {
	t.Helper()
	b := sim.New()
	chip := b.AddBus("i2c-1").AddBME280(0x76)
	return b, chip, func() (Sensor, error) {
		return bme280.Open(b, Config{Chip: "bme280", Bus: "i2c-1"})
	}
}

// What is printed has no tail: 21.53, not 21.530000000000001.
func TestBME280Rounds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, chip, open := air(t)
		chip.SetTemperature(25.08)
		chip.SetPressure(100653.27)
		chip.SetHumidity(48.2)
		s, err := open()
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		f, err := s.Sense()
		if err != nil {
			t.Fatal(err)
		}
		if f[0].Value != 25.08 || f[2].Value != 100653.0 {
			t.Errorf("%v, want the datasheet's 25.08 and 100653", f)
		}
		h := f[1].Value.(float64)
		if math.Abs(h-48.2) > 0.011 || h != math.Round(h*100)/100 {
			t.Errorf("humidity %v, want 48.2 in hundredths", h)
		}
	})
}

func TestRound(t *testing.T) {
	for _, c := range []struct{ v, step, want float64 }{
		{21.530000001, 0.01, 21.53}, {-0.005001, 0.01, -0.01}, {101324.6, 1, 101325}, {0.1 + 0.2, 0.1, 0.3},
	} {
		if got := round(c.v, c.step); got != c.want {
			t.Errorf("round(%v, %v) = %v, want %v", c.v, c.step, got, c.want)
		}
	}
}

// The one chip under the other's name is a clear error, both ways.
func TestBMx280Mistaken(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := sim.New()
		b.AddBus("i2c-1").AddBME280(0x76)
		b.AddBus("i2c-1").AddBMP280(0x77)
		for _, c := range []struct {
			chip Chip
			addr uint16
			want string
		}{
			{bmp280, 0x76, "chip id 0x60 is a BME280's: the chip is bme280 (want 0x58)"},
			{bme280, 0x77, "chip id 0x58 is a BMP280's: the chip is bmp280 (want 0x60)"},
		} {
			_, err := c.chip.Open(b, Config{Chip: c.chip.Name, Bus: "i2c-1", Address: c.addr})
			if !errors.Is(err, ErrFault) || !strings.Contains(err.Error(), c.want) {
				t.Errorf("%s: %v, want %q", c.chip.Name, err, c.want)
			}
		}
	})
}

// A status bit that never clears ends in an error, not in an endless loop.
func TestBME280StuckStatus(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, chip, open := air(t)
		s, err := open()
		if err != nil {
			t.Fatal(err)
		}
		chip.FreezeStatus(true)
		before := b.AddBus("i2c-1").Transactions()
		if f, err := s.Sense(); !errors.Is(err, ErrFault) || f != nil {
			t.Errorf("%v, %v, want ErrFault", f, err)
		}
		if n := b.AddBus("i2c-1").Transactions() - before; n > budget {
			t.Errorf("%d transactions in one reading", n)
		}
		chip.FreezeStatus(false)
		if _, err := s.Sense(); err != nil {
			t.Errorf("once it is free: %v", err)
		}
	})
}

// frame is the data registers of a believable measurement, with some bytes
// from an offset on replaced.
func frame(at int, with ...byte) []byte {
	f := []byte{0x65, 0x5A, 0xC0, 0x7E, 0xED, 0x00, 0x6A, 0x10}
	copy(f[at:], with)
	return f
}

func TestBME280Frames(t *testing.T) {
	s := &bmx280{hum: &humidityTrim{}}
	if hum, err := s.check(frame(0)); err != nil || hum != 0x6A10 {
		t.Errorf("a good frame: %#x, %v", hum, err)
	}
	for name, f := range map[string][]byte{
		"pressure skipped":    frame(0, 0x80, 0, 0),
		"temperature skipped": frame(3, 0x80, 0, 0),
		"humidity skipped":    frame(6, 0x80, 0),
		"all ones":            {0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF},
		"all zeros":           make([]byte, 8),
		"pressure ones":       frame(0, 0xFF, 0xFF, 0xFF),
		"temperature zeros":   frame(3, 0, 0, 0),
		"humidity ones":       frame(6, 0xFF, 0xFF),
		"short":               frame(0)[:6],
		"none":                nil,
	} {
		if _, err := s.check(f); !errors.Is(err, ErrFault) {
			t.Errorf("%s: %v, want ErrFault", name, err)
		}
	}
	if _, err := (&bmx280{}).check(frame(0)[:6]); err != nil {
		t.Errorf("a BMP280's frame: %v", err)
	}
}

func TestHumidityTrim(t *testing.T) {
	got := *newHumidityTrim(75, []byte{0x72, 0x01, 0x03, 0x13, 0x29, 0x03, 0x1E})
	if want := (humidityTrim{75, 370, 3, 0x139, 0x32, 30}); got != want {
		t.Errorf("%+v, want %+v", got, want)
	}
	got = *newHumidityTrim(0, []byte{0xFF, 0xFF, 0, 0xFE, 0xC7, 0xFE, 0xE2})
	if want := (humidityTrim{0, -1, 0, -25, -20, -30}); got != want {
		t.Errorf("negative: %+v, want %+v", got, want)
	}
}

// Whatever the calibration and the frame, humidity is a percentage.
func FuzzHumidity(f *testing.F) {
	f.Add([]byte{75, 0x72, 0x01, 0, 0x13, 0x29, 0x03, 0x1E}, uint16(0x6A10), 25.08)
	f.Add(make([]byte, 8), uint16(0), -40.0)
	f.Add([]byte{0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF}, uint16(0xFFFF), 85.0)
	f.Fuzz(func(t *testing.T, calib []byte, raw uint16, celsius float64) {
		if len(calib) != 8 || !(celsius >= -40 && celsius <= 85) {
			return
		}
		if p := newHumidityTrim(calib[0], calib[1:]).percent(int(raw), celsius); !(p >= 0 && p <= 100) {
			t.Errorf("% x, %#x, %g: %g %%", calib, raw, celsius, p)
		}
	})
}

// Frames are judged without a panic, and what passes has no uniform part.
func FuzzFrame(f *testing.F) {
	f.Add(frame(0), true)
	f.Add(frame(0)[:6], false)
	f.Add(make([]byte, 8), true)
	f.Fuzz(func(t *testing.T, b []byte, bme bool) {
		s := &bmx280{}
		if bme {
			s.hum = &humidityTrim{}
		}
		if _, err := s.check(b); err == nil && (uniform(b[:3]) || uniform(b[3:6]) || uniform(b[6:])) {
			t.Errorf("% x passes", b)
		}
	})
}
