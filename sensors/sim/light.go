package sim

import (
	"encoding/binary"
	"math"
	"time"
)

// VEML7700 is a simulated VEML7700.
type VEML7700 struct {
	registers
	lux float64
}

// SetLight sets the light, in lux, as the chip measures it before correction.
func (d *VEML7700) SetLight(lux float64) { d.update(func() { d.lux = lux }) }

// AddVEML7700 puts a VEML7700 at address 0x10, in light of 500 lx.
func AddVEML7700(b *Bus) *VEML7700 {
	d := &VEML7700{lux: 500}
	d.little = true
	d.initial = map[byte]uint16{0: 1, 7: 0xC481}
	d.wrote = func(now time.Time, reg byte, v uint16) {
		if d.regs[reg] = v; reg == 0 {
			if d.ends = now.Add(110 * time.Millisecond); v&1 == 1 {
				d.ends = time.Time{}
			}
		}
	}
	d.reads = func(now time.Time, _ byte) {
		if d.done(now) {
			gain := []float64{1, 2, 0.125, 0.25}[d.regs[0]>>11&3]
			d.regs[4] = uint16(min(65535, math.Round(d.lux/(0.0042*8*2/gain))))
		}
	}
	d.Chip = b.add(0x10, d)
	return d
}

// TSL is a simulated TSL2591 or TSL2561.
type TSL struct {
	*Chip
	lux     float64
	regs    [32]byte
	initial [32]byte
	ptr     byte
	ends    time.Time
	data    byte
	valid   byte // the register whose bit 0 is set once a measurement has ended; 0: none
	frozen  bool
	takes   func() time.Duration
	count   func() (ch0, full float64)
}

// FreezeConversion makes a measurement never end, or ends that. A TSL2561 has no sign of it.
func (d *TSL) FreezeConversion(on bool) { d.update(func() { d.frozen = on }) }

// SetLight sets the light, in lux.
func (d *TSL) SetLight(lux float64) { d.update(func() { d.lux = lux }) }

func (d *TSL) reset(time.Time) { d.regs, d.ptr, d.ends = d.initial, 0, time.Time{} }

func (d *TSL) settle(now time.Time) {
	if d.ends.IsZero() || now.Before(d.ends) || d.frozen {
		return
	}
	d.ends = time.Time{}
	if d.valid != 0 {
		d.regs[d.valid] |= 1
	}
	ch0, full := d.count()
	binary.LittleEndian.PutUint16(d.regs[d.data:], uint16(min(full, math.Round(ch0))))
	binary.LittleEndian.PutUint16(d.regs[d.data+2:], 0)
}

func (d *TSL) write(now time.Time, p []byte) {
	d.settle(now)
	if d.ptr = p[0] & 0x1F; len(p) < 2 {
		return
	}
	if d.regs[d.ptr] = p[1]; d.ptr == 0 {
		if d.ends = now.Add(d.takes()); p[1] != 3 {
			d.ends = time.Time{}
		}
		if d.valid != 0 {
			d.regs[d.valid] &^= 1
		}
	}
}

func (d *TSL) read(now time.Time, p []byte) {
	d.settle(now)
	for i := range p {
		p[i] = d.regs[(int(d.ptr)+i)%32]
	}
}

// AddTSL2591 puts a TSL2591 at address 0x29, in light of 500 lx without infrared.
func AddTSL2591(b *Bus) *TSL {
	d := &TSL{lux: 500, data: 0x14, valid: 0x13, initial: [32]byte{0x12: 0x50}}
	ms := func() float64 { return 100 * float64(1+d.regs[1]&7) }
	d.takes = func() time.Duration { return time.Duration(ms()*1.08) * time.Millisecond }
	d.count = func() (float64, float64) {
		full := 65535.0
		if d.regs[1]&7 == 0 {
			full = 36863
		}
		return d.lux * ms() * []float64{1, 25, 428, 9876}[d.regs[1]>>4&3] / 408, full
	}
	d.Chip = b.add(0x29, d)
	return d
}

// AddTSL2561 puts a TSL2561 at addr, in light of 500 lx without infrared.
func AddTSL2561(b *Bus, addr uint16) *TSL {
	d := &TSL{lux: 500, data: 0x0C, initial: [32]byte{0x01: 0x02, 0x0A: 0x50}}
	cycles := func() float64 { return []float64{11, 81, 322, 322}[d.regs[1]&3] }
	d.takes = func() time.Duration { return time.Duration(cycles()/322*402*1.1) * time.Millisecond }
	d.count = func() (float64, float64) {
		gain := 1.0
		if d.regs[1]&0x10 != 0 {
			gain = 16
		}
		return d.lux / 0.0304 * cycles() / 322 * gain / 16, []float64{5047, 37177, 65535, 65535}[d.regs[1]&3]
	}
	d.Chip = b.add(addr, d)
	return d
}
