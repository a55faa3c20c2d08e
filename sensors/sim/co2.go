package sim

import (
	"math"
	"time"
)

// Measuring is a simulated SCD4x, SCD30 or SPS30 from Sensirion, which measures
// periodically.
type Measuring struct {
	commanded
	values  []float64
	began   time.Time // zero: it does not measure
	given   int       // how many values were read
	period  time.Duration
	forever bool // it resumes measuring after power-on
}

// SetValues sets what it measures: carbon dioxide in ppm, the temperature in degrees
// Celsius and the humidity in percent, or for an SPS30 the four concentrations in µg/m³.
func (d *Measuring) SetValues(v ...float64) { d.update(func() { d.values = v }) }

// fresh reports whether there is a value that has not been read yet.
func (d *Measuring) fresh(now time.Time) bool {
	return !d.frozen && !d.began.IsZero() && int(now.Sub(d.began)/d.period) > d.given
}

// taken marks the present value as read.
func (d *Measuring) taken(now time.Time) { d.given = int(now.Sub(d.began) / d.period) }

func (d *Measuring) start(now time.Time) { d.began, d.given = now, 0 }

func addMeasuring(b *Bus, addr uint16, d *Measuring, take func(now time.Time, code uint16, args []byte) ([]byte, time.Duration)) *Measuring {
	d.commanded = commanded{width: 2, take: take}
	d.forget = func() {
		if d.given = 0; !d.forever {
			d.began = time.Time{}
		} else if !d.began.IsZero() {
			d.began = time.Now()
		}
	}
	d.Chip = b.add(addr, d)
	return d
}

// refuses never refuses: the commands say whether a value is ready.
func (d *Measuring) refuses(now time.Time, w []byte, r int) bool {
	return len(w) == 0 && r > 0 && (d.answer == nil || now.Before(d.ready))
}

// AddSCD4x puts an SCD4x at address 0x62, in air of 600 ppm, 20 degrees and 50 %.
func AddSCD4x(b *Bus) *Measuring {
	d := &Measuring{values: []float64{600, 20, 50}, period: 5 * time.Second}
	return addMeasuring(b, 0x62, d, func(now time.Time, code uint16, _ []byte) ([]byte, time.Duration) {
		switch code {
		case 0x21B1:
			d.start(now)
		case 0x3F86:
			d.began = time.Time{}
		case 0x3682:
			if d.began.IsZero() {
				return sensirionWords(0xF896, 0x9F07, 0x3BBE), 0
			}
		case 0xE4B8:
			if d.fresh(now) {
				return sensirionWords(0x8006), 0
			}
			return sensirionWords(0x8000), 0
		case 0xEC05:
			if d.fresh(now) {
				d.taken(now)
				return sensirionWords(uint16(d.values[0]), share(d.values[1], -45, 175), share(d.values[2], 0, 100)), 0
			}
		}
		return nil, 0
	})
}

// floats encodes each number in two words.
func floats(v ...float64) (words []uint16) {
	for _, x := range v {
		bits := math.Float32bits(float32(x))
		words = append(words, uint16(bits>>16), uint16(bits))
	}
	return words
}

// AddSCD30 puts an SCD30 at address 0x61, in air of 600 ppm, 20 degrees and 50 %. It
// measures every 10 s.
func AddSCD30(b *Bus) *Measuring {
	d := &Measuring{values: []float64{600, 20, 50}, period: 10 * time.Second, forever: true}
	return addMeasuring(b, 0x61, d, func(now time.Time, code uint16, args []byte) ([]byte, time.Duration) {
		switch code {
		case 0xD100:
			return sensirionWords(0x0342), 3 * time.Millisecond
		case 0x4600:
			if len(args) == 3 {
				d.period = time.Duration(args[1]) * time.Second
				return nil, 0
			}
			return sensirionWords(uint16(d.period / time.Second)), 3 * time.Millisecond
		case 0x0010:
			d.start(now)
		case 0x0104:
			d.began = time.Time{}
		case 0x0202:
			if d.fresh(now) {
				return sensirionWords(1), 3 * time.Millisecond
			}
			return sensirionWords(0), 3 * time.Millisecond
		case 0x0300:
			if d.fresh(now) {
				d.taken(now)
				return sensirionWords(floats(d.values...)...), 3 * time.Millisecond
			}
		}
		return nil, 0
	})
}

// AddSPS30 puts an SPS30 at address 0x69, in air of 3, 5, 6 and 7 µg/m³.
func AddSPS30(b *Bus) *Measuring {
	d := &Measuring{values: []float64{3, 5, 6, 7}, period: time.Second}
	return addMeasuring(b, 0x69, d, func(now time.Time, code uint16, args []byte) ([]byte, time.Duration) {
		switch code {
		case 0xD100:
			return sensirionWords(0x0202), 15 * time.Millisecond
		case 0x0010:
			if len(args) == 3 && args[0] == 3 {
				d.start(now)
			}
		case 0x0104:
			d.began = time.Time{}
		case 0x0202:
			if d.fresh(now) {
				return sensirionWords(1), 15 * time.Millisecond
			}
			return sensirionWords(0), 15 * time.Millisecond
		case 0x0300:
			if d.fresh(now) {
				d.taken(now)
				return sensirionWords(floats(append(d.values, 20, 30, 35, 38, 39, 0.5)...)...), 15 * time.Millisecond
			}
		}
		return nil, 0
	})
}
