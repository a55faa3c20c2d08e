// Package sensors reads the chips that fieldpost knows.
//
// A driver does three things and nothing else: it opens a chip on a board, it
// senses once when asked, it closes. When to sense, how long to wait, whether
// to try again and what to tell the user is the sampler's affair, so a driver
// holds no timer, no goroutine and no logger.
//
// A chip that lost its power or was exchanged never gives a value by the old
// set-up. A driver reads its chip's settings beside every value, and where they
// are not as it set them it gives an [ErrFault] that says so, and no value. It
// sets the chip up before it reads what belongs to that chip alone, such as its
// calibration, so that the settings vouch for that too. Setting up anew is what
// Open does; the sampler calls it after every read that fails.
//
// Adding a chip is one file with a [Chip] value, its test, and one line in
// [Catalog].
package sensors

import (
	"cmp"
	"errors"
	"fmt"
	"strings"
	"time"

	"fieldpost/sensors/board"
	"fieldpost/sensors/option"
)

// Field is one named value of a message.
type Field struct {
	Name  string
	Value any // float64, int64, bool or string
}

// Config is one entry of the configuration's sensors: what all have, and what
// is the chip's own.
type Config struct {
	// Name is the user's name for the sensor, unique among sensors and outputs.
	Name string `yaml:"name"`
	// Chip is the chip's name in the catalog.
	Chip string `yaml:"chip"`
	// Every is the time from one reading to the next.
	Every time.Duration `yaml:"every"`
	// Options is what the chip's own keys say, a struct of the type of its
	// [Chip].Options: [I2C], [GPIO], [Thermal]. Nil is the zero one.
	Options any `yaml:"-"`
}

// Place says by what of the board a sensor is reached, as the configuration
// names it. The zero Place is a thermal zone.
type Place struct {
	Bus     string // the I2C bus
	Address uint16 // the chip's address on it
	Pin     string // the GPIO line
	SPI     string // the SPI device
	Port    string // the serial port
	Device  string // the device of a driver of the kernel's
}

// Placed is what options are that name a place.
type Placed interface{ Place() Place }

// Shared is the bus or device that one worker serves, so that it is used by one
// goroutine; "" where that is nothing that could be in the way of others.
func (p Place) Shared() string { return cmp.Or(p.Bus, p.SPI, p.Port) }

// Place returns the sensor's place.
func (c Config) Place() Place {
	if o, ok := c.Options.(Placed); ok {
		return o.Place()
	}
	return Place{}
}

// optionsOf returns a sensor's options, of the type that its driver wants.
func optionsOf[T any](c Config) T {
	o, _ := c.Options.(T)
	return o
}

// Sensor is an opened chip. All its methods are called from one goroutine at
// a time, the worker of its bus.
type Sensor interface {
	// Quantities are what Sense gives, in order. They stay the same until
	// Close, and each is one of its chip's [Chip].Quantities.
	Quantities() []Quantity
	// Sense reads the chip once and gives its quantities, in their order and
	// units. It may block for as long as the catalog's Worst says. It leaves out those
	// that the chip, or the kernel's driver, has no value of now, unless that is all of
	// them.
	// An error wraps [ErrAbsent] where nothing answers, [ErrFault] where the
	// answer cannot be true or the chip does not hold its set-up; anything else
	// is the bus's own error. After an error the chip may be another one: the
	// caller closes the sensor and opens it anew. Until then Sense gives errors
	// or values that are right.
	Sense() ([]Field, error)
	// Close leaves the chip in its lowest power state, unless the last thing
	// said to it was not answered, and frees its lines and buses.
	Close() error
}

// Edger is a sensor that also reports changes between readings. Its Edges may
// be called from any goroutine.
type Edger interface {
	Sensor
	// Edges delivers the changes of the sensor's line; closed by Close.
	Edges() <-chan board.Edge
}

// Quantity describes one value that a chip gives.
type Quantity struct {
	Name string  // the key in the message: "temperature"
	Unit string  // UCUM code: "Cel", "Pa", "%"; "" for a truth value
	Min  float64 // the least value the chip's datasheet allows
	Max  float64 // the greatest
}

// Is reports whether a value of that name is of this quantity: it has its name, or
// that and the channel's behind it.
func (q Quantity) Is(name string) bool {
	return name == q.Name || strings.HasPrefix(name, q.Name+"_")
}

// Symbol returns the unit as people write it: "°C" for "Cel", "ppm" for "[ppm]".
// Messages and the JSON of `status` have no units; UCUM codes are in the catalog.
func (q Quantity) Symbol() string {
	switch q.Unit {
	case "Cel":
		return "°C"
	case "[ppm]":
		return "ppm"
	case "[ppb]":
		return "ppb"
	case "ug/m3":
		return "µg/m³"
	case "Ohm":
		return "Ω"
	case "[pH]", "1":
		return ""
	}
	return q.Unit
}

// Symbol returns the unit of a value that the chip gives, as people write it.
func (c Chip) Symbol(name string) string {
	for _, q := range c.Quantities {
		if q.Is(name) {
			return q.Symbol()
		}
	}
	return ""
}

// Chip is an entry of the catalog.
type Chip struct {
	Name      string     // as written in the configuration: "bme280"
	Title     string     // what it is, for people
	Source    string     // datasheet, revision
	Options   option.Set // the configuration's keys it takes besides name, chip and every
	Addresses []uint16   // its possible I2C addresses, the usual one first; nil if not on I2C
	// Quantities are what its sensors may give. Most chips give all of them, in
	// this order. Where that depends on what is found, as with the kernel's
	// devices, each stands for any number of it: what an open sensor gives may
	// have an underscore and its channel behind the name, "voltage_bus".
	Quantities []Quantity
	Every      time.Duration
	Worst      time.Duration // the longest one Open or Sense takes on a healthy bus
	// WarmUp is how long Sense of a healthy chip may say [ErrNotReady] in a row.
	WarmUp time.Duration
	// Look tells whether the board has what Open will ask it for, the bus and
	// the address or the line or the file, and whether it is free, without
	// saying anything to a chip or requesting a line. Errors as those of Open.
	Look func(b board.Board, c Config) error
	// Open finds the chip, checks its identity and sets it up.
	Open func(b board.Board, c Config) (Sensor, error)
}

// ErrAbsent is the reason when nothing answers where the chip should be. It
// is [board.ErrAbsent].
var ErrAbsent = board.ErrAbsent

// ErrSilent is the reason when nothing answers on a port that is there. It is an
// [ErrAbsent].
var ErrSilent = fmt.Errorf("the chip is %w", ErrAbsent)

// ErrNotReady is the reason when a chip works and has no value yet, or none since the
// last: it measures by itself, every few seconds, or has to warm up. It is no failure.
// The caller keeps the sensor open and calls Sense again in a second, for as long as
// [Chip].WarmUp says.
var ErrNotReady = errors.New("has no value yet")

// ErrFault is the reason when something answers, but cannot be the chip or
// cannot be true: a wrong identity, a frame of all ones, a checksum that
// fails, a value outside the datasheet's range.
var ErrFault = errors.New("answered wrongly")
