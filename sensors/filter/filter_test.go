package filter

import (
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"fieldpost/sensors"
)

// with returns a filter with the defaults.
func with(kind string, set func(f *sensors.Filter)) sensors.Filter {
	f := Default
	f.Filter = kind
	if set != nil {
		set(&f)
	}
	return f
}

func chain(filters ...sensors.Filter) *Chain {
	return New(sensors.Config{Filters: filters}, 10*time.Second)
}

// one applies a chain to one value.
func one(t *testing.T, c *Chain, at time.Duration, x any) (y any, kept bool) {
	t.Helper()
	fields, kept, err := c.Apply(at, []sensors.Field{{Name: "temperature", Value: x}})
	if err != nil || len(fields) != 1 {
		t.Fatalf("%v: got %v, %v", x, fields, err)
	}
	return fields[0].Value, kept
}

// examples are the filters of the table in sensors/README.md.
var examples = []struct {
	title string
	f     sensors.Filter
}{
	{"`median`, `window: 3`", with("median", func(f *sensors.Filter) { f.Window = 3 })},
	{"`mean`, `window: 3`", with("mean", func(f *sensors.Filter) { f.Window = 3 })},
	{"`ema`, `alpha: 0.5`", with("ema", func(f *sensors.Filter) { f.Alpha = 0.5 })},
	{"`scale`, `by: 1.8`", with("scale", func(f *sensors.Filter) { f.By = 1.8 })},
	{"`offset`, `by: -0.5`", with("offset", func(f *sensors.Filter) { f.By = -0.5 })},
	{"`calibrate`, `points: [[0, 0.4], [20, 20], [100, 99]]`", with("calibrate", func(f *sensors.Filter) { f.Points = [][]float64{{0, 0.4}, {20, 20}, {100, 99}} })},
	{"the same with `degree: 1`", with("calibrate", func(f *sensors.Filter) {
		f.Points, f.Degree = [][]float64{{0, 0.4}, {20, 20}, {100, 99}}, 1
	})},
	{"`clamp`, `min: 0`, `max: 50`", with("clamp", func(f *sensors.Filter) { f.Min, f.Max = 0, 50 })},
	{"`reject`, `min: 0`, `max: 50`", with("reject", func(f *sensors.Filter) { f.Min, f.Max = 0, 50 })},
	{"`round`, `digits: 0`", with("round", nil)},
	{"`delta`, `by: 0.5`", with("delta", func(f *sensors.Filter) { f.By = 0.5 })},
}

var exampleValues = []any{20.0, 20.3, 85.0, 20.6, 21.4}

// The table in sensors/README.md is what the filters do.
func TestExamples(t *testing.T) {
	var b strings.Builder
	b.WriteString("| measured |")
	for _, x := range exampleValues {
		fmt.Fprintf(&b, " %v |", x)
	}
	b.WriteString("\n|---|" + strings.Repeat("---|", len(exampleValues)) + "\n")
	for _, e := range examples {
		c := chain(e.f)
		fmt.Fprintf(&b, "| %s |", e.title)
		for i, x := range exampleValues {
			fields, kept, err := c.Apply(time.Duration(i)*10*time.Second, []sensors.Field{{Name: "temperature", Value: x}})
			switch {
			case err != nil:
				b.WriteString(" fault |")
			case kept:
				b.WriteString(" kept back |")
			default:
				fmt.Fprintf(&b, " %.5g |", fields[0].Value)
			}
		}
		b.WriteString("\n")
	}
	text, err := os.ReadFile("../README.md")
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(text), b.String()) {
		t.Errorf("sensors/README.md does not have this table:\n%s", &b)
	}
	for _, kind := range names {
		if !slices.ContainsFunc(examples, func(e struct {
			title string
			f     sensors.Filter
		}) bool {
			return e.f.Filter == kind
		}) {
			t.Errorf("%s has no example", kind)
		}
	}
}

// Median, mean and ema of equal values are exactly that value, also the largest.
func TestSmoothingOfConstants(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for range 300 {
		x := math.Float64frombits(r.Uint64())
		if math.IsNaN(x) || math.IsInf(x, 0) || math.Abs(x) < 1e-300 {
			continue
		}
		n := 2 + r.IntN(9)
		for _, f := range []sensors.Filter{
			with("median", func(f *sensors.Filter) { f.Window = n }),
			with("mean", func(f *sensors.Filter) { f.Window = n }),
			with("ema", func(f *sensors.Filter) { f.Alpha = 0.3 }),
		} {
			c := chain(f)
			for i := range 2 * n {
				if y, _ := one(t, c, time.Duration(i)*time.Second, x); y != x {
					t.Fatalf("%s of %d values %v is %v", f.Filter, i+1, x, y)
				}
			}
		}
	}
}

