package command

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"fieldpost/daemon/clock"
	"fieldpost/daemon/message"
	"fieldpost/daemon/uplink"
)

// serve makes the dispatcher handle messages and waits until all are finished.
func (h *harness) serve(ms ...uplink.Message) {
	h.t.Helper()
	in := make(chan uplink.Message, len(ms))
	for _, m := range ms {
		in <- m
	}
	close(in)
	if err := h.dispatcher.Serve(h.t.Context(), in); err != nil {
		h.t.Error(err)
	}
}

// [CMD-13]
func TestServe(t *testing.T) {
	h := newHarness(t)
	sent := &messages{}
	on, none := order("a", "pump", "on", time.Minute), []byte("hello")
	h.dispatcher.o.Answer = func(r message.Record) <-chan struct{} {
		h.answered(r)
		if sent.count() > 0 && len(h.sent) < 2 {
			t.Error("acknowledged before the answer was recorded")
		}
		return nil
	}
	h.serve(sent.of(on), sent.of(on))
	h.dispatcher.o.Answer = h.answered
	if len(h.sent) != 2 || len(sent.acked) != 2 || len(h.pins.did) != 1 {
		t.Errorf("%d answers, %d acknowledged, did %q; want 2, 2 and one act", len(h.sent), len(sent.acked), h.pins.did)
	}
	h.serve(sent.of(none)) // [CMD-1]: acknowledged, unanswered
	if len(h.sent) != 2 || len(sent.acked) != 3 || h.dispatcher.Stats().Passed != 1 {
		t.Errorf("%d answers, %d acknowledged after a message that is no order", len(h.sent), len(sent.acked))
	}
	retained := sent.of(order("r", "pump", "on", time.Minute))
	retained.Retained = true
	h.serve(retained)
	if len(h.sent) != 3 || len(sent.acked) != 4 || len(h.pins.did) != 1 {
		t.Errorf("retained: %d answers, %d acknowledged, did %q", len(h.sent), len(sent.acked), h.pins.did)
	}
	sent.lose()
	h.serve(sent.of(order("late", "pump", "off", time.Minute)))
	if len(h.sent) != 3 || len(sent.acked) != 4 || len(h.pins.did) != 1 {
		t.Errorf("an order of a lost connection was begun: did %q", h.pins.did)
	}
}

// After its end the dispatcher receives no waiting message. A local order is answered
// with stopping. [CMD-13]
func TestServeEnds(t *testing.T) {
	h := newHarness(t)
	sent := &messages{}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	for range 50 { // select chooses at random
		in := make(chan uplink.Message, 1)
		in <- sent.of(order("a", "pump", "on", time.Minute))
		if err := h.dispatcher.Serve(ctx, in); !errors.Is(err, context.Canceled) {
			t.Fatalf("Serve: %v", err)
		}
	}
	if len(h.pins.did)+len(sent.acked)+len(h.sent) != 0 {
		t.Errorf("did %q, acknowledged %q", h.pins.did, sent.acked)
	}
	if a := h.gets(order("b", "pump", "off", time.Minute), Failed, Stopping, 0); a.ID != "b" || a.Output != "pump" {
		t.Errorf("answer %+v", a)
	}
}

// With orders and answers on one topic every answer comes back to us, and is ignored.
// [CMD-1]
func TestOneTopicForAll(t *testing.T) {
	h := newHarness(t)
	sent := &messages{}
	const n = 8
	var in []uplink.Message
	for i := range n {
		in = append(in, sent.of(order(fmt.Sprint("o", i), []string{"pump", "pumpe"}[i%2], "on", time.Minute)))
	}
	h.serve(in...)
	if len(h.sent) != n {
		t.Fatalf("%d answers to %d orders", len(h.sent), n)
	}
	in = nil
	for _, r := range h.sent {
		in = append(in, sent.of(message.Encode(thing, r)))
	}
	h.serve(in...)
	if len(h.sent) != n || len(sent.acked) != 2*n || h.dispatcher.Stats().Passed != n {
		t.Errorf("own answers were answered: %d answers, %d acknowledged, %+v", len(h.sent), len(sent.acked), h.dispatcher.Stats())
	}
}

