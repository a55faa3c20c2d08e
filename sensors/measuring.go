package sensors

import (
	"math"
	"time"
)

// Sensirion's chips that measure periodically and say when they have a new value: SCD4x and SCD30
// (scd.go), SPS30 (sps30.go).
//
// Until the first value, and between two values, Sense returns [ErrNotReady]: it returns
// each value once. A chip that lost its power no longer measures and has no value for
// longer than [Chip].WarmUp; the sampler then opens it again.

// measuring is a chip that measures periodically.
type measuring struct {
	words
	ready   uint16 // command: is there a value?
	mask    uint16 // of the answer
	data    uint16 // command: read the value
	wait    time.Duration
	n       int       // words of the value
	usable  time.Time // values before this time are dropped
	begin   func(*measuring) error
	end     func(*measuring) error // nil: it keeps measuring
	convert func([]uint16) ([]float64, error)
}

func (d *measuring) setup() error { return d.begin(d) }

func (d *measuring) measure() ([]float64, error) {
	ready, err := d.ask(d.ready, d.wait, 1)
	if err != nil {
		return nil, err
	}
	if ready[0]&d.mask == 0 {
		return nil, ErrNotReady
	}
	v, err := d.ask(d.data, d.wait, d.n)
	if err != nil {
		return nil, err
	}
	if time.Now().Before(d.usable) {
		return nil, ErrNotReady
	}
	return d.convert(v)
}

// sleep ends the measurement.
func (d *measuring) sleep() error {
	if d.end == nil {
		return nil
	}
	return d.end(d)
}

// float32Of decodes a number of two words.
func float32Of(v []uint16) float64 {
	return float64(math.Float32frombits(uint32(v[0])<<16 | uint32(v[1])))
}
