package filter

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"fieldpost/sensors"
)

const (
	// DefaultHeartbeat is delta's heartbeat if none is given.
	DefaultHeartbeat = time.Hour
	// mostWindow bounds the windows of a sensor together, because each of its values needs the
	// memory: 256 sensors with eight values each need 1.6 MB at most.
	mostWindow = 100
	// mostPoints bounds the points of a calibration.
	mostPoints = 64
	// mostDegree is the highest degree of a polynomial: higher ones swing between the points.
	mostDegree = 3
	// mostFilters bounds the filters of a sensor.
	mostFilters = 16
)

// Default holds the values of keys that are not given.
var Default = sensors.Filter{Min: math.Inf(-1), Max: math.Inf(1), Heartbeat: DefaultHeartbeat}

// Problem is a mistake in a sensor's filters.
type Problem struct {
	Key    string // below the sensor: "filters[1].window"
	Reason string
	Value  string // the value; "" if there is none to show
}

// kind is a kind of filter.
type kind struct {
	needs, takes []string // its keys besides filter and quantity
	sameUnit     bool     // without quantity, all numbers must have one unit
	check        func(f sensors.Filter) (key, reason, value string)
	build        func(f sensors.Filter) step
}

var kinds = map[string]kind{
	"median": {needs: []string{"window"}, check: checkWindow, build: func(f sensors.Filter) step { return &window{size: f.Window, of: median} }},
	"mean":   {needs: []string{"window"}, check: checkWindow, build: func(f sensors.Filter) step { return &window{size: f.Window, of: mean} }},
	"ema":    {needs: []string{"alpha"}, check: checkAlpha, build: func(f sensors.Filter) step { return &ema{alpha: f.Alpha} }},
	"scale": {needs: []string{"by"}, takes: []string{"as", "unit"}, sameUnit: true, check: checkBy, build: func(f sensors.Filter) step {
		return always(func(x float64) float64 { return x * f.By })
	}},
	"offset": {needs: []string{"by"}, takes: []string{"as", "unit"}, sameUnit: true, check: checkBy, build: func(f sensors.Filter) step {
		return always(func(x float64) float64 { return x + f.By })
	}},
	"calibrate": {needs: []string{"points"}, takes: []string{"degree", "as", "unit"}, sameUnit: true, check: checkPoints, build: func(f sensors.Filter) step {
		c, err := calibration(f.Points, f.Degree)
		if err != nil {
			return function(func(float64) (float64, error) { return 0, err }) // Check refuses this
		}
		return always(c)
	}},
	"clamp": {takes: []string{"min", "max"}, sameUnit: true, check: checkRange, build: func(f sensors.Filter) step {
		return always(func(x float64) float64 { return min(max(x, f.Min), f.Max) })
	}},
	"reject": {takes: []string{"min", "max"}, sameUnit: true, check: checkRange, build: func(f sensors.Filter) step { return reject(f) }},
	"round":  {needs: []string{"digits"}, check: checkDigits, build: func(f sensors.Filter) step { return always(round(f.Digits)) }},
	"delta":  {takes: []string{"by", "heartbeat"}, check: checkDelta},
}

// names lists the kinds in the order of the documentation.
var names = []string{"median", "mean", "ema", "scale", "offset", "calibrate", "clamp", "reject", "round", "delta"}

// Names returns the kinds of filters, in the order of the documentation.
func Names() []string { return slices.Clone(names) }

// Keys returns the keys that a kind of filter needs, and those that it also takes, besides filter
// and quantity.
func Keys(name string) (needs, takes []string) { return kinds[name].needs, kinds[name].takes }

// keys are the keys that only some kinds have.
var keys = []string{"window", "alpha", "by", "points", "degree", "min", "max", "digits", "heartbeat", "as", "unit"}

func checkWindow(f sensors.Filter) (key, reason, value string) {
	if f.Window < 2 || f.Window > mostWindow {
		return "window", fmt.Sprintf("want 2 to %d values", mostWindow), fmt.Sprint(f.Window)
	}
	return "", "", ""
}

func checkAlpha(f sensors.Filter) (key, reason, value string) {
	if f.Alpha <= 0 || f.Alpha >= 1 {
		return "alpha", "want more than 0 and less than 1; a smaller one smooths more", fmt.Sprint(f.Alpha)
	}
	return "", "", ""
}

func checkBy(f sensors.Filter) (key, reason, value string) {
	if f.By == 0 {
		reason = "does nothing; leave the filter out"
		if f.Filter == "scale" {
			reason = "makes every value 0"
		}
		return "by", reason, "0"
	}
	return "", "", ""
}

