package command

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"fieldpost/daemon/spool"
	"fieldpost/daemon/uplink"
)

// mail makes messages and counts their acknowledgements.
type mail struct {
	acked []string
	lost  bool
}

func (m *mail) of(payload []byte) uplink.Message {
	return uplink.Message{Payload: payload, QoS: 1, Ack: func() { m.acked = append(m.acked, string(payload)) }, Lost: func() bool { return m.lost }}
}

// serve runs the desk's worker over messages and waits until all are taken.
func (b *bench) serve(ms ...uplink.Message) {
	b.t.Helper()
	in := make(chan uplink.Message, len(ms))
	for _, m := range ms {
		in <- m
	}
	close(in)
	if err := b.desk.Serve(b.t.Context(), in); err != nil {
		b.t.Error(err)
	}
}

// [CMD-13]
func TestServe(t *testing.T) {
	b := newBench(t)
	m := &mail{}
	on, none := order("a", "pump", "on", time.Minute), []byte("hello")
	keep := b.desk.o.Answer
	b.desk.o.Answer = func(r spool.Record) {
		if keep(r); len(b.sent) < 3 && len(m.acked) >= len(b.sent) {
			t.Error("acknowledged before the answer was recorded")
		}
	}
	b.serve(m.of(on), m.of(on))
	if len(b.sent) != 2 || len(m.acked) != 2 || len(b.pins.did) != 1 {
		t.Errorf("%d answers, %d acknowledged, did %q; want 2, 2 and one act", len(b.sent), len(m.acked), b.pins.did)
	}
	b.serve(m.of(none)) // [CMD-1]: acknowledged, unanswered
	if len(b.sent) != 2 || len(m.acked) != 3 || b.desk.Stats().Passed != 1 {
		t.Errorf("%d answers, %d acknowledged after a message that is no order", len(b.sent), len(m.acked))
	}
	retained := m.of(order("r", "pump", "on", time.Minute))
	retained.Retained = true
	b.serve(retained)
	if len(b.sent) != 3 || len(m.acked) != 4 || len(b.pins.did) != 1 {
		t.Errorf("retained: %d answers, %d acknowledged, did %q", len(b.sent), len(m.acked), b.pins.did)
	}
	m.lost = true
	b.serve(m.of(order("late", "pump", "off", time.Minute)))
	if len(b.sent) != 3 || len(m.acked) != 4 || len(b.pins.did) != 1 {
		t.Errorf("an order of a lost connection was begun: did %q", b.pins.did)
	}
}

// After its end the desk takes nothing, though there is something. [CMD-13]
func TestServeEnds(t *testing.T) {
	b := newBench(t)
	m := &mail{}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	for range 50 { // select chooses at random
		in := make(chan uplink.Message, 1)
		in <- m.of(order("a", "pump", "on", time.Minute))
		if err := b.desk.Serve(ctx, in); !errors.Is(err, context.Canceled) {
			t.Fatalf("Serve: %v", err)
		}
	}
	if len(b.pins.did)+len(m.acked)+len(b.sent) != 0 {
		t.Errorf("did %q, acknowledged %q", b.pins.did, m.acked)
	}
}

// Orders and answers on one topic: every answer comes back to us, and that is
// the end of it. [CMD-1]
func TestOneTopicForAll(t *testing.T) {
	b := newBench(t)
	m := &mail{}
	const n = 20
	var in []uplink.Message
	for i := range n {
		in = append(in, m.of(order(fmt.Sprint("o", i), []string{"pump", "pumpe"}[i%2], "on", time.Minute)))
	}
	b.serve(in...)
	if len(b.sent) != n {
		t.Fatalf("%d answers to %d orders", len(b.sent), n)
	}
	in = nil
	for _, r := range b.sent {
		in = append(in, m.of(spool.Encode(thing, r)))
	}
	b.serve(in...)
	if len(b.sent) != n || len(m.acked) != 2*n || b.desk.Stats().Passed != n {
		t.Errorf("own answers were answered: %d answers, %d acknowledged, %+v", len(b.sent), len(m.acked), b.desk.Stats())
	}
}
