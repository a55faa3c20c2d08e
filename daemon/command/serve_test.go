package command

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"fieldpost/daemon/message"
	"fieldpost/daemon/uplink"
)

// serve runs the desk over messages and waits until all are finished.
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
	b.desk.o.Answer = func(r message.Record) <-chan struct{} {
		b.answered(r)
		if m.count() > 0 && len(b.sent) < 2 {
			t.Error("acknowledged before the answer was recorded")
		}
		return nil
	}
	b.serve(m.of(on), m.of(on))
	b.desk.o.Answer = b.answered
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
	m.lose()
	b.serve(m.of(order("late", "pump", "off", time.Minute)))
	if len(b.sent) != 3 || len(m.acked) != 4 || len(b.pins.did) != 1 {
		t.Errorf("an order of a lost connection was begun: did %q", b.pins.did)
	}
}

// After its end the desk takes nothing, though there is something; what comes
// another way is told that it is stopping. [CMD-13]
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
	if a := b.gets(order("b", "pump", "off", time.Minute), Failed, Stopping, 0); a.ID != "b" || a.Output != "pump" {
		t.Errorf("answer %+v", a)
	}
}

// Orders and answers on one topic: every answer comes back to us, and that is
// the end of it. [CMD-1]
func TestOneTopicForAll(t *testing.T) {
	b := newBench(t)
	m := &mail{}
	const n = 8
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
		in = append(in, m.of(message.Encode(thing, r)))
	}
	b.serve(in...)
	if len(b.sent) != n || len(m.acked) != 2*n || b.desk.Stats().Passed != n {
		t.Errorf("own answers were answered: %d answers, %d acknowledged, %+v", len(b.sent), len(m.acked), b.desk.Stats())
	}
}

// A line that hangs holds up its own orders and no others. Those that wait for
// it are refused when their time is over or there is no room, and do not act
// when it comes back. Messages after it are acknowledged. [CMD-15] [CMD-16]
func TestHungLine(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		y := newYard(t, &paper{t: t}, "pump")
		y.send(order("hangs", "pump", "on", 10*time.Minute), order("soon", "pump", "toggle", 20*time.Second))
		for i := range laneRoom {
			y.send(order(fmt.Sprint("w", i), "pump", "on", 30*time.Second))
		}
		y.want("for now there is room")
		y.send(order("other", "lock", "off", time.Minute))
		y.want("another output", "other done")
		if n := y.count(); n != 0 {
			t.Errorf("%d messages acknowledged ahead of one that came before", n)
		}
		pass(crowdedAfter)
		y.want("no room", "w7 refused busy")
		if n := y.count(); n != 2 {
			t.Errorf("%d messages acknowledged, want those that were answered", n)
		}
		<-time.After(20 * time.Second)
		synctest.Wait()
		y.want("expired", "soon refused expired")
		<-time.After(10 * time.Second)
		synctest.Wait()
		if got := y.heard(); len(got) != laneRoom-1 || slices.ContainsFunc(got, func(s string) bool { return s[2:] != " refused expired" }) {
			t.Errorf("answers %q, want all that waited refused", got)
		}
		y.send(order("soon", "pump", "toggle", 20*time.Second)) // again: its first answer
		y.want("again", "soon refused expired")
		close(y.hang["pump"])
		synctest.Wait()
		y.want("the line is back", "hangs done")
		if got := y.pins.did; len(got) != 2 || y.count() != 4+laneRoom {
			t.Errorf("did %q, %d messages acknowledged", got, y.count())
		}
		y.send(order("next", "pump", "off", time.Minute))
		y.want("after that", "next done")
	})
}

// An order to the safe level goes ahead of those that wait, and they are
// refused; it does not act for ever later itself. [CMD-15] [CMD-16]
func TestSafeGoesAhead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		y := newYard(t, &paper{t: t}, "pump")
		y.send(order("hangs", "pump", "on", 10*time.Minute))
		y.send(order("a", "pump", "on", time.Minute), order("b", "pump", "toggle", time.Minute),
			order("off", "pump", "off", 0), order("c", "pump", "pulse", time.Minute))
		y.want("overtaken", "a refused overtaken", "b refused overtaken")
		close(y.hang["pump"])
		synctest.Wait()
		y.want("the line is back", "c done", "hangs done", "off done")
		if got, want := len(y.pins.did), 3; got != want {
			t.Errorf("did %q", y.pins.did)
		}

		y.hang["pump"] = make(chan struct{})
		y.send(order("hangs too", "pump", "on", 10*time.Minute))
		for i := range laneRoom + 1 {
			y.send(order(fmt.Sprint("o", i), "pump", "off", 0))
		}
		pass(crowdedAfter)
		y.want("no room", "o8 failed hangs")
		pass(safePatience)
		if got := y.heard(); len(got) != laneRoom || slices.ContainsFunc(got, func(s string) bool { return s[2:] != " failed hangs" }) {
			t.Errorf("answers %q, want all that waited failed", got)
		}
		close(y.hang["pump"])
		synctest.Wait()
		y.want("the line is back", "hangs too done")
		if got := len(y.pins.did); got != 4 {
			t.Errorf("did %q, want none of those that were answered", y.pins.did)
		}
		y.hang = nil
		y.send(order("o8", "pump", "off", 0)) // it was not remembered
		y.want("once more", "o8 done")
	})
}

