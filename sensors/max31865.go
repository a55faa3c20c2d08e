package sensors

import (
	"fmt"
	"math"
	"time"

	"fieldpost/sensors/option"
)

// Maxim's MAX31865: a platinum resistance thermometer, PT100 or PT1000.
//
// Sources: 19-6478, revision 3, July 2015: registers tables 1 to 7, 5 MHz; a single
// conversion takes 55 ms with the filter for 60 Hz and 66 ms for 50 Hz; the bias settles
// within 10 ms with the usual filter capacitor. IEC 60751: the resistance of platinum.
//
// The chip measures once for each reading. Only then does it send current through the
// sensor, because current warms it. One transfer reads configuration, value and fault
// status, so that no value is from a chip that lost its configuration.

// MAX31865 are the keys of a MAX31865.
type MAX31865 struct {
	SPI
	// Wires is how many wires the sensor has: 2, 3 or 4.
	Wires int `yaml:"wires"`
	// Nominal is the sensor's resistance at 0 degrees: 100 for a PT100, 1000 for a
	// PT1000.
	Nominal float64 `yaml:"nominal"`
	// Reference is the resistor on the module, in ohms: mostly 430 for a PT100 and 4300
	// for a PT1000. 4300 printed on it means 430 ohms.
	Reference float64 `yaml:"reference"`
	// Mains is the frequency that is filtered out: 50 or 60.
	Mains int `yaml:"mains"`
}

var max31865Quantities = []Quantity{{Name: "temperature", Unit: "Cel", Min: -200, Max: 850}}

var max31865 = spiChip(Chip{
	Name: "max31865", Title: "Maxim MAX31865: PT100 or PT1000", Source: "19-6478, revision 3",
	Options: option.Set{
		Defaults: MAX31865{Wires: 2, Nominal: 100, Reference: 430, Mains: 50},
		Rules: map[string]option.Rule{
			"device":    spiRule,
			"wires":     {Wants: "2, 3 or 4", Check: among(2, 3, 4)},
			"mains":     {Wants: "50 or 60", Check: among(50, 60)},
			"nominal":   {Wants: "a number of ohms such as 100", Check: option.Between(10.0, 10000.0, volts)},
			"reference": {Wants: "a number of ohms such as 430", Check: option.Between(10.0, 100000.0, volts)},
		},
	},
	Quantities: max31865Quantities, Worst: 500 * time.Millisecond,
}, 1, 5_000_000, func(w *spiWire, o MAX31865) (device, []Quantity) {
	return &max31865Device{spiWire: w, o: o}, max31865Quantities
})

// among is a [option.Rule].Check that accepts these numbers.
func among(numbers ...int) func(any) string {
	return func(v any) string {
		for _, n := range numbers {
			if v.(int) == n {
				return ""
			}
		}
		return fmt.Sprintf("want one of %v", numbers)
	}
}

const (
	max31865Write = 0x80 // added to a register's number

	max31865Bias  = 1 << 7
	max31865Once  = 1 << 5 // clears itself
	max31865Three = 1 << 4
	max31865Clear = 1 << 1 // of the fault status; clears itself
	max31865Hz50  = 1 << 0
)

type max31865Device struct {
	*spiWire
	o    MAX31865
	conf byte // without bias
}

// setup sets the thresholds to the whole range, so that only an impossible resistance is
// a fault, and switches the bias off.
func (d *max31865Device) setup() error {
	if d.o.Wires == 3 {
		d.conf |= max31865Three
	}
	if d.o.Mains == 50 {
		d.conf |= max31865Hz50
	}
	if err := d.configure(max31865Clear); err != nil {
		return err
	}
	if _, err := d.transfer(max31865Write|3, 0xFF, 0xFF, 0, 0); err != nil {
		return err
	}
	in, err := d.transfer(make([]byte, 9)...)
	if err != nil {
		return err
	}
	if in[1] != d.conf || in[4] != 0xFF {
		return faultf("its registers % x are not as they were set: it is not there or not powered, or no MAX31865", in[1:])
	}
	return nil
}

func (d *max31865Device) configure(bits byte) error {
	_, err := d.transfer(max31865Write, d.conf|bits)
	return err
}

func (d *max31865Device) measure() ([]float64, error) {
	if err := d.configure(max31865Bias | max31865Clear); err != nil {
		return nil, err
	}
	d.pause(10 * time.Millisecond)
	if err := d.configure(max31865Bias | max31865Once); err != nil {
		return nil, err
	}
	d.pause(70 * time.Millisecond)
	in, err := d.transfer(make([]byte, 9)...) // registers 0 to 7
	if err != nil {
		return nil, err
	}
	if err := d.configure(0); err != nil {
		return nil, err
	}
	if in[1] != d.conf|max31865Bias {
		return nil, lostSetup("configuration", uint16(in[1]), uint16(d.conf|max31865Bias))
	}
	celsius, err := d.convert(uint16(in[2])<<8|uint16(in[3]), in[8])
	return []float64{celsius}, err
}

// convert converts a resistance with its fault status (tables 4 and 7).
func (d *max31865Device) convert(rtd uint16, status byte) (float64, error) {
	code := rtd >> 1
	switch {
	case status&(1<<2) != 0:
		return 0, faultf("a voltage at its inputs is too high or too low (fault status %#02x)", status)
	case status&(7<<3) != 0:
		return 0, faultf("a wire of the sensor is off, or the number of wires is wrong (fault status %#02x)", status)
	case code >= 0x7FFF:
		return 0, faultf("the sensor's resistance is beyond the reference: it is not connected, or reference is too small")
	case code == 0:
		return 0, faultf("the sensor's resistance is 0: its wires touch")
	case rtd&1 != 0 || status != 0:
		return 0, faultf("the chip reports a fault (fault status %#02x)", status)
	}
	ratio := float64(code) / 32768 * d.o.Reference / d.o.Nominal
	return round(platinumCelsius(ratio), 0.01), nil
}

// platinumCelsius returns the temperature of an IEC 60751 platinum sensor. ratio is its
// resistance divided by that at 0 degrees. Above 0 it solves the standard's equation,
// below 0 by Newton's method.
func platinumCelsius(ratio float64) float64 {
	const a, b, c = 3.9083e-3, -5.775e-7, -4.183e-12
	t := (-a + math.Sqrt(math.Max(0, a*a-4*b*(1-ratio)))) / (2 * b)
	if ratio >= 1 {
		return t
	}
	for range 6 {
		r := 1 + a*t + b*t*t + c*(t-100)*t*t*t
		slope := a + 2*b*t + c*(4*t-300)*t*t
		t -= (r - ratio) / slope
	}
	return t
}

// sleep does nothing: the bias is off between readings.
func (d *max31865Device) sleep() error { return nil }
