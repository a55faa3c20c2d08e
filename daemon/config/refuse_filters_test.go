package config

import (
	"fmt"
	"math"
	"reflect"
	"strings"
	"testing"
	"time"

	"fieldpost/sensors"
)

// filtered is a sensor of a chip with filters, on line 5 of the file after base.
func filtered(chip, filters string) string {
	keys := map[string]string{"bme280": ", bus: i2c-1", "ads1115": ", bus: i2c-1", "gpio": ", pin: GPIO17", "hwmon": ", device: ina219"}[chip]
	return "sensors: [{name: a, chip: " + chip + keys + ", every: 10s, filters: " + filters + "}]\n"
}

// refusedFilters are filters that cannot be.
var refusedFilters = func() (all []refusal) {
	for _, tt := range []struct{ chip, filters, want string }{
		{"thermal", "[{window: 3}]", "[0].filter: is missing"},
		{"thermal", "median", `: want a list, each entry after "- ", not a single value`},
		{"thermal", "[median]", "[0]: want keys with values, not a single value"},
		{"thermal", "[{filter: kalman}]", "[0].filter: unknown filter, want one of median, mean, ema, scale, offset, calibrate, clamp, reject, round, delta (got kalman)"},
		{"thermal", "[{filter: median, windwo: 3}]", `[0]: unknown key "windwo", did you mean "window"?`},
		{"thermal", "[{filter: median}]", "[0].window: is missing; filter median needs it"},
		{"thermal", "[{filter: median, window: 1}]", "[0].window: want 2 to 100 values (got 1)"},
		{"thermal", "[{filter: mean, window: 101}]", "[0].window: want 2 to 100 values (got 101)"},
		{"thermal", "[{filter: median, window: 50}, {filter: mean, window: 51}]", "[1].window: makes the windows of this sensor 101 values together, want at most 100 (got 51)"},
		{"thermal", "[{filter: mean, window: 2.5}]", "[0].window: want a whole number, such as 118 or 0x76 (got 2.5)"},
		{"thermal", "[{filter: mean, window: 2, alpha: 0.1}]", "[0].alpha: filter mean does not have this key; it has quantity, window"},
		{"thermal", "[{filter: ema, alpha: 1}]", "[0].alpha: want more than 0 and less than 1; a smaller one smooths more (got 1)"},
		{"thermal", "[{filter: ema, alpha: .nan}]", "[0].alpha: want a number (got .nan)"},
		{"thermal", "[{filter: scale, by: inf}]", "[0].by: want a number (got inf)"},
		{"thermal", "[{filter: scale, by: 0}]", "[0].by: makes every value 0 (got 0)"},
		{"thermal", "[{filter: offset, by: 0}]", "[0].by: does nothing; leave the filter out (got 0)"},
		{"thermal", "[{filter: calibrate, points: [[0, 1]]}]", "[0].points: want 2 to 64 points, each [measured, true], not 1"},
		{"thermal", "[{filter: calibrate, points: [0, [1, 2]]}]", `[0].points[0]: want a list, each entry after "- ", not a single value`},
		{"thermal", "[{filter: calibrate, points: [[0, 1], [1]]}]", "[0].points[1]: want two numbers, [measured, true], not 1"},
		{"thermal", "[{filter: calibrate, points: [[0, 1], [5, 2], [5, 3]]}]", "[0].points[2]: its measured value must be greater than that of the point before, 5 (got 5)"},
		{"thermal", "[{filter: calibrate, points: [[0, 1], [5, 2]], degree: 2}]", "[0].degree: needs at least 3 points, not 2 (got 2)"},
		{"thermal", "[{filter: calibrate, points: [[0, 1], [5, 2]], degree: 4}]", "[0].degree: want 1, for a straight line, to 3 (got 4)"},
		{"thermal", "[{filter: calibrate, points: [[0, -1e308], [1, 1e308]]}]", "[0].points: the points are too far apart to calculate with"},
		{"thermal", "[{filter: clamp}]", "[0]: has neither min nor max, so it does nothing"},
		{"thermal", "[{filter: reject, min: 50, max: 0}]", "[0].max: want more than min, which is 50 (got 0)"},
		{"thermal", "[{filter: round, digits: 10}]", "[0].digits: want 0 to 9 (got 10)"},
		{"thermal", "[{filter: delta, by: -1}]", "[0].by: want 0, for every change, or more (got -1)"},
		{"thermal", "[{filter: delta, heartbeat: 5}]", "[0].heartbeat: write a unit: 5s for seconds, 5m for minutes, 5h for hours (got 5)"},
		{"thermal", "[{filter: delta, heartbeat: 5s}]", "[0].heartbeat: is shorter than every (10s), so delta would keep nothing back (got 5s)"},
		{"bme280", "[{filter: round, digits: 1, quantity: temprature}]", "[0].quantity: chip bme280 does not measure this; here it has temperature, humidity and pressure (got temprature)"},
		{"bme280", "[{filter: offset, by: 1}]", "[0].quantity: is missing: temperature, humidity and pressure have different units, and filter offset is for one"},
		{"bme280", "[{filter: delta, by: 1}]", "[0].quantity: is missing: temperature, humidity and pressure have different units, and filter delta is for one"},
		{"gpio", "[{filter: median, window: 3}]", "[0].filter: needs a number, and chip gpio has only active (got median)"},
		{"gpio", "[{filter: scale, by: 2, quantity: active}]", "[0].quantity: is true or false; filter scale needs a number (got active)"},
		{"ads1115", "[{filter: scale, by: 2, as: level, unit: cm}]", "[0].quantity: is missing: as gives a name to one quantity"},
		{"ads1115", "[{filter: scale, by: 2, quantity: voltage_0, unit: cm}]", "[0].as: is missing: with another unit the quantity needs another name, because receivers know the unit by the name"},
		{"ads1115", "[{filter: scale, by: 2, quantity: voltage_0, as: level}]", `[0].unit: is missing: want the UCUM code of level, such as "%" or L/min, or "1" for a plain number`},
		{"ads1115", "[{filter: scale, by: 2, quantity: voltage_0, as: seq, unit: cm}]", "[0].as: is a key that messages have already; choose another name (got seq)"},
		{"ads1115", "[{filter: scale, by: 2, quantity: voltage_0, as: voltage_1, unit: mV}]", "[0].as: chip ads1115 has a quantity of this name; choose another name (got voltage_1)"},
		{"ads1115", "[{filter: scale, by: 2, quantity: voltage_0, as: Level, unit: cm}]", "[0].as: want a name of at most 40 of the characters a-z 0-9 _, the first one a letter (got Level)"},
		{"ads1115", "[{filter: scale, by: 2, quantity: voltage_0, as: level, unit: 'c m'}]", "[0].unit: want a UCUM code: at most 16 ASCII characters without spaces (got c m)"},
		{"ads1115", "[{filter: scale, by: 2, quantity: voltage_0, as: level, unit: cm}, {filter: round, digits: 1, quantity: voltage_0}]", "[1].quantity: has another name since the filter above; use that (got voltage_0)"},
		{"hwmon", "[{filter: scale, by: 2, quantity: voltage_bus, as: voltage_main, unit: V}]", "[0].as: chip hwmon has a quantity of this name; choose another name (got voltage_main)"},
		{"thermal", "[" + strings.Repeat("{filter: offset, by: 1},", 17) + "]", ": want at most 16, not 17"},
	} {
		all = append(all, refusal{tt.chip + " " + tt.filters, filtered(tt.chip, tt.filters), "fieldpost.yaml:5: sensors[0].filters" + tt.want})
	}
	return all
}()

