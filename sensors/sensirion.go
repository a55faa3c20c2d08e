package sensors

import (
	"encoding/binary"
	"time"
)

// What Sensirion's chips have in common: commands of 16 bits, arguments and
// answers in words of 16 bits, each followed by its checksum.
//
// Source: SHT3x-DIS data sheet, version 5, May 2018, section 4.12: CRC-8 with polynomial
// 0x31 and initial value 0xFF; the CRC of 0xBEEF is 0x92.

// words is a wire to such a chip.
type words struct {
	*wire
	probe uint16 // a command that the chip accepts at any time and that changes nothing
}

// sensirionCRC returns the checksum of a word.
func sensirionCRC(p []byte) byte { return crc8(0x31, 0xFF, p) }

// command sends a command and its arguments.
func (w words) command(code uint16, args ...uint16) error {
	p := binary.BigEndian.AppendUint16(nil, code)
	for _, a := range args {
		p = binary.BigEndian.AppendUint16(p, a)
		p = append(p, sensirionCRC(p[len(p)-2:]))
	}
	return w.send(p...)
}

// ask sends a command, waits and returns the n words of its answer.
func (w words) ask(code uint16, wait time.Duration, n int, args ...uint16) ([]uint16, error) {
	if err := w.command(code, args...); err != nil {
		return nil, err
	}
	w.pause(wait)
	return w.words(n)
}

// words reads n words.
func (w words) words(n int) ([]uint16, error) {
	b, err := w.answer(3*n, time.Millisecond, 5, byte(w.probe>>8), byte(w.probe))
	if err != nil {
		return nil, err
	}
	return sensirionWords(b)
}

// sensirionWords decodes the words of an answer.
func sensirionWords(b []byte) ([]uint16, error) {
	words := make([]uint16, len(b)/3)
	for i := range words {
		p := b[3*i : 3*i+3]
		if crc := sensirionCRC(p[:2]); crc != p[2] {
			return nil, faultf("the checksum of word %d of % x is %#02x", i+1, b, crc)
		}
		words[i] = binary.BigEndian.Uint16(p)
	}
	return words, nil
}

// celsius175 converts a temperature as most of Sensirion's chips have it. full is the
// greatest word.
func celsius175(word uint16, full float64) float64 { return -45 + 175*float64(word)/full }
