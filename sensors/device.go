package sensors

import (
	"errors"
	"math"
	"slices"
	"time"

	"fieldpost/sensors/board"
)

// device is the part of a driver that is different for each chip; [openDevice] does the
// rest. Its methods are called from one goroutine at a time.
type device interface {
	// setup finds the chip, checks its identity and configures it.
	setup() error
	// measure returns the values in the order of the quantities, and missing for one that
	// it does not have now.
	measure() ([]float64, error)
	// sleep leaves the chip in its lowest power state.
	sleep() error
}

// deviceSensor is an open chip whose driver is a device.
type deviceSensor struct {
	device
	h          *handle
	quantities []Quantity
}

// deviceChip makes a chip on I2C with a device as its driver and no keys but bus and
// address.
func deviceChip(c Chip, driver func(*wire) device) Chip {
	c.Options = i2cOptions(c.Addresses)
	return deviceWith(c, func(w *wire, _ struct{}) (device, []Quantity) { return driver(w), c.Quantities })
}

// deviceWith makes a chip on I2C with a device as its driver and options of type O, which
// embed [I2C]. Its quantities may depend on them.
func deviceWith[O any](c Chip, driver func(*wire, O) (device, []Quantity)) Chip {
	c.Look = lookOnBus(c.Addresses)
	if c.Every == 0 {
		c.Every = 10 * time.Second
	}
	c.Open = func(b board.Board, cfg Config) (Sensor, error) {
		w, err := dial(b, cfg, c.Addresses)
		if err != nil {
			return nil, err
		}
		d, quantities := driver(w, optionsOf[O](cfg))
		return openDevice(&w.handle, d, quantities)
	}
	return c
}

// openDevice opens a device.
func openDevice(h *handle, d device, quantities []Quantity) (Sensor, error) {
	if err := d.setup(); err != nil {
		return nil, errors.Join(h.wrap("open", err), h.close())
	}
	return &deviceSensor{d, h, quantities}, nil
}

// Quantities returns those that the device was opened with.
func (s *deviceSensor) Quantities() []Quantity { return s.quantities }

// Sense measures once.
func (s *deviceSensor) Sense() ([]Field, error) {
	s.h.begin()
	v, err := s.measure()
	if err != nil {
		return nil, s.h.wrap("read", err)
	}
	quantities, there := s.quantities, v
	if slices.Contains(v, missing) {
		quantities, there = nil, nil
		for i, x := range v {
			if x != missing {
				quantities, there = append(quantities, s.quantities[i]), append(there, x)
			}
		}
	}
	fields, err := values(quantities, there...)
	return fields, s.h.wrap("read", err)
}

// missing marks a value that a device does not have now, while it has others.
const missing = -math.MaxFloat64

// Close puts the device to sleep and closes its bus.
func (s *deviceSensor) Close() error {
	if s.h.closed() || s.h.broken() {
		return s.h.close()
	}
	s.h.begin()
	return errors.Join(s.h.wrap("put to sleep", s.sleep()), s.h.close())
}

// send writes bytes to the chip.
func (w *wire) send(p ...byte) error { return w.Tx(w.addr, p, nil) }

// answer reads the n bytes of a command's answer from a chip that does not acknowledge a
// read before it is done. It tries tries times. If the chip acknowledges only the command
// probe, it has lost the first command: that is an [ErrFault].
func (w *wire) answer(n int, every time.Duration, tries int, probe ...byte) ([]byte, error) {
	b := make([]byte, n)
	for {
		err := w.Tx(w.addr, nil, b)
		if !errors.Is(err, ErrAbsent) {
			return b, err
		}
		if tries--; tries <= 0 {
			break
		}
		w.pause(every)
	}
	if err := w.send(probe...); err != nil {
		return nil, err
	}
	return nil, faultf("it accepted a command and does not answer: it lost its power or was exchanged meanwhile, or it is not this chip")
}

// word reads a register of 16 bits, the high byte first.
func (w *wire) word(reg byte) (uint16, error) {
	b, err := w.read(reg, 2)
	return uint16(b[0])<<8 | uint16(b[1]), err
}

// setWord writes a register of 16 bits, the high byte first.
func (w *wire) setWord(reg byte, v uint16) error { return w.write(reg, byte(v>>8), byte(v)) }

// await reads a register of 16 bits until ready returns true, at most tries times. An
// error of ready ends it.
func (w *wire) await(reg byte, every time.Duration, tries int, ready func(uint16) (bool, error)) error {
	for {
		v, err := w.word(reg)
		if err != nil {
			return err
		}
		if done, err := ready(v); done || err != nil {
			return err
		}
		if tries--; tries <= 0 {
			return faultf("a measurement does not end")
		}
		w.pause(every)
	}
}

// crc8 returns a CRC of eight bits, most significant bit first.
func crc8(poly, crc byte, p []byte) byte {
	for _, b := range p {
		crc ^= b
		for range 8 {
			carry := crc & 0x80
			if crc <<= 1; carry != 0 {
				crc ^= poly
			}
		}
	}
	return crc
}
