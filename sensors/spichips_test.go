package sensors

import (
	"errors"
	"math"
	"strings"
	"testing"
	"testing/synctest"

	"fieldpost/sensors/sim"
)

// 19-5793, tables 4 and 5; 19-2235, figure 1b.
func TestThermocoupleFrames(t *testing.T) {
	for _, c := range []struct {
		convert func([]byte) ([]float64, error)
		in      []byte
		want    []float64
	}{
		{max31855Values, []byte{0x64, 0x00, 0x7F, 0x00}, []float64{1600, 127}}, {max31855Values, []byte{0x3E, 0x80, 0x64, 0x90}, []float64{1000, 100.5625}},
		{max31855Values, []byte{0x06, 0x4C, 0x19, 0x00}, []float64{100.75, 25}}, {max31855Values, []byte{0x01, 0x90, 0x00, 0x00}, []float64{25, 0}},
		{max31855Values, []byte{0xFF, 0xFC, 0xFF, 0xF0}, []float64{-0.25, -0.0625}}, {max31855Values, []byte{0xF0, 0x60, 0xC9, 0x00}, []float64{-250, -55}},
		{max6675Values, []byte{0x0C, 0x80}, []float64{100}}, {max6675Values, []byte{0x7F, 0xF8}, []float64{1023.75}}, {max6675Values, []byte{0x00, 0x08}, []float64{0.25}},
	} {
		v, err := c.convert(c.in)
		if err != nil || len(v) != len(c.want) {
			t.Errorf("% x: %v, %v", c.in, v, err)
			continue
		}
		for i := range v {
			if v[i] != c.want[i] {
				t.Errorf("% x: %v, want %v", c.in, v, c.want)
			}
		}
	}
	for _, c := range []struct {
		convert func([]byte) ([]float64, error)
		in      []byte
		want    string
	}{
		{max31855Values, []byte{0xFF, 0xFF, 0xFF, 0xFF}, "always 0"}, {max31855Values, []byte{0, 0, 0, 0}, "chip is missing"}, {max31855Values, []byte{0x7F, 0xFD, 0x19, 0x01}, "not connected"},
		{max31855Values, []byte{0, 1, 0x19, 0x02}, "GND"}, {max31855Values, []byte{0, 1, 0x19, 0x04}, "supply"}, {max31855Values, []byte{0, 1, 0x19, 0}, "unknown fault"},
		{max6675Values, []byte{0xFF, 0xFF}, "always 0"}, {max6675Values, []byte{0, 0}, "0 °C or less"}, {max6675Values, []byte{0x0C, 0x84}, "not connected"},
	} {
		if v, err := c.convert(c.in); !errors.Is(err, ErrFault) || !strings.Contains(err.Error(), c.want) {
			t.Errorf("% x: %v, %v, want %q", c.in, v, err, c.want)
		}
	}
}

// A value is the present temperature, whenever the chip was last read.
func TestThermocoupleIsFresh(t *testing.T) {
	for name, add := range map[string]func(*sim.Board, string) *sim.Thermocouple{"max31855": (*sim.Board).AddMAX31855, "max6675": (*sim.Board).AddMAX6675} {
		synctest.Test(t, func(t *testing.T) {
			b := sim.New()
			chip := add(b, "spidev0.0")
			c, _ := Lookup(name)
			s, err := c.Open(b, Config{Chip: name, Options: SPI{"spidev0.0"}})
			if err != nil {
				t.Fatal(err)
			}
			for _, celsius := range []float64{20.25, 900, 3} {
				chip.SetTemperature(celsius, 30)
				if f, err := s.Sense(); err != nil || f[0].Value != celsius {
					t.Errorf("%s: %v, %v, want %v", name, f, err, celsius)
				}
			}
			for _, fault := range []sim.Fault{sim.Ones, sim.Zeros} {
				chip.Fault(fault)
				if f, err := s.Sense(); !errors.Is(err, ErrFault) || f != nil {
					t.Errorf("%s, %v: %v, %v", name, fault, f, err)
				}
			}
			chip.Fault(sim.Healthy)
			chip.SetFault(1)
			if name == "max6675" {
				chip.SetFault(4)
			}
			if f, err := s.Sense(); !errors.Is(err, ErrFault) || f != nil || !strings.Contains(err.Error(), "not connected") {
				t.Errorf("%s, open: %v, %v", name, f, err)
			}
		})
	}
}

