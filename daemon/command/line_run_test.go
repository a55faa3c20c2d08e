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

// messages makes messages and counts their acknowledgements.
type messages struct {
	mu    sync.Mutex
	acked []string
	lost  bool
}

func (sent *messages) of(payload []byte) uplink.Message {
	return uplink.Message{Topic: orders, Payload: payload, QoS: 1, Ack: func() {
		sent.mu.Lock()
		defer sent.mu.Unlock()
		sent.acked = append(sent.acked, string(payload))
	}, Lost: func() bool {
		sent.mu.Lock()
		defer sent.mu.Unlock()
		return sent.lost
	}}
}

// lose ends the connection of all messages.
func (sent *messages) lose() {
	sent.mu.Lock()
	defer sent.mu.Unlock()
	sent.lost = true
}

func (sent *messages) count() int {
	sent.mu.Lock()
	defer sent.mu.Unlock()
	return len(sent.acked)
}

// lineRun is a running dispatcher on outputs whose lines hang until they are released.
type lineRun struct {
	*harness
	*messages
	in     chan uplink.Message
	hang   map[string]chan struct{} // by output
	stop   func() error
	faults []string // guarded by the harness's mu
}

// Do implements Outputs.
func (run *lineRun) Do(o output.Order) (output.State, error) {
	if c := run.hang[o.Output]; c != nil {
		<-c
	}
	return run.pins.Do(o)
}

// Energises implements Outputs.
func (run *lineRun) Energises(name string, a output.Action, level output.Level) (bool, bool) {
	return run.pins.Energises(name, a, level)
}

func newLineRun(t *testing.T, j journal.Storage, hanging ...string) *lineRun {
	return newLineRunWith(t, Options{Journal: j}, hanging...)
}

// newLineRunWith is newLineRun with options.
func newLineRunWith(t *testing.T, o Options, hanging ...string) *lineRun {
	run := &lineRun{harness: &harness{t: t, pins: newPins()}, messages: &messages{}, in: make(chan uplink.Message, 256), hang: map[string]chan struct{}{}}
	for _, name := range hanging {
		run.hang[name] = make(chan struct{})
	}
	o.Thing, o.Topic, o.MaxLife, o.Outputs, o.Answer = thing, orders, time.Hour, run, run.answered
	if o.Clock == nil {
		o.Clock = clock.Fake()
	}
	o.Health = health.New(func(c health.Change) {
		run.harness.mu.Lock()
		defer run.harness.mu.Unlock()
		run.faults = append(run.faults, fmt.Sprintf("%s %s", c.Fault.Code, c.State()))
	})
	run.dispatcher = New(o)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- run.dispatcher.Serve(ctx, run.in) }()
	run.stop = sync.OnceValue(func() error {
		cancel()
		return <-ended
	})
	t.Cleanup(func() { _ = run.stop() })
	return run
}

// send sends orders and waits until everything that can happen has happened.
func (run *lineRun) send(orders ...[]byte) {
	for _, o := range orders {
		run.in <- run.of(o)
	}
	synctest.Wait()
}

// heard returns the answers since its last call: id, status, reason, sorted.
func (run *lineRun) heard() (out []string) {
	run.harness.mu.Lock()
	defer run.harness.mu.Unlock()
	for _, r := range run.sent {
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
	run.sent = nil
	slices.Sort(out)
	return out
}

func (run *lineRun) want(what string, answers ...string) {
	run.t.Helper()
	if got := run.heard(); !slices.Equal(got, answers) {
		run.t.Errorf("%s: answers %q, want %q", what, got, answers)
	}
}

// faulty checks the faults since its last call.
func (run *lineRun) faulty(faults ...string) {
	run.t.Helper()
	run.harness.mu.Lock()
	defer run.harness.mu.Unlock()
	if !slices.Equal(run.faults, faults) {
		run.t.Errorf("told faults %q, want %q", run.faults, faults)
	}
	run.faults = nil
}