// refusedDerivations are derived values that cannot be.
var refusedDerivations = func() (all []refusal) {
	for _, tt := range []struct{ chip, keys, want string }{
		{"bme280", "derive: dew_point", `derive: want a list, each entry after "- ", not a single value`},
		{"bme280", "derive: [dewpoint]", "derive[0]: want dew_point, absolute_humidity or sea_level_pressure (got dewpoint)"},
		{"bme280", "derive: [dew_point, dew_point]", "derive[1]: is there already (got dew_point)"},
		{"thermal", "derive: [dew_point]", "derive[0]: needs humidity; the sensor has temperature (got dew_point)"},
		{"bme280", "derive: [sea_level_pressure]", "altitude: is missing; sea_level_pressure needs it, in metres above the sea"},
		{"bme280", "derive: [dew_point], altitude: 5", "altitude: does nothing without derive: [sea_level_pressure]"},
		{"bme280", "derive: [sea_level_pressure], altitude: 9001", "altitude: want -500 to 9000 (got 9001)"},
		{"bme280", "derive: [sea_level_pressure], altitude: 320m", "altitude: want a number (got 320m)"},
		{"bme280", "derive: [dew_point], filters: [{filter: scale, quantity: temperature, by: 1.8, as: temperature_f, unit: '[degF]'}]", "derive[0]: needs temperature; the sensor has temperature_f, humidity and pressure (got dew_point)"},
		{"bme280", "derive: [dew_point], filters: [{filter: scale, quantity: temperature, by: 1.8, as: t, unit: '[degF]'}, {filter: offset, quantity: t, by: 32, as: temperature, unit: '[degF]'}]", "derive[0]: needs temperature in Cel, not in [degF] (got dew_point)"},
		{"bme280", "derive: [dew_point], filters: [{filter: scale, quantity: pressure, by: 2, as: dew_point, unit: Cel}]", "derive[0]: is the name of another quantity of this sensor (got dew_point)"},
	} {
		text := strings.Replace(filtered(tt.chip, "[]"), "filters: []", tt.keys, 1)
		all = append(all, refusal{tt.chip + " " + tt.keys, text, "fieldpost.yaml:5: sensors[0]." + tt.want})
	}
	return all
}()

