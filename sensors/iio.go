package sensors

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"math"
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

// A device of the kernel's industrial I/O: a sensor or an analog converter with a kernel
// driver, loaded by an overlay such as dtoverlay=mcp3008.
//
// Source: Linux, Documentation/ABI/testing/sysfs-bus-iio: names and units of the files. A
// channel has its value in _input, or in _raw: then it is (_raw + _offset) * _scale. Offset
// and scale may be those of the channel or of all channels of its type. A _raw channel
// without a scale has no known unit and is left out. Reading a channel may convert and block.

// IIO are the keys of a device.
type IIO struct {
	// Device is the device's name, as its driver gives it: bme680, mcp3008, hx711. An @
	// and what follows it may be left out: dht11 means dht11@4.
	Device string `yaml:"device"`
	// At is the device's parent, as the kernel names it: 1-0076 is address 0x76 of i2c-1,
	// spi0.0 an SPI device. It is needed if several devices have the same name.
	At string `yaml:"at"`
	// Channel is the only channel to read, by its label or its file's name:
	// voltage0, temp. All, unless given.
	Channel string `yaml:"channel"`
}

// Place returns the kernel's device.
func (o IIO) Place() Place { return Place{Device: o.Device} }

var iioOptions = option.Set{
	Defaults: IIO{},
	Rules: map[string]option.Rule{
		"device":  {Required: true, Wants: "a device's name such as bme680", Check: kernelName},
		"at":      {Wants: "a place such as 1-0076", Check: kernelName},
		"channel": {Wants: "a channel's label or name such as voltage0", Check: kernelName},
	},
}

// iioKind is a type of channel, with a modifier or without.
type iioKind struct {
	name string  // in the file's name: in_NAME0_raw; with its modifier if that decides the quantity
	unit float64 // the quantity's unit divided by the file's
	Quantity
}

// The types, with the units of sysfs-bus-iio. The limits include what any chip can
// measure; a driver knows its chip's. Types without a unit there, such as intensity,
// depend on the chip and are left out. An entry with a modifier comes before the one
// without.
var iioKinds = []iioKind{
	{"concentration_co2", 1e-4, Quantity{Name: "co2", Unit: "[ppm]", Min: 0, Max: 1e6}},          // percent
	{"concentration_voc", 1e-7, Quantity{Name: "tvoc", Unit: "[ppb]", Min: 0, Max: 1e9}},         // percent
	{"massconcentration_pm1", 1, Quantity{Name: "pm1", Unit: "ug/m3", Min: 0, Max: 1e5}},         // µg/m³
	{"massconcentration_pm2p5", 1, Quantity{Name: "pm2_5", Unit: "ug/m3", Min: 0, Max: 1e5}},     // µg/m³
	{"massconcentration_pm4", 1, Quantity{Name: "pm4", Unit: "ug/m3", Min: 0, Max: 1e5}},         // µg/m³
	{"massconcentration_pm10", 1, Quantity{Name: "pm10", Unit: "ug/m3", Min: 0, Max: 1e5}},       // µg/m³
	{"temp", 1e3, Quantity{Name: "temperature", Unit: "Cel", Min: -273.15, Max: 3000}},           // m°C
	{"humidityrelative", 1e3, Quantity{Name: "humidity", Unit: "%", Min: 0, Max: 100}},           // m%
	{"pressure", 1e-3, Quantity{Name: "pressure", Unit: "Pa", Min: 0, Max: 1e9}},                 // kPa
	{"illuminance", 1, Quantity{Name: "illuminance", Unit: "lx", Min: 0, Max: 1e6}},              // lx
	{"voltage", 1e3, Quantity{Name: "voltage", Unit: "V", Min: -1e4, Max: 1e4}},                  // mV
	{"current", 1e3, Quantity{Name: "current", Unit: "A", Min: -1e4, Max: 1e4}},                  // mA
	{"power", 1e3, Quantity{Name: "power", Unit: "W", Min: -1e6, Max: 1e6}},                      // mW
	{"energy", 1, Quantity{Name: "energy", Unit: "J", Min: 0, Max: 1e13}},                        // J
	{"resistance", 1, Quantity{Name: "resistance", Unit: "Ohm", Min: 0, Max: 1e12}},              // Ω
	{"distance", 1, Quantity{Name: "distance", Unit: "m", Min: 0, Max: 1e6}},                     // m
	{"ph", 1, Quantity{Name: "ph", Unit: "[pH]", Min: -2, Max: 16}},                              // pH
	{"electricalconductivity", 1, Quantity{Name: "conductivity", Unit: "S/m", Min: 0, Max: 1e8}}, // S/m
	{"concentration", 1, Quantity{Name: "concentration", Unit: "%", Min: 0, Max: 100}},           // percent
	{"accel", 1, Quantity{Name: "acceleration", Unit: "m/s2", Min: -1e5, Max: 1e5}},              // m/s²
	{"anglvel", 1, Quantity{Name: "angular_velocity", Unit: "rad/s", Min: -1e5, Max: 1e5}},       // rad/s
	{"magn", 1, Quantity{Name: "magnetic_field", Unit: "G", Min: -1e6, Max: 1e6}},                // gauss
	{"angl", 1, Quantity{Name: "angle", Unit: "rad", Min: -1e3, Max: 1e3}},                       // rad
	{"uvindex", 1, Quantity{Name: "uv_index", Unit: "1", Min: 0, Max: 100}},                      // UV index
	{"velocity_sqrt(x^2+y^2+z^2)", 1, Quantity{Name: "velocity", Unit: "m/s", Min: 0, Max: 1e5}}, // m/s
}

