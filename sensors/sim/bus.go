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

	mu      sync.Mutex // guards what follows, and the chips' registers
	adapter string     // its adapter's name
	plugs   int        // how often it was unplugged; older handles do not work
	handles int        // number of open handles
	chips   map[uint16]*Chip
	owned   map[uint16]string // names of kernel drivers by address
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

// Handles returns the number of open handles on the bus. While there is one, a kernel
// cannot remove an adapter that was unplugged.
func (b *Bus) Handles() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.handles
}

// Fault makes every transaction fail with err, wrapped; nil repairs the bus.
func (b *Bus) Fault(err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.fault = err
}

// Stick makes every transaction block until Release or until the handle is closed, as if
// a chip held SDA low and the controller had no timeout.
func (b *Bus) Stick() {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.stuck == nil {
		b.stuck = make(chan struct{})
	}
}

// Release ends Stick. Blocked transactions continue.
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

// claim returns an error if a kernel driver owns the address. The caller holds b.mu.
func (b *Bus) claim(addr uint16) error {
	if driver := b.owned[addr]; driver != "" {
		return &board.OwnedError{Bus: b.name, Address: addr, Driver: driver}
	}
	return nil
}

// Transactions returns the number of attempted transactions.
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

// add puts a device at an address and replaces any other one there.
func (b *Bus) add(addr uint16, d device) *Chip {
	b.mu.Lock()
	defer b.mu.Unlock()
	c := newChip(b, addr, d)
	d.reset(time.Now())
	b.chips[addr] = c
	return c
}

// handle is an open handle on a bus.
type handle struct {
	bus    *Bus
	name   string // the bus's name when it was opened
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

// Close closes the handle and ends every transaction that is stuck on it.
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

// Claim returns a [*board.OwnedError] if a kernel driver owns the address.
func (h *handle) Claim(addr uint16) error {
	h.bus.mu.Lock()
	defer h.bus.mu.Unlock()
	return h.bus.claim(addr)
}

// Tx writes w to the chip at addr and then reads r from it. One of them may be empty, as
// on a machine.
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

// address waits until the bus is not stuck and returns the chip at the address.
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

// wait blocks until stuck is closed, if it is not nil. It returns an error if the handle
// is closed before that.
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

// errUnplugged is the error of a bus whose adapter was unplugged.
var errUnplugged = fmt.Errorf("%w: its adapter was unplugged (%w)", board.ErrAbsent, syscall.ENODEV)

// errNACK is the error when no chip acknowledges an address. Most adapters return ENXIO,
// as the kernel's Documentation/i2c/fault-codes.rst wants.
var errNACK = fmt.Errorf("%w (%w)", board.ErrAbsent, syscall.ENXIO)
