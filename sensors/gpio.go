package sensors

import (
	"errors"
	"fmt"
	"os"
	"time"

	"fieldpost/sensors/board"
	"fieldpost/sensors/option"
)

// A line of the board as a sensor: a door's contact, a float switch, a push button. It
// reports each change as it happens, with the kernel's time stamp. It also reports its
// level every minute, so that silence means a failure.

// GPIO are the keys of an input line.
type GPIO struct {
	// Pin is the GPIO line.
	Pin string `yaml:"pin"`
	// Pull is the line's bias: up, down or none.
	Pull board.Pull `yaml:"pull"`
	// ActiveLow makes the low level the active one.
	ActiveLow bool `yaml:"active_low"`
	// Debounce is how long a level must be stable to count.
	Debounce time.Duration `yaml:"debounce"`
	// MaxEdges is the rate up to which each change of the line is reported, 1 to 1000 per
	// second. Above it there is one report per second. 0 is [DefaultMaxEdges].
	MaxEdges int `yaml:"max_edges"`
}

// Place returns the line.
func (o GPIO) Place() Place { return Place{Pin: o.Pin} }

// DefaultMaxEdges is the default of MaxEdges. The pulse output of a meter makes up to 33
// changes a second (EN 62053-31: at least 30 ms on, 30 ms off), and mains hum on an open
// wire 100 or 120.
const DefaultMaxEdges = 40

// mostEdges is the highest max_edges. Each change is a message, and few brokers accept a
// thousand a second from one board.
const mostEdges = 1000

var gpioOptions = option.Set{
	Defaults: GPIO{Pull: board.PullAsIs, MaxEdges: DefaultMaxEdges},
	Rules: map[string]option.Rule{
		"pin":       {Required: true, Wants: "a line such as GPIO17", Check: line},
		"debounce":  {Check: option.Between(0, time.Minute, option.Duration)},
		"max_edges": {Wants: "a number of changes a second such as 40/s", Parse: func(text string) (any, error) { return rateOf(text, "changes") }, Check: option.Between(1, mostEdges, rate)},
	},
}

// line checks the name of a line.
func line(v any) string {
	if _, err := board.ParseLine(v.(string)); err != nil {
		return err.Error()
	}
	return ""
}

var gpioQuantities = []Quantity{{Name: "active", Min: 0, Max: 1}}

var gpioLine = Chip{
	Name:       "gpio",
	Title:      "a line of the board: a contact, a switch, a button",
	Source:     "Linux, Documentation/userspace-api/gpio/chardev.rst",
	Options:    gpioOptions,
	Quantities: gpioQuantities,
	Every:      time.Minute,
	Worst:      10 * time.Millisecond,
	Look:       lookLine,
	Open:       openGPIO,
}

// gpioSensor is an open line.
type gpioSensor struct {
	in     board.Input
	closed bool
}

var _ Edger = (*gpioSensor)(nil)

var errNoPin = errors.New("pin is missing: want one such as GPIO17")

func openGPIO(b board.Board, c Config) (Sensor, error) {
	o := optionsOf[GPIO](c)
	if o.Pin == "" {
		return nil, fmt.Errorf("open gpio: %w", errNoPin)
	}
	if o.Debounce < 0 {
		return nil, fmt.Errorf("open gpio: debounce: want 0 or more (got %v)", o.Debounce)
	}
	in, err := b.Input(board.InputConfig{
		Line: o.Pin, ActiveLow: o.ActiveLow, Pull: o.Pull, Debounce: o.Debounce,
	})
	if err != nil {
		return nil, fmt.Errorf("open gpio: %w", err)
	}
	return &gpioSensor{in: in}, nil
}

// Quantities returns the chip's.
func (s *gpioSensor) Quantities() []Quantity { return gpioQuantities }

// Sense reads the level.
func (s *gpioSensor) Sense() ([]Field, error) {
	if s.closed {
		return nil, fmt.Errorf("read gpio: %w", os.ErrClosed)
	}
	active, err := s.in.Active()
	if err != nil {
		return nil, fmt.Errorf("read gpio: %w", err)
	}
	return []Field{{Name: gpioQuantities[0].Name, Value: active}}, nil
}

// Edges delivers the changes.
func (s *gpioSensor) Edges() <-chan board.Edge { return s.in.Edges() }

// Close releases the line. A second call does nothing.
func (s *gpioSensor) Close() error {
	if s.closed {
		return nil
	}
	s.closed = true
	if err := s.in.Close(); err != nil {
		return fmt.Errorf("close gpio: %w", err)
	}
	return nil
}
