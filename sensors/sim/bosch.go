package sim

import "time"

// specimen is one chip of a kind with individual calibration: the contents of its memory,
// and what it measures in air of 20 degrees, 50 % and 101325 Pa.
type specimen struct {
	memory  map[byte][]byte
	t, p, h uint32
}

// Bosch is a simulated BMP180, BMP388, BMP390, BME680 or BME688, in air of 20 degrees,
// 50 % and 101325 Pa.
type Bosch struct {
	*Chip
	specimens []specimen // the present one first
	regs      [256]byte
	ptr       byte
	ends      time.Time
	frozen    bool
	cold      bool // the heater does not get warm
	poke      func(now time.Time, reg, v byte)
	measured  func()
	power     func()
}

// FreezeConversion makes a measurement never end, or ends that.
func (d *Bosch) FreezeConversion(on bool) { d.update(func() { d.frozen = on }) }

// SetCold prevents the heater of a BME680 from reaching its temperature, or ends that.
func (d *Bosch) SetCold(on bool) { d.update(func() { d.cold = on }) }

// exchange makes the next specimen the present one.
func (d *Bosch) exchange() { d.specimens = append(d.specimens[1:], d.specimens[0]) }

func (d *Bosch) reset(time.Time) {
	d.regs, d.ptr, d.ends = [256]byte{}, 0, time.Time{}
	for reg, b := range d.specimens[0].memory {
		copy(d.regs[reg:], b)
	}
	d.power()
}

func (d *Bosch) settle(now time.Time) {
	if !d.ends.IsZero() && !d.frozen && !now.Before(d.ends) {
		d.ends = time.Time{}
		d.measured()
	}
}

// write accepts a register to read from, or pairs of register and value.
func (d *Bosch) write(now time.Time, p []byte) {
	d.settle(now)
	d.ptr = p[0]
	for ; len(p) >= 2; p = p[2:] {
		d.poke(now, p[0], p[1])
	}
}

func (d *Bosch) read(now time.Time, p []byte) {
	d.settle(now)
	for i := range p {
		p[i] = d.regs[d.ptr]
		d.ptr++
	}
}

// AddBMP180 puts a BMP180, with the calibration of its data sheet's example, at
// address 0x77.
func AddBMP180(b *Bus) *Bosch {
	calib := []byte{0x01, 0x98, 0xFF, 0xB8, 0xC7, 0xD1, 0x7F, 0xE5, 0x7F, 0xF5, 0x5A, 0x71, 0x18, 0x2E, 0x00, 0x04, 0x80, 0x00, 0xDD, 0xF9, 0x0B, 0x34}
	other := append([]byte(nil), calib...)
	other[1], other[11] = 0x9F, 0x7A
	d := &Bosch{specimens: []specimen{
		{memory: map[byte][]byte{0xAA: calib}, t: 28515, p: 271674},
		{memory: map[byte][]byte{0xAA: other}, t: 28524, p: 271730},
	}}
	command := byte(0)
	d.power = func() {
		d.regs[0xD0], d.regs[0xF6] = 0x55, 0x80
	}
	d.poke = func(now time.Time, reg, v byte) {
		if reg != 0xF4 {
			return
		}
		switch command = v; v {
		case 0x2E:
			d.ends = now.Add(4500 * time.Microsecond)
		case 0xF4:
			d.ends = now.Add(25500 * time.Microsecond)
		}
	}
	d.measured = func() {
		s := d.specimens[0]
		v := s.t << 8
		if command == 0xF4 {
			v = s.p << 5
		}
		d.regs[0xF6], d.regs[0xF7], d.regs[0xF8] = byte(v>>16), byte(v>>8), byte(v)
	}
	d.Chip = b.add(0x77, d)
	return d
}

// AddBMP388 puts a BMP388 at addr.
func AddBMP388(b *Bus, addr uint16) *Bosch { return addBMP3(b, addr, 0x50) }

// AddBMP390 puts a BMP390 at addr.
func AddBMP390(b *Bus, addr uint16) *Bosch { return addBMP3(b, addr, 0x60) }

