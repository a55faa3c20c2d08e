package sim

import "time"

// MHZ19 is a simulated MH-Z19B on a serial port. It answers the command for the
// concentration and ignores everything else.
type MHZ19 struct {
	*Chip
	ppm    int
	in     []byte
	answer []byte
}

// AddMHZ19 puts an MH-Z19B on a serial port, in air of 420 ppm.
func (b *Board) AddMHZ19(port string) *MHZ19 {
	d := &MHZ19{ppm: 420}
	d.Chip = b.addPort(port, d)
	return d
}

// SetCO2 sets the concentration, in ppm.
func (d *MHZ19) SetCO2(ppm int) { d.update(func() { d.ppm = ppm }) }

// Say makes the chip send bytes without a command.
func (d *MHZ19) Say(p ...byte) { d.update(func() { d.answer = append(d.answer, p...) }) }

func (d *MHZ19) baud() int         { return 9600 }
func (d *MHZ19) waiting() int      { return len(d.answer) }
func (d *MHZ19) discard()          { d.answer = nil }
func (d *MHZ19) reset(_ time.Time) { d.in, d.answer = nil, nil }

func (d *MHZ19) write(_ time.Time, p []byte) {
	for _, b := range p {
		if len(d.in) == 0 && b != 0xFF {
			continue
		}
		if d.in = append(d.in, b); len(d.in) < 9 {
			continue
		}
		if d.in[1] == 1 && d.in[2] == 0x86 && d.in[8] == mhSum(d.in) {
			a := []byte{0xFF, 0x86, byte(d.ppm >> 8), byte(d.ppm), 0x47, 0, 0, 0, 0}
			a[8] = mhSum(a)
			d.answer = append(d.answer, a...)
		}
		d.in = nil
	}
}

func (d *MHZ19) read(_ time.Time, p []byte) { d.answer = d.answer[copy(p, d.answer):] }

// mhSum returns the checksum of bytes 1 to 7.
func mhSum(p []byte) (sum byte) {
	for _, b := range p[1:8] {
		sum += b
	}
	return -sum
}
