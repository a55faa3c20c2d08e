// Package board gives the buses, devices and lines of the machine fieldpost runs on.
//
// [Board] has two implementations: [Machine], on Linux's i2c-dev and GPIO character
// devices, and fieldpost/sensors/sim.Board, which simulates registers and lines in
// memory. The same drivers run on both, and everything above this package takes a Board.
//
// Lines have a logical level: "active" is the level the user means by on, and ActiveLow
// turns it into the physical one. Only periph's drivers get physical levels from this
// package, because their pins have no others.
//
// Sources: in the kernel's documentation i2c/dev-interface.rst,
// i2c/smbus-protocol.rst, i2c/fault-codes.rst, spi/spidev.rst and
// userspace-api/gpio/chardev.rst; termios(3); the headers linux/i2c.h, linux/i2c-dev.h,
// linux/spi/spidev.h and linux/gpio.h; NXP UM10204, I2C-bus specification, rev. 7.0.
package board

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"periph.io/x/conn/v3/i2c"
)

// Board is the machine's hardware. Its methods may be called from any goroutine. The
// caller owns what they return.
type Board interface {
	// Bus opens the I2C bus of that name ("i2c-1", "CH341"). Each call may find another
	// bus, because USB adapters come and go. The caller closes the bus. Its String is the
	// bus's present name, i2c-N. Only one goroutine, the bus's [Worker], may use the
	// buses opened under one name.
	//
	// The error wraps [ErrAbsent] when there is no such bus and [fs.ErrPermission] when
	// it may not be opened; it names the device file. A transaction with an address that
	// a kernel driver owns fails with an [*OwnedError] and never reaches the chip.
	Bus(name string) (i2c.BusCloser, error)

	// SPI opens an SPI device, a chip select of a bus. The caller closes it, and uses it
	// from one goroutine. Errors are as for Bus.
	SPI(c SPIConfig) (SPI, error)

	// Serial opens a serial port, of eight bits and one stop bit. The caller closes it,
	// and uses it from one goroutine. A port may be open several times with the same
	// settings, if one goroutine uses all of them. Errors are as for Bus.
	Serial(c SerialConfig) (Serial, error)

	// Input requests a line as an input that reports its edges.
	// The error wraps [ErrAbsent] when there is no such line, is or wraps a
	// [*BusyError] when somebody else holds it.
	Input(c InputConfig) (Input, error)

	// EdgeReader requests a line as an input whose edges wait in the kernel until they are
	// read, so that they wake up nobody. Errors are as for Input.
	EdgeReader(c InputConfig) (EdgeReader, error)

	// Output requests a line as an output. The line has its initial level from the first
	// moment, because the level is part of the request. Errors are as for Input.
	Output(c OutputConfig) (Output, error)

	// Find returns the line that a name means, without requesting it.
	Find(line string) (LineID, error)

	// PWM makes a PWM channel as its configuration says, and drives it. Errors are as for
	// Input.
	PWM(c PWMConfig) (PWM, error)

	// FindPWM returns the PWM channel that a name means, without touching it: its chip's
	// device as the label, and the channel as the offset.
	FindPWM(channel string) (LineID, error)

	// Root is the directory under which /sys and /proc are found: "/" on a
	// machine, a temporary directory on a simulated board.
	Root() string

	// String names the board for people: "Raspberry Pi 4 Model B Rev 1.4".
	String() string
}

// LineID identifies a line by chip and offset. Chip labels are stable between kernels,
// chip numbers are not. "Label:Offset" always names this line: if several chips share a
// label, Label is the chip's device name.
type LineID struct {
	Label  string // the chip's label: "pinctrl-bcm2711"
	Chip   string // the chip's device name now: "gpiochip0"
	Offset int    // the line's offset on its chip, from 0
	Name   string // the kernel's name of the line ("GPIO17"); may be empty
}

// String returns "pinctrl-bcm2711:17", followed by the kernel's name of the line if it
// has one.
func (l LineID) String() string {
	if l.Name == "" {
		return fmt.Sprintf("%s:%d", visible(l.Label), l.Offset)
	}
	return fmt.Sprintf("%s:%d (%s)", visible(l.Label), l.Offset, visible(l.Name))
}

// visible makes a name from outside (a file, another program) safe to print. It quotes a
// name that a terminal would not show as it is.
func visible(name string) string {
	if !utf8.ValidString(name) || strings.ContainsFunc(name, func(r rune) bool { return !unicode.IsPrint(r) }) {
		return strconv.Quote(name)
	}
	return name
}

// Pull is an input's bias resistor.
type Pull string

