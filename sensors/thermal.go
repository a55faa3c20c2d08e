package sensors

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"

	"fieldpost/sensors/board"
	"fieldpost/sensors/option"
)

// The temperature of a thermal zone of the machine, read by the kernel.
//
// Source: Linux, Documentation/driver-api/thermal/sysfs-api.rst: a zone's type
// is its name, its temp is in thousandths of a degree.

// Thermal are the keys of a thermal zone.
type Thermal struct {
	// Zone is the thermal zone's type, number or directory: cpu-thermal, 0,
	// thermal_zone0.
	Zone string `yaml:"zone"`
}

func zone(v any) string {
	s := v.(string)
	if strings.Contains(s, "/") || strings.HasPrefix(s, ".") || strings.ContainsFunc(s, unicode.IsControl) {
		return "want a thermal zone's type, number or name, such as cpu-thermal, 0 or thermal_zone0"
	}
	return ""
}

// Silicon works within these limits. The kernel's -274000, no temperature yet, is
// outside.
var thermalQuantities = []Quantity{{Name: "temperature", Unit: "Cel", Min: -55, Max: 150}}

var thermal = Chip{
	Name:       "thermal",
	Title:      "a thermal zone of the machine, such as its processor",
	Source:     "Linux, Documentation/driver-api/thermal/sysfs-api.rst",
	Options:    option.Set{Defaults: Thermal{}, Rules: map[string]option.Rule{"zone": {Check: zone}}},
	Quantities: thermalQuantities,
	Every:      time.Minute,
	Worst:      100 * time.Millisecond,
	Look:       lookThermal,
	Open:       openThermal,
}

// thermalSensor is an open zone. Its number may become another zone's when a driver is
// loaded or unloaded, so its type is checked with every value.
type thermalSensor struct {
	f    *files
	zone string
}

func lookThermal(b board.Board, c Config) error {
	_, err := openThermal(b, c) // an open zone holds nothing
	return err
}

// openThermal finds the zone by type, number or directory name. If none is configured, or
// several have that type, it uses the lowest number.
func openThermal(b board.Board, c Config) (Sensor, error) {
	want := optionsOf[Thermal](c).Zone
	dir := filepath.Join(b.Root(), "sys/class/thermal")
	zones, err := thermalZones(dir)
	if err != nil {
		return nil, fmt.Errorf("open thermal: %w", err)
	}
	var kinds []string
	for _, n := range zones {
		name := "thermal_zone" + strconv.Itoa(n)
		kind, err := readKernel(filepath.Join(dir, name, "type"))
		if err != nil {
			continue // gone since the directory was read, or not readable: no match
		}
		if want == "" || want == kind || want == name || want == strconv.Itoa(n) {
			return &thermalSensor{newFiles(fmt.Sprintf("thermal zone %q", kind), "", filepath.Join(dir, name)), kind}, nil
		}
		kinds = append(kinds, fmt.Sprintf("%s (%d)", kind, n))
	}
	if len(kinds) == 0 {
		return nil, fmt.Errorf("open thermal: no thermal zone in %s: %w", dir, ErrAbsent)
	}
	return nil, fmt.Errorf("open thermal: zone %q: %w; there are %s", want, ErrAbsent, strings.Join(kinds, ", "))
}

// thermalZones lists the zones' numbers in order.
func thermalZones(dir string) ([]int, error) {
	entries, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("list thermal zones: %w", err)
	}
	var zones []int
	for _, e := range entries {
		number, ok := strings.CutPrefix(e.Name(), "thermal_zone")
		if n, err := strconv.Atoi(number); ok && err == nil {
			zones = append(zones, n)
		}
	}
	slices.Sort(zones)
	return zones, nil
}

// Quantities returns the chip's.
func (s *thermalSensor) Quantities() []Quantity { return thermalQuantities }

// Sense reads the zone.
func (s *thermalSensor) Sense() ([]Field, error) {
	s.f.begin()
	fields, err := s.sense()
	return fields, s.f.wrap("read", err)
}

func (s *thermalSensor) sense() ([]Field, error) {
	kind, err := s.f.read("type")
	if err != nil {
		return nil, err
	}
	if kind != s.zone {
		return nil, faultf("%s is of type %q now", filepath.Base(s.f.dir), kind)
	}
	text, err := s.f.read("temp")
	if err != nil {
		return nil, err
	}
	celsius, err := thermalCelsius(text)
	if err != nil {
		return nil, err
	}
	return values(thermalQuantities, celsius)
}

// thermalCelsius parses the contents of a temp file.
func thermalCelsius(text string) (float64, error) {
	n, err := strconv.Atoi(strings.TrimSpace(text))
	if err != nil {
		return 0, faultf("temp is %.20q, not a number", text)
	}
	return float64(n) / 1000, nil
}

// Close does nothing: a file is open only while it is read.
func (s *thermalSensor) Close() error { return s.f.close() }
