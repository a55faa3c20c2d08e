package sensors

import (
	hexdump "encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"fieldpost/sensors/board"
	"fieldpost/sensors/option"
)

// Maxim's DS18B20 and its relatives on a 1-Wire bus, through the kernel's driver
// w1_therm.
//
// Sources: Maxim DS18B20, 19-7487, revision 6 (July 2019): temperature and scratchpad,
// tables 1 to 3. Linux, Documentation/w1/slaves/w1_therm.rst and
// drivers/w1/slaves/w1_therm.c: each read of the file w1_slave converts and returns the
// scratchpad in hex, its checksum and the temperature.
//
// A probe holds 85 degrees before its first conversion, and returns 127.9375 if its
// supply failed during one. Both are also possible measurements. Byte 6 of the scratchpad
// shows the difference: it is 0x0C then, and after a conversion 16 minus the lowest four
// bits of the temperature. The kernel's driver checks that only if bit 0 of `features` is
// set, which needs root; so this driver always checks it. Some imitations always have
// 0x0C there; exactly 85.0 degrees from those are refused, the next steps are not.
//
// The package's udev rule sets that bit. Then a probe that did not convert gives an empty
// file, as one that does not answer.
//
// If the process reads several probes of a bus, they convert at once; see [w1Bus]. A probe
// that is not read after such a conversion returns the old value the next time. So each
// reading begins with a conversion. If another program has caused one, the first value is
// read and dropped.

// DS18B20 are the keys of a probe.
type DS18B20 struct {
	// Device is the probe's number, as the kernel writes it: 28-00000a1b2c3d. It may be
	// left out if there is only one probe.
	Device string `yaml:"device"`
}

// Place returns the kernel's device.
func (o DS18B20) Place() Place { return Place{Device: "w1 " + o.Device} }

// w1Probe matches a probe's name: a family that w1_therm supports (DS18S20, DS1822,
// DS18B20, DS1825, DS28EA00) and a number of 48 bits.
var w1Probe = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`^(10|22|28|3b|42)-[0-9a-f]{12}$`) })

var ds18b20 = Chip{
	Name:   "ds18b20",
	Title:  "Maxim DS18B20, DS18S20, DS1822: temperature, on a 1-Wire bus, by the kernel's driver",
	Source: "Maxim 19-7487, revision 6; Linux, Documentation/w1/slaves/w1_therm.rst",
	Options: option.Set{
		Defaults: DS18B20{},
		Rules: map[string]option.Rule{"device": {Wants: "a probe's number such as 28-00000a1b2c3d", Check: func(v any) string {
			if s := v.(string); s != "" && !w1Probe().MatchString(s) {
				return "want a probe's number as `ls /sys/bus/w1/devices` shows it, such as 28-00000a1b2c3d"
			}
			return ""
		}}},
	},
	Quantities: []Quantity{{Name: "temperature", Unit: "Cel", Min: -55, Max: 125}},
	Every:      30 * time.Second,
	Worst:      20 * time.Second, // a dozen probes on parasitic power convert one after the other, 0.75 s each, and each may be read twice
	Look: func(b board.Board, c Config) error {
		_, err := findW1(b, optionsOf[DS18B20](c))
		return err
	},
	Open: openDS18B20,
}

// ds18b20Sensor is an open probe.
type ds18b20Sensor struct {
	f      *files
	member *w1Member // of its 1-Wire bus
}

func openDS18B20(b board.Board, c Config) (Sensor, error) {
	dir, err := findW1(b, optionsOf[DS18B20](c))
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", c.Chip, err)
	}
	device, err := filepath.EvalSymlinks(dir)
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", c.Chip, absent(err))
	}
	return &ds18b20Sensor{f: newFiles(c.Chip, filepath.Base(dir), dir), member: joinW1(device, filepath.Dir(device))}, nil
}