// The biases a user may ask for. PullAsIs leaves the one that is set.
const (
	PullAsIs Pull = ""
	PullNone Pull = "none"
	PullUp   Pull = "up"
	PullDown Pull = "down"
)

// UnmarshalText accepts none, up and down.
func (p *Pull) UnmarshalText(b []byte) error {
	switch v := Pull(b); v {
	case PullNone, PullUp, PullDown:
		*p = v
		return nil
	}
	return errors.New("want up, down or none")
}

// Drive is how an output drives its line.
type Drive string

// The drives the kernel offers (GPIO_V2_LINE_FLAG_OPEN_DRAIN, _OPEN_SOURCE).
const (
	PushPull   Drive = "push-pull"
	OpenDrain  Drive = "open-drain"
	OpenSource Drive = "open-source"
)

// UnmarshalText accepts push-pull, open-drain and open-source.
func (d *Drive) UnmarshalText(b []byte) error {
	switch v := Drive(b); v {
	case PushPull, OpenDrain, OpenSource:
		*d = v
		return nil
	}
	return errors.New("want push-pull, open-drain or open-source")
}

const (
	// FirstAddress is the lowest address of a chip on an I2C bus: 0x00 to 0x02 are
	// reserved (UM10204, section 3.1.12).
	FirstAddress = 0x03
	// LastAddress is the highest address of a chip: 0x78 to 0x7f are reserved.
	LastAddress = 0x77

	// MaxDebounce is the longest debounce period: the kernel has 32 bits for the
	// microseconds.
	MaxDebounce = 4294 * time.Second
)

// InputConfig asks for an input line.
type InputConfig struct {
	Line      string        // as the user wrote it; see [ParseLine]
	ActiveLow bool          // active is the low level
	Pull      Pull          // the bias
	Debounce  time.Duration // the kernel's debounce period; 0 is none
	Consumer  string        // shown by gpioinfo; "fieldpost" unless given
}

// OutputConfig asks for an output line.
type OutputConfig struct {
	Line      string // as the user wrote it; see [ParseLine]
	ActiveLow bool   // active is the low level
	Drive     Drive  // "" is PushPull
	Active    bool   // the level from the first moment
	Keep      bool   // keep the line's present level, driven or not, instead of Active
	Consumer  string // shown by gpioinfo; "fieldpost" unless given
}

// SPIConfig asks for an SPI device.
type SPIConfig struct {
	Device string // spidev0.0: chip select 0 of bus 0; or a link to it in /dev
	Mode   uint8  // 0 to 3: CPOL and CPHA
	MaxHz  uint32 // the fastest clock that the chip supports
}

// SPI is an open SPI device, with words of eight bits, most significant first.
type SPI interface {
	// Tx sends w and receives r, of the same length, in one transfer with the chip
	// selected. It cannot hang, because the machine drives the clock. SPI has no
	// acknowledgement: without a chip r has the level of the line's pull.
	Tx(w, r []byte) error
	// String is the device's name: "spidev0.0".
	String() string
	// Close closes the device.
	Close() error
}

// SerialConfig asks for a serial port.
type SerialConfig struct {
	Device string // /dev/serial0, ttyUSB0
	Baud   int    // one of [Bauds]
	Parity Parity // "" is ParityNone
}

// Bauds are the speeds that a serial port may have.
var Bauds = []int{1200, 2400, 4800, 9600, 19200, 38400, 57600, 115200}

// Parity is the check bit of a serial port's characters.
type Parity string

// The parities that Modbus units have.
const (
	ParityNone Parity = "none"
	ParityEven Parity = "even"
	ParityOdd  Parity = "odd"
)

// UnmarshalText accepts none, even and odd.
func (p *Parity) UnmarshalText(b []byte) error {
	switch v := Parity(b); v {
	case ParityNone, ParityEven, ParityOdd:
		*p = v
		return nil
	}
	return errors.New("want none, even or odd")
}

// Serial is an open serial port.
type Serial interface {
	// Write sends p. The error wraps [ErrAbsent] if the port was unplugged.
	Write(p []byte) error
	// Read fills p and returns the number of bytes read. The error is
	// [os.ErrDeadlineExceeded] if fewer than len(p) bytes have come after within, and
	// wraps [ErrAbsent] if the port was unplugged.
	Read(p []byte, within time.Duration) (n int, err error)
	// Discard drops the bytes that were received and not read.
	Discard() error
	// String is the port's name: "ttyUSB0".
	String() string
	// Close closes the port.
	Close() error
}

// Edge is one change of an input.
type Edge struct {
	Active bool          // the level after the edge
	Mono   time.Duration // when, on CLOCK_MONOTONIC as the kernel stamped it in its interrupt handler
	Lost   uint32        // edges that the kernel dropped before this one, because its queue was full
}