func checkPoints(f sensors.Filter) (key, reason, value string) {
	if len(f.Points) < 2 || len(f.Points) > mostPoints {
		return "points", fmt.Sprintf("want 2 to %d points, each [measured, true], not %d", mostPoints, len(f.Points)), ""
	}
	for i, p := range f.Points {
		at := fmt.Sprintf("points[%d]", i)
		switch {
		case len(p) != 2:
			return at, fmt.Sprintf("want two numbers, [measured, true], not %d", len(p)), ""
		case i > 0 && p[0] <= f.Points[i-1][0]:
			return at, fmt.Sprintf("its measured value must be greater than that of the point before, %v", f.Points[i-1][0]), fmt.Sprint(p[0])
		}
	}
	switch {
	case f.Degree < 0 || f.Degree > mostDegree:
		return "degree", fmt.Sprintf("want 1, for a straight line, to %d", mostDegree), fmt.Sprint(f.Degree)
	case f.Degree >= len(f.Points):
		return "degree", fmt.Sprintf("needs at least %d points, not %d", f.Degree+1, len(f.Points)), fmt.Sprint(f.Degree)
	}
	if _, err := calibration(f.Points, f.Degree); err != nil {
		return "points", err.Error(), ""
	}
	return "", "", ""
}

func checkRange(f sensors.Filter) (key, reason, value string) {
	switch {
	case math.IsInf(f.Min, -1) && math.IsInf(f.Max, 1):
		return "", "has neither min nor max, so it does nothing", ""
	case f.Min >= f.Max:
		return "max", fmt.Sprintf("want more than min, which is %v", f.Min), fmt.Sprint(f.Max)
	}
	return "", "", ""
}

func checkDigits(f sensors.Filter) (key, reason, value string) {
	if f.Digits < 0 || f.Digits > 9 {
		return "digits", "want 0 to 9", fmt.Sprint(f.Digits)
	}
	return "", "", ""
}

func checkDelta(f sensors.Filter) (key, reason, value string) {
	switch {
	case f.By < 0:
		return "by", "want 0, for every change, or more", fmt.Sprint(f.By)
	case f.Heartbeat < time.Second || f.Heartbeat > 7*24*time.Hour:
		return "heartbeat", "want 1s to 168h", f.Heartbeat.String()
	}
	return "", "", ""
}

// checker checks the filters of one sensor, in their order.
type checker struct {
	chip     sensors.Chip
	every    time.Duration
	given    func(key string) bool
	measured []sensors.Quantity // as they are at this place of the list
	gone     []string           // names that were changed
	window   int                // the windows so far
	problems []Problem
}

// Check returns the mistakes in a sensor's filters, each filter's first one, and if there are
// none, in what it derives. given says whether the
// file has a key below the sensor, such as "filters[1].window".
func Check(chip sensors.Chip, c sensors.Config, given func(key string) bool) []Problem {
	k := &checker{chip: chip, every: c.Every, given: given, measured: slices.Clone(chip.QuantitiesOf(c))}
	if len(c.Filters) > mostFilters {
		return []Problem{{"filters", fmt.Sprintf("want at most %d, not %d", mostFilters, len(c.Filters)), ""}}
	}
	for i, f := range c.Filters {
		path := fmt.Sprintf("filters[%d]", i)
		key, reason, value := k.filter(path, f)
		if reason != "" {
			k.problems = append(k.problems, Problem{strings.TrimSuffix(path+"."+key, "."), reason, value})
		}
		k.measured = after(k.measured, f, chip)
		if f.As != "" {
			k.gone = append(k.gone, f.Quantity)
		}
	}
	if len(k.problems) == 0 { // else the quantities may be others
		k.derivations(c)
	}
	return k.problems
}

// Quantities returns what the readings of a sensor may have, after its filters and with what is derived, like
// [sensors.Chip].Quantities.
func Quantities(chip sensors.Chip, c sensors.Config) []sensors.Quantity {
	all := slices.Clone(chip.QuantitiesOf(c))
	for _, f := range c.Filters {
		all = after(all, f, chip)
	}
	for _, name := range c.Derive {
		if d, known := derivationOf(name); known {
			all = append(all, d.Quantity)
		}
	}
	return all
}

// Units returns the UCUM codes of the values that the configuration or a sensor's filters have
// named, and of those that are derived, by name; nil if there are none.
func Units(c sensors.Config) map[string]string {
	var units map[string]string
	chip, _ := sensors.Lookup(c.Chip)
	for _, q := range Quantities(sensors.Chip{Channels: true, Measures: chip.Measures}, c) {
		if units == nil {
			units = map[string]string{}
		}
		units[q.Name] = q.Unit
	}
	return units
}

// after returns the quantities after a filter.
func after(all []sensors.Quantity, f sensors.Filter, chip sensors.Chip) []sensors.Quantity {
	if f.As == "" {
		return all
	}
	renamed := sensors.Quantity{Name: f.As, Unit: f.Unit, Min: math.Inf(-1), Max: math.Inf(1)}
	for i, q := range all {
		if q.Name == f.Quantity && !chip.Channels || f.Quantity == "" {
			all[i] = renamed
			return all
		}
	}
	return append(all, renamed) // one channel of many
}

