package sensors

import (
	"bytes"
	"encoding/binary"
	"time"
)

// Bosch's BMP180 and BMP085: temperature and air pressure.
//
// Source: BST-BMP180-DS000-09, revision 2.5, April 2013: section 3.5, figure 4
// (calculation), table 3 (4.5 ms for the temperature, 25.5 ms for the pressure at
// oversampling 3), table 5 (calibration).
//
// The chip has no settings that would show that it lost its power or was exchanged. So
// its calibration is read again after each measurement, and must be the same. The data
// register holds 0x8000 after power-on, which is also a possible measurement, so the
// driver then measures again.

var bmp180Quantities = []Quantity{
	{Name: "temperature", Unit: "Cel", Min: -40, Max: 85},
	{Name: "pressure", Unit: "Pa", Min: 30000, Max: 110000},
}

var bmp180 = deviceChip(Chip{
	Name:       "bmp180",
	Title:      "Bosch BMP180, BMP085: temperature and air pressure",
	Source:     "BST-BMP180-DS000-09, revision 2.5",
	Addresses:  []uint16{0x77},
	Quantities: bmp180Quantities,
	Worst:      300 * time.Millisecond,
}, func(w *wire) device { return &bmp180Device{wire: w} })

const (
	bmp180Calib   = 0xAA // to 0xBF
	bmp180Size    = 22
	bmp180ID      = 0xD0
	bmp180Is      = 0x55
	bmp180Control = 0xF4
	bmp180Data    = 0xF6

	bmp180Temperature = 0x2E
	bmp180Pressure    = 0x34 // and the oversampling above
	bmp180OSS         = 3
)

// bmp180Trim is a chip's calibration, named as in table 5.
type bmp180Trim struct {
	ac1, ac2, ac3      int32
	ac4, ac5, ac6      uint32
	b1, b2, mb, mc, md int32
}

type bmp180Device struct {
	*wire
	calib []byte
	trim  bmp180Trim
}

// setup reads the calibration twice.
func (d *bmp180Device) setup() error {
	id, err := d.read(bmp180ID, 1)
	if err != nil {
		return err
	}
	if id[0] != bmp180Is {
		return faultf("chip id %#02x is not a BMP180's or BMP085's (want %#02x)", id[0], bmp180Is)
	}
	if d.calib, err = d.read(bmp180Calib, bmp180Size); err != nil {
		return err
	}
	if d.trim, err = newBMP180Trim(d.calib); err != nil {
		return err
	}
	return d.same()
}

// same returns an error if the calibration has changed.
func (d *bmp180Device) same() error {
	calib, err := d.read(bmp180Calib, bmp180Size)
	if err == nil && !bytes.Equal(calib, d.calib) {
		err = faultf("its calibration was read as % x and then as % x: the chip was exchanged, or read wrongly", d.calib, calib)
	}
	return err
}

// newBMP180Trim decodes the calibration. None of its words is 0 or 0xFFFF (section 3.4).
func newBMP180Trim(b []byte) (bmp180Trim, error) {
	var w [11]uint16
	for i := range w {
		if w[i] = binary.BigEndian.Uint16(b[2*i:]); w[i] == 0 || w[i] == 0xFFFF {
			return bmp180Trim{}, faultf("its calibration is % x, which is impossible", b)
		}
	}
	s := func(i int) int32 { return int32(int16(w[i])) }
	return bmp180Trim{s(0), s(1), s(2), uint32(w[3]), uint32(w[4]), uint32(w[5]), s(6), s(7), s(8), s(9), s(10)}, nil
}

func (d *bmp180Device) measure() ([]float64, error) {
	ut, err := d.convert(bmp180Temperature, 5*time.Millisecond, 2)
	if err != nil {
		return nil, err
	}
	up, err := d.convert(bmp180Pressure|bmp180OSS<<6, 27*time.Millisecond, 3)
	if err != nil {
		return nil, err
	}
	if err := d.same(); err != nil {
		return nil, err
	}
	celsius, pascal, err := d.trim.values(int32(ut), int32(up>>(8-bmp180OSS)), bmp180OSS)
	return []float64{celsius, pascal}, err
}

// convert measures one quantity, and once more if the register has its value after
// power-on.
func (d *bmp180Device) convert(command byte, takes time.Duration, n int) (v uint32, err error) {
	for range 2 {
		if err := d.write(bmp180Control, command); err != nil {
			return 0, err
		}
		d.pause(takes)
		b, err := d.read(bmp180Data, n)
		if err != nil {
			return 0, err
		}
		if uniform(b) {
			return 0, faultf("no measurement: % x", b)
		}
		v = 0
		for _, x := range b {
			v = v<<8 | uint32(x)
		}
		if v != 0x8000<<(8*(n-2)) {
			break
		}
	}
	return v, nil
}

// values makes the calculation of figure 4, with integers.
func (t bmp180Trim) values(ut, up int32, oss uint) (celsius, pascal float64, err error) {
	x1 := int32(int64(ut-int32(t.ac6)) * int64(t.ac5) >> 15)
	if x1+t.md == 0 {
		return 0, 0, faultf("its temperature %d does not fit its calibration", ut)
	}
	x2 := t.mc << 11 / (x1 + t.md)
	b5 := x1 + x2
	b6 := b5 - 4000
	x1 = t.b2 * (b6 * b6 >> 12) >> 11
	x2 = t.ac2 * b6 >> 11
	b3 := ((t.ac1*4+x1+x2)<<oss + 2) / 4
	x1 = t.ac3 * b6 >> 13
	x2 = t.b1 * (b6 * b6 >> 12) >> 16
	b4 := t.ac4 * uint32((x1+x2+2)>>2+32768) >> 15
	if b4 == 0 || up < b3 {
		return 0, 0, faultf("its pressure %d does not fit its calibration", up)
	}
	b7 := uint32(up-b3) * (50000 >> oss)
	p := int32(b7 / b4 * 2)
	if b7 < 0x80000000 {
		p = int32(b7 * 2 / b4)
	}
	x1 = (p >> 8) * (p >> 8) * 3038 >> 16
	x2 = -7357 * p >> 16
	p += (x1 + x2 + 3791) >> 4
	return float64((b5+8)>>4) / 10, float64(p), nil
}

// sleep does nothing: the chip sleeps by itself.
func (d *bmp180Device) sleep() error { return nil }
