// Package scan lists what a board has, without changing it: GPIO lines and who holds
// them, the chips that answer on its I2C buses, the sensors of kernel drivers, and its
// SPI devices and serial ports. From that it makes a configuration to begin with.
//
// probeAddress and readOnly decide what it may do to a chip that it does not know. An
// address that a kernel driver owns, or that a running daemon reads, is left alone.
//
// Sources: Linux, tools i2cdetect(8) and sensors-detect(8) for what probing can break; NXP
// PCA9685, revision 4, sections 7.1 and 7.3; NXP PCF8574, revision 5, section 8.1; the data
// sheets that the drivers of fieldpost/sensors name, for the identities.
package scan

import (
	"context"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"

	"fieldpost/sensors"
	"fieldpost/sensors/board"
)

// Report lists what a board has.
type Report struct {
	Board   string   `json:"board"`
	Header  []Pin    `json:"header,omitempty"` // a Raspberry Pi's header, pin 1 first
	Chips   []Chip   `json:"gpio_chips"`
	Buses   []Bus    `json:"i2c_buses"`
	Kernel  []Device `json:"kernel_sensors"`
	SPI     []string `json:"spi_devices"`
	Serial  []string `json:"serial_ports"`
	Problem []string `json:"problems,omitempty"`
}

// Pin is a pin of the 40-pin header.
type Pin struct {
	Pin  int    `json:"pin"`            // from 1
	Name string `json:"name"`           // "GPIO17", "3.3 V"
	Use  string `json:"use,omitempty"`  // what uses it, as far as is known
	Line bool   `json:"line,omitempty"` // true for a GPIO
}

// Chip is a GPIO chip.
type Chip struct {
	Device  string `json:"device"`
	Label   string `json:"label"`
	Lines   []Line `json:"lines"`
	Problem string `json:"problem,omitempty"` // why it could not be read, and what to do
}

// Line is one line of a GPIO chip.
type Line struct {
	Offset int    `json:"offset"`
	Name   string `json:"name,omitempty"`
	Used   bool   `json:"used"`
	Holder string `json:"holder,omitempty"` // empty if it is free, or if the holder gave no name
	Output bool   `json:"output"`
}

// Bus is an I2C bus.
type Bus struct {
	Name    string  `json:"name"`
	Adapter string  `json:"adapter,omitempty"`
	Found   []Found `json:"found"`
	Problem string  `json:"problem,omitempty"` // why it was not probed completely, and what to do
}

// Found is an address at which something answers, or that is in use.
type Found struct {
	Address uint16   `json:"address"`
	Chip    string   `json:"chip,omitempty"`   // the chip; empty if not known
	Or      []string `json:"or,omitempty"`     // other chips that it may be
	Driver  string   `json:"driver,omitempty"` // the kernel driver that owns the address, which was not probed
	Sensor  string   `json:"sensor,omitempty"` // the running daemon's sensor at the address, which was not probed
	Note    string   `json:"note,omitempty"`
}

// Device is a sensor with a kernel driver.
type Device struct {
	Chip       string            `json:"chip"` // the chip of the catalog that reads it
	Name       string            `json:"name"`
	At         string            `json:"at,omitempty"`
	Quantities []string          `json:"quantities"`
	Overlay    string            `json:"overlay,omitempty"` // what loads the driver
	Problem    string            `json:"problem,omitempty"` // why it cannot be read
	Keys       map[string]string `json:"keys,omitempty"`    // its keys in a configuration
}

// Options says what not to probe.
type Options struct {
	Used []Use // addresses that a running daemon reads
	// Leave is the reason why no bus may be probed; empty if buses may be probed.
	Leave string
}

