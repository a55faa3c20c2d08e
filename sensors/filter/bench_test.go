package filter

import (
	"testing"
	"time"

	"fieldpost/sensors"
)

// What each filter costs a reading of three quantities, and what three of them together do.
func BenchmarkApply(b *testing.B) {
	one := func(f sensors.Filter) []sensors.Filter { return []sensors.Filter{f} }
	points := [][]float64{{0, 0.4}, {20, 20}, {100, 99}}
	for _, c := range []struct {
		name    string
		filters []sensors.Filter
	}{
		{"none", nil},
		{"median", one(sensors.Filter{Filter: "median", Window: 5})},
		{"median of 100", one(sensors.Filter{Filter: "median", Window: 100, Quantity: "temperature"})},
		{"mean", one(sensors.Filter{Filter: "mean", Window: 5})},
		{"ema", one(sensors.Filter{Filter: "ema", Alpha: 0.2})},
		{"scale", one(sensors.Filter{Filter: "scale", By: 1.8, Quantity: "temperature"})},
		{"offset", one(sensors.Filter{Filter: "offset", By: -0.7, Quantity: "temperature"})},
		{"calibrate", one(sensors.Filter{Filter: "calibrate", Points: points, Quantity: "temperature"})},
		{"calibrate of degree 2", one(sensors.Filter{Filter: "calibrate", Points: points, Degree: 2, Quantity: "temperature"})},
		{"clamp", one(sensors.Filter{Filter: "clamp", Min: 0, Max: 50, Quantity: "temperature"})},
		{"reject", one(sensors.Filter{Filter: "reject", Min: -20, Max: 60, Quantity: "temperature"})},
		{"round", one(sensors.Filter{Filter: "round", Digits: 1})},
		{"delta", one(sensors.Filter{Filter: "delta", By: 0.2, Heartbeat: time.Hour, Quantity: "temperature"})},
		{"median, ema, round", []sensors.Filter{{Filter: "median", Window: 3}, {Filter: "ema", Alpha: 0.2}, {Filter: "round", Digits: 1}}},
	} {
		b.Run(c.name, func(b *testing.B) {
			b.ReportAllocs()
			chain := New(sensors.Config{Chip: "bme280", Filters: c.filters}, time.Second)
			fields := []sensors.Field{{Name: "temperature"}, {Name: "humidity"}, {Name: "pressure"}}
			at := time.Duration(0)
			for b.Loop() {
				at += time.Second
				x := float64(at / time.Second % 7)
				fields[0].Value, fields[1].Value, fields[2].Value = 20+x, 40+x, 101300+x
				if _, _, err := chain.Apply(at, fields); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
