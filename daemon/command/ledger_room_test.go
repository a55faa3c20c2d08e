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
		"number": func(l *ledger) { l.room = room{50, 20, maxForeign, maxLive, maxNo} },
		"bytes":  func(l *ledger) { l.room.bytes = 20_000 },
	} {
		synctest.Test(t, func(t *testing.T) {
			base, p := clock.Fake(), &paper{t: t}
			f := newOffice(t, p, base)
			l := f.desk.ledger
			limit(l)
			n := 0
			for ; n < 1000; n++ {
				a, _ := f.desk.Handle(order(fmt.Sprint(n), "pump", "on", time.Minute), false, "")
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
			f.gets(order("safe", "pump", "off", time.Minute), Done, "", 1)
			f.gets(order("0", "pump", "on", time.Minute), Done, "", 0)
			<-time.After(25*time.Hour + time.Minute)
			f.gets(order("next day", "pump", "on", time.Minute), Done, "", 1)
			f.want()
			if l.live > 3000 || l.acts != 1 {
				t.Errorf("%s: %d bytes and %d orders are left", what, l.live, l.acts)
			}
		})
	}
}

// A full ledger, of orders as people write them, takes the memory that it is
// said to take.
func TestFullLedgerInMemory(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := &paper{t: t}
		f := newOffice(t, p, clock.Fake())
		l := f.desk.ledger
		var before, after runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&before)
		f.desk.mu.Lock()
		for i := range maxActed {
			o := Order{ID: fmt.Sprintf("order-%08d-of-the-greenhouse", i), Output: "pump", Action: output.ActionOn, For: time.Minute, Expires: time.Now().Add(time.Minute)}
			if _, err := l.intend(o, f.desk.o.Clock.Now()); err != nil {
				t.Fatal(i, err)
			}
			l.settle(o.ID, Answer{ID: o.ID, Status: Done, Output: "pump", State: "on", Stamp: f.desk.o.Clock.Now()})
		}
		f.desk.mu.Unlock()
		synctest.Wait()
		<-time.After(2 * time.Minute)
		synctest.Wait()
		f.stop()
		p.entries = nil // which is the disk
		runtime.GC()
		runtime.ReadMemStats(&after)
		if grown := int64(after.HeapAlloc) - int64(before.HeapAlloc); grown > 10e6 || len(l.known) != maxActed {
			t.Errorf("%d orders take %d bytes", len(l.known), grown)
		} else {
			t.Logf("%d orders take %.1f MB, and %.1f MB in the journal", len(l.known), float64(grown)/1e6, float64(l.live)/1e6)
		}
		runtime.KeepAlive(f)
	})
}

// The last refused orders are known, the ones before give way.
func TestRefusedOrdersGiveWay(t *testing.T) {
	f := newOffice(t, &paper{t: t}, clock.Fake())
	l := f.desk.ledger
	l.room = room{50, 20, maxForeign, maxLive, maxNo}
	for i := range 21 {
		f.gets(order(fmt.Sprint("r", i), "pump", "on", -time.Hour), Refused, Expired, 0)
	}
	f.gets(order("r0", "pump", "on", time.Minute), Done, "", 1) // gave way
	f.gets(order("r1", "pump", "on", time.Minute), Refused, Expired, 0)
	if l.refused != 20 || len(l.known) != 21 {
		t.Errorf("%d refused, %d known", l.refused, len(l.known))
	}
}

// The file does not grow for ever, and holds what it must after it was written
// anew; when that fails the order is done all the same, and the next is not.
func TestCompaction(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := &paper{t: t}
		f := newOffice(t, p, clock.Fake())
		for i := range 5000 {
			f.gets(order(fmt.Sprint("o", i), "pump", "on", time.Minute), Done, "", 1)
			if i%10 == 9 {
				<-time.After(time.Hour)
			}
			synctest.Wait()
			if p.Size() > compactAt+64<<10 {
				t.Fatalf("%d bytes after %d orders", p.Size(), i)
			}
		}
		if p.rewrote < 3 {
			t.Errorf("written anew %d times", p.rewrote)
		}
		newOffice(t, p, clock.Fake()).gets(order("o4999", "pump", "on", time.Minute), Done, "", 0)
	})
	synctest.Test(t, func(t *testing.T) {
		p := &paper{t: t}
		f := newOffice(t, p, clock.Fake())
		synctest.Wait()
		p.size = compactAt
		p.failing(func(op string) error {
			if op == "rewrite" {
				return syscall.ENOSPC
			}
			return nil
		})
		f.gets(order("a", "pump", "on", time.Minute), Done, "", 1)
		synctest.Wait()
		f.want("ledger_unavailable raised")
		f.gets(order("b", "pump", "on", time.Minute), Refused, NoLedger, 0)
	})
}