// The median and the mean of a window are those of the last values, by a second way.
func TestWindows(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 4))
	for _, n := range []int{2, 3, 4, 5, 10} {
		med := chain(with("median", func(f *sensors.Filter) { f.Window = n }))
		avg := chain(with("mean", func(f *sensors.Filter) { f.Window = n }))
		var all []float64
		for i := range 50 {
			x := r.NormFloat64() * 10
			all = append(all, x)
			last := slices.Clone(all[max(0, len(all)-n):])
			sum := 0.0
			for _, v := range last {
				sum += v
			}
			slices.Sort(last)
			k := len(last)
			want := (last[(k-1)/2] + last[k/2]) / 2
			at := time.Duration(i) * time.Second
			if y, _ := one(t, med, at, x); math.Abs(y.(float64)-want) > 1e-12 {
				t.Errorf("median of %v is %v, want %v", last, y, want)
			}
			if y, _ := one(t, avg, at, x); math.Abs(y.(float64)-sum/float64(k)) > 1e-12 {
				t.Errorf("mean of %v is %v, want %v", last, y, sum/float64(k))
			}
		}
	}
}

// A calibration hits its points: by lines always, by a polynomial if it has a point for
// each coefficient. It has no jump at the ends.
func TestCalibrationHitsItsPoints(t *testing.T) {
	r := rand.New(rand.NewPCG(5, 6))
	for range 200 {
		n := 2 + r.IntN(6)
		var points [][]float64
		x := r.NormFloat64() * 1000
		for range n {
			x += 0.1 + r.Float64()*100
			points = append(points, []float64{x, r.NormFloat64() * 50})
		}
		for degree := 0; degree <= mostDegree; degree++ {
			if degree > 0 && degree != n-1 {
				continue
			}
			f, err := calibration(points, degree)
			if err != nil {
				t.Fatal(err)
			}
			for _, p := range points {
				if y := f(p[0]); math.Abs(y-p[1]) > 1e-6 || degree == 0 && y != p[1] {
					t.Errorf("degree %d through %v: %v at %v", degree, points, y, p[0])
				}
			}
			for _, end := range []float64{points[0][0], points[n-1][0]} {
				if d := f(end+1e-9) - f(end-1e-9); math.Abs(d) > 1e-3 {
					t.Errorf("degree %d through %v jumps by %v at %v", degree, points, d, end)
				}
			}
		}
	}
}

// The line of least squares, with the worked figures of (1,6) (2,5) (3,7) (4,10): y = 3.5 + 1.4 x.
func TestLeastSquares(t *testing.T) {
	f, err := calibration([][]float64{{1, 6}, {2, 5}, {3, 7}, {4, 10}}, 1)
	if err != nil {
		t.Fatal(err)
	}
	for x, want := range map[float64]float64{0: 3.5, 1: 4.9, 4: 9.1, 10: 17.5} {
		if y := f(x); math.Abs(y-want) > 1e-9 {
			t.Errorf("%v at %v, want %v", y, x, want)
		}
	}
	// A parabola goes on as its tangent: x² from 0 to 4 has the slope 8 at 4.
	f, err = calibration([][]float64{{0, 0}, {2, 4}, {4, 16}}, 2)
	if y := f(5); err != nil || math.Abs(y-24) > 1e-9 {
		t.Errorf("%v, %v", y, err)
	}
	for degree := range 2 {
		if _, err := calibration([][]float64{{0, -1e308}, {1, 1e308}}, degree); err == nil {
			t.Errorf("degree %d is accepted, although it overflows", degree)
		}
	}
}

// Filters are applied in the order in which they are written.
func TestOrder(t *testing.T) {
	double := with("scale", func(f *sensors.Filter) { f.By = 2 })
	plus := with("offset", func(f *sensors.Filter) { f.By = 1 })
	if y, _ := one(t, chain(double, plus), 0, 10.0); y != 21.0 {
		t.Errorf("doubled and then moved: %v", y)
	}
	if y, _ := one(t, chain(plus, double), 0, 10.0); y != 22.0 {
		t.Errorf("moved and then doubled: %v", y)
	}
}

