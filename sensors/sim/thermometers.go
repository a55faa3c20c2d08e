package sim

import (
	"encoding/binary"
	"math"
	"time"
)

// TMP102 is a simulated TMP102 (SBOS397).
type TMP102 struct {
	*Chip
	celsius float64

	ptr    byte
	conf   uint16
	limits [2]uint16
	temp   int       // sixteenths of a degree, of the last conversion
	ends   time.Time // end of the present conversion; zero: none
	frozen bool
}

// The TMP102's configuration register.
const (
	tmpOS       = 1 << 15
	tmpSD       = 1 << 8
	tmpEM       = 1 << 4
	tmpWritable = 0x9FD0 // all but R1, R0, AL and the four low bits
	tmpPowerUp  = 0x60A0
	tmpTime     = 26 * time.Millisecond // a conversion
)

// AddTMP102 puts a TMP102 at addr, at 20 degrees.
func (b *Bus) AddTMP102(addr uint16) *TMP102 {
	d := &TMP102{celsius: 20}
	d.Chip = b.add(addr, d)
	return d
}

// SetTemperature sets the chip's temperature, in degrees Celsius.
func (d *TMP102) SetTemperature(celsius float64) { d.update(func() { d.celsius = celsius }) }

// FreezeConversion makes a conversion never end, or ends that.
func (d *TMP102) FreezeConversion(on bool) { d.update(func() { d.frozen = on }) }

func (d *TMP102) reset(now time.Time) {
	d.ptr, d.conf, d.temp = 0, tmpPowerUp, 0
	d.limits = [2]uint16{0x4B00, 0x5000}
	d.ends = now.Add(tmpTime)
}

func (d *TMP102) write(now time.Time, p []byte) {
	d.settle(now)
	d.ptr = p[0] & 3
	if len(p) < 3 {
		return
	}
	v := binary.BigEndian.Uint16(p[1:])
	if d.ptr == 1 {
		d.configure(now, v)
	} else if d.ptr >= 2 {
		d.limits[d.ptr-2] = v
	}
}

// configure starts a conversion when the chip wakes up and on a one-shot. Shutting the
// chip down does not end a conversion.
func (d *TMP102) configure(now time.Time, v uint16) {
	slept, sleeps := d.conf&tmpSD != 0, v&tmpSD != 0
	d.conf = d.conf&^tmpWritable | v&(tmpWritable&^tmpOS)
	switch {
	case slept && (!sleeps || v&tmpOS != 0):
		d.ends = now.Add(tmpTime)
	case !slept && sleeps && !now.Before(d.ends) && !d.frozen:
		d.ends = time.Time{}
	}
}

func (d *TMP102) read(now time.Time, p []byte) {
	d.settle(now)
	var v uint16
	switch d.ptr {
	case 0:
		v = d.word()
	case 1:
		v = d.conf
		if d.conf&tmpSD != 0 && d.ends.IsZero() {
			v |= tmpOS
		}
	default:
		v = d.limits[d.ptr-2]
	}
	var b [2]byte
	binary.BigEndian.PutUint16(b[:], v)
	for i := range p {
		p[i] = b[i%2]
	}
}

// settle ends a conversion that is due. In continuous mode the register follows the
// temperature after the first one.
func (d *TMP102) settle(now time.Time) {
	if d.frozen || d.ends.IsZero() || now.Before(d.ends) {
		return
	}
	d.temp = int(math.Round(d.celsius * 16))
	if d.conf&tmpSD != 0 {
		d.ends = time.Time{}
	}
}

// word returns the temperature register: 12 bits, or in extended mode 13 bits and a one
// in bit 0.
func (d *TMP102) word() uint16 {
	if d.conf&tmpEM != 0 {
		return uint16(max(-4096, min(4095, d.temp)))<<3 | 1
	}
	return uint16(max(-2048, min(2047, d.temp))) << 4
}

// LM75 is a simulated LM75 with 11 bits of temperature, like NXP's LM75A and LM75B, or
// with 9 bits.
type LM75 struct {
	*Chip
	celsius float64
	bits    int

	ptr    byte
	conf   byte
	limits [2]uint16
	temp   uint16
	ends   time.Time // when the first conversion after waking is done
}

// lmTime is the period of an LM75's conversions.
const lmTime = 100 * time.Millisecond

// AddLM75 puts an LM75 with that many bits of temperature, 9 to 11, at addr. It has 20
// degrees.
func (b *Bus) AddLM75(addr uint16, bits int) *LM75 {
	d := &LM75{celsius: 20, bits: bits}
	d.Chip = b.add(addr, d)
	return d
}

// SetTemperature sets the chip's temperature, in degrees Celsius.
func (d *LM75) SetTemperature(celsius float64) { d.update(func() { d.celsius = celsius }) }

func (d *LM75) reset(now time.Time) {
	d.ptr, d.conf, d.temp = 0, 0, 0
	d.limits = [2]uint16{0x4B00, 0x5000}
	d.ends = now.Add(lmTime)
}

func (d *LM75) write(now time.Time, p []byte) {
	d.settle(now)
	d.ptr = p[0] & 3
	switch {
	case d.ptr == 1 && len(p) >= 2:
		if d.conf&1 == 1 && p[1]&1 == 0 {
			d.ends = now.Add(lmTime)
		}
		d.conf = p[1] & 0x1F
	case d.ptr >= 2 && len(p) >= 3:
		d.limits[d.ptr-2] = binary.BigEndian.Uint16(p[1:]) & 0xFF80
	}
}

func (d *LM75) read(now time.Time, p []byte) {
	d.settle(now)
	b := [2]byte{d.conf, d.conf}
	switch d.ptr {
	case 0:
		binary.BigEndian.PutUint16(b[:], d.temp)
	case 2, 3:
		binary.BigEndian.PutUint16(b[:], d.limits[d.ptr-2])
	}
	for i := range p {
		p[i] = b[i%2]
	}
}

func (d *LM75) settle(now time.Time) {
	if d.conf&1 == 1 || now.Before(d.ends) {
		return
	}
	steps := math.Round(d.celsius * float64(int(1)<<(d.bits-8)))
	d.temp = uint16(int(steps) << (16 - d.bits))
}
