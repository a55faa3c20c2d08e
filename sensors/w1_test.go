package sensors

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"fieldpost/sensors/sim"
)

// slave returns the contents of a w1_slave file, as written by w1_slave_show in the
// kernel's w1_therm.c.
func slave(scratchpad, verdict string, milli int) string {
	crc := scratchpad[len(scratchpad)-2:]
	return fmt.Sprintf("%s : crc=%s %s\n%s t=%d\n", scratchpad, crc, verdict, scratchpad, milli)
}

// The data sheet's table 1 with the scratchpads. Byte 6 is 16 minus the lowest four bits.
var ds18b20Examples = []struct {
	scratchpad string
	milli      int
	celsius    float64
}{
	{"d0 07 4b 46 7f ff 10 10 55", 125000, 125}, {"50 05 4b 46 7f ff 10 10 bd", 85000, 85}, {"91 01 4b 46 7f ff 0f 10 25", 25062, 25.062},
	{"08 00 4b 46 7f ff 08 10 d9", 500, 0.5}, {"00 00 4b 46 7f ff 10 10 69", 0, 0}, {"6f fe 4b 46 7f ff 01 10 61", -25062, -25.062}, {"90 fc 4b 46 7f ff 10 10 ee", -55000, -55},
}

func TestDS18B20Celsius(t *testing.T) {
	for _, c := range ds18b20Examples {
		if got, err := w1Celsius(strings.TrimSpace(slave(c.scratchpad, "YES", c.milli))); err != nil || got != c.celsius {
			t.Errorf("%s: %v, %v, want %v", c.scratchpad, got, err, c.celsius)
		}
	}
	for _, c := range []struct {
		text, want string
	}{
		{"", "no answer"},
		{slave("50 05 4b 46 7f ff 0c 10 1c", "YES", 85000), "did not convert"},
		{slave("ff 07 4b 46 7f ff 0c 10 a6", "YES", 127937), "did not convert"},
		{slave("50 05 4b 46 7f ff 10 10 2b", "NO", 85000), "checksum"},
		{slave("00 00 00 00 00 00 00 00 00", "YES", 0), "held, or open"},
		{slave("ff ff ff ff ff ff ff ff ff", "NO", -62), "held, or open"},
		{"50 05 : crc=bd YES\nt=85000\n", "w1_slave is"},
		{"hot\n", "w1_slave is"},
	} {
		if got, err := w1Celsius(strings.TrimSpace(c.text)); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%q: %v, %v, want %q", c.text, got, err, c.want)
		}
	}
}

// A probe that was just powered on is read again. One that never converts is a fault.
// Measured 85 degrees are a value.
func TestDS18B20PowerOn(t *testing.T) {
	b := sim.New()
	b.SetRoot(t.TempDir())
	open := func(text string) *ds18b20Sensor {
		if err := b.WriteW1("28-00000a1b2c3d", text); err != nil {
			t.Fatal(err)
		}
		s, err := ds18b20.Open(b, Config{Chip: "ds18b20", Options: DS18B20{}})
		if err != nil {
			t.Fatal(err)
		}
		return s.(*ds18b20Sensor)
	}
	powerOn := slave("50 05 4b 46 7f ff 0c 10 1c", "YES", 85000)
	s := open(powerOn)
	if f, err := s.Sense(); !errors.Is(err, ErrFault) || f != nil || !strings.Contains(err.Error(), "supply") {
		t.Errorf("for ever: %v, %v", f, err)
	}
	s, reads := open(slave("91 01 4b 46 7f ff 0f 10 25", "YES", 25062)), 0
	s.f.text = func(path string) (string, error) {
		if reads++; reads == 1 {
			return strings.TrimSpace(powerOn), nil
		}
		return readKernel(path)
	}
	if f, err := s.Sense(); err != nil || f[0].Value != 25.062 || reads != 2 {
		t.Errorf("once: %v, %v after %d reads", f, err, reads)
	}
	if f, err := open(slave("50 05 4b 46 7f ff 10 10 bd", "YES", 85000)).Sense(); err != nil || f[0].Value != 85.0 {
		t.Errorf("85 degrees that were measured: %v, %v", f, err)
	}
	s = open("")
	if f, err := s.Sense(); !errors.Is(err, ErrSilent) || f != nil {
		t.Errorf("no answer: %v, %v", f, err)
	}
	failing(s.f, "w1_slave", syscall.EIO, syscall.EIO)
	if f, err := s.Sense(); !errors.Is(err, syscall.EIO) || f != nil {
		t.Errorf("EIO: %v, %v", f, err)
	}
}

