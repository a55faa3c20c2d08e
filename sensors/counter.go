package sensors

import (
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"fieldpost/sensors/board"
	"fieldpost/sensors/option"
)

// Counters: a line whose pulses are counted, over restarts.

// Counter is a sensor whose pulses are counted over restarts. The caller keeps the total,
// which makes the readings: Sense counts from Open.
type Counter interface {
	LineKeeper
	// Line says which line is counted.
	Line() board.LineID
	// Pulses returns the pulses since its last call, or since Open. Each is returned
	// once, also if Sense is called.
	Pulses() (Pulses, error)
	// Reading returns the fields of a reading. total is nil if the total is not known;
	// then it is left out. The error is as for Sense.
	Reading(p Pulses, total *Total) ([]Field, error)
}

// Pulses is what a [Counter] has counted.
type Pulses struct {
	Count     uint64
	Missed    string  // why there may have been more; "" if there were not
	Excess    string  // that there were more than max_rate allows; "" if there were not
	Rate      float64 // per second
	RateKnown bool
}

// Uncertain reports whether there may have been more pulses than were counted.
func (p Pulses) Uncertain() bool { return p.Missed != "" || p.Excess != "" }

// Total is what a [Counter] has counted since its total began.
type Total struct {
	Count  uint64  // the pulses
	Amount float64 // what they stand for, in the unit of what is measured
	Gaps   uint64  // how often pulses may have been missed
}

// CounterOptions are the keys of a counter.
type CounterOptions struct {
	PulseLine
	// Measures says what the pulses stand for, which gives the quantities and their
	// units: pulses, water, gas, energy, rain or wind.
	Measures string `yaml:"measures"`
	// PerPulse is what one pulse stands for, in the unit of the total: 10 for 10 litres.
	PerPulse float64 `yaml:"per_pulse"`
	// Start is the total at which the counter begins, in the same unit: what the meter's
	// dial shows. Another value begins the total again.
	Start float64 `yaml:"start"`
	// MaxRate is the highest rate that is possible, in pulses a second. What is above it
	// does not count.
	MaxRate int `yaml:"max_rate"`
	// Idle is the time without a pulse after which the rate is 0.
	Idle time.Duration `yaml:"idle"`
}

// measured is what a counter's pulses may stand for. Each quantity has a name of its own,
// because receivers know the unit by the name.
type measured struct {
	name  string
	total Quantity // without a name: the count is the total
	rate  Quantity
	per   float64 // the rate's unit of time in seconds, and a factor between the units
}

// mostPulses is the highest count: above it a float64 has not each whole number.
const mostPulses = 1 << 53

// mostAmount bounds what is measured.
const mostAmount = 1e15

var measures = []measured{
	{"pulses", Quantity{}, Quantity{Name: "rate", Unit: "/min"}, 60},
	{"water", Quantity{Name: "volume", Unit: "L"}, Quantity{Name: "flow", Unit: "L/min"}, 60},
	{"gas", Quantity{Name: "gas_volume", Unit: "m3"}, Quantity{Name: "gas_flow", Unit: "m3/h"}, 3600},
	{"energy", Quantity{Name: "energy_total", Unit: "kW.h"}, Quantity{Name: "power", Unit: "W"}, 3_600_000},
	{"rain", Quantity{Name: "rain", Unit: "mm"}, Quantity{Name: "rain_rate", Unit: "mm/h"}, 3600},
	{"wind", Quantity{Name: "wind_run", Unit: "m"}, Quantity{Name: "wind_speed", Unit: "m/s"}, 1},
}

// measuresNames lists the values of the key measures.
func measuresNames() (names []string) {
	for _, m := range measures {
		names = append(names, m.name)
	}
	return names
}

// quantities returns those of a reading.
func (m measured) quantities() []Quantity {
	all := []Quantity{{Name: "count", Unit: "1", Max: mostPulses}, m.total, m.rate, {Name: "gaps", Unit: "1", Max: mostPulses}, {Name: "active", Max: 1}}
	for i := 1; i < 3; i++ {
		all[i].Max = mostAmount
	}
	return slices.DeleteFunc(all, func(q Quantity) bool { return q.Name == "" })
}

// counterQuantities lists what counters may measure.
func counterQuantities() (all []Quantity) {
	for _, m := range measures {
		for _, q := range m.quantities() {
			if !slices.Contains(all, q) {
				all = append(all, q)
			}
		}
	}
	return all
}

var counterLine = Chip{
	Name:       "counter",
	Title:      "a line of the board whose pulses are counted: a water, gas or electricity meter, a rain gauge, an anemometer",
	Source:     "Linux, include/uapi/linux/gpio.h; EN 62053-31",
	Options:    option.Set{Defaults: CounterOptions{PulseLine: PulseLine{Debounce: time.Millisecond}, Measures: "pulses", PerPulse: 1, MaxRate: 500, Idle: 10 * time.Minute}, Rules: counterRules(), Together: counterTogether},
	Quantities: counterQuantities(),
	Every:      time.Minute,
	Worst:      20 * time.Millisecond,
	Look:       lookLine,
	Open:       openCounter,
}

