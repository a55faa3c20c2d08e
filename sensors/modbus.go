package sensors

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"fieldpost/sensors/board"
	"fieldpost/sensors/option"
)

// Modbus RTU: energy meters and everything else that has numbers in registers, on a serial
// port, mostly by an RS-485 adapter.
//
// Sources: Modbus over Serial Line, specification and implementation guide V1.02, December
// 2006, section 2.5 (frames, silences, CRC); Modbus application protocol specification V1.1b3,
// April 2012, sections 6.3, 6.4 (functions 3 and 4) and 7 (exceptions).
//
// Several units may be on one port, each of which is a sensor of its own. All of them are read
// by the port's one worker, one after the other. Before each question the line must be silent
// for 3.5 characters; what was sent in that time is dropped, so a late answer of one unit is
// not taken for the answer of the next. A unit that does not answer costs the others one
// timeout for each of its reads, and the sampler reads it less and less often.
//
// The silence of 1.5 characters inside of a frame is not checked: the kernel hands over bytes
// in lumps. The length and the CRC say where a frame ends.

// ModbusPort are the keys of a Modbus unit, for options that embed it.
type ModbusPort struct {
	Serial
	// Baud is the speed of the port, the same for all units on it.
	Baud int `yaml:"baud"`
	// Parity is none, even or odd, the same for all units on a port.
	Parity board.Parity `yaml:"parity"`
	// UnitID is the unit's number on the line, 1 to 247.
	UnitID uint8 `yaml:"unit_id"`
}

// Place returns port and unit.
func (o ModbusPort) Place() Place { return Place{Port: o.Device, Unit: o.UnitID} }

// Line returns the port's settings, which all units on it share: "9600 baud, parity none".
func (o ModbusPort) Line() string { return fmt.Sprintf("%d baud, parity %s", o.Baud, o.Parity) }

func (o ModbusPort) serialConfig() board.SerialConfig {
	return board.SerialConfig{Device: o.Device, Baud: o.Baud, Parity: o.Parity}
}

// Modbus are the keys of a unit whose registers the configuration describes.
type Modbus struct {
	ModbusPort
	// Registers are the values to read, each with the keys of a register.
	Registers []ModbusRegister `yaml:"registers"`
}

// ModbusRegister is one value of a unit.
type ModbusRegister struct {
	// Name is the quantity's name in messages: voltage, power_1.
	Name string `yaml:"name"`
	// Register is the address of the first register, counted from 0 as it is sent. Manuals that
	// number registers 30001 or 40001 mean 0.
	Register uint16 `yaml:"register"`
	// Function is 4 for input registers, 3 for holding registers.
	Function uint8 `yaml:"function"`
	// Type is u16, i16, u32, i32 or f32.
	Type string `yaml:"type"`
	// Words is the order of the two registers of 32 bits: high, the usual one, or low first.
	Words string `yaml:"words"`
	// Scale is what the number is multiplied by.
	Scale float64 `yaml:"scale"`
	// Unit is the UCUM code of the value. It may be left out for quantities that fieldpost
	// knows.
	Unit string `yaml:"unit"`
}

// modbusPortRules are the rules of the keys of [ModbusPort].
func modbusPortRules() map[string]option.Rule {
	return map[string]option.Rule{
		"device":  serialRule,
		"baud":    {Wants: "a speed such as 9600", Check: baudRate},
		"parity":  {Wants: "none, even or odd"},
		"unit_id": {Wants: "a number from 1 to 247", Check: option.Between[uint8](1, 247, func(x uint8) string { return strconv.Itoa(int(x)) })},
	}
}

func baudRate(v any) string {
	if !slices.Contains(board.Bauds, v.(int)) {
		return "want 1200, 2400, 4800, 9600, 19200, 38400, 57600 or 115200"
	}
	return ""
}

// mostModbus bounds the values of a unit, and so how long it may keep the port.
const mostModbus = 24

