package command

import (
	"fmt"
	"slices"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"fieldpost/daemon/clock"
)

// hanging makes an operation of the journal wait until release is called.
func hanging(j *memJournal, op string) (release func()) {
	c := make(chan struct{})
	j.failing(func(o string) error {
		if o == op {
			<-c
		}
		return nil
	})
	return func() {
		j.failing(nil)
		close(c)
	}
}

// pass lets time pass and waits until everything that is due has happened.
func pass(d time.Duration) {
	<-time.After(d)
	synctest.Wait()
}

// While the disk does not answer, orders to the safe level act at once and overtake those
// that wait for the disk. An energising order is refused after patience, and later ones
// at once, with a fault. When the disk answers again all is as before, and no refused
// order acts. [CMD-6] [CMD-14] [CMD-15]
func TestHungJournal(t *testing.T) {
	for _, op := range []string{"append", "sync"} {
		t.Run(op, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				j := &memJournal{t: t}
				run := newLineRun(t, j)
				run.faulty()
				release := hanging(j, op)
				run.send(order("a", "pump", "on", time.Minute), order("b", "lock", "off", time.Minute))
				off := order("off", "pump", "off", time.Minute)
				run.send(off, order("", "lock", "on", 0), order("c", "lock", "toggle", time.Minute))
				slices.Sort(run.pins.did)
				if got, want := fmt.Sprint(run.pins.did), "[lock on 0s by mqtt order  pump off 0s by mqtt order off]"; got != want {
					t.Errorf("did %s, want %s", got, want)
				}
				run.want("without an entry", "<nil> done") // it has no id
				run.faulty()
				pass(patience)
				run.want("patience", "a refused overtaken", "b refused overtaken", "c refused no_ledger", "off done")
				run.faulty("ledger_unavailable raised")
				run.send(order("d", "pump", "on", time.Minute), order("off2", "pump", "off", 0), order("a", "pump", "on", time.Minute))
				run.want("at once", "a refused overtaken", "d refused no_ledger", "off2 done")
				if n := run.count(); n != 8 {
					t.Errorf("%d messages acknowledged, want all", n)
				}
				release()
				synctest.Wait()
				run.faulty("ledger_unavailable cleared")
				if got := len(run.pins.did); got != 3 {
					t.Errorf("did %q", run.pins.did)
				}
				run.send(order("c", "lock", "toggle", time.Minute), order("e", "pump", "on", time.Minute))
				run.want("it answers", "c refused no_ledger", "e done")
				_ = run.stop()

				next := newLedgerRun(t, j, clock.Fake())
				next.gets(order("a", "pump", "on", time.Minute), Refused, Overtaken, 0)
				next.gets(order("c", "lock", "toggle", time.Minute), Refused, NoLedger, 0)
				next.gets(off, Done, "", 0)
				next.gets(order("e", "pump", "on", time.Minute), Done, "", 0)
				if next.unsolicited() != nil {
					t.Error("told what was answered")
				}
			})
		})
	}
}

// An order that expires while its intent is written to a slow disk does not act, and the
// disk is not reported as hanging. [CMD-9]
func TestExpiredDuringWrite(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		j := &memJournal{t: t}
		run := newLineRun(t, j)
		release := hanging(j, "sync")
		run.send(order("a", "pump", "on", 3*time.Second))
		pass(3 * time.Second)
		release()
		synctest.Wait()
		run.want("late", "a refused expired")
		run.faulty()
		if run.pins.did != nil {
			t.Errorf("did %q", run.pins.did)
		}
	})
}

