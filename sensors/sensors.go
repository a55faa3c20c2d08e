// Package sensors reads the chips that fieldpost knows.
//
// A driver does three things: it opens a chip on a board, reads it once on request, and closes
// it. The sampler decides when to read, how long to wait, whether to try again and what to
// report. So drivers have no goroutines and no loggers.
//
// A chip that lost its power or was exchanged must never return a value by the old settings. So
// a driver reads its chip's settings back with every value, and returns an [ErrFault] and no
// value if they have changed. It configures the chip before it reads the chip's own data, such
// as a calibration, so that unchanged settings prove that these data are still right. Open
// configures the chip; the sampler calls it again after every read that fails.
//
// A new chip is one file with a [Chip] value, its test, and one line in [Catalog].
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

// Config is one entry of the configuration's sensors: the keys that all have, and the chip's own.
type Config struct {
	// Name is the user's name for the sensor, unique among sensors and outputs.
	Name string `yaml:"name"`
	// Chip is the chip's name in the catalog.
	Chip string `yaml:"chip"`
	// Every is the time between readings.
	Every time.Duration `yaml:"every"`
	// Filters change the values of a reading, in this order.
	//
	// Package [fieldpost/sensors/filter] applies them.
	Filters []Filter `yaml:"filters"`
	// Derive names quantities that are calculated from those that are left after the filters:
	// "dew_point".
	Derive []string `yaml:"derive"`
	// Altitude is the sensor's height above the sea in metres, for sea_level_pressure.
	Altitude float64 `yaml:"altitude"`
	// Options holds the chip's own keys, a struct of the type of its [Chip].Options: [I2C],
	// [GPIO], [Thermal]. Nil is its zero value.
	Options any `yaml:"-"`
}

// Filter is one entry of a sensor's filters. A filter has only some of the keys besides the
// first two; [fieldpost/sensors/filter.Check] says which.
type Filter struct {
	// Filter is its kind: "median".
	Filter string `yaml:"filter"`
	// Quantity is the one quantity that it changes, by the name that it has at this place of
	// the list; "" means all numbers.
	Quantity string `yaml:"quantity"`
	// Window is how many values median and mean look at.
	Window int `yaml:"window"`
	// Alpha is the weight of the newest value in ema, more than 0 and less than 1.
	Alpha float64 `yaml:"alpha"`
	// By is the factor of scale, the summand of offset, the least change for delta.
	By float64 `yaml:"by"`
	// Points are pairs of a measured and a true value, for calibrate.
	Points [][]float64 `yaml:"points"`
	// Degree is that of the polynomial that calibrate fits to the points; 0: straight lines
	// from point to point.
	Degree int `yaml:"degree"`
	// Min is the least value for clamp and reject; minus infinity: none.
	Min float64 `yaml:"min"`
	// Max is the greatest value for clamp and reject; infinity: none.
	Max float64 `yaml:"max"`
	// Digits is how many digits round leaves after the decimal point.
	Digits int `yaml:"digits"`
	// Heartbeat is how long delta may keep readings back.
	Heartbeat time.Duration `yaml:"heartbeat"`
	// As is the quantity's name after scale, offset or calibrate, with Unit; "": unchanged.
	As string `yaml:"as"`
	// Unit is the UCUM code of the quantity that As names.
	Unit string `yaml:"unit"`
}

// Place says where on the board a sensor is connected, in the configuration's words. The zero
// Place is a thermal zone.
type Place struct {
	Bus     string // the I2C bus
	Address uint16 // the chip's address on it
	Pin     string // the GPIO line, of several one; see [Config.Lines]
	SPI     string // the SPI device
	Port    string // the serial port
	Unit    uint8  // the Modbus unit on that port; 0: the port has one chip
	Device  string // the device of a kernel driver
}

// Placed is implemented by options that have a place.
type Placed interface{ Place() Place }

// Shared returns the bus or device that needs one worker for all its sensors; "" if the sensor
// needs no other's worker.
func (p Place) Shared() string { return cmp.Or(p.Bus, p.SPI, p.Port) }

// Place returns the sensor's place.
func (c Config) Place() Place {
	if o, ok := c.Options.(Placed); ok {
		return o.Place()
	}
	return Place{}
}

// UsedLine is a line that a sensor uses.
type UsedLine struct {
	Key  string // the key that names it: "pin"
	Line string // as the user wrote it
}

// Lines returns the lines that the sensor uses, as inputs or outputs. Nobody else may use
// them.
func (c Config) Lines() []UsedLine {
	if o, ok := c.Options.(interface{ Lines() []UsedLine }); ok {
		return o.Lines()
	}
	if pin := c.Place().Pin; pin != "" {
		return []UsedLine{{"pin", pin}}
	}
	return nil
}

// optionsOf returns a sensor's options as the type of its driver.
func optionsOf[T any](c Config) T {
	o, _ := c.Options.(T)
	return o
}

