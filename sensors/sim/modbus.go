package sim

import (
	"encoding/binary"
	"math"
	"time"

	"fieldpost/sensors/board"
)

// ModbusLine is a simulated serial port with units on Modbus RTU.
type ModbusLine struct {
	*Chip
	rate   int
	parity board.Parity
	units  map[byte]*ModbusUnit
	queue  []sent // what is on its way to the port, in the order of its times
	echoes bool
	asked  []byte // the unit of each question that was understood
}

// sent are bytes that reach the port at a time.
type sent struct {
	at time.Time
	p  []byte
}

// ModbusUnit is a unit on a [ModbusLine]. It has the registers that were set, the same for
// functions 3 and 4.
type ModbusUnit struct {
	line      *ModbusLine
	id        byte
	registers map[uint16]uint16
	silent    bool
	takes     time.Duration
	damage    func(frame []byte) []byte
}

// AddModbus puts a line with a speed and a parity on a serial port.
func (b *Board) AddModbus(port string, baud int, parity board.Parity) *ModbusLine {
	l := &ModbusLine{rate: baud, parity: parity, units: map[byte]*ModbusUnit{}}
	l.Chip = b.addPort(port, l)
	return l
}

// AddUnit connects a unit without registers. It answers after 30 ms.
func (l *ModbusLine) AddUnit(id byte) *ModbusUnit {
	u := &ModbusUnit{line: l, id: id, registers: map[uint16]uint16{}, takes: 30 * time.Millisecond}
	l.update(func() { l.units[id] = u })
	return u
}

// Echo makes the adapter send back everything that it sends, or ends that.
func (l *ModbusLine) Echo(on bool) { l.update(func() { l.echoes = on }) }

// Say puts bytes on the line, as another master does.
func (l *ModbusLine) Say(p ...byte) { l.update(func() { l.send(time.Now(), p) }) }

// Asked returns the units of the questions that were understood, and forgets them.
func (l *ModbusLine) Asked() (units []byte) {
	l.update(func() { units, l.asked = l.asked, nil })
	return units
}

// Set sets registers from first on.
func (u *ModbusUnit) Set(first uint16, values ...uint16) {
	u.line.update(func() {
		for i, v := range values {
			u.registers[first+uint16(i)] = v
		}
	})
}

// SetFloat sets two registers to a number, the high word first.
func (u *ModbusUnit) SetFloat(first uint16, v float32) {
	bits := math.Float32bits(v)
	u.Set(first, uint16(bits>>16), uint16(bits))
}

// Silence makes the unit answer nothing, or ends that.
func (u *ModbusUnit) Silence(on bool) { u.line.update(func() { u.silent = on }) }

// Takes sets how long the unit needs for an answer.
func (u *ModbusUnit) Takes(d time.Duration) { u.line.update(func() { u.takes = d }) }

// Damage changes each answer of the unit on its way; nil ends that.
func (u *ModbusUnit) Damage(fn func(frame []byte) []byte) { u.line.update(func() { u.damage = fn }) }

func (l *ModbusLine) baud() int                    { return l.rate }
func (l *ModbusLine) parityBit() board.Parity      { return l.parity }
func (l *ModbusLine) reset(time.Time)              { l.queue = nil }
func (l *ModbusLine) discard()                     { l.take(time.Now(), l.waiting()) }
func (l *ModbusLine) read(now time.Time, p []byte) { copy(p, l.take(now, len(p))) }

func (l *ModbusLine) send(at time.Time, p []byte) {
	i := len(l.queue)
	for i > 0 && l.queue[i-1].at.After(at) {
		i--
	}
	l.queue = append(l.queue[:i], append([]sent{{at, append([]byte(nil), p...)}}, l.queue[i:]...)...)
}

// waiting returns how many bytes have come by now.
func (l *ModbusLine) waiting() (n int) {
	now := time.Now()
	for _, s := range l.queue {
		if !s.at.After(now) {
			n += len(s.p)
		}
	}
	return n
}

// next returns when more bytes come; zero if none are on their way.
func (l *ModbusLine) next() time.Time {
	now := time.Now()
	for _, s := range l.queue {
		if s.at.After(now) {
			return s.at
		}
	}
	return time.Time{}
}