// A filter with a quantity changes no other one, and each quantity has a window of its own. True
// and false and texts pass; whole numbers stay whole as long as they are not changed.
func TestQuantities(t *testing.T) {
	c := chain(with("mean", func(f *sensors.Filter) { f.Window = 2 }),
		with("scale", func(f *sensors.Filter) { f.Quantity, f.By, f.As, f.Unit = "voltage_0", 10, "level", "cm" }),
		with("offset", func(f *sensors.Filter) { f.Quantity, f.By = "level", 5 }))
	read := func(at time.Duration, v ...any) string {
		fields, _, err := c.Apply(at, []sensors.Field{{Name: "voltage_0", Value: v[0]}, {Name: "voltage_1", Value: v[1]}, {Name: "active", Value: true}, {Name: "text", Value: "x"}})
		return fmt.Sprint(fields, err)
	}
	if got, want := read(0, 1.0, int64(7)), "[{level 15} {voltage_1 7} {active true} {text x}] <nil>"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	if got, want := read(time.Second, 2.0, int64(8)), "[{level 20} {voltage_1 7.5} {active true} {text x}] <nil>"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	if y, _ := one(t, chain(with("clamp", func(f *sensors.Filter) { f.Max = 9 })), 0, int64(7)); y != int64(7) {
		t.Errorf("%T %v", y, y)
	}
	fits := []sensors.Quantity{{Name: "voltage_0"}, {Name: "voltage_1"}}
	if err := c.Fits(fits); err != nil {
		t.Error(err)
	}
	if err := c.Fits(fits[1:]); err == nil || err.Error() != "filters[1], scale: the sensor has no voltage_0; it has voltage_1" {
		t.Error(err)
	}
}

func TestReject(t *testing.T) {
	c := chain(with("reject", func(f *sensors.Filter) { f.Min, f.Max = 0, 50 }))
	for _, x := range []any{0.0, 50.0, int64(20)} {
		one(t, c, 0, x)
	}
	_, _, err := c.Apply(0, []sensors.Field{{Name: "temperature", Value: 50.1}})
	if !errors.Is(err, sensors.ErrFault) || err.Error() != "answered wrongly: filters[0], reject: temperature of 50.1 is outside 0 to 50" {
		t.Error(err)
	}
	// No filter makes a number that is none, and one that was too large spoils no later one.
	c = chain(with("scale", func(f *sensors.Filter) { f.By = 1e300 }), with("ema", func(f *sensors.Filter) { f.Alpha = 0.5 }))
	if _, _, err := c.Apply(0, []sensors.Field{{Name: "temperature", Value: 1e300}}); !errors.Is(err, sensors.ErrFault) {
		t.Error(err)
	}
	if y, _ := one(t, c, 0, 2.0); y != 2e300 {
		t.Error(y)
	}
}

// delta sends a change, the heartbeat, and the first reading after a failure. Slow drift adds up: a
// value is compared with the last that was sent.
func TestDelta(t *testing.T) {
	c := chain(with("delta", func(f *sensors.Filter) { f.By, f.Heartbeat = 0.5, time.Minute }))
	sent := ""
	read := func(seconds int, x any) {
		_, kept := one(t, c, time.Duration(seconds)*time.Second, x)
		if !kept {
			sent += fmt.Sprint(" ", seconds, ":", x)
		}
	}
	for i := range 21 {
		read(i*10, 20+0.2*float64(i/4))
	}
	if want := " 0:20 60:20.2 120:20.6 180:20.8"; sent != want {
		t.Errorf("sent%s, want%s", sent, want)
	}
	sent = ""
	c.Failed()
	read(210, 21.0)
	read(220, 21.0)
	read(230, 22.0)
	read(240, 22.4)
	if want := " 210:21 230:22"; sent != want {
		t.Errorf("sent%s, want%s", sent, want)
	}
	// A scheduled reading a little before the minute is not sent ten seconds late.
	read(289, 22.4)
	if !strings.HasSuffix(sent, " 289:22.4") {
		t.Errorf("sent%s", sent)
	}
	// 20.2 - 20.1 is a little less than 0.1 in binary, and still a change of 0.1.
	c = chain(with("delta", func(f *sensors.Filter) { f.By = 0.1 }))
	for _, x := range []float64{20, 20.1, 20.2, 20.3} {
		if _, kept := one(t, c, 0, x); kept {
			t.Errorf("%v is kept back", x)
		}
	}
	// True and false, and a value that is missing.
	c = chain(with("delta", nil))
	sent = ""
	for i, x := range []any{true, true, false, false, "a", "a", int64(1), 1.0} {
		read(i, x)
	}
	if want := " 0:true 2:false 4:a 6:1"; sent != want {
		t.Errorf("sent%s, want%s", sent, want)
	}
	if _, kept, _ := c.Apply(9*time.Second, nil); kept {
		t.Error("a value that is missing is no change")
	}
	// Of several, one that wants the reading is enough.
	c = chain(with("delta", func(f *sensors.Filter) { f.Quantity, f.By = "a", 1 }), with("delta", func(f *sensors.Filter) { f.Quantity, f.By = "b", 1 }))
	two := func(a, b float64) bool {
		_, kept, _ := c.Apply(0, []sensors.Field{{Name: "a", Value: a}, {Name: "b", Value: b}, {Name: "c", Value: a + b}})
		return kept
	}
	if two(0, 0) || !two(0.9, 0.9) || two(0.9, 1) || !two(1, 1) || two(2, 1) {
		t.Error("several deltas")
	}
}

