package sim

import (
	"encoding/binary"
	"math"
	"time"
)

// Dust is a simulated dust sensor on a serial port: a PMS5003, or an SDS011. While it
// sends frames by itself, as after power-on, one precedes each answer.
type Dust struct {
	*Chip
	pm      [3]float64 // µg/m³: PM1, PM2.5, PM10
	passive bool
	asleep  bool
	in, out []byte
	frame   func() []byte
	command func(p []byte) int // carries out a command and returns its length; 0: incomplete
}

// SetDust sets the concentrations of PM1, PM2.5 and PM10, in µg/m³.
func (d *Dust) SetDust(pm1, pm25, pm10 float64) {
	d.update(func() { d.pm = [3]float64{pm1, pm25, pm10} })
}

func sum16(p []byte) (sum uint16) {
	for _, b := range p {
		sum += uint16(b)
	}
	return sum
}

// AddPMS5003 puts a PMS5003 on a serial port, in air of 3, 5 and 8 µg/m³.
func (b *Board) AddPMS5003(port string) *Dust {
	d := &Dust{pm: [3]float64{3, 5, 8}}
	d.frame = func() []byte {
		f := make([]byte, 30)
		copy(f, []byte{0x42, 0x4D, 0, 28})
		for i, v := range d.pm {
			binary.BigEndian.PutUint16(f[4+2*i:], uint16(v)+1) // the values for factory air (CF=1)
			binary.BigEndian.PutUint16(f[10+2*i:], uint16(v))
		}
		f[28] = 0x97
		return binary.BigEndian.AppendUint16(f, sum16(f))
	}
	d.command = func(p []byte) int {
		if len(p) < 7 {
			return 0
		}
		if binary.BigEndian.Uint16(p[5:]) == sum16(p[:5]) {
			switch p[2] {
			case 0xE1:
				d.passive = p[4] == 0
				a := []byte{0x42, 0x4D, 0, 4, 0xE1, p[4]}
				d.out = append(d.out, binary.BigEndian.AppendUint16(a, sum16(a))...)
			case 0xE2:
				if d.passive {
					d.out = append(d.out, d.frame()...)
				}
			}
		}
		return 7
	}
	d.Chip = b.addPort(port, d)
	return d
}

// AddSDS011 puts an SDS011, asleep, on a serial port, in air of 5 and 8 µg/m³.
func (b *Board) AddSDS011(port string) *Dust {
	d := &Dust{pm: [3]float64{0, 5, 8}}
	d.frame = func() []byte {
		f := []byte{0xAA, 0xC0, 0, 0, 0, 0, 0xA1, 0x60}
		binary.LittleEndian.PutUint16(f[2:], uint16(math.Round(d.pm[1]*10)))
		binary.LittleEndian.PutUint16(f[4:], uint16(math.Round(d.pm[2]*10)))
		return append(f, byte(sum16(f[2:])), 0xAB)
	}
	d.command = func(p []byte) int {
		if len(p) < 19 {
			return 0
		}
		if byte(sum16(p[2:17])) != p[17] || d.asleep && p[2] != 6 {
			return 19
		}
		switch p[2] {
		case 6:
			d.asleep = p[4] == 0
		case 2:
			d.passive = p[4] == 1
		case 4:
			d.out = append(d.out, d.frame()...)
			return 19
		}
		a := []byte{0xAA, 0xC5, p[2], p[3], p[4], 0, 0xA1, 0x60}
		d.out = append(d.out, append(a, byte(sum16(a[2:])), 0xAB)...)
		return 19
	}
	d.Chip = b.addPort(port, d)
	d.update(func() { d.asleep = true })
	return d
}

func (d *Dust) baud() int       { return 9600 }
func (d *Dust) waiting() int    { return len(d.out) }
func (d *Dust) discard()        { d.out = nil }
func (d *Dust) reset(time.Time) { d.passive, d.asleep, d.in, d.out = false, false, nil, nil }

func (d *Dust) write(_ time.Time, p []byte) {
	if !d.passive && !d.asleep {
		d.out = append(d.out, d.frame()...)
	}
	d.in = append(d.in, p...)
	for len(d.in) > 0 {
		n := 1
		if d.in[0] == 0x42 || d.in[0] == 0xAA {
			if n = d.command(d.in); n == 0 {
				return
			}
		}
		d.in = d.in[n:]
	}
}

func (d *Dust) read(_ time.Time, p []byte) { d.out = d.out[copy(p, d.out):] }
