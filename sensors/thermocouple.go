package sensors

import (
	"encoding/binary"
	"time"

	"fieldpost/sensors/board"
	"fieldpost/sensors/option"
)

// Maxim's MAX31855 and MAX6675: thermocouples.
//
// Sources: MAX31855, 19-5793, revision 5, January 2015: tables 2 to 5, 100 ms at most
// for a conversion, 5 MHz; MAX6675, 19-2235, revision 2, April 2014: figure 1b, 220 ms
// at most, 4.3 MHz.
//
// Both are only read, and convert while they are not selected. Some bits are always 0,
// which distinguishes a frame from a line that is pulled up. A frame of zeros means 0
// degrees, but a line that is pulled down, like MISO of a Raspberry Pi, also gives zeros.
// With a MAX31855 it would mean exactly 0.00 degrees both at the thermocouple and in the
// chip; with a MAX6675, whose range ends there, 0 degrees or less. Such frames are
// refused.

// spiOptions are the keys of a chip on SPI without keys of its own.
var spiOptions = option.Set{Defaults: SPI{}, Rules: map[string]option.Rule{"device": spiRule}}

var max31855Quantities = []Quantity{
	{Name: "temperature", Unit: "Cel", Min: -270, Max: 1800},
	{Name: "temperature_internal", Unit: "Cel", Min: -55, Max: 125},
}

var max31855 = spiChip(Chip{
	Name: "max31855", Title: "Maxim MAX31855: thermocouple", Source: "19-5793, revision 5",
	Options: spiOptions, Quantities: max31855Quantities, Worst: 500 * time.Millisecond,
}, 0, 5_000_000, func(w *spiWire, _ SPI) (device, []Quantity) {
	return &thermocouple{w, 4, 110 * time.Millisecond, max31855Values}, max31855Quantities
})

var max6675Quantities = []Quantity{{Name: "temperature", Unit: "Cel", Min: 0, Max: 1024}}

var max6675 = spiChip(Chip{
	Name: "max6675", Title: "Maxim MAX6675: thermocouple of type K", Source: "19-2235, revision 2",
	Options: spiOptions, Quantities: max6675Quantities, Worst: 500 * time.Millisecond,
}, 0, 4_000_000, func(w *spiWire, _ SPI) (device, []Quantity) {
	return &thermocouple{w, 2, 230 * time.Millisecond, max6675Values}, max6675Quantities
})

// spiChip makes a chip on SPI with a device as its driver and options of type O.
func spiChip[O any](c Chip, mode uint8, maxHz uint32, driver func(*spiWire, O) (device, []Quantity)) Chip {
	c.Every = 10 * time.Second
	c.Look = func(b board.Board, cfg Config) error { return lookSPI(b, cfg.Place().SPI) }
	c.Open = func(b board.Board, cfg Config) (Sensor, error) {
		w, err := dialSPI(b, cfg.Chip, board.SPIConfig{Device: cfg.Place().SPI, Mode: mode, MaxHz: maxHz})
		if err != nil {
			return nil, err
		}
		d, quantities := driver(w, optionsOf[O](cfg))
		return openDevice(&w.handle, d, quantities)
	}
	return c
}

// thermocouple is an open MAX31855 or MAX6675.
type thermocouple struct {
	*spiWire
	size   int
	takes  time.Duration
	values func([]byte) ([]float64, error)
}

// setup reads once, because the chip has nothing else to be recognised by.
func (d *thermocouple) setup() error {
	_, err := d.measure()
	return err
}

// measure selects the chip, which aborts its conversion, and then gives it the time for a
// new one, so that the value is current.
func (d *thermocouple) measure() ([]float64, error) {
	if _, err := d.transfer(make([]byte, d.size)...); err != nil {
		return nil, err
	}
	d.pause(d.takes)
	in, err := d.transfer(make([]byte, d.size)...)
	if err != nil {
		return nil, err
	}
	return d.values(in)
}

// max31855Values decodes a frame (table 2).
func max31855Values(in []byte) ([]float64, error) {
	f := binary.BigEndian.Uint32(in)
	switch {
	case f&(1<<17|1<<3) != 0:
		return nil, faultf("bits that are always 0 are not (% x): nothing drives the line, or it is another chip", in)
	case f == 0:
		return nil, faultf("all bits are 0: the chip is missing or not powered (or it and the thermocouple both have 0.00 °C)")
	case f&1 != 0:
		return nil, faultf("the thermocouple is not connected (% x)", in)
	case f&2 != 0:
		return nil, faultf("the thermocouple touches GND (% x)", in)
	case f&4 != 0:
		return nil, faultf("the thermocouple touches the supply (% x)", in)
	case f&(1<<16) != 0:
		return nil, faultf("the chip reports an unknown fault (% x)", in)
	}
	return []float64{float64(int32(f)>>18) / 4, float64(int16(f)>>4) / 16}, nil
}

// max6675Values decodes a frame (figure 1b).
func max6675Values(in []byte) ([]float64, error) {
	f := binary.BigEndian.Uint16(in)
	switch {
	case f&(1<<15|1<<1) != 0:
		return nil, faultf("bits that are always 0 are not (% x): nothing drives the line, or it is another chip", in)
	case f&4 != 0:
		return nil, faultf("the thermocouple is not connected (% x)", in)
	case f>>3 == 0:
		return nil, faultf("its value is 0: the thermocouple has 0 °C or less, or the chip is missing or not powered")
	}
	return []float64{float64(f>>3) / 4}, nil
}

func (d *thermocouple) sleep() error { return nil }