var iio = Chip{
	Name:       "iio",
	Title:      "a sensor whose driver is the kernel's, by its name in /sys/bus/iio",
	Source:     "Linux, Documentation/ABI/testing/sysfs-bus-iio",
	Options:    iioOptions,
	Quantities: iioQuantities(),
	Channels:   true,
	Every:      10 * time.Second,
	Worst:      5 * time.Second, // a driver waits for its chip's conversion, which takes some chips seconds
	Look: func(b board.Board, c Config) error {
		o := optionsOf[IIO](c)
		_, err := iioClass.find(b, o.Device, o.At)
		return err
	},
	Open: func(b board.Board, c Config) (Sensor, error) { return openIIO(b, c, optionsOf[IIO](c)) },
}

func iioQuantities() (all []Quantity) {
	for _, k := range iioKinds {
		all = append(all, k.Quantity)
	}
	return all
}

// iioChannel is one value of a device.
type iioChannel struct {
	kind  int    // index in iioKinds
	stem  string // "in_voltage0"
	file  string // "in_voltage0_raw"
	label string // the driver's name for it, or its modifier; may be empty
	// The beginnings of the names that its offset and scale may have.
	shared []string
	raw    bool
}

func (c iioChannel) is(name string) bool {
	return name == "" || name == c.stem || name == strings.TrimPrefix(c.stem, "in_") || name == c.label || name == c.file
}

// iioSensor is an open device.
type iioSensor struct {
	classSensor
	channels []iioChannel
}

func openIIO(b board.Board, c Config, o IIO) (*iioSensor, error) {
	d, err := iioClass.find(b, o.Device, o.At)
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", c.Chip, err)
	}
	s := &iioSensor{classSensor: newClassSensor(c.Chip, iioClass, d)}
	if err := s.setup(o.Channel); err != nil {
		return nil, s.f.wrap("open", err)
	}
	return s, nil
}

// Triggers are in the same directory, without the prefix.
var iioClass = deviceClass{dir: "sys/bus/iio/devices", prefix: "iio:device", example: "bme680", parent: iioParent, placed: true}

// iioParent returns the name of a device's parent device, or "" if it has none. The device's
// entry is a link to a directory in that of its parent.
func iioParent(dir string) string {
	link, err := os.Readlink(dir)
	if err != nil {
		return ""
	}
	return filepath.Base(filepath.Dir(link))
}

// iioFile matches the name of a channel's file: type, optional index, for a difference
// type and index of the other input, optional modifier.
var iioFile = sync.OnceValue(func() *regexp.Regexp {
	return regexp.MustCompile(`^in_([a-z]+)([0-9]*)(?:-([a-z]+)([0-9]+))?(?:_([a-z0-9()^+]+))?_(raw|input)$`)
})

