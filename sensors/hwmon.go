package sensors

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
	"unicode"

	"fieldpost/sensors/board"
	"fieldpost/sensors/option"
)

// A device of the kernel's hardware monitoring: a chip whose driver is the
// kernel's, loaded by an overlay such as dtoverlay=i2c-sensor,sht3x, or a part of
// the board.
//
// Source: Linux, Documentation/hwmon/sysfs-interface.rst: names and units of the
// files, and the error ENODATA of a channel that is switched off or has no value
// yet, which is left out of the reading. hwmonN is not stable, so a device is known by its name and, where several
// have that, by what it sits on.

// Hwmon are the keys of a device.
type Hwmon struct {
	// Device is the device's name, as its driver gives it: sht3x, ina219, rpi_volt.
	Device string `yaml:"device"`
	// At is what the device sits on, as the kernel names it: 1-0044 is address 0x44
	// of i2c-1. It is needed where several devices have the same name.
	At string `yaml:"at"`
	// Channel is the only channel to read, by its label or its file's name: Vbus,
	// temp1. All, unless given.
	Channel string `yaml:"channel"`
}

// Place is the kernel's device.
func (o Hwmon) Place() Place { return Place{Device: o.Device} }

var hwmonOptions = option.Set{
	Defaults: Hwmon{},
	Rules: map[string]option.Rule{
		"device":  {Required: true, Wants: "a device's name such as sht3x", Check: kernelName},
		"at":      {Wants: "a place such as 1-0044", Check: kernelName},
		"channel": {Wants: "a channel's label or name such as temp1", Check: kernelName},
	},
}

func kernelName(v any) string {
	if s := v.(string); len(s) > 64 || strings.Contains(s, "/") || strings.ContainsFunc(s, unicode.IsControl) {
		return "want a name as the kernel gives it, without a path"
	}
	return ""
}

// hwmonKind is a kind of channel.
type hwmonKind struct {
	prefix, suffix string  // of its file: temp1_input
	unit           float64 // what the file's number is of the quantity's unit
	Quantity
}

// The kinds, with the units of sysfs-interface.rst. The limits are what any
// chip could measure; a driver knows its own.
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

// mostChannels is how many values of a device are read.
const mostChannels = 64

var hwmon = Chip{
	Name:       "hwmon",
	Title:      "a sensor whose driver is the kernel's, by its name in /sys/class/hwmon",
	Source:     "Linux, Documentation/hwmon/sysfs-interface.rst",
	Options:    hwmonOptions,
	Quantities: kindsOf(hwmonKinds),
	Every:      10 * time.Second,
	Worst:      2 * time.Second, // a chip may convert at each read
	Look: func(b board.Board, c Config) error {
		_, err := findHwmon(b, optionsOf[Hwmon](c))
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
	label string // what the driver calls it; may be empty
}

func (c hwmonChannel) is(name string) bool { return name == "" || name == c.stem || name == c.label }

// hwmonSensor is an open device.
type hwmonSensor struct {
	f          *files
	device, at string
	channels   []hwmonChannel
	quantities []Quantity
}

func openHwmon(b board.Board, c Config) (Sensor, error) {
	o := optionsOf[Hwmon](c)
	dir, err := findHwmon(b, o)
	if err != nil {
		return nil, fmt.Errorf("open hwmon: %w", err)
	}
	s := &hwmonSensor{f: newFiles(c.Chip, "device "+strconv.Quote(o.Device), dir), device: o.Device, at: hwmonAt(dir)}
	if err := s.setup(o.Channel); err != nil {
		return nil, s.f.wrap("open", err)
	}
	return s, nil
}

// findHwmon returns the directory of the device, which it has now.
func findHwmon(b board.Board, o Hwmon) (string, error) {
	if o.Device == "" {
		return "", errors.New("device is missing: want its name, such as sht3x")
	}
	class := filepath.Join(b.Root(), "sys/class/hwmon")
	entries, err := os.ReadDir(class)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return "", fmt.Errorf("list devices: %w", err)
	}
	var found, places, all []string
	for _, e := range entries {
		dir := filepath.Join(class, e.Name())
		name, err := readKernel(filepath.Join(dir, "name"))
		if err != nil {
			continue // gone since the directory was read, or not readable: no match
		}
		at := hwmonAt(dir)
		all = append(all, strings.TrimSuffix(name+" at "+at, " at "))
		if name == o.Device && (o.At == "" || o.At == at) {
			found, places = append(found, dir), append(places, at)
		}
	}
	slices.Sort(all)
	switch {
	case len(found) == 1:
		return found[0], nil
	case len(found) > 1:
		slices.Sort(places)
		return "", fmt.Errorf("device %q is there %d times; choose one with the key at: %s", o.Device, len(found), strings.Join(places, ", "))
	case len(all) == 0:
		return "", fmt.Errorf("no device in %s: %w", class, ErrAbsent)
	}
	return "", fmt.Errorf("device %q: %w; there are %s", strings.TrimSuffix(o.Device+" at "+o.At, " at "), ErrAbsent, strings.Join(all, ", "))
}

