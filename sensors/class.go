package sensors

import (
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
	"syscall"
	"unicode"

	"fieldpost/sensors/board"
)

// deviceClass is a directory of /sys that lists the devices of kernel drivers, such as
// sys/class/hwmon. Each device is a subdirectory with a file "name". The subdirectories' numbers
// are not stable, so a device is known by its name, and if several have that name, by its parent
// device.
type deviceClass struct {
	dir     string                  // under the board's root
	prefix  string                  // of the devices' subdirectories
	example string                  // a device's name, for errors
	parent  func(dir string) string // the parent device of the device in dir; "" if it has none
	// Some names have an @ and a place at the end, which may be left out in the configuration.
	placed bool
}

// classDevice is a device of a class.
type classDevice struct{ dir, name, parent string }

// String returns the device's name and parent.
func (d classDevice) String() string { return strings.TrimSuffix(d.name+" at "+d.parent, " at ") }

// devices lists the devices that the class has now. The error says that the directory cannot be
// read; a class that does not exist has no devices.
func (c deviceClass) devices(b board.Board) (all []classDevice, err error) {
	dir := filepath.Join(b.Root(), c.dir)
	entries, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("list devices: %w", err)
	}
	for _, e := range entries {
		path := filepath.Join(dir, e.Name())
		if name, err := readKernel(filepath.Join(path, "name")); err == nil && strings.HasPrefix(e.Name(), c.prefix) {
			all = append(all, classDevice{path, name, c.parent(path)})
		} // else it is no device, has been removed since, or is not readable
	}
	return all, nil
}

// find returns the device of that name and parent, of any parent if at is "".
func (c deviceClass) find(b board.Board, device, at string) (classDevice, error) {
	if device == "" {
		return classDevice{}, errors.New("device is missing: want its name, such as " + c.example)
	}
	all, err := c.devices(b)
	if err != nil {
		return classDevice{}, err
	}
	var found []classDevice
	var parents, names []string
	for _, d := range all {
		stem := d.name
		if c.placed {
			stem, _, _ = strings.Cut(d.name, "@")
		}
		if (d.name == device || stem == device) && (at == "" || at == d.parent) {
			found, parents = append(found, d), append(parents, d.parent)
		}
		names = append(names, d.String())
	}
	slices.Sort(names)
	switch {
	case len(found) == 1:
		return found[0], nil
	case len(found) > 1:
		slices.Sort(parents)
		return classDevice{}, fmt.Errorf("there are %d devices %q; choose one with the key at: %s", len(found), device, strings.Join(parents, ", "))
	case len(names) == 0:
		return classDevice{}, fmt.Errorf("no device in %s: %w", filepath.Join(b.Root(), c.dir), ErrAbsent)
	}
	return classDevice{}, fmt.Errorf("device %q: %w; there are %s", classDevice{name: device, parent: at}, ErrAbsent, strings.Join(names, ", "))
}

// classSensor is an open device of a class: what hwmon and IIO have in common.
type classSensor struct {
	f          *files
	class      deviceClass
	device     classDevice
	quantities []Quantity
}

func newClassSensor(chip string, class deviceClass, d classDevice) classSensor {
	return classSensor{f: newFiles(chip, "device "+strconv.Quote(d.name), d.dir), class: class, device: d}
}

// Quantities returns those of the device's channels.
func (s *classSensor) Quantities() []Quantity { return s.quantities }

// sense reads the channels. read returns the value of channel i; channel i is measured as
// quantities[i]. A channel of which the driver has no value now (ENODATA) is left out, unless that
// is all of them.
//
// The directory's number may have become another device's, so sense checks name and parent with
// every reading.
func (s *classSensor) sense(read func(i int) (float64, error)) ([]Field, error) {
	name, err := s.f.read("name")
	if err != nil {
		return nil, err
	}
	if parent := s.class.parent(s.f.dir); name != s.device.name || parent != s.device.parent {
		return nil, faultf("%s is device %q at %q now", filepath.Base(s.f.dir), name, parent)
	}
	var fields []Field
	for i, q := range s.quantities {
		v, err := read(i)
		if errors.Is(err, syscall.ENODATA) {
			s.f.last = nil
			continue
		}
		if err != nil {
			return nil, err
		}
		one, err := values([]Quantity{q}, v)
		if err != nil {
			return nil, err
		}
		if q.Unit == "" {
			one[0].Value = v != 0
		}
		fields = append(fields, one[0])
	}
	if len(fields) == 0 {
		return nil, faultf("its driver has no value for any channel now (%v)", syscall.ENODATA)
	}
	return fields, nil
}

// Close does nothing: a file is open only while it is read.
func (s *classSensor) Close() error { return s.f.close() }

// mostChannels is how many channels of a device are read.
const mostChannels = 64

// checkChannels returns an error if a device has no channel to read, or too many. only is the
// channel that is configured; "" means all.
func checkChannels(n int, only string) error {
	switch {
	case n == 0 && only != "":
		return fmt.Errorf("channel %q: %w", only, ErrAbsent)
	case n == 0:
		return faultf("it has no channel that fieldpost knows")
	case n > mostChannels:
		return faultf("it has %d channels, more than %d: choose one", n, mostChannels)
	}
	return nil
}

// channelName is what a device's channel can be named by.
type channelName struct {
	Quantity
	label  string // may be empty
	number string // unique among the device's channels of that quantity; one may have none
}

var notInNames = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`[^a-z0-9]+`) })

// nameChannels gives each channel's quantity a name. It is the quantity's own name if the
// device has one channel of it; otherwise the channel's label is added, or its number if it
// has no label or shares it with another channel.
func nameChannels(channels []channelName) []Quantity {
	count := map[string]int{}
	labelled := func(c channelName) string {
		return c.Name + "_" + strings.Trim(notInNames().ReplaceAllString(strings.ToLower(c.label), "_"), "_")
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
				q.Name = strings.TrimSuffix(c.Name+"_"+c.number, "_")
			}
		}
		quantities[i] = q
	}
	return quantities
}

// kernelName is the [option.Rule].Check of a name that the kernel gives.
func kernelName(v any) string {
	if s := v.(string); len(s) > 64 || strings.Contains(s, "/") || strings.ContainsFunc(s, unicode.IsControl) {
		return "want a name as the kernel gives it, without a path"
	}
	return ""
}
