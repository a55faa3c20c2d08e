package filter

import (
	"cmp"
	"fmt"
	"math"
	"slices"

	"fieldpost/sensors"
)

// derivation is a quantity that is calculated from others.
type derivation struct {
	sensors.Quantity
	from []sensors.Quantity // what it needs, by name and unit
	// of calculates it from the values of from and the altitude in m. The result is not
	// finite if there is none.
	of     func(v []float64, altitude float64) float64
	digits int // after the decimal point, as precise as the formula deserves
}

var (
	temperature = sensors.Quantity{Name: "temperature", Unit: "Cel"}
	humidity    = sensors.Quantity{Name: "humidity", Unit: "%"}
	pressure    = sensors.Quantity{Name: "pressure", Unit: "Pa"}
)

var derivations = []derivation{
	{Quantity: derived("dew_point", "Cel"), from: []sensors.Quantity{temperature, humidity}, of: dewPoint, digits: 2},
	{Quantity: derived("absolute_humidity", "g/m3"), from: []sensors.Quantity{temperature, humidity}, of: absoluteHumidity, digits: 2},
	{Quantity: derived("sea_level_pressure", "Pa"), from: []sensors.Quantity{pressure}, of: seaLevelPressure, digits: 0},
}

func derived(name, unit string) sensors.Quantity {
	return sensors.Quantity{Name: name, Unit: unit, Min: math.Inf(-1), Max: math.Inf(1)}
}

// Derived returns the quantities that can be derived.
func Derived() (all []sensors.Quantity) {
	for _, d := range derivations {
		all = append(all, d.Quantity)
	}
	return all
}

// The saturation vapour pressure over water is 6.112 hPa·exp(17.62·t/(243.12 °C + t)) for -45 to
// 60 °C (WMO-No. 8, Guide to Instruments and Methods of Observation, 2018 edition, volume I, annex
// 4.B).
const (
	magnusHPa = 6.112
	magnusA   = 17.62
	magnusB   = 243.12 // °C
)

// dewPoint is the temperature at which the vapour pressure is the saturation vapour pressure: that
// formula solved for t. In dry air there is none.
func dewPoint(v []float64, _ float64) float64 {
	x := math.Log(v[1]/100) + magnusA*v[0]/(magnusB+v[0])
	return magnusB * x / (magnusA - x)
}

// absoluteHumidity is the mass of water in a volume of air, by the law of ideal gases: e·M/(R·T),
// with M of water 18.01528 g/mol and R 8.314462618 J/(mol·K) (CODATA 2018).
func absoluteHumidity(v []float64, _ float64) float64 {
	e := v[1] * magnusHPa * math.Exp(magnusA*v[0]/(magnusB+v[0])) // Pa: % of hPa
	return e * 18.01528 / (8.314462618 * (v[0] + 273.15))
}

// seaLevelPressure is the pressure at sea level in the standard atmosphere, which has 15 °C there
// and 6.5 K less for each km (U.S. Standard Atmosphere, 1976, equation 33a):
// p·(1 - 0.0065·h/288.15)^-5.25588. It is what aviation calls QNH, and needs no temperature.
func seaLevelPressure(v []float64, altitude float64) float64 {
	return v[0] * math.Pow(1-0.0065*altitude/288.15, -5.25588)
}

func derivationOf(name string) (derivation, bool) {
	i := slices.IndexFunc(derivations, func(d derivation) bool { return d.Name == name })
	if i < 0 {
		return derivation{}, false
	}
	return derivations[i], true
}

// derive adds the derived values to those of a reading. One for which a value is missing, or that
// does not exist, is left out.
func derive(c sensors.Config, fields []sensors.Field) []sensors.Field {
	measured := fields
	for _, name := range c.Derive {
		d, known := derivationOf(name)
		if !known {
			continue // Check refuses it
		}
		var from []float64
		for _, q := range d.from {
			i := slices.IndexFunc(measured, func(f sensors.Field) bool { return f.Name == q.Name })
			if i < 0 {
				break
			}
			if x, isNumber := number(measured[i].Value); isNumber {
				from = append(from, x)
			}
		}
		if len(from) < len(d.from) {
			continue
		}
		y := d.of(from, c.Altitude)
		if math.IsNaN(y) || math.IsInf(y, 0) {
			continue
		}
		fields = append(fields, sensors.Field{Name: name, Value: cmp.Or(round(d.digits)(y), 0)}) // never -0
	}
	return fields
}

// derivations checks what a sensor derives from the quantities that it has after its filters.
func (k *checker) derivations(c sensors.Config) {
	altitude := false
	for i, name := range c.Derive {
		d, known := derivationOf(name)
		if !known {
			continue // its rule has refused it
		}
		path := fmt.Sprintf("derive[%d]", i)
		fail := func(reason string) { k.problems = append(k.problems, Problem{path, reason, name}) }
		altitude = altitude || name == "sea_level_pressure"
		if slices.Contains(c.Derive[:i], name) {
			fail("is there already")
			continue
		}
		if slices.ContainsFunc(k.measured, func(q sensors.Quantity) bool { return q.Name == name }) {
			fail("is the name of another quantity of this sensor")
			continue
		}
		for _, want := range d.from {
			at := slices.IndexFunc(k.measured, func(q sensors.Quantity) bool { return q.Name == want.Name })
			if at < 0 || slices.Contains(k.gone, want.Name) && k.chip.Channels {
				fail(fmt.Sprintf("needs %s; the sensor has %s", want.Name, list(namesOf(k.measured))))
				break
			}
			if unit := k.measured[at].Unit; unit != want.Unit {
				fail(fmt.Sprintf("needs %s in %s, not in %s", want.Name, want.Unit, unit))
				break
			}
		}
	}
	switch given := k.given("altitude"); {
	case altitude && !given:
		k.problems = append(k.problems, Problem{"altitude", "is missing; sea_level_pressure needs it, in metres above the sea", ""})
	case !altitude && given:
		k.problems = append(k.problems, Problem{"altitude", "does nothing without derive: [sea_level_pressure]", ""})
	}
}
