package sensors

import "time"

// ROHM's BH1750FVI: light.
//
// Source: BH1750FVI technical note, 11046EDT01, November 2011: instructions, a
// measurement of high resolution takes 120 ms, at most 180 ms; lx = count / 1.2 with
// MTreg at 69, its value after power-on.
//
// The chip measures once for each reading and then powers down. It has no identity, and
// the count is its only readable register. A count of 0 means darkness, but it is also
// the value after power-on, and that of a data line that is stuck low. So the driver
// measures again and accepts a second 0; it cannot tell a stuck line from a dark room.
// All ones are a fault: light beyond the range, or no chip.

var bh1750 = deviceChip(Chip{
	Name:       "bh1750",
	Title:      "ROHM BH1750: light",
	Source:     "BH1750FVI technical note 11046EDT01",
	Addresses:  []uint16{0x23, 0x5C},
	Quantities: []Quantity{{Name: "illuminance", Unit: "lx", Min: 0, Max: 54612.5}},
	Worst:      600 * time.Millisecond,
}, func(w *wire) device { return &bh1750Device{w} })

const (
	bhDown  = 0x00
	bhOn    = 0x01
	bhReset = 0x07
	bhOnce  = 0x20 // one time, high resolution
	bhMTHi  = 0x42 // 01000 and the upper three bits of 69
	bhMTLo  = 0x65 // 011 and the lower five
	bhTime  = 185 * time.Millisecond
)

type bh1750Device struct{ *wire }

func (d *bh1750Device) setup() error { return d.send(bhOn) }

func (d *bh1750Device) measure() ([]float64, error) {
	count, err := d.count()
	if err == nil && count == 0 {
		count, err = d.count()
	}
	if err != nil {
		return nil, err
	}
	if count == 0xFFFF {
		return nil, faultf("count %#04x: the light is beyond its range, or nothing drives the line", count)
	}
	return []float64{round(float64(count)/1.2, 0.1)}, nil
}

// count measures once. It sets MTreg each time, because MTreg cannot be read back.
func (d *bh1750Device) count() (uint16, error) {
	for _, instruction := range []byte{bhOn, bhReset, bhMTHi, bhMTLo, bhOnce} {
		if err := d.send(instruction); err != nil {
			return 0, err
		}
	}
	d.pause(bhTime)
	b := make([]byte, 2)
	err := d.Tx(d.addr, nil, b)
	return uint16(b[0])<<8 | uint16(b[1]), err
}

func (d *bh1750Device) sleep() error { return d.send(bhDown) }
