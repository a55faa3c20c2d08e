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
	"errors"
	"time"

	"fieldpost/sensors/board"
)

// Field is one named value of a message.
type Field struct {
	Name  string
	Value any // float64, int64, bool or string
}

// Config is one entry of the configuration's sensors.
type Config struct {
	// Name is the user's name for the sensor, unique among sensors and outputs.
	Name string `yaml:"name"`
	// Chip is the chip's name in the catalog.
	Chip string `yaml:"chip"`
	// Every is the time from one reading to the next.
	Every time.Duration `yaml:"every"`
	// Bus is the I2C bus: i2c-1, a link to it in /dev, or its adapter's name or
	// part of it, such as CH341.
	Bus string `yaml:"bus"`
	// Address is the chip's address on its bus, 0x03 to 0x77.
	Address uint16 `yaml:"address"`
	// Pin is the GPIO line.
	Pin string `yaml:"pin"`
	// Pull is the line's bias: up, down or none.
	Pull board.Pull `yaml:"pull"`
	// ActiveLow makes the low level the active one.
	ActiveLow bool `yaml:"active_low"`
	// Debounce is how long a level must hold to count.
	Debounce time.Duration `yaml:"debounce"`
	// MaxEdges is how many changes a second of the line are told one by one, 1 to
	// 1000; a line that changes more often is told once a second. 0 is
	// [DefaultMaxEdges].
	MaxEdges int `yaml:"max_edges"`
	// Zone is the thermal zone's type, number or directory: cpu-thermal, 0,
	// thermal_zone0.
	Zone string `yaml:"zone"`
}

// DefaultMaxEdges is how many changes a second of a line are told one by one
// where the configuration does not say. A pulse output of a meter makes up to 33
// (EN 62053-31: at least 30 ms on, 30 ms off), the mains' hum on an open wire 100
// or 120.
const DefaultMaxEdges = 40

// Sensor is an opened chip. All its methods are called from one goroutine at
// a time, the worker of its bus.
type Sensor interface {
	// Sense reads the chip once and gives its quantities in the catalog's
	// order and units. It may block for as long as the catalog's Worst says.
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

// Chip is an entry of the catalog.
type Chip struct {
	Name       string     // as written in the configuration: "bme280"
	Title      string     // what it is, for people
	Source     string     // datasheet, revision
	Keys       []string   // the configuration's keys it takes besides name, chip and every
	Required   []string   // those of Keys that must be given
	Addresses  []uint16   // its possible I2C addresses, the usual one first; nil if not on I2C
	Quantities []Quantity // what Sense gives, in order
	Every      time.Duration
	Worst      time.Duration // the longest one Open or Sense takes on a healthy bus
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

// ErrFault is the reason when something answers, but cannot be the chip or
// cannot be true: a wrong identity, a frame of all ones, a checksum that
// fails, a value outside the datasheet's range.
var ErrFault = errors.New("answered wrongly")
