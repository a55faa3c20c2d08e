package sim

import "time"

// Registers of the BMP280 and BME280, BST-BME280-DS002 table 18.
const (
	regID       = 0xD0
	regReset    = 0xE0
	regCtrlHum  = 0xF2
	regStatus   = 0xF3
	regCtrlMeas = 0xF4
	regConfig   = 0xF5
	regData     = 0xF7 // press, temp and hum, eight bytes
)

const (
	idBMP280  = 0x58
	idBME280  = 0x60
	magic     = 0xB6 // resets when written to regReset
	measuring = 1 << 3
)

// bmx280 is the register file of both chips.
type bmx280 struct {
	*Chip
	id   byte
	trim trim

	temperature, pressure, humidity float64 // the air around it

	regs    [256]byte
	ptr     byte
	hum     byte // ctrl_hum as latched by the last write to ctrl_meas
	ends    time.Time
	frozen  bool // the measuring bit never clears
	starved bool // it measures wrong pressures
}

// BME280 is a simulated BME280. It measures in forced and in normal mode, and
// takes the datasheet's typical time for it.
type BME280 struct{ *bmx280 }

// BMP280 is a simulated BMP280: a BME280 without humidity.
type BMP280 struct{ *bmx280 }

// AddBME280 puts a BME280 at addr, in air of 20 degrees, 50 % and 101325 Pa.
func (b *Bus) AddBME280(addr uint16) *BME280 { return &BME280{b.addBMx280(addr, idBME280)} }

// AddBMP280 puts a BMP280 at addr, in air of 20 degrees and 101325 Pa.
func (b *Bus) AddBMP280(addr uint16) *BMP280 { return &BMP280{b.addBMx280(addr, idBMP280)} }

func (b *Bus) addBMx280(addr uint16, id byte) *bmx280 {
	d := &bmx280{id: id, trim: sheet, temperature: 20, pressure: 101325, humidity: 50}
	d.Chip = b.add(addr, d)
	return d
}

// SetTemperature sets the temperature of the air, in degrees Celsius.
func (d *bmx280) SetTemperature(celsius float64) { d.update(func() { d.temperature = celsius }) }

// SetPressure sets the pressure of the air, in pascal.
func (d *bmx280) SetPressure(pascal float64) { d.update(func() { d.pressure = pascal }) }

// SetHumidity sets the relative humidity of the air, in percent.
func (d *BME280) SetHumidity(percent float64) { d.update(func() { d.humidity = percent }) }

// FreezeStatus makes the chip report for ever that it is measuring, or ends that.
func (d *bmx280) FreezeStatus(on bool) { d.update(func() { d.frozen = on }) }

// Starve simulates a supply voltage that damages the chip's internal registers without
// resetting it: the readable registers keep their values, and pressures are 30 % too low
// until the next reset.
func (d *bmx280) Starve() { d.update(func() { d.starved = true }) }

// exchange gives the chip another calibration.
func (d *bmx280) exchange() {
	d.trim.T1 += 300
	d.trim.P1 -= 200
	d.trim.H2 += 20
}

func (d *bmx280) reset(time.Time) {
	d.regs = [256]byte{regID: d.id}
	d.trim.image(&d.regs)
	if d.id == idBMP280 {
		clear(d.regs[0xE1:0xE8])
		d.regs[0xA1] = 0
	}
	d.ptr, d.hum, d.ends, d.starved = 0, 0, time.Time{}, false
	copy(d.regs[regData:], []byte{0x80, 0, 0, 0x80, 0, 0, 0x80, 0})
}

// write accepts the address of a register to read from, or pairs of address and value
// (section 6.2.1: writes do not increment the address).
func (d *bmx280) write(now time.Time, p []byte) {
	d.settle(now)
	d.ptr = p[0]
	for ; len(p) >= 2; p = p[2:] {
		d.poke(now, p[0], p[1])
	}
}

func (d *bmx280) poke(now time.Time, reg, v byte) {
	switch reg {
	case regReset:
		if v == magic {
			d.reset(now)
		}
	case regCtrlHum:
		if d.id == idBME280 {
			d.regs[reg] = v & 7
		}
	case regConfig:
		d.regs[reg] = v
	case regCtrlMeas:
		d.regs[reg] = v
		d.hum = d.regs[regCtrlHum]
		if v&3 != 0 {
			d.ends = now.Add(d.duration())
		}
	}
}

func (d *bmx280) read(now time.Time, p []byte) {
	d.settle(now)
	d.regs[regStatus] = 0
	if d.frozen || !d.ends.IsZero() && d.regs[regCtrlMeas]&3 != 3 {
		d.regs[regStatus] = measuring
	}
	for i := range p {
		p[i] = d.regs[d.ptr]
		d.ptr++
	}
}

// settle ends a measurement that is due. Forced mode returns to sleep. In normal mode the
// registers follow the air.
func (d *bmx280) settle(now time.Time) {
	if d.ends.IsZero() || now.Before(d.ends) || d.frozen {
		return
	}
	d.measure()
	if d.regs[regCtrlMeas]&3 != 3 {
		d.regs[regCtrlMeas] &^= 3
		d.ends = time.Time{}
	}
}

// measure fills the data registers. A quantity that is not measured reads 0x80000 or
// 0x8000 (tables 20, 23 and 24).
func (d *bmx280) measure() {
	temp := 0x80000
	if osrs := d.regs[regCtrlMeas] >> 5; osrs != 0 {
		temp = d.convert(osrs, d.temperature*5120, d.trim.fine)
	}
	fine := d.trim.fine(temp)
	press := 0x80000
	if osrs := d.regs[regCtrlMeas] >> 2 & 7; osrs != 0 {
		pascal := d.pressure
		if d.starved {
			pascal *= 0.7
		}
		press = d.convert(osrs, pascal, func(raw int) float64 { return d.trim.pressure(raw, fine) })
	}
	hum := 0x8000
	if d.hum != 0 {
		hum = invert(16, d.humidity, func(raw int) float64 { return d.trim.humidity(raw, fine) })
	}
	copy(d.regs[regData:], []byte{
		byte(press >> 12), byte(press >> 4), byte(press << 4),
		byte(temp >> 12), byte(temp >> 4), byte(temp << 4),
	})
	if d.id == idBME280 {
		d.regs[regData+6], d.regs[regData+7] = byte(hum>>8), byte(hum)
	}
}

// convert returns the raw value of 20 bits that is nearest to want, with the chip's
// resolution: without the filter 16 bits at x1 and one more for each doubling of the
// oversampling, with the filter 20 bits (sections 3.4.1 to 3.4.3).
func (d *bmx280) convert(osrs byte, want float64, value func(raw int) float64) int {
	bits := 20
	if d.regs[regConfig]>>2&7 == 0 {
		bits = 15 + int(min(osrs, 5))
	}
	step := 20 - bits
	return invert(bits, want, func(raw int) float64 { return value(raw << step) }) << step
}

// duration is the typical time of a measurement (section 9.1).
func (d *bmx280) duration() time.Duration {
	us := 1000 + 2000*oversampling(d.regs[regCtrlMeas]>>5)
	if n := oversampling(d.regs[regCtrlMeas] >> 2 & 7); n > 0 {
		us += 2000*n + 500
	}
	if n := oversampling(d.hum); n > 0 {
		us += 2000*n + 500
	}
	return time.Duration(us) * time.Microsecond
}

func oversampling(bits byte) int {
	if bits == 0 {
		return 0
	}
	return 1 << (min(bits, 5) - 1)
}
