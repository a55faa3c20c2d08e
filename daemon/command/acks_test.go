package command

import (
	"context"
	"slices"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
)

// keeping keeps answers at risk until the channel is closed.
func (run *lineRun) keeping() (kept chan struct{}) {
	run.harness.mu.Lock()
	defer run.harness.mu.Unlock()
	run.delivered = make(chan struct{})
	return run.delivered
}

// An order is acknowledged when its answer is safe from a crash, if a repeated order
// would get that answer again. That is not certain for a retained message, nor for an
// order without an id. [CMD-13]
func TestAckWaitsForTheAnswer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		run := newLineRun(t, &memJournal{t: t})
		kept := run.keeping()
		run.send(order("on", "pump", "on", time.Minute), order("off", "lamp", "off", 0), order("late", "pump", "on", -time.Minute), []byte(`{"action":"on","id":7}`))
		run.want("all", "<nil> refused malformed", "late refused expired", "off refused unknown_output", "on done")
		if run.count() != 0 {
			t.Errorf("acknowledged before the answers were kept: %q", run.acked)
		}
		close(kept)
		synctest.Wait()
		if run.count() != 4 {
			t.Errorf("%d acknowledged, want all 4", run.count())
		}
		run.keeping()
		retained := run.of(order("old", "pump", "on", time.Minute))
		retained.Retained = true
		run.in <- retained
		run.send(order("", "pump", "off", 0))
		run.want("at once", "<nil> done", "old refused retained")
		if run.count() != 6 {
			t.Errorf("%d acknowledged, want these at once", run.count())
		}
	})
}

// If a crash loses the answer, the broker still has the order. Sent again, it gets the
// same answer and does not act again. If the answer had arrived before the crash, but the
// order was not acknowledged, it is given twice. [CMD-4] [CMD-13]
func TestAnswerLostInACrash(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		j := &memJournal{t: t}
		text := order("a", "pump", "on", time.Hour)
		acts := 0
		for range 3 {
			run := newLineRun(t, j)
			run.keeping()
			run.send(text)
			run.want("each time", "a done")
			if run.count() != 0 {
				t.Fatal("acknowledged, and its answer was not kept")
			}
			acts += len(run.pins.did)
		}
		if acts != 1 {
			t.Errorf("acted %d times, want once", acts)
		}
	})
}

// While the ledger cannot be written, a refused order is acknowledged, because it might
// be carried out after its answer if it came again. [CMD-13] [CMD-14]
func TestRefusalWithoutLedger(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		j := &memJournal{t: t}
		j.failing(func(string) error { return syscall.ENOSPC })
		run := newLineRun(t, j)
		run.keeping()
		for i := range 2 {
			run.send(order("a", "pump", "on", time.Hour))
			run.want("each time", "a refused no_ledger")
			if run.count() != i+1 {
				t.Error("not acknowledged at once")
			}
		}
		j.failing(nil)
		pass(2 * retryEvery) // it is written now
		run.send(order("a", "pump", "on", time.Hour))
		run.want("later", "a refused no_ledger")
		if run.count() != 2 {
			t.Error("acknowledged, and its answer was not kept")
		}
	})
}

// An answer that takes long to be safe delays the acknowledgements of others only as long
// as a hanging line, and delays no order. [CMD-13]
func TestAnswerKeptLate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		run := newLineRun(t, &memJournal{t: t})
		run.keeping()
		run.send(order("slow", "pump", "on", time.Hour))
		close(run.keeping())
		run.send(order("next", "lamp", "on", time.Hour))
		run.want("at once", "next refused unknown_output", "slow done")
		if run.count() != 0 {
			t.Errorf("acknowledged out of order: %q", run.acked)
		}
		pass(ackPatience)
		if run.count() != 1 {
			t.Errorf("%d acknowledged after %v, want the one", run.count(), ackPatience)
		}
	})
}

// If the disk fails and the broker accepts no answers, an answer is never safe. Its order
// is acknowledged nevertheless after a while, because the broker would send no other
// order. [CMD-13]
func TestAnswerNeverKept(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		run := newLineRun(t, &memJournal{t: t})
		kept := run.keeping()
		run.send(order("a", "pump", "on", time.Hour))
		run.want("at once", "a done")
		pass(answerPatience - time.Millisecond)
		if run.count() != 0 {
			t.Error("acknowledged, and its answer was not kept")
		}
		pass(time.Millisecond)
		if run.count() != 1 {
			t.Errorf("not acknowledged after %v", answerPatience)
		}
		close(kept)
	})
}

// At the end the dispatcher waits a second until an answer is safe. After that the broker
// keeps its order. [CMD-13]
func TestEndBeforeTheAnswerIsKept(t *testing.T) {
	for after, want := range map[time.Duration]int{lastPatience / 2: 1, 2 * lastPatience: 0} {
		synctest.Test(t, func(t *testing.T) {
			run := newLineRun(t, &memJournal{t: t})
			kept := run.keeping()
			run.send(order("a", "pump", "on", time.Hour))
			time.AfterFunc(after, func() { close(kept) })
			began := time.Now()
			_ = run.stop() // the context's error
			if d := time.Since(began); d > lastPatience || run.count() != want {
				t.Errorf("kept after %v: ended after %v with %d acknowledged, want %d", after, d, run.count(), want)
			}
			pass(2 * lastPatience)
		})
	}
}

// At QoS 0 there is nothing to acknowledge, and the dispatcher does not wait until an
// answer is safe. [CMD-13]
func TestNoWaitWithoutAck(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		run := newLineRun(t, &memJournal{t: t})
		run.keeping()
		m := run.of(order("a", "pump", "on", time.Hour))
		m.QoS = 0
		run.in <- m
		synctest.Wait()
		began := time.Now()
		if err := run.stop(); err != context.Canceled || time.Since(began) != 0 {
			t.Errorf("ended with %v after %v", err, time.Since(began))
		}
		if got := run.heard(); !slices.Equal(got, []string{"a done"}) || run.count() != 0 {
			t.Errorf("answers %q, %d acknowledged", got, run.count())
		}
	})
}
