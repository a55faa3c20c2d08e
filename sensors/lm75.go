package sensors

import (
	"encoding/binary"
	"errors"
	"slices"
	"time"

	"fieldpost/sensors/board"
)

// The LM75 and its descendants.
//
// Sources: National's LM75, section 1.12 of its datasheet, and Texas Instruments'
// SNIS153B (LM75B, LM75C), revised March 2013: nine bits of temperature, the other seven
// undefined. NXP's LM75A, Rev. 04, and LM75B, Rev. 6.1 of 6 February 2015: eleven bits,
// the other five zero. The name on the chip does not show the maker, so "lm75" uses nine
// bits, which is right for all of them, and "lm75b" uses NXP's eleven. NXP's PCT2075
// (product data sheet) is an LM75B whose three address pins may also be left open, which
// gives it 27 addresses. So can those of Texas Instruments' TMP175 (SBOS288), which gives
// nine bits after power-on.
//
// The chip converts continuously, every 100 to 300 ms. It has no identity and no sign
// that a conversion is done. So the driver waits for the first conversion after it wakes
// the chip. It doubts a frame of only zeros or ones, which would be 0 or -0.5 degrees. It
// accepts such a frame only if another register, Tos, reads differently. The register
// also holds 0 between power-on and the first conversion, so the frame must be the same
// after the longest conversion. The bits of the OS output are not changed.

var lm75Addresses = []uint16{0x48, 0x49, 0x4A, 0x4B, 0x4C, 0x4D, 0x4E, 0x4F}

// openPinAddresses are the addresses with an address pin left open.
var openPinAddresses = []uint16{
	0x28, 0x29, 0x2A, 0x2B, 0x2C, 0x2D, 0x2E, 0x2F, 0x35, 0x36,
	0x70, 0x71, 0x72, 0x73, 0x74, 0x75, 0x76, 0x77,
}

// lm75Relatives are the addresses of all makers' chips. pct2075Addresses begin with that
// of the modules, which leave all three pins open.
var (
	lm75Relatives    = slices.Concat(lm75Addresses, openPinAddresses, []uint16{0x37})
	pct2075Addresses = slices.Concat([]uint16{0x37}, lm75Addresses, openPinAddresses)
)

var lm75Quantities = []Quantity{{Name: "temperature", Unit: "Cel", Min: -55, Max: 125}}

var lm75 = Chip{
	Name:       "lm75",
	Title:      "LM75 of any maker: temperature to half a degree",
	Source:     "SNIS153B",
	Options:    i2cOptions(lm75Relatives),
	Addresses:  lm75Relatives,
	Quantities: lm75Quantities,
	Every:      10 * time.Second,
	Worst:      500 * time.Millisecond,
	Look:       lookOnBus(lm75Relatives),
	Open: func(b board.Board, c Config) (Sensor, error) {
		return openLM75(b, c, lm75Relatives, lm75Bits9)
	},
}

var lm75b = Chip{
	Name:       "lm75b",
	Title:      "NXP LM75A and LM75B: temperature to an eighth of a degree",
	Source:     "NXP LM75B, Rev. 6.1",
	Options:    i2cOptions(lm75Addresses),
	Addresses:  lm75Addresses,
	Quantities: lm75Quantities,
	Every:      10 * time.Second,
	Worst:      500 * time.Millisecond,
	Look:       lookOnBus(lm75Addresses),
	Open: func(b board.Board, c Config) (Sensor, error) {
		return openLM75(b, c, lm75Addresses, lm75Bits11)
	},
}

var pct2075 = Chip{
	Name:       "pct2075",
	Title:      "NXP PCT2075: temperature to an eighth of a degree",
	Source:     "NXP PCT2075, product data sheet",
	Options:    i2cOptions(pct2075Addresses),
	Addresses:  pct2075Addresses,
	Quantities: lm75Quantities,
	Every:      10 * time.Second,
	Worst:      500 * time.Millisecond,
	Look:       lookOnBus(pct2075Addresses),
	Open: func(b board.Board, c Config) (Sensor, error) {
		return openLM75(b, c, pct2075Addresses, lm75Bits11)
	},
}