// Sensor is an open chip. Its methods are called from one goroutine at a time, the worker of its
// bus.
type Sensor interface {
	// Quantities returns what Sense measures, in order. They stay the same until Close, and
	// each is one of its chip's [Chip].Quantities.
	Quantities() []Quantity
	// Sense reads the chip once and returns its quantities, in their order and units. It may
	// block for [Chip].Worst. It leaves out quantities of which the chip, or the kernel's
	// driver, has no value now, unless that is all of them. The error wraps [ErrAbsent] if
	// nothing answers, [ErrFault] if the answer is impossible or the chip has lost its
	// settings; any other is the bus's own error. After an error the chip may be another one:
	// the caller closes the sensor and opens it again. Until then Sense returns errors or
	// correct values.
	Sense() ([]Field, error)
	// Close puts the chip into its lowest power state, unless its last transaction
	// failed, and releases its line or bus.
	Close() error
}

// LineKeeper is a sensor that counts on its line while it is not read. So it is not closed
// after an error, as others are, but only after several.
type LineKeeper interface {
	Sensor
	// KeepsLine does nothing.
	KeepsLine()
}

// Edger is a sensor that also reports changes between readings. Edges may be called from any
// goroutine.
type Edger interface {
	Sensor
	// Edges returns the channel of the line's changes, which Close closes.
	Edges() <-chan board.Edge
}

// Quantity describes one value that a chip measures.
type Quantity struct {
	Name string  // the key in the message: "temperature"
	Unit string  // UCUM code: "Cel", "Pa", "%"; "" for a truth value
	Min  float64 // the least value the chip's datasheet allows
	Max  float64 // the greatest
}

// Is reports whether a value of that name is of this quantity: the name is the quantity's, or
// begins with it and an underscore.
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
	case "{tick}":
		return "ticks"
	case "V.A":
		return "VA"
	case "V.A{reactive}":
		return "var"
	case "m3":
		return "m³"
	case "m3/h":
		return "m³/h"
	case "kW.h":
		return "kWh"
	case "[pH]", "1":
		return ""
	}
	return q.Unit
}

// Symbol returns the unit of one of the chip's values, as people write it.
func (c Chip) Symbol(name string) string {
	for _, q := range c.Quantities {
		if q.Is(name) {
			return q.Symbol()
		}
	}
	return ""
}

// QuantitiesOf returns what a sensor with this configuration may measure, as in
// [Chip].Quantities. Any goroutine.
func (c Chip) QuantitiesOf(cfg Config) []Quantity {
	if c.Measures != nil {
		return c.Measures(cfg)
	}
	return c.Quantities
}

// Chip is an entry of the catalog.
type Chip struct {
	Name      string     // as written in the configuration: "bme280"
	Title     string     // what it is, for people
	Source    string     // datasheet, revision
	Options   option.Set // its keys in the configuration besides name, chip and every
	Addresses []uint16   // its possible I2C addresses, the usual one first; nil if not on I2C
	// Quantities are what its sensors may measure. Most chips have all of them, in this order.
	// If that depends on the device, as with kernel drivers, each stands for any number of
	// values, and Channels is true: their names may have an underscore and a channel at the
	// end, "voltage_bus".
	Quantities []Quantity
	Channels   bool
	// Measures returns what a sensor with this configuration measures, if that depends on its
	// options alone. Nil: Quantities.
	Measures func(c Config) []Quantity
	Every    time.Duration
	// EveryMost is the longest time between readings, for a chip that must be read so often to
	// work; 0: no limit.
	EveryMost time.Duration
	Worst     time.Duration // the longest time for one Open or Sense on a healthy bus
	// WarmUp is how long Sense of a healthy chip may keep returning [ErrNotReady].
	WarmUp time.Duration
	// Look checks that the board has what Open will request (the bus and the address, the line,
	// or the file) and that it is free. It does not talk to a chip or request a line. Errors
	// are as for Open.
	Look func(b board.Board, c Config) error
	// Open finds the chip, checks its identity and configures it.
	Open func(b board.Board, c Config) (Sensor, error)
}

// ErrAbsent is the reason when nothing answers where the chip should be. It is
// [board.ErrAbsent].
var ErrAbsent = board.ErrAbsent

// ErrSilent is the reason when nothing answers on a port that exists. It is an [ErrAbsent].
var ErrSilent = fmt.Errorf("the chip is %w", ErrAbsent)

// ErrNotReady is the reason when a chip works but has no new value yet: it measures
// periodically, every few seconds, or has to warm up. It is no failure. The caller keeps
// the sensor open and calls Sense again in a second, for at most [Chip].WarmUp.
var ErrNotReady = errors.New("has no value yet")

// ErrFault is the reason when something answers, but is not the chip or is impossible: a wrong
// identity, a frame of all ones, a wrong checksum, a value outside the datasheet's range.
var ErrFault = errors.New("answered wrongly")
