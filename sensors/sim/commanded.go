package sim

import (
	"encoding/binary"
	"math"
	"time"
)

// air holds what a sensor of the air measures.
type air struct {
	celsius, percent float64
}

// commanded is a chip that receives commands and answers each after some time. Before
// that, and without an answer, it does not acknowledge a read.
type commanded struct {
	*Chip
	width  int                                                                   // of a command, in bytes
	take   func(now time.Time, code uint16, args []byte) ([]byte, time.Duration) // carries out a command; a nil answer is none
	hears  func(code uint16) bool                                                // whether it accepts a command; nil: always
	forget func()                                                                // called after power-on; may be nil
	answer []byte
	ready  time.Time
	frozen bool // answers are never ready
}

// FreezeConversion makes a measurement never end, or ends that.
func (d *commanded) FreezeConversion(on bool) { d.update(func() { d.frozen = on }) }

func (d *commanded) code(p []byte) uint16 {
	if d.width == 2 && len(p) >= 2 {
		return binary.BigEndian.Uint16(p)
	}
	return uint16(p[0])
}

func (d *commanded) refuses(now time.Time, w []byte, r int) bool {
	if len(w) > 0 && d.hears != nil && !d.hears(d.code(w)) {
		return true
	}
	return len(w) == 0 && r > 0 && (d.frozen || d.answer == nil || now.Before(d.ready))
}

func (d *commanded) reset(time.Time) {
	d.answer, d.ready = nil, time.Time{}
	if d.forget != nil {
		d.forget()
	}
}

func (d *commanded) write(now time.Time, p []byte) {
	answer, after := d.take(now, d.code(p), p[min(d.width, len(p)):])
	d.answer, d.ready = answer, now.Add(after)
}

func (d *commanded) read(_ time.Time, p []byte) {
	n := copy(p, d.answer)
	for i := range p[n:] {
		p[n+i] = 0xFF
	}
	d.answer = nil
}

// sensirionWords encodes words with their checksums, as Sensirion's chips do.
func sensirionWords(words ...uint16) []byte {
	var p []byte
	for _, w := range words {
		p = binary.BigEndian.AppendUint16(p, w)
		p = append(p, crc8(0x31, 0xFF, p[len(p)-2:]))
	}
	return p
}

// crc8 returns a CRC of eight bits, most significant bit first.
func crc8(poly, crc byte, p []byte) byte {
	for _, b := range p {
		crc ^= b
		for range 8 {
			carry := crc & 0x80
			if crc <<= 1; carry != 0 {
				crc ^= poly
			}
		}
	}
	return crc
}

// share returns v as a word of 16 bits: lowest is 0, and lowest+span is 65535.
func share(v, lowest, span float64) uint16 {
	return uint16(math.Round(max(0, min(1, (v-lowest)/span)) * 65535))
}