var modbus = Chip{
	Name:   "modbus",
	Title:  "any unit on Modbus RTU, by a table of its registers",
	Source: "Modbus over Serial Line V1.02; Modbus application protocol V1.1b3",
	Options: option.Set{
		Defaults: Modbus{ModbusPort: ModbusPort{Baud: 9600, Parity: board.ParityNone, UnitID: 1}},
		Rules:    modbusRules(),
	},
	Measures: func(c Config) []Quantity { return modbusQuantities(optionsOf[Modbus](c).Registers) },
	Every:    10 * time.Second,
	Worst:    8 * time.Second,
	Look:     func(b board.Board, c Config) error { return lookSerial(b, optionsOf[Modbus](c).serialConfig()) },
	Open: func(b board.Board, c Config) (Sensor, error) {
		o := optionsOf[Modbus](c)
		return openModbus(b, c.Chip, o.ModbusPort, modbusBlocks(o.Registers, 0), modbusQuantities(o.Registers))
	},
}

func modbusRules() map[string]option.Rule {
	rules := modbusPortRules()
	rules["registers"] = option.Rule{
		Required: true,
		Item:     ModbusRegister{Function: readInput, Type: "u16", Words: "high", Scale: 1},
		Most:     mostModbus,
		Items: map[string]option.Rule{
			"name":     {Required: true},
			"register": {Required: true, Wants: "a number such as 0 or 0x0156"},
			"function": {Wants: "3 or 4", Check: functionCode},
			"type":     {Wants: "u16, i16, u32, i32 or f32", Check: option.OneOf("u16", "i16", "u32", "i32", "f32")},
			"words":    {Wants: "high or low", Check: option.OneOf("high", "low")},
			"scale":    {Wants: "a number such as 0.1", Check: modbusScale},
		},
		Entry: func(all any, i int) (key, reason string) { return checkRegister(all.([]ModbusRegister), i) },
	}
	return rules
}

func functionCode(v any) string {
	if f := v.(uint8); f != readHolding && f != readInput {
		return "want 4, input registers, or 3, holding registers"
	}
	return ""
}

func modbusScale(v any) string {
	if v.(float64) == 0 {
		return "makes every value 0"
	}
	return ""
}

// checkRegister returns the first mistake of a register that only all its keys, or those
// before it, show.
func checkRegister(all []ModbusRegister, i int) (key, reason string) {
	r := all[i]
	if reason := QuantityName(r.Name); reason != "" {
		return "name", reason
	}
	if n := slices.IndexFunc(all[:i], func(o ModbusRegister) bool { return o.Name == r.Name }); n >= 0 {
		return "name", fmt.Sprintf("is already the name of registers[%d]", n)
	}
	known := knownUnit(r.Name)
	switch {
	case r.Unit == "" && known == "":
		return "unit", fmt.Sprintf(`is missing: want the UCUM code of %s, such as Cel or L/min, or "1" for a plain number`, r.Name)
	case r.Unit != "" && known != "" && r.Unit != known:
		return "unit", fmt.Sprintf("%s is in %s with all chips, because receivers know the unit by the name: change scale, or choose another name", r.Name, known)
	case len(r.Unit) > 16 || strings.ContainsFunc(r.Unit, func(c rune) bool { return c <= ' ' || c > '~' }):
		return "unit", "want a UCUM code: at most 16 ASCII characters without spaces"
	}
	if int(r.Register)+r.words() > 1<<16 {
		return "register", "is the last register, and " + r.Type + " needs two"
	}
	return "", ""
}

// reservedNames are the keys of messages that are no quantities.
var reservedNames = []string{"thing", "kind", "sensor", "spool", "run", "seq", "time", "clock", "changes", "fault", "gap", "answer", "event"}

// QuantityName checks a name that a user gives to a quantity. It returns what is wrong with
// it, "" if nothing is. Any goroutine.
func QuantityName(s string) string {
	switch {
	case s == "" || len(s) > 40 || s[0] < 'a' || s[0] > 'z' || strings.Trim(s, "abcdefghijklmnopqrstuvwxyz0123456789_") != "":
		return "want a name of at most 40 of the characters a-z 0-9 _, the first one a letter"
	case slices.Contains(reservedNames, s):
		return "is a key that messages have already; choose another name"
	}
	return ""
}

// units are the units of quantities that several chips measure.
var units = map[string]string{
	"voltage": "V", "current": "A", "power": "W", "apparent_power": "V.A", "reactive_power": "V.A{reactive}", "power_factor": "1",
	"frequency": "Hz", "energy": "J", "energy_import": "J", "energy_export": "J", "temperature": "Cel", "humidity": "%", "pressure": "Pa",
	"co2": "[ppm]", "illuminance": "lx", "resistance": "Ohm", "distance": "m", "ph": "[pH]", "conductivity": "S/m", "orp": "mV",
	"dissolved_oxygen": "mg/L", "pm1": "ug/m3", "pm2_5": "ug/m3", "pm4": "ug/m3", "pm10": "ug/m3",
}

