package api_test

import (
	"encoding/json"
	"math"
	"strings"
	"testing"
	"time"

	"fieldpost/daemon/api"
)

func TestParseAge(t *testing.T) {
	for text, want := range map[string]time.Duration{
		"90m": 90 * time.Minute, "1d": 24 * time.Hour, "2w": 14 * 24 * time.Hour, "1w2d3h": 9*24*time.Hour + 3*time.Hour, "1d12h": 36 * time.Hour, "0s": 0, "1.5h": 90 * time.Minute,
	} {
		if got, err := api.ParseAge(text); err != nil || got != want {
			t.Errorf("%q: got %v, %v", text, got, err)
		}
	}
	for _, text := range []string{"", "d", "1", "-1h", "+1h", "1d-2h", "1d2w", "1.5d", "99999w", "1e3d", "1d ", "900000h", "1dd", "\x00"} {
		if got, err := api.ParseAge(text); err == nil || !strings.HasPrefix(err.Error(), "want a time such as 90m, 12h, 1d or 2w (got ") {
			t.Errorf("%q: got %v, %v", text, got, err)
		}
	}
}

func TestRangeOfAHistoryQuery(t *testing.T) {
	now := time.Date(2026, 11, 29, 8, 0, 0, 0, time.UTC)
	for _, c := range []struct {
		q            api.HistoryQuery
		since, until time.Time
		points       int
	}{
		{api.HistoryQuery{}, now.Add(-time.Hour), now, 500},
		{api.HistoryQuery{Since: "1d", Points: "2"}, now.AddDate(0, 0, -1), now, 2},
		{api.HistoryQuery{Since: "2h", Until: "1h", Points: "1000"}, now.Add(-3 * time.Hour), now.Add(-time.Hour), 1000},
		{api.HistoryQuery{Since: "2026-11-28T10:00:00+02:00", Until: "2026-11-28T09:00:00.5Z"}, now.AddDate(0, 0, -1), now.AddDate(0, 0, -1).Add(time.Hour + time.Second/2), 500},
	} {
		since, until, points, err := c.q.Range(now)
		if err != nil || !since.Equal(c.since) || !until.Equal(c.until) || points != c.points {
			t.Errorf("%+v: got %v, %v, %d, %v", c.q, since, until, points, err)
		}
	}
	for want, q := range map[string]api.HistoryQuery{
		"since: want a time such as":           {Since: "yesterday"},
		"until: want a time such as":           {Until: "2026-11-29"},
		"until: want a year from 1970":         {Until: "9999-01-01T00:00:00Z"},
		"since is 2026-11-29T08:00:00Z, after": {Since: "2026-11-29T08:00:00Z", Until: "1h"},
		"points: want 2 to 1000 (got \"1\")":   {Points: "1"},
		"points: want 2 to 1000 (got \"x\")":   {Points: "x"},
		"quantity needs a sensor":              {Quantity: "temperature"},
	} {
		if _, _, _, err := q.Range(now); err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("%+v: got %v, want %s", q, err, want)
		}
	}
}

// A column is numbers without exponents where people would write none, and null for what is
// not known.
func TestColumn(t *testing.T) {
	c := api.Column{21.5, math.NaN(), 0, -3, 987654321007, 1e-9, math.Inf(1)}
	b, err := json.Marshal(c)
	if want := `[21.5,null,0,-3,987654321007,1e-09,null]`; err != nil || string(b) != want {
		t.Errorf("got %s, %v, want %s", b, err, want)
	}
	var got api.Column
	if err := json.Unmarshal(b, &got); err != nil || len(got) != 7 || got[0] != 21.5 || !math.IsNaN(got[1]) || got[5] != 1e-9 {
		t.Errorf("got %v, %v", got, err)
	}
	if err := json.Unmarshal([]byte(`["x"]`), &got); err == nil {
		t.Error("a text is no number")
	}
}
