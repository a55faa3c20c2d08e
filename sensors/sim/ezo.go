package sim

import (
	"fmt"
	"strconv"
	"strings"
	"time"
)

// EZO is a simulated circuit from Atlas Scientific.
type EZO struct {
	*Chip
	kind    string // "pH", "EC", "D.O.", "ORP", "RTD"
	reading string
	outputs string // the answer to "O,?" or "S,?" without its head
	celsius float64
	usual   float64 // after power-on
	answer  []byte
	ready   time.Time
	frozen  bool
	glitch  bool
}

// ezoUsual has the reading and the settings after power-on of each kind.
var ezoUsual = map[string]EZO{
	"pH":   {reading: "7.021", usual: 25},
	"EC":   {reading: "1413", outputs: "EC", usual: 25},
	"D.O.": {reading: "8.82", outputs: "mg", usual: 20},
	"ORP":  {reading: "209.6"},
	"RTD":  {reading: "25.104", outputs: "c"},
}

// AddEZO puts a circuit of a kind, "pH", "EC", "D.O.", "ORP" or "RTD", at an address.
func AddEZO(b *Bus, kind string, addr uint16) *EZO {
	d := ezoUsual[kind]
	d.kind = kind
	d.Chip = b.add(addr, &d)
	return &d
}

// SetReading sets the answer to R.
func (d *EZO) SetReading(text string) { d.update(func() { d.reading = text }) }

// SetOutputs sets what it outputs, as in the answer to O,? ("EC,TDS") or S,? ("f").
func (d *EZO) SetOutputs(text string) { d.update(func() { d.outputs = text }) }

// FreezeConversion makes answers never come, or ends that.
func (d *EZO) FreezeConversion(on bool) { d.update(func() { d.frozen = on }) }

// Glitch sets the highest bit of each byte after the first, as a Raspberry Pi does that does not
// wait for the clock.
func (d *EZO) Glitch(on bool) { d.update(func() { d.glitch = on }) }

func (d *EZO) reset(time.Time) { d.answer, d.ready, d.celsius = nil, time.Time{}, d.usual }

func (d *EZO) write(now time.Time, p []byte) {
	command := strings.ToUpper(string(p))
	takes, text := 300*time.Millisecond, ""
	head, value, _ := strings.Cut(command, ",")
	switch {
	case command == "I":
		text = "?i," + d.kind + ",1.98"
	case command == "R":
		takes = 600 * time.Millisecond
		if d.kind == "pH" || d.kind == "ORP" {
			takes = 900 * time.Millisecond
		}
		text = d.reading
	case command == "O,?" && d.kind == "D.O.":
		text = "?,O," + d.outputs
	case command == "O,?" && d.kind == "EC", command == "S,?" && d.kind == "RTD":
		text = "?" + head + "," + d.outputs
	case command == "T,?" && d.usual > 0:
		text = fmt.Sprintf("?T,%.2f", d.celsius)
	case head == "T" && d.usual > 0:
		if x, err := strconv.ParseFloat(value, 64); err == nil {
			d.celsius = x
		}
	default:
		d.answer, d.ready = []byte{2, 0}, now.Add(takes)
		return
	}
	d.answer, d.ready = append(append([]byte{1}, text...), 0), now.Add(takes)
}

func (d *EZO) read(now time.Time, p []byte) {
	clear(p)
	switch {
	case d.frozen, d.answer != nil && now.Before(d.ready):
		p[0] = 254
	case d.answer == nil:
		p[0] = 255
	default:
		copy(p, d.answer)
		d.answer = nil
		for i := range p[1:] {
			if d.glitch && p[1+i] != 0 {
				p[1+i] |= 0x80
			}
		}
	}
}