// findW1 returns the probe's directory, whose name is its number.
func findW1(b board.Board, o DS18B20) (string, error) {
	devices := filepath.Join(b.Root(), "sys/bus/w1/devices")
	entries, err := os.ReadDir(devices)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return "", fmt.Errorf("list probes: %w", err)
	}
	var all []string
	for _, e := range entries {
		if w1Probe().MatchString(e.Name()) {
			all = append(all, e.Name())
		}
	}
	switch {
	case o.Device != "" && slices.Contains(all, o.Device):
		return filepath.Join(devices, o.Device), nil
	case o.Device == "" && len(all) == 1:
		return filepath.Join(devices, all[0]), nil
	case o.Device == "" && len(all) > 1:
		return "", fmt.Errorf("there are %d probes; write which with the key device: %s", len(all), strings.Join(all, ", "))
	case len(all) > 0:
		return "", fmt.Errorf("probe %s: %w; there are %s", o.Device, ErrAbsent, strings.Join(all, ", "))
	case len(entries) > 0:
		return "", fmt.Errorf("no probe on the 1-Wire bus: %w; check its wires and the resistor of 4.7 kOhm from its data line to 3.3 V", ErrAbsent)
	}
	return "", fmt.Errorf("no 1-Wire bus in %s: %w; on a Raspberry Pi dtoverlay=w1-gpio,gpiopin=4 in config.txt, with the GPIO that the data line is on, and a restart load its driver", devices, ErrAbsent)
}

// Quantities returns the chip's.
func (s *ds18b20Sensor) Quantities() []Quantity { return ds18b20.Quantities }

// Sense converts once, and once more if the probe did not convert or did not answer: the
// kernel's driver says the same of both. It blocks the sensor's
// worker for a second, but no other bus.
func (s *ds18b20Sensor) Sense() ([]Field, error) {
	s.f.begin()
	converted := s.member.convert()
	s.member.bus.reading.RLock()
	defer s.member.bus.reading.RUnlock()
	if !converted && s.stale() {
		if _, err := s.f.again("w1_slave"); err != nil {
			return nil, s.f.wrap("read", err)
		}
	}
	fields, err := s.sense()
	if errors.Is(err, errNotConverted) || errors.Is(err, ErrSilent) {
		fields, err = s.sense()
	}
	return fields, s.f.wrap("read", err)
}

// stale reports whether a probe of the bus holds a value from another conversion. Old
// kernels have no such file.
func (s *ds18b20Sensor) stale() bool {
	text, err := readKernel(filepath.Join(s.member.bus.dir, "therm_bulk_read"))
	return err == nil && text == "1"
}

func (s *ds18b20Sensor) sense() ([]Field, error) {
	text, err := s.f.again("w1_slave")
	if err != nil {
		return nil, err
	}
	celsius, err := w1Celsius(text)
	if err != nil {
		return nil, err
	}
	return values(ds18b20.Quantities, celsius)
}

// errNotConverted is the error of a probe that returned an old value.
var errNotConverted = faultf("the probe did not convert: it returned its value after power-on, or its supply failed meanwhile; check its supply")

var w1Slave = sync.OnceValue(func() *regexp.Regexp {
	return regexp.MustCompile(`^((?:[0-9a-f]{2} ){9}): crc=[0-9a-f]{2} (YES|NO)\n(?:[0-9a-f]{2} ){9}t=(-?[0-9]+)$`)
})

// w1Celsius parses a w1_slave file. The kernel's driver returns an empty one if the probe
// did not answer or did not convert.
func w1Celsius(text string) (float64, error) {
	if text == "" {
		return 0, fmt.Errorf("the kernel's driver got no answer, or none with a right checksum, or the probe lost its supply meanwhile: %w", ErrSilent)
	}
	m := w1Slave().FindStringSubmatch(text)
	if m == nil {
		return 0, faultf("w1_slave is %.90q", text)
	}
	pad, err := hexdump.DecodeString(strings.ReplaceAll(m[1], " ", ""))
	if err != nil {
		return 0, faultf("w1_slave is %.90q", text)
	}
	milli, err := strconv.Atoi(m[3])
	switch {
	case err != nil:
		return 0, faultf("w1_slave is %.90q", text)
	case uniform(pad): // zeros pass the checksum
		return 0, faultf("the scratchpad is % x: the data line is held, or open", pad)
	case m[2] != "YES":
		return 0, faultf("the checksum of the scratchpad % x is wrong", pad)
	case pad[6] == 0x0C && (milli == 85000 || milli == 127937):
		return 0, errNotConverted
	}
	return float64(milli) / 1000, nil
}

// Close takes no part in the bus's conversions any more. A file is open only while it is read.
func (s *ds18b20Sensor) Close() error {
	s.member.leave()
	return s.f.close()
}
