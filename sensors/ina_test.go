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

// The data sheets' worked examples: SBOS547A, section 7.5.1 (2 mΩ, 20 mV, 11.98 V:
// 10 A, 119.8 W); SBOS448G, section 8.5.1 (11.98 V, 20 mV at 2 mΩ); SBOS576B, section
// 8.6.2.2 (C180h: -80 mV).
func TestINAValues(t *testing.T) {
	for _, c := range []struct {
		m          inaModel
		shunt      float64
		steps, bus uint16
		want       [3]float64
	}{
		{ina226Model, 0.002, 0x1F40, 0x2570, [3]float64{11.98, 10, 119.8}},
		{ina219Model, 0.002, 0x07D0, 0x5D98, [3]float64{11.98, 10, 119.8}},
		{ina219Model, 0.1, 0x8300, 0x5D98, [3]float64{11.98, -3.2 + 0.0, -38.336}},
		{ina3221Model, 0.1, 0xC180, 0x1F40, [3]float64{8, -0.8, -6.4}},
		{ina260Model, 1, 0x1F40, 0x2570, [3]float64{11.98, 10, 119.8}},
		{ina226Model, 0.1, 0xFFFF, 0, [3]float64{0, -0.000025, 0}},
	} {
		v, err := (&inaDevice{inaModel: c.m, shunt: c.shunt}).values(c.steps, c.bus)
		if c.steps == 0x8300 { // -32000 steps: the end of the range
			if !errors.Is(err, ErrFault) || !strings.Contains(err.Error(), "3.2 A") {
				t.Errorf("at the end of the range: %v, %v", v, err)
			}
			continue
		}
		for i := range v {
			if err != nil || math.Abs(v[i]-c.want[i]) > 1e-9 {
				t.Errorf("%s %#04x %#04x: %v, %v, want %v", c.m.name, c.steps, c.bus, v, err, c.want)
			}
		}
	}
}

func TestINA226Traffic(t *testing.T) {
	reg := func(r, hi, lo byte) i2ctest.IO { return i2ctest.IO{W: []byte{r}, R: []byte{hi, lo}} }
	synctest.Test(t, func(t *testing.T) {
		p := playback(out(0, 0x80, 0), reg(0, 0x41, 0x27), reg(0xFE, 0x54, 0x49), reg(0xFF, 0x22, 0x60),
			out(0, 0x45, 0x23), reg(6, 0, 0), reg(6, 0, 8), reg(1, 0x1F, 0x40), reg(2, 0x25, 0x70), reg(0, 0x45, 0x23), out(0, 0x45, 0x20))
		s, err := ina226.Open(p, Config{Chip: "ina226", Options: INA{I2C{"i2c-1", 0x48}, 0.002}})
		if err != nil {
			t.Fatal(err)
		}
		if f, err := s.Sense(); err != nil || f[0].Value != 11.98 || f[1].Value != 10.0 || f[2].Value != 119.8 {
			t.Errorf("%v, %v", f, err)
		}
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
}

func TestINA3221Channels(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := sim.New()
		chip := sim.AddINA3221(b.AddBus("i2c-1"), 0x41)
		chip.SetSupply(0, 0.1, 5)
		chip.SetSupply(2, -0.02, 24)
		s, err := ina3221.Open(b, Config{Chip: "ina3221", Options: INA3221Options{I2C{"i2c-1", 0x41}, 0.1, 0b1010}})
		if err != nil {
			t.Fatal(err)
		}
		want := []Field{{"voltage_1", 5.0}, {"current_1", 1.0}, {"power_1", 5.0}, {"voltage_3", 24.0}, {"current_3", -0.2}, {"power_3", -4.8}}
		f, err := s.Sense()
		if err != nil || len(f) != len(want) {
			t.Fatalf("%v, %v", f, err)
		}
		for i := range f {
			if f[i] != want[i] {
				t.Errorf("%v, want %v", f[i], want[i])
			}
		}
		chip.SetSupply(2, 5, 24)
		if f, err := s.Sense(); !errors.Is(err, ErrFault) || f != nil || !strings.Contains(err.Error(), "beyond the range") {
			t.Errorf("too much: %v, %v", f, err)
		}
		chip.FreezeConversion(true)
		if f, err := s.Sense(); !errors.Is(err, ErrFault) || f != nil || !strings.Contains(err.Error(), "does not end") {
			t.Errorf("frozen: %v, %v", f, err)
		}
	})
}

// No chip of the family, all at the same addresses, is mistaken for another.
func TestINAMistaken(t *testing.T) {
	chips := map[string]func(*sim.Bus){
		"ina219": func(b *sim.Bus) { sim.AddINA219(b, 0x40) }, "ina226": func(b *sim.Bus) { sim.AddINA226(b, 0x40) },
		"ina260": func(b *sim.Bus) { sim.AddINA260(b, 0x40) }, "ina3221": func(b *sim.Bus) { sim.AddINA3221(b, 0x40) },
	}
	for is, add := range chips {
		for taken := range chips {
			synctest.Test(t, func(t *testing.T) {
				b := sim.New()
				add(b.AddBus("i2c-1"))
				c, _ := Lookup(taken)
				if s, err := c.Open(b, Config{Chip: taken, Options: I2C{Bus: "i2c-1"}}); (err == nil) != (is == taken) || (err != nil) != (s == nil) {
					t.Errorf("an %s taken for an %s: %v", is, taken, err)
				}
			})
		}
	}
}
