package sim

import (
	"encoding/binary"
	"time"
)

// Gas is a simulated SGP30, SGP40 or SGP41 from Sensirion.
type Gas struct {
	commanded
	values      []uint16
	initialised time.Time // zero: not
	baseline    [2]uint16
	air         [2]uint16 // what the last command said of the air
}

// SetValues sets what it measures: an SGP30 ppm of carbon dioxide and ppb of compounds, the others
// ticks.
func (d *Gas) SetValues(v ...uint16) { d.update(func() { d.values = v }) }

// Baseline returns the two words of an SGP30's baseline, and what it was told of the humidity.
func (d *Gas) Baseline() (words [2]uint16, humidity uint16) {
	d.update(func() { words, humidity = d.present(time.Now()), d.air[0] })
	return words, humidity
}

// Air returns the words for humidity and temperature of the last measurement.
func (d *Gas) Air() (words [2]uint16) {
	d.update(func() { words = d.air })
	return words
}

// present is the baseline now: 0 unless it was initialised 15 s ago or set.
func (d *Gas) present(now time.Time) [2]uint16 {
	switch {
	case d.initialised.IsZero():
		return [2]uint16{}
	case d.baseline != [2]uint16{}:
		return d.baseline
	case now.Sub(d.initialised) < 15*time.Second:
		return [2]uint16{}
	}
	return [2]uint16{0x8973, 0x8AAE}
}

// AddSGP30 puts an SGP30 at address 0x58, in air of 450 ppm and 12 ppb.
func AddSGP30(b *Bus) *Gas {
	d := &Gas{values: []uint16{450, 12}}
	d.commanded = commanded{width: 2, forget: func() { d.initialised, d.baseline, d.air = time.Time{}, [2]uint16{}, [2]uint16{} }}
	d.take = func(now time.Time, code uint16, args []byte) ([]byte, time.Duration) {
		word := func(i int) uint16 {
			if len(args) < 3*i+2 {
				return 0
			}
			return binary.BigEndian.Uint16(args[3*i:])
		}
		switch code {
		case 0x202F:
			return sensirionWords(0x0022), 10 * time.Millisecond
		case 0x3682:
			return sensirionWords(0, 0x0048, 0xC1D5), time.Millisecond
		case 0x2003:
			d.initialised, d.baseline = now, [2]uint16{}
		case 0x2008:
			if d.initialised.IsZero() || now.Sub(d.initialised) < 15*time.Second {
				return sensirionWords(400, 0), 12 * time.Millisecond
			}
			return sensirionWords(d.values...), 12 * time.Millisecond
		case 0x2015:
			base := d.present(now)
			return sensirionWords(base[0], base[1]), 10 * time.Millisecond
		case 0x201E:
			d.baseline = [2]uint16{word(1), word(0)}
		case 0x2061:
			d.air = [2]uint16{word(0)}
		}
		return nil, 0
	}
	d.Chip = b.add(0x58, d)
	return d
}

// AddSGP40 puts an SGP40 at address 0x59.
func AddSGP40(b *Bus) *Gas { return addSGP4x(b, 0x3220, 0x260F, 30*time.Millisecond, 30000) }

// AddSGP41 puts an SGP41 at address 0x59.
func AddSGP41(b *Bus) *Gas { return addSGP4x(b, 0x0040, 0x2619, 50*time.Millisecond, 30000, 15000) }

func addSGP4x(b *Bus, features, measures uint16, takes time.Duration, values ...uint16) *Gas {
	d := &Gas{values: values}
	d.commanded = commanded{width: 2, take: func(_ time.Time, code uint16, args []byte) ([]byte, time.Duration) {
		switch code {
		case 0x202F:
			return sensirionWords(features), time.Millisecond
		case 0x3682:
			return sensirionWords(0, 0x0163, 0x57F9), time.Millisecond
		case measures, 0x2612:
			if len(args) != 6 {
				return nil, 0
			}
			d.air = [2]uint16{binary.BigEndian.Uint16(args), binary.BigEndian.Uint16(args[3:])}
			if code == 0x2612 {
				return sensirionWords(d.values[0]), takes
			}
			return sensirionWords(d.values...), takes
		}
		return nil, 0
	}}
	d.Chip = b.add(0x59, d)
	return d
}
