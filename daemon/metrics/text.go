package metrics

import (
	"bytes"
	"math"
	"strconv"
	"strings"

	"fieldpost/daemon/api"
)

// Kind says how a metric changes.
type Kind string

// The kinds. The format has others, which fieldpost does not use.
const (
	Gauge   Kind = "gauge"   // goes up and down
	Counter Kind = "counter" // only grows, until the daemon starts again
)

// Metric is one metric.
type Metric struct {
	Name   string
	Kind   Kind
	Help   string   // one line: what it is, in a sentence or two
	Labels []string // their names, in order

	// samples calls emit for each value, with the values of the labels in their order. A
	// metric without a value is left out.
	samples func(s *Snapshot, emit emit)
}

// emit adds a value.
type emit func(value float64, labels ...string)

// Snapshot is what the metrics are made from.
type Snapshot struct {
	Status    api.Status
	GoVersion string
	Process   Process
}

// Text returns all metrics that have a value, as the media type of [api.GetMetrics]. Any
// goroutine.
func Text(s Snapshot) []byte {
	var b bytes.Buffer
	for _, m := range Metrics {
		begun := false
		m.samples(&s, func(value float64, labels ...string) {
			if !begun {
				begun = true
				b.WriteString("# HELP " + m.Name + " " + helpEscapes.Replace(m.Help) + "\n# TYPE " + m.Name + " " + string(m.Kind) + "\n")
			}
			b.WriteString(m.Name)
			writeLabels(&b, m.Labels, labels)
			b.WriteString(" " + number(value) + "\n")
		})
	}
	return b.Bytes()
}

// What the format wants escaped.
var (
	helpEscapes  = strings.NewReplacer(`\`, `\\`, "\n", `\n`)
	labelEscapes = strings.NewReplacer(`\`, `\\`, "\n", `\n`, `"`, `\"`)
)

// writeLabels writes the labels of one sample. names and values are equally long.
func writeLabels(b *bytes.Buffer, names, values []string) {
	for i, name := range names {
		separator := byte(',')
		if i == 0 {
			separator = '{'
		}
		b.WriteByte(separator)
		b.WriteString(name + `="` + labelEscapes.Replace(strings.ToValidUTF8(values[i], "\uFFFD")) + `"`)
	}
	if len(names) > 0 {
		b.WriteByte('}')
	}
}

// number writes a value as Prometheus reads it.
func number(x float64) string {
	switch {
	case math.IsInf(x, 1):
		return "+Inf"
	case math.IsInf(x, -1):
		return "-Inf"
	}
	return strconv.FormatFloat(x, 'g', -1, 64)
}

func truth(b bool) float64 {
	if b {
		return 1
	}
	return 0
}