// setup finds the device's channels and names their quantities.
func (s *iioSensor) setup(only string) error {
	entries, err := os.ReadDir(s.f.dir)
	if err != nil {
		return absent(err)
	}
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	for _, name := range names {
		c, ok := iioChannelOf(name)
		if !ok || c.raw && (slices.Contains(names, c.stem+"_input") || !s.scaled(c, names)) {
			continue
		}
		if label, err := readKernel(filepath.Join(s.f.dir, c.stem+"_label")); err == nil && label != "" {
			c.label = label // most have none
		}
		if c.is(only) {
			s.channels = append(s.channels, c)
		}
	}
	if err := checkChannels(len(s.channels), only); err != nil {
		return err
	}
	slices.SortFunc(s.channels, func(a, b iioChannel) int {
		return cmp.Or(cmp.Compare(a.kind, b.kind), cmp.Compare(len(a.stem), len(b.stem)), cmp.Compare(a.stem, b.stem))
	})
	named := make([]channelName, len(s.channels))
	for i, c := range s.channels {
		k := iioKinds[c.kind]
		named[i] = channelName{k.Quantity, c.label, strings.Trim(notInNames().ReplaceAllString(strings.TrimPrefix(c.stem, "in_"+strings.SplitN(k.name, "_", 2)[0]), "_"), "_")}
	}
	s.quantities = nameChannels(named)
	return nil
}

// iioChannelOf returns the channel of a file.
func iioChannelOf(file string) (c iioChannel, ok bool) {
	m := iioFile().FindStringSubmatch(file)
	if m == nil {
		return c, false
	}
	kind, index, other, otherIndex, modifier := m[1], m[2], m[3], m[4], m[5]
	c.file, c.raw = file, m[6] == "raw"
	c.stem = strings.TrimSuffix(file, "_"+m[6])
	c.label = modifier
	is := func(name string) func(iioKind) bool { return func(k iioKind) bool { return k.name == name } }
	if c.kind = slices.IndexFunc(iioKinds, is(kind+"_"+modifier)); c.kind >= 0 {
		c.label = "" // it is in the quantity's name
	} else if c.kind = slices.IndexFunc(iioKinds, is(kind)); c.kind < 0 {
		return c, false
	}
	c.shared = []string{c.stem}
	if other != "" {
		c.shared = append(c.shared, "in_"+kind+index+"-"+other+otherIndex, "in_"+kind+"-"+other)
	}
	if modifier != "" {
		c.shared = append(c.shared, "in_"+kind+index, "in_"+kind+"_"+modifier)
	}
	c.shared = append(c.shared, "in_"+kind, "in")
	return c, true
}

// scaled reports whether a raw channel has a scale.
func (s *iioSensor) scaled(c iioChannel, names []string) bool {
	return slices.ContainsFunc(c.shared, func(stem string) bool { return slices.Contains(names, stem+"_scale") })
}

// Sense reads all channels.
func (s *iioSensor) Sense() ([]Field, error) {
	s.f.begin()
	s.f.left = 16 * (mostChannels + 1) // the kernel's files end by themselves
	fields, err := s.sense(func(i int) (float64, error) { return s.channel(s.channels[i]) })
	return fields, s.f.wrap("read", err)
}

// channel reads one value.
func (s *iioSensor) channel(c iioChannel) (float64, error) {
	v, err := s.number(c.file, s.f.again)
	if err != nil {
		return 0, err
	}
	if c.raw {
		offset, err := s.shared(c, "_offset", 0)
		if err != nil {
			return 0, err
		}
		scale, err := s.shared(c, "_scale", math.NaN())
		if err != nil {
			return 0, err
		}
		if v = (v + offset) * scale; math.IsNaN(v) {
			return 0, faultf("%s has no scale any more", c.file)
		}
	}
	return round(v/iioKinds[c.kind].unit, 1e-6), nil
}

// shared reads the offset or scale of a channel or of its type. It returns otherwise if
// there is none.
func (s *iioSensor) shared(c iioChannel, suffix string, otherwise float64) (float64, error) {
	for _, stem := range c.shared {
		v, err := s.number(stem+suffix, s.f.read)
		if !errors.Is(err, fs.ErrNotExist) {
			return v, err
		}
		s.f.last = nil
	}
	return otherwise, nil
}

// number reads a file with a decimal number.
func (s *iioSensor) number(file string, read func(string) (string, error)) (float64, error) {
	text, err := read(file)
	if err != nil {
		return 0, err
	}
	v, err := strconv.ParseFloat(text, 64)
	if err != nil || math.IsNaN(v) || math.IsInf(v, 0) || strings.ContainsAny(text, "xXpP_") {
		return 0, faultf("%s is %.20q, not a number", file, text)
	}
	return v, nil
}
