package sim

import (
	"time"

	"fieldpost/sensors/board"
)

// MCP3008 is a simulated MCP3008 (DS21295D). It shifts its answer out bit by bit, as in
// figures 5-1 and 5-2.
type MCP3008 struct {
	*Chip
	bits   int
	inputs [8]uint16 // codes
	answer []byte
}

// AddMCP3008 puts an MCP3008 on an SPI device. All its inputs are at half the reference.
func (b *Board) AddMCP3008(name string) *MCP3008 { return b.addMCP(name, 10) }

// AddMCP3208 puts an MCP3208 (DS21298E), with twelve bits, on an SPI device. All its
// inputs are at half the reference.
func (b *Board) AddMCP3208(name string) *MCP3008 { return b.addMCP(name, 12) }

func (b *Board) addMCP(name string, bits int) *MCP3008 {
	d := &MCP3008{bits: bits}
	for i := range d.inputs {
		d.inputs[i] = 1 << (bits - 1)
	}
	d.Chip = b.addPort(name, d)
	return d
}

// SetCode sets the code of an input, 0 to 1023, or to 4095 for an MCP3208.
func (d *MCP3008) SetCode(channel int, code uint16) {
	d.update(func() { d.inputs[channel] = code & (1<<d.bits - 1) })
}

func (d *MCP3008) takes(c board.SPIConfig) bool {
	return (c.Mode == 0 || c.Mode == 3) && c.MaxHz >= 10_000 && c.MaxHz <= 3_600_000
}

func (d *MCP3008) reset(time.Time) { d.answer = nil }

// write shifts bits in: the start bit, single-ended or differential, three bits of the
// channel, and an ignored one. Then the answer is shifted out: a null bit, the code with
// its highest bit first, and again from its second lowest bit upwards.
func (d *MCP3008) write(_ time.Time, p []byte) {
	d.answer = make([]byte, len(p))
	began, command := -1, 0
	for n := range 8 * len(p) {
		in := int(p[n/8]>>(7-n%8)) & 1
		switch k := n - began; {
		case began < 0:
			if in == 1 {
				began = n
			}
			d.set(n, 1) // the chip does not drive the line: pulled up
		case k <= 4:
			command = command<<1 | in
			d.set(n, 1)
		case k == 5:
			d.set(n, 1)
		case k == 6: // the null bit
		case k <= 6+d.bits:
			d.set(n, d.code(command)>>(6+d.bits-k))
		case k <= 5+2*d.bits:
			d.set(n, d.code(command)>>(k-6-d.bits))
		}
	}
}

// set sets bit n of the answer to the lowest bit of v.
func (d *MCP3008) set(n int, v uint16) { d.answer[n/8] |= byte(v&1) << (7 - n%8) }

// code returns the code of a channel, or of the difference of a pair, which is at least
// 0.
func (d *MCP3008) code(command int) uint16 {
	n := command & 7
	if command&8 != 0 {
		return d.inputs[n]
	}
	return uint16(max(0, int(d.inputs[n])-int(d.inputs[n^1])))
}

func (d *MCP3008) read(_ time.Time, p []byte) { copy(p, d.answer) }