// filter returns the first mistake of a filter.
func (k *checker) filter(path string, f sensors.Filter) (key, reason, value string) {
	if f.Filter == "" {
		return "", "", "" // its rule has refused it
	}
	kd, known := kinds[f.Filter]
	if !known {
		return "filter", "unknown filter, want one of " + strings.Join(names, ", "), f.Filter
	}
	for _, key := range keys {
		given := k.given(path + "." + key)
		switch {
		case given && !slices.Contains(kd.needs, key) && !slices.Contains(kd.takes, key):
			return key, fmt.Sprintf("filter %s does not have this key; it has %s", f.Filter, strings.Join(slices.Concat([]string{"quantity"}, kd.needs, kd.takes), ", ")), ""
		case !given && slices.Contains(kd.needs, key):
			return key, fmt.Sprintf("is missing; filter %s needs it", f.Filter), ""
		}
	}
	if key, reason, value = kd.check(f); reason != "" {
		return key, reason, value
	}
	if k.window += f.Window; k.window > mostWindow {
		return "window", fmt.Sprintf("makes the windows of this sensor %d values together, want at most %d", k.window, mostWindow), fmt.Sprint(f.Window)
	}
	if f.Filter == "delta" && f.Heartbeat < k.every {
		return "heartbeat", fmt.Sprintf("is shorter than every (%s), so delta would keep nothing back", k.every), f.Heartbeat.String()
	}
	if key, reason, value = k.quantity(f, kd); reason != "" {
		return key, reason, value
	}
	return k.rename(f)
}

// quantity checks that a filter fits what it is for.
func (k *checker) quantity(f sensors.Filter, kd kind) (key, reason, value string) {
	number := f.Filter != "delta" || f.By > 0
	if f.Quantity != "" {
		i := slices.IndexFunc(k.measured, func(q sensors.Quantity) bool {
			return q.Name == f.Quantity || k.chip.Channels && q.Is(f.Quantity)
		})
		switch {
		case k.chip.Channels && slices.Contains(k.gone, f.Quantity):
			return "quantity", "has another name since the filter above; use that", f.Quantity
		case i < 0:
			return "quantity", fmt.Sprintf("chip %s does not measure this; here it has %s", k.chip.Name, list(namesOf(k.measured))), f.Quantity
		case number && k.measured[i].Unit == "":
			return "quantity", fmt.Sprintf("is true or false; filter %s needs a number", f.Filter), f.Quantity
		}
		return "", "", ""
	}
	var units, numbers []string
	for _, q := range k.measured {
		if q.Unit != "" {
			numbers = append(numbers, q.Name)
			if !slices.Contains(units, q.Unit) {
				units = append(units, q.Unit)
			}
		}
	}
	switch {
	case number && len(numbers) == 0:
		return "filter", fmt.Sprintf("needs a number, and chip %s has only %s", k.chip.Name, list(namesOf(k.measured))), f.Filter
	case (kd.sameUnit || f.By > 0) && len(units) > 1:
		return "quantity", fmt.Sprintf("is missing: %s have different units, and filter %s is for one", list(numbers), f.Filter), ""
	case f.As != "" && (len(k.measured) > 1 || k.chip.Channels):
		return "quantity", "is missing: as gives a name to one quantity", ""
	}
	return "", "", ""
}

// rename checks a quantity's new name and unit.
func (k *checker) rename(f sensors.Filter) (key, reason, value string) {
	switch {
	case f.As == "" && f.Unit == "":
		return "", "", ""
	case f.As == "":
		return "as", "is missing: with another unit the quantity needs another name, because receivers know the unit by the name", ""
	case f.Unit == "":
		return "unit", "is missing: want the UCUM code of " + f.As + `, such as "%" or L/min, or "1" for a plain number`, ""
	case sensors.QuantityName(f.As) != "":
		return "as", sensors.QuantityName(f.As), f.As
	case len(f.Unit) > 16 || strings.ContainsFunc(f.Unit, func(r rune) bool { return r <= ' ' || r > '~' }):
		return "unit", "want a UCUM code: at most 16 ASCII characters without spaces", f.Unit
	case slices.ContainsFunc(k.measured, func(q sensors.Quantity) bool { return k.taken(q, f.As) }):
		return "as", fmt.Sprintf("chip %s has a quantity of this name; choose another name", k.chip.Name), f.As
	}
	return "", "", ""
}

func (k *checker) taken(q sensors.Quantity, name string) bool {
	return q.Name == name || k.chip.Channels && q.Is(name)
}

func namesOf(quantities []sensors.Quantity) (all []string) {
	for _, q := range quantities {
		all = append(all, q.Name)
	}
	return all
}

// list joins words for a sentence.
func list(words []string) string {
	if len(words) < 2 {
		return strings.Join(words, "")
	}
	return strings.Join(words[:len(words)-1], ", ") + " and " + words[len(words)-1]
}
