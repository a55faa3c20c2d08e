package sensors

import (
	"errors"
	"fmt"
	"os"
	"time"

	"fieldpost/sensors/board"
)

// A line of the board as a sensor: a door's contact, a float switch, a push
// button. It reports each change as it happens, with the kernel's time stamp,
// and its level every minute besides, so that silence is a sign of something.

var gpioQuantities = []Quantity{{Name: "active", Min: 0, Max: 1}}

var gpioLine = Chip{
	Name:       "gpio",
	Title:      "a line of the board: a contact, a switch, a button",
	Source:     "Linux, Documentation/userspace-api/gpio/chardev.rst",
	Keys:       []string{"pin", "pull", "active_low", "debounce", "max_edges"},
	Required:   []string{"pin"},
	Quantities: gpioQuantities,
	Every:      time.Minute,
	Worst:      10 * time.Millisecond,
	Look:       lookGPIO,
	Open:       openGPIO,
}

// gpioSensor is an open line.
type gpioSensor struct {
	in     board.Input
	closed bool
}

var _ Edger = (*gpioSensor)(nil)

var errNoPin = errors.New("pin is missing: want one such as GPIO17")

func lookGPIO(b board.Board, c Config) error {
	if c.Pin == "" {
		return errNoPin
	}
	id, err := b.Find(c.Pin)
	if err != nil {
		return err
	}
	return board.Free(b, id)
}

func openGPIO(b board.Board, c Config) (Sensor, error) {
	if c.Pin == "" {
		return nil, fmt.Errorf("open gpio: %w", errNoPin)
	}
	if c.Debounce < 0 {
		return nil, fmt.Errorf("open gpio: debounce: want 0 or more (got %v)", c.Debounce)
	}
	in, err := b.Input(board.InputConfig{
		Line: c.Pin, ActiveLow: c.ActiveLow, Pull: c.Pull, Debounce: c.Debounce,
	})
	if err != nil {
		return nil, fmt.Errorf("open gpio: %w", err)
	}
	return &gpioSensor{in: in}, nil
}

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

// Close frees the line. The second time it does nothing.
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
