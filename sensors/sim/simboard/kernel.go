package simboard

import (
	"cmp"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"time"

	"fieldpost/sensors"
)

// valueFile is a file of /sys with one number, which moves.
type valueFile struct {
	name   string
	middle float64
	digits int // after the decimal point
}

// text formats a value. All texts of a file have the same length, so that it is replaced by
// one write and no reader finds half of it.
func (f valueFile) text(wave float64) string {
	return fmt.Sprintf("%14.*f\n", f.digits, f.middle*(1+0.04*wave))
}

// placeKernel makes the files of a device that has a kernel driver.
func (b *Board) placeKernel(p *Part, c sensors.Config) (why string) {
	switch o := c.Options.(type) {
	case sensors.Hwmon:
		return b.placeFiles(p, "hwmon", o.Device, cmp.Or(o.At, "1-00"+fmt.Sprintf("%02x", 0x40+b.files["hwmon"])), hwmonFiles(o.Device, o.Channel))
	case sensors.IIO:
		return b.placeFiles(p, "iio", o.Device, cmp.Or(o.At, o.Device), iioFiles(o.Device, o.Channel))
	case sensors.DHT:
		at := cmp.Or(o.At, "dht11@4")
		return b.placeFiles(p, "iio", at, at, iioFiles("dht11", ""))
	case sensors.DS18B20:
		return b.placeW1(p, cmp.Or(o.Device, "28-00000a1b2c3d"))
	case sensors.Thermal:
		return b.placeThermal(p, o.Zone)
	case nil:
		if p.Chip == "thermal" {
			return b.placeThermal(p, "")
		}
	}
	return "there is no simulated " + p.Chip
}

// hwmonFiles returns the files of a device of that name.
func hwmonFiles(device, channel string) []valueFile {
	all := []valueFile{{"temp1_input", 23456, 0}, {"humidity1_input", 48200, 0}, {"in1_input", 5020, 0}, {"curr1_input", 820, 0}, {"power1_input", 4120000, 0}, {"energy1_input", 91000000, 0}, {"fan1_input", 1200, 0}}
	switch {
	case channel != "":
		for _, f := range all {
			if stem, _, _ := strings.Cut(f.name, "1_"); strings.HasPrefix(channel, stem) && strings.Trim(channel[len(stem):], "0123456789") == "" && channel != stem {
				return []valueFile{{channel + "_input", f.middle, 0}}
			}
		}
		return []valueFile{{"in1_input", 5020, 0}, {"in1_label=" + channel, 0, 0}}
	case device == "rpi_volt":
		return []valueFile{{"in0_lcrit_alarm", 0, 0}}
	case strings.HasPrefix(device, "ina"):
		return all[2:5]
	case strings.HasPrefix(device, "sht"), strings.HasPrefix(device, "hdc"), strings.HasPrefix(device, "hs300"):
		return all[:2]
	}
	return all[:1]
}

// isChannel are the names of IIO's channels of one value: temp, voltage0.
var isChannel = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`^(in_)?([a-z]+[a-z0-9_]*?)([0-9]*)(_raw|_input)?$`) })

// iioFiles returns the files of a device of that name.
func iioFiles(device, channel string) []valueFile {
	all := map[string]valueFile{
		"temp": {"in_temp_input", 23456, 0}, "humidityrelative": {"in_humidityrelative_input", 48200, 0}, "pressure": {"in_pressure_input", 101.325, 3},
		"voltage": {"in_voltage0_input", 1640, 0}, "illuminance": {"in_illuminance_input", 410, 1}, "current": {"in_current0_input", 120, 0},
		"power": {"in_power_input", 4100, 0}, "resistance": {"in_resistance_input", 4700, 0}, "distance": {"in_distance_input", 1.2, 3}, "ph": {"in_ph_input", 7.02, 3},
		"concentration": {"in_concentration_input", 0.06, 4},
	}
	if m := isChannel().FindStringSubmatch(channel); m != nil {
		if f, ok := all[m[2]]; ok {
			return []valueFile{{"in_" + m[2] + m[3] + "_input", f.middle, f.digits}}
		}
	}
	if channel != "" {
		return []valueFile{all["voltage"], {"in_voltage0_label=" + channel, 0, 0}}
	}
	switch name := strings.SplitN(device, "@", 2)[0]; {
	case strings.HasPrefix(name, "bm"):
		if strings.HasPrefix(name, "bmp") {
			return []valueFile{all["temp"], all["pressure"]}
		}
		return []valueFile{all["temp"], all["pressure"], all["humidityrelative"]}
	case strings.HasPrefix(name, "mcp"), strings.HasPrefix(name, "ads"), strings.HasPrefix(name, "hx711"), strings.Contains(name, "adc"):
		return []valueFile{all["voltage"]}
	case strings.HasPrefix(name, "veml"), strings.HasPrefix(name, "tsl"), strings.HasPrefix(name, "bh17"), strings.HasPrefix(name, "opt"):
		return []valueFile{all["illuminance"]}
	case strings.HasPrefix(name, "srf"), strings.HasPrefix(name, "vl53"):
		return []valueFile{all["distance"]}
	}
	return []valueFile{all["temp"], all["humidityrelative"]}
}

