package sim

import (
	"math"
	"time"
)

// INA is a simulated current monitor from Texas Instruments: an INA219, INA226, INA260 or
// INA3221.
type INA struct {
	registers
	shunt, bus [3]float64 // V; for the INA260 A
}

// SetSupply sets the voltage over the shunt resistor of channel n, from 0, in volts (for
// an INA260 the current in ampere), and the supply's voltage.
func (d *INA) SetSupply(n int, shunt, bus float64) {
	d.update(func() { d.shunt[n], d.bus[n] = shunt, bus })
}

// inaKind is what differs between the chips.
type inaKind struct {
	reset, die     uint16
	shunt, bus     float64 // steps
	shuntAt, busAt int     // shifts
	channels       int
	ready          byte
	bit            uint16
	most           float64
	takes          time.Duration
}

// AddINA219 puts an INA219 at addr, with 10 mV over its resistor and 12 V.
func AddINA219(b *Bus, addr uint16) *INA {
	return addINA(b, addr, inaKind{0x399F, 0, 10e-6, 4e-3, 0, 3, 1, 0x02, 1 << 1, 32000, 1100 * time.Microsecond})
}

// AddINA226 puts an INA226 at addr, with 10 mV over its resistor and 12 V.
func AddINA226(b *Bus, addr uint16) *INA {
	return addINA(b, addr, inaKind{0x4127, 0x2260, 2.5e-6, 1.25e-3, 0, 0, 1, 0x06, 1 << 3, 32767, 36 * time.Millisecond})
}

// AddINA260 puts an INA260 at addr, with 0.01 A and 12 V.
func AddINA260(b *Bus, addr uint16) *INA {
	return addINA(b, addr, inaKind{0x6127, 0x2270, 1.25e-3, 1.25e-3, 0, 0, 1, 0x06, 1 << 3, 32767, 36 * time.Millisecond})
}

// AddINA3221 puts an INA3221 at addr, each of its channels with 10 mV over its
// resistor and 12 V.
func AddINA3221(b *Bus, addr uint16) *INA {
	return addINA(b, addr, inaKind{0x7127, 0x3220, 40e-6, 8e-3, 3, 3, 3, 0x0F, 1, 4095, 27 * time.Millisecond})
}

func addINA(b *Bus, addr uint16, k inaKind) *INA {
	d := &INA{shunt: [3]float64{0.01, 0.01, 0.01}, bus: [3]float64{12, 12, 12}}
	d.initial = map[byte]uint16{0: k.reset}
	if k.die != 0 {
		d.initial[0xFE], d.initial[0xFF] = 0x5449, k.die
	}
	d.wrote = func(now time.Time, reg byte, v uint16) {
		switch {
		case reg == 0 && v>>15 == 1:
			d.reset(now)
		case reg == 0:
			d.regs[0] = v
			d.regs[k.ready] &^= k.bit
			if v&7 != 0 && v&7 != 4 {
				d.ends = now.Add(k.takes)
			}
		}
	}
	d.reads = func(now time.Time, reg byte) {
		if !d.done(now) {
			return
		}
		for n := range k.channels {
			if k.channels == 3 && d.regs[0]>>(14-n)&1 == 0 {
				continue
			}
			steps := max(-k.most, min(k.most, math.Round(d.shunt[n]/k.shunt)))
			d.regs[byte(2*n+1)] = uint16(int16(steps)) << k.shuntAt
			d.regs[byte(2*n+2)] = uint16(math.Round(d.bus[n]/k.bus)) << k.busAt
		}
		d.regs[k.ready] |= k.bit
	}
	d.Chip = b.add(addr, d)
	return d
}
