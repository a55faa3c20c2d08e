package config

import (
	"cmp"
	"fmt"
	"net/netip"
	"reflect"
	"slices"
	"strings"

	"fieldpost/daemon/regular"
	"fieldpost/daemon/visible"
	"fieldpost/sensors"
	"fieldpost/sensors/board"
	"fieldpost/sensors/option"
)

// check checks combinations of keys, and fills in the defaults that depend on other keys.
func (l *loader) check(c *Config) {
	l.login(&c.Broker)
	l.serial(c)
	l.provisioning(c)
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
	if c.Readings.Plain() && l.sound("readings.topic") {
		if !strings.Contains(c.Readings.Topic, "{sensor}") {
			l.fail("readings.topic", "has {quantity} without {sensor}: two sensors would share a topic", c.Readings.Topic)
		}
		if l.given("readings.batch.max") {
			l.fail("readings.batch.max", "cannot be used with {quantity} in readings.topic: a plain value is a message of its own", "")
		}
	}
	if l.given("readings.batch.within") && !l.given("readings.batch.max") {
		l.fail("readings.batch.max", "is missing; without it there are no batches", "")
	}
	l.linger(c)
	checkLocal(l, c)
	l.interlocks(c)
	l.refreshes(c)
	l.names(c)
	l.pins(c)
	checkChannels(l, c)
	l.places(c)
	l.topics(c)
}

// login checks that the board has a way to log in to the broker.
func (l *loader) login(b *Broker) {
	if b.Certificate == "none" {
		if l.given("broker.key") {
			l.fail("broker.key", "cannot be used with broker.certificate: none; leave it out", "")
		}
		if !l.given("broker.username") {
			l.fail("broker.username", "is missing, and broker.certificate is none: the broker could not tell who this board is", "")
		}
		b.Certificate, b.Key = "", ""
	}
	if l.given("broker.password_file") && !l.given("broker.username") {
		l.fail("broker.username", "is missing; a password needs it", "")
	}
}

// linger refuses a readings.linger that would have no effect, or that would get readings
// written to disk or make them late for their batch. If the default is too long, it is
// shortened instead.
func (l *loader) linger(c *Config) {
	risk, within := c.Spool.AtRisk, c.Readings.Batch.Within
	most, why := c.Readings.Linger, ""
	if l.sound("spool.at_risk") && most > risk/8 {
		most, why = risk/8, fmt.Sprintf("is longer than an eighth of spool.at_risk (%s), so each reading would be written to disk first", option.Duration(risk))
		if risk == 0 {
			why = "has no effect with spool.at_risk: 0, which sends each reading as soon as it is on disk; leave it out"
		}
	}
	if l.given("readings.batch.max") && l.sound("readings.batch.within") && most > within {
		most, why = within, fmt.Sprintf("is longer than readings.batch.within (%s), the longest that a reading may wait", option.Duration(within))
	}
	if c.Readings.Linger == most {
		return
	}
	if l.given("readings.linger") && l.sound("readings.linger") {
		l.fail("readings.linger", why, l.nodes["readings.linger"].Value)
	}
	c.Readings.Linger = most
}

// checkLocal refuses an address that other machines can reach, unless local.hosts says who
// may ask there and, for the page, there is a token.
func checkLocal(l *loader, c *Config) {
	metrics, listen := l.given("local.metrics"), l.given("local.listen")
	if !metrics && !listen && l.given("local.hosts") {
		l.fail("local.metrics", "is missing, and so is local.listen; without one of them local.hosts has no effect", "")
	}
	if !listen && l.given("local.token_file") {
		l.fail("local.listen", "is missing; without it local.token_file has no effect", "")
	}
	open := func(path, at string) bool {
		a, err := netip.ParseAddrPort(at)
		return err == nil && !a.Addr().IsLoopback() && l.sound(path) && l.sound("local.hosts")
	}
	if metrics && open("local.metrics", c.Local.Metrics) && len(c.Local.Hosts) == 0 {
		l.fail("local.metrics", "is no loopback address, so other machines could read the values of all sensors there, without a password; "+
			"if that is what you want, list in local.hosts the names and addresses by which they ask this one, otherwise write 127.0.0.1", c.Local.Metrics)
	}
	switch {
	case !listen || !l.sound("local.listen"):
	case metrics && c.Local.Listen == c.Local.Metrics:
		l.fail("local.listen", "is the address of local.metrics too; choose another port", c.Local.Listen)
	case open("local.listen", c.Local.Listen) && (len(c.Local.Hosts) == 0 || !l.given("local.token_file")):
		l.fail("local.listen", "is no loopback address, so it needs local.token_file, which browsers on other machines have to show, and local.hosts, "+
			"the names and addresses by which they ask this one; or write 127.0.0.1, and look through `ssh -L`", c.Local.Listen)
	}
}

