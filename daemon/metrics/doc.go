// Package metrics writes the state of a daemon as text for Prometheus and for what reads the
// same format: Telegraf, the OpenTelemetry collector, VictoriaMetrics, node_exporter's textfile
// collector.
//
// The format is version 0.0.4 of Prometheus's text format
// (https://prometheus.io/docs/instrumenting/exposition_formats/). Names follow Prometheus's
// conventions: base units, _total for what only grows. A name, a label and what they mean stay;
// new ones may come.
//
// Nothing is counted for the metrics: [Text] makes them from [fieldpost/daemon/api.Status], when
// somebody asks. A library would bring a registry of counters that are kept whether or not
// anybody asks, and the format takes a page.
package metrics
