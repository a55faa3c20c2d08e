package sensors

import (
	"bytes"
	"encoding/binary"
	"time"
)

// Bosch's BMP388 and BMP390: temperature and air pressure.
//
// Sources: BST-BMP388-DS001-07, revision 1.7, November 2020, and BST-BMP390-DS002-07,
// revision 1.7, September 2021: register map table 23, calibration table 24,
// compensation section 9 (BMP388) and 8 (BMP390); section 3.9.2 for the time of a
// measurement.
//
// The chip sleeps and measures once for each reading (forced mode). Its oversampling
// differs from that after power-on and is read after the values. The calibration is read
// twice and must be the same.

var bmp388 = bmp3Chip("bmp388", "Bosch BMP388: temperature and air pressure", "BST-BMP388-DS001-07, revision 1.7", 0x50)
var bmp390 = bmp3Chip("bmp390", "Bosch BMP390: temperature and air pressure", "BST-BMP390-DS002-07, revision 1.7", 0x60)

func bmp3Chip(name, title, source string, id byte) Chip {
	return deviceChip(Chip{
		Name: name, Title: title, Source: source, Addresses: bmx280Addresses,
		Quantities: []Quantity{bmp180Quantities[0], {Name: "pressure", Unit: "Pa", Min: 30000, Max: 125000}},
		Worst:      200 * time.Millisecond,
	}, func(w *wire) device { return &bmp3Device{wire: w, id: id} })
}

const (
	bmp3ID      = 0x00
	bmp3Status  = 0x03
	bmp3Data    = 0x04 // pressure and temperature, low bytes first
	bmp3PwrCtrl = 0x1B
	bmp3OSR     = 0x1C
	bmp3Config  = 0x1F
	bmp3Calib   = 0x31 // to 0x45
	bmp3Size    = 21
	bmp3Cmd     = 0x7E

	bmp3Ready = 1<<5 | 1<<6 // drdy_press, drdy_temp
	bmp3Once  = 0x13        // forced mode, both
	bmp3P8T1  = 0x03        // pressure x8, temperature x1; 0x02 after power-on
	bmp3Takes = 22 * time.Millisecond
	bmp3Reset = 0xB6
)

// bmp3Trim is a chip's calibration, table 24 converted as in section 9.1.
type bmp3Trim struct {
	t1, t2, t3                                   float64
	p1, p2, p3, p4, p5, p6, p7, p8, p9, p10, p11 float64
}

type bmp3Device struct {
	*wire
	id   byte
	trim bmp3Trim
}

func (d *bmp3Device) setup() error {
	id, err := d.read(bmp3ID, 1)
	if err != nil {
		return err
	}
	if id[0] != d.id {
		return faultf("chip id %#02x is not a %s's (want %#02x)", id[0], d.chip, d.id)
	}
	if err := d.write(bmp3Cmd, bmp3Reset); err != nil {
		return err
	}
	d.pause(5 * time.Millisecond)
	for _, setting := range [][2]byte{{bmp3OSR, bmp3P8T1}, {bmp3Config, 0}} {
		if err := d.write(setting[0], setting[1]); err != nil {
			return err
		}
	}
	first, err := d.read(bmp3Calib, bmp3Size)
	if err != nil {
		return err
	}
	second, err := d.read(bmp3Calib, bmp3Size)
	if err != nil {
		return err
	}
	if !bytes.Equal(first, second) {
		return faultf("its calibration was read as % x and then as % x", first, second)
	}
	d.trim, err = newBMP3Trim(first)
	return err
}

func newBMP3Trim(b []byte) (bmp3Trim, error) {
	u := func(i int) float64 { return float64(binary.LittleEndian.Uint16(b[i:])) }
	s := func(i int) float64 { return float64(int16(binary.LittleEndian.Uint16(b[i:]))) }
	c := func(i int) float64 { return float64(int8(b[i])) }
	exp := func(v float64, n int) float64 { return v / float64(uint64(1)<<n) }
	if uniform(b) || u(0) == 0 || u(2) == 0 {
		return bmp3Trim{}, faultf("its calibration is % x, which is impossible", b)
	}
	return bmp3Trim{
		t1: u(0) * 256, t2: exp(u(2), 30), t3: exp(c(4), 48),
		p1: exp(s(5)-1<<14, 20), p2: exp(s(7)-1<<14, 29), p3: exp(c(9), 32), p4: exp(c(10), 37), p5: u(11) * 8, p6: exp(u(13), 6),
		p7: exp(c(15), 8), p8: exp(c(16), 15), p9: exp(s(17), 48), p10: exp(c(19), 48), p11: exp(c(20)/4, 63),
	}, nil
}

func (d *bmp3Device) measure() ([]float64, error) {
	if err := d.write(bmp3PwrCtrl, bmp3Once); err != nil {
		return nil, err
	}
	d.pause(bmp3Takes)
	for range 10 {
		status, err := d.read(bmp3Status, 1)
		if err != nil {
			return nil, err
		}
		if status[0]&bmp3Ready == bmp3Ready {
			return d.values()
		}
		d.pause(2 * time.Millisecond)
	}
	return nil, faultf("a measurement does not end")
}

func (d *bmp3Device) values() ([]float64, error) {
	b, err := d.read(bmp3Data, 6)
	if err != nil {
		return nil, err
	}
	osr, err := d.read(bmp3OSR, 1)
	if err != nil {
		return nil, err
	}
	switch {
	case osr[0]&0x3F != bmp3P8T1:
		return nil, lostSetup("osr", uint16(osr[0]), bmp3P8T1)
	case uniform(b[:3]) || uniform(b[3:]):
		return nil, faultf("no measurement: % x", b)
	}
	raw := func(i int) float64 { return float64(uint32(b[i]) | uint32(b[i+1])<<8 | uint32(b[i+2])<<16) }
	t, p := d.trim.compensate(raw(3), raw(0))
	return []float64{round(t, 0.01), round(p, 1)}, nil
}

// compensate makes the calculation of sections 9.2 and 9.3.
func (c *bmp3Trim) compensate(rawT, rawP float64) (celsius, pascal float64) {
	x := rawT - c.t1
	t := x*c.t2 + x*x*c.t3
	offset := c.p5 + t*(c.p6+t*(c.p7+t*c.p8))
	slope := c.p1 + t*(c.p2+t*(c.p3+t*c.p4))
	return t, offset + rawP*slope + rawP*rawP*(c.p9+c.p10*t) + rawP*rawP*rawP*c.p11
}

// sleep does nothing: after a forced measurement the chip sleeps.
func (d *bmp3Device) sleep() error { return nil }
