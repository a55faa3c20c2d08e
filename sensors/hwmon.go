package sensors

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"fieldpost/sensors/board"
	"fieldpost/sensors/option"
)

// A device of the kernel's hardware monitoring: a chip with a kernel driver, loaded by an
// overlay such as dtoverlay=i2c-sensor,sht3x, or a part of the board.
//
// Source: Linux, Documentation/hwmon/sysfs-interface.rst: names and units of the files,
// and the error ENODATA of a channel that is switched off or has no value yet, which is
// left out of the reading.

// Hwmon are the keys of a device.
type Hwmon struct {
	// Device is the device's name, as its driver gives it: sht3x, ina219, rpi_volt.
	Device string `yaml:"device"`
	// At is the device's parent, as the kernel names it: 1-0044 is address 0x44 of i2c-1.
	// It is needed if several devices have the same name.
	At string `yaml:"at"`
	// Channel is the only channel to read, by its label or its file's name: Vbus,
	// temp1. All, unless given.
	Channel string `yaml:"channel"`
}

// Place returns the kernel's device.
func (o Hwmon) Place() Place { return Place{Device: o.Device} }

var hwmonOptions = option.Set{
	Defaults: Hwmon{},
	Rules: map[string]option.Rule{
		"device":  {Required: true, Wants: "a device's name such as sht3x", Check: kernelName},
		"at":      {Wants: "a place such as 1-0044", Check: kernelName},
		"channel": {Wants: "a channel's label or name such as temp1", Check: kernelName},
	},
}

// hwmonKind is a kind of channel.
type hwmonKind struct {
	prefix, suffix string  // of its file: temp1_input
	unit           float64 // the quantity's unit divided by the file's
	Quantity
}

// The kinds, with the units of sysfs-interface.rst. The limits include what any chip can
// measure; a driver knows its chip's.
var hwmonKinds = []hwmonKind{
	{"temp", "_input", 1e3, Quantity{Name: "temperature", Unit: "Cel", Min: -273.15, Max: 3000}}, // m°C
	{"humidity", "_input", 1e3, Quantity{Name: "humidity", Unit: "%", Min: 0, Max: 100}},         // m%
	{"in", "_input", 1e3, Quantity{Name: "voltage", Unit: "V", Min: -1e4, Max: 1e4}},             // mV
	{"curr", "_input", 1e3, Quantity{Name: "current", Unit: "A", Min: -1e4, Max: 1e4}},           // mA
	{"power", "_input", 1e6, Quantity{Name: "power", Unit: "W", Min: -1e6, Max: 1e6}},            // µW
	{"energy", "_input", 1e6, Quantity{Name: "energy", Unit: "J", Min: 0, Max: 1e13}},            // µJ
	{"fan", "_input", 1, Quantity{Name: "speed", Unit: "/min", Min: 0, Max: 1e6}},                // rpm
	{"in", "_lcrit_alarm", 1, Quantity{Name: "undervoltage", Min: 0, Max: 1}},                    // rpi_volt has no more
}

var hwmon = Chip{
	Name:       "hwmon",
	Title:      "a sensor whose driver is the kernel's, by its name in /sys/class/hwmon",
	Source:     "Linux, Documentation/hwmon/sysfs-interface.rst",
	Options:    hwmonOptions,
	Quantities: kindsOf(hwmonKinds),
	Channels:   true,
	Every:      10 * time.Second,
	Worst:      2 * time.Second, // a chip may convert at each read
	Look: func(b board.Board, c Config) error {
		o := optionsOf[Hwmon](c)
		_, err := hwmonClass.find(b, o.Device, o.At)
		return err
	},
	Open: openHwmon,
}

func kindsOf(kinds []hwmonKind) (all []Quantity) {
	for _, k := range kinds {
		all = append(all, k.Quantity)
	}
	return all
}

// hwmonChannel is one value of a device.
type hwmonChannel struct {
	kind  hwmonKind
	stem  string // "temp1"
	label string // the driver's name for it; may be empty
}