// Each filter of the same sensor has its own mistake, all are told, with their lines.
func TestAllFiltersAreRefusedAtOnce(t *testing.T) {
	got := refused(t, base+"sensors:\n- name: a\n  chip: thermal\n  filters:\n  - {filter: median}\n  - filter: clamp\n    min: 3\n    max: 2\n")
	want := "fieldpost.yaml:9: sensors[0].filters[0].window: is missing; filter median needs it\nfieldpost.yaml:12: sensors[0].filters[1].max: want more than min, which is 3 (got 2)"
	if got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

func TestFiltersAreRead(t *testing.T) {
	c := good(t, base+filtered("ads1115", "[{filter: mean, window: 3}, {filter: calibrate, quantity: voltage_0, points: [[-1.5, 0], [2, 1e2]], degree: 1, as: level, unit: '%'}, {filter: clamp, quantity: level, min: 0}, {filter: delta}]"))
	none, inf := math.Inf(-1), math.Inf(1)
	want := []sensors.Filter{
		{Filter: "mean", Window: 3, Min: none, Max: inf, Heartbeat: time.Hour},
		{Filter: "calibrate", Quantity: "voltage_0", Points: [][]float64{{-1.5, 0}, {2, 100}}, Degree: 1, As: "level", Unit: "%", Min: none, Max: inf, Heartbeat: time.Hour},
		{Filter: "clamp", Quantity: "level", Min: 0, Max: inf, Heartbeat: time.Hour},
		{Filter: "delta", Min: none, Max: inf, Heartbeat: time.Hour},
	}
	if got := c.Sensors[0].Filters; !reflect.DeepEqual(got, want) {
		t.Errorf("got %s, want %s", fmt.Sprint(got), fmt.Sprint(want))
	}
	// Filters of kernel drivers, whose values depend on the device, are checked by their kinds.
	good(t, base+filtered("hwmon", "[{filter: round, digits: 2}, {filter: scale, quantity: voltage_bus, by: 2}, {filter: offset, quantity: power, by: 1, as: load, unit: W}, {filter: clamp, quantity: load, min: 0}]"))
	good(t, base+filtered("gpio", "[{filter: delta, heartbeat: 10m}]"))
	good(t, base+filtered("thermal", "[{filter: scale, by: 1.8}, {filter: offset, by: 32, as: temperature_f, unit: '[degF]'}, {filter: round, digits: 0, quantity: temperature_f}]"))
	good(t, base+filtered("thermal", ""))
	c = good(t, base+strings.Replace(filtered("bme280", "[]"), "filters: []", "derive: [dew_point, sea_level_pressure], altitude: -3.5", 1))
	if s := c.Sensors[0]; !reflect.DeepEqual(s.Derive, []string{"dew_point", "sea_level_pressure"}) || s.Altitude != -3.5 {
		t.Errorf("got %+v", s)
	}
	good(t, base+strings.Replace(filtered("hwmon", "[]"), "filters: []", "derive: [dew_point]", 1))
}
