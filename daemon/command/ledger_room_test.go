package command

import (
	"fmt"
	"runtime"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"fieldpost/daemon/clock"
	"fieldpost/daemon/output"
)

// [CMD-11] [CMD-6]
func TestFullLedger(t *testing.T) {
	for what, limit := range map[string]func(*ledger){
		"number": func(l *ledger) { l.orders.capacity = capacity{50, 20, maxForeign, maxActedBytes, maxRefusedBytes} },
		"bytes":  func(l *ledger) { l.orders.capacity.actedBytes = 20_000 },
	} {
		synctest.Test(t, func(t *testing.T) {
			base, j := clock.Fake(), &memJournal{t: t}
			run := newLedgerRun(t, j, base)
			l := run.dispatcher.ledger
			l.mu.Lock()
			limit(l)
			l.mu.Unlock()
			n := 0
			for ; n < 1000; n++ {
				a, _ := run.dispatcher.Handle(order(fmt.Sprint(n), "pump", "on", time.Minute), false, "")
				if a.Status != Done {
					if a.Reason != TooMany {
						t.Errorf("%s: order %d: %+v", what, n, a)
					}
					break
				}
			}
			if n < 20 || n > 100 {
				t.Errorf("%s: full after %d", what, n)
			}
			run.gets(order("safe", "pump", "off", time.Minute), Done, "", 1)
			run.gets(order("0", "pump", "on", time.Minute), Done, "", 0)
			<-time.After(25*time.Hour + time.Minute)
			run.gets(order("next day", "pump", "on", time.Minute), Done, "", 1)
			run.want()
			if l.orders.used.bytes > 3000 || l.orders.used.acted != 1 {
				t.Errorf("%s: %d bytes and %d orders are left", what, l.orders.used.bytes, l.orders.used.acted)
			}
		})
	}
}

// A full ledger with usual orders needs the memory that the documentation says.
func TestFullLedgerInMemory(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		j := &memJournal{t: t}
		run := newLedgerRun(t, j, clock.Fake())
		l := run.dispatcher.ledger
		var before, after runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&before)
		run.dispatcher.mu.Lock()
		for i := range output.MaxOrdersPerDay {
			o := Order{ID: fmt.Sprintf("order-%08d-of-the-greenhouse", i), Output: "pump", Action: output.ActionOn, For: time.Minute, Expires: time.Now().Add(time.Minute)}
			if _, err := l.recordIntentLocked(o, run.dispatcher.o.Clock.Now()); err != nil {
				t.Fatal(i, err)
			}
			l.recordResultLocked(o.ID, Answer{ID: o.ID, Status: Done, Output: "pump", State: "on", Stamp: run.dispatcher.o.Clock.Now()})
		}
		run.dispatcher.mu.Unlock()
		synctest.Wait()
		<-time.After(2 * time.Minute)
		synctest.Wait()
		run.stop()
		j.entries = nil // the simulated disk
		runtime.GC()
		runtime.ReadMemStats(&after)
		if grown := int64(after.HeapAlloc) - int64(before.HeapAlloc); grown > 10e6 || len(l.orders.byID) != output.MaxOrdersPerDay {
			t.Errorf("%d orders take %d bytes", len(l.orders.byID), grown)
		} else {
			t.Logf("%d orders take %.1f MB, and %.1f MB in the journal", len(l.orders.byID), float64(grown)/1e6, float64(l.orders.used.bytes)/1e6)
		}
		runtime.KeepAlive(run)
	})
}

// The latest refused orders are known, the earlier ones are evicted.
func TestRefusedOrdersAreEvicted(t *testing.T) {
	run := newLedgerRun(t, &memJournal{t: t}, clock.Fake())
	l := run.dispatcher.ledger
	l.mu.Lock()
	l.orders.capacity = capacity{50, 20, maxForeign, maxActedBytes, maxRefusedBytes}
	l.mu.Unlock()
	for i := range 21 {
		run.gets(order(fmt.Sprint("r", i), "pump", "on", -time.Hour), Refused, Expired, 0)
	}
	run.gets(order("r0", "pump", "on", time.Minute), Done, "", 1) // was evicted
	run.gets(order("r1", "pump", "on", time.Minute), Refused, Expired, 0)
	if l.orders.used.refused != 20 || len(l.orders.byID) != 21 {
		t.Errorf("%d refused, %d known", l.orders.used.refused, len(l.orders.byID))
	}
}

// The file does not grow for ever, and holds what it must after it was rewritten. If that
// fails the order is still done, and the next one is not.
func TestCompaction(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		j := &memJournal{t: t}
		run := newLedgerRun(t, j, clock.Fake())
		for i := range 5000 {
			run.gets(order(fmt.Sprint("o", i), "pump", "on", time.Minute), Done, "", 1)
			if i%10 == 9 {
				<-time.After(time.Hour)
			}
			synctest.Wait()
			if j.Size() > compactAt+64<<10 {
				t.Fatalf("%d bytes after %d orders", j.Size(), i)
			}
		}
		if j.rewrote < 3 {
			t.Errorf("rewritten %d times", j.rewrote)
		}
		newLedgerRun(t, j, clock.Fake()).gets(order("o4999", "pump", "on", time.Minute), Done, "", 0)
	})
	synctest.Test(t, func(t *testing.T) {
		j := &memJournal{t: t}
		run := newLedgerRun(t, j, clock.Fake())
		synctest.Wait()
		j.size = compactAt
		j.failing(func(op string) error {
			if op == "rewrite" {
				return syscall.ENOSPC
			}
			return nil
		})
		run.gets(order("a", "pump", "on", time.Minute), Done, "", 1)
		synctest.Wait()
		run.want("ledger_unavailable raised")
		run.gets(order("b", "pump", "on", time.Minute), Refused, NoLedger, 0)
	})
}