// A line that hangs delays only its own orders. Those that wait for it are refused when
// they expire or there is no room, and do not act when it works again. Later messages are
// acknowledged. [CMD-15] [CMD-16]
func TestHungLine(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		run := newLineRun(t, &memJournal{t: t}, "pump")
		run.send(order("hangs", "pump", "on", 10*time.Minute), order("soon", "pump", "toggle", 20*time.Second))
		for i := range maxQueuedLong {
			run.send(order(fmt.Sprint("w", i), "pump", "on", 30*time.Second))
		}
		run.want("for now there is room")
		run.send(order("other", "lock", "off", time.Minute))
		run.want("another output", "other done")
		if n := run.count(); n != 0 {
			t.Errorf("%d messages acknowledged ahead of one that came before", n)
		}
		pass(crowdedAfter)
		run.want("no room", "w7 refused busy")
		if n := run.count(); n != 2 {
			t.Errorf("%d messages acknowledged, want those that were answered", n)
		}
		<-time.After(20 * time.Second)
		synctest.Wait()
		run.want("expired", "soon refused expired")
		<-time.After(10 * time.Second)
		synctest.Wait()
		if got := run.heard(); len(got) != maxQueuedLong-1 || slices.ContainsFunc(got, func(s string) bool { return s[2:] != " refused expired" }) {
			t.Errorf("answers %q, want all that waited refused", got)
		}
		run.send(order("soon", "pump", "toggle", 20*time.Second)) // repeated: the first answer
		run.want("again", "soon refused expired")
		close(run.hang["pump"])
		synctest.Wait()
		run.want("the line is back", "hangs done")
		if got := run.pins.did; len(got) != 2 || run.count() != 4+maxQueuedLong {
			t.Errorf("did %q, %d messages acknowledged", got, run.count())
		}
		run.send(order("next", "pump", "off", time.Minute))
		run.want("after that", "next done")
	})
}

// An order to the safe level overtakes those that wait, which are refused. It does not
// wait for ever itself. [CMD-15] [CMD-16]
func TestSafeGoesAhead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		run := newLineRun(t, &memJournal{t: t}, "pump")
		run.send(order("hangs", "pump", "on", 10*time.Minute))
		run.send(order("a", "pump", "on", time.Minute), order("b", "pump", "toggle", time.Minute),
			order("off", "pump", "off", 0), order("c", "pump", "pulse", time.Minute))
		run.want("overtaken", "a refused overtaken", "b refused overtaken")
		close(run.hang["pump"])
		synctest.Wait()
		run.want("the line is back", "c done", "hangs done", "off done")
		if got, want := len(run.pins.did), 3; got != want {
			t.Errorf("did %q", run.pins.did)
		}

		run.hang["pump"] = make(chan struct{})
		run.send(order("hangs too", "pump", "on", 10*time.Minute))
		for i := range maxQueuedLong + 1 {
			run.send(order(fmt.Sprint("o", i), "pump", "off", 0))
		}
		pass(crowdedAfter)
		run.want("no room", "o8 failed hangs")
		pass(safePatience)
		if got := run.heard(); len(got) != maxQueuedLong || slices.ContainsFunc(got, func(s string) bool { return s[2:] != " failed hangs" }) {
			t.Errorf("answers %q, want all that waited failed", got)
		}
		close(run.hang["pump"])
		synctest.Wait()
		run.want("the line is back", "hangs too done")
		if got := len(run.pins.did); got != 4 {
			t.Errorf("did %q, want none of those that were answered", run.pins.did)
		}
		run.hang = nil
		run.send(order("o8", "pump", "off", 0)) // it was not remembered
		run.want("once more", "o8 done")
	})
}

// The orders that a broker sends at once after an outage are carried out, even with a
// slow disk. More are refused. [CMD-16]
func TestBurst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		j := &memJournal{t: t}
		run := newLineRun(t, j)
		j.failing(func(op string) error {
			if op == "sync" {
				<-time.After(50 * time.Millisecond)
			}
			return nil
		})
		const n = maxQueued + 1
		for i := range n + 1 {
			run.in <- run.of(order(fmt.Sprint("o", i), "pump", "toggle", time.Minute))
		}
		pass(time.Minute)
		got := run.heard()
		if i := slices.Index(got, fmt.Sprintf("o%d refused busy", n)); len(got) != n+1 || i < 0 || run.count() != n+1 {
			t.Errorf("%d answers, %d acknowledged, the last refused: %v", len(got), run.count(), i >= 0)
		}
		if len(run.pins.did) != n {
			t.Errorf("%d orders were carried out of %d", len(run.pins.did), n)
		}
		for i, did := range run.pins.did {
			if want := fmt.Sprintf("pump toggle 0s by mqtt order o%d", i); did != want {
				t.Fatalf("did %q, want %q", did, want)
			}
		}
	})
}

