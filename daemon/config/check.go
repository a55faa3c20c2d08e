package config

import (
	"fmt"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"fieldpost/daemon/regular"
	"fieldpost/daemon/visible"
	"fieldpost/sensors"
	"fieldpost/sensors/board"
)

// check asks what no single key can answer, and fills in the defaults that
// depend on other keys.
func (l *loader) check(c *Config) {
	l.files("", "", reflect.ValueOf(c).Elem())
	if c.Broker.ClientID == "" {
		c.Broker.ClientID = c.Thing
	}
	if c.Commands.Answers == "" {
		c.Commands.Answers = c.Commands.Topic
	}
	for i := range c.Sensors {
		l.sensor(fmt.Sprintf("sensors[%d]", i), &c.Sensors[i])
	}
	for i := range c.Outputs {
		l.output(fmt.Sprintf("outputs[%d]", i), &c.Outputs[i])
	}
	if l.given("readings.batch.within") && !l.given("readings.batch.max") {
		l.fail("readings.batch.max", "is missing; without it there are no batches", "")
	}
	l.interlocks(c)
	l.refreshes(c)
	l.names(c)
	l.pins(c)
	l.places(c)
	l.topics(c)
}

// files makes the paths of files and directories absolute and looks whether
// the files are there.
func (l *loader) files(path, key string, v reflect.Value) {
	if v.Kind() == reflect.Struct {
		for _, k := range keysOf(v.Type()) {
			f, _ := fieldOf(v.Type(), k)
			l.files(join(path, k), join(key, k), v.Field(f))
		}
		return
	}
	r := rules[key]
	if !r.file && !r.dir || !l.sound(path) {
		return
	}
	written := v.String()
	v.SetString(l.absolute(written))
	if !r.file {
		return
	}
	if err := regular.Check(v.String()); err != nil {
		l.addErr(&Error{Line: l.line(path), Path: path, Reason: fmt.Sprintf("file %s: %s", visible.Text(v.String()), plainly(err)), Value: r.shown(written), Err: err})
	}
}

// sensor checks an entry against its chip's, and completes it from there.
func (l *loader) sensor(path string, s *sensors.Config) {
	chip, known := l.chip(path+".chip", s.Chip)
	l.address(path+".address", &s.Address, chip)
	if !known {
		return
	}
	for _, k := range keysOf(reflect.TypeOf(*s)) {
		l.chipKey(path, k, chip)
	}
	if !l.given(path + ".every") {
		s.Every = chip.Every
	}
	if slices.Contains(chip.Keys, "max_edges") && !l.given(path+".max_edges") {
		s.MaxEdges = sensors.DefaultMaxEdges
	}
}

// chip finds a chip in the catalog.
func (l *loader) chip(path, name string) (chip sensors.Chip, known bool) {
	if name == "" || !l.sound(path) {
		return chip, false
	}
	if chip, known = sensors.Lookup(name); !known {
		var all []string
		for _, c := range sensors.Catalog() {
			all = append(all, c.Name)
		}
		l.fail(path, unknownChip(name, all), "")
	}
	return chip, known
}

// The 7-bit addresses that the I2C specification (NXP UM10204, revision 7.0,
// section 3.1.12) does not reserve for the bus itself, and those it reserves
// for buses that nobody wires to a board.
const (
	leastAddress   = 0x03
	highestAddress = 0x77
)

// address checks that the chip can have the address; where none is given, it
// has its usual one.
func (l *loader) address(path string, a *uint16, chip sensors.Chip) {
	switch {
	case !l.sound(path):
	case !l.given(path):
		if len(chip.Addresses) > 0 {
			*a = chip.Addresses[0]
		}
	case len(chip.Addresses) > 0 && !slices.Contains(chip.Addresses, *a):
		l.fail(path, "want "+sensors.AddressList(chip.Addresses)+meant(l.nodes[path].Value, *a, chip.Addresses), l.nodes[path].Value)
	case *a < leastAddress || *a > highestAddress:
		l.fail(path, "want "+hex(leastAddress)+" to "+hex(highestAddress), l.nodes[path].Value)
	}
}

