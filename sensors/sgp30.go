package sensors

import (
	"math"
	"time"

	"fieldpost/sensors/option"
)

// Sensirion's SGP30: volatile organic compounds, and an equivalent of carbon dioxide that is
// derived from them.
//
// Source: SGP30 data sheet, version 0.9, August 2017, page 8 (the algorithm and its baseline) and
// table 10 (commands).
//
// The chip compares the air with a baseline of its own, and needs a measurement every second to
// keep it. So the sensor must be read every second; a filter delta sends less. After its power-on
// it needs 12 hours until the baseline is good. Open takes the baseline over that the chip has,
// so a restart of the daemon does not cost those hours.
//
// A chip that is not initialised has a baseline of 0, and so has one that was initialised less
// than 15 s ago, which measures 400 ppm and 0 ppb all the time. So a baseline of 0 later than
// that means that the chip lost its power or was exchanged. The driver reads it with every value.

// SGP30 are the keys of an SGP30.
type SGP30 struct {
	I2C
	// Temperature is the usual one of the air at the chip in degrees Celsius, for the
	// compensation of humidity.
	Temperature float64 `yaml:"temperature"`
	// Humidity is the usual one of the air at the chip in percent; 0 is no compensation.
	Humidity float64 `yaml:"humidity"`
}

var sgp30 = deviceWith(Chip{
	Name:      "sgp30",
	Title:     "Sensirion SGP30: volatile organic compounds",
	Source:    "SGP30 data sheet, version 0.9, August 2017",
	Options:   option.Set{Defaults: SGP30{I2C: I2C{Address: 0x58}, Temperature: 25}, Rules: airRules(0x58)},
	Addresses: []uint16{0x58},
	Quantities: []Quantity{
		{Name: "tvoc", Unit: "[ppb]", Min: 0, Max: 60000},
		{Name: "eco2", Unit: "[ppm]", Min: 400, Max: 60000},
	},
	Every: time.Second, EveryMost: time.Second, Worst: 200 * time.Millisecond, WarmUp: 20 * time.Second,
}, func(w *wire, o SGP30) (device, []Quantity) {
	return &sgp30Device{words: words{w, sgp30Features}, humidity: gramsWord(o.Temperature, o.Humidity)}, sgp30Quantities
})

var sgp30Quantities = []Quantity{
	{Name: "tvoc", Unit: "[ppb]", Min: 0, Max: 60000},
	{Name: "eco2", Unit: "[ppm]", Min: 400, Max: 60000},
}

// airRules are the rules of a gas sensor at one address, for the usual air at it.
func airRules(addr uint16) map[string]option.Rule {
	rules := i2cRules([]uint16{addr})
	rules["temperature"] = option.Rule{Wants: "degrees Celsius such as 21", Check: option.Between(-20.0, 55, volts)}
	rules["humidity"] = option.Rule{Wants: "percent such as 50", Check: option.Between(0.0, 100, volts)}
	return rules
}

const (
	sgp30Init         = 0x2003 // Init_air_quality
	sgp30Measure      = 0x2008 // Measure_air_quality
	sgp30Baseline     = 0x2015 // Get_baseline
	sgp30SetBaseline  = 0x201E // Set_baseline, with the two words in the other order
	sgp30SetHumidity  = 0x2061
	sgp30Features     = 0x202F // Get_feature_set_version
	sgp30Within       = 12 * time.Millisecond
	sgp30Initialising = 15 * time.Second
)

type sgp30Device struct {
	words
	humidity uint16    // g/m³, 8.8 bits; 0: none
	usable   time.Time // values before this time are fixed
}

// gramsWord returns the absolute humidity as the chip wants it.
func gramsWord(celsius, percent float64) uint16 {
	pressure := percent / 100 * 6.112 * math.Exp(17.62*celsius/(243.12+celsius)) // hPa
	return uint16(min(math.Round(216.7*pressure/(273.15+celsius)*256), math.MaxUint16))
}

func (d *sgp30Device) setup() error {
	features, err := d.ask(sgp30Features, sgp30Within, 1)
	switch {
	case err != nil:
		return err
	case features[0]>>12 != 0 || features[0]&0xFF == 0:
		return faultf("its feature set is %#04x: it is no SGP30", features[0])
	}
	old, err := d.ask(sgp30Baseline, sgp30Within, 2)
	if err != nil {
		return err
	}
	if err := d.command(sgp30Init); err != nil {
		return err
	}
	d.pause(sgp30Within)
	if old[0] != 0 && old[1] != 0 {
		if err := d.command(sgp30SetBaseline, old[1], old[0]); err != nil {
			return err
		}
		d.pause(sgp30Within)
	}
	d.usable = time.Now().Add(sgp30Initialising)
	if d.humidity == 0 {
		return nil
	}
	err = d.command(sgp30SetHumidity, d.humidity)
	d.pause(sgp30Within)
	return err
}

func (d *sgp30Device) measure() ([]float64, error) {
	v, err := d.ask(sgp30Measure, sgp30Within, 2)
	if err != nil {
		return nil, err
	}
	baseline, err := d.ask(sgp30Baseline, sgp30Within, 2)
	switch initialised := baseline != nil && baseline[0]|baseline[1] != 0; {
	case err != nil:
		return nil, err
	case time.Now().Before(d.usable):
		return nil, ErrNotReady
	case !initialised:
		return nil, faultf("its baseline is 0: the chip lost its power or was exchanged")
	}
	return []float64{float64(v[1]), float64(v[0])}, nil
}

// sleep leaves the chip as it is: without power it would lose its baseline.
func (d *sgp30Device) sleep() error { return nil }
