package sensors

import (
	"encoding/binary"
	"errors"
	"time"

	"fieldpost/sensors/board"
)

// Texas Instruments' TMP102.
//
// Source: SBOS397C, August 2007, revised October 2012.
//
// The chip is shut down between readings and converts once for each (one-shot mode). So a
// value is always current. The 0 degrees of the register after power-on are not mistaken
// for a value, because bit OS reads 1 only after a conversion. In extended mode (EM) bit
// 0 of the temperature register is 1, which distinguishes 0 degrees from a frame of
// zeros.
//
// The bits of the ALERT output are not changed. While EM is set the chip reads its limits
// in the 13-bit format.

var tmp102Addresses = []uint16{0x48, 0x49, 0x4A, 0x4B}

// The 13-bit format is specified for -55 to 150 degrees (table 6).
var tmp102Quantities = []Quantity{{Name: "temperature", Unit: "Cel", Min: -55, Max: 150}}

var tmp102 = Chip{
	Name:       "tmp102",
	Title:      "Texas Instruments TMP102: temperature",
	Source:     "SBOS397C",
	Options:    i2cOptions(tmp102Addresses),
	Addresses:  tmp102Addresses,
	Quantities: tmp102Quantities,
	Every:      10 * time.Second,
	Worst:      100 * time.Millisecond,
	Look:       lookOnBus(tmp102Addresses),
	Open:       openTMP102,
}

// Registers and bits, by the datasheet's names.
const (
	tmpTemperature   = 0
	tmpConfiguration = 1

	tmpOS   = 1 << 15 // write: convert once; read: the conversion is done
	tmpR    = 3 << 13 // R1 and R0, always 1
	tmpSD   = 1 << 8  // shut down
	tmpEM   = 1 << 4  // extended mode
	tmpZero = 0x000F  // always 0
	tmpUser = 0x1EC0  // F1, F0, POL, TM, CR1 and CR0, which are not changed
)

// A conversion takes 26 ms, at most 35.
const (
	tmpTypical = 26 * time.Millisecond
	tmpPoll    = 3 * time.Millisecond
	tmpPolls   = 8
)

// tmp102Sensor is an open TMP102.
type tmp102Sensor struct {
	w    *wire
	conf uint16 // as written between readings
}

func openTMP102(b board.Board, c Config) (Sensor, error) {
	w, err := dial(b, c, tmp102Addresses)
	if err != nil {
		return nil, err
	}
	s := &tmp102Sensor{w: w}
	if err := s.setup(); err != nil {
		return nil, errors.Join(w.wrap("open", err), w.close())
	}
	return s, nil
}

// setup shuts the chip down. Only the bits that are always the same identify it.
func (s *tmp102Sensor) setup() error {
	conf, err := s.configuration()
	if err != nil {
		return err
	}
	s.conf = conf&tmpUser | tmpSD | tmpEM
	return s.configure(s.conf)
}

func (s *tmp102Sensor) configuration() (uint16, error) {
	b, err := s.w.read(tmpConfiguration, 2)
	if err != nil {
		return 0, err
	}
	conf := binary.BigEndian.Uint16(b)
	if conf&(tmpR|tmpZero) != tmpR {
		return 0, faultf("configuration %#04x is not a TMP102's", conf)
	}
	return conf, nil
}

// held reads the configuration. It returns an error if it is not as it was set.
func (s *tmp102Sensor) held() (uint16, error) {
	conf, err := s.configuration()
	if err == nil && conf&(tmpUser|tmpSD|tmpEM) != s.conf {
		err = lostSetup("configuration", conf&(tmpUser|tmpSD|tmpEM), s.conf)
	}
	return conf, err
}

func (s *tmp102Sensor) configure(conf uint16) error {
	return s.w.write(tmpConfiguration, byte(conf>>8), byte(conf))
}

// Quantities returns the chip's.
func (s *tmp102Sensor) Quantities() []Quantity { return tmp102Quantities }

// Sense converts once.
func (s *tmp102Sensor) Sense() ([]Field, error) {
	s.w.begin()
	fields, err := s.sense()
	return fields, s.w.wrap("read", err)
}

func (s *tmp102Sensor) sense() ([]Field, error) {
	if _, err := s.held(); err != nil {
		return nil, err
	}
	if err := s.configure(s.conf | tmpOS); err != nil {
		return nil, err
	}
	if err := s.await(); err != nil {
		return nil, err
	}
	b, err := s.w.read(tmpTemperature, 2)
	if err != nil {
		return nil, err
	}
	celsius, err := tmp102Celsius(binary.BigEndian.Uint16(b))
	if err != nil {
		return nil, err
	}
	return values(tmp102Quantities, celsius)
}

// await waits for the end of the conversion.
func (s *tmp102Sensor) await() error {
	s.w.pause(tmpTypical)
	for range tmpPolls {
		conf, err := s.held()
		if err != nil {
			return err
		}
		if conf&tmpOS != 0 {
			return nil
		}
		s.w.pause(tmpPoll)
	}
	return faultf("a conversion does not end")
}

// tmp102Celsius converts the temperature register in extended mode: 13 bits in sixteenths
// of a degree, two zeros, a one.
func tmp102Celsius(reg uint16) (float64, error) {
	if reg&7 != 1 {
		return 0, faultf("temperature %#04x is not in extended mode", reg)
	}
	return float64(int16(reg)>>3) / 16, nil
}

// Close shuts the chip down.
func (s *tmp102Sensor) Close() error {
	if s.w.closed() || s.w.broken() {
		return s.w.close()
	}
	s.w.begin()
	return errors.Join(s.w.wrap("shut down", s.configure(s.conf)), s.w.close())
}
