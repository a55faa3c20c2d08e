package command

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"fieldpost/daemon/clock"
	"fieldpost/daemon/health"
	"fieldpost/daemon/journal"
	"fieldpost/daemon/output"
	"fieldpost/daemon/uplink"
)

// mail makes messages and counts their acknowledgements.
type mail struct {
	mu    sync.Mutex
	acked []string
	lost  bool
}

func (m *mail) of(payload []byte) uplink.Message {
	return uplink.Message{Topic: orders, Payload: payload, QoS: 1, Ack: func() {
		m.mu.Lock()
		defer m.mu.Unlock()
		m.acked = append(m.acked, string(payload))
	}, Lost: func() bool {
		m.mu.Lock()
		defer m.mu.Unlock()
		return m.lost
	}}
}

// lose ends the connection of all messages.
func (m *mail) lose() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.lost = true
}

func (m *mail) count() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return len(m.acked)
}

// yard is a desk at work on outputs whose lines hang until they are let go.
type yard struct {
	*bench
	*mail
	in     chan uplink.Message
	hang   map[string]chan struct{} // by output
	stop   func() error
	faults []string // guarded by the bench's mu
}

// Do implements Outputs.
func (y *yard) Do(o output.Order) (output.State, error) {
	if c := y.hang[o.Output]; c != nil {
		<-c
	}
	return y.pins.Do(o)
}

// Energises implements Outputs.
func (y *yard) Energises(name string, a output.Action) (bool, bool) {
	return y.pins.Energises(name, a)
}

func newYard(t *testing.T, j journal.Storage, hanging ...string) *yard {
	return newYardWith(t, Options{Journal: j}, hanging...)
}

// newYardWith is newYard with a desk that has options of its own.
func newYardWith(t *testing.T, o Options, hanging ...string) *yard {
	y := &yard{bench: &bench{t: t, pins: newPins()}, mail: &mail{}, in: make(chan uplink.Message, 256), hang: map[string]chan struct{}{}}
	for _, name := range hanging {
		y.hang[name] = make(chan struct{})
	}
	o.Thing, o.Topic, o.MaxLife, o.Outputs, o.Answer = thing, orders, time.Hour, y, y.answered
	if o.Clock == nil {
		o.Clock = clock.Fake()
	}
	o.Health = health.New(func(c health.Change) {
		y.bench.mu.Lock()
		defer y.bench.mu.Unlock()
		y.faults = append(y.faults, fmt.Sprintf("%s %s", c.Fault.Code, c.State()))
	})
	y.desk = New(o)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- y.desk.Serve(ctx, y.in) }()
	y.stop = sync.OnceValue(func() error {
		cancel()
		return <-ended
	})
	t.Cleanup(func() { _ = y.stop() })
	return y
}

// send hands orders in and waits until all that can happen has.
func (y *yard) send(orders ...[]byte) {
	for _, o := range orders {
		y.in <- y.of(o)
	}
	synctest.Wait()
}

// heard gives the answers since it was last asked: id, status, reason, sorted.
func (y *yard) heard() (out []string) {
	y.bench.mu.Lock()
	defer y.bench.mu.Unlock()
	for _, r := range y.sent {
		said := map[string]any{}
		for _, f := range r.Fields {
			said[f.Name] = f.Value
		}
		line := fmt.Sprint(said["id"], " ", said["status"])
		if said["reason"] != nil {
			line += fmt.Sprint(" ", said["reason"])
		}
		out = append(out, line)
	}
	y.sent = nil
	slices.Sort(out)
	return out
}

func (y *yard) want(what string, answers ...string) {
	y.t.Helper()
	if got := y.heard(); !slices.Equal(got, answers) {
		y.t.Errorf("%s: answers %q, want %q", what, got, answers)
	}
}

// faulty checks which faults were told since it was last asked.
func (y *yard) faulty(faults ...string) {
	y.t.Helper()
	y.bench.mu.Lock()
	defer y.bench.mu.Unlock()
	if !slices.Equal(y.faults, faults) {
		y.t.Errorf("told faults %q, want %q", y.faults, faults)
	}
	y.faults = nil
}
