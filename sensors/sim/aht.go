package sim

import (
	"math"
	"time"
)

// AHT is a simulated AHT10 or AHT20 from Aosong.
type AHT struct {
	*Chip
	air
	crc    bool
	ends   time.Time // of the measurement
	data   [7]byte
	loaded bool
	frozen bool
}

// AddAHT20 puts an AHT20 at address 0x38, in air of 20 degrees and 50 %.
func AddAHT20(b *Bus) *AHT { return addAHT(b, true) }

// AddAHT10 puts an AHT10 at address 0x38, in air of 20 degrees and 50 %. Its calibration
// is not loaded.
func AddAHT10(b *Bus) *AHT { return addAHT(b, false) }

func addAHT(b *Bus, crc bool) *AHT {
	d := &AHT{air: air{20, 50}, crc: crc}
	d.Chip = b.add(0x38, d)
	return d
}

// SetAir sets the temperature of the air, in degrees Celsius, and its relative
// humidity, in percent.
func (d *AHT) SetAir(celsius, percent float64) { d.update(func() { d.air = air{celsius, percent} }) }

// FreezeConversion makes a measurement never end, or ends that.
func (d *AHT) FreezeConversion(on bool) { d.update(func() { d.frozen = on }) }

func (d *AHT) reset(time.Time) {
	d.loaded, d.ends, d.data = d.crc, time.Time{}, [7]byte{}
}

func (d *AHT) status(now time.Time) byte {
	status := byte(0x10)
	if d.loaded {
		status |= 1 << 3
	}
	if d.frozen || now.Before(d.ends) {
		status |= 1 << 7
	}
	return status
}

func (d *AHT) write(now time.Time, p []byte) {
	switch {
	case p[0] == 0xBA:
		d.reset(now)
	case p[0] == 0xBE && d.crc, p[0] == 0xE1 && !d.crc:
		d.loaded = true
	case p[0] == 0xAC && len(p) == 3:
		d.ends = now.Add(75 * time.Millisecond)
		const full = 1 << 20
		rh, t := uint32(math.Round(d.percent/100*full)), uint32(math.Round((d.celsius+50)/200*full))
		d.data = [7]byte{0, byte(rh >> 12), byte(rh >> 4), byte(rh<<4) | byte(t>>16), byte(t >> 8), byte(t)}
	}
}

func (d *AHT) read(now time.Time, p []byte) {
	out := d.data
	out[0] = d.status(now)
	if out[6] = 0xFF; d.crc {
		out[6] = crc8(0x31, 0xFF, out[:6])
	}
	copy(p, out[:])
}
