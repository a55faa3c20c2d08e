package sim

import (
	"fmt"
	"strings"
	"sync"

	"fieldpost/sensors/board"
)

// ports are the SPI and serial devices of a board, each with one chip, at address 0.
type ports struct {
	mu     sync.Mutex
	byName map[string]*Bus
}

// addPort adds a device with one chip and replaces any device of that name.
func (p *ports) addPort(name string, d device) *Chip {
	p.mu.Lock()
	port := &Bus{name: name, chips: map[uint16]*Chip{}}
	p.byName[name] = port
	p.mu.Unlock()
	return port.add(0, d)
}

// port returns the device of a name such as spidev0.0 or /dev/spidev0.0.
func (p *ports) port(name string) (*Bus, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	port := p.byName[strings.TrimPrefix(name, "/dev/")]
	if port == nil {
		return nil, fmt.Errorf("open %s: %w", name, board.ErrAbsent)
	}
	return port, nil
}

// PortChip returns the chip on an SPI or serial device; nil if there is none of that name.
func (p *ports) PortChip(name string) *Chip {
	port, err := p.port(name)
	if err != nil {
		return nil
	}
	port.mu.Lock()
	defer port.mu.Unlock()
	return port.chips[0]
}

// RemovePort removes an SPI or serial device with its chip. Open handles stop working,
// and the device cannot be opened.
func (p *ports) RemovePort(name string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if port := p.byName[name]; port != nil {
		port.mu.Lock()
		port.plugs++
		port.mu.Unlock()
		delete(p.byName, name)
	}
}

// SPI opens the SPI device of that name. With a mode or clock that the chip does not
// support, each byte read is 0xFF.
func (b *Board) SPI(c board.SPIConfig) (board.SPI, error) {
	port, err := b.port(c.Device)
	if err != nil {
		return nil, err
	}
	return spiHandle{port.open(), c}, nil
}

// spiDevice is a chip on SPI. It answers in the transfer in which it is written to.
type spiDevice interface {
	device
	takes(c board.SPIConfig) bool
}

// spiHandle is an open handle on an SPI device.
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
