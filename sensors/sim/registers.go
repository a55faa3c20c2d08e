package sim

import (
	"encoding/binary"
	"time"
)

// registers is a chip with registers of 16 bits and addresses of one byte.
type registers struct {
	*Chip
	initial map[byte]uint16 // values after power-on
	little  bool            // the low byte comes first
	wrote   func(now time.Time, reg byte, v uint16)
	reads   func(now time.Time, reg byte) // called before a register is read; may be nil
	regs    map[byte]uint16
	ptr     byte
	ends    time.Time // of the present measurement
	frozen  bool      // a measurement never ends
}

// FreezeConversion makes a measurement never end, or ends that.
func (d *registers) FreezeConversion(on bool) { d.update(func() { d.frozen = on }) }

func (d *registers) reset(time.Time) {
	d.regs, d.ptr, d.ends = map[byte]uint16{}, 0, time.Time{}
	for reg, v := range d.initial {
		d.regs[reg] = v
	}
}

func (d *registers) order() binary.ByteOrder {
	if d.little {
		return binary.LittleEndian
	}
	return binary.BigEndian
}

func (d *registers) write(now time.Time, p []byte) {
	if d.ptr = p[0]; len(p) >= 3 {
		d.wrote(now, d.ptr, d.order().Uint16(p[1:]))
	}
}

func (d *registers) read(now time.Time, p []byte) {
	if d.reads != nil {
		d.reads(now, d.ptr)
	}
	var b [2]byte
	d.order().PutUint16(b[:], d.regs[d.ptr])
	for i := range p {
		p[i] = b[i%2]
	}
}

// done reports once that the measurement has ended.
func (d *registers) done(now time.Time) bool {
	if d.frozen || d.ends.IsZero() || now.Before(d.ends) {
		return false
	}
	d.ends = time.Time{}
	return true
}
