package sim

import (
	"encoding/binary"
	"math"
	"time"

	"fieldpost/sensors/board"
)

// Thermocouple is a simulated MAX31855 or MAX6675.
type Thermocouple struct {
	*Chip
	celsius, internal float64
	fault             uint32 // fault bits of the frame
	frame             func(d *Thermocouple) []byte
	lasts             time.Duration // duration of a conversion
	since             time.Time     // when it was last selected
	out               []byte        // the last frame
}

// AddMAX31855 puts a MAX31855 on an SPI device, at 25 degrees with its thermocouple
// at 100.
func (b *Board) AddMAX31855(name string) *Thermocouple {
	d := &Thermocouple{celsius: 100, internal: 25, lasts: 100 * time.Millisecond, frame: func(d *Thermocouple) []byte {
		f := uint32(int32(math.Round(d.celsius*4)))<<18 | uint32(int32(math.Round(d.internal*16)))<<4&0xFFF0
		if d.fault != 0 {
			f |= d.fault | 1<<16
		}
		return binary.BigEndian.AppendUint32(nil, f)
	}}
	d.Chip = b.addPort(name, d)
	return d
}

// AddMAX6675 puts a MAX6675 on an SPI device, with its thermocouple at 100 degrees.
func (b *Board) AddMAX6675(name string) *Thermocouple {
	d := &Thermocouple{celsius: 100, lasts: 220 * time.Millisecond, frame: func(d *Thermocouple) []byte {
		f := uint16(math.Round(max(0, d.celsius)*4))<<3 | uint16(d.fault)
		return binary.BigEndian.AppendUint16(nil, f)
	}}
	d.Chip = b.addPort(name, d)
	return d
}

// SetTemperature sets the thermocouple's temperature and the chip's own, in degrees
// Celsius.
func (d *Thermocouple) SetTemperature(celsius, internal float64) {
	d.update(func() { d.celsius, d.internal = celsius, internal })
}

// SetFault sets the fault bits of the thermocouple.
func (d *Thermocouple) SetFault(bits uint32) { d.update(func() { d.fault = bits }) }

func (d *Thermocouple) takes(c board.SPIConfig) bool { return c.Mode == 0 && c.MaxHz <= 5_000_000 }

func (d *Thermocouple) reset(now time.Time) { d.since, d.out = now, d.frame(d) }

// write selects the chip, which aborts a conversion that has not ended.
func (d *Thermocouple) write(now time.Time, _ []byte) {
	if now.Sub(d.since) >= d.lasts {
		d.out = d.frame(d)
	}
	d.since = now
}

func (d *Thermocouple) read(_ time.Time, p []byte) { copy(p, d.out) }

// MAX31865 is a simulated MAX31865 with a reference of 430 ohms.
type MAX31865 struct {
	*Chip
	ohms   float64
	status byte
	regs   [8]byte
	ends   time.Time
	answer []byte
}

// AddMAX31865 puts a MAX31865 on an SPI device, with a sensor of 107.79 ohms: a PT100
// at 20 degrees.
func (b *Board) AddMAX31865(name string) *MAX31865 {
	d := &MAX31865{ohms: 107.79}
	d.Chip = b.addPort(name, d)
	return d
}

// SetResistance sets the sensor's resistance, in ohms.
func (d *MAX31865) SetResistance(ohms float64) { d.update(func() { d.ohms = ohms }) }

// SetFault sets the fault status of measurements.
func (d *MAX31865) SetFault(status byte) { d.update(func() { d.status = status }) }

func (d *MAX31865) takes(c board.SPIConfig) bool {
	return (c.Mode == 1 || c.Mode == 3) && c.MaxHz <= 5_000_000
}

func (d *MAX31865) reset(time.Time) {
	d.regs, d.ends = [8]byte{3: 0xFF, 4: 0xFF}, time.Time{}
}

func (d *MAX31865) write(now time.Time, p []byte) {
	if !d.ends.IsZero() && !now.Before(d.ends) {
		code := uint16(max(0, min(32767, math.Round(d.ohms/430*32768)))) << 1
		if d.regs[0]&0x80 == 0 {
			code = 0 // no current, no voltage
		}
		d.regs[7] = d.status
		if d.status != 0 {
			code |= 1
		}
		d.regs[1], d.regs[2] = byte(code>>8), byte(code)
		d.regs[0] &^= 1 << 5
		d.ends = time.Time{}
	}
	d.answer = make([]byte, len(p))
	for i, v := range p[1:] {
		reg := (int(p[0]&0x7F) + i) % 8
		if p[0] < 0x80 {
			d.answer[1+i] = d.regs[reg]
			continue
		}
		switch {
		case reg == 0:
			d.regs[0] = v &^ 2
			if v&2 != 0 {
				d.regs[7] = 0
			}
			if v>>5&1 == 1 {
				d.ends = now.Add(66 * time.Millisecond)
			}
		case reg >= 3 && reg <= 6:
			d.regs[reg] = v
		}
	}
}

func (d *MAX31865) read(_ time.Time, p []byte) { copy(p, d.answer) }
