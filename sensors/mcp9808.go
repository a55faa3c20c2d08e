package sensors

import "time"

// Microchip's MCP9808: temperature.
//
// Source: DS25095A, 2011: registers tables 5-1 to 5-5, equation 5-1, 250 ms for a
// conversion.
//
// The chip converts continuously while it is awake. It has no sign that a conversion is
// done, so the driver waits for the first one. Until then the temperature register holds
// 0. So the driver reads the configuration after each value: one bit of the alert
// output's hysteresis is set, and is not after power-on.

var mcp9808 = deviceChip(Chip{
	Name:       "mcp9808",
	Title:      "Microchip MCP9808: temperature",
	Source:     "DS25095A",
	Addresses:  []uint16{0x18, 0x19, 0x1A, 0x1B, 0x1C, 0x1D, 0x1E, 0x1F},
	Quantities: []Quantity{{Name: "temperature", Unit: "Cel", Min: -40, Max: 125}},
	Worst:      600 * time.Millisecond,
}, func(w *wire) device { return &mcp9808Device{wire: w} })

const (
	mcp9808Conf  = 1
	mcp9808Temp  = 5
	mcp9808Maker = 6
	mcp9808ID    = 7

	mcp9808Is       = 0x0054 // manufacturer
	mcp9808High     = 0x04   // high byte of the device id; the low one is the revision
	mcp9808Mark     = 1 << 9 // T_HYST 1.5 degrees
	mcp9808Shutdown = 1 << 8
	mcp9808Reads    = 0xF800 | 1<<4 | 1<<5 // bits that are always 0 or change by themselves
	mcp9808First    = 300 * time.Millisecond
)

type mcp9808Device struct {
	*wire
	conf uint16 // the configuration while awake
}

func (d *mcp9808Device) setup() error {
	maker, err := d.word(mcp9808Maker)
	if err != nil {
		return err
	}
	id, err := d.word(mcp9808ID)
	if err != nil {
		return err
	}
	if maker != mcp9808Is || id>>8 != mcp9808High {
		return faultf("manufacturer %#04x and device %#04x are not an MCP9808's", maker, id)
	}
	conf, err := d.word(mcp9808Conf)
	if err != nil {
		return err
	}
	d.conf = conf&^(mcp9808Reads|mcp9808Shutdown) | mcp9808Mark
	if err := d.setWord(mcp9808Conf, d.conf); err != nil {
		return err
	}
	d.pause(mcp9808First)
	return nil
}

func (d *mcp9808Device) measure() ([]float64, error) {
	t, err := d.word(mcp9808Temp)
	if err != nil {
		return nil, err
	}
	conf, err := d.word(mcp9808Conf)
	if err == nil && conf&^mcp9808Reads != d.conf {
		err = lostSetup("configuration", conf, d.conf)
	}
	return []float64{mcp9808Celsius(t)}, err
}

// mcp9808Celsius converts the temperature register: 13 bits in two's complement, in
// sixteenths of a degree. The higher bits are flags.
func mcp9808Celsius(t uint16) float64 { return float64(int16(t<<3)>>3) / 16 }

// sleep shuts the chip down.
func (d *mcp9808Device) sleep() error { return d.setWord(mcp9808Conf, d.conf|mcp9808Shutdown) }