// knownUnit returns the unit of a quantity by its name, with or without a channel's number:
// "V" for voltage_2. It returns "" for a name that is the user's own.
func knownUnit(name string) string {
	if u := units[name]; u != "" {
		return u
	}
	stem, channel := name, ""
	if i := strings.LastIndexByte(name, '_'); i > 0 {
		stem, channel = name[:i], name[i+1:]
	}
	if option.IsNumber(channel) {
		return units[stem]
	}
	return ""
}

// words is how many registers the value has.
func (r ModbusRegister) words() int {
	if strings.HasSuffix(r.Type, "32") {
		return 2
	}
	return 1
}

// modbusQuantities returns what registers measure. The limits are those of the numbers.
func modbusQuantities(registers []ModbusRegister) []Quantity {
	var all []Quantity
	for _, r := range registers {
		lo, hi := 0.0, 0.0
		switch r.Type {
		case "u16":
			hi = math.MaxUint16
		case "i16":
			lo, hi = math.MinInt16, math.MaxInt16
		case "u32":
			hi = math.MaxUint32
		case "i32":
			lo, hi = math.MinInt32, math.MaxInt32
		case "f32":
			lo, hi = -math.MaxFloat32, math.MaxFloat32
		}
		lo, hi = lo*r.Scale, hi*r.Scale
		all = append(all, Quantity{Name: r.Name, Unit: cmp.Or(r.Unit, knownUnit(r.Name)), Min: min(lo, hi), Max: max(lo, hi)})
	}
	return all
}

// value decodes a value from its registers, with as many digits as it has.
func (r ModbusRegister) value(b []byte) (float64, error) {
	var whole uint32
	switch {
	case r.words() == 1:
		whole = uint32(binary.BigEndian.Uint16(b))
	case r.Words == "low":
		whole = uint32(binary.BigEndian.Uint16(b[2:]))<<16 | uint32(binary.BigEndian.Uint16(b))
	default:
		whole = binary.BigEndian.Uint32(b)
	}
	v, digits := float64(whole), 15
	switch r.Type {
	case "i16":
		v = float64(int16(whole))
	case "i32":
		v = float64(int32(whole))
	case "f32":
		v, digits = float64(math.Float32frombits(whole)), 7
	}
	if math.IsNaN(v) || math.IsInf(v, 0) {
		return 0, faultf("%s in register %#04x is %v (% x): it is not measured, or its type or the order of its words is another one", r.Name, r.Register, v, b)
	}
	text := strconv.FormatFloat(v*r.Scale, 'g', digits, 64)
	return strconv.ParseFloat(text, 64)
}

// modbusBlock is some registers that one question reads.
type modbusBlock struct {
	function    uint8
	first, n    int
	values      []ModbusRegister
	inReadingAt []int // the values' places in a reading
}

// mostRegisters is how many registers one question reads. Eastron's meters refuse more.
const mostRegisters = 60

// modbusBlocks joins registers that follow each other, with at most gap others between, into
// as few questions as possible. Of a unit that is not known the gap is 0, because many refuse
// to read a register that they do not have.
func modbusBlocks(registers []ModbusRegister, gap int) []modbusBlock {
	order := make([]int, len(registers))
	for i := range order {
		order[i] = i
	}
	slices.SortStableFunc(order, func(a, b int) int {
		return cmp.Or(cmp.Compare(registers[a].Function, registers[b].Function), cmp.Compare(registers[a].Register, registers[b].Register))
	})
	var blocks []modbusBlock
	for _, i := range order {
		r := registers[i]
		first, end := int(r.Register), int(r.Register)+r.words()
		if k := len(blocks) - 1; k >= 0 {
			b := &blocks[k]
			if b.function == r.Function && first <= b.first+b.n+gap && end-b.first <= mostRegisters {
				b.n = max(b.n, end-b.first)
				b.values, b.inReadingAt = append(b.values, r), append(b.inReadingAt, i)
				continue
			}
		}
		blocks = append(blocks, modbusBlock{r.Function, first, end - first, []ModbusRegister{r}, []int{i}})
	}
	return blocks
}

