package sensors

import (
	"errors"
	"fmt"
	"math"
	"testing"
	"testing/synctest"
	"time"

	"fieldpost/sensors/sim"
)

// The data sheets' examples: SCD4x, section 3.5 (500 ppm, 25 °C, 37 %); SCD30, section
// 1.4.5 (439 ppm, 27.2 °C, 48.8 %).
func TestCO2Examples(t *testing.T) {
	words, err := sensirionWords([]byte{0x01, 0xF4, 0x33, 0x66, 0x67, 0xA2, 0x5E, 0xB9, 0x3C})
	if err != nil {
		t.Fatal(err)
	}
	if v, err := scd4xValues(words); err != nil || fmt.Sprint(v) != "[500 25 37]" {
		t.Errorf("SCD4x: %v, %v", v, err)
	}
	words, err = sensirionWords([]byte{0x43, 0xDB, 0xCB, 0x8C, 0x2E, 0x8F, 0x41, 0xD9, 0x70, 0xE7, 0xFF, 0xF5, 0x42, 0x43, 0xBF, 0x3A, 0x1B, 0x74})
	if err != nil {
		t.Fatal(err)
	}
	if v, err := scd30Values(words); err != nil || fmt.Sprint(v) != "[439.1 27.24 48.81]" {
		t.Errorf("SCD30: %v, %v", v, err)
	}
	for _, f := range []func([]uint16) ([]float64, error){scd4xValues, scd30Values} {
		if v, err := f(make([]uint16, 6)); !errors.Is(err, ErrFault) {
			t.Errorf("0 ppm: %v, %v", v, err)
		}
	}
}

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
