package sensors

import (
	"cmp"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"fieldpost/sensors/board"
)

// KernelDevice is a sensor that a driver of the kernel's reads, as it was found under /sys.
type KernelDevice struct {
	Chip    string // the chip of the catalog that reads it: hwmon, iio, dht22, ds18b20, thermal
	Name    string // as its driver gives it: "sht3x"; of a probe its number, of a zone its type
	At      string // what it sits on: "1-0044", "spi0.0"; empty where that is nothing
	Options any    // the keys that choose it, for [Config]
	// Thermal says that an hwmon device is another name of a thermal zone.
	Thermal bool
}

// KernelDevices lists the sensors that drivers of the kernel's have now, from /sys under the
// board's root. Any goroutine.
func KernelDevices(b board.Board) []KernelDevice {
	var all []KernelDevice
	for _, dir := range subdirectories(b, "sys/class/hwmon") {
		if name, err := readKernel(filepath.Join(dir, "name")); err == nil {
			at := hwmonAt(dir)
			all = append(all, KernelDevice{Chip: "hwmon", Name: name, At: at, Options: Hwmon{Device: name, At: at}, Thermal: strings.HasPrefix(at, "thermal_zone")})
		}
	}
	for _, dir := range subdirectories(b, "sys/bus/iio/devices") {
		name, err := readKernel(filepath.Join(dir, "name"))
		if err != nil || !strings.HasPrefix(filepath.Base(dir), "iio:device") {
			continue
		}
		d := KernelDevice{Chip: "iio", Name: name, At: iioAt(dir), Options: IIO{Device: name, At: iioAt(dir)}}
		if stem, _, _ := strings.Cut(name, "@"); stem == dhtDevice {
			d.Chip, d.Options = "dht22", DHT{At: d.At}
		}
		all = append(all, d)
	}
	for _, dir := range subdirectories(b, "sys/bus/w1/devices") {
		if name := filepath.Base(dir); w1Probe.MatchString(name) {
			all = append(all, KernelDevice{Chip: "ds18b20", Name: name, Options: DS18B20{Device: name}})
		}
	}
	zones, _ := thermalZones(filepath.Join(b.Root(), "sys/class/thermal")) // else there are none
	seen := map[string]bool{}
	for _, n := range zones {
		if kind, err := readKernel(filepath.Join(b.Root(), "sys/class/thermal", "thermal_zone"+strconv.Itoa(n), "type")); err == nil {
			zone := kind
			if seen[kind] {
				zone = strconv.Itoa(n) // the type means the first
			}
			seen[kind] = true
			all = append(all, KernelDevice{Chip: "thermal", Name: kind, Options: Thermal{Zone: zone}})
		}
	}
	return all
}

// subdirectories lists what is in a directory under the board's root, shorter names first, so
// that hwmon10 follows hwmon9.
func subdirectories(b board.Board, dir string) []string {
	path := filepath.Join(b.Root(), dir)
	entries, _ := os.ReadDir(path) // a directory that is not there has none
	var all []string
	for _, e := range entries {
		all = append(all, filepath.Join(path, e.Name()))
	}
	slices.SortFunc(all, func(a, b string) int { return cmp.Or(cmp.Compare(len(a), len(b)), cmp.Compare(a, b)) })
	return all
}
