package command

import (
	"context"
	"slices"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
)

// keeping has answers be at risk until the channel is closed.
func (y *yard) keeping() (kept chan struct{}) {
	y.bench.mu.Lock()
	defer y.bench.mu.Unlock()
	y.kept = make(chan struct{})
	return y.kept
}

// An order is acknowledged when no crash can cost its answer any more, if the
// order would get that answer again: not a retained copy, which is not sure to
// come again as one, and not an order without an id. [CMD-13]
func TestReceiptWaitsForTheAnswer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		y := newYard(t, &paper{t: t})
		kept := y.keeping()
		y.send(order("on", "pump", "on", time.Minute), order("off", "lamp", "off", 0), order("late", "pump", "on", -time.Minute), []byte(`{"action":"on","id":7}`))
		y.want("all", "<nil> refused malformed", "late refused expired", "off refused unknown_output", "on done")
		if y.count() != 0 {
			t.Errorf("acknowledged before the answers were kept: %q", y.acked)
		}
		close(kept)
		synctest.Wait()
		if y.count() != 4 {
			t.Errorf("%d acknowledged, want all 4", y.count())
		}
		y.keeping()
		retained := y.of(order("old", "pump", "on", time.Minute))
		retained.Retained = true
		y.in <- retained
		y.send(order("", "pump", "off", 0))
		y.want("at once", "<nil> done", "old refused retained")
		if y.count() != 6 {
			t.Errorf("%d acknowledged, want these at once", y.count())
		}
	})
}

// A crash that costs the answer leaves the order with the broker: sent again, it
// gets that answer again, and acts no second time. An answer that had arrived
// when the crash came before the order's acknowledgement is told twice, no worse.
// [CMD-4] [CMD-13]
func TestAnswerLostInACrash(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := &paper{t: t}
		text := order("a", "pump", "on", time.Hour)
		acts := 0
		for range 3 {
			y := newYard(t, p)
			y.keeping()
			y.send(text)
			y.want("each time", "a done")
			if y.count() != 0 {
				t.Fatal("acknowledged, and its answer was not kept")
			}
			acts += len(y.pins.did)
		}
		if acts != 1 {
			t.Errorf("acted %d times, want once", acts)
		}
	})
}

// While the ledger cannot be written an order is refused and acknowledged: if it
// came again it might be carried out after it was answered. [CMD-13] [CMD-14]
func TestRefusalWithoutLedger(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := &paper{t: t}
		p.failing(func(string) error { return syscall.ENOSPC })
		y := newYard(t, p)
		y.keeping()
		for i := range 2 {
			y.send(order("a", "pump", "on", time.Hour))
			y.want("each time", "a refused no_ledger")
			if y.count() != i+1 {
				t.Error("not acknowledged at once")
			}
		}
		p.failing(nil)
		pass(2 * againAfter) // it is written after all
		y.send(order("a", "pump", "on", time.Hour))
		y.want("later", "a refused no_ledger")
		if y.count() != 2 {
			t.Error("acknowledged, and its answer was not kept")
		}
	})
}

// An answer that takes long to be kept holds up the acknowledgements of others
// no longer than a line that hangs, and no order at all. [CMD-13]
func TestAnswerKeptLate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		y := newYard(t, &paper{t: t})
		y.keeping()
		y.send(order("slow", "pump", "on", time.Hour))
		close(y.keeping())
		y.send(order("next", "lamp", "on", time.Hour))
		y.want("at once", "next refused unknown_output", "slow done")
		if y.count() != 0 {
			t.Errorf("acknowledged out of order: %q", y.acked)
		}
		pass(ackPatience)
		if y.count() != 1 {
			t.Errorf("%d acknowledged after %v, want the one", y.count(), ackPatience)
		}
	})
}

// At the end an answer has a second to be kept. After that its order stays with
// the broker. [CMD-13]
func TestEndBeforeTheAnswerIsKept(t *testing.T) {
	for after, want := range map[time.Duration]int{lastPatience / 2: 1, 2 * lastPatience: 0} {
		synctest.Test(t, func(t *testing.T) {
			y := newYard(t, &paper{t: t})
			kept := y.keeping()
			y.send(order("a", "pump", "on", time.Hour))
			time.AfterFunc(after, func() { close(kept) })
			began := time.Now()
			_ = y.stop() // it is the context's
			if d := time.Since(began); d > lastPatience || y.count() != want {
				t.Errorf("kept after %v: ended after %v with %d acknowledged, want %d", after, d, y.count(), want)
			}
			pass(2 * lastPatience)
		})
	}
}

// At QoS 0 there is nothing to acknowledge, and nobody waits for an answer to be
// kept. [CMD-13]
func TestNobodyWaitsWithoutReceipt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		y := newYard(t, &paper{t: t})
		y.keeping()
		m := y.of(order("a", "pump", "on", time.Hour))
		m.QoS = 0
		y.in <- m
		synctest.Wait()
		began := time.Now()
		if err := y.stop(); err != context.Canceled || time.Since(began) != 0 {
			t.Errorf("ended with %v after %v", err, time.Since(began))
		}
		if got := y.heard(); !slices.Equal(got, []string{"a done"}) || y.count() != 0 {
			t.Errorf("answers %q, %d acknowledged", got, y.count())
		}
	})
}
