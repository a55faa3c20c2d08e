package command

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"fieldpost/daemon/clock"
	"fieldpost/daemon/message"
	"fieldpost/daemon/output"
)

// pins are two outputs in memory: pump, safe when off, and lock, safe when on.
type pins struct {
	mu   sync.Mutex
	did  []string
	fail error
	at   map[string]output.Level
}

func newPins() *pins { return &pins{at: map[string]output.Level{"lock": output.On}} }

func (p *pins) Energises(name string, a output.Action, level output.Level) (energises, ok bool) {
	safe := output.SafeOff
	if name == "lock" {
		safe = output.SafeOn
	}
	return a.Energises(safe, level), name == "pump" || name == "lock"
}

func (p *pins) Do(o output.Order) (output.State, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.did = append(p.did, fmt.Sprintf("%s %s %s by %s order %s", o.Output, o.Action, o.For, o.Cause, o.ID))
	if p.fail == nil {
		now := p.at[o.Output]
		p.at[o.Output] = output.LevelOf(o.Action == output.ActionOn || o.Action == output.ActionToggle && now == output.Off || o.Action == output.ActionPulse && o.Output == "pump")
	}
	return output.State{Name: o.Output, Level: p.at[o.Output], Since: time.Now()}, p.fail
}

func (p *pins) moved() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.did)
}

// harness is a dispatcher with an adjustable clock.
type harness struct {
	t          *testing.T
	dispatcher *Dispatcher
	pins       *pins
	unsynced   bool
	ahead      time.Duration // how far the wall clock is ahead of package time

	mu        sync.Mutex
	sent      []message.Record
	delivered chan struct{} // closed when answers are safe; nil: at once
	// answering is called before an answer is recorded; may be nil.
	answering func()
}

// answered records an answer.
func (h *harness) answered(r message.Record) <-chan struct{} {
	if h.answering != nil {
		h.answering()
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.sent = append(h.sent, r)
	return h.delivered
}

func newHarness(t *testing.T) *harness {
	h := &harness{t: t, pins: newPins()}
	c := clock.Fake()
	h.dispatcher = New(Options{
		Thing: thing, Topic: orders, MaxLife: time.Hour, Outputs: h.pins,
		Clock: clock.Func(func() clock.Stamp {
			s := c.Now()
			s.Wall, s.Synced = s.Wall.Add(h.ahead), !h.unsynced
			return s
		}),
		Answer: h.answered,
	})
	return h
}

// work makes the dispatcher serve until the test ends or stop is called.
func (h *harness) work() (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- h.dispatcher.Serve(ctx, nil) }()
	stop = sync.OnceFunc(func() {
		cancel()
		if err := <-ended; !errors.Is(err, context.Canceled) {
			h.t.Errorf("Serve: %v", err)
		}
	})
	h.t.Cleanup(stop)
	return stop
}

// order returns an order without empty fields. expires counts from now.
func order(id, out, action string, expires time.Duration) []byte {
	m := map[string]string{"output": out, "action": action}
	if id != "" {
		m["id"] = id
	}
	if expires != 0 {
		m["expires"] = time.Now().Add(expires).UTC().Format(time.RFC3339Nano)
	}
	text, err := json.Marshal(m)
	if err != nil {
		panic(err)
	}
	return text
}

// gets handles an order and checks its answer and the number of acts.
func (h *harness) gets(payload []byte, status Status, reason Code, acts int) Answer {
	h.t.Helper()
	before := h.pins.moved()
	a, ok := h.dispatcher.Handle(payload, false, "test")
	if !ok || a.Status != status || a.Reason != reason {
		h.t.Errorf("%s\nanswer %+v, %v; want %s %s", payload, a, ok, status, reason)
	}
	if got := h.pins.moved() - before; got != acts {
		h.t.Errorf("%s\nmoved pins %d times, want %d", payload, got, acts)
	}
	if (status == Done) != (a.Hint == "") || a.Stamp.Wall.IsZero() {
		h.t.Errorf("%s\nanswer %+v: a hint stands with what is not done only, a stamp always", payload, a)
	}
	return a
}