func addBMP3(b *Bus, addr uint16, id byte) *Bosch {
	calib := []byte{0x33, 0x6C, 0x28, 0x4A, 0xF6, 0x1F, 0xFF, 0x5A, 0xF8, 0x23, 0x00, 0xDA, 0x61, 0xF8, 0x75, 0xF3, 0xF6, 0x80, 0x3F, 0x09, 0xC4}
	other := append([]byte(nil), calib...)
	other[0], other[2], other[5] = 0x34, 0x29, 0x2F
	d := &Bosch{specimens: []specimen{
		{memory: map[byte][]byte{0x31: calib}, t: 0x7D7FDE, p: 0x662D4D},
		{memory: map[byte][]byte{0x31: other}, t: 0x7D80A2, p: 0x664656},
	}}
	d.power = func() {
		d.regs[0x00], d.regs[0x03], d.regs[0x1C] = id, 0x10, 0x02
		d.regs[0x06], d.regs[0x09] = 0x80, 0x80
	}
	d.poke = func(now time.Time, reg, v byte) {
		switch {
		case reg == 0x7E && v == 0xB6:
			d.reset(now)
		case reg == 0x1B:
			d.regs[reg] = v
			if v&0x30 == 0x10 {
				d.regs[0x03] &^= 0x60
				d.ends = now.Add(19 * time.Millisecond)
			}
		case reg >= 0x15 && reg <= 0x1F:
			d.regs[reg] = v
		}
	}
	d.measured = func() {
		s := d.specimens[0]
		copy(d.regs[0x04:], []byte{byte(s.p), byte(s.p >> 8), byte(s.p >> 16), byte(s.t), byte(s.t >> 8), byte(s.t >> 16)})
		d.regs[0x03] |= 0x60
		d.regs[0x1B] &^= 0x30
	}
	d.Chip = b.add(addr, d)
	return d
}

// AddBME680 puts a BME680 at addr.
func AddBME680(b *Bus, addr uint16) *Bosch { return addBME68x(b, addr, 0) }

// AddBME688 puts a BME688 at addr.
func AddBME688(b *Bus, addr uint16) *Bosch { return addBME68x(b, addr, 1) }

func addBME68x(b *Bus, addr uint16, variant byte) *Bosch {
	memory := func(change byte) map[byte][]byte {
		return map[byte][]byte{
			0x8A: {0xA4 + change, 0x65 + change, 0x03, 0xF0, 0x7D + change, 0x8E, 0x5F, 0xD7, 0x58, 0x00, 0xD0, 0x1D, 0xD4, 0xFF, 0x25, 0x1E, 0x00, 0x00, 0x5B, 0xF7, 0x1A, 0xF5, 0x1E},
			0xE1: {0x3F - change, 0xE7, 0x2E, 0x00, 0x2D, 0x14, 0x78, 0x9C, 0x33 + 2*change, 0x66, 0x65, 0xDB, 0xE2, 0x12},
			0x00: {0x1F, 0x00, 0x15, 0x00, 0x13},
		}
	}
	d := &Bosch{specimens: []specimen{
		{memory: memory(0), t: 0x75F07, p: 0x508E5, h: 0x5409},
		{memory: memory(1), t: 0x75CB0, p: 0x508D4, h: 0x54A2},
	}}
	d.power = func() { d.regs[0xD0], d.regs[0xF0] = 0x61, variant }
	d.poke = func(now time.Time, reg, v byte) {
		switch {
		case reg == 0xE0 && v == 0xB6:
			d.reset(now)
		case reg == 0x74:
			d.regs[reg] = v
			if v&3 == 1 {
				d.regs[0x1D] &^= 0x80
				takes := 57 * time.Millisecond
				if d.regs[0x71]&0x30 != 0 {
					w := d.regs[0x64]
					takes += time.Duration(w&0x3F) << (2 * (w >> 6)) * time.Millisecond
				}
				d.ends = now.Add(takes)
			}
		case reg >= 0x50 && reg <= 0x75:
			d.regs[reg] = v
		}
	}
	d.measured = func() {
		s := d.specimens[0]
		copy(d.regs[0x1F:], []byte{
			byte(s.p >> 12), byte(s.p >> 4), byte(s.p << 4), byte(s.t >> 12), byte(s.t >> 4), byte(s.t << 4), byte(s.h >> 8), byte(s.h),
		})
		d.regs[0x1D] |= 0x80
		gas := [2]byte{512 >> 2 & 0xFF, 4}
		if d.regs[0x71]&(0x10<<variant) != 0 {
			if gas[1] |= 0x20; !d.cold && d.regs[0x5A] != 0 {
				gas[1] |= 0x10
			}
		}
		copy(d.regs[0x2A+2*variant:], gas[:])
		d.regs[0x74] &^= 3
	}
	d.Chip = b.add(addr, d)
	return d
}
