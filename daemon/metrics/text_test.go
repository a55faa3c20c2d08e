package metrics_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil/promlint"

	"fieldpost/daemon/api"
	"fieldpost/daemon/goldentest"
	"fieldpost/daemon/metrics"
)

// snapshot has every metric.
func snapshot() metrics.Snapshot {
	at := time.Date(2026, 11, 21, 19, 5, 0, 0, time.UTC)
	return metrics.Snapshot{
		GoVersion: "go1.26.0",
		Process:   metrics.Process{Known: true, CPU: 1500 * time.Millisecond, Resident: 12 << 20, Files: 17, Goroutines: 41},
		Status: api.Status{
			Thing: "thing-greenhouse", Version: "v1.2.3", Board: `Pi "3" \ B`, Started: at, ClockSynced: true,
			Link:        api.Link{Connected: true, For: 90, Denied: []string{"x"}, Acknowledged: 4711, Connects: 3, SessionsLost: 2, Dropped: 5},
			Certificate: api.Certificate{Expires: at.Add(time.Hour)},
			Spool:       api.Spool{Writable: true, Waiting: 3, Oldest: 88.5, AtRisk: 1, Bytes: 12 << 20, MaxBytes: 64 << 20, Acked: 98765, Dropped: 2, Refused: 1, Gaps: 4},
			Orders:      api.Orders{Done: 12, Refused: 3, Failed: 1, Again: 4, Passed: 100, Elsewhere: 6, Unanswered: 1500},
			Sensors: []api.Sensor{
				{Name: "air", Chip: "bme280", Bus: "i2c-1", Time: at, Age: 4, Values: api.Values{{Name: "temperature", Value: 21.53}, {Name: "dew_point", Value: -0.5}, {Name: "note", Value: "text"}}, Units: map[string]string{"dew_point": "Cel"}},
				{Name: "soil", Chip: "tmp102", Time: at, Age: 60, Values: api.Values{{Name: "temperature", Value: 9.0}}, Faults: []string{"no_answer"}, FailedReads: 12},
				{Name: "door", Chip: "gpio", Time: at, Age: 10, Values: api.Values{{Name: "active", Value: true}, {Name: "count", Value: int64(1 << 40)}}, Faults: []string{"chatters"}},
				{Name: "new", Chip: "lm75"},
			},
			Outputs: []api.Output{{Name: "pump", State: "on", For: 75, RefreshLost: 2}, {Name: "fan", Error: "line is held"}, {Name: "lamp", State: "on", Level: new(62.5)}},
			Faults: []api.Fault{
				{Code: "bus_stuck", Subject: "i2c-1"},
				{Code: "line_busy", Subject: "fan", Error: true},
				{Code: "no_answer", Subject: "soil", Because: &api.Cause{Code: "bus_stuck", Subject: "i2c-1"}},
			},
		},
	}
}

// The names, labels and kinds are a promise: dashboards and alerts use them.
func TestText(t *testing.T) {
	goldentest.File(t, "testdata/metrics.txt", metrics.Text(snapshot()))
}

// Prometheus's own rules for names, and its own parser, have nothing to say.
func TestLint(t *testing.T) {
	problems, err := promlint.New(bytes.NewReader(metrics.Text(snapshot()))).Lint()
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range problems {
		t.Errorf("%s: %s", p.Metric, p.Text)
	}
}

// The value of a sensor that cannot be read is not shown as if it were new; a fault that does
// not concern the value hides nothing.
func TestNoOldReadings(t *testing.T) {
	text := string(metrics.Text(snapshot()))
	if strings.Contains(text, `fieldpost_reading{sensor="soil"`) {
		t.Error("a sensor that does not answer has a reading")
	}
	for _, want := range []string{`fieldpost_reading{sensor="door",quantity="active",unit=""} 1`, `fieldpost_sensor_reading_age_seconds{sensor="soil"} 60`, `fieldpost_sensor_failed_reads_total{sensor="soil"} 12`} {
		if !strings.Contains(text, want+"\n") {
			t.Errorf("there is no %s", want)
		}
	}
}

// Whatever a name is, it stays within its label and its line.
func TestHostileLabels(t *testing.T) {
	s := metrics.Snapshot{Status: api.Status{Version: "a\"} 1\nfieldpost_fault{x=\"\xff\\"}}
	text := metrics.Text(s)
	if _, err := promlint.New(bytes.NewReader(text)).Lint(); err != nil {
		t.Errorf("%v in\n%s", err, text)
	}
	if bytes.Contains(text, []byte("\nfieldpost_fault{")) {
		t.Errorf("a name has become a metric:\n%s", text)
	}
}

// This process uses memory, time and files.
func TestThisProcess(t *testing.T) {
	p := metrics.ThisProcess()
	if p.Goroutines < 2 || p.Known && (p.CPU <= 0 || p.Resident < 1<<20 || p.Files < 3) {
		t.Errorf("%+v", p)
	}
	if _, err := os.Stat("/proc/self/statm"); err == nil && !p.Known {
		t.Error("nothing is known on Linux")
	}
}

