package sensors

import (
	"errors"
	"math"
	"testing"
	"testing/synctest"

	"fieldpost/sensors/sim"
)

// The formulas are continuous, and end at the data sheets' full scale.
func TestLux(t *testing.T) {
	for _, c := range []struct{ got, want float64 }{
		{vemlLux(1000), 1000}, {vemlLux(10000), 14791.8}, {vemlLux(500), 500},
		{tsl2591Lux(1000, 0, 100.0/408), 4080}, {tsl2591Lux(1000, 500, 1), 250}, {tsl2591Lux(10, 20, 1), 0}, {tsl2591Lux(0, 0, 1), 0},
		{tsl2561Lux(1000, 0), 30.4}, {tsl2561Lux(1000, 500), 30.4 - 62*math.Pow(0.5, 1.4)}, {tsl2561Lux(1000, 600), 3.8}, {tsl2561Lux(1000, 700), 2.09},
		{tsl2561Lux(1000, 1000), 0.34}, {tsl2561Lux(1000, 1400), 0}, {tsl2561Lux(0, 0), 0},
	} {
		if math.Abs(c.got-c.want) > 0.05 && math.Abs(c.got/c.want-1) > 0.004 {
			t.Errorf("%v, want %v", c.got, c.want)
		}
	}
}

// From darkness to sunlight each chip finds its range. Beyond the last one there is no
// value.
func TestLightRanges(t *testing.T) {
	type chip interface{ SetLight(float64) }
	for name, c := range map[string]struct {
		add    func(*sim.Bus) chip
		most   float64
		within float64
	}{
		"veml7700": {func(b *sim.Bus) chip { return sim.AddVEML7700(b) }, 900, 0.27},
		"tsl2591":  {func(b *sim.Bus) chip { return sim.AddTSL2591(b) }, 120000, 2},
		"tsl2561":  {func(b *sim.Bus) chip { return sim.AddTSL2561(b, 0x39) }, 40000, 8},
	} {
		synctest.Test(t, func(t *testing.T) {
			b := sim.New()
			light := c.add(b.AddBus("i2c-1"))
			entry, _ := Lookup(name)
			s, err := entry.Open(b, Config{Chip: name, Options: I2C{Bus: "i2c-1"}})
			if err != nil {
				t.Fatal(err)
			}
			for _, lux := range []float64{0, 0.5, 3, 99, 700, 15000, 38000, 110000} {
				if lux > c.most {
					continue
				}
				light.SetLight(lux)
				if f, err := s.Sense(); err != nil || math.Abs(f[0].Value.(float64)-lux) > math.Min(c.within, 0.1+lux*0.01) {
					t.Errorf("%s: %v lx: %v, %v", name, lux, f, err)
				}
			}
			light.SetLight(1e6)
			if f, err := s.Sense(); !errors.Is(err, ErrFault) || f != nil {
				t.Errorf("%s: too bright: %v, %v", name, f, err)
			}
		})
	}
}
