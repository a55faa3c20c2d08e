package command

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"fieldpost/daemon/clock"
	"fieldpost/daemon/journal"
)

func full(string) error { return syscall.ENOSPC }

// What was answered while the ledger could not be written holds after a kill,
// with the disk as it was and with one that works again: an order refused does
// not act, one to the safe level is not done twice, and each gets its first
// answer. Then the ledger has it, and nothing is left beside it. [CMD-14]
func TestAnswersSurviveAKillWithoutTheLedger(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, beside, base := &paper{t: t}, &paper{t: t}, clock.Fake()
		f := newOfficeBeside(t, p, beside, base)
		p.failing(full)
		on, late, off := order("on", "pump", "on", time.Hour), order("late", "pump", "on", -time.Hour), order("off", "pump", "off", time.Hour)
		first := []Answer{f.gets(on, Refused, NoLedger, 0), f.gets(late, Refused, Expired, 0), f.gets(off, Done, "", 1)}
		same := func(when string) {
			t.Helper()
			for i, a := range []Answer{f.gets(on, Refused, NoLedger, 0), f.gets(late, Refused, Expired, 0), f.gets(off, Done, "", 0)} {
				if a.Stamp != first[i].Stamp || a.Hint != first[i].Hint {
					t.Errorf("%s: answer %+v, first %+v", when, a, first[i])
				}
			}
		}
		for range 2 {
			f = newOfficeBeside(t, p, beside, base)
			same("the disk is as it was")
		}
		p.failing(nil)
		f = newOfficeBeside(t, p, beside, base)
		same("the disk works")
		pass(time.Minute)
		if len(beside.entries) != 0 {
			t.Errorf("%d entries are left beside a ledger that works", len(beside.entries))
		}
		f.gets(order("next", "pump", "on", time.Minute), Done, "", 1)
		f = newOfficeBeside(t, p, &paper{t: t}, base)
		same("the ledger has it")
	})
}

// The result of an order may not be written though its intent was; and an intent
// may be on disk though it was told that it is not. Neither is unknown after a
// kill: the first answer stands. [CMD-12] [CMD-14]
func TestResultBesideTheLedger(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, beside, base := &paper{t: t}, &paper{t: t}, clock.Fake()
		f := newOfficeBeside(t, p, beside, base)
		f.desk.o.Outputs = watched{f.pins, func() { p.failing(full) }, func() {}}
		a := order("a", "pump", "on", time.Hour)
		f.gets(a, Done, "", 1)
		b := order("b", "pump", "on", time.Hour)
		f.gets(b, Refused, NoLedger, 0)
		intent := note{V: noteVersion, ID: "b", Order: &noteOrder{Output: "pump", Action: "on"}}
		p.entries = append(p.entries, intent.encode())
		p.failing(nil)
		f = newOfficeBeside(t, p, beside, base)
		if got := f.told(); got != nil {
			t.Errorf("told %q", got)
		}
		f.gets(a, Done, "", 0)
		f.gets(b, Refused, NoLedger, 0)
	})
}

// An order that was done is sent again while the ledger cannot be read: it is
// refused, as nobody can know. When the ledger can be read, its answer stands.
func TestUnreadRefusalGivesWay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, beside, base := &paper{t: t}, &paper{t: t}, clock.Fake()
		a := order("a", "pump", "on", time.Hour)
		newOfficeBeside(t, p, beside, base).gets(a, Done, "", 1)
		p.failing(full)
		f := newOfficeBeside(t, p, beside, base)
		f.gets(a, Refused, NoLedger, 0)
		b := order("b", "pump", "on", time.Hour)
		f.gets(b, Refused, NoLedger, 0)
		p.failing(nil)
		for range 2 {
			f = newOfficeBeside(t, p, beside, base)
			f.gets(a, Done, "", 0)
			f.gets(b, Refused, NoLedger, 0)
		}
	})
}

// newYardBeside opens a yard on both journals.
func newYardBeside(t *testing.T, p, beside *paper) *yard {
	return newYardWith(t, Options{Journal: p, Fallback: beside})
}