// deploy/README.md lists the metrics.
func TestDocsMetrics(t *testing.T) {
	var b strings.Builder
	b.WriteString("\n| metric | labels | it is |\n|---|---|---|\n")
	for _, m := range metrics.Metrics {
		labels := ""
		if len(m.Labels) > 0 {
			labels = "`" + strings.Join(m.Labels, "`, `") + "`"
		}
		fmt.Fprintf(&b, "| `%s` | %s | %s |\n", m.Name, labels, m.Help)
		if strings.ContainsAny(m.Help, "|\n") || !strings.HasSuffix(m.Help, ".") {
			t.Errorf("%s: the text does not fit a table: %q", m.Name, m.Help)
		}
	}
	goldentest.Section(t, "../../deploy/README.md", "metrics", b.String()+"\n")
}

var metricName = regexp.MustCompile(`\b(?:fieldpost|process|go)_[a-z0-9_]+`)

// The dashboard and the alerts ask for metrics, and labels of them, that there are.
func TestDashboard(t *testing.T) {
	known := map[string]bool{}
	for _, m := range metrics.Metrics {
		known[m.Name] = true
	}
	for _, name := range []string{"grafana-dashboard.json", "prometheus-alerts.yaml"} {
		text, err := os.ReadFile(filepath.Join("../../deploy/metrics", name))
		if err != nil {
			t.Fatal(err)
		}
		used := metricName.FindAllString(string(text), -1)
		for _, u := range used {
			if !known[u] {
				t.Errorf("%s uses %s, which is no metric", name, u)
			}
		}
		if len(used) < 4 {
			t.Errorf("%s uses %q only", name, used)
		}
	}
}

var (
	selector = regexp.MustCompile(`((?:fieldpost|process|go)_[a-z0-9_]+)\{([^}]*)\}`)
	matcher  = regexp.MustCompile(`([a-z_]+)\s*(?:=~|!~|!=|=)`)
	legend   = regexp.MustCompile(`\{\{([a-z_]+)\}\}`)
)

// What Grafana needs of each panel is there, panels do not overlap, and a legend names labels
// of the panel's metrics.
func TestPanels(t *testing.T) {
	text, err := os.ReadFile("../../deploy/metrics/grafana-dashboard.json")
	if err != nil {
		t.Fatal(err)
	}
	type box struct{ X, Y, W, H int }
	var d struct {
		Title  string
		UID    string
		Panels []struct {
			ID          int
			Type, Title string
			GridPos     box
			Datasource  struct{ Type, UID string }
			Targets     []struct{ Expr, LegendFormat, RefID string }
			FieldConfig any
		}
		Templating struct{ List []struct{ Name, Type string } }
	}
	if err := json.Unmarshal(text, &d); err != nil {
		t.Fatal(err)
	}
	var boxes []box
	ids := map[int]bool{}
	for _, p := range d.Panels {
		if p.Title == "" || p.Type == "" || ids[p.ID] || p.GridPos.W == 0 || p.GridPos.X+p.GridPos.W > 24 {
			t.Errorf("panel %d is incomplete, or its id is taken: %+v", p.ID, p)
		}
		ids[p.ID] = true
		for _, b := range boxes {
			if g := p.GridPos; g.X < b.X+b.W && b.X < g.X+g.W && g.Y < b.Y+b.H && b.Y < g.Y+g.H {
				t.Errorf("panel %q covers another", p.Title)
			}
		}
		boxes = append(boxes, p.GridPos)
		if p.Datasource.UID != "${datasource}" || len(p.Targets) == 0 {
			t.Errorf("panel %q asks nothing of the chosen data source", p.Title)
		}
		for _, target := range p.Targets {
			labels := []string{"instance", "job", "thing"}
			for _, m := range metrics.Metrics {
				if slices.Contains(metricName.FindAllString(target.Expr, -1), m.Name) {
					labels = append(labels, m.Labels...)
				}
			}
			for _, m := range legend.FindAllStringSubmatch(target.LegendFormat, -1) {
				if !slices.Contains(labels, m[1]) {
					t.Errorf("panel %q: legend %q has a label that its metrics do not have", p.Title, target.LegendFormat)
				}
			}
			for _, s := range selector.FindAllStringSubmatch(target.Expr, -1) {
				for _, m := range matcher.FindAllStringSubmatch(s[2], -1) {
					if !slices.Contains(labels, m[1]) {
						t.Errorf("panel %q: %s has no label %s", p.Title, s[1], m[1])
					}
				}
			}
		}
	}
	if len(d.Panels) < 10 || d.Title == "" || d.UID == "" || len(d.Templating.List) < 2 {
		t.Errorf("the dashboard has %d panels and %d variables", len(d.Panels), len(d.Templating.List))
	}
}
