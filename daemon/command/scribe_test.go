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

// hanging has the paper's steps of a name wait until let go.
func hanging(p *paper, op string) (release func()) {
	c := make(chan struct{})
	p.failing(func(o string) error {
		if o == op {
			<-c
		}
		return nil
	})
	return func() {
		p.failing(nil)
		close(c)
	}
}

// pass gives time, and waits until all that can happen in it has.
func pass(d time.Duration) {
	<-time.After(d)
	synctest.Wait()
}

// A disk that does not answer: orders to the safe level act at once and go ahead
// of those that wait for it, an order that energises is refused after patience,
// and from then on at once, with a fault. When the disk answers again all is as
// before, and nothing that was refused acts. [CMD-6] [CMD-14] [CMD-15]
func TestHungJournal(t *testing.T) {
	for _, op := range []string{"append", "sync"} {
		t.Run(op, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := &paper{t: t}
				y := newYard(t, p)
				y.faulty()
				release := hanging(p, op)
				y.send(order("a", "pump", "on", time.Minute), order("b", "lock", "off", time.Minute))
				off := order("off", "pump", "off", time.Minute)
				y.send(off, order("", "lock", "on", 0), order("c", "lock", "toggle", time.Minute))
				slices.Sort(y.pins.did)
				if got, want := fmt.Sprint(y.pins.did), "[lock on 0s by mqtt order  pump off 0s by mqtt order off]"; got != want {
					t.Errorf("did %s, want %s", got, want)
				}
				y.want("without an entry", "<nil> done") // it has no id
				y.faulty()
				pass(patience)
				y.want("patience", "a refused overtaken", "b refused overtaken", "c refused no_ledger", "off done")
				y.faulty("ledger_unavailable raised")
				y.send(order("d", "pump", "on", time.Minute), order("off2", "pump", "off", 0), order("a", "pump", "on", time.Minute))
				y.want("at once", "a refused overtaken", "d refused no_ledger", "off2 done")
				if n := y.count(); n != 8 {
					t.Errorf("%d messages acknowledged, want all", n)
				}
				release()
				synctest.Wait()
				y.faulty("ledger_unavailable cleared")
				if got := len(y.pins.did); got != 3 {
					t.Errorf("did %q", y.pins.did)
				}
				y.send(order("c", "lock", "toggle", time.Minute), order("e", "pump", "on", time.Minute))
				y.want("it answers", "c refused no_ledger", "e done")
				_ = y.stop()

				next := newOffice(t, p, clock.Fake())
				next.gets(order("a", "pump", "on", time.Minute), Refused, Overtaken, 0)
				next.gets(order("c", "lock", "toggle", time.Minute), Refused, NoLedger, 0)
				next.gets(off, Done, "", 0)
				next.gets(order("e", "pump", "on", time.Minute), Done, "", 0)
				if next.told() != nil {
					t.Error("told what was answered")
				}
			})
		})
	}
}

// An order whose time is over while its intent is on its way to a slow disk
// does not act, and the disk is not held to hang. [CMD-9]
func TestExpiredOnItsWayToTheDisk(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := &paper{t: t}
		y := newYard(t, p)
		release := hanging(p, "sync")
		y.send(order("a", "pump", "on", 3*time.Second))
		pass(3 * time.Second)
		release()
		synctest.Wait()
		y.want("late", "a refused expired")
		y.faulty()
		if y.pins.did != nil {
			t.Errorf("did %q", y.pins.did)
		}
	})
}

// The result of an order may hang on its way to the disk: it is answered after
// patience, and not done again.
func TestResultThatHangs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := &paper{t: t}
		y := newYard(t, p, "pump")
		y.send(order("a", "pump", "on", time.Minute))
		release := hanging(p, "append")
		close(y.hang["pump"])
		synctest.Wait()
		y.want("not on disk")
		y.send(order("a", "pump", "on", time.Minute))
		y.want("nor the second time")
		pass(patience)
		y.want("after patience", "a done", "a done")
		y.faulty("ledger_unavailable raised")
		release()
		synctest.Wait()
		y.faulty("ledger_unavailable cleared")
		_ = y.stop()
		newOffice(t, p, clock.Fake()).gets(order("a", "pump", "on", time.Minute), Done, "", 0)
	})
}

// What waits for the disk goes with one sync, whichever output it is for.
func TestOrdersShareSyncs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := &paper{t: t}
		y := newYard(t, p)
		before := p.synced
		y.send(order("first", "pump", "on", time.Minute))
		if got := p.synced - before; got != 2 {
			t.Errorf("one order took %d syncs, want one for the intent and one for the result", got)
		}
		release := hanging(p, "sync")
		y.send(order("a", "pump", "on", time.Minute))
		for i := range 20 {
			y.send(order(fmt.Sprint("r", i), "pump", "on", -time.Minute))
		}
		y.send(order("b", "lock", "off", time.Minute))
		before = p.synced
		release()
		synctest.Wait()
		if got := p.synced - before; got > 4 {
			t.Errorf("22 orders took %d syncs", got)
		}
		if got := y.heard(); len(got) != 23 {
			t.Errorf("answers %q", got)
		}
	})
}

// More than fits into the queue to a disk that hangs is written when it answers,
// and memory is bounded meanwhile.
func TestQueueOverflows(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := &paper{t: t}
		y := newYard(t, p)
		release := hanging(p, "sync")
		y.send(order("a", "pump", "on", time.Minute))
		pass(patience)
		y.want("patience", "a refused no_ledger")
		const n = maxQueue + 100
		off := func(i int) []byte { return fmt.Appendf(nil, `{"id":"o%d","output":"pump","action":"off"}`, i) }
		for i := range n {
			y.send(off(i))
		}
		if got := y.heard(); len(got) != n || y.count() != n+1 || len(y.desk.ledger.queue) > maxQueue {
			t.Errorf("%d answers, %d acknowledged, %d entries wait", len(got), y.count(), len(y.desk.ledger.queue))
		}
		release()
		synctest.Wait()
		y.faulty("ledger_unavailable raised", "ledger_unavailable cleared")
		y.send(order("b", "pump", "on", time.Minute))
		y.want("it answers", "b done")
		_ = y.stop()
		next := newOffice(t, p, clock.Fake())
		for i := range n {
			next.gets(off(i), Done, "", 0)
		}
	})
}

// A desk that starts with a disk that can be read and not written takes orders
// when it can be written again, though none came meanwhile; the fault is told
// and goes. [CMD-14]
func TestReadOnlyStart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := &paper{t: t, fail: func(op string) error {
			if op != "replay" {
				return syscall.EROFS
			}
			return nil
		}}
		y := newYard(t, p)
		y.faulty("ledger_unavailable raised")
		y.send(order("a", "pump", "on", time.Minute))
		if got := y.heard(); !slices.Equal(got, []string{"a refused no_ledger"}) {
			t.Errorf("answers %q", got)
		}
		p.failing(nil)
		pass(againAfter + 1)
		y.faulty("ledger_unavailable cleared")
		y.send(order("b", "pump", "on", time.Minute))
		y.want("after that", "b done")
	})
}

// What hangs is named in the answer.
func TestHungDiskIsNamed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := &paper{t: t}
		y := newYard(t, p)
		defer hanging(p, "append")()
		y.send(order("a", "pump", "on", time.Minute))
		pass(patience)
		if got := fmt.Sprint(y.sent); !strings.Contains(got, "does not answer") {
			t.Errorf("answer %s does not say so", got)
		}
	})
}