// Scan scans a board until ctx ends. The report names what could not be opened, with what
// to do. Scan may be called from any goroutine. A stuck bus takes some seconds, and
// blocks a goroutine until its transaction ends.
func Scan(ctx context.Context, b board.Board, o Options) Report {
	r := Report{Board: b.String(), Chips: []Chip{}, Buses: []Bus{}, Kernel: []Device{}, SPI: []string{}, Serial: []string{}}
	have, ok := b.(board.Inventory)
	if !ok {
		r.Problem = append(r.Problem, "this board cannot list what it has")
		return r
	}
	for _, c := range have.Chips() {
		r.Chips = append(r.Chips, lines(c))
	}
	used := make([]Use, 0, len(o.Used))
	for _, u := range o.Used {
		if bus, err := b.Bus(u.Bus); err == nil {
			u.Bus = fmt.Sprint(bus)
			_ = bus.Close() // it was opened only for its name
		}
		used = append(used, u)
	}
	for _, a := range have.Adapters() {
		if o.Leave != "" {
			r.Buses = append(r.Buses, Bus{Name: a.Bus, Adapter: a.Name, Found: []Found{}, Problem: o.Leave})
			continue
		}
		r.Buses = append(r.Buses, probeBus(ctx, b, a, used))
	}
	hideParents(r.Buses)
	r.Kernel = append(r.Kernel, kernelDevices(b)...)
	r.SPI = append(r.SPI, have.SPIs()...)
	r.Serial = append(r.Serial, have.Serials()...)
	if len(r.Buses) == 0 {
		r.Problem = append(r.Problem, "no I2C bus: on a Raspberry Pi set dtparam=i2c_arm=on in config.txt and restart, elsewhere load the module i2c-dev")
	}
	r.Header = header(b, r)
	return r
}

// muxed matches the adapter's name of a bus behind a multiplexer, and captures the bus
// that the multiplexer is on.
var muxed = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`^(i2c-[0-9]+)-mux`) })

// hideParents removes from the buses behind a multiplexer the chips of the bus in front
// of it, which answer on each of them.
func hideParents(buses []Bus) {
	for i, b := range buses {
		m := muxed().FindStringSubmatch(b.Adapter)
		if m == nil {
			continue
		}
		parent := slices.IndexFunc(buses, func(p Bus) bool { return p.Name == m[1] })
		buses[i].Found = slices.DeleteFunc(b.Found, func(f Found) bool {
			return parent >= 0 && slices.ContainsFunc(buses[parent].Found, func(p Found) bool { return p.Address == f.Address })
		})
	}
}

func lines(c board.ChipInfo) Chip {
	chip := Chip{Device: c.Device, Label: c.Label, Lines: []Line{}}
	if c.Err != nil {
		chip.Problem = c.Err.Error()
	}
	for i, l := range c.Lines {
		chip.Lines = append(chip.Lines, Line{Offset: i, Name: l.Name, Used: l.Used, Holder: l.Holder, Output: l.Output})
	}
	return chip
}

// header returns the pins of a Raspberry Pi's header; nil on other boards.
func header(b board.Board, r Report) []Pin {
	id, err := b.Find("P1_3")
	if err != nil || id.Offset != 2 {
		return nil
	}
	use := map[int]string{}
	for _, port := range r.SPI {
		if strings.HasPrefix(port, "spidev0.") {
			use[9], use[10], use[11] = "spi0 MISO", "spi0 MOSI", "spi0 SCLK"
		}
	}
	for _, bus := range r.Buses {
		for _, n := range board.BusLines(b.Root(), bus.Name) {
			use[n] = bus.Name
		}
	}
	for _, c := range r.Chips {
		for _, l := range c.Lines {
			if c.Device == id.Chip && l.Used {
				use[l.Offset] = l.Holder
				if l.Holder == "" {
					use[l.Offset] = "in use"
				}
			}
		}
	}
	var pins []Pin
	for n := 1; n <= board.HeaderPins; n++ {
		gpio, power := board.HeaderPin(n)
		p := Pin{Pin: n, Name: power}
		if gpio >= 0 {
			p.Name, p.Use, p.Line = "GPIO"+strconv.Itoa(gpio), use[gpio], true
		}
		pins = append(pins, p)
	}
	return pins
}

// kernelDevices lists the sensors of kernel drivers, with the quantities that fieldpost
// can read. Opening one reads the names of its files, but no value.
func kernelDevices(b board.Board) []Device {
	var all []Device
	for _, k := range sensors.KernelDevices(b) {
		d := Device{Chip: k.Chip, Name: k.Name, At: k.At, Quantities: []string{}, Overlay: overlay(k), Keys: keysOf(k)}
		c, _ := sensors.Lookup(k.Chip)
		s, err := c.Open(b, sensors.Config{Name: k.Name, Chip: k.Chip, Options: k.Options})
		switch {
		case k.Thermal:
			d.Problem = "is the thermal zone of that name"
		case err != nil:
			d.Problem = err.Error()
		}
		if err == nil {
			for _, q := range s.Quantities() {
				d.Quantities = append(d.Quantities, q.Name)
			}
			_ = s.Close() // an open one holds nothing
		}
		all = append(all, d)
	}
	return all
}