// files makes the paths of files and directories absolute, and checks that the files
// exist.
func (l *loader) files(path, key string, v reflect.Value) {
	if v.Kind() == reflect.Struct {
		for _, k := range option.Keys(v.Type()) {
			f, _ := option.Field(v.Type(), k)
			l.files(join(path, k), join(key, k), v.FieldByIndex(f))
		}
		return
	}
	r := rules[key]
	if !r.File && !r.Dir || !l.sound(path) {
		return
	}
	written := v.String()
	if written == "" { // or the section is not there
		return
	}
	v.SetString(l.absolute(written))
	if !r.File || !l.lookAtFiles || l.unneeded[path] {
		return
	}
	if err := regular.Check(v.String()); err != nil {
		l.addErr(&Error{Line: l.line(path), Path: path, Reason: fmt.Sprintf("file %s: %s", visible.Text(v.String()), plainly(err)), Value: r.shown(written), Err: err})
	}
}

// user is a sensor or an output, with the lines that it uses.
type user struct {
	path, name string
	lines      []sensors.UsedLine
}

// users returns all sensors and outputs.
func users(c *Config) (all []user) {
	for i, s := range c.Sensors {
		all = append(all, user{fmt.Sprintf("sensors[%d]", i), s.Name, s.Lines()})
	}
	for i, o := range c.Outputs {
		all = append(all, user{fmt.Sprintf("outputs[%d]", i), o.Name, []sensors.UsedLine{{Key: "pin", Line: o.Pin}}})
	}
	return all
}

// names refuses a name that is used twice. Sensors and outputs share one name space.
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

// pins refuses a line with two users, even under two names.
func (l *loader) pins(c *Config) {
	type use struct{ path, name, line string }
	var seen []use
	for _, u := range users(c) {
		for _, used := range u.lines {
			x := use{u.path + "." + used.Key, u.name, used.Line}
			if x.line == "" || !l.sound(x.path) {
				continue
			}
			same := slices.IndexFunc(seen, func(s use) bool { return board.SameLine(s.line, x.line) })
			if same < 0 {
				seen = append(seen, x)
				continue
			}
			f := seen[same]
			l.fail(x.path, fmt.Sprintf("is the same line as %s of %q on line %d", f.line, f.name, l.line(f.path)), x.line)
		}
	}
}

// checkChannels refuses a PWM channel with two users.
func checkChannels(l *loader, c *Config) {
	first := map[string]string{}
	for i, o := range c.Outputs {
		path := fmt.Sprintf("outputs[%d].pwm", i)
		if o.PWM == "" || !l.sound(path) {
			continue
		}
		if f, taken := first[o.PWM]; taken {
			l.fail(path, fmt.Sprintf("is already the channel of %s on line %d", f, l.line(f)), o.PWM)
			continue
		}
		first[o.PWM] = fmt.Sprintf("outputs[%d]", i)
	}
}

// places refuses two sensors at one address of a bus, or on one device: that is one chip.
func (l *loader) places(c *Config) {
	first := map[sensors.Place]string{}
	for i, s := range c.Sensors {
		path := fmt.Sprintf("sensors[%d]", i)
		p := s.Place()
		key, where := ".device", cmp.Or(p.SPI, p.Port)
		if p.Bus != "" && p.Address != 0 {
			key, where = ".address", fmt.Sprintf("%s at 0x%02x", p.Bus, p.Address)
		}
		if where == "" || !l.sound(path+".bus") || !l.sound(path+key) {
			continue
		}
		if p.Unit != 0 {
			key, where = ".unit_id", fmt.Sprintf("unit %d on %s", p.Unit, p.Port)
		}
		if f, taken := first[p]; taken {
			l.fail(path+key, fmt.Sprintf("%s is already used by %s on line %d", where, f, l.line(f)), "")
			continue
		}
		first[p] = path
	}
	l.ports(c)
}

// ports refuses what cannot share a serial port: Modbus units with different settings of the
// port, and anything else.
func (l *loader) ports(c *Config) {
	type user struct{ path, line string }
	first := map[string]user{}
	for i, s := range c.Sensors {
		u := user{path: fmt.Sprintf("sensors[%d]", i)}
		p := s.Place()
		if p.Port == "" || !l.sound(u.path+".device") || !l.sound(u.path+".baud") || !l.sound(u.path+".parity") {
			continue
		}
		if o, ok := s.Options.(interface{ Line() string }); ok {
			u.line = o.Line()
		}
		f, shared := first[p.Port]
		switch {
		case !shared:
			first[p.Port] = u
		case f.line == u.line: // units of one line; two chips were refused before
		case f.line == "" || u.line == "":
			l.fail(u.path+".device", fmt.Sprintf("%s is already used by %s on line %d, and only Modbus units can share a port", p.Port, f.path, l.line(f.path)), "")
		default:
			l.fail(u.path+".device", fmt.Sprintf("%s has %s here and %s for %s on line %d; all units on a port need the same", p.Port, u.line, f.line, f.path, l.line(f.path)), "")
		}
	}
}

// topics checks the topics with all their placeholders filled in.
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
			written := l.nodes[path].Value
			if err := checkTopic(t, written); err != nil {
				l.fail(path, err.Error(), written)
				break
			}
		}
	}
}

// readingsTopics returns readings.topic filled in for each sensor and for fieldpost itself.
func readingsTopics(c *Config) []string {
	all := []string{c.ReadingsTopic("")}
	for _, s := range c.Sensors {
		if isName(s.Name) {
			// longer than the names of quantities are
			all = append(all, c.ValueTopic(c.Thing, s.Name, strings.Repeat("q", 40)))
		}
	}
	return all
}
