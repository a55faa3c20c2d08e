package sim

import (
	"fmt"
	"math/bits"
	"slices"
	"syscall"

	"fieldpost/sensors/board"
)

// remoteIO is EREMOTEIO, errno(3) of Linux: nobody acknowledged the address. Other systems
// do not have it.
const remoteIO = syscall.Errno(121)

// ExpanderKind is how an expander and the kernel's driver for it behave.
type ExpanderKind int

// The kinds, after the drivers of Linux 6.12. The drivers keep copies of the registers,
// and change the copy also where the write fails. None of them returns an error of a
// write of a level.
const (
	// MCP23017 is the chip with its driver pinctrl-mcp23s08. A register is written only if
	// it differs from its copy. A read of a chip that does not answer returns low.
	MCP23017 ExpanderKind = iota
	// TCA9555 is the chip with its driver gpio-pca953x. Registers are always written.
	TCA9555
	// PCF8574 is the chip with its driver gpio-pcf857x. It has no directions: a line that
	// is high is held there only weakly. All lines are high after power-on.
	PCF8574
)

// Expander is a simulated I/O expander, as the kernel's GPIO chip.
type Expander struct {
	b      *Board
	kind   ExpanderKind
	label  string
	chip   string // the GPIO chip's device name
	device string // the expander's: "1-0020"
	lines  []*Line

	// Guarded by b.mu. One bit for each line, as the chip has them and as the driver
	// believes it to have them.
	level, levelCopy uint32
	input, inputCopy uint32
	silent           bool // it does not answer
	hangs            chan struct{}
}

// AddExpander adds an expander with 16 lines, or 8 of a PCF8574, that has just been
// powered on. device is the kernel's name of it, such as "1-0020". Its lines are found
// as label:0 and so on.
func (b *Board) AddExpander(label, device string, kind ExpanderKind) *Expander {
	b.mu.Lock()
	defer b.mu.Unlock()
	e := &Expander{b: b, kind: kind, label: label, device: device, chip: fmt.Sprintf("gpiochip%d", len(b.expanders)+1)}
	n := 16
	if kind == PCF8574 {
		n = 8
	}
	for i := range n {
		id := board.LineID{Label: label, Chip: e.chip, Offset: i}
		e.lines = append(e.lines, &Line{b: b, id: id, pull: board.PullDown, on: e})
	}
	e.powerOn()
	e.levelCopy, e.inputCopy = e.level, e.input
	b.expanders = append(b.expanders, e)
	for _, l := range e.lines {
		l.settle()
	}
	return e
}

// MoveLines puts the board's own lines, GPIO0 to GPIO27 but for some that stay, on an
// expander that has just been powered on. Call it before any line is requested.
func (b *Board) MoveLines(device string, kind ExpanderKind, stay ...int) *Expander {
	b.mu.Lock()
	defer b.mu.Unlock()
	e := &Expander{b: b, kind: kind, label: Label, device: device, chip: chipName}
	e.powerOn()
	e.levelCopy, e.inputCopy = e.level, e.input
	for _, l := range b.lines {
		if !slices.Contains(stay, l.id.Offset) {
			l.on = e
			l.settle()
			e.lines = append(e.lines, l)
		}
	}
	return e
}

// powerOn gives the registers their values after power-on.
func (e *Expander) powerOn() {
	e.level, e.input = 0, ^uint32(0)
	switch e.kind {
	case TCA9555:
		e.level = ^uint32(0)
	case PCF8574:
		e.level, e.input = ^uint32(0), 0
	}
}

// LosePower takes the chip's power away for a moment. The driver does not notice.
func (e *Expander) LosePower() { e.change(e.powerOn) }

// Silence makes the chip answer no more, or again.
func (e *Expander) Silence(silent bool) { e.change(func() { e.silent = silent }) }

// Hang makes every transaction with the chip block until the returned function is called.
func (e *Expander) Hang() (release func()) {
	hangs := make(chan struct{})
	e.change(func() { e.hangs = hangs })
	return func() {
		e.change(func() { e.hangs = nil })
		close(hangs)
	}
}

// Registers returns the levels and directions that the chip has, one bit for each line.
func (e *Expander) Registers() (level, input uint32) {
	e.b.mu.Lock()
	defer e.b.mu.Unlock()
	return e.level, e.input
}

// change calls fn under the board's lock, and settles all lines.
func (e *Expander) change(fn func()) {
	e.b.mu.Lock()
	defer e.b.mu.Unlock()
	fn()
	for _, l := range e.lines {
		l.settle()
	}
}

// await waits while the chip hangs. The caller does not hold the board's lock.
func (e *Expander) await() {
	e.b.mu.Lock()
	hangs := e.hangs
	e.b.mu.Unlock()
	if hangs != nil {
		<-hangs
	}
}

// write writes one bit of a register, and its copy. The caller holds the lock.
func (e *Expander) write(chip, kept *uint32, bit uint32, set bool) error {
	next := *kept &^ bit
	if set {
		next |= bit
	}
	if next == *kept && e.kind == MCP23017 {
		return nil
	}
	*kept = next
	if e.silent {
		return remoteIO
	}
	register := ^uint32(0)
	if e.kind == TCA9555 { // one register for each eight lines
		register = 0xff << (bits.TrailingZeros32(bit) / 8 * 8)
	}
	*chip = *chip&^register | next&register
	for _, l := range e.lines {
		l.settle()
	}
	return nil
}