// Registers and bits, by the datasheets' names.
const (
	lmTemp = 0
	lmConf = 1
	lmTos  = 3

	lmShutdown = 1 << 0
	lmReserved = 7 << 5

	lm75Bits9  = 9
	lm75Bits11 = 11
)

// lmFirst is the longest time of a conversion (SNIS153B).
const lmFirst = 300 * time.Millisecond

// lm75Sensor is an open LM75.
type lm75Sensor struct {
	w    *wire
	bits int
	conf byte // the configuration while awake
}

func openLM75(b board.Board, c Config, addresses []uint16, bits int) (Sensor, error) {
	w, err := dial(b, c, addresses)
	if err != nil {
		return nil, err
	}
	s := &lm75Sensor{w: w, bits: bits}
	if err := s.setup(); err != nil {
		return nil, errors.Join(w.wrap("open", err), w.close())
	}
	return s, nil
}

// setup wakes the chip and waits for its first conversion.
func (s *lm75Sensor) setup() error {
	b, err := s.w.read(lmConf, 1)
	if err != nil {
		return err
	}
	if b[0]&lmReserved != 0 {
		return faultf("configuration %#02x is not an LM75's", b[0])
	}
	s.conf = b[0] &^ lmShutdown
	if err := s.w.write(lmConf, s.conf); err != nil {
		return err
	}
	s.w.pause(lmFirst)
	return nil
}

// Quantities returns the chip's.
func (s *lm75Sensor) Quantities() []Quantity { return lm75Quantities }

// Sense reads the last conversion.
func (s *lm75Sensor) Sense() ([]Field, error) {
	s.w.begin()
	fields, err := s.sense()
	return fields, s.w.wrap("read", err)
}

func (s *lm75Sensor) sense() ([]Field, error) {
	conf, err := s.w.read(lmConf, 1)
	if err != nil {
		return nil, err
	}
	if conf[0] != s.conf {
		return nil, lostSetup("configuration", uint16(conf[0]), uint16(s.conf))
	}
	temp, err := s.w.read(lmTemp, 2)
	if err == nil && uniform(temp) {
		temp, err = s.doubt(temp[0])
	}
	if err != nil {
		return nil, err
	}
	celsius, err := lm75Celsius(binary.BigEndian.Uint16(temp), s.bits)
	if err != nil {
		return nil, err
	}
	return values(lm75Quantities, celsius)
}

// doubt checks a temperature whose bytes are both v, and reads it again.
func (s *lm75Sensor) doubt(v byte) ([]byte, error) {
	tos, err := s.w.read(lmTos, 2)
	if err != nil {
		return nil, err
	}
	if tos[0] == v {
		return nil, faultf("every register reads %#02x", v)
	}
	s.w.pause(lmFirst)
	return s.w.read(lmTemp, 2)
}

// lm75Celsius converts the temperature register: its upper nine or eleven bits
// in two's complement, the highest but the sign worth 64 degrees.
func lm75Celsius(reg uint16, bits int) (float64, error) {
	if bits == lm75Bits11 && reg&0x1F != 0 {
		return 0, faultf("temperature %#04x has more than 11 bits: the chip is no LM75A or LM75B from NXP", reg)
	}
	return float64(int16(reg)>>(16-bits)) / float64(int(1)<<(bits-8)), nil
}

// Close shuts the chip down.
func (s *lm75Sensor) Close() error {
	if s.w.closed() || s.w.broken() {
		return s.w.close()
	}
	s.w.begin()
	return errors.Join(s.w.wrap("shut down", s.w.write(lmConf, s.conf|lmShutdown)), s.w.close())
}
