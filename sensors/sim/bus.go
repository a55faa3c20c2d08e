package sim

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"syscall"
	"time"

	"periph.io/x/conn/v3/i2c"
	"periph.io/x/conn/v3/physic"

	"fieldpost/sensors/board"
)

// Bus is a simulated I2C bus with chips on it.
type Bus struct {
	name string

	mu      sync.Mutex // guards what follows, the chips' registers included
	adapter string     // its adapter's name
	plugs   int        // how often it was unplugged; older handles are dead
	handles int        // that are open
	chips   map[uint16]*Chip
	owned   map[uint16]string // by drivers of the kernel
	fault   error
	stuck   chan struct{} // non-nil while stuck; closed on Release
	count   int
}

// Name is the bus's name, i2c-N.
func (b *Bus) Name() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.name
}

// SetAdapter sets the name of the bus's adapter. The bus is found by that name, or a part of
// it, too.
func (b *Bus) SetAdapter(name string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.adapter = name
}

// called reports whether a name is its adapter's or part of it.
func (b *Bus) called(name string) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return strings.Contains(strings.ToLower(b.adapter), strings.ToLower(name))
}

// Handles is how many handles on the bus are open. While there is one, a
// kernel does not get an adapter that was unplugged out of its hands.
func (b *Bus) Handles() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.handles
}

// Fault makes every transaction end in err; nil heals the bus. Drivers see it
// wrapped.
func (b *Bus) Fault(err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.fault = err
}

// Stick makes every transaction block, as when a chip holds SDA low under a
// controller without a time-out, until Release or until the handle is closed.
func (b *Bus) Stick() {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.stuck == nil {
		b.stuck = make(chan struct{})
	}
}

// Release frees a bus that Stick has stuck; transactions under way go on.
func (b *Bus) Release() {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.stuck != nil {
		close(b.stuck)
		b.stuck = nil
	}
}

// Own binds a kernel driver of that name to an address. Only that driver may then talk to
// the chip. "" unbinds it.
func (b *Bus) Own(addr uint16, driver string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.owned == nil {
		b.owned = map[uint16]string{}
	}
	b.owned[addr] = driver
}

// claim refuses an address that a driver of the kernel owns. The caller holds
// b.mu.
func (b *Bus) claim(addr uint16) error {
	if driver := b.owned[addr]; driver != "" {
		return &board.OwnedError{Bus: b.name, Address: addr, Driver: driver}
	}
	return nil
}

// Transactions is how many have been tried on the bus.
func (b *Bus) Transactions() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.count
}

func (b *Bus) open() *handle {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.handles++
	return &handle{bus: b, name: b.name, plugs: b.plugs, closed: make(chan struct{})}
}

// add puts a device at an address, in place of what was there.
func (b *Bus) add(addr uint16, d device) *Chip {
	b.mu.Lock()
	defer b.mu.Unlock()
	c := newChip(b, addr, d)
	d.reset(time.Now())
	b.chips[addr] = c
	return c
}

// handle is one opening of a bus.
type handle struct {
	bus    *Bus
	name   string // the bus's when it was opened
	plugs  int
	once   sync.Once
	closed chan struct{}
}

var (
	_ i2c.BusCloser = (*handle)(nil)
	_ board.Claimer = (*handle)(nil)
)

// String is the bus's name.
func (h *handle) String() string { return h.name }

// SetSpeed accepts any speed.
func (h *handle) SetSpeed(f physic.Frequency) error { return nil }

// Close ends the handle and every transaction that is stuck on it.
func (h *handle) Close() error {
	err := fmt.Errorf("close %s: %w", h.name, os.ErrClosed)
	h.once.Do(func() {
		close(h.closed)
		h.bus.mu.Lock()
		h.bus.handles--
		h.bus.mu.Unlock()
		err = nil
	})
	return err
}

// Claim returns a [*board.OwnedError] where a driver of the kernel owns the
// address.
func (h *handle) Claim(addr uint16) error {
	h.bus.mu.Lock()
	defer h.bus.mu.Unlock()
	return h.bus.claim(addr)
}

// Tx writes w to the chip at addr and then reads r from it. Either may be
// empty, not both, as on a machine.
func (h *handle) Tx(addr uint16, w, r []byte) error {
	err := errors.New("nothing to write and nothing to read")
	if len(w)+len(r) > 0 {
		err = h.tx(addr, w, r)
	}
	switch {
	case err == nil:
		return nil
	case errors.Is(err, errUnplugged):
		return fmt.Errorf("bus %s: %w", h.name, err)
	case errors.Is(err, board.ErrAbsent):
		return fmt.Errorf("no acknowledge from %#02x on %s: %w", addr, h.name, err)
	}
	return fmt.Errorf("transaction with %#02x on %s: %w", addr, h.name, err)
}

func (h *handle) tx(addr uint16, w, r []byte) error {
	c, err := h.address(addr)
	if err != nil {
		return err
	}
	h.bus.mu.Lock()
	held, err := c.transact(w, r)
	h.bus.mu.Unlock()
	if closed := h.wait(held); closed != nil {
		return closed
	}
	return err
}

// address finds who answers, once the bus is not stuck.
func (h *handle) address(addr uint16) (*Chip, error) {
	b := h.bus
	b.mu.Lock()
	owned := b.claim(addr)
	if h.plugs != b.plugs {
		owned = errUnplugged
	}
	b.count++
	stuck := b.stuck
	b.mu.Unlock()
	if owned != nil {
		return nil, owned
	}
	if err := h.wait(stuck); err != nil {
		return nil, err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	switch {
	case b.fault != nil:
		return nil, b.fault
	case b.chips[addr] == nil:
		return nil, errNACK
	}
	return b.chips[addr], nil
}

// wait blocks until stuck, if there is one, is closed; an error says that the
// handle was closed, before or meanwhile.
func (h *handle) wait(stuck <-chan struct{}) error {
	if stuck != nil {
		select {
		case <-stuck:
		case <-h.closed:
		}
	}
	select {
	case <-h.closed:
		return os.ErrClosed
	default:
		return nil
	}
}

// errUnplugged is what a bus says whose adapter is gone.
var errUnplugged = fmt.Errorf("%w: its adapter was unplugged (%w)", board.ErrAbsent, syscall.ENODEV)

// errNACK is what a bus says when nothing acknowledges an address. ENXIO is
// the errno of most adapters; the kernel's Documentation/i2c/fault-codes.rst
// asks for it.
var errNACK = fmt.Errorf("%w (%w)", board.ErrAbsent, syscall.ENXIO)
