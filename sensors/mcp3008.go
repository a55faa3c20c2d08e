package sensors

import (
	"errors"
	"fmt"
	"math/bits"
	"strconv"
	"strings"
	"time"

	"fieldpost/sensors/board"
	"fieldpost/sensors/option"
)

// Microchip's MCP3008 and MCP3208: eight analog inputs of ten and twelve bits.
//
// Sources: DS21295D, 2008, sections 4 to 6; DS21298E, 2008, the same sections.
//
// SPI has no acknowledgement, and the chip has no identity. But with more clock pulses it
// sends every value twice: a null bit, the value from the highest bit to the lowest,
// again from the lowest to the highest, then zeros (figures 5-1 and 5-2). So noise, or a
// line that is pulled up, is not mistaken for a value. A line that is pulled down, like
// MISO of a Raspberry Pi, reads as 0 V: if all eight inputs read 0, the driver assumes
// that the chip is missing.

// MCP3008 are the keys of an MCP3008.
type MCP3008 struct {
	SPI
	// VRef is the voltage at the chip's pin VREF, 0.25 to 5.5 V: the voltage of the
	// greatest value.
	VRef float64 `yaml:"vref"`
	// Channels are the inputs to read: 0, 2 or 0-3. All, unless given.
	Channels Channels `yaml:"channels"`
}

// Channels is a set of channels 0 to 7; bit n is channel n.
type Channels uint8

// UnmarshalText parses channels: "0", "0, 2" or "0-3, 7".
func (c *Channels) UnmarshalText(b []byte) error {
	wrong := errors.New("want channels 0 to 7, such as 0-3 or 0, 2, 5")
	var set Channels
	for part := range strings.SplitSeq(string(b), ",") {
		first, last, several := strings.Cut(strings.TrimSpace(part), "-")
		if !several {
			last = first
		}
		from, err := strconv.ParseUint(first, 10, 8)
		to, err2 := strconv.ParseUint(last, 10, 8)
		if err != nil || err2 != nil || from > to || to > 7 {
			return wrong
		}
		for n := from; n <= to; n++ {
			set |= 1 << n
		}
	}
	*c = set
	return nil
}

var (
	mcp3008 = mcpChip("mcp3008", "Microchip MCP3008: eight analog inputs of 10 bits", "DS21295D", 10)
	mcp3208 = mcpChip("mcp3208", "Microchip MCP3208: eight analog inputs of 12 bits", "DS21298E", 12)
)

func mcpChip(name, title, source string, bits int) Chip {
	return Chip{
		Name:   name,
		Title:  title,
		Source: source,
		Options: option.Set{
			Defaults: MCP3008{VRef: 3.3, Channels: 0xFF},
			Rules: map[string]option.Rule{
				"device":   spiRule,
				"vref":     {Wants: "a number of volts such as 3.3", Check: option.Between(0.25, mcpMostVRef, volts)},
				"channels": {Wants: "channels such as 0-3 or 0, 2, 5"},
			},
		},
		Quantities: []Quantity{{Name: "voltage", Unit: "V", Min: 0, Max: mcpMostVRef}},
		Channels:   true,
		Every:      10 * time.Second,
		Worst:      50 * time.Millisecond,
		Look:       func(b board.Board, c Config) error { return lookSPI(b, optionsOf[MCP3008](c).Device) },
		Open:       func(b board.Board, c Config) (Sensor, error) { return openMCP3008(b, c, bits) },
	}
}

func volts(v float64) string { return strconv.FormatFloat(v, 'g', -1, 64) }

const (
	mcpMostVRef = 5.5       // VDD at most, electrical characteristics
	mcpHz       = 1_000_000 // fCLK: 1.35 MHz at most at 2.7 V, and 10 kHz at least
	mcpCommand  = 0x18      // the start bit, SGL/DIFF, and then D2 to D0
)

// mcp3008Sensor is an open MCP3008.
type mcp3008Sensor struct {
	w          *spiWire
	bits       int
	vref       float64
	channels   []int
	quantities []Quantity
}

func openMCP3008(b board.Board, c Config, bits int) (Sensor, error) {
	o := optionsOf[MCP3008](c)
	w, err := dialSPI(b, c.Chip, board.SPIConfig{Device: o.Device, Mode: 0, MaxHz: mcpHz})
	if err != nil {
		return nil, err
	}
	s := &mcp3008Sensor{w: w, bits: bits, vref: o.VRef}
	for n := range 8 {
		if o.Channels>>n&1 == 1 {
			s.channels = append(s.channels, n)
			s.quantities = append(s.quantities, Quantity{Name: fmt.Sprintf("voltage_%d", n), Unit: "V", Min: 0, Max: o.VRef})
		}
	}
	if _, err := s.Sense(); err != nil {
		return nil, errors.Join(err, w.close())
	}
	return s, nil
}

// Quantities returns those of the channels.
func (s *mcp3008Sensor) Quantities() []Quantity { return s.quantities }

// Sense converts each channel once.
func (s *mcp3008Sensor) Sense() ([]Field, error) {
	s.w.begin()
	fields, err := s.sense()
	return fields, s.w.wrap("read", err)
}

func (s *mcp3008Sensor) sense() ([]Field, error) {
	v := make([]float64, len(s.channels))
	all := uint16(0)
	for i, n := range s.channels {
		code, err := s.convert(n)
		if err != nil {
			return nil, err
		}
		all |= code
		v[i] = round(float64(code)*s.vref/float64(int(1)<<s.bits), 0.0001) // equation 4-2
	}
	for n := 0; n < 8 && all == 0; n++ { // also those that are not configured
		code, err := s.convert(n)
		if err != nil {
			return nil, err
		}
		all |= code
	}
	if all == 0 {
		return nil, faultf("all eight inputs read 0: the chip is missing or not powered, or all inputs have 0 V; if that is possible, connect a free input to VREF")
	}
	return values(s.quantities, v...)
}

func (s *mcp3008Sensor) convert(channel int) (uint16, error) {
	command := (mcpCommand | channel) << (s.bits - 6) // so that the code ends with the third byte
	in, err := s.w.transfer(byte(command>>8), byte(command), 0, 0, 0)
	if err != nil {
		return 0, err
	}
	return mcpCode(in, s.bits)
}

// mcpCode decodes a code of width bits from a transfer of five bytes: figure 6-1 with two
// more bytes.
func mcpCode(in []byte, width int) (uint16, error) {
	null := byte(1) << (width - 8)
	if in[1]&null != 0 {
		return 0, faultf("no null bit before the value (% x): nothing drives the line", in)
	}
	code := uint16(in[1]&(null-1))<<8 | uint16(in[2])
	again := uint16(in[3])<<8 | uint16(in[4]) // B1 to B9 or B11, and zeros
	if bits.Reverse16(again) != code>>1 {
		return 0, faultf("the value and its repetition differ (% x): noise, or another chip", in)
	}
	return code, nil
}

// Close closes the device. Between conversions the chip sleeps by itself.
func (s *mcp3008Sensor) Close() error { return s.w.close() }