// placeFiles makes a device of a class of the kernel, or adds files to it.
func (b *Board) placeFiles(p *Part, class, name, at string, values []valueFile) (why string) {
	contents := map[string]string{}
	for _, f := range values {
		if file, label, ok := strings.Cut(f.name, "="); ok {
			contents[file] = label + "\n"
		} else {
			contents[f.name] = f.text(0)
		}
	}
	device := class + " " + name
	if at != name {
		device += " at " + at
	}
	dir, there := b.dirs[device]
	var err error
	if !there {
		n := b.files[class]
		b.files[class]++
		if class == "hwmon" {
			dir = filepath.Join(b.Root(), "sys/class/hwmon", fmt.Sprintf("hwmon%d", n))
			err = b.WriteHwmon(n, name, at, contents)
		} else {
			dir = filepath.Join(b.Root(), "sys/devices", at, fmt.Sprintf("iio:device%d", n))
			err = b.WriteIIO(n, name, at, contents)
		}
		b.dirs[device] = dir
	} else {
		for file, text := range contents {
			if err == nil {
				err = os.WriteFile(filepath.Join(dir, file), []byte(text), 0o644)
			}
		}
	}
	if err != nil {
		return err.Error()
	}
	p.Device, p.cut = device, b.hide(dir)
	if class == "iio" {
		p.cut = b.hide(filepath.Join(b.Root(), "sys/bus/iio/devices", filepath.Base(dir)))
	}
	p.move = func(_ time.Duration, wave float64) {
		for _, f := range values {
			if !strings.Contains(f.name, "=") {
				overwrite(filepath.Join(dir, f.name), f.text(wave))
			}
		}
	}
	return ""
}

func (b *Board) placeThermal(p *Part, zone string) (why string) {
	n := b.files["thermal"]
	kind := zone
	if m := regexp.MustCompile(`^(?:thermal_zone)?([0-9]+)$`).FindStringSubmatch(zone); m != nil || zone == "" {
		kind = "cpu-thermal"
		if m != nil {
			fmt.Sscan(m[1], &n) // digits; of a number too great there is no such zone
		}
	}
	b.files["thermal"] = max(b.files["thermal"], n) + 1
	if err := b.WriteThermal(n, kind, 48); err != nil {
		return err.Error()
	}
	dir := filepath.Join(b.Root(), "sys/class/thermal", fmt.Sprintf("thermal_zone%d", n))
	file := valueFile{"temp", 48000, 0}
	if err := os.WriteFile(filepath.Join(dir, "temp"), []byte(file.text(0)), 0o644); err != nil {
		return err.Error()
	}
	p.Device, p.cut = fmt.Sprintf("thermal zone %d", n), b.hide(dir)
	p.move = func(_ time.Duration, wave float64) { overwrite(filepath.Join(dir, "temp"), file.text(wave)) }
	return ""
}

func (b *Board) placeW1(p *Part, number string) (why string) {
	if err := b.WriteW1(number, w1Text(21.5)); err != nil {
		return err.Error()
	}
	dir := filepath.Join(b.Root(), "sys/devices/w1_bus_master1", number)
	p.Device, p.cut = "probe "+number, b.hide(filepath.Join(b.Root(), "sys/bus/w1/devices", number))
	p.move = func(_ time.Duration, wave float64) { overwrite(filepath.Join(dir, "w1_slave"), w1Text(21.5+3*wave)) }
	return ""
}

// w1Text is what the kernel's driver shows of a DS18B20 at a temperature of 10 to 99 degrees:
// its scratchpad (19-7487, figure 9) with the checksum, and the temperature.
func w1Text(celsius float64) string {
	raw := int16(math.Round(celsius * 16))
	pad := []byte{byte(raw), byte(raw >> 8), 0x4B, 0x46, 0x7F, 0xFF, byte(16 - raw&15), 0x10}
	var crc byte
	for _, v := range pad {
		crc ^= v
		for range 8 {
			odd := crc & 1
			if crc >>= 1; odd != 0 {
				crc ^= 0x8C
			}
		}
	}
	hex := fmt.Sprintf("% x %02x", pad, crc)
	return fmt.Sprintf("%s : crc=%02x YES\n%s t=%d\n", hex, crc, hex, int(raw)*1000/16)
}

// hide returns a function that takes a device's directory, or the link to it, away, or puts it
// back.
func (b *Board) hide(dir string) func(away bool) {
	hidden := filepath.Join(b.Root(), "away-"+filepath.Base(dir))
	return func(away bool) {
		if away {
			_ = os.Rename(dir, hidden) // it may be away already
		} else {
			_ = os.Rename(hidden, dir)
		}
	}
}

// overwrite replaces a file's contents by one write of the same length, so that no reader finds
// half of it. A device that was taken away has no file.
func overwrite(path, text string) {
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		return
	}
	_, _ = f.WriteAt([]byte(text), 0) // the value then stays as it is
	_ = f.Close()
}
