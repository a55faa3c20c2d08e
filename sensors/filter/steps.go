package filter

import (
	"errors"
	"fmt"
	"math"
	"slices"

	"fieldpost/sensors"
)

// window is median and mean: of the last values, at most size of them.
type window struct {
	size   int
	values []float64 // the newest last
	of     func(values []float64) float64
}

func (w *window) apply(x float64) (float64, error) {
	if len(w.values) == w.size {
		w.values = slices.Delete(w.values, 0, 1)
	}
	w.values = append(w.values, x)
	return w.of(w.values), nil
}

func (w *window) clone() step { return &window{w.size, slices.Clone(w.values), w.of} }

// median returns the middle one of the sorted values, of an even number the mean of the two in the
// middle.
func median(values []float64) float64 {
	sorted := slices.Clone(values)
	slices.Sort(sorted)
	n := len(sorted)
	if n%2 == 1 {
		return sorted[n/2]
	}
	return sorted[n/2-1]/2 + sorted[n/2]/2
}

// mean returns the sum divided by the number. It adds up differences from the mean so far, so the
// mean of equal values is exactly that value.
func mean(values []float64) (m float64) {
	for i, x := range values {
		m += (x - m) / float64(i+1)
	}
	return m
}

// ema is the exponential moving average (NIST/SEMATECH e-Handbook of Statistical Methods, section
// 6.4.3.1, with its alpha): y = y + alpha·(x - y). It begins with the first value.
type ema struct {
	alpha, y float64
	begun    bool
}

func (e *ema) apply(x float64) (float64, error) {
	y := x
	if e.begun {
		y = e.y + e.alpha*(x-e.y)
	}
	if !math.IsInf(y, 0) {
		e.y, e.begun = y, true
	}
	return y, nil
}

func (e *ema) clone() step { other := *e; return &other }

// function is a filter without memory.
type function func(x float64) (float64, error)

func (f function) apply(x float64) (float64, error) { return f(x) }
func (f function) clone() step                      { return f }

func always(f func(x float64) float64) function {
	return func(x float64) (float64, error) { return f(x), nil }
}

// reject returns the filter that refuses what clamp would change.
func reject(c sensors.Filter) function {
	return func(x float64) (float64, error) {
		if x < c.Min || x > c.Max {
			return 0, errors.New("is outside " + interval(c))
		}
		return x, nil
	}
}

// interval writes the limits of a filter.
func interval(c sensors.Filter) string {
	switch {
	case math.IsInf(c.Max, 1):
		return fmt.Sprintf("%g and more", c.Min)
	case math.IsInf(c.Min, -1):
		return fmt.Sprintf("%g and less", c.Max)
	}
	return fmt.Sprintf("%g to %g", c.Min, c.Max)
}

// round rounds to digits after the decimal point, half away from zero.
func round(digits int) func(float64) float64 {
	p := math.Pow10(digits)
	return func(x float64) float64 {
		if math.Abs(x) > 1<<52/p {
			return x // it has no such digits
		}
		return math.Round(x*p) / p
	}
}

// calibration returns the function from measured to true values: through the points, by straight
// lines if degree is 0, or else the polynomial of that degree with the least squares of errors at
// the points. Outside of the points it goes on as a straight line. The error says why there is no
// such function.
func calibration(points [][]float64, degree int) (func(float64) float64, error) {
	f := through(points)
	if degree > 0 {
		f = polynomial(points, degree)
	}
	for _, p := range points {
		if y := f(p[0]); math.IsNaN(y) || math.IsInf(y, 0) {
			return nil, errors.New("the points are too far apart to calculate with")
		}
	}
	return f, nil
}

// through interpolates between points, linearly.
func through(points [][]float64) func(float64) float64 {
	return func(x float64) float64 {
		i := 1
		for i < len(points)-1 && x > points[i][0] {
			i++
		}
		a, b := points[i-1], points[i]
		if x == b[0] {
			return b[1]
		}
		return a[1] + (b[1]-a[1])*((x-a[0])/(b[0]-a[0]))
	}
}

// polynomial fits a polynomial to points by least squares: it solves the normal equations, with x
// moved and scaled to -1 to 1 so that they are well conditioned for the degrees up to 3 that
// [Check] accepts (Press et al., Numerical Recipes, section 15.4).
func polynomial(points [][]float64, degree int) func(float64) float64 {
	first, last := points[0][0], points[len(points)-1][0]
	middle, half := first/2+last/2, last/2-first/2
	n := degree + 1
	rows := make([][]float64, n) // the equations, with their right sides
	for i := range rows {
		rows[i] = make([]float64, n+1)
		for _, p := range points {
			t := (p[0] - middle) / half
			for j := range n {
				rows[i][j] += math.Pow(t, float64(i+j))
			}
			rows[i][n] += math.Pow(t, float64(i)) * p[1]
		}
	}
	k := solve(rows)
	return func(x float64) float64 {
		t := (x - middle) / half
		inside := min(max(t, -1), 1)
		y, slope := 0.0, 0.0
		for i := degree; i >= 0; i-- {
			slope = slope*inside + y
			y = y*inside + k[i]
		}
		if t == inside {
			return y
		}
		return y + slope*(t-inside)
	}
}

// solve solves linear equations by Gauss's elimination, with the largest element as pivot.
func solve(rows [][]float64) []float64 {
	n := len(rows)
	for i := range n {
		best := i
		for j := i + 1; j < n; j++ {
			if math.Abs(rows[j][i]) > math.Abs(rows[best][i]) {
				best = j
			}
		}
		rows[i], rows[best] = rows[best], rows[i]
		for j := range n {
			if j == i {
				continue
			}
			f := rows[j][i] / rows[i][i]
			for k := i; k <= n; k++ {
				rows[j][k] -= f * rows[i][k]
			}
		}
	}
	x := make([]float64, n)
	for i := range n {
		x[i] = rows[i][n] / rows[i][i]
	}
	return x
}