// An order refused without the ledger is acknowledged before it is answered, so
// that not even a power cut has it act after that. A kill in between costs no
// answer: the next run gives it, once, and none that had arrived. [CMD-13]
func TestAnswerOwedAfterAKill(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, beside := &paper{t: t}, &paper{t: t}
		p.failing(full)
		y := newYardBeside(t, p, beside)
		y.send(order("told", "pump", "on", time.Hour))
		y.want("told", "told refused no_ledger")
		kept := y.keeping()
		acked := 0
		y.answering = func() { acked = y.count() }
		y.send(order("owed", "pump", "on", time.Hour))
		y.want("not kept", "owed refused no_ledger")
		if y.count() != 2 || acked != 2 {
			t.Errorf("%d acknowledged, %d of them before the answer; want 2", y.count(), acked)
		}
		_ = y.stop() // without the answer having arrived
		y = newYardBeside(t, p, beside)
		synctest.Wait()
		y.want("the next run", "owed refused no_ledger")
		_ = y.stop()
		y = newYardBeside(t, p, beside)
		synctest.Wait()
		y.want("the run after that")
		close(kept)
	})
}

// Where the runtime directory cannot be written either, all else goes on, and
// what was refused is known until the process ends. [CMD-14]
func TestNothingCanBeWritten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, beside := &paper{t: t}, &paper{t: t}
		p.failing(full)
		beside.failing(full)
		y := newYardBeside(t, p, beside)
		a := order("a", "pump", "on", time.Hour)
		y.send(a, a)
		y.send(order("off", "pump", "off", 0))
		y.want("all", "a refused no_ledger", "a refused no_ledger", "off done")
		if y.count() != 3 {
			t.Errorf("%d acknowledged, want all", y.count())
		}
		beside.failing(nil)
		y.send(a)
		y.want("again", "a refused no_ledger")
		_ = y.stop()
		newOfficeBeside(t, p, beside, clock.Fake()).gets(a, Refused, NoLedger, 0)
	})
}

// The fallback journal is bounded: the latest are noted. What is there after
// damage is used, and damage stops nothing.
func TestFallbackIsBounded(t *testing.T) {
	dir := t.TempDir()
	p := &paper{t: t}
	p.failing(full)
	f := newOfficeBeside(t, p, journal.FileAt(dir, "orders"), clock.Fake())
	text := func(i int) []byte { return order(fmt.Sprint("o", i), "pump", "off", time.Hour) }
	var orders [][]byte
	for i := range maxFallback + 500 {
		orders = append(orders, text(i))
		f.desk.Handle(orders[i], false, "test")
	}
	path := filepath.Join(dir, "orders.journal")
	b, err := os.ReadFile(path)
	if err != nil || len(b) > maxFallbackBytes+20*maxFallback {
		t.Fatalf("%d bytes, %v", len(b), err)
	}
	f.stop()
	f = newOfficeBeside(t, p, journal.FileAt(dir, "orders"), clock.Fake())
	f.gets(orders[len(orders)-1], Done, "", 0)
	f.gets(orders[0], Done, "", 1) // gave way
	f.stop()
	at := bytes.Index(b, []byte(`"o4500"`))
	b[at+3] ^= 1
	if err := os.WriteFile(path, append(b[:len(b)-3], make([]byte, 100)...), 0o600); err != nil {
		t.Fatal(err)
	}
	f = newOfficeBeside(t, p, journal.FileAt(dir, "orders"), clock.Fake())
	f.gets(orders[len(orders)-2], Done, "", 0)
	f.gets(orders[4500], Done, "", 1)
}

// A power cut clears the runtime directory, and a directory may not be there.
func TestRuntimeDirectoryThatIsNotThere(t *testing.T) {
	p := &paper{t: t}
	p.failing(full)
	f := newOfficeBeside(t, p, journal.FileAt(filepath.Join(t.TempDir(), "none"), "orders"), clock.Fake())
	f.gets(order("a", "pump", "on", time.Hour), Refused, NoLedger, 0)
	f.gets(order("a", "pump", "on", time.Hour), Refused, NoLedger, 0)
	f.want("ledger_unavailable raised")
	if !slices.Equal(f.pins.did, nil) {
		t.Errorf("did %q", f.pins.did)
	}
}
