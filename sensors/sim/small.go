package sim

import (
	"math"
	"time"
)

// ADS1115 is a simulated ADS1115, or an ADS1015 of 12 bits.
type ADS1115 struct {
	registers
	inputs [4]float64 // V
}

// SetInput sets the voltage at an input, in volts.
func (d *ADS1115) SetInput(n int, volts float64) { d.update(func() { d.inputs[n] = volts }) }

// AddADS1115 puts an ADS1115 at addr, with 1 V at its inputs.
func AddADS1115(b *Bus, addr uint16) *ADS1115 { return addADS(b, addr, 16, 8*time.Millisecond) }

// AddADS1015 puts an ADS1015 at addr, with 1 V at its inputs.
func AddADS1015(b *Bus, addr uint16) *ADS1115 { return addADS(b, addr, 12, 650*time.Microsecond) }

func addADS(b *Bus, addr uint16, bits int, takes time.Duration) *ADS1115 {
	d := &ADS1115{inputs: [4]float64{1, 1, 1, 1}}
	d.initial = map[byte]uint16{1: 0x8583, 3: 0x7FFF, 2: 0x8000}
	d.wrote = func(now time.Time, reg byte, v uint16) {
		if d.regs[reg] = v; reg == 1 {
			if d.regs[1] |= 1 << 15; v>>15 == 1 {
				d.regs[1] &^= 1 << 15
				d.ends = now.Add(takes)
			}
		}
	}
	d.reads = func(now time.Time, _ byte) {
		if !d.done(now) {
			return
		}
		conf := d.regs[1]
		full := []float64{6.144, 4.096, 2.048, 1.024, 0.512, 0.256, 0.256, 0.256}[conf>>9&7]
		volts := d.inputs[0] - d.inputs[1]
		if mux := conf >> 12 & 7; mux >= 4 {
			volts = d.inputs[mux-4]
		}
		steps := float64(int(1) << (bits - 1))
		code := int(max(-steps, min(steps-1, math.Round(volts/full*steps))))
		d.regs[0] = uint16(code << (16 - bits))
		d.regs[1] |= 1 << 15
	}
	d.Chip = b.add(addr, d)
	return d
}

// Thermometer is a simulated TMP117 or MCP9808.
type Thermometer struct {
	registers
	celsius float64
}

// SetTemperature sets the chip's temperature, in degrees Celsius.
func (d *Thermometer) SetTemperature(celsius float64) { d.update(func() { d.celsius = celsius }) }

// AddTMP117 puts a TMP117 at addr, at 20 degrees.
func AddTMP117(b *Bus, addr uint16) *Thermometer {
	const mode, once, off, ready = 3 << 10, 3 << 10, 1 << 10, 1 << 13
	d := &Thermometer{celsius: 20}
	d.initial = map[byte]uint16{0: 0x8000, 1: 0x0220, 0x0F: 0x1117}
	d.wrote = func(now time.Time, reg byte, v uint16) {
		if reg != 1 {
			return
		}
		d.regs[1] = v & 0x0FFC
		d.ends = time.Time{}
		if v&mode != off {
			d.ends = now.Add(124 * time.Millisecond)
		}
	}
	d.reads = func(now time.Time, reg byte) {
		if d.done(now) {
			d.regs[0] = uint16(int16(math.Round(d.celsius * 128)))
			if d.regs[1] |= ready; d.regs[1]&mode == once {
				d.regs[1] = d.regs[1]&^mode | off
			}
		}
	}
	d.Chip = b.add(addr, d)
	return d
}

// AddMCP9808 puts an MCP9808 at addr, at 20 degrees.
func AddMCP9808(b *Bus, addr uint16) *Thermometer {
	d := &Thermometer{celsius: 20}
	d.initial = map[byte]uint16{6: 0x0054, 7: 0x0400, 8: 3}
	d.wrote = func(now time.Time, reg byte, v uint16) {
		if reg == 1 {
			d.ends = time.Time{}
			if d.regs[1] = v & 0x07FF; v>>8&1 == 0 {
				d.ends = now.Add(250 * time.Millisecond)
			}
		}
	}
	d.reads = func(now time.Time, _ byte) {
		if d.ends.IsZero() || now.Before(d.ends) {
			return
		}
		d.regs[5] = 0xC000 | uint16(int16(math.Round(d.celsius*16)))&0x1FFF
	}
	d.Chip = b.add(addr, d)
	return d
}

// MLX90614 is a simulated MLX90614.
type MLX90614 struct {
	*Chip
	addr            byte
	object, ambient float64
	ptr             byte
	failed          bool
}

// AddMLX90614 puts an MLX90614 at addr. It has 20 degrees and points at an object of
// 36.6.
func AddMLX90614(b *Bus, addr uint16) *MLX90614 {
	d := &MLX90614{addr: byte(addr), object: 36.6, ambient: 20}
	d.Chip = b.add(addr, d)
	return d
}

// SetTemperatures sets the temperatures of the object and of the chip, in degrees
// Celsius.
func (d *MLX90614) SetTemperatures(object, ambient float64) {
	d.update(func() { d.object, d.ambient = object, ambient })
}

// Fail makes the chip report that its measurement failed, or ends that.
func (d *MLX90614) Fail(on bool) { d.update(func() { d.failed = on }) }

func (d *MLX90614) reset(time.Time)             { d.ptr = 0 }
func (d *MLX90614) write(_ time.Time, p []byte) { d.ptr = p[0] }

func (d *MLX90614) read(_ time.Time, p []byte) {
	celsius := d.ambient
	if d.ptr == 7 {
		celsius = d.object
	}
	w := uint16(math.Round((celsius + 273.15) / 0.02))
	if d.failed {
		w |= 1 << 15
	}
	answer := []byte{byte(w), byte(w >> 8)}
	answer = append(answer, crc8(0x07, 0, append([]byte{d.addr << 1, d.ptr, d.addr<<1 | 1}, answer...)))
	copy(p, answer)
}

// BH1750 is a simulated BH1750.
type BH1750 struct {
	*Chip
	lux   float64
	on    bool
	mt    int // MTreg
	ends  time.Time
	count uint16
}

// AddBH1750 puts a BH1750 at addr, in light of 1000 lx.
func AddBH1750(b *Bus, addr uint16) *BH1750 {
	d := &BH1750{lux: 1000}
	d.Chip = b.add(addr, d)
	return d
}

// SetLight sets the light, in lux.
func (d *BH1750) SetLight(lux float64) { d.update(func() { d.lux = lux }) }

func (d *BH1750) reset(time.Time) { d.on, d.mt, d.count, d.ends = false, 69, 0, time.Time{} }

func (d *BH1750) write(now time.Time, p []byte) {
	switch c := p[0]; {
	case c == 0:
		d.on = false
	case c == 1:
		d.on = true
	case c == 7 && d.on:
		d.count = 0
	case c == 0x20:
		d.on = true
		d.ends = now.Add(120 * time.Millisecond)
	case c>>3 == 8:
		d.mt = int(c&7)<<5 | d.mt&31
	case c>>5 == 3:
		d.mt = d.mt&^31 | int(c&31)
	}
}

func (d *BH1750) read(now time.Time, p []byte) {
	if !d.ends.IsZero() && !now.Before(d.ends) {
		d.count = uint16(max(0, min(65535, math.Round(d.lux*1.2*float64(d.mt)/69))))
		d.on, d.ends = false, time.Time{}
	}
	copy(p, []byte{byte(d.count >> 8), byte(d.count)})
}