// hwmonAt returns what a device sits on, "" where that is nothing.
func hwmonAt(dir string) string {
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
			c.label, _ = readKernel(filepath.Join(s.f.dir, c.stem+"_label")) // few have one
			if c.is(only) {
				s.channels = append(s.channels, c)
			}
		}
	}
	switch n := len(s.channels); {
	case n == 0 && only != "":
		return fmt.Errorf("channel %q: %w", only, ErrAbsent)
	case n == 0:
		return faultf("it has no channel that fieldpost knows")
	case n > mostChannels:
		return faultf("it has %d channels, more than %d: choose one", n, mostChannels)
	}
	slices.SortFunc(s.channels, func(a, b hwmonChannel) int { return compareChannels(a, b) })
	s.name()
	return nil
}

// compareChannels orders by kind and then by number.
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

// channelName is what a channel of a device of the kernel's can be named by.
type channelName struct {
	Quantity
	label  string // may be empty
	number string // unique among the device's channels of that quantity
}

var notInNames = regexp.MustCompile(`[^a-z0-9]+`)

// nameChannels gives each channel's quantity a name. It is the quantity's own name if the
// device has one channel of it; otherwise the channel's label is added, or its number if it
// has no label or shares it with another channel.
func nameChannels(channels []channelName) []Quantity {
	count := map[string]int{}
	labelled := func(c channelName) string {
		return c.Name + "_" + strings.Trim(notInNames.ReplaceAllString(strings.ToLower(c.label), "_"), "_")
	}
	for _, c := range channels {
		count[c.Name]++
		count[labelled(c)]++
	}
	quantities := make([]Quantity, len(channels))
	for i, c := range channels {
		q := c.Quantity
		if count[c.Name] > 1 {
			q.Name = labelled(c)
			if count[q.Name] > 1 || strings.HasSuffix(q.Name, "_") {
				q.Name = c.Name + "_" + c.number
			}
		}
		quantities[i] = q
	}
	return quantities
}

// Quantities are those that the device has.
func (s *hwmonSensor) Quantities() []Quantity { return s.quantities }

// Sense reads all channels. The directory's number may have become another
// device's, so its name and place are read with every value.
func (s *hwmonSensor) Sense() ([]Field, error) {
	s.f.begin()
	fields, err := s.sense()
	return fields, s.f.wrap("read", err)
}

func (s *hwmonSensor) sense() ([]Field, error) {
	s.f.left = 3 * (mostChannels + 1) // the kernel's files end by themselves
	name, err := s.f.read("name")
	if err != nil {
		return nil, err
	}
	if at := hwmonAt(s.f.dir); name != s.device || at != s.at {
		return nil, faultf("%s is device %q at %q now", filepath.Base(s.f.dir), name, at)
	}
	var fields []Field
	for i, c := range s.channels {
		v, err := s.channel(c)
		if errors.Is(err, syscall.ENODATA) {
			s.f.last = nil
			continue // the driver has no value of this channel now; the others are none the worse
		}
		if err != nil {
			return nil, err
		}
		one, err := values(s.quantities[i:i+1], v)
		if err != nil {
			return nil, err
		}
		if c.kind.Unit == "" {
			one[0].Value = v != 0
		}
		fields = append(fields, one[0])
	}
	if len(fields) == 0 {
		return nil, faultf("its driver has no value of any channel now (%v)", syscall.ENODATA)
	}
	return fields, nil
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
	case errors.Is(err, ErrAbsent): // most have none
		s.f.last = nil
	case err != nil:
		return 0, err
	case bad != "0":
		return 0, faultf("the kernel's driver says that the sensor of %s is broken or not connected", c.stem)
	}
	return float64(n) / c.kind.unit, nil
}

// Close does nothing: a file is open only while it is read.
func (s *hwmonSensor) Close() error { return s.f.close() }
