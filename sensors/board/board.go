// Package board gives the buses, devices and lines of the machine fieldpost runs on.
//
// Two things implement [Board]: [Machine], on Linux's i2c-dev and GPIO
// character devices, and fieldpost/sensors/sim.Board, registers and lines in
// memory on which the same drivers run. Everything above this package takes a
// Board and cannot tell the two apart.
//
// Lines have a logical level: "active" is the level the user means by on, and
// ActiveLow turns it into the physical one. No physical level leaves this
// package, but to periph's drivers, whose pins know no other.
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

// Board is the machine's hardware. Its methods may be called from any
// goroutine; what they return belongs to the caller.
type Board interface {
	// Bus opens the I2C bus of that name ("i2c-1", "CH341"), which may be
	// another one at each call: adapters on USB come and go. The caller closes
	// it; its String is the bus's present name, i2c-N. Only one goroutine, the
	// bus's [Worker], may use the buses opened under one name.
	//
	// The error wraps [ErrAbsent] when there is no such bus and
	// [fs.ErrPermission] when it may not be opened; it names the device file.
	// A transaction with an address that a driver of the kernel owns ends in an
	// [*OwnedError] and never reaches the chip.
	Bus(name string) (i2c.BusCloser, error)

	// SPI opens an SPI device, a chip select of a bus. The caller closes it, and
	// uses it from one goroutine. Errors as those of Bus.
	SPI(c SPIConfig) (SPI, error)

	// Serial opens a serial port, of eight bits without parity and one stop bit.
	// The caller closes it, and uses it from one goroutine. Errors as those of Bus.
	Serial(c SerialConfig) (Serial, error)

	// Input requests a line as an input that reports its edges.
	// The error wraps [ErrAbsent] when there is no such line, is or wraps a
	// [*BusyError] when somebody else holds it.
	Input(c InputConfig) (Input, error)

	// Output requests a line as an output. The line has its initial level
	// from the first moment it is driven: the level travels with the request.
	// Errors as for Input.
	Output(c OutputConfig) (Output, error)

	// Find returns the line that a name means, without requesting it.
	Find(line string) (LineID, error)

	// Root is the directory under which /sys and /proc are found: "/" on a
	// machine, a temporary directory on a simulated board.
	Root() string

	// String names the board for people: "Raspberry Pi 4 Model B Rev 1.4".
	String() string
}

// LineID says which line of which chip. Chip labels are stable between
// kernels; chip numbers are not. "Label:Offset" always leads back to the line:
// where several chips share a label, Label is the chip's device name.
type LineID struct {
	Label  string // the chip's label: "pinctrl-bcm2711"
	Chip   string // the chip's device name now: "gpiochip0"
	Offset int    // the line's offset on its chip, from 0
	Name   string // the kernel's name of the line ("GPIO17"); may be empty
}

// String returns "pinctrl-bcm2711:17", and the kernel's name where there is one.
func (l LineID) String() string {
	if l.Name == "" {
		return fmt.Sprintf("%s:%d", visible(l.Label), l.Offset)
	}
	return fmt.Sprintf("%s:%d (%s)", visible(l.Label), l.Offset, visible(l.Name))
}

// visible returns a name that comes from outside, from a file or another program,
// so that it can be printed: quoted where it would not be seen as it is.
func visible(name string) string {
	if !utf8.ValidString(name) || strings.ContainsFunc(name, func(r rune) bool { return !unicode.IsPrint(r) }) {
		return strconv.Quote(name)
	}
	return name
}

// Pull is an input's bias resistor.
type Pull string

// The biases a user may ask for. PullAsIs leaves what the machine has set up.
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
	// LastAddress is the highest: from 0x78 on they are reserved.
	LastAddress = 0x77

	// MaxDebounce is the longest debounce period: what the kernel's 32 bits of
	// microseconds hold.
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
	Keep      bool   // the level that the line has now, driven or not, and not Active
	Consumer  string // shown by gpioinfo; "fieldpost" unless given
}

// SPIConfig asks for an SPI device.
type SPIConfig struct {
	Device string // spidev0.0: chip select 0 of bus 0; or a link to it in /dev
	Mode   uint8  // 0 to 3: CPOL and CPHA
	MaxHz  uint32 // the fastest clock that the chip takes
}

// SPI is an open SPI device, with words of eight bits, most significant first.
type SPI interface {
	// Tx sends w and gives what has come meanwhile in r, which is as long, in one
	// transfer with the chip selected. It ends by itself, for the clock is the
	// machine's. Nothing acknowledges: a chip that is not there gives whatever
	// the line's pull does.
	Tx(w, r []byte) error
	// String is the device's name: "spidev0.0".
	String() string
	// Close closes the device.
	Close() error
}

// SerialConfig asks for a serial port.
type SerialConfig struct {
	Device string // /dev/serial0, ttyUSB0
	Baud   int    // 1200 to 115200, one of the usual rates
}

// Serial is an open serial port.
type Serial interface {
	// Write sends p. The error wraps [ErrAbsent] where the port was unplugged.
	Write(p []byte) error
	// Read fills p, in so long at most; n is how much has come. The error is
	// [os.ErrDeadlineExceeded] where that is not all, and wraps [ErrAbsent] where
	// the port was unplugged.
	Read(p []byte, within time.Duration) (n int, err error)
	// Discard forgets what has come and was not read.
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
	// Edges delivers the changes from the request on, oldest first; it is
	// closed by Close. A receiver that lags loses the oldest, counted in Lost.
	Edges() <-chan Edge
	// Close releases the line.
	Close() error
}

// Output is a requested output line. Its methods may be called from any
// goroutine, Close once.
type Output interface {
	// ID says which line it is.
	ID() LineID
	// Set drives the line; it has that level when Set returns nil.
	Set(active bool) error
	// Active reads back the level the line has, from the kernel.
	Active() (bool, error)
	// Close releases the line. What level it has from then on is the
	// kernel's affair (Raspberry Pi kernels keep it, others return the line
	// to its pull): drive it safe first.
	Close() error
}

// ErrAbsent is the reason when a bus, a line or a chip is not there.
// Distinct from a thing that is there and broken.
var ErrAbsent = errors.New("not there")

// Holder may be implemented by a [Board] that knows who holds a line.
type Holder interface {
	// Holder reports whether somebody holds the line, and under which name, which may be
	// empty. Any goroutine.
	Holder(id LineID) (name string, held bool)
}

// Free returns a [*BusyError] where somebody else holds the line, as far as the
// board can tell. A line that is held under our own name is taken for our
// daemon's.
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

// Consumer is the name under which lines are requested, unless another is
// given; gpioinfo shows it.
const Consumer = "fieldpost"

// BusyError says that a line is held by somebody else.
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