// take removes n bytes that have come.
func (l *ModbusLine) take(_ time.Time, n int) (p []byte) {
	for n > 0 && len(l.queue) > 0 {
		s := &l.queue[0]
		k := min(n, len(s.p))
		p, s.p, n = append(p, s.p[:k]...), s.p[k:], n-k
		if len(s.p) == 0 {
			l.queue = l.queue[1:]
		}
	}
	return p
}

// write takes a question, which is written at once.
func (l *ModbusLine) write(now time.Time, p []byte) {
	if l.echoes {
		l.send(now, p)
	}
	if len(p) != 8 || modbusCRC(p[:6]) != binary.LittleEndian.Uint16(p[6:]) {
		return
	}
	u := l.units[p[0]]
	if u == nil {
		return
	}
	l.asked = append(l.asked, u.id)
	if u.silent {
		return
	}
	frame := u.answer(p[1], binary.BigEndian.Uint16(p[2:]), int(binary.BigEndian.Uint16(p[4:])))
	frame = binary.LittleEndian.AppendUint16(frame, modbusCRC(frame))
	if u.damage != nil {
		frame = u.damage(frame)
	}
	l.send(now.Add(u.takes), frame)
}

// answer makes an answer without its CRC.
func (u *ModbusUnit) answer(function byte, first uint16, n int) []byte {
	switch {
	case function != 3 && function != 4:
		return []byte{u.id, function | 0x80, 1}
	case n < 1 || n > 60:
		return []byte{u.id, function | 0x80, 3}
	}
	frame := []byte{u.id, function, byte(2 * n)}
	known := false
	for i := range n {
		v, ok := u.registers[first+uint16(i)]
		known = known || ok
		frame = binary.BigEndian.AppendUint16(frame, v)
	}
	if !known {
		return []byte{u.id, function | 0x80, 2}
	}
	return frame
}

// modbusCRC is the CRC of a frame, bit by bit as in the specification's section 6.2.2.
func modbusCRC(p []byte) uint16 {
	crc := uint16(0xFFFF)
	for _, b := range p {
		crc ^= uint16(b)
		for range 8 {
			odd := crc&1 == 1
			crc >>= 1
			if odd {
				crc ^= 0xA001
			}
		}
	}
	return crc
}

// AddSDM puts a meter of Eastron's with unit number 1 on a serial port: 230 V, 4.5 A,
// 1000 W, 50 Hz, 123.5 kWh. phases is 1 or 3.
func (b *Board) AddSDM(port string, baud, phases int) *ModbusUnit {
	u := b.AddModbus(port, baud, board.ParityNone).AddUnit(1)
	u.SetSDM(phases)
	return u
}

// SetSDM gives the unit the registers of a meter of Eastron's, with the values of
// [Board.AddSDM].
func (u *ModbusUnit) SetSDM(phases int) {
	for i := range uint16(phases) {
		u.SetFloat(0x00+2*i, 230)
		u.SetFloat(0x06+2*i, 4.5)
		u.SetFloat(0x0C+2*i, 1000)
	}
	if phases == 1 {
		u.SetFloat(0x12, 1035)
		u.SetFloat(0x18, -267)
		u.SetFloat(0x1E, 0.966)
	}
	u.SetFloat(0x34, float32(1000*phases))
	u.SetFloat(0x46, 50)
	u.SetFloat(0x48, 120.25)
	u.SetFloat(0x4A, 3.25)
	u.SetFloat(0x156, 123.5)
}

// AddPZEM puts a PZEM-004T with unit number 1 on a serial port, with the values of its
// manual's example: 220 V, 0.1 A, 22 W.
func (b *Board) AddPZEM(port string) *ModbusUnit {
	u := b.AddModbus(port, 9600, board.ParityNone).AddUnit(1)
	u.SetPZEM()
	return u
}

// SetPZEM gives the unit the registers of a PZEM-004T, with the values of [Board.AddPZEM].
func (u *ModbusUnit) SetPZEM() { u.Set(0, 2200, 100, 0, 220, 0, 38, 0, 500, 100, 0) }