// expanderHint returns the lines of a Raspberry Pi's config.txt that load the driver of an
// I/O expander at an address, or "" if there is none at that address.
func expanderHint(addr uint16) string {
	at := fmt.Sprintf(",addr=0x%02x", addr)
	switch {
	case addr >= 0x20 && addr <= 0x27:
		return "perhaps an I/O expander; for its lines as outputs load its driver: dtoverlay=mcp23017" + at + " (add mcp23008 for that one), dtoverlay=pcf857x,pcf8574" + at + " or dtoverlay=pca953x,tca9555" + at
	case addr >= 0x38 && addr <= 0x3f:
		return "perhaps an I/O expander PCF8574A; for its lines as outputs load its driver: dtoverlay=pcf857x,pcf8574a" + at
	}
	return ""
}

// keysOf returns a device's keys in a configuration.
func keysOf(k sensors.KernelDevice) map[string]string {
	keys := map[string]string{}
	switch o := k.Options.(type) {
	case sensors.Hwmon:
		keys["device"], keys["at"] = o.Device, o.At
	case sensors.IIO:
		keys["device"], keys["at"] = o.Device, o.At
	case sensors.DHT:
		keys["at"] = o.At
	case sensors.DS18B20:
		keys["device"] = o.Device
	case sensors.Thermal:
		keys["zone"] = o.Zone
	}
	for name, v := range keys {
		if v == "" {
			delete(keys, name)
		}
	}
	return keys
}

// onSensorOverlay maps the names of drivers that Raspberry Pi's overlay i2c-sensor loads
// to the overlay's parameter.
var onSensorOverlay = map[string]string{
	"sht3x": "sht3x", "sht4x": "sht4x", "bme680": "bme680", "bme280": "bme280", "bmp280": "bmp280", "bmp380": "bmp380", "bmp180": "bmp180",
	"htu21": "htu21", "si7020": "si7020", "aht10": "aht10", "aht20": "aht20", "bh1750": "bh1750", "sps30": "sps30", "sgp30": "sgp30", "ccs811": "ccs811",
	"jc42": "jc42", "lm75": "lm75", "tmp102": "tmp102",
}

// overlay returns the line of a Raspberry Pi's config.txt that loads a device's driver,
// or if there is none another way to load it; "" for a part of the board.
func overlay(k sensors.KernelDevice) string {
	stem, line, _ := strings.Cut(k.Name, "@")
	switch {
	case k.Chip == "dht22":
		_, at, _ := strings.Cut(k.At, "@")
		if line == "" {
			line = at
		}
		if n, err := strconv.ParseUint(line, 16, 16); err == nil { // a unit address is hexadecimal
			return fmt.Sprintf("dtoverlay=dht11,gpiopin=%d", n)
		}
		return "dtoverlay=dht11,gpiopin=17"
	case k.Chip == "ds18b20":
		return "dtoverlay=w1-gpio, with gpiopin=N if the data line is not on GPIO4"
	case stem == "ads1115", stem == "ads1015":
		return "dtoverlay=ads1115"
	case strings.HasPrefix(k.At, "spi") && stem == "mcp3008":
		return "dtoverlay=mcp3008:" + strings.ReplaceAll(k.At, ".", "-") + "-present"
	case strings.HasPrefix(k.At, "spi") && slices.Contains([]string{"max31855", "max6675"}, stem):
		return "dtoverlay=maxtherm," + strings.ReplaceAll(k.At, ".", "-") + "," + stem
	case strings.HasPrefix(k.At, "spi") && stem == "maxim_thermocouple": // the driver's name for all of them
		return "dtoverlay=maxtherm," + strings.ReplaceAll(k.At, ".", "-") + ",max31855 (or max6675)"
	}
	bus, addr, ok := strings.Cut(k.At, "-")
	a, err := strconv.ParseUint(addr, 16, 16)
	if n, bad := strconv.Atoi(bus); !ok || err != nil || bad != nil || n < 0 {
		return ""
	}
	if p := onSensorOverlay[stem]; p != "" {
		return fmt.Sprintf("dtoverlay=i2c-sensor,%s,addr=0x%02x", p, a)
	}
	return fmt.Sprintf("echo %s 0x%02x | sudo tee /sys/bus/i2c/devices/i2c-%s/new_device", stem, a, bus)
}