// meant says which of a chip's addresses was probably meant: datasheets write
// them with the bit for the direction behind them, and people forget the 0x.
func meant(text string, a uint16, all []uint16) string {
	if x, err := strconv.ParseUint(text, 16, 16); err == nil && slices.Contains(all, uint16(x)) {
		return "; write " + hex(uint16(x)) + ", with 0x"
	}
	if slices.Contains(all, a>>1) {
		return "; " + hex(a) + " is " + hex(a>>1) + " with the bit for the direction behind it"
	}
	return ""
}

// chipKey checks whether a key that is given is one the chip takes, and a key
// that the chip needs is given.
func (l *loader) chipKey(path, key string, chip sensors.Chip) {
	if key == "name" || key == "chip" || key == "every" {
		return
	}
	switch given := l.given(path + "." + key); {
	case given && !slices.Contains(chip.Keys, key):
		takes := strings.Join(append([]string{"every"}, chip.Keys...), ", ")
		l.fail(path+"."+key, fmt.Sprintf("chip %s does not take this key; it takes %s", chip.Name, takes), "")
	case !given && slices.Contains(chip.Required, key):
		l.fail(path+"."+key, fmt.Sprintf("is missing; chip %s needs it", chip.Name), "")
	}
}

// user is something with a name and perhaps a pin.
type user struct{ path, name, pin string }

func users(c *Config) (all []user) {
	for i, s := range c.Sensors {
		all = append(all, user{fmt.Sprintf("sensors[%d]", i), s.Name, s.Pin})
	}
	for i, o := range c.Outputs {
		all = append(all, user{fmt.Sprintf("outputs[%d]", i), o.Name, o.Pin})
	}
	return all
}

// names refuses a name given twice: sensors and outputs share one name space.
func (l *loader) names(c *Config) {
	first := map[string]user{}
	for _, u := range users(c) {
		path := u.path + ".name"
		if u.name == "" || !l.sound(path) {
			continue
		}
		if f, taken := first[u.name]; taken {
			l.fail(path, fmt.Sprintf("is already the name of %s on line %d", f.path, l.line(f.path+".name")), u.name)
			continue
		}
		first[u.name] = u
	}
}

// pins refuses a line with two users, whatever it is called.
func (l *loader) pins(c *Config) {
	var seen []user
	for _, u := range users(c) {
		path := u.path + ".pin"
		if u.pin == "" || !l.sound(path) {
			continue
		}
		same := slices.IndexFunc(seen, func(s user) bool { return board.SameLine(s.pin, u.pin) })
		if same < 0 {
			seen = append(seen, u)
			continue
		}
		f := seen[same]
		l.fail(path, fmt.Sprintf("is the same line as %s of %q on line %d", f.pin, f.name, l.line(f.path+".pin")), u.pin)
	}
}

// places refuses two sensors at one address of one bus: there is one chip.
func (l *loader) places(c *Config) {
	type place struct {
		bus     string
		address uint16
	}
	first := map[place]string{}
	for i, s := range c.Sensors {
		path := fmt.Sprintf("sensors[%d]", i)
		if s.Bus == "" || s.Address == 0 || !l.sound(path+".bus") || !l.sound(path+".address") {
			continue
		}
		p := place{s.Bus, s.Address}
		if f, taken := first[p]; taken {
			l.fail(path+".address", fmt.Sprintf("%s at %s is already read by %s on line %d", s.Bus, hex(s.Address), f, l.line(f)), "")
			continue
		}
		first[p] = path
	}
}

// topics checks the topics with everything filled in that may stand in them.
func (l *loader) topics(c *Config) {
	if !l.sound("thing") {
		return
	}
	filled := map[string]func() []string{
		"readings.topic":   func() []string { return readingsTopics(c) },
		"commands.topic":   func() []string { return []string{c.CommandsTopic()} },
		"commands.answers": func() []string { return []string{c.AnswersTopic()} },
	}
	for _, path := range []string{"readings.topic", "commands.topic", "commands.answers"} {
		if !l.given(path) || !l.sound(path) {
			continue
		}
		for _, t := range filled[path]() {
			if err := checkTopic(t); err != nil {
				l.fail(path, err.Error(), l.nodes[path].Value)
				break
			}
		}
	}
}

func readingsTopics(c *Config) []string {
	all := []string{c.ReadingsTopic("")}
	for _, s := range c.Sensors {
		if names.MatchString(s.Name) {
			all = append(all, c.ReadingsTopic(s.Name))
		}
	}
	return all
}
