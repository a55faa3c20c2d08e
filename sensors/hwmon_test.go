package sensors

import (
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"fieldpost/sensors/sim"
)

// devices returns a board with devices of kernel drivers.
func devices(t *testing.T) *sim.Board {
	t.Helper()
	b := sim.New()
	b.SetRoot(t.TempDir())
	for n, d := range []struct {
		name, at string
		files    map[string]string
	}{
		{"cpu_thermal", "", map[string]string{"temp1_input": "48312\n"}},
		{"rpi_volt", "soc:firmware", map[string]string{"in0_lcrit_alarm": "1\n"}},
		{"ina219", "1-0040", map[string]string{"in0_input": "12\n", "in1_input": "11980\n", "curr1_input": "-598\n", "power1_input": "7160000\n", "shunt_resistor": "10000\n"}},
		{"ina219", "1-0041", map[string]string{"in0_input": "0\n", "in1_input": "5020\n", "curr1_input": "0\n", "power1_input": "0\n"}},
		{"nct6775", "", map[string]string{
			"temp1_input": "38000\n", "temp1_label": "SYSTIN\n", "temp1_fault": "0\n",
			"temp2_input": "41500\n", "temp2_label": "CPU Core 0\n", "temp10_input": "-1500\n",
			"fan1_input": "1171\n", "energy1_input": "2500000\n", "temp_input": "1\n", "tempx_input": "1\n", "uevent": "",
		}},
		{"twins", "", map[string]string{"in1_input": "1000\n", "in1_label": "V\n", "in2_input": "2000\n", "in2_label": "v\n"}},
		{"odd", "", map[string]string{"pwm1": "255\n"}},
	} {
		if err := b.WriteHwmon(n, d.name, d.at, d.files); err != nil {
			t.Fatal(err)
		}
	}
	return b
}

// The kernel's units (sysfs-interface.rst: millidegrees, millivolts, milliamperes,
// microwatts, microjoules) are converted to the quantities'.
func TestHwmonReads(t *testing.T) {
	b := devices(t)
	for _, c := range []struct {
		o    Hwmon
		want string
	}{
		{Hwmon{Device: "cpu_thermal"}, "temperature 48.312 Cel"},
		{Hwmon{Device: "rpi_volt"}, "undervoltage true "},
		{Hwmon{Device: "ina219", At: "1-0040"}, "voltage_0 0.012 V, voltage_1 11.98 V, current -0.598 A, power 7.16 W"},
		{Hwmon{Device: "ina219", At: "1-0041", Channel: "in1"}, "voltage 5.02 V"},
		{Hwmon{Device: "nct6775"}, "temperature_systin 38 Cel, temperature_cpu_core_0 41.5 Cel, temperature_10 -1.5 Cel, energy 2.5 J, speed 1171 /min"},
		{Hwmon{Device: "nct6775", Channel: "CPU Core 0"}, "temperature 41.5 Cel"},
		{Hwmon{Device: "twins"}, "voltage_1 1 V, voltage_2 2 V"},
	} {
		checkReads(t, b, hwmon, c.o, c.want)
	}
}

func TestHwmonRefuses(t *testing.T) {
	b := devices(t)
	for _, c := range []struct {
		o      Hwmon
		absent bool
		want   string
	}{
		{Hwmon{}, false, "device is missing"},
		{Hwmon{Device: "sht3x"}, true, `device "sht3x": not there; there are cpu_thermal, ina219 at 1-0040, ina219 at 1-0041, nct6775`},
		{Hwmon{Device: "ina219"}, false, `there are 2 devices "ina219"; choose one with the key at: 1-0040, 1-0041`},
		{Hwmon{Device: "ina219", At: "1-0044"}, true, `"ina219 at 1-0044": not there`},
		{Hwmon{Device: "nct6775", Channel: "temp3"}, true, `channel "temp3"`},
		{Hwmon{Device: "odd"}, false, "no channel that fieldpost knows"},
	} {
		checkRefused(t, b, hwmon, c.o, c.absent, c.want)
	}
	if _, err := hwmon.Open(sim.New(), Config{Options: Hwmon{Device: "x"}}); !errors.Is(err, ErrAbsent) {
		t.Errorf("no /sys: %v", err)
	}
}

// An impossible value is a fault, and so is another device with the same number.
func TestHwmonFaults(t *testing.T) {
	for name, change := range map[string]map[string]string{
		"text":    {"temp1_input": "hot\n"},
		"empty":   {"temp1_input": ""},
		"outside": {"temp1_input": "-300000\n"},
		"huge":    {"temp1_input": "99999999999999999999\n"},
		"broken":  {"temp1_input": "20000\n", "temp1_fault": "1\n"},
	} {
		b := sim.New()
		b.SetRoot(t.TempDir())
		open := func() Sensor {
			if err := b.WriteHwmon(3, "jc42", "1-0018", map[string]string{"temp1_input": "20000\n"}); err != nil {
				t.Fatal(err)
			}
			s, err := hwmon.Open(b, Config{Chip: "hwmon", Options: Hwmon{Device: "jc42"}})
			if err != nil {
				t.Fatal(err)
			}
			return s
		}
		s := open()
		if err := b.WriteHwmon(3, "jc42", "1-0018", change); err != nil {
			t.Fatal(err)
		}
		if f, err := s.Sense(); !errors.Is(err, ErrFault) || f != nil {
			t.Errorf("%s: %v, %v, want a fault", name, f, err)
		}
		for _, other := range [][2]string{{"jc42", "1-0019"}, {"lm75", "1-0018"}} {
			s = open()
			if err := b.WriteHwmon(3, other[0], other[1], map[string]string{"temp1_input": "20000\n"}); err != nil {
				t.Fatal(err)
			}
			if f, err := s.Sense(); !errors.Is(err, ErrFault) || !strings.Contains(fmt.Sprint(err), "now") {
				t.Errorf("%v in its place: %v, %v", other, f, err)
			}
		}
	}
}

// Any text of a file becomes an error or a number within the limits.
func FuzzHwmon(f *testing.F) {
	for _, text := range []string{"0", "-1", "23456\n", "", "9223372036854775807", " 1", "0x10", "NaN"} {
		f.Add(text)
	}
	dir := f.TempDir()
	b := sim.New()
	b.SetRoot(dir)
	if err := b.WriteHwmon(0, "it", "", map[string]string{"humidity1_input": "1"}); err != nil {
		f.Fatal(err)
	}
	s, err := hwmon.Open(b, Config{Chip: "hwmon", Options: Hwmon{Device: "it"}})
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, text string) {
		if err := os.WriteFile(filepath.Join(dir, "sys/class/hwmon/hwmon0/humidity1_input"), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		fields, err := s.Sense()
		if err != nil && !errors.Is(err, ErrFault) {
			t.Errorf("%q: %v", text, err)
		}
		if v := slices.IndexFunc(fields, func(f Field) bool { x := f.Value.(float64); return math.IsNaN(x) || x < 0 || x > 100 }); v >= 0 {
			t.Errorf("%q: %v", text, fields)
		}
	})
}
