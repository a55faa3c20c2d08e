package config

import (
	"fmt"
	"slices"
	"time"

	"fieldpost/daemon/output"
	"fieldpost/sensors/option"
)

// output checks the combination of one output's keys.
func (l *loader) output(path string, o *output.Config) {
	if !l.given(path + ".initial") {
		o.Initial = map[output.Safe]output.Initial{
			output.SafeOff: output.InitialOff, output.SafeOn: output.InitialOn, output.SafeKeep: output.InitialKeep,
		}[o.Safe]
	}
	if o.MaxOn > 0 && o.Safe == output.SafeOn && l.sound(path+".max_on") {
		l.fail(path+".max_on", "makes no sense with safe: on, which keeps the output on", option.Duration(o.MaxOn))
	}
	if o.SafeAfter > 0 && o.Safe == output.SafeKeep && l.sound(path+".safe_after") {
		l.fail(path+".safe_after", "makes no sense with safe: keep, which leaves the output as it is", option.Duration(o.SafeAfter))
	}
	if o.Refresh > 0 && o.Safe == output.SafeKeep && l.sound(path+".refresh") {
		l.fail(path+".refresh", "makes no sense with safe: keep, which leaves the output as it is", option.Duration(o.Refresh))
	}
	if o.MaxOn > 0 && o.Refresh >= o.MaxOn && l.sound(path+".refresh") {
		l.fail(path+".refresh", "can never act: it is not shorter than max_on, "+option.Duration(o.MaxOn), option.Duration(o.Refresh))
	}
	if o.MaxOn > 0 && o.MinOn > o.MaxOn && l.sound(path+".min_on") {
		l.fail(path+".min_on", "is longer than max_on, "+option.Duration(o.MaxOn), option.Duration(o.MinOn))
	}
	if len(o.Interlock) > 0 && o.Safe == output.SafeKeep {
		l.fail(path+".interlock", "makes no sense with safe: keep, which has no safe level at which the others may act", "")
	}
}

// interlocks checks the names in interlock, and that no two interlocked outputs leave their
// safe levels at the start.
func (l *loader) interlocks(c *Config) {
	byName := map[string]*output.Config{}
	var all []string
	for i := range c.Outputs {
		byName[c.Outputs[i].Name] = &c.Outputs[i]
		all = append(all, c.Outputs[i].Name)
	}
	for i := range c.Outputs {
		o := &c.Outputs[i]
		for j, name := range o.Interlock {
			path := fmt.Sprintf("outputs[%d].interlock[%d]", i, j)
			if !l.sound(path) {
				continue
			}
			other, known := byName[name]
			switch {
			case !known:
				l.fail(path, unknown("output", name, all), "")
			case name == o.Name:
				l.fail(path, "is the output itself", name)
			case slices.Index(o.Interlock, name) < j:
				l.fail(path, "is listed twice", name)
			case other.Safe == output.SafeKeep:
				l.fail(path, "has safe: keep, so it has no safe level at which this output may act", name)
			case startsAway(o) && startsAway(other):
				l.fail(path, "starts away from its safe level, and so does this output; only one of them may", name)
			}
		}
	}
}

// refreshes refuses values of refresh that no controller can satisfy. With one order per
// refresh, all outputs together must not need more orders than are remembered per day. Orders
// without an id are not remembered.
func (l *loader) refreshes(c *Config) {
	if c.Commands.Unstamped == "accept" {
		return
	}
	orders, shortest := 0, -1
	for i, o := range c.Outputs {
		if o.Refresh < time.Second || !l.sound(fmt.Sprintf("outputs[%d].refresh", i)) {
			continue
		}
		orders += int(24 * time.Hour / o.Refresh)
		if shortest < 0 || o.Refresh < c.Outputs[shortest].Refresh {
			shortest = i
		}
	}
	if orders > output.MaxOrdersPerDay {
		l.fail(fmt.Sprintf("outputs[%d].refresh", shortest), fmt.Sprintf(
			"needs %d orders a day together with the other outputs, but only %d are remembered; make it longer, or accept orders without id (commands.unstamped: accept)",
			orders, output.MaxOrdersPerDay), option.Duration(c.Outputs[shortest].Refresh))
	}
}

// startsAway reports whether an output is configured to start at another level than its safe
// one. With initial: last or keep that is known only at the start, so it reports false.
func startsAway(o *output.Config) bool {
	return o.Initial == output.InitialOn && o.Safe == output.SafeOff ||
		o.Initial == output.InitialOff && o.Safe == output.SafeOn
}

// mostMinimum is the longest min_on or min_off. An order to the safe level may have to wait
// that long.
const mostMinimum = 24 * time.Hour
