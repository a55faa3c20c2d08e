// Package filter changes the values of a sensor's readings on their way out: the list of filters
// in the configuration, in the order in which they are written. Then it adds the quantities that
// are derived from these values, such as the dew point.
//
// A [Chain] holds the filters of one sensor. Its windows begin empty when the sensor's
// configuration is new or the daemon starts, and a filter then uses the values that it has. A
// failed read leaves the windows as they are, so one missing value does not end the smoothing. If
// the last value is older than ten periods of the sensor, the windows begin empty again. After a
// failed read, delta lets the next reading through.
//
// There is no clock and no goroutine here. The time of a reading comes with it.
package filter

import (
	"fmt"
	"math"
	"slices"
	"time"

	"fieldpost/sensors"
)

// staleAfter is after how many periods of the sensor without a value the windows begin empty.
const staleAfter = 10

// step is one filter for one quantity.
type step interface {
	// apply returns the value for x. The error says why the value is rejected.
	apply(x float64) (float64, error)
	// clone returns a copy that shares no state.
	clone() step
}

// Chain is the filters of one sensor, and the quantities that are derived after them. A nil Chain changes nothing. Not for concurrent use.
type Chain struct {
	config  sensors.Config
	every   time.Duration
	entries []entry
	last    time.Duration // of the last reading
	begun   bool          // there was one
	sent    time.Duration // the last reading that was not kept back
	force   bool          // the next reading is not kept back
}

// entry is a filter of the configuration.
type entry struct {
	sensors.Filter
	steps map[string]step // by quantity, made when the first value comes
	base  []sensors.Field // delta's: the values of the last reading that was sent
	now   []sensors.Field // delta's: the values of this reading
}

// New returns the filters of a sensor and what it derives, nil if it has neither. [Check] must have accepted them.
// every is the time between its readings.
func New(c sensors.Config, every time.Duration) *Chain {
	if len(c.Filters) == 0 && len(c.Derive) == 0 {
		return nil
	}
	chain := &Chain{config: c, every: every, force: true}
	for _, f := range c.Filters {
		chain.entries = append(chain.entries, entry{Filter: f, steps: map[string]step{}})
	}
	return chain
}

// Clone returns a chain in the same state, for a reading that is not to change it.
func (c *Chain) Clone() *Chain {
	if c == nil {
		return nil
	}
	other := *c
	other.entries = slices.Clone(c.entries)
	for i, e := range c.entries {
		steps := make(map[string]step, len(e.steps))
		for name, s := range e.steps {
			steps[name] = s.clone()
		}
		other.entries[i].steps = steps
		other.entries[i].base, other.entries[i].now = slices.Clone(e.base), nil
	}
	return &other
}

// Fits returns an error if a filter or a derived quantity is for one that the open sensor does not have.
func (c *Chain) Fits(quantities []sensors.Quantity) error {
	if c == nil {
		return nil
	}
	names := make([]string, len(quantities))
	for i, q := range quantities {
		names[i] = q.Name
	}
	for i, e := range c.entries {
		at := slices.Index(names, e.Quantity)
		if e.Quantity != "" && at < 0 {
			return fmt.Errorf("filters[%d], %s: the sensor has no %s; it has %s", i, e.Filter.Filter, e.Quantity, list(names))
		}
		if e.As != "" {
			names[max(at, 0)] = e.As
		}
	}
	for i, name := range c.config.Derive {
		d, _ := derivationOf(name)
		for _, want := range d.from {
			if !slices.Contains(names, want.Name) {
				return fmt.Errorf("derive[%d], %s: the sensor has no %s; it has %s", i, name, want.Name, list(names))
			}
		}
	}
	return nil
}

// Failed notes that a read has failed: the next reading is not kept back.
func (c *Chain) Failed() {
	if c != nil {
		c.force = true
	}
}

// Apply changes the values of a reading that was taken at that time, on a clock that is not set. It
// may change fields. keep reports that delta keeps the reading back. The error wraps
// [sensors.ErrFault] and says which value is rejected; then there is no reading.
func (c *Chain) Apply(at time.Duration, fields []sensors.Field) (_ []sensors.Field, keep bool, err error) {
	if c == nil {
		return fields, false, nil
	}
	if c.begun && at-c.last > staleAfter*c.every {
		for _, e := range c.entries {
			clear(e.steps)
		}
	}
	c.last, c.begun = at, true
	gated, changed := false, false
	for i := range c.entries {
		e := &c.entries[i]
		if e.Filter.Filter == "delta" {
			gated = true
			changed = e.compare(fields) || changed || at-c.sent >= e.Heartbeat-c.every/2
			continue
		}
		if err := e.change(fields); err != nil {
			return nil, false, fmt.Errorf("%w: filters[%d], %s: %w", sensors.ErrFault, i, e.Filter.Filter, err)
		}
	}
	if gated && !changed && !c.force {
		return derive(c.config, fields), true, nil
	}
	c.sent, c.force = at, false
	for i := range c.entries {
		e := &c.entries[i]
		e.base, e.now = e.now, e.base
	}
	return derive(c.config, fields), false, nil
}

// change applies the filter to the fields that it is for.
func (e *entry) change(fields []sensors.Field) error {
	for i := range fields {
		f := &fields[i]
		x, isNumber := number(f.Value)
		if !isNumber || e.Quantity != "" && e.Quantity != f.Name {
			continue
		}
		s := e.steps[f.Name]
		if s == nil {
			s = kinds[e.Filter.Filter].build(e.Filter)
			e.steps[f.Name] = s
		}
		y, err := s.apply(x)
		switch {
		case err != nil:
			return fmt.Errorf("%s of %v %w", f.Name, f.Value, err)
		case math.IsNaN(y) || math.IsInf(y, 0):
			return fmt.Errorf("%s of %v becomes too large a number", f.Name, f.Value)
		}
		if y != x {
			f.Value = y
		}
		if e.As != "" {
			f.Name = e.As
		}
	}
	return nil
}

// compare notes the values and reports whether one of them differs from the last that was sent by
// more than the filter allows.
func (e *entry) compare(fields []sensors.Field) bool {
	e.now = e.now[:0]
	for _, f := range fields {
		if e.Quantity == "" || e.Quantity == f.Name {
			e.now = append(e.now, f)
		}
	}
	return !slices.EqualFunc(e.now, e.base, func(a, b sensors.Field) bool {
		x, isNumber := number(a.Value)
		y, both := number(b.Value)
		if !isNumber || !both {
			return a == b
		}
		return a.Name == b.Name && (x == y || math.Abs(x-y) < e.By*(1-1e-9))
	})
}

// number returns a value as a number, if it is one.
func number(v any) (x float64, ok bool) {
	switch v := v.(type) {
	case float64:
		return v, true
	case int64:
		return float64(v), true
	}
	return 0, false
}
