package sim

import (
	"cmp"
	"fmt"
	"os"
	"time"

	"fieldpost/sensors/board"
)

// serialDevice is a chip on a serial port.
type serialDevice interface {
	device
	waiting() int // bytes
	discard()
	baud() int
}

// Serial opens the serial port of that name. At a wrong baud rate the chip understands
// nothing. A chip with the fault [NACK] is silent.
func (b *Board) Serial(c board.SerialConfig) (board.Serial, error) {
	port, err := b.port(c.Device)
	if err != nil {
		return nil, err
	}
	return serialHandle{port.open(), c}, nil
}

// serialHandle is an open handle on a serial port.
type serialHandle struct {
	*handle
	c board.SerialConfig
}

// state returns the chip's present answer.
func (h serialHandle) state() (d serialDevice, waiting int, deaf, silent bool) {
	h.bus.mu.Lock()
	defer h.bus.mu.Unlock()
	c := h.bus.chips[0]
	d, _ = c.dev.(serialDevice)
	deaf = d == nil || d.baud() != h.c.Baud || parityOf(d) != cmp.Or(h.c.Parity, board.ParityNone) || c.fault == NACK
	if d != nil && !deaf {
		waiting = d.waiting()
	}
	return d, waiting, deaf, deaf || c.fault == Healthy
}

// parityOf returns the parity of a chip.
func parityOf(d serialDevice) board.Parity {
	if p, ok := d.(interface{ parityBit() board.Parity }); ok {
		return p.parityBit()
	}
	return board.ParityNone
}

// nextOf returns when a chip's next bytes come; zero if none are on their way.
func (h serialHandle) nextOf(d serialDevice) time.Time {
	h.bus.mu.Lock()
	defer h.bus.mu.Unlock()
	if n, ok := d.(interface{ next() time.Time }); ok {
		return n.next()
	}
	return time.Time{}
}

// Write sends bytes to the chip.
func (h serialHandle) Write(p []byte) error {
	if _, _, deaf, _ := h.state(); deaf {
		p = nil
	}
	if err := h.tx(0, p, nil); err != nil && !deafTo(err) {
		return fmt.Errorf("write to %s: %w", h.name, err)
	}
	return nil
}

// deafTo reports whether an error only means that the chip does not answer.
func deafTo(err error) bool { return err == errNACK }

// Read waits for bytes from the chip.
func (h serialHandle) Read(p []byte, within time.Duration) (int, error) {
	d, n, deaf, silent := h.state()
	if silent && n < len(p) {
		if err := h.alive(); err != nil {
			return 0, fmt.Errorf("read from %s: %w", h.name, err)
		}
		for until := time.Now().Add(within); ; {
			stop := until
			if next := h.nextOf(d); !deaf && !next.IsZero() && next.Before(until) {
				stop = next
			}
			late := time.NewTimer(time.Until(stop))
			select {
			case <-late.C:
			case <-h.closed:
				late.Stop()
				return 0, fmt.Errorf("read from %s: %w", h.name, os.ErrClosed)
			}
			if _, n, deaf, silent = h.state(); !silent || n >= len(p) {
				return h.Read(p, 0)
			}
			if !time.Now().Before(until) {
				break
			}
		}
		if n > 0 {
			h.bus.mu.Lock()
			d.read(time.Now(), p[:n])
			h.bus.mu.Unlock()
		}
		return n, os.ErrDeadlineExceeded
	}
	if err := h.tx(0, nil, p); err != nil {
		return 0, fmt.Errorf("read from %s: %w", h.name, err)
	}
	return len(p), nil
}

// alive returns an error if the port was removed or closed.
func (h serialHandle) alive() error {
	h.bus.mu.Lock()
	gone := h.plugs != h.bus.plugs
	h.bus.mu.Unlock()
	if gone {
		return errUnplugged
	}
	return h.wait(nil)
}

// Discard drops the bytes that wait to be read.
func (h serialHandle) Discard() error {
	if err := h.alive(); err != nil {
		return fmt.Errorf("discard what came from %s: %w", h.name, err)
	}
	h.bus.mu.Lock()
	defer h.bus.mu.Unlock()
	if d, ok := h.bus.chips[0].dev.(serialDevice); ok {
		d.discard()
	}
	return nil
}