// A value from another program's bulk conversion may be old, and is dropped.
func TestDS18B20Bulk(t *testing.T) {
	b := sim.New()
	b.SetRoot(t.TempDir())
	if err := b.WriteW1("28-00000a1b2c3d", slave("91 01 4b 46 7f ff 0f 10 25", "YES", 25062)); err != nil {
		t.Fatal(err)
	}
	s, err := ds18b20.Open(b, Config{Chip: "ds18b20", Options: DS18B20{}})
	if err != nil {
		t.Fatal(err)
	}
	for pending, want := range map[string]int{"1\n": 2, "0\n": 1} {
		if err := os.WriteFile(filepath.Join(b.Root(), "sys/devices/w1_bus_master1/therm_bulk_read"), []byte(pending), 0o644); err != nil {
			t.Fatal(err)
		}
		reads := 0
		s.(*ds18b20Sensor).f.text = func(path string) (string, error) {
			reads++
			return readKernel(path)
		}
		if f, err := s.Sense(); err != nil || f[0].Value != 25.062 || reads != want {
			t.Errorf("%q: %v, %v after %d reads, want %d", pending, f, err, reads, want)
		}
	}
}

func TestDS18B20Refuses(t *testing.T) {
	b := sim.New()
	b.SetRoot(t.TempDir())
	for _, name := range []string{"28-00000a1b2c3d", "10-0008019d0001"} {
		if err := b.WriteW1(name, slave("00 00 4b 46 7f ff 10 10 69", "YES", 0)); err != nil {
			t.Fatal(err)
		}
	}
	if err := b.WriteW1("00-400000000000", ""); err != nil { // what a bus without a pull-up shows
		t.Fatal(err)
	}
	for _, c := range []struct {
		device, want string
		absent       bool
	}{
		{"", "there are 2 probes; write which with the key device: 10-0008019d0001, 28-00000a1b2c3d", false},
		{"28-0000deadbeef", "probe 28-0000deadbeef: not there; there are 10-0008019d0001", true},
	} {
		s, err := ds18b20.Open(b, Config{Chip: "ds18b20", Options: DS18B20{c.device}})
		if s != nil || err == nil || !strings.Contains(err.Error(), c.want) || errors.Is(err, ErrAbsent) != c.absent {
			t.Errorf("%q: %v", c.device, err)
		}
	}
	for name, ok := range map[string]bool{"28-00000a1b2c3d": true, "": true, "28-00000A1B2C3D": false, "28-1": false, "../x": false, "00-400000000000": false} {
		if reason := ds18b20.Options.Rules["device"].Check(name); (reason == "") != ok {
			t.Errorf("%q: %q", name, reason)
		}
	}
}

// Any contents of the file become an error or a number.
func FuzzDS18B20(f *testing.F) {
	for _, c := range ds18b20Examples {
		f.Add(slave(c.scratchpad, "YES", c.milli))
	}
	f.Add("")
	f.Fuzz(func(t *testing.T, text string) {
		if v, err := w1Celsius(strings.TrimSpace(text)); err != nil && !errors.Is(err, ErrFault) && !errors.Is(err, ErrSilent) {
			t.Errorf("%q: %v, %v", text, v, err)
		}
	})
}
