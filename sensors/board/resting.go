package board

import (
	"fmt"
	"os"

	"periph.io/x/conn/v3/i2c"
	"periph.io/x/conn/v3/physic"
)

// Resting is a board whose buses can be closed between readings. The next transaction opens them
// again.
//
// An open handle on a bus keeps the kernel from removing its adapter when it is unplugged. The
// kernel waits until the handle is closed, and so does everything else that is plugged in or
// out on that USB hub (i2c_del_adapter, Linux, drivers/i2c/i2c-core-base.c). A driver opens its
// bus once and keeps it. So the sampler gives it a Resting board and calls Rest between
// readings that are far apart. The next transaction opens the bus by its name, which may have
// another number by then.
//
// Its methods, and the buses that it returns, are for one goroutine, the bus's [Worker].
type Resting struct {
	Board
	buses map[*restingBus]bool
}

// NewResting returns a Resting board on b.
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

// Rest closes every open bus until its next transaction.
func (r *Resting) Rest() {
	for b := range r.buses {
		b.rest()
	}
}

// CloseAll closes for good every bus that was opened and not closed: a driver that panics
// leaves its bus open.
func (r *Resting) CloseAll() {
	for b := range r.buses {
		_ = b.Close() // nobody uses it any more
	}
}

// restingBus is a bus of a Resting board.
type restingBus struct {
	r    *Resting
	name string
	bus  i2c.BusCloser // nil while closed
}

var (
	_ i2c.BusCloser = (*restingBus)(nil)
	_ Claimer       = (*restingBus)(nil)
)

// wake opens the bus if it is closed.
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
		_ = b.bus.Close() // no transaction is under way, and there is no use for the error
		b.bus = nil
	}
}

// String returns the bus's present name if it is open, and otherwise the name to open it by.
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

// Claim asks the bus if it is a [Claimer].
func (b *restingBus) Claim(addr uint16) error {
	if err := b.wake(); err != nil {
		return err
	}
	if c, ok := b.bus.(Claimer); ok {
		return c.Claim(addr)
	}
	return nil
}

// SetSpeed sets the bus's speed until the bus is closed.
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
