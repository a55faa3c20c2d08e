package sensors

import (
	"errors"
	"time"

	"fieldpost/sensors/board"
	"fieldpost/sensors/option"
)

// Winsen's MH-Z19B: carbon dioxide, by infrared, on a serial port of 9600 baud.
//
// Source: Winsen, MH-Z19B user's manual, version 1.0: command 0x86, its answer and
// its checksum.
//
// The chip has no identity and no sign that it has warmed up. That takes three minutes,
// in which it returns its last value, or 400 to 500. Unless that is switched off, it
// calibrates itself once a day, and assumes that the lowest concentration is fresh air.

var mhz19Quantities = []Quantity{{Name: "co2", Unit: "[ppm]", Min: 0, Max: 10000}}

var mhz19 = Chip{
	Name:       "mhz19",
	Title:      "Winsen MH-Z19B: carbon dioxide",
	Source:     "MH-Z19B user's manual, version 1.0",
	Options:    option.Set{Defaults: Serial{}, Rules: map[string]option.Rule{"device": serialRule}},
	Quantities: mhz19Quantities,
	Every:      30 * time.Second,
	Worst:      2 * mhzWithin,
	Look:       func(b board.Board, c Config) error { return lookSerial(b, mhzPort(c)) },
	Open:       openMHZ19,
}

const (
	mhzBaud   = 9600
	mhzStart  = 0xFF
	mhzRead   = 0x86
	mhzLength = 9
	mhzWithin = 500 * time.Millisecond // 18 bytes take 19 ms
)

func mhzPort(c Config) board.SerialConfig {
	return board.SerialConfig{Device: optionsOf[Serial](c).Device, Baud: mhzBaud}
}

// mhz19Sensor is an open MH-Z19B.
type mhz19Sensor struct{ w *serialWire }

// openMHZ19 reads once, because the chip has nothing else to be recognised by.
func openMHZ19(b board.Board, c Config) (Sensor, error) {
	w, err := dialSerial(b, c.Chip, mhzPort(c))
	if err != nil {
		return nil, err
	}
	s := &mhz19Sensor{w}
	if _, err := s.sense(); err != nil {
		return nil, errors.Join(w.wrap("open", err), w.close())
	}
	return s, nil
}

// Quantities returns the chip's.
func (s *mhz19Sensor) Quantities() []Quantity { return mhz19Quantities }

// Sense reads the concentration.
func (s *mhz19Sensor) Sense() ([]Field, error) {
	s.w.begin()
	fields, err := s.sense()
	return fields, s.w.wrap("read", err)
}

func (s *mhz19Sensor) sense() ([]Field, error) {
	question := []byte{mhzStart, 1, mhzRead, 0, 0, 0, 0, 0, 0}
	question[8] = mhzSum(question)
	answer, err := s.w.ask(question, mhzLength, mhzWithin)
	if err != nil {
		return nil, err
	}
	ppm, err := mhz19PPM(answer)
	if err != nil {
		return nil, err
	}
	return values(mhz19Quantities, ppm)
}

// mhz19PPM decodes the concentration of an answer.
func mhz19PPM(a []byte) (float64, error) {
	switch {
	case a[0] != mhzStart || a[1] != mhzRead:
		return 0, faultf("% x is no answer of an MH-Z19", a)
	case a[8] != mhzSum(a):
		return 0, faultf("the checksum of % x is %#02x", a, mhzSum(a))
	}
	return float64(int(a[2])<<8 | int(a[3])), nil
}

// mhzSum is the checksum: bytes 1 to 7, inverted, and 1.
func mhzSum(p []byte) (sum byte) {
	for _, b := range p[1:8] {
		sum += b
	}
	return -sum
}

// Close closes the port. The chip keeps measuring, as it has no other state.
func (s *mhz19Sensor) Close() error { return s.w.close() }
