package sensors

import (
	"math"
	"time"

	"fieldpost/sensors/option"
)

// Sensirion's SGP40 (volatile organic compounds) and SGP41 (and nitrogen oxides).
//
// Sources: SGP40 data sheet, version 1.0, July 2020, section 3.1 and tables 9 to 14; SGP41 data
// sheet, version 1.0, December 2021, section 3 (conditioning). The feature set's number, which
// tells the two apart, is not in them; it is as ESPHome has it.
//
// The values are raw: ticks, proportional to the logarithm of the resistance of the sensing
// element. Fewer ticks are more of the gas for the SGP40's, more ticks for nitrogen oxides. What
// is much or little only a comparison with the hours before says; Sensirion's gas index algorithm
// does that, and this driver does not have it.
//
// The air's humidity and temperature go with each command, so the chip has no settings to lose.
// The first value after the hotplate was switched on is no value (data sheet, 3.1). A driver does
// not see that the chip lost its power, so it measures twice and returns the second value.

// SGP4x are the keys of an SGP40 or SGP41.
type SGP4x struct {
	I2C
	// Temperature is the usual one of the air at the chip in degrees Celsius. With 25 and a
	// humidity of 50 the chip does not compensate.
	Temperature float64 `yaml:"temperature"`
	// Humidity is the usual one of the air at the chip in percent.
	Humidity float64 `yaml:"humidity"`
}

var (
	sgp40 = sgp4xChip("sgp40", "Sensirion SGP40: volatile organic compounds, raw", "SGP40 data sheet, version 1.0, July 2020", 0, []Quantity{
		{Name: "voc_raw", Unit: "{tick}", Min: 1, Max: 65534},
	}, sgp4x{features: 0x20, measures: 0x260F, takes: 30 * time.Millisecond})
	sgp41 = sgp4xChip("sgp41", "Sensirion SGP41: volatile organic compounds and nitrogen oxides, raw", "SGP41 data sheet, version 1.0, December 2021", 12*time.Second, []Quantity{
		{Name: "voc_raw", Unit: "{tick}", Min: 1, Max: 65534},
		{Name: "nox_raw", Unit: "{tick}", Min: 1, Max: 65534},
	}, sgp4x{features: 0x40, measures: 0x2619, takes: 50 * time.Millisecond, conditions: true})
)

const (
	sgp4xConditioning = 0x2612 // sgp41_execute_conditioning, 10 s at most
	sgp4xHeaterOff    = 0x3615
	sgp4xFeatures     = 0x202F
	sgp4xSerial       = 0x3682
	sgp4xConditioned  = 9 * time.Second
)

// sgp4x is one kind of these chips.
type sgp4x struct {
	features   uint16 // the low nine bits
	measures   uint16 // command
	takes      time.Duration
	conditions bool // it must be conditioned after power-on
}

func sgp4xChip(name, title, source string, warmUp time.Duration, quantities []Quantity, kind sgp4x) Chip {
	return deviceWith(Chip{
		Name: name, Title: title, Source: source,
		Options:    option.Set{Defaults: SGP4x{I2C: I2C{Address: 0x59}, Temperature: 25, Humidity: 50}, Rules: airRules(0x59)},
		Addresses:  []uint16{0x59},
		Quantities: quantities,
		Worst:      500 * time.Millisecond, WarmUp: warmUp,
	}, func(w *wire, o SGP4x) (device, []Quantity) {
		air := [2]uint16{sgpWord(o.Humidity / 100), sgpWord((o.Temperature + 45) / 175)} // table 10
		return &sgp4xDevice{words: words{w, sgp4xFeatures}, sgp4x: kind, air: air, n: len(quantities)}, quantities
	})
}

// sgpWord is a part of the whole as a word.
func sgpWord(part float64) uint16 { return uint16(math.Round(max(0, min(1, part)) * 65535)) }

type sgp4xDevice struct {
	words
	sgp4x
	air    [2]uint16
	n      int
	usable time.Time
}

func (d *sgp4xDevice) setup() error {
	features, err := d.ask(sgp4xFeatures, time.Millisecond, 1)
	if err != nil {
		return err
	}
	if features[0]&0x1FF != d.features {
		return faultf("its feature set is %#04x (want %#03x in the low nine bits): it is another chip, such as the other one of SGP40 and SGP41", features[0], d.features)
	}
	serial, err := d.ask(sgp4xSerial, time.Millisecond, 3)
	if err != nil {
		return err
	}
	if serial[0]|serial[1]|serial[2] == 0 {
		return faultf("its serial number is 0")
	}
	if d.conditions {
		d.usable = time.Now().Add(sgp4xConditioned)
	}
	return nil
}

func (d *sgp4xDevice) measure() ([]float64, error) {
	if time.Now().Before(d.usable) {
		if _, err := d.ask(sgp4xConditioning, d.takes, 1, d.air[:]...); err != nil {
			return nil, err
		}
		return nil, ErrNotReady
	}
	var values []float64
	for range 2 {
		v, err := d.ask(d.measures, d.takes, d.n, d.air[:]...)
		if err != nil {
			return nil, err
		}
		values = values[:0]
		for _, x := range v {
			values = append(values, float64(x))
		}
	}
	return values, nil
}

// sleep switches the hotplate off.
func (d *sgp4xDevice) sleep() error { return d.command(sgp4xHeaterOff) }
