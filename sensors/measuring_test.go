package sensors

import (
	"errors"
	"math"
	"testing"
	"testing/synctest"
	"time"

	"fieldpost/sensors/sim"
)

// Each value is returned once. Before the first one, and between two, there is none.
func TestMeasuring(t *testing.T) {
	for name, c := range map[string]struct {
		add    func(*sim.Bus) *sim.Measuring
		first  time.Duration
		period time.Duration
		values []float64
	}{
		"scd4x": {sim.AddSCD4x, 5 * time.Second, 5 * time.Second, []float64{1234, 18.5, 61}},
		"scd30": {sim.AddSCD30, 2 * time.Second, 2 * time.Second, []float64{1234, 18.5, 61}},
		"sps30": {sim.AddSPS30, 10 * time.Second, time.Second, []float64{1.5, 2.5, 3.5, 4.5}},
	} {
		synctest.Test(t, func(t *testing.T) {
			b := sim.New()
			chip := c.add(b.AddBus("i2c-1"))
			chip.SetValues(c.values...)
			entry, _ := Lookup(name)
			s, err := entry.Open(b, Config{Chip: name, Options: I2C{Bus: "i2c-1"}})
			if err != nil {
				t.Fatal(err)
			}
			wait := func(d time.Duration) { <-time.After(d) }
			notReady := func(when string) {
				t.Helper()
				if f, err := s.Sense(); !errors.Is(err, ErrNotReady) || errors.Is(err, ErrFault) || f != nil {
					t.Errorf("%s, %s: %v, %v", name, when, f, err)
				}
			}
			notReady("at once")
			wait(c.first - 500*time.Millisecond)
			notReady("before the first")
			wait(time.Second)
			for range 3 {
				f, err := s.Sense()
				if err != nil || len(f) != len(c.values) {
					t.Fatalf("%s: %v, %v", name, f, err)
				}
				for i := range f {
					if math.Abs(f[i].Value.(float64)-c.values[i]) > 0.011 {
						t.Errorf("%s: %v, want %v", name, f, c.values)
					}
				}
				notReady("again at once")
				wait(c.period)
			}
			chip.FreezeConversion(true)
			for range 20 {
				notReady("frozen")
				wait(time.Second)
			}
			if err := s.Close(); err != nil {
				t.Errorf("%s: close: %v", name, err)
			}
		})
	}
}
