package scan

import (
	"bytes"
	"cmp"
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"

	"fieldpost/sensors"
)

// WriteYAML writes a configuration with this thing that reads everything that was
// recognised. Chips that may be one of several are in comments, because a driver writes
// to its chip, and the wrong driver could switch another chip's relay.
func (r Report) WriteYAML(w io.Writer, thing string) error {
	y := &yaml{names: map[string]int{}}
	y.line("# What `fieldpost scan` has found on %s. Write your endpoint, and names that say", printable(r.Board))
	y.line("# what is measured; then `fieldpost check`.")
	y.line("thing: %s", strconv.Quote(thing))
	y.line("")
	y.line("broker:")
	y.line("  endpoint: a1b2c3d4e5-ats.iot.ap-south-1.amazonaws.com   # yours: `aws iot describe-endpoint --endpoint-type iot:Data-ATS`")
	y.line("")
	y.line("readings:")
	y.line("  topic: fieldpost/{thing}/{sensor}")
	y.line("")
	y.sensors(r)
	_, err := w.Write(y.Bytes())
	return err
}

type yaml struct {
	bytes.Buffer
	names map[string]int
	count int
}

func (y *yaml) line(format string, args ...any) { fmt.Fprintf(y, format+"\n", args...) }

func (y *yaml) sensors(r Report) {
	head := y.Len()
	for _, b := range r.Buses {
		if b.Problem != "" {
			y.line("  # %s %s", b.Name, printable(b.Problem))
		}
		for _, f := range b.Found {
			y.found(b.Name, f)
		}
	}
	for _, d := range r.Kernel {
		if d.Problem != "" {
			continue
		}
		note := ""
		if d.Chip == "dht22" {
			note = "   # or dht11: its driver reads both"
		}
		y.entry(d.Name, d.Chip, note)
		for _, k := range slices.Sorted(maps.Keys(d.Keys)) {
			y.line("    %s: %s", k, strconv.Quote(d.Keys[k]))
		}
	}
	for _, p := range r.SPI {
		y.line("  # %s: the chip cannot be recognised. Chips on SPI: mcp3008, mcp3208, max31855, max31865, max6675", p)
	}
	for _, p := range r.Serial {
		y.line("  # %s: the chip cannot be recognised. Chips on a serial port: %s", p, strings.Join(serialChips(), ", "))
	}
	body := string(y.Bytes()[head:])
	y.Truncate(head)
	if y.count == 0 {
		y.line("sensors: []")
	} else {
		y.line("sensors:")
	}
	y.WriteString(body)
}

// serialChips are the chips of the catalog on a serial port.
func serialChips() (names []string) {
	for _, c := range sensors.Catalog() {
		if c.Options.Has("device") && c.Options.Rules["device"].Wants == sensors.WantsPort {
			names = append(names, c.Name)
		}
	}
	return names
}

// entry begins a sensor.
func (y *yaml) entry(name, chip, note string) {
	y.count++
	y.line("  - name: %s", y.name(name))
	y.line("    chip: %s%s", chip, note)
}

func (y *yaml) found(bus string, f Found) {
	at := fmt.Sprintf("0x%02x", f.Address)
	switch {
	case f.Driver != "":
		y.line("  # %s on %s belongs to the kernel's driver %s", at, bus, printable(f.Driver))
	case f.Note != "":
		y.line("  # %s on %s %s", at, bus, printable(f.Note))
	case f.Chip == "" && len(f.Or) == 0:
		y.line("  # %s on %s answers; fieldpost knows no chip with this address", at, bus)
	case f.Chip == "":
		y.line("  # %s on %s answers. If it is one of these chips, write its name: %s", at, bus, strings.Join(f.Or, ", "))
		y.line("  # - {name: %s-%02x, chip: %s, bus: %s, address: %s}", f.Or[0], f.Address, f.Or[0], bus, at)
	default:
		note := ""
		if len(f.Or) > 0 {
			note = "   # or, if it is one: " + strings.Join(f.Or, ", ")
		}
		y.entry(cmp.Or(f.Sensor, f.Chip), f.Chip, note)
		y.line("    bus: %s", bus)
		y.line("    address: %s", at)
		if slices.Contains([]string{"ina219", "ina226", "ina3221"}, f.Chip) {
			y.line("    shunt: 0.1   # ohms, as printed on its resistor: R100 is 0.1")
		}
	}
}

// name returns a name that no other sensor has.
func (y *yaml) name(from string) string {
	name := strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == '-' || r == '_' {
			return r
		}
		return '-'
	}, from)
	if len(name) > 50 {
		name = name[:50]
	}
	if name == "" || name == "fieldpost" {
		name = "sensor"
	}
	for {
		y.names[name]++
		n := y.names[name]
		if n == 1 {
			return strconv.Quote(name)
		}
		if longer := fmt.Sprintf("%s-%d", name, n); y.names[longer] == 0 {
			y.names[longer]++
			return strconv.Quote(longer)
		}
	}
}

// printable makes text from outside safe to print on one line.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7F || r >= 0x80 && r < 0xA0 || r == 0x2028 || r == 0x2029 || r == 0xFEFF || r == '\uFFFD' {
			return ' '
		}
		return r
	}, s)
}