// IEC 60751's table of the PT100.
func TestPlatinum(t *testing.T) {
	for ohms, want := range map[float64]float64{18.52: -200, 60.26: -100, 80.31: -50, 100: 0, 107.794: 20, 138.506: 100, 175.856: 200, 390.481: 850} {
		if got := platinumCelsius(ohms / 100); math.Abs(got-want) > 0.015 { // the table has two decimals
			t.Errorf("%v ohms: %v, want %v", ohms, got, want)
		}
	}
}

// 19-6478's code of 8192 is 107.5 ohms at a reference of 430.
func TestMAX31865(t *testing.T) {
	d := &max31865Device{o: MAX31865{Nominal: 100, Reference: 430}}
	if v, err := d.convert(8192<<1, 0); err != nil || v != 19.24 {
		t.Errorf("%v, %v", v, err)
	}
	synctest.Test(t, func(t *testing.T) {
		b := sim.New()
		chip := b.AddMAX31865("spidev0.1")
		cfg := Config{Chip: "max31865", Options: MAX31865{SPI{"spidev0.1"}, 3, 100, 430, 50}}
		s, err := max31865.Open(b, cfg)
		if err != nil {
			t.Fatal(err)
		}
		for ohms, celsius := range map[float64]float64{60.26: -100, 100: 0, 138.506: 100} {
			chip.SetResistance(ohms)
			if f, err := s.Sense(); err != nil || math.Abs(f[0].Value.(float64)-celsius) > 0.03 {
				t.Errorf("%v ohms: %v, %v", ohms, f, err)
			}
		}
		fault := func(name, want string) {
			t.Helper()
			if f, err := s.Sense(); !errors.Is(err, ErrFault) || f != nil || !strings.Contains(err.Error(), want) {
				t.Errorf("%s: %v, %v, want %q", name, f, err, want)
			}
		}
		chip.PowerCycle()
		for range 2 {
			if f, err := s.Sense(); err != nil || math.Abs(f[0].Value.(float64)-100) > 200 {
				t.Errorf("after a power-cycle it is set up by each reading: %v, %v", f, err)
			}
		}
		chip.SetResistance(1000)
		fault("open", "not connected")
		chip.SetResistance(0)
		fault("short", "touch")
		chip.SetResistance(100)
		chip.SetFault(1 << 3)
		fault("wire off", "wire of the sensor is off")
		chip.SetFault(0)
		for _, f := range []sim.Fault{sim.Ones, sim.Zeros} {
			chip.Fault(f)
			fault("line", "was set to")
			if s, err := max31865.Open(b, cfg); err == nil {
				s.Close()
				t.Errorf("%v: was opened", f)
			}
		}
		chip.Fault(sim.Healthy)
		if f, err := s.Sense(); err != nil || math.Abs(f[0].Value.(float64)) > 0.03 {
			t.Errorf("well again: %v, %v", f, err)
		}
	})
}

// Any frame becomes an error or a value.
func FuzzThermocouple(f *testing.F) {
	f.Add([]byte{0x3E, 0x80, 0x64, 0x90})
	f.Fuzz(func(t *testing.T, in []byte) {
		if len(in) != 4 {
			return
		}
		if v, err := max31855Values(in); err != nil && !errors.Is(err, ErrFault) || err == nil && (v[0] < -2048 || v[0] >= 2048 || v[1] < -128 || v[1] >= 128) {
			t.Errorf("% x: %v, %v", in, v, err)
		}
		if v, err := max6675Values(in[:2]); err != nil && !errors.Is(err, ErrFault) || err == nil && (v[0] <= 0 || v[0] >= 1024) {
			t.Errorf("% x: %v, %v", in, v, err)
		}
	})
}
