package sampler

import (
	"fmt"

	"fieldpost/daemon/health"
	"fieldpost/daemon/totals"
	"fieldpost/sensors"
)

// sense reads the sensor. The reading of a counter has the total over all runs, as far as it
// is on disk.
func (d *driver) sense() ([]sensors.Field, sensors.Pulses, error) {
	c, counts := d.counter(d.sensor)
	if !counts {
		fields, err := d.sensor.Sense()
		return fields, sensors.Pulses{}, err
	}
	p, err := c.Pulses()
	if err != nil {
		return nil, sensors.Pulses{}, err
	}
	d.totals.Add(d.config.Name, p.Count, p.Uncertain())
	var total *sensors.Total
	if t, known := d.totals.Saved(d.config.Name); known {
		total = &t
	}
	fields, err := c.Reading(p, total)
	return fields, p, err
}

// counter returns the sensor as a counter if it is one and totals are kept.
func (d *driver) counter(s sensors.Sensor) (sensors.Counter, bool) {
	if d.totals == nil {
		return nil, false
	}
	c, counts := s.(sensors.Counter)
	return c, counts
}

// beginTotal starts or continues the total of a counter that was opened.
func (d *driver) beginTotal() {
	c, counts := d.counter(d.sensor)
	if !counts {
		return
	}
	o, _ := d.config.Options.(sensors.CounterOptions)
	id := c.Line()
	d.totals.Begin(totals.Meter{
		Name: d.config.Name, Line: fmt.Sprintf("%s:%d", id.Label, id.Offset),
		Measures: o.Measures, PerPulse: o.PerPulse, Start: o.Start,
	})
}

// endTotal adds the last pulses of a counter that is about to be closed.
func (d *driver) endTotal(s sensors.Sensor) {
	if c, counts := d.counter(s); counts {
		if p, err := c.Pulses(); err == nil {
			d.totals.Add(d.config.Name, p.Count, p.Uncertain())
		}
	}
}

// reportPulses raises and clears the faults of a counter's line.
func (r *runner) reportPulses(p sensors.Pulses) {
	if !p.Uncertain() && !r.pulses.Load() {
		return
	}
	r.pulses.Store(p.Uncertain())
	report := func(code health.Code, detail string) {
		if detail != "" {
			r.o.Health.Raise(code, r.name, detail)
		} else {
			r.o.Health.Clear(code, r.name)
		}
	}
	report(health.EdgesLost, p.Missed)
	report(health.Chatters, p.Excess)
}