func (c hwmonChannel) is(name string) bool { return name == "" || name == c.stem || name == c.label }

// hwmonSensor is an open device.
type hwmonSensor struct {
	classSensor
	channels []hwmonChannel
}

func openHwmon(b board.Board, c Config) (Sensor, error) {
	o := optionsOf[Hwmon](c)
	d, err := hwmonClass.find(b, o.Device, o.At)
	if err != nil {
		return nil, fmt.Errorf("open hwmon: %w", err)
	}
	s := &hwmonSensor{classSensor: newClassSensor(c.Chip, hwmonClass, d)}
	if err := s.setup(o.Channel); err != nil {
		return nil, s.f.wrap("open", err)
	}
	return s, nil
}

var hwmonClass = deviceClass{dir: "sys/class/hwmon", example: "sht3x", parent: hwmonParent}

// hwmonParent returns the name of a device's parent device, or "" if it has none.
func hwmonParent(dir string) string {
	link, err := os.Readlink(filepath.Join(dir, "device"))
	if err != nil {
		return ""
	}
	return filepath.Base(link)
}

// setup finds the device's channels and names their quantities.
func (s *hwmonSensor) setup(only string) error {
	entries, err := os.ReadDir(s.f.dir)
	if err != nil {
		return absent(err)
	}
	for _, e := range entries {
		for _, k := range hwmonKinds {
			number, ok := strings.CutPrefix(strings.TrimSuffix(e.Name(), k.suffix), k.prefix)
			if _, err := strconv.ParseUint(number, 10, 16); !ok || err != nil || !strings.HasSuffix(e.Name(), k.suffix) {
				continue
			}
			c := hwmonChannel{kind: k, stem: k.prefix + number}
			c.label, _ = readKernel(filepath.Join(s.f.dir, c.stem+"_label")) // most have none
			if c.is(only) {
				s.channels = append(s.channels, c)
			}
		}
	}
	if err := checkChannels(len(s.channels), only); err != nil {
		return err
	}
	slices.SortFunc(s.channels, compareChannels)
	s.name()
	return nil
}

// compareChannels orders channels by kind and then by number.
func compareChannels(a, b hwmonChannel) int {
	place := func(c hwmonChannel) int {
		return slices.IndexFunc(hwmonKinds, func(k hwmonKind) bool { return k.Name == c.kind.Name })
	}
	return cmp.Or(cmp.Compare(place(a), place(b)), cmp.Compare(len(a.stem), len(b.stem)), cmp.Compare(a.stem, b.stem))
}

// name gives each channel's quantity its name.
func (s *hwmonSensor) name() {
	named := make([]channelName, len(s.channels))
	for i, c := range s.channels {
		named[i] = channelName{c.kind.Quantity, c.label, strings.TrimPrefix(c.stem, c.kind.prefix)}
	}
	s.quantities = nameChannels(named)
}

// Sense reads all channels.
func (s *hwmonSensor) Sense() ([]Field, error) {
	s.f.begin()
	s.f.left = 3 * (mostChannels + 1) // the kernel's files end by themselves
	fields, err := s.sense(func(i int) (float64, error) { return s.channel(s.channels[i]) })
	return fields, s.f.wrap("read", err)
}

// channel reads one value.
func (s *hwmonSensor) channel(c hwmonChannel) (float64, error) {
	text, err := s.f.read(c.stem + c.kind.suffix)
	if err != nil {
		return 0, err
	}
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil {
		return 0, faultf("%s%s is %.20q, not a number", c.stem, c.kind.suffix, text)
	}
	bad, err := s.f.read(c.stem + "_fault")
	switch {
	case errors.Is(err, fs.ErrNotExist): // most have none
		s.f.last = nil
	case err != nil:
		return 0, err
	case bad != "0":
		return 0, faultf("the kernel's driver says that the sensor of %s is broken or not connected", c.stem)
	}
	return float64(n) / c.kind.unit, nil
}