// modbusDevice is an open unit.
type modbusDevice struct {
	*serialWire
	unit   byte
	baud   int
	blocks []modbusBlock
	count  int // values of a reading
}

// openModbus opens a unit and reads it once, because it has nothing else to be recognised by.
func openModbus(b board.Board, chip string, o ModbusPort, blocks []modbusBlock, quantities []Quantity) (Sensor, error) {
	w, err := dialSerial(b, chip, o.serialConfig())
	if err != nil {
		return nil, err
	}
	w.where = fmt.Sprintf("unit %d on %s", o.UnitID, o.Device)
	return openDevice(&w.handle, &modbusDevice{w, o.UnitID, o.Baud, blocks, len(quantities)}, quantities)
}

// setup asks for the first values only: a unit that answers one question answers all.
func (d *modbusDevice) setup() error {
	if len(d.blocks) == 0 {
		return faultf("it has no registers to read")
	}
	b := d.blocks[0]
	_, err := d.registers(b.function, b.first, b.n)
	return err
}

func (d *modbusDevice) measure() ([]float64, error) {
	v := make([]float64, d.count)
	for _, b := range d.blocks {
		data, err := d.registers(b.function, b.first, b.n)
		if err != nil {
			return nil, err
		}
		for i, r := range b.values {
			if v[b.inReadingAt[i]], err = r.value(data[2*(int(r.Register)-b.first):]); err != nil {
				return nil, err
			}
		}
	}
	return v, nil
}

func (d *modbusDevice) sleep() error { return nil }

const (
	readHolding = 3
	readInput   = 4
	exception   = 0x80 // the bit of the function in an answer that refuses the question
	shortest    = 5    // bytes of an answer that refuses

	// modbusWithin is how long a unit may think. Most meters need less than 100 ms.
	modbusWithin = 500 * time.Millisecond
	// modbusBusy is how many lumps of bytes may come before a question until the line is given
	// up as never silent.
	modbusBusy = 20
)

// characters is how long n characters take, of eleven bits at most.
func (d *modbusDevice) characters(n int) time.Duration {
	return time.Duration(n) * 11 * time.Second / time.Duration(d.baud)
}

// silence is the time between two frames: 3.5 characters, and 1.75 ms at high speeds.
func (d *modbusDevice) silence() time.Duration { return max(d.characters(7)/2, 1750*time.Microsecond) }

// registers reads n registers from first on. The error wraps [ErrSilent] if nothing answers,
// and [ErrFault] if the answer is wrong or refuses.
func (d *modbusDevice) registers(function uint8, first, n int) (data []byte, err error) {
	question := []byte{d.unit, function, byte(first >> 8), byte(first), byte(n >> 8), byte(n)}
	question = binary.LittleEndian.AppendUint16(question, crc16(question))
	err = d.do(func() error {
		data, err = d.exchange(question, n)
		return err
	})
	return data, err
}

func (d *modbusDevice) exchange(question []byte, n int) ([]byte, error) {
	if err := d.awaitSilence(); err != nil {
		return nil, err
	}
	if err := d.port.Write(question); err != nil {
		return nil, err
	}
	answer := make([]byte, 0, len(question)+shortest+2*n)
	began := time.Now()
	within := modbusWithin + d.characters(len(question)+shortest+2*n)
	var err error
	for {
		if answer, err = d.more(answer, shortest-len(answer), within-time.Since(began)); err != nil {
			return nil, err
		}
		if echo, rest, err := d.echo(answer, question, n); err != nil {
			return nil, err
		} else if answer = rest; echo {
			continue
		}
		if answer[0] == d.unit {
			break
		}
		if time.Since(began) > within {
			return nil, faultf("% x came from another unit instead of an answer: two programs or masters use this line", answer)
		}
		if err := d.skip(answer); err != nil {
			return nil, err
		}
		answer = answer[:0]
	}
	if answer[1]&exception == 0 {
		if answer, err = d.more(answer, shortest+2*n-len(answer), d.characters(2*n)+modbusWithin); err != nil {
			return nil, err
		}
	}
	return modbusAnswer(answer, question, n)
}

// skip drops the late answer of another unit, which was asked before: ours is still to come.
func (d *modbusDevice) skip(answer []byte) error {
	if answer[1]&exception == 0 {
		var err error
		if answer, err = d.more(answer, shortest+int(answer[2])-len(answer), d.silence()); err != nil && !errors.Is(err, ErrFault) {
			return err
		}
	}
	if answer != nil && crcFits(answer) {
		return nil
	}
	return d.awaitSilence()
}

