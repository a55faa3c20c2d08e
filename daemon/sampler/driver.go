package sampler

import (
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"fieldpost/daemon/clock"
	"fieldpost/daemon/totals"
	"fieldpost/sensors"
	"fieldpost/sensors/board"
	"fieldpost/sensors/filter"
)

// driver is a sensor's chip, open or not. It belongs to the bus worker.
type driver struct {
	board  *board.Resting
	rests  bool // the bus is closed between readings
	edges  bool // the sensor has edges
	config sensors.Config
	chip   sensors.Chip
	sensor sensors.Sensor // nil while it is not open
	totals *totals.Store  // the totals of counters; nil: they count from their opening
	broken bool           // Sense panicked, so the sensor must be opened again
	// waitingSince is when the sensor first had no value yet; zero if it has one.
	waitingSince time.Time
	overdue      bool // it has waited for too long, and had no value since
	// filters change the values; nil if there are none.
	filters *filter.Chain
	// lines carries the channel of edges of each opened sensor. A reading opens at most one,
	// and the runner takes it, so there is always room.
	lines chan (<-chan board.Edge)
	// pauses says whether the last read has waited for the chip.
	pauses bool
	// yield lets the pass read other sensors while the driver waits; nil outside of a pass.
	yield func(time.Duration) bool
	timer *time.Timer // of Pause
}

// pausingBoard is the board that the driver is given; it also implements board.Pauser.
type pausingBoard struct {
	*board.Resting
	d *driver
}

// Pause implements [board.Pauser].
func (b pausingBoard) Pause(d time.Duration) { b.d.pause(d) }

// pause waits for the chip.
func (d *driver) pause(long time.Duration) {
	d.pauses = true
	switch {
	case d.yield != nil:
		d.yield(long)
		return
	case d.timer == nil:
		d.timer = time.NewTimer(long)
	default:
		d.timer.Reset(long)
	}
	<-d.timer.C
}

// reading is what one read returned.
type reading struct {
	stamp  clock.Stamp
	fields []sensors.Field
	kept   bool           // it must not be sent: a filter suppresses it
	pulses sensors.Pulses // of a counter
}

// read reads the sensor once, stamps the reading with c and filters it. Only a scheduled read
// changes the state of the filters. It opens the chip if it is not open, or if reopen is set.
// After a read that fails it closes the sensor, unless the sensor has edges or counts. A sensor that
// has no value yet stays open; see [sensors.ErrNotReady].
func (d *driver) read(reopen, scheduled bool, c clock.Clock) (reading, error) {
	if d.sensor != nil && (reopen && d.waitingSince.IsZero() || d.broken) {
		_ = d.close() // it does not work anyway
		d.filters.Failed()
	}
	if d.sensor == nil {
		if err := d.open(); err != nil {
			d.filters.Failed()
			return reading{}, explain(err, d.board, d.config)
		}
	}
	d.broken, d.pauses = true, false
	fields, pulses, err := d.sense()
	d.broken = false
	stamp := c.Now()
	if err == nil {
		err = sensors.CheckFields(d.sensor.Quantities(), fields)
	}
	if errors.Is(err, sensors.ErrNotReady) {
		var waits bool
		if waits, err = d.notReady(err); waits {
			return reading{}, err
		}
	}
	d.waitingSince, d.overdue = time.Time{}, d.overdue && err != nil
	kept := false
	if err == nil {
		filters := d.filters
		if !scheduled {
			filters = filters.Clone()
		}
		fields, kept, err = filters.Apply(stamp.Mono, fields)
	}
	if err != nil {
		d.filters.Failed()
		if !keepsLine(d.sensor) {
			// It may be another chip by now. A line stays requested, because it would
			// lose edges.
			_ = d.close()
		}
		return reading{}, explain(err, d.board, d.config)
	}
	if d.rests {
		d.board.Rest()
	}
	return reading{stamp, fields, kept, pulses}, nil
}

// keepsLine reports whether a sensor would lose edges if it were opened again.
func keepsLine(s sensors.Sensor) bool {
	switch s.(type) {
	case sensors.Edger, sensors.LineKeeper:
		return true
	}
	return false
}

// notReady handles a sensor that has no value yet. waits is false if it has waited for too
// long; then it must be closed. From then on the error is a fault until there is a value,
// even while the sensor is open again and waits again.
func (d *driver) notReady(err error) (waits bool, _ error) {
	if d.waitingSince.IsZero() {
		d.waitingSince = time.Now()
	}
	waits = time.Since(d.waitingSince) <= d.chip.WarmUp+margin
	if d.overdue = d.overdue || !waits; d.overdue {
		err = explain(fmt.Errorf("%w: %v, %v and more after it was opened", sensors.ErrFault, err, d.chip.WarmUp), d.board, d.config)
	}
	return waits, err
}

// open opens the chip and checks that the filters fit it. If that fails, also by a panic, no
// bus stays open.
func (d *driver) open() error {
	defer func() {
		if d.sensor == nil {
			d.board.CloseAll()
		}
	}()
	s, err := d.chip.Open(pausingBoard{d.board, d}, d.config)
	if err != nil {
		return err
	}
	if err := d.filters.Fits(s.Quantities()); err != nil {
		_ = s.Close()
		return err
	}
	d.sensor, d.broken, d.waitingSince = s, false, time.Time{}
	d.beginTotal()
	e, ok := s.(sensors.Edger)
	if d.edges = ok; ok {
		d.lines <- e.Edges()
	}
	return nil
}

// close closes the sensor, and its bus even if the driver panics. Closing it again does
// nothing.
func (d *driver) close() error {
	s := d.sensor
	d.sensor = nil // even if Close panics
	defer d.board.CloseAll()
	if s == nil {
		return nil
	}
	if !d.broken {
		d.endTotal(s)
	}
	return s.Close()
}

// currentSensor is the name of the sensor that a bus worker works for. Any goroutine.
type currentSensor struct{ p atomic.Pointer[string] }

func (c *currentSensor) set(name *string) { c.p.Store(name) }

func (c *currentSensor) name() string {
	if p := c.p.Load(); p != nil {
		return *p
	}
	return ""
}

// errLate is the error when the bus worker did not answer in time.
var errLate = errors.New("did not answer")
