package api

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"
)

// HistoryQuery asks for past readings, in the query of the path.
type HistoryQuery struct {
	Sensor   string `json:"sensor,omitempty"`   // "" lists what there is, without points
	Quantity string `json:"quantity,omitempty"` // "" means all quantities of the sensor
	Since    string `json:"since,omitempty"`    // a time, or how long before until: 90m, 1d, 1w; "" means 1h
	Until    string `json:"until,omitempty"`    // a time, or how long ago; "" means now
	Points   string `json:"points,omitempty"`   // the most points of a quantity, from 2 to 1000, not counting gaps; more are merged; "" means 500
}

// History is past readings.
type History struct {
	Time        time.Time       `json:"time"`               // when this was reported
	ClockSynced bool            `json:"clock_synchronised"` // the times are known to be true
	Keep        string          `json:"keep"`               // where history is kept: disk, memory, or none
	Unsaved     string          `json:"unsaved,omitempty"`  // why the disk does not have the latest history
	Series      []HistorySeries `json:"series"`             // by sensor; empty if there is none
}

// HistorySeries is the history of a quantity. The columns are equally long, and left out if
// no sensor was asked for. A point stands for the values from its time on, for as long as
// step_s says; points from before a restart may stand for a longer time. Where a sensor gave no
// readings, there is a point without values.
type HistorySeries struct {
	Sensor   string    `json:"sensor"`
	Quantity string    `json:"quantity"`
	Unit     string    `json:"unit,omitempty"`   // UCUM code; absent if it is unknown, or a truth value
	Symbol   string    `json:"symbol,omitempty"` // the unit as people write it
	First    time.Time `json:"first,omitzero"`   // of all points there are
	Last     time.Time `json:"last,omitzero"`
	Step     float64   `json:"step_s,omitzero"`
	Times    []int64   `json:"times_s,omitzero"` // in seconds since 1970, rising
	Mean     Column    `json:"mean,omitzero"`
	Min      Column    `json:"min,omitzero"`
	Max      Column    `json:"max,omitzero"`
}

// Column is a list of numbers. Those that are not known are null, and NaN here.
type Column []float64

// MarshalJSON returns an array.
func (c Column) MarshalJSON() ([]byte, error) {
	b := append(make([]byte, 0, 8*len(c)+2), '[')
	for i, x := range c {
		if i > 0 {
			b = append(b, ',')
		}
		switch {
		case math.IsNaN(x), math.IsInf(x, 0):
			b = append(b, "null"...)
		case x == 0 || math.Abs(x) >= 1e-6 && math.Abs(x) < 1e21:
			b = strconv.AppendFloat(b, x, 'f', -1, 64)
		default:
			b = strconv.AppendFloat(b, x, 'e', -1, 64)
		}
	}
	return append(b, ']'), nil
}

// UnmarshalJSON reads an array of numbers and null.
func (c *Column) UnmarshalJSON(b []byte) error {
	var all []*float64
	if err := json.Unmarshal(b, &all); err != nil {
		return fmt.Errorf("decode column: %w", err)
	}
	*c = make(Column, len(all))
	for i, x := range all {
		(*c)[i] = math.NaN()
		if x != nil {
			(*c)[i] = *x
		}
	}
	return nil
}

// ParseAge parses a duration that may have days and weeks before the units of package time:
// 90m, 1d, 1w, 1d12h.
func ParseAge(text string) (time.Duration, error) {
	const day = 24 * time.Hour
	wrong := fmt.Errorf("want a time such as 90m, 12h, 1d or 2w (got %.40q)", text)
	rest, total := text, time.Duration(0)
	for _, u := range []struct {
		unit string
		long time.Duration
	}{{"w", 7 * day}, {"d", day}} {
		number, after, found := strings.Cut(rest, u.unit)
		if !found {
			continue
		}
		n, err := strconv.ParseUint(number, 10, 16)
		if err != nil {
			return 0, wrong
		}
		total, rest = total+time.Duration(n)*u.long, after
		if rest == "" {
			return total, nil
		}
	}
	d, err := time.ParseDuration(rest)
	if err != nil || d < 0 || strings.HasPrefix(rest, "+") || d > 10*365*day {
		return 0, wrong
	}
	return total + d, nil
}

// Limits of [HistoryQuery].Points.
const (
	PointsMin     = 2
	PointsDefault = 500
	PointsMax     = 1000
)

// Range returns the times that a query asks for, and the most points. The error is for who
// asked. A time is RFC 3339.
func (q HistoryQuery) Range(now time.Time) (since, until time.Time, points int, err error) {
	if until, err = moment(q.Until, now, now); err != nil {
		return since, until, 0, fmt.Errorf("until: %w", err)
	}
	if since, err = moment(q.Since, until, until.Add(-time.Hour)); err != nil {
		return since, until, 0, fmt.Errorf("since: %w", err)
	}
	if since.After(until) {
		return since, until, 0, fmt.Errorf("since is %s, after until, %s", since.Format(time.RFC3339), until.Format(time.RFC3339))
	}
	points = PointsDefault
	if q.Points != "" {
		n, err := strconv.Atoi(q.Points)
		if err != nil || n < PointsMin || n > PointsMax {
			return since, until, 0, fmt.Errorf("points: want %d to %d (got %.40q)", PointsMin, PointsMax, q.Points)
		}
		points = n
	}
	if q.Sensor == "" && q.Quantity != "" {
		return since, until, 0, errors.New("quantity needs a sensor")
	}
	return since, until, points, nil
}

// moment parses a time, or a duration before from.
func moment(text string, from, otherwise time.Time) (time.Time, error) {
	if text == "" {
		return otherwise, nil
	}
	if t, err := time.Parse(time.RFC3339, text); err == nil {
		if t.Year() < 1970 || t.Year() > 2105 {
			return t, fmt.Errorf("want a year from 1970 to 2105 (got %.40q)", text)
		}
		return t.UTC(), nil
	}
	d, err := ParseAge(text)
	if err != nil {
		return from, fmt.Errorf("want a time such as 2026-11-29T08:00:00Z, or 90m, 12h, 1d or 2w before (got %.40q)", text)
	}
	return from.Add(-d), nil
}
