package daemon

import (
	"context"
	"encoding/json"
	"runtime"
	"sync"
	"time"

	"fieldpost/daemon/api"
	"fieldpost/daemon/config"
	"fieldpost/daemon/local"
	"fieldpost/daemon/metrics"
	"fieldpost/daemon/task"
)

const (
	// metricsEvery is how often the metrics are made at most. Who asks more often gets those
	// from before, so that nobody on the network can keep the processor busy with them.
	metricsEvery = time.Second
	// metricsPatience is how long the answers that are under way may take at an end.
	metricsPatience = 2 * time.Second
)

// metricsText is the metrics as they were made last.
type metricsText struct {
	mu   sync.Mutex
	at   time.Duration // by the clock since the boot; 0 is never
	text string
}

// get returns the metrics as they are at now, or up to metricsEvery before.
func (m *metricsText) get(now time.Duration, make func() string) string {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.at == 0 || now-m.at >= metricsEvery || now < m.at {
		m.at, m.text = now, make()
	}
	return m.text
}

// getMetrics answers with the metrics.
func (d socketCalls) getMetrics() local.Endpoint {
	return local.Endpoint{Route: api.GetMetrics, Call: func(context.Context, local.Peer, json.RawMessage) (any, error) {
		return d.metricsNow(), nil
	}}
}

// metricsNow returns the metrics. It waits for no line, bus or disk. Any goroutine.
func (d socketCalls) metricsNow() string {
	return d.measured.get(d.o.Clock.Now().Mono, func() string {
		d.generation().files.Refresh() // so that the next answer knows a new certificate
		return string(metrics.Text(metrics.Snapshot{Status: d.reportWith(certificateKnown(d.generation())), GoVersion: runtime.Version(), Process: metrics.ThisProcess()}))
	})
}

// serveMetrics starts to serve the metrics at the address that a configuration names, and
// returns the task; nil if it names none.
func (d socketCalls) serveMetrics(cfg *config.Config) *task.Task {
	if cfg.Local.Metrics == "" {
		return nil
	}
	s := local.New(local.Options{
		Address: cfg.Local.Metrics, Hosts: cfg.Local.Hosts, Endpoints: []local.Endpoint{d.getMetrics()}, Health: d.health, Log: d.log,
	})
	return task.Start("metrics", d.failed, s.Run)
}