func counterRules() map[string]option.Rule {
	number := func(x float64) string { return strconv.FormatFloat(x, 'g', -1, 64) }
	rules := pulseRules()
	rules["measures"] = option.Rule{Wants: "what is counted, such as water", Check: option.OneOf(measuresNames()...)}
	rules["per_pulse"] = option.Rule{Wants: "a number such as 10, or a fraction such as 1/800", Parse: amountOf, Check: option.Between(1e-9, 1e9, number)}
	rules["start"] = option.Rule{Wants: "what the meter shows, such as 1234.56", Check: option.Between(0, 1e12, number)}
	rules["max_rate"] = option.Rule{Wants: "a number of pulses a second such as 10/s", Parse: func(text string) (any, error) { return rateOf(text, "pulses") }, Check: option.Between(1, 10_000, rate)}
	rules["idle"] = option.Rule{Check: option.Between(time.Second, 24*time.Hour, option.Duration)}
	return rules
}

// counterTogether refuses keys that would do nothing.
func counterTogether(options any, given func(key string) bool) (key, reason string) {
	for _, key := range []string{"per_pulse", "start"} {
		if o := options.(CounterOptions); o.Measures == "pulses" && given(key) {
			return key, "is for what the pulses stand for; say it with measures: " + strings.Join(measuresNames()[1:], ", ")
		}
	}
	return "", ""
}

// counter is an open counter.
type counter struct {
	r          *pulseReader
	o          CounterOptions
	measures   measured
	quantities []Quantity
	rate       pulseRate
	readAt     time.Time
	own        Total // since Open, for Sense
}

var _ Counter = (*counter)(nil)

func openCounter(b board.Board, c Config) (Sensor, error) {
	o := optionsOf[CounterOptions](c)
	i := slices.Index(measuresNames(), o.Measures)
	if i < 0 {
		return nil, fmt.Errorf("open counter: measures: want %s (got %q)", strings.Join(measuresNames(), ", "), o.Measures)
	}
	r, err := openPulses(b, c, o.PulseLine)
	if err != nil {
		return nil, err
	}
	now := time.Now()
	return &counter{r: r, o: o, measures: measures[i], quantities: measures[i].quantities(), rate: pulseRate{idle: o.Idle, opened: now}, readAt: now}, nil
}

// Quantities returns those of what is measured.
func (c *counter) Quantities() []Quantity { return c.quantities }

// Line says which line is counted.
func (c *counter) Line() board.LineID { return c.r.in.ID() }

// KeepsLine says that the line stays requested after an error.
func (c *counter) KeepsLine() {}

// Pulses reads the pulses. Those above max_rate, and one second of it, do not count: they
// are hum or bounce, and a total that is too high could not be corrected.
func (c *counter) Pulses() (Pulses, error) {
	p, err := c.r.read()
	if err != nil {
		return Pulses{}, err
	}
	now := time.Now()
	over := now.Sub(c.readAt).Seconds()
	c.readAt = now
	out := Pulses{Count: p.count}
	if most := uint64(math.Ceil(float64(c.o.MaxRate) * (over + 1))); p.count > most {
		out.Count = most
		out.Excess = fmt.Sprintf("%.3g pulses/s in the last %.3g s; max_rate allows %s, and %d pulses were not counted", float64(p.count)/over, over, rate(c.o.MaxRate), p.count-most)
	}
	if p.missed > 0 {
		out.Missed = fmt.Sprintf("at %d of %d pulses the line changed faster than the kernel could follow, or bounced", p.missed, p.count)
	}
	out.Rate, out.RateKnown = c.rate.add(p, now)
	if out.Excess != "" {
		out.RateKnown = false
	}
	return out, nil
}

// Reading returns the fields of a reading.
func (c *counter) Reading(p Pulses, total *Total) ([]Field, error) {
	active, err := c.r.level()
	if err != nil {
		return nil, err
	}
	var fields []Field
	add := func(q Quantity, v any) { fields = append(fields, Field{Name: q.Name, Value: v}) }
	for _, q := range c.quantities {
		switch {
		case q.Name == "active":
			add(q, active)
		case q == c.measures.rateQuantity():
			if p.RateKnown {
				add(q, significant(p.Rate*c.o.PerPulse*c.measures.per))
			}
		case total == nil:
		case q.Name == "count":
			add(q, float64(total.Count))
		case q.Name == "gaps":
			add(q, float64(total.Gaps))
		default:
			add(q, total.Amount)
		}
	}
	return fields, nil
}

// rateQuantity returns the quantity of the rate, with its limits.
func (m measured) rateQuantity() Quantity {
	q := m.rate
	q.Max = mostAmount
	return q
}

// Sense counts from Open: the caller that keeps totals uses Pulses and Reading.
func (c *counter) Sense() ([]Field, error) {
	p, err := c.Pulses()
	if err != nil {
		return nil, err
	}
	c.own.Count += p.Count
	c.own.Amount = c.o.Start + float64(c.own.Count)*c.o.PerPulse
	if p.Uncertain() {
		c.own.Gaps++
	}
	return c.Reading(p, &c.own)
}

// Close releases the line. Pulses that were not read are lost.
func (c *counter) Close() error { return c.r.close() }