// awaitSilence drops what comes until nothing has come for the time between two frames.
func (d *modbusDevice) awaitSilence() error {
	var drop [256]byte
	for range modbusBusy {
		switch n, err := d.port.Read(drop[:], d.silence()); {
		case !errors.Is(err, os.ErrDeadlineExceeded) && err != nil:
			return err
		case n == 0:
			return nil
		}
	}
	return faultf("%s is never silent: another program or another master asks on this line, or the adapter sends noise", d.name)
}

// more reads n more bytes of an answer.
func (d *modbusDevice) more(answer []byte, n int, within time.Duration) ([]byte, error) {
	if n <= 0 {
		return answer, nil
	}
	have := len(answer)
	answer = append(answer, make([]byte, n)...)
	came, err := d.port.Read(answer[have:], max(within, time.Millisecond))
	switch {
	case !errors.Is(err, os.ErrDeadlineExceeded):
		return answer, err
	case have+came == 0:
		return nil, fmt.Errorf("unit %d does not answer on %s within %v: %w", d.unit, d.name, modbusWithin, ErrSilent)
	}
	return nil, faultf("only %d of %d bytes came from unit %d on %s (% x)", have+came, have+n, d.unit, d.name, answer[:have+came])
}

// echo recognises that an adapter has sent our own question back, and returns what came after
// it. An answer may begin like the question, but only one that has the right length too.
func (d *modbusDevice) echo(answer, question []byte, n int) (echo bool, rest []byte, err error) {
	if !bytes.HasPrefix(question, answer[:shortest]) {
		return false, answer, nil
	}
	if int(answer[2]) == 2*n && shortest+2*n <= len(question) { // it may be a whole answer
		if answer, err = d.more(answer, shortest+2*n-len(answer), d.characters(2*n)+modbusWithin); err != nil {
			return false, nil, err
		}
		if crcFits(answer) {
			return false, answer, nil
		}
	}
	if answer, err = d.more(answer, len(question)-len(answer), d.characters(len(question))+modbusWithin); err != nil {
		return false, nil, err
	}
	if !bytes.Equal(answer, question) {
		return false, answer, nil
	}
	return true, answer[:0], nil
}

// modbusAnswer checks an answer and returns its registers.
func modbusAnswer(answer, question []byte, n int) ([]byte, error) {
	switch {
	case answer[1]&exception != 0 && !crcFits(answer[:shortest]), answer[1]&exception == 0 && !crcFits(answer):
		return nil, faultf("the CRC of % x is wrong: noise, a wrong baud rate or parity, or two units with one number", answer)
	case answer[1] == question[1]|exception:
		return nil, faultf("unit %d refuses function %d, register %#04x, %d registers: exception %d, %s", answer[0], question[1], binary.BigEndian.Uint16(question[2:]), n, answer[2], exceptionText(answer[2]))
	case answer[1] != question[1] || int(answer[2]) != 2*n:
		return nil, faultf("% x is no answer to function %d for %d registers", answer, question[1], n)
	}
	return answer[3 : 3+2*n], nil
}

// exceptionText says what an exception means.
func exceptionText(code byte) string {
	switch code {
	case 1:
		return "it does not have this function (input registers have 4, holding registers 3)"
	case 2:
		return "it does not have these registers"
	case 3:
		return "it does not permit so many registers at once"
	case 4:
		return "it has failed"
	case 6:
		return "it is busy"
	case 10, 11:
		return "a gateway does not reach the unit"
	}
	return "which the specification does not have"
}

// crc16 is Modbus's CRC: polynomial 0xA001, reflected, from 0xFFFF.
func crc16(p []byte) uint16 {
	crc := uint16(0xFFFF)
	for _, b := range p {
		crc ^= uint16(b)
		for range 8 {
			carry := crc & 1
			if crc >>= 1; carry != 0 {
				crc ^= 0xA001
			}
		}
	}
	return crc
}

// crcFits reports whether a frame ends with its CRC, low byte first.
func crcFits(frame []byte) bool {
	n := len(frame) - 2
	return crc16(frame[:n]) == binary.LittleEndian.Uint16(frame[n:])
}