// Input is a requested input line. Its methods may be called from any
// goroutine, Close once.
type Input interface {
	// ID says which line it is.
	ID() LineID
	// Active reads the level now.
	Active() (bool, error)
	// Edges delivers the changes since the request, oldest first. Close closes it. A
	// receiver that lags loses the oldest edges; Lost counts them.
	Edges() <-chan Edge
	// Close releases the line.
	Close() error
}

// EdgeReader is a requested input line whose edges wait in the kernel. Its methods are
// called from one goroutine at a time, Close once.
type EdgeReader interface {
	// ID says which line it is.
	ID() LineID
	// Active reads the level now.
	Active() (bool, error)
	// Read appends the edges since the last Read, oldest first, and does not wait. The
	// kernel keeps the latest [EdgesKept]; Lost counts those that it dropped before one. So
	// the sum of the edges and of Lost is exact, however many there were. The error wraps
	// [ErrAbsent] if the line's chip was unplugged.
	Read(edges []Edge) ([]Edge, error)
	// Close releases the line. Edges that were not read are lost.
	Close() error
}

// EdgesKept is how many edges of an [EdgeReader] wait before the oldest is dropped.
const EdgesKept = kernelQueue

// Output is a requested output line. Its methods may be called from any
// goroutine, Close once.
type Output interface {
	// ID says which line it is.
	ID() LineID
	// Set drives the line. When Set returns nil the line has that level.
	Set(active bool) error
	// Active reads the line's level back from the kernel.
	Active() (bool, error)
	// Close releases the line. The kernel decides which level it has after that:
	// Raspberry Pi kernels keep it, others return the line to its pull. Drive it safe
	// first.
	Close() error
}

// ErrAbsent is the reason when a bus, a line or a chip does not exist, as distinct from
// one that exists and is broken.
var ErrAbsent = errors.New("not there")

// Holder may be implemented by a [Board] that knows who holds a line.
type Holder interface {
	// Holder reports whether somebody holds the line, and under which name, which may be
	// empty. Any goroutine.
	Holder(id LineID) (name string, held bool)
}

// Free returns a [*BusyError] if somebody else holds the line, as far as the board can
// tell. It assumes that a line held under our own name is our daemon's.
func Free(b Board, id LineID) error {
	h, ok := b.(Holder)
	if !ok {
		return nil
	}
	if name, held := h.Holder(id); held && name != Consumer {
		return &BusyError{Line: id, Holder: name}
	}
	return nil
}

// Expander may be implemented by a [Board] that knows where its GPIO chips are.
type Expander interface {
	// Expander returns the kernel's name of the expander that has the line, such as 1-0020
	// for the chip at address 0x20 of the bus i2c-1, or "usb 1-1.2:1.0", and "" for a line
	// of the machine itself. An expander answers over a bus, which may hang or fail, and may
	// lose its power while the machine has its own. Any goroutine.
	Expander(id LineID) string
}

// Restorer may be implemented by an [Output] on an expander.
type Restorer interface {
	// Restore drives the line at that level, and does not rely on what the kernel
	// believes the chip to have. The kernel's drivers keep a copy of the chip's registers,
	// write only what changes and keep what they could not write, so after a loss of power
	// or a failed write [Output].Set may write nothing. Call Restore only while the line
	// reads the other level: it sets that one first, and may then leave the line to its
	// pull for a moment. It also writes what the copy has of the chip's other lines.
	Restore(active bool) error
	// Drive makes the line an output at that level, although the kernel believes that it
	// is one. It never leaves the line to its pull. A driver that writes only what differs
	// from its copy writes nothing then; but it keeps the directions of a chip's lines in
	// one register, so Restore or Redrive of one line writes those of the others.
	Drive(active bool) error
	// Redrive makes the line an input and then an output at that level, so that its
	// direction is certainly written. Call it only while the line reads that level and its
	// pull alone may hold it there.
	Redrive(active bool) error
	// Answers asks whether the chip answers at all, because some drivers return a level
	// for a chip that does not, and no error for a level that they could not set. It
	// returns nil if it cannot ask.
	Answers() error
}

// Consumer is the default name under which lines are requested. gpioinfo shows it.
const Consumer = "fieldpost"

// BusyError says that somebody else holds a line.
type BusyError struct {
	Line   LineID
	Holder string // the consumer's name the kernel knows ("gpio-keys", "sysfs"); may be empty
}

// Error names the line and who holds it.
func (e *BusyError) Error() string {
	holder := e.Holder
	if holder == "" {
		holder = "a program that gave no name"
	}
	return fmt.Sprintf("line %s is held by %s", e.Line, visible(holder))
}