// What a broker sends at once after an outage is carried out, though the disk is
// slow; more than that is refused. [CMD-16]
func TestBurst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := &paper{t: t}
		y := newYard(t, p)
		p.failing(func(op string) error {
			if op == "sync" {
				<-time.After(50 * time.Millisecond)
			}
			return nil
		})
		const n = laneMost + 1
		for i := range n + 1 {
			y.in <- y.of(order(fmt.Sprint("o", i), "pump", "toggle", time.Minute))
		}
		pass(time.Minute)
		got := y.heard()
		if i := slices.Index(got, fmt.Sprintf("o%d refused busy", n)); len(got) != n+1 || i < 0 || y.count() != n+1 {
			t.Errorf("%d answers, %d acknowledged, the last refused: %v", len(got), y.count(), i >= 0)
		}
		if len(y.pins.did) != n {
			t.Errorf("%d orders were carried out of %d", len(y.pins.did), n)
		}
		for i, did := range y.pins.did {
			if want := fmt.Sprintf("pump toggle 0s by mqtt order o%d", i); did != want {
				t.Fatalf("did %q, want %q", did, want)
			}
		}
	})
}

// Orders of a connection that has ended, and that had not begun, are dropped:
// the broker sends them again, and then they are carried out once. [CMD-13]
func TestWaitingOrdersOfALostConnection(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		y := newYard(t, &paper{t: t}, "pump")
		begun, waits, comes := order("begun", "pump", "on", time.Minute), order("waits", "pump", "toggle", time.Minute), order("comes", "pump", "toggle", time.Minute)
		y.send(begun, waits, comes)
		y.lose()
		second := &mail{}
		y.in <- second.of(begun)
		y.in <- second.of(comes)
		synctest.Wait()
		close(y.hang["pump"])
		synctest.Wait()
		got := y.heard()
		if want := []string{"begun done", "begun done", "comes done", "comes done"}; !slices.Equal(got, want) {
			t.Errorf("answers %q, want %q", got, want)
		}
		if second.count() != 2 || len(y.pins.did) != 2 {
			t.Errorf("%d acknowledged, did %q", second.count(), y.pins.did)
		}
		y.in <- second.of(waits)
		synctest.Wait()
		y.want("comes again", "waits done")
	})
}

// When the desk ends, orders that wait are dropped, and what is under way is
// waited for. [CMD-13]
func TestEndWithOrdersWaiting(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		y := newYard(t, &paper{t: t}, "pump")
		y.send(order("hangs", "pump", "on", time.Minute), order("waits", "pump", "on", time.Minute))
		local := make(chan Answer, 1)
		go func() {
			a, _ := y.desk.Handle(order("local", "pump", "on", time.Minute), false, "local")
			local <- a
		}()
		synctest.Wait()
		ended := make(chan error, 1)
		go func() { ended <- y.stop() }()
		if a := <-local; a.Status != Failed || a.Reason != Stopping || a.ID != "local" {
			t.Errorf("answer %+v", a)
		}
		synctest.Wait()
		if len(ended) != 0 {
			t.Error("ended while a line was moved")
		}
		close(y.hang["pump"])
		if err := <-ended; !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
		y.want("at the end", "hangs done")
		if y.count() != 1 || len(y.pins.did) != 1 {
			t.Errorf("%d acknowledged, did %q", y.count(), y.pins.did)
		}
	})
}

// An order that did not come by mail and ends after the desk has is answered at
// once: nobody writes the ledger any more, and waiting for it would be in vain.
func TestOrderEndsAfterTheDesk(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := &paper{t: t}
		y := newYard(t, p, "pump")
		answered := make(chan Answer, 1)
		go func() {
			a, _ := y.desk.Handle(order("a", "pump", "on", time.Hour), false, "local")
			answered <- a
		}()
		synctest.Wait()
		if err := y.stop(); !errors.Is(err, context.Canceled) {
			t.Errorf("serve ended with %v", err)
		}
		before := time.Now()
		close(y.hang["pump"])
		if a := <-answered; a.Status != Done || time.Since(before) != 0 {
			t.Errorf("answer %+v after %v", a, time.Since(before))
		}
		again := newYard(t, p) // a crash it was not, but as much is known
		again.send(order("a", "pump", "on", time.Hour))
		if got := again.heard(); len(got) == 0 || got[0] != "a unknown no_result" {
			t.Errorf("the next desk answers %q", got)
		}
	})
}
