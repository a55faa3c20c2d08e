package board

import (
	"fmt"
	"os"

	"periph.io/x/conn/v3/i2c"
	"periph.io/x/conn/v3/physic"
)

// Resting is a board whose buses can be let go of and come back by themselves.
//
// Whoever keeps a handle on a bus keeps the kernel from removing the adapter when
// it is unplugged: it waits, and with it all that is plugged in and out on that
// USB hub, until the handle is closed (i2c_del_adapter, Linux,
// drivers/i2c/i2c-core-base.c). A driver opens its bus once and keeps it. So
// whoever reads it gives it a Resting board and calls Rest between readings that
// are far apart; the next transaction opens the bus anew, by its name, wherever
// it is by then.
//
// Its methods, and the buses it gives, are for one goroutine, the bus's
// [Worker].
type Resting struct {
	Board
	buses map[*restingBus]bool
}

// NewResting makes one of b.
func NewResting(b Board) *Resting { return &Resting{b, map[*restingBus]bool{}} }

// Bus opens the bus of that name; see [Board].
func (r *Resting) Bus(name string) (i2c.BusCloser, error) {
	bus, err := r.Board.Bus(name)
	if err != nil {
		return nil, err
	}
	b := &restingBus{r: r, name: name, bus: bus}
	r.buses[b] = true
	return b, nil
}

// Rest lets go of every bus that is open.
func (r *Resting) Rest() {
	for b := range r.buses {
		b.rest()
	}
}

// restingBus is a bus of a Resting board.
type restingBus struct {
	r    *Resting
	name string
	bus  i2c.BusCloser // nil while let go of
}

var (
	_ i2c.BusCloser = (*restingBus)(nil)
	_ Claimer       = (*restingBus)(nil)
)

// wake opens the bus where it was let go of.
func (b *restingBus) wake() error {
	if !b.r.buses[b] {
		return fmt.Errorf("bus %s: %w", b.name, os.ErrClosed)
	}
	if b.bus != nil {
		return nil
	}
	var err error
	b.bus, err = b.r.Board.Bus(b.name)
	return err
}

func (b *restingBus) rest() {
	if b.bus != nil {
		_ = b.bus.Close() // nothing is under way, and it is gone either way
		b.bus = nil
	}
}

// String is the bus's present name where it is open, and otherwise the one it
// is opened by.
func (b *restingBus) String() string {
	if b.bus != nil {
		return b.bus.String()
	}
	return b.name
}

// Tx is one transaction.
func (b *restingBus) Tx(addr uint16, w, r []byte) error {
	if err := b.wake(); err != nil {
		return err
	}
	return b.bus.Tx(addr, w, r)
}

// Claim asks the bus, if it knows.
func (b *restingBus) Claim(addr uint16) error {
	if err := b.wake(); err != nil {
		return err
	}
	if c, ok := b.bus.(Claimer); ok {
		return c.Claim(addr)
	}
	return nil
}

// SetSpeed sets the bus's speed until it is let go of.
func (b *restingBus) SetSpeed(f physic.Frequency) error {
	if err := b.wake(); err != nil {
		return err
	}
	return b.bus.SetSpeed(f)
}

// Close closes the bus for good.
func (b *restingBus) Close() error {
	if !b.r.buses[b] {
		return fmt.Errorf("close bus %s: %w", b.name, os.ErrClosed)
	}
	delete(b.r.buses, b)
	if b.bus == nil {
		return nil
	}
	err := b.bus.Close()
	b.bus = nil
	return err
}
