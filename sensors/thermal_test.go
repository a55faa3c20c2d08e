package sensors

import (
	"errors"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"fieldpost/sensors/sim"
)

// zones returns a board with several thermal zones, two of them of the same type.
func zones(t *testing.T) *sim.Board {
	t.Helper()
	b := sim.New()
	b.SetRoot(t.TempDir())
	for n, kind := range map[int]string{0: "cpu-thermal", 2: "gpu-thermal", 10: "soc", 11: "soc"} {
		if err := b.WriteThermal(n, kind, 40+float64(n)); err != nil {
			t.Fatal(err)
		}
	}
	return b
}

func TestThermalZones(t *testing.T) {
	b := zones(t)
	for zone, want := range map[string]float64{
		"": 40, "cpu-thermal": 40, "gpu-thermal": 42, "soc": 50, "thermal_zone11": 51, "thermal_zone2": 42,
		"0": 40, "2": 42, "11": 51,
	} {
		s, err := thermal.Open(b, Config{Options: Thermal{Zone: zone}})
		if err != nil {
			t.Errorf("zone %q: %v", zone, err)
			continue
		}
		if f, err := s.Sense(); err != nil || f[0].Name != "temperature" || f[0].Value != want {
			t.Errorf("zone %q: %v, %v, want %g", zone, f, err, want)
		}
	}
	for _, zone := range []string{"battery", "thermal_zone1", "../thermal_zone0", "1", "02", "-2"} {
		_, err := thermal.Open(b, Config{Options: Thermal{Zone: zone}})
		if !errors.Is(err, ErrAbsent) || !strings.Contains(err.Error(), "there are cpu-thermal (0), gpu-thermal (2), soc (10), soc (11)") {
			t.Errorf("zone %q: %v, want absent and the list", zone, err)
		}
		if look := thermal.Look(b, Config{Options: Thermal{Zone: zone}}); look == nil || look.Error() != err.Error() {
			t.Errorf("zone %q, looked at: %v, opened: %v", zone, look, err)
		}
	}
}

func TestThermalNone(t *testing.T) {
	b := sim.New()
	if _, err := thermal.Open(b, Config{}); !errors.Is(err, ErrAbsent) {
		t.Errorf("no /sys: %v", err)
	}
	b.SetRoot(t.TempDir())
	dir := filepath.Join(b.Root(), "sys/class/thermal")
	if err := os.MkdirAll(filepath.Join(dir, "cooling_device0"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(filepath.Join(dir, "thermal_zone0"), 0o755); err != nil { // without a type
		t.Fatal(err)
	}
	if _, err := thermal.Open(b, Config{}); !errors.Is(err, ErrAbsent) {
		t.Errorf("no zone: %v", err)
	}
	b.SetRoot(filepath.Join(t.TempDir(), "sys"))
	if err := os.WriteFile(b.Root(), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := thermal.Open(b, Config{}); err == nil {
		t.Error("a root that is a file has a thermal zone")
	}
}

func TestThermalFiles(t *testing.T) {
	b := zones(t)
	file := filepath.Join(b.Root(), "sys/class/thermal/thermal_zone0/temp")
	s, err := thermal.Open(b, Config{})
	if err != nil {
		t.Fatal(err)
	}
	for text, want := range map[string]float64{
		"48312\n": 48.312, "0\n": 0, "-5500\n": -5.5, "150000": 150,
		"": math.NaN(), "hot\n": math.NaN(), "48.3\n": math.NaN(), "-274000\n": math.NaN(), "150001": math.NaN(),
		"99999999999999999999\n": math.NaN(),
	} {
		if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		f, err := s.Sense()
		if math.IsNaN(want) {
			if !errors.Is(err, ErrFault) || f != nil {
				t.Errorf("%q: %v, %v, want ErrFault", text, f, err)
			}
			continue
		}
		if err != nil || f[0].Value != want {
			t.Errorf("%q: %v, %v, want %g", text, f, err, want)
		}
	}
	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Sense(); !errors.Is(err, ErrAbsent) || !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the file is gone: %v", err)
	}
}

// If a zone's number becomes another zone's, its values are not returned. Opening the
// sensor again finds the zone under its new number.
func TestThermalExchanged(t *testing.T) {
	b := zones(t)
	s, err := thermal.Open(b, Config{Options: Thermal{Zone: "gpu-thermal"}})
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(b.WriteThermal(2, "wifi-thermal", 61), b.WriteThermal(3, "gpu-thermal", 43)); err != nil {
		t.Fatal(err)
	}
	if f, err := s.Sense(); !errors.Is(err, ErrFault) || f != nil || !strings.Contains(err.Error(), `thermal_zone2 is of type "wifi-thermal" now`) {
		t.Errorf("%v, %v, want ErrFault", f, err)
	}
	if s, err = thermal.Open(b, Config{Options: Thermal{Zone: "gpu-thermal"}}); err != nil {
		t.Fatal(err)
	}
	if f, err := s.Sense(); err != nil || f[0].Value != 43.0 {
		t.Errorf("opened again: %v, %v, want 43", f, err)
	}
}

func FuzzThermal(f *testing.F) {
	for _, text := range []string{"48312\n", "-5500", "", "hot", "1e5", "+7", "\x00"} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		v, err := thermalCelsius(text)
		if err == nil && math.IsNaN(v) {
			t.Errorf("%q is %g", text, v)
		}
		if err != nil && !errors.Is(err, ErrFault) {
			t.Errorf("%q: %v, want ErrFault", text, err)
		}
	})
}
