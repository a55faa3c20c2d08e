package sensors

import (
	"fmt"
	"slices"
	"time"

	"fieldpost/sensors/option"
)

// Texas Instruments' ADS1115 and ADS1015: four analog inputs of 16 and 12 bits.
//
// Sources: SBAS444D (ADS1115, January 2018) and SBAS473E (ADS1015, January 2018):
// configuration register table 8, ranges table 3, examples table 9.
//
// Each input is converted separately (single shot): select the input, wait for bit OS,
// read the value. So a value is never that of another input. The configuration is read
// after the value. The comparator is switched off. Bit COMP_LAT, which only the
// comparator uses, is set, so that the configuration differs from that after power-on. A
// value at the end of the range may stand for any voltage beyond it, and is a fault.

// ADS1115 are the keys of an ADS1115 or ADS1015.
type ADS1115 struct {
	I2C
	// Channels are the inputs to read: 0, 2 or 0-3. All four, unless given.
	Channels Channels `yaml:"channels"`
	// Range is the range of the voltages at the inputs, from -range to +range: 6.144,
	// 4.096, 2.048, 1.024, 0.512 or 0.256 V. No input may have more than the chip's
	// supply.
	Range float64 `yaml:"range"`
	// Scale is the factor by which the voltage at the input is multiplied, for a voltage
	// divider: 11 for 100 kOhm above 10 kOhm.
	Scale float64 `yaml:"scale"`
}

var adsAddresses = []uint16{0x48, 0x49, 0x4A, 0x4B}

// adsRanges are the ranges in volts, by the bits PGA.
var adsRanges = []float64{6.144, 4.096, 2.048, 1.024, 0.512, 0.256}

func adsRules() map[string]option.Rule {
	rules := i2cRules(adsAddresses)
	rules["channels"] = option.Rule{Wants: "channels such as 0-3 or 0, 2", Check: func(v any) string {
		if c := v.(Channels); c == 0 || c > 0x0F {
			return "want channels 0 to 3"
		}
		return ""
	}}
	rules["range"] = option.Rule{Wants: "a number of volts such as 4.096", Check: func(v any) string {
		if !slices.Contains(adsRanges, v.(float64)) {
			return "want 6.144, 4.096, 2.048, 1.024, 0.512 or 0.256"
		}
		return ""
	}}
	rules["scale"] = option.Rule{Wants: "a number such as 11", Check: option.Between(0.001, 1000.0, volts)}
	return rules
}

func adsChip(name, title, source string, bits int) Chip {
	return deviceWith(Chip{
		Name: name, Title: title, Source: source, Addresses: adsAddresses,
		Options:    option.Set{Defaults: ADS1115{I2C{Address: adsAddresses[0]}, 0x0F, 4.096, 1}, Rules: adsRules()},
		Quantities: []Quantity{{Name: "voltage", Unit: "V", Min: -6144, Max: 6144}},
		Channels:   true,
		Worst:      200 * time.Millisecond,
	}, func(w *wire, o ADS1115) (device, []Quantity) { return newADS(w, o, bits) })
}

var (
	ads1115 = adsChip("ads1115", "Texas Instruments ADS1115: four analog inputs of 16 bits", "SBAS444D", 16)
	ads1015 = adsChip("ads1015", "Texas Instruments ADS1015: four analog inputs of 12 bits", "SBAS473E", 12)
)

const (
	adsConversion = 0
	adsConfig     = 1

	adsOS     = 1 << 15 // write: start a conversion; read: no conversion is running
	adsSingle = 4 << 12 // MUX: AIN0 against GND; 1 more for the next
	adsPGA    = 9       // the lowest bit
	adsOnce   = 1 << 8  // MODE
	adsRate   = 4 << 5  // DR: 128 a second, of an ADS1015 1600
	adsLatch  = 1 << 2  // COMP_LAT
	adsOff    = 3       // COMP_QUE: no comparator
)

type adsDevice struct {
	*wire
	channels   []int
	pga        uint16
	full       float64 // the range
	scale      float64
	unusedBits int
	takes      time.Duration
}

func newADS(w *wire, o ADS1115, bits int) (device, []Quantity) {
	d := &adsDevice{wire: w, pga: uint16(max(0, slices.Index(adsRanges, o.Range))), full: o.Range, scale: o.Scale, unusedBits: 16 - bits}
	d.takes = 8600 * time.Microsecond // 1/128 s and 10 %
	if bits == 12 {
		d.takes = 700 * time.Microsecond
	}
	var quantities []Quantity
	for n := range 4 {
		if o.Channels>>n&1 == 1 {
			d.channels = append(d.channels, n)
			quantities = append(quantities, Quantity{Name: fmt.Sprintf("voltage_%d", n), Unit: "V", Min: -o.Range * o.Scale, Max: o.Range * o.Scale})
		}
	}
	return d, quantities
}

// setup configures the chip. It has no identity, but a register that keeps what is
// written to it.
func (d *adsDevice) setup() error {
	conf := d.conf(0)
	if err := d.setWord(adsConfig, conf); err != nil {
		return err
	}
	got, err := d.word(adsConfig)
	if err == nil && got&^adsOS != conf {
		err = faultf("configuration %#04x is not what was set (%#04x): the chip is no ADS1115 or ADS1015", got, conf)
	}
	return err
}

func (d *adsDevice) conf(channel int) uint16 {
	return adsSingle + uint16(channel)<<12 | d.pga<<adsPGA | adsOnce | adsRate | adsLatch | adsOff
}

func (d *adsDevice) measure() ([]float64, error) {
	v := make([]float64, len(d.channels))
	for i, n := range d.channels {
		code, err := d.convert(n)
		if err != nil {
			return nil, err
		}
		if v[i], err = d.volts(code); err != nil {
			return nil, fmt.Errorf("input %d: %w", n, err)
		}
	}
	return v, nil
}

func (d *adsDevice) convert(channel int) (uint16, error) {
	conf := d.conf(channel)
	held := func(v uint16) (bool, error) {
		if v&^adsOS != conf {
			return false, lostSetup("configuration", v&^adsOS, conf)
		}
		return v&adsOS != 0, nil
	}
	if err := d.setWord(adsConfig, conf|adsOS); err != nil {
		return 0, err
	}
	d.pause(d.takes)
	if err := d.await(adsConfig, time.Millisecond, 5, held); err != nil {
		return 0, err
	}
	code, err := d.word(adsConversion)
	if err != nil {
		return 0, err
	}
	now, err := d.word(adsConfig)
	if err == nil {
		_, err = held(now)
	}
	return code, err
}

// volts converts a code.
func (d *adsDevice) volts(code uint16) (float64, error) {
	steps, full := int(int16(code))>>d.unusedBits, 1<<(15-d.unusedBits)
	if steps == full-1 || steps == -full {
		return 0, faultf("the voltage is beyond the range of %g V", d.full)
	}
	return round(float64(steps)/float64(full)*d.full*d.scale, 1e-6), nil
}

// sleep does nothing: the chip powers down after each conversion.
func (d *adsDevice) sleep() error { return nil }
