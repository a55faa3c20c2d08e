package daemon

import (
	"encoding/json"
	"fmt"
	"math"
	"slices"
	"strings"

	"fieldpost/daemon/api"
	"fieldpost/daemon/config"
	"fieldpost/daemon/history"
	"fieldpost/daemon/local"
	"fieldpost/sensors"
	"fieldpost/sensors/filter"
)

// historySettings is what the history is told of a configuration.
func historySettings(cfg *config.Config) history.Settings {
	out := history.Settings{Keep: cfg.History.Keep, Most: cfg.History.Quantities}
	for _, c := range cfg.Sensors {
		s := history.Sensor{Name: c.Name, Every: c.Every}
		for _, f := range c.Filters {
			if f.Filter == "delta" {
				s.Every = max(s.Every, f.Heartbeat)
			}
		}
		out.Sensors = append(out.Sensors, s)
	}
	return out
}

// mostHistory bounds an answer, in points of all its quantities. It is 0.5 MB of JSON.
const mostHistory = 10_000

// localHistory returns past readings.
func (d socketCalls) localHistory(query json.RawMessage) (any, error) {
	var q api.HistoryQuery
	if err := local.Arguments(query, &q); err != nil {
		return nil, err
	}
	now := d.o.Clock.Now()
	since, until, most, err := q.Range(now.Wall)
	if err != nil {
		return nil, &api.Error{Code: api.Malformed, Text: err.Error(), Hint: "See /openapi.json for what the path accepts."}
	}
	answer := api.History{Time: api.Time(now.Wall), ClockSynced: now.Synced, Series: []api.HistorySeries{}}
	answer.Keep, answer.Unsaved = d.history.Kept()
	if q.Sensor == "" {
		for _, s := range d.history.List(now) {
			answer.Series = append(answer.Series, d.historySeries(s))
		}
		return answer, nil
	}
	found, known := d.history.Find(history.Query{Sensor: q.Sensor, Quantity: q.Quantity, Since: since.Unix(), Until: until.Unix(), Points: most}, now)
	if !known {
		return nil, d.noHistory(q)
	}
	total := 0
	for _, s := range found {
		if total += len(s.Points); total > mostHistory {
			return nil, &api.Error{Code: api.Malformed, Text: fmt.Sprintf("the answer would have more than %d points", mostHistory), Hint: "Name a quantity, or ask for fewer points."}
		}
		answer.Series = append(answer.Series, withColumns(d.historySeries(s), s.Points))
	}
	return answer, nil
}

// noHistory says why there is no history of a sensor or a quantity.
func (d socketCalls) noHistory(q api.HistoryQuery) *api.Error {
	known := sensorNames(d.config().Sensors)
	var quantities []string
	for _, s := range d.history.List(d.o.Clock.Now()) {
		if s.Sensor == q.Sensor {
			quantities = append(quantities, s.Quantity)
		}
	}
	keep, _ := d.history.Kept()
	switch {
	case keep == history.Nowhere:
		return &api.Error{Code: api.NoHistory, Text: "this daemon keeps no history", Hint: "Set history.keep in the configuration to disk or memory, and reload."}
	case quantities != nil:
		return &api.Error{Code: api.NoHistory, Text: fmt.Sprintf("there is no history of the quantity %.80q of the sensor %q; there is of: %s", q.Quantity, q.Sensor, strings.Join(quantities, ", "))}
	case slices.Contains(known, q.Sensor):
		return &api.Error{Code: api.NoHistory, Text: fmt.Sprintf("there is no history of the sensor %q yet", q.Sensor), Hint: fmt.Sprintf("It comes with its next reading, if there are not %d quantities already: history.quantities.", d.config().History.Quantities)}
	}
	return &api.Error{Code: api.UnknownSensor, Text: fmt.Sprintf("the daemon has no sensor %.80q; it has: %s", q.Sensor, strings.Join(known, ", "))}
}

// historySeries returns a series without points.
func (d socketCalls) historySeries(s history.Series) api.HistorySeries {
	out := api.HistorySeries{Sensor: s.Sensor, Quantity: s.Quantity, Step: s.Step.Seconds(), First: s.First, Last: s.Last}
	for _, c := range d.config().Sensors {
		if c.Name != s.Sensor {
			continue
		}
		chip, _ := sensors.Lookup(c.Chip)
		for _, q := range chip.QuantitiesOf(c) {
			if q.Is(s.Quantity) {
				out.Unit, out.Symbol = q.Unit, q.Symbol()
			}
		}
		if unit, other := filter.Units(c)[s.Quantity]; other {
			out.Unit, out.Symbol = unit, sensors.Quantity{Unit: unit}.Symbol()
		}
	}
	return out
}

// withColumns puts points into columns.
func withColumns(s api.HistorySeries, points []history.Point) api.HistorySeries {
	n := len(points)
	s.Times, s.Mean, s.Min, s.Max = make([]int64, n), make(api.Column, n), make(api.Column, n), make(api.Column, n)
	for i, p := range points {
		s.Times[i], s.Mean[i], s.Min[i], s.Max[i] = p.At, p.Mean, p.Min, p.Max
		if p.Gap {
			s.Mean[i], s.Min[i], s.Max[i] = math.NaN(), math.NaN(), math.NaN()
		}
	}
	return s
}
