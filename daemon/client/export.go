package client

import (
	"bufio"
	"context"
	"encoding/csv"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"fieldpost/daemon/api"
	"fieldpost/daemon/local"
)

// ExportFormats are the formats of [Export].
var ExportFormats = []string{"csv", "json"}

// ExportRequest says what to export.
type ExportRequest struct {
	Since, Until string   // as in [api.HistoryQuery]
	Sensors      []string // none means all
	Format       string   // one of ExportFormats
}

// Check returns why a request cannot be meant, or nil.
func (r ExportRequest) Check() error {
	if !slices.Contains(ExportFormats, r.Format) {
		return fmt.Errorf("--format must be %s (got %.40q)", strings.Join(ExportFormats, " or "), r.Format)
	}
	if slices.Contains(r.Sensors, "") {
		return errors.New("--sensor needs a name")
	}
	_, _, _, err := api.HistoryQuery{Since: r.Since, Until: r.Until}.Range(time.Now())
	if err != nil {
		return fmt.Errorf("--%w", err)
	}
	return nil
}

// Export writes the past readings of the daemon whose socket is at path to w, series by
// series. What of them is as it should be known besides is a text for people, "" if there is
// nothing. It is no error if the reader of w has had enough. An error is or wraps one of
// package local's, is an [*api.Error], or is w's.
func Export(ctx context.Context, path string, r ExportRequest, w io.Writer) (note string, err error) {
	var all api.History
	if err := local.Do(ctx, path, api.GetHistory, api.HistoryQuery{}, &all); err != nil {
		return "", err
	}
	since, until, _, err := api.HistoryQuery{Since: r.Since, Until: r.Until}.Range(all.Time)
	if err != nil {
		return "", err
	}
	series, err := chosen(ctx, path, r.Sensors, all)
	if err != nil {
		return "", err
	}
	b := bufio.NewWriter(w)
	rows := newRows(b, r.Format)
	for _, s := range series {
		if s.Last.Before(since.Add(-time.Hour)) || s.First.After(until) { // a point is half an hour long at most
			continue
		}
		if err := exportSeries(ctx, path, s, later(since, s.First), until, rows.write); err != nil {
			return "", ended(err)
		}
	}
	if err := errors.Join(rows.end(), b.Flush()); err != nil {
		return "", ended(err)
	}
	return noteOf(all), nil
}

// noteOf says what somebody should know of the times.
func noteOf(h api.History) string {
	if !h.ClockSynced {
		return "the daemon's clock is not synchronised: the times may be wrong"
	}
	return ""
}

// ended returns an error of writing, but nil if the reader has closed a pipe.
func ended(err error) error {
	if errors.Is(err, syscall.EPIPE) {
		return nil
	}
	return fmt.Errorf("export: %w", err)
}

func later(a, b time.Time) time.Time {
	if b.After(a) {
		return b
	}
	return a
}

// chosen returns the series of some sensors, in the order in which the daemon has them. The
// error is the daemon's if it has nothing of a sensor.
func chosen(ctx context.Context, path string, sensors []string, all api.History) (some []api.HistorySeries, err error) {
	if len(sensors) == 0 {
		sensors = []string{""}
		if all.Keep != "none" {
			return all.Series, nil
		}
	}
	for _, name := range sensors {
		had := slices.ContainsFunc(all.Series, func(s api.HistorySeries) bool { return s.Sensor == name })
		if had {
			continue
		}
		if name == "" {
			name = "-" // no sensor's name: the daemon says that it keeps nothing
		}
		if err := local.Do(ctx, path, api.GetHistory, api.HistoryQuery{Sensor: name}, new(api.History)); err != nil {
			return nil, err
		}
	}
	for _, s := range all.Series {
		if slices.Contains(sensors, s.Sensor) {
			some = append(some, s)
		}
	}
	return some, nil
}

// exported is a line of an export.
type exported struct {
	Time     time.Time `json:"time"` // when it begins
	Sensor   string    `json:"sensor"`
	Quantity string    `json:"quantity"`
	Unit     string    `json:"unit"` // UCUM code
	Mean     float64   `json:"mean"`
	Min      float64   `json:"min"`
	Max      float64   `json:"max"`
}

// exportSeries asks for the points of a series and writes them. Gaps have no row.
func exportSeries(ctx context.Context, path string, s api.HistorySeries, since, until time.Time, write func(exported) error) error {
	var h api.History
	q := api.HistoryQuery{Sensor: s.Sensor, Quantity: s.Quantity, Since: since.Format(time.RFC3339), Until: until.Format(time.RFC3339), Points: strconv.Itoa(api.PointsMax)}
	err := local.Do(ctx, path, api.GetHistory, q, &h)
	var said *api.Error
	if errors.As(err, &said) && (said.Code == api.NoHistory || said.Code == api.UnknownSensor) {
		return nil // dropped since it was listed
	}
	if err != nil {
		return err
	}
	for _, s := range h.Series {
		n := len(s.Times)
		if len(s.Mean) != n || len(s.Min) != n || len(s.Max) != n {
			return errors.New("decode the daemon's answer: columns of different lengths")
		}
		for i, at := range s.Times {
			if math.IsNaN(s.Mean[i]) {
				continue
			}
			if err := write(exported{time.Unix(at, 0).UTC(), s.Sensor, s.Quantity, s.Unit, s.Mean[i], s.Min[i], s.Max[i]}); err != nil {
				return err
			}
		}
	}
	return nil
}

// rows writes rows in a format.
type rows struct {
	write func(exported) error
	end   func() error
}

func newRows(w *bufio.Writer, format string) rows {
	if format == "json" {
		return jsonRows(w)
	}
	c := csv.NewWriter(w) // it keeps the first error for Error
	_ = c.Write([]string{"time", "sensor", "quantity", "unit", "mean", "min", "max"})
	number := func(x float64) string { return strconv.FormatFloat(x, 'f', -1, 64) }
	return rows{
		write: func(r exported) error {
			return c.Write([]string{r.Time.Format(time.RFC3339), r.Sensor, r.Quantity, r.Unit, number(r.Mean), number(r.Min), number(r.Max)})
		},
		end: func() error {
			c.Flush()
			return c.Error()
		},
	}
}

// jsonRows writes an array with an object a line.
func jsonRows(w *bufio.Writer) rows {
	before := "[\n"
	return rows{
		write: func(r exported) error {
			b, err := json.Marshal(r)
			if err != nil {
				return err
			}
			_, err = w.WriteString(before + string(b))
			before = ",\n"
			return err
		},
		end: func() error {
			if before == "[\n" {
				_, err := w.WriteString("[]\n")
				return err
			}
			_, err := w.WriteString("\n]\n")
			return err
		},
	}
}
