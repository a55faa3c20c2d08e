package sampler

import (
	"errors"
	"fmt"
	"math"
	"sync/atomic"

	"fieldpost/daemon/clock"
	"fieldpost/sensors"
	"fieldpost/sensors/board"
)

// driver is a sensor's chip, open or not. It belongs to the worker.
type driver struct {
	board  *board.Resting
	rests  bool // its bus is let go of between readings
	config sensors.Config
	chip   sensors.Chip
	clock  clock.Clock
	sensor sensors.Sensor // nil while it is not open
	broken bool           // Sense has not returned, but panicked
	// lines has the channel of edges of each sensor opened. A reading opens at
	// most one, and its runner takes it, so there is always room.
	lines chan (<-chan board.Edge)
}

// reading is one good answer.
type reading struct {
	stamp  clock.Stamp
	fields []sensors.Field
}

// read senses once, and opens the chip before where it is not open, or is to
// be opened anew. After a read that fails any sensor without edges is.
func (d *driver) read(anew bool) (reading, error) {
	if d.sensor != nil && (anew || d.broken) {
		_ = d.close() // it is being replaced because it does not work
	}
	if d.sensor == nil {
		if err := d.open(); err != nil {
			return reading{}, explain(err, d.board, d.config)
		}
	}
	d.broken = true
	fields, err := d.sensor.Sense()
	d.broken = false
	stamp := d.clock.Now()
	if err == nil {
		err = possible(d.sensor.Quantities(), fields)
	}
	if err != nil {
		if _, edges := d.sensor.(sensors.Edger); !edges {
			// It may be another chip by now. A line's request is kept: it would
			// lose the edges meanwhile.
			_ = d.close()
		}
		return reading{}, explain(err, d.board, d.config)
	}
	if d.rests {
		d.board.Rest()
	}
	return reading{stamp, fields}, nil
}

func (d *driver) open() error {
	s, err := d.chip.Open(d.board, d.config)
	if err != nil {
		return err
	}
	d.sensor, d.broken = s, false
	if e, ok := s.(sensors.Edger); ok {
		d.lines <- e.Edges()
	}
	return nil
}

// close lets the chip go; closing it again does nothing.
func (d *driver) close() error {
	s := d.sensor
	d.sensor = nil // even if Close panics
	if s == nil {
		return nil
	}
	return s.Close()
}

// possible refuses what the sensor's quantities say cannot be.
func possible(quantities []sensors.Quantity, fields []sensors.Field) error {
	if len(fields) == 0 {
		return fmt.Errorf("%w: gave no value", sensors.ErrFault)
	}
	for _, f := range fields {
		var x float64
		switch v := f.Value.(type) {
		case float64:
			x = v
		case int64:
			x = float64(v)
		case bool, string:
			continue
		default:
			return fmt.Errorf("%w: %s is a %T", sensors.ErrFault, f.Name, v)
		}
		if math.IsNaN(x) || math.IsInf(x, 0) {
			return fmt.Errorf("%w: %s is %v", sensors.ErrFault, f.Name, x)
		}
		for _, q := range quantities {
			if q.Name == f.Name && (x < q.Min || x > q.Max) {
				return fmt.Errorf("%w: %s of %v %s is outside %v to %v", sensors.ErrFault, f.Name, x, q.Symbol(), q.Min, q.Max)
			}
		}
	}
	return nil
}

// serving is the name of the sensor whom a worker serves. Any goroutine.
type serving struct{ p atomic.Pointer[string] }

func (s *serving) set(name string) { s.p.Store(&name) }

func (s *serving) name() string {
	if p := s.p.Load(); p != nil {
		return *p
	}
	return ""
}

// errLate is the reason when the caller has given up waiting.
var errLate = errors.New("did not answer")
