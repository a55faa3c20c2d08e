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

// KernelDevice is a sensor with a kernel driver, found under /sys.
type KernelDevice struct {
	Chip    string // the chip of the catalog that reads it: hwmon, iio, dht22, ds18b20, thermal
	Name    string // the driver's name for it: "sht3x"; a probe's number; a zone's type
	At      string // its parent: "1-0044", "spi0.0"; empty if it has none
	Options any    // its keys for [Config]
	// Thermal says that an hwmon device is another name of a thermal zone.
	Thermal bool
}

// KernelDevices lists the sensors that have a kernel driver now, from /sys under the
// board's root. It may be called from any goroutine.
func KernelDevices(b board.Board) []KernelDevice {
	var all []KernelDevice
	for _, d := range hwmonClass.sorted(b) {
		if w1Probe().MatchString(d.parent) {
			continue // w1_therm lists each probe there too, without its checksum and its value after power-on
		}
		all = append(all, KernelDevice{Chip: "hwmon", Name: d.name, At: d.parent, Options: Hwmon{Device: d.name, At: d.parent}, Thermal: strings.HasPrefix(d.parent, "thermal_zone")})
	}
	for _, d := range iioClass.sorted(b) {
		k := KernelDevice{Chip: "iio", Name: d.name, At: d.parent, Options: IIO{Device: d.name, At: d.parent}}
		if stem, _, _ := strings.Cut(d.name, "@"); stem == dhtDevice {
			k.Chip, k.Options = "dht22", DHT{At: d.parent}
		}
		all = append(all, k)
	}
	probes, _ := os.ReadDir(filepath.Join(b.Root(), "sys/bus/w1/devices")) // in order of their names
	for _, e := range probes {
		if name := e.Name(); w1Probe().MatchString(name) {
			all = append(all, KernelDevice{Chip: "ds18b20", Name: name, Options: DS18B20{Device: name}})
		}
	}
	zones, _ := thermalZones(filepath.Join(b.Root(), "sys/class/thermal")) // none if they cannot be listed
	seen := map[string]bool{}
	for _, n := range zones {
		if kind, err := readKernel(filepath.Join(b.Root(), "sys/class/thermal", "thermal_zone"+strconv.Itoa(n), "type")); err == nil {
			zone := kind
			if seen[kind] {
				zone = strconv.Itoa(n) // the type would mean the first one
			}
			seen[kind] = true
			all = append(all, KernelDevice{Chip: "thermal", Name: kind, Options: Thermal{Zone: zone}})
		}
	}
	return all
}

// sorted lists the devices of a class by number: hwmon10 follows hwmon9.
func (c deviceClass) sorted(b board.Board) []classDevice {
	all, _ := c.devices(b) // none if they cannot be listed
	slices.SortFunc(all, func(a, b classDevice) int {
		return cmp.Or(cmp.Compare(len(a.dir), len(b.dir)), cmp.Compare(a.dir, b.dir))
	})
	return all
}
