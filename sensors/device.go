package sensors

import (
	"errors"
	"math"
	"slices"
	"time"

	"fieldpost/sensors/board"
)

// device is what a driver of a chip on a bus does by itself; [openDevice] does the
// rest. Its methods are those of one goroutine at a time.
type device interface {
	// setup finds the chip, checks its identity and sets it up.
	setup() error
	// measure gives the values in the order of the quantities, and missing for one
	// that it does not have now.
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

// deviceChip is a chip on I2C that takes only a bus and an address, and whose
// driver is a device.
func deviceChip(c Chip, driver func(*wire) device) Chip {
	c.Options = i2cOptions(c.Addresses)
	return deviceWith(c, func(w *wire, _ struct{}) (device, []Quantity) { return driver(w), c.Quantities })
}

// deviceWith is a chip on I2C whose driver is a device and that has options of type
// O, which embed [I2C]. What it gives may depend on them.
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

// openDevice sets a device up.
func openDevice(h *handle, d device, quantities []Quantity) (Sensor, error) {
	if err := d.setup(); err != nil {
		return nil, errors.Join(h.wrap("open", err), h.close())
	}
	return &deviceSensor{d, h, quantities}, nil
}

// Quantities are those that the device was opened with.
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

// missing stands for a value that a device does not have now, beside others.
const missing = -math.MaxFloat64

// Close has the device sleep.
func (s *deviceSensor) Close() error {
	if s.h.closed() || s.h.broken() {
		return s.h.close()
	}
	s.h.begin()
	return errors.Join(s.h.wrap("put to sleep", s.sleep()), s.h.close())
}

// send writes bytes to the chip.
func (w *wire) send(p ...byte) error { return w.Tx(w.addr, p, nil) }

// answer reads n bytes from a chip that has taken a command and does not
// acknowledge a read before it is done: it tries tries times, every so often. A
// chip that acknowledges no read but the command probe is one that has forgotten
// what it was told: an [ErrFault].
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
	return nil, faultf("it has taken a command and gives no answer: it lost its power or was exchanged meanwhile, or it is not this chip")
}

// word reads a register of 16 bits, the high byte first.
func (w *wire) word(reg byte) (uint16, error) {
	b, err := w.read(reg, 2)
	return uint16(b[0])<<8 | uint16(b[1]), err
}

// setWord writes a register of 16 bits, the high byte first.
func (w *wire) setWord(reg byte, v uint16) error { return w.write(reg, byte(v>>8), byte(v)) }

// await reads a register of 16 bits until ready says so, tries times every so often.
// An error of ready ends it.
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
			return faultf("a measurement was begun and does not end")
		}
		w.pause(every)
	}
}

// crc8 is a checksum of eight bits, most significant bit first.
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
