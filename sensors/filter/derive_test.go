package filter

import (
	"fmt"
	"math"
	"os"
	"slices"
	"strings"
	"testing"

	"fieldpost/sensors"
)

func air(t, h, p float64) []sensors.Field {
	return []sensors.Field{{Name: "temperature", Value: t}, {Name: "humidity", Value: h}, {Name: "pressure", Value: p}}
}

func deriving(altitude float64, names ...string) sensors.Config {
	return sensors.Config{Derive: names, Altitude: altitude}
}

// The formulas against figures that were not calculated with them. Dew points: saturated air has its
// own temperature. Pressures: the tables of the U.S. Standard Atmosphere, 1976. Absolute humidity of
// saturated air: the tables of vapour density, 17.3 g/m³ at 20 °C, 4.85 at 0 °C, 30.4 at 30 °C,
// to 0.6 %.
func TestFormulas(t *testing.T) {
	for _, x := range []float64{-40, -10, 0, 20.5, 60} {
		if y := dewPoint([]float64{x, 100}, 0); math.Abs(y-x) > 1e-9 {
			t.Errorf("the dew point of saturated air of %v °C is %v", x, y)
		}
	}
	for x, want := range map[float64]float64{0: 4.85, 20: 17.3, 30: 30.4} {
		if y := absoluteHumidity([]float64{x, 100}, 0); math.Abs(y-want) > 0.006*want {
			t.Errorf("saturated air of %v °C has %v g/m³, want %v", x, y, want)
		}
	}
	for h, p := range map[float64]float64{0: 101325, 1000: 89874.6, 2000: 79495.2, 5000: 54019.9} {
		if y := seaLevelPressure([]float64{p}, h); math.Abs(y-101325) > 3 {
			t.Errorf("%v Pa at %v m are %v at sea level", p, h, y)
		}
	}
	last := -300.0
	for h := 1.0; h <= 100; h++ { // more humid air has a higher dew point
		y := dewPoint([]float64{20, h}, 0)
		if y <= last || y > 20+1e-9 {
			t.Errorf("%v at %v %%", y, h)
		}
		last = y
	}
}

// The table in sensors/README.md is what is derived.
func TestDerivedExample(t *testing.T) {
	all := []string{}
	for _, q := range Derived() {
		all = append(all, q.Name)
	}
	fields, _, err := New(deriving(320, all...), 1).Apply(0, air(20, 50, 97500))
	if err != nil || len(fields) != 6 {
		t.Fatal(fields, err)
	}
	row := "| 20 °C, 50 %, 97500 Pa |"
	for _, f := range fields[3:] {
		row += fmt.Sprintf(" %v |", f.Value)
	}
	text, err := os.ReadFile("../README.md")
	if err != nil || !strings.Contains(string(text), "| measured | "+strings.Join(all, " | ")+" at 320 m |\n|---|---|---|---|\n"+row+"\n") {
		t.Errorf("sensors/README.md does not have: %s", row)
	}
}

// Derived values follow the filters, and are left out where there is none. Nothing is ever not a
// number.
func TestDerive(t *testing.T) {
	c := deriving(0, "dew_point", "sea_level_pressure")
	c.Filters = []sensors.Filter{with("offset", func(f *sensors.Filter) { f.Quantity, f.By = "temperature", 5 })}
	fields, _, err := New(c, 1).Apply(0, air(15, 100, 101325))
	if err != nil || fields[3].Name != "dew_point" || fields[3].Value != 20.0 || fields[4].Value != 101325.0 {
		t.Error(fields, err)
	}
	for _, h := range []float64{0, -1, math.SmallestNonzeroFloat64, 100, 200} {
		for _, x := range []float64{-300, -273.15, -243.12, -80, 0, 85, 1e300} {
			fields, _, err := New(deriving(9000, "dew_point", "absolute_humidity", "sea_level_pressure"), 1).Apply(0, air(x, h, 3e4))
			for _, f := range fields {
				if y := f.Value.(float64); err != nil || math.IsNaN(y) || math.IsInf(y, 0) {
					t.Errorf("%v at %v °C, %v %%: %v", f, x, h, err)
				}
			}
			if dry := h <= 0; dry != !slices.ContainsFunc(fields, func(f sensors.Field) bool { return f.Name == "dew_point" }) && x > -200 && x < 100 && h > 1e-300 {
				t.Errorf("the dew point at %v °C, %v %%: %v", x, h, fields)
			}
		}
	}
	some := New(deriving(0, "dew_point"), 1)
	if fields, _, err := some.Apply(0, air(20, 50, 0)[:1]); err != nil || len(fields) != 1 {
		t.Error("without a humidity", fields, err)
	}
	if err := some.Fits([]sensors.Quantity{temperature}); err == nil || err.Error() != "derive[0], dew_point: the sensor has no humidity; it has temperature" {
		t.Error(err)
	}
	if err := some.Fits([]sensors.Quantity{temperature, humidity}); err != nil {
		t.Error(err)
	}
	got := Quantities(sensors.Chip{Quantities: []sensors.Quantity{temperature, humidity}}, deriving(0, "dew_point"))
	if len(got) != 3 || got[2].Name != "dew_point" || got[2].Unit != "Cel" {
		t.Error(got)
	}
}

// Values that the catalog does not know have their units here.
func TestUnits(t *testing.T) {
	c := deriving(0, "dew_point")
	c.Filters = []sensors.Filter{with("round", nil), with("scale", func(f *sensors.Filter) { f.Quantity, f.By, f.As, f.Unit = "pressure", 0.01, "p", "hPa" })}
	if got := fmt.Sprint(Units(c)); got != "map[dew_point:Cel p:hPa]" {
		t.Error(got)
	}
	if got := Units(sensors.Config{}); got != nil {
		t.Error(got)
	}
}