// drive drives a line as an output. The kernel imitates open drain and open source with
// an input.
func (e *Expander) drive(o *output) error {
	bit := uint32(1) << o.l.id.Offset
	if !o.drives() {
		return e.makeInput(bit)
	}
	return e.output(bit, o.high)
}

// output makes a line an output.
func (e *Expander) output(bit uint32, high bool) error {
	if err := e.write(&e.level, &e.levelCopy, bit, high); err != nil || e.kind == PCF8574 {
		return err
	}
	return e.write(&e.input, &e.inputCopy, bit, false)
}

// makeInput makes a line an input.
func (e *Expander) makeInput(bit uint32) error {
	if e.kind == PCF8574 {
		return e.write(&e.level, &e.levelCopy, bit, true)
	}
	return e.write(&e.input, &e.inputCopy, bit, true)
}

// read reads a line's level, as the driver reports it.
func (e *Expander) read(l *Line) (high bool, err error) {
	if e.silent {
		if e.kind == MCP23017 {
			return false, nil
		}
		return false, remoteIO
	}
	high, _ = l.level()
	return high, nil
}

// drives returns the level that the chip gives a line, and whether it drives it.
func (e *Expander) drives(l *Line) (high, driven bool) {
	bit := uint32(1) << l.id.Offset
	return e.level&bit != 0, e.input&bit == 0 && (e.kind != PCF8574 || e.level&bit == 0)
}

// Expander returns the expander's name in the kernel.
func (b *Board) Expander(id board.LineID) string {
	b.mu.Lock()
	defer b.mu.Unlock()
	if l := b.at(id); l != nil && l.on != nil {
		return l.on.device
	}
	return ""
}

// at returns the line with that identity, or nil. The caller holds the lock.
func (b *Board) at(id board.LineID) *Line {
	lines := b.lines
	for _, e := range b.expanders {
		if e.label == id.Label {
			lines = e.lines
		}
	}
	if id.Offset < 0 || id.Offset >= len(lines) {
		return nil
	}
	return lines[id.Offset]
}

// expanderOutput is an output on an expander.
type expanderOutput struct {
	*output
	undriven bool // guarded by b.mu
}

var _ board.Restorer = (*expanderOutput)(nil)

func (o *expanderOutput) bit() uint32 { return uint32(1) << o.l.id.Offset }

// call makes a call of the driver, under the board's lock.
func (o *expanderOutput) call(verb string, fn func(e *Expander) error) error {
	o.l.on.await()
	o.l.b.mu.Lock()
	defer o.l.b.mu.Unlock()
	if err := o.broken(verb); err != nil {
		return err
	}
	if err := fn(o.l.on); err != nil {
		return fmt.Errorf("%s line %s: its chip does not answer, check its power and wires: %w", verb, o.l.id, err)
	}
	return nil
}

// Set drives the line. As in the kernel, a failed write of a level is no error.
func (o *expanderOutput) Set(active bool) error {
	o.l.b.mu.Lock()
	before := o.l.b.beforeSet
	o.l.b.mu.Unlock()
	if before != nil {
		before(o.c.Line, active)
	}
	return o.call("set", func(e *Expander) error {
		o.high = active != o.c.ActiveLow
		if o.undriven {
			return o.driveAgain(e)
		}
		if o.c.Drive != "" && o.c.Drive != board.PushPull {
			_ = e.drive(o.output)
			return nil
		}
		_ = e.write(&e.level, &e.levelCopy, o.bit(), o.high)
		return nil
	})
}

// Active reads the level that the driver reports.
func (o *expanderOutput) Active() (active bool, err error) {
	err = o.call("read", func(e *Expander) error {
		high, err := e.read(o.l)
		active = high != o.c.ActiveLow
		return err
	})
	return active, err
}

// Restore drives the line again, with the steps of the machine's.
func (o *expanderOutput) Restore(active bool) error {
	for _, level := range []bool{!active, active} {
		if err := o.Set(level); err != nil {
			return err
		}
	}
	if got, err := o.Active(); err != nil || got == active {
		return err
	}
	return o.Redrive(active)
}

// Drive makes the line an output, with the step of the machine's.
func (o *expanderOutput) Drive(active bool) error {
	return o.call("restore", func(e *Expander) error {
		o.high = active != o.c.ActiveLow
		return o.driveAgain(e)
	})
}

// Redrive makes the line an input and then an output, with the steps of the machine's.
func (o *expanderOutput) Redrive(active bool) error {
	return o.call("restore", func(e *Expander) error {
		o.high = active != o.c.ActiveLow
		if err := e.makeInput(o.bit()); err != nil {
			return err
		}
		o.undriven = true
		return o.driveAgain(e)
	})
}

func (o *expanderOutput) driveAgain(e *Expander) error {
	err := e.drive(o.output)
	o.undriven = err != nil
	return err
}

// Answers asks whether the chip answers.
func (o *expanderOutput) Answers() error {
	return o.call("ask for", func(e *Expander) error {
		if e.silent {
			return remoteIO
		}
		return nil
	})
}