// If the write of a result hangs, the order is answered after patience, and not carried
// out again.
func TestHungResult(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		j := &memJournal{t: t}
		run := newLineRun(t, j, "pump")
		run.send(order("a", "pump", "on", time.Minute))
		release := hanging(j, "append")
		close(run.hang["pump"])
		synctest.Wait()
		run.want("not on disk")
		run.send(order("a", "pump", "on", time.Minute))
		run.want("nor the second time")
		pass(patience)
		run.want("after patience", "a done", "a done")
		run.faulty("ledger_unavailable raised")
		release()
		synctest.Wait()
		run.faulty("ledger_unavailable cleared")
		_ = run.stop()
		newLedgerRun(t, j, clock.Fake()).gets(order("a", "pump", "on", time.Minute), Done, "", 0)
	})
}

// Records that wait for the disk share one sync, for all outputs.
func TestOrdersShareSyncs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		j := &memJournal{t: t}
		run := newLineRun(t, j)
		before := j.synced
		run.send(order("first", "pump", "on", time.Minute))
		if got := j.synced - before; got != 2 {
			t.Errorf("one order took %d syncs, want one for the intent and one for the result", got)
		}
		release := hanging(j, "sync")
		run.send(order("a", "pump", "on", time.Minute))
		for i := range 20 {
			run.send(order(fmt.Sprint("r", i), "pump", "on", -time.Minute))
		}
		run.send(order("b", "lock", "off", time.Minute))
		before = j.synced
		release()
		synctest.Wait()
		if got := j.synced - before; got > 4 {
			t.Errorf("22 orders took %d syncs", got)
		}
		if got := run.heard(); len(got) != 23 {
			t.Errorf("answers %q", got)
		}
	})
}

// If the queue to a hanging disk overflows, everything is written when the disk answers,
// and memory is limited meanwhile.
func TestQueueOverflows(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		j := &memJournal{t: t}
		run := newLineRun(t, j)
		release := hanging(j, "sync")
		run.send(order("a", "pump", "on", time.Minute))
		pass(patience)
		run.want("patience", "a refused no_ledger")
		const n = maxQueuedWrites + 100
		off := func(i int) []byte { return fmt.Appendf(nil, `{"id":"o%d","output":"pump","action":"off"}`, i) }
		for i := range n {
			run.send(off(i))
		}
		if got := run.heard(); len(got) != n || run.count() != n+1 || len(run.dispatcher.ledger.queue.waiting) > maxQueuedWrites {
			t.Errorf("%d answers, %d acknowledged, %d entries wait", len(got), run.count(), len(run.dispatcher.ledger.queue.waiting))
		}
		release()
		synctest.Wait()
		run.faulty("ledger_unavailable raised", "ledger_unavailable cleared")
		run.send(order("b", "pump", "on", time.Minute))
		run.want("it answers", "b done")
		_ = run.stop()
		next := newLedgerRun(t, j, clock.Fake())
		for i := range n {
			next.gets(off(i), Done, "", 0)
		}
	})
}

// A dispatcher that starts with a read-only disk accepts orders when the disk can be
// written again, even if none came meanwhile. The fault is raised and cleared. [CMD-14]
func TestReadOnlyStart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		j := &memJournal{t: t, fail: func(op string) error {
			if op != "replay" {
				return syscall.EROFS
			}
			return nil
		}}
		run := newLineRun(t, j)
		run.faulty("ledger_unavailable raised")
		run.send(order("a", "pump", "on", time.Minute))
		if got := run.heard(); !slices.Equal(got, []string{"a refused no_ledger"}) {
			t.Errorf("answers %q", got)
		}
		j.failing(nil)
		pass(retryEvery + 1)
		run.faulty("ledger_unavailable cleared")
		run.send(order("b", "pump", "on", time.Minute))
		run.want("after that", "b done")
	})
}

// The answer names what hangs.
func TestHungDiskIsNamed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		j := &memJournal{t: t}
		run := newLineRun(t, j)
		defer hanging(j, "append")()
		run.send(order("a", "pump", "on", time.Minute))
		pass(patience)
		if got := fmt.Sprint(run.sent); !strings.Contains(got, "does not answer") {
			t.Errorf("answer %s does not say so", got)
		}
	})
}
