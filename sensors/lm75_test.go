package sensors

import (
	"errors"
	"math"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"periph.io/x/conn/v3/i2c/i2ctest"

	"fieldpost/sensors/sim"
)

// NXP LM75B, Rev. 6.1, table 10: eleven bits.
var lm75Examples11 = []struct {
	bits    uint16
	celsius float64
}{
	{0x3F8, 127}, {0x3F7, 126.875}, {0x3F1, 126.125}, {0x3E8, 125}, {0x0C8, 25}, {0x001, 0.125},
	{0x000, 0}, {0x7FF, -0.125}, {0x738, -25}, {0x649, -54.875}, {0x648, -55},
}

// SNIS153B: nine bits, the other seven undefined.
var lm75Examples9 = []struct {
	bits    uint16
	celsius float64
}{
	{0x0FA, 125}, {0x032, 25}, {0x001, 0.5}, {0x000, 0}, {0x1FF, -0.5}, {0x1CE, -25}, {0x192, -55},
}

func TestLM75Celsius(t *testing.T) {
	for _, c := range lm75Examples11 {
		if got, err := lm75Celsius(c.bits<<5, 11); err != nil || got != c.celsius {
			t.Errorf("11 bits %#03x: %g, %v, want %g", c.bits, got, err, c.celsius)
		}
	}
	for _, c := range lm75Examples9 {
		for _, undefined := range []uint16{0, 0x7F, 0x55} {
			if got, err := lm75Celsius(c.bits<<7|undefined, 9); err != nil || got != c.celsius {
				t.Errorf("9 bits %#03x: %g, %v, want %g", c.bits, got, err, c.celsius)
			}
		}
	}
	if got, err := lm75Celsius(0x1910, 11); !errors.Is(err, ErrFault) {
		t.Errorf("twelve bits taken for eleven: %g, %v", got, err)
	}
}

func TestLM75Traffic(t *testing.T) {
	for _, c := range lm75Examples11 {
		if c.celsius > 125 {
			continue // possible with eleven bits, but outside the range
		}
		synctest.Test(t, func(t *testing.T) {
			reg := c.bits << 5
			temp := i2ctest.IO{W: []byte{0}, R: []byte{byte(reg >> 8), byte(reg)}}
			ops := []i2ctest.IO{
				{W: []byte{1}, R: []byte{0x19}}, // asleep, and a fault queue that somebody has set
				{W: []byte{1, 0x18}},
				{W: []byte{1}, R: []byte{0x18}},
				temp,
			}
			if c.celsius == 0 { // doubted
				ops = append(ops, i2ctest.IO{W: []byte{3}, R: []byte{0x50, 0x00}}, temp)
			}
			p := playback(append(ops, i2ctest.IO{W: []byte{1, 0x19}})...)
			s, err := lm75b.Open(p, Config{Chip: "lm75b", Options: I2C{Bus: "i2c-1"}})
			if err != nil {
				t.Fatal(err)
			}
			if f, err := s.Sense(); err != nil || f[0].Value != c.celsius {
				t.Errorf("%v, %v, want %g", f, err, c.celsius)
			}
			if err := s.Close(); err != nil {
				t.Errorf("close: %v", err)
			}
		})
	}
}

// The first reading is the present temperature, not the one from before the sleep.
func TestLM75Wakes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := sim.New()
		chip := b.AddBus("i2c-1").AddLM75(0x4F, 9)
		cfg := Config{Chip: "lm75", Options: I2C{Bus: "i2c-1", Address: 0x4F}}
		for _, celsius := range []float64{21.5, -10, 0, -0.5, 60} {
			chip.SetTemperature(celsius)
			s, err := lm75.Open(b, cfg)
			if err != nil {
				t.Fatal(err)
			}
			if f, err := s.Sense(); err != nil || f[0].Value != celsius {
				t.Errorf("%v, %v, want %g", f, err, celsius)
			}
			s.Close()
			chip.SetTemperature(99)
			<-time.After(time.Minute)
		}
	})
}

// A changed setting is a fault: another program set it, or the chip lost its power.
func TestLM75Changed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := sim.New()
		b.AddBus("i2c-1").AddLM75(0x48, 9)
		s, err := lm75.Open(b, Config{Chip: "lm75", Options: I2C{Bus: "i2c-1"}})
		if err != nil {
			t.Fatal(err)
		}
		other, err := b.Bus("i2c-1")
		if err != nil {
			t.Fatal(err)
		}
		if err := other.Tx(0x48, []byte{lmConf, lmShutdown}, nil); err != nil {
			t.Fatal(err)
		}
		if f, err := s.Sense(); !errors.Is(err, ErrFault) || !strings.Contains(err.Error(), "configuration is 0x01") {
			t.Errorf("%v, %v, want ErrFault", f, err)
		}
	})
}

// A TMP102 answers at the same addresses.
func TestLM75Mistaken(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := sim.New()
		b.AddBus("i2c-1").AddTMP102(0x48)
		if _, err := lm75b.Open(b, Config{Chip: "lm75b", Options: I2C{Bus: "i2c-1"}}); !errors.Is(err, ErrFault) {
			t.Errorf("a TMP102 is taken for an LM75B: %v", err)
		}
	})
}

// Every register value is refused or is a multiple of the resolution.
func FuzzLM75(f *testing.F) {
	for _, c := range lm75Examples11 {
		f.Add(c.bits<<5, true)
	}
	for _, c := range lm75Examples9 {
		f.Add(c.bits<<7|0x55, false)
	}
	f.Fuzz(func(t *testing.T, reg uint16, eleven bool) {
		bits, step := lm75Bits9, 0.5
		if eleven {
			bits, step = lm75Bits11, 0.125
		}
		v, err := lm75Celsius(reg, bits)
		if err == nil && (v < -128 || v >= 128 || math.Mod(v, step) != 0) {
			t.Errorf("%#04x: %g", reg, v)
		}
	})
}
