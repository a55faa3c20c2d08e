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
		o.Initial = output.InitialKeep
		if level, ok := o.Safe.Level(); ok {
			o.Initial = output.Initial(level)
		}
	}
	if level, ok := o.Safe.Level(); o.MaxOn > 0 && ok && level != output.Off && l.sound(path+".max_on") {
		l.fail(path+".max_on", "makes no sense with safe: "+o.Safe.String()+", which keeps the output on", option.Duration(o.MaxOn))
	}
	checkPWM(l, path, o)
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

// checkPWM checks that an output is a line or a PWM channel, and has the keys of what it is.
func checkPWM(l *loader, path string, o *output.Config) {
	pin, pwm := l.given(path+".pin"), l.given(path+".pwm")
	switch {
	case pin && pwm:
		l.fail(path+".pwm", "does not go with pin: an output is a line or a PWM channel", o.PWM)
	case !pin && !pwm:
		l.fail(path+".pin", "is missing", "")
	case pwm && !l.given(path+".frequency"):
		l.fail(path+".frequency", "is missing: a fan with four wires wants 25kHz, a lamp some 500Hz", "")
	}
	if pwm {
		if l.given(path + ".drive") {
			l.fail(path+".drive", "does not go with pwm, whose chip decides how it drives", "")
		}
		return
	}
	for _, key := range []string{".frequency", ".ramp"} {
		if l.given(path + key) {
			l.fail(path+key, "needs pwm: a line is only on or off", l.nodes[path+key].Value)
		}
	}
	between := func(key, name string, level output.Level, ok bool) {
		if ok && level != output.Off && level != output.On && l.sound(path+key) {
			l.fail(path+key, "needs pwm: a line is only on or off", name)
		}
	}
	safe, ok := o.Safe.Level()
	between(".safe", o.Safe.String(), safe, ok)
	if o.Initial != output.InitialKeep && o.Initial != output.InitialLast && l.given(path+".initial") {
		between(".initial", o.Initial.String(), output.Level(o.Initial), true)
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
	safe, ok := o.Safe.Level()
	return ok && o.Initial != output.InitialKeep && o.Initial != output.InitialLast && output.Level(o.Initial) != safe
}

// mostMinimum is the longest min_on or min_off. An order to the safe level may have to wait
// that long.
const mostMinimum = 24 * time.Hour