// Orders that have not begun when their connection ends are dropped. The broker sends
// them again, and then they are carried out once. [CMD-13]
func TestWaitingOrdersOfALostConnection(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		run := newLineRun(t, &memJournal{t: t}, "pump")
		begun, waits, comes := order("begun", "pump", "on", time.Minute), order("waits", "pump", "toggle", time.Minute), order("comes", "pump", "toggle", time.Minute)
		run.send(begun, waits, comes)
		run.lose()
		second := &messages{}
		run.in <- second.of(begun)
		run.in <- second.of(comes)
		synctest.Wait()
		close(run.hang["pump"])
		synctest.Wait()
		got := run.heard()
		if want := []string{"begun done", "begun done", "comes done", "comes done"}; !slices.Equal(got, want) {
			t.Errorf("answers %q, want %q", got, want)
		}
		if second.count() != 2 || len(run.pins.did) != 2 {
			t.Errorf("%d acknowledged, did %q", second.count(), run.pins.did)
		}
		run.in <- second.of(waits)
		synctest.Wait()
		run.want("comes again", "waits done")
	})
}

// When the dispatcher ends it drops orders that wait, and waits for those that have
// begun. [CMD-13]
func TestEndWithOrdersWaiting(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		run := newLineRun(t, &memJournal{t: t}, "pump")
		run.send(order("hangs", "pump", "on", time.Minute), order("waits", "pump", "on", time.Minute))
		local := make(chan Answer, 1)
		go func() {
			a, _ := run.dispatcher.Handle(order("local", "pump", "on", time.Minute), false, "local")
			local <- a
		}()
		synctest.Wait()
		ended := make(chan error, 1)
		go func() { ended <- run.stop() }()
		if a := <-local; a.Status != Failed || a.Reason != Stopping || a.ID != "local" {
			t.Errorf("answer %+v", a)
		}
		synctest.Wait()
		if len(ended) != 0 {
			t.Error("ended while a line was moved")
		}
		close(run.hang["pump"])
		if err := <-ended; !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
		run.want("at the end", "hangs done")
		if run.count() != 1 || len(run.pins.did) != 1 {
			t.Errorf("%d acknowledged, did %q", run.count(), run.pins.did)
		}
	})
}

// A local order that ends after the dispatcher is answered at once, because the ledger is
// no longer written.
func TestOrderEndsAfterServe(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		j := &memJournal{t: t}
		run := newLineRun(t, j, "pump")
		answered := make(chan Answer, 1)
		go func() {
			a, _ := run.dispatcher.Handle(order("a", "pump", "on", time.Hour), false, "local")
			answered <- a
		}()
		synctest.Wait()
		if err := run.stop(); !errors.Is(err, context.Canceled) {
			t.Errorf("serve ended with %v", err)
		}
		before := time.Now()
		close(run.hang["pump"])
		if a := <-answered; a.Status != Done || time.Since(before) != 0 {
			t.Errorf("answer %+v after %v", a, time.Since(before))
		}
		again := newLineRun(t, j) // no crash, but the ledger has the same
		again.send(order("a", "pump", "on", time.Hour))
		if got := again.heard(); len(got) == 0 || got[0] != "a unknown no_result" {
			t.Errorf("the next dispatcher answers %q", got)
		}
	})
}

// An order that comes on a new connection, just when the one of the old connection is being
// dropped, is carried out: the broker does not send it again on this connection. [CMD-13]
func TestCopyOfADroppedOrder(t *testing.T) {
	run := newLedgerRun(t, &memJournal{t: t}, clock.Fake())
	d, text := run.dispatcher, order("a", "pump", "on", time.Minute)
	o, err := Decode(text, thing)
	if err != nil {
		t.Fatal(err)
	}
	copied := func(lost bool) func() Answer {
		return d.accept(o, nil, len(text), source{cause: "mqtt", broker: true, stored: true, limited: true, lost: func() bool { return lost }})
	}
	dropped := newJob(o, source{broker: true, lost: func() bool { return true }})
	d.mu.Lock()
	d.underWay[o.ID] = dropped
	d.mu.Unlock()
	again, lostToo := copied(false), copied(true)
	d.mu.Lock()
	delete(d.underWay, o.ID)
	close(dropped.done)
	d.mu.Unlock()
	if a := lostToo(); a.Status != "" {
		t.Errorf("one whose connection has ended too: %+v", a)
	}
	if a := again(); a.Status != Done || run.pins.moved() != 1 {
		t.Errorf("%+v, moved %d times", a, run.pins.moved())
	}
	run.stop()
}
