package sim

import (
	"fmt"
	"strings"

	"fieldpost/sensors/board"
)

// addPort adds a device with one chip behind it, and replaces any device of that name.
func (b *Board) addPort(name string, d device) *Chip {
	b.mu.Lock()
	port := &Bus{name: name, chips: map[uint16]*Chip{}}
	b.ports[name] = port
	b.mu.Unlock()
	return port.add(0, d)
}

// port returns the device of that name: spidev0.0, /dev/spidev0.0.
func (b *Board) port(name string) (*Bus, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	port := b.ports[strings.TrimPrefix(name, "/dev/")]
	if port == nil {
		return nil, fmt.Errorf("open %s: %w", name, board.ErrAbsent)
	}
	return port, nil
}

// RemovePort takes an SPI or serial device away, with the chip behind it: handles
// on it are dead from then on, and it cannot be opened.
func (b *Board) RemovePort(name string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if port := b.ports[name]; port != nil {
		port.mu.Lock()
		port.plugs++
		port.mu.Unlock()
		delete(b.ports, name)
	}
}

// SPI opens the SPI device of that name. A chip that it is not right for, by its
// mode or its clock, is not understood: each byte is 0xFF.
func (b *Board) SPI(c board.SPIConfig) (board.SPI, error) {
	port, err := b.port(c.Device)
	if err != nil {
		return nil, err
	}
	return spiHandle{port.open(), c}, nil
}

// spiDevice is a chip on SPI: what it is written it answers in the same transfer.
type spiDevice interface {
	device
	takes(c board.SPIConfig) bool
}

// spiHandle is one opening of an SPI device.
type spiHandle struct {
	*handle
	c board.SPIConfig
}

// Tx is one transfer.
func (h spiHandle) Tx(w, r []byte) error {
	if len(w) == 0 || len(w) != len(r) {
		return fmt.Errorf("transfer on %s: %d bytes out and %d in", h.name, len(w), len(r))
	}
	h.bus.mu.Lock()
	d, ok := h.bus.chips[0].dev.(spiDevice)
	h.bus.mu.Unlock()
	if err := h.tx(0, w, r); err != nil {
		return fmt.Errorf("transfer on %s: %w", h.name, err)
	}
	if !ok || !d.takes(h.c) {
		for i := range r {
			r[i] = 0xFF
		}
	}
	return nil
}