// Windows outlive a failure and a short pause, but not a long one.
func TestWindowsEnd(t *testing.T) {
	for pause, want := range map[time.Duration]float64{100 * time.Second: 15, 101 * time.Second: 20} {
		c := chain(with("mean", func(f *sensors.Filter) { f.Window = 2 }))
		one(t, c, time.Hour, 10.0)
		c.Failed()
		if y, _ := one(t, c, time.Hour+pause, 20.0); y != want {
			t.Errorf("after %v: %v, want %v", pause, y, want)
		}
	}
}

// A clone shares nothing with its origin. A nil chain changes nothing.
func TestClone(t *testing.T) {
	c := chain(with("median", func(f *sensors.Filter) { f.Window = 3 }), with("mean", func(f *sensors.Filter) { f.Window = 2 }),
		with("ema", func(f *sensors.Filter) { f.Alpha = 0.5 }), with("delta", nil))
	one(t, c, 0, 1.0)
	for range 3 {
		other := c.Clone()
		for range 5 {
			one(t, other, 0, 100.0)
		}
		other.Failed()
	}
	if _, kept := one(t, c, time.Second, 1.0); !kept {
		t.Error("a clone changed its origin")
	}
	var none *Chain
	none.Failed()
	if fields, kept, err := none.Clone().Apply(0, []sensors.Field{{Name: "a", Value: 1}}); len(fields) != 1 || kept || err != nil || none.Fits(nil) != nil || New(sensors.Config{}, 0) != nil {
		t.Error("a sensor without filters")
	}
}

// Whatever the filters and the values are, a reading has finite numbers or is an error, and the
// chain goes on to work.
func FuzzChain(f *testing.F) {
	f.Add([]byte{0, 1, 2, 3, 4, 5, 6, 7, 8, 9}, 20.0, 21.0, 0.5, int64(1))
	f.Add([]byte{3, 3, 2}, 1e308, -1e308, 1e10, int64(-5))
	f.Fuzz(func(t *testing.T, which []byte, a, b, by float64, n int64) {
		for _, x := range []float64{a, b, by} {
			if math.IsNaN(x) || math.IsInf(x, 0) {
				t.Skip()
			}
		}
		var filters []sensors.Filter
		for _, w := range which[:min(len(which), mostFilters)] {
			f := with(names[int(w)%len(names)], func(f *sensors.Filter) {
				f.By, f.Min, f.Max, f.Alpha = by, min(a, b), max(a, b), math.Abs(math.Mod(by, 1))
				f.Window, f.Digits, f.Degree = int(w)%9+2, int(w)%10, int(w)%2
				f.Points = [][]float64{{min(a, b), by}, {max(a, b), a}}
			})
			if _, reason, _ := kinds[f.Filter].check(f); reason == "" {
				filters = append(filters, f)
			}
		}
		c := chain(filters...)
		for i, x := range []any{a, b, n, a, b, true, by, a} {
			fields, _, err := c.Apply(time.Duration(i)*time.Second, []sensors.Field{{Name: "q", Value: x}})
			if err != nil {
				if !errors.Is(err, sensors.ErrFault) {
					t.Fatal(err)
				}
				continue
			}
			if y, is := number(fields[0].Value); is && (math.IsNaN(y) || math.IsInf(y, 0)) {
				t.Fatalf("%+v make %v of %v", filters, y, x)
			}
		}
	})
}
