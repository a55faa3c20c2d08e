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

// Answers given while the ledger could not be written are valid after a kill, whether the
// disk works again or not: a refused order does not act, one to the safe level is not
// carried out twice, and each gets its first answer. When the ledger has them, the
// runtime directory has no other file. [CMD-14]
func TestAnswersSurviveAKillWithoutTheLedger(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		j, runtime, base := &memJournal{t: t}, &memJournal{t: t}, clock.Fake()
		run := newLedgerRunWith(t, j, runtime, base)
		j.failing(full)
		on, late, off := order("on", "pump", "on", time.Hour), order("late", "pump", "on", -time.Hour), order("off", "pump", "off", time.Hour)
		first := []Answer{run.gets(on, Refused, NoLedger, 0), run.gets(late, Refused, Expired, 0), run.gets(off, Done, "", 1)}
		same := func(when string) {
			t.Helper()
			for i, a := range []Answer{run.gets(on, Refused, NoLedger, 0), run.gets(late, Refused, Expired, 0), run.gets(off, Done, "", 0)} {
				if a.Stamp != first[i].Stamp || a.Hint != first[i].Hint {
					t.Errorf("%s: answer %+v, first %+v", when, a, first[i])
				}
			}
		}
		for range 2 {
			run = newLedgerRunWith(t, j, runtime, base)
			same("the disk is as it was")
		}
		j.failing(nil)
		run = newLedgerRunWith(t, j, runtime, base)
		same("the disk works")
		pass(time.Minute)
		if len(runtime.entries) != 0 {
			t.Errorf("%d entries are left in the runtime directory beside a ledger that works", len(runtime.entries))
		}
		run.gets(order("next", "pump", "on", time.Minute), Done, "", 1)
		run = newLedgerRunWith(t, j, &memJournal{t: t}, base)
		same("the ledger has it")
	})
}

// A result may not be written although its intent was, and an intent may be on disk
// although the write returned an error. After a kill neither is answered unknown: both
// get the first answer. [CMD-12] [CMD-14]
func TestResultInTheRuntimeJournal(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		j, runtime, base := &memJournal{t: t}, &memJournal{t: t}, clock.Fake()
		run := newLedgerRunWith(t, j, runtime, base)
		run.dispatcher.o.Outputs = watched{run.pins, func() { j.failing(full) }, func() {}}
		a := order("a", "pump", "on", time.Hour)
		run.gets(a, Done, "", 1)
		b := order("b", "pump", "on", time.Hour)
		run.gets(b, Refused, NoLedger, 0)
		intent := ledgerRecord{V: recordVersion, ID: "b", Order: &recordedOrder{Output: "pump", Action: "on"}}
		j.entries = append(j.entries, intent.encode())
		j.failing(nil)
		run = newLedgerRunWith(t, j, runtime, base)
		if got := run.unsolicited(); got != nil {
			t.Errorf("told %q", got)
		}
		run.gets(a, Done, "", 0)
		run.gets(b, Refused, NoLedger, 0)
	})
}

// An order that was carried out and is repeated while the ledger cannot be read is
// refused. When the ledger can be read, it gets its first answer.
func TestUnreadRefusalIsReplaced(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		j, runtime, base := &memJournal{t: t}, &memJournal{t: t}, clock.Fake()
		a := order("a", "pump", "on", time.Hour)
		newLedgerRunWith(t, j, runtime, base).gets(a, Done, "", 1)
		j.failing(full)
		run := newLedgerRunWith(t, j, runtime, base)
		run.gets(a, Refused, NoLedger, 0)
		b := order("b", "pump", "on", time.Hour)
		run.gets(b, Refused, NoLedger, 0)
		j.failing(nil)
		for range 2 {
			run = newLedgerRunWith(t, j, runtime, base)
			run.gets(a, Done, "", 0)
			run.gets(b, Refused, NoLedger, 0)
		}
	})
}

// newLineRunWithRuntime opens a dispatcher on both journals.
func newLineRunWithRuntime(t *testing.T, j, runtime *memJournal) *lineRun {
	return newLineRunWith(t, Options{Journal: j, RuntimeJournal: runtime})
}

// An order that is refused without the ledger is acknowledged before it is answered, so
// that it cannot act after a power cut either. A kill in between loses no answer: the
// next run gives it once, but not one that had arrived. [CMD-13]
func TestUndeliveredAnswerAfterAKill(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		j, runtime := &memJournal{t: t}, &memJournal{t: t}
		j.failing(full)
		run := newLineRunWithRuntime(t, j, runtime)
		run.send(order("told", "pump", "on", time.Hour))
		run.want("told", "told refused no_ledger")
		kept := run.keeping()
		acked := 0
		run.answering = func() { acked = run.count() }
		run.send(order("owed", "pump", "on", time.Hour))
		run.want("not kept", "owed refused no_ledger")
		if run.count() != 2 || acked != 2 {
			t.Errorf("%d acknowledged, %d of them before the answer; want 2", run.count(), acked)
		}
		_ = run.stop() // the answer has not arrived
		run = newLineRunWithRuntime(t, j, runtime)
		synctest.Wait()
		run.want("the next run", "owed refused no_ledger")
		_ = run.stop()
		run = newLineRunWithRuntime(t, j, runtime)
		synctest.Wait()
		run.want("the run after that")
		close(kept)
	})
}

// An answer is owed until it is known to be kept, however long that takes; its order does not
// wait that long. [CMD-13] [CMD-14]
func TestAnswerOwedUntilItIsKept(t *testing.T) {
	for action, want := range map[string]string{"on": "a refused no_ledger", "off": "a done"} {
		synctest.Test(t, func(t *testing.T) {
			j, runtime := &memJournal{t: t}, &memJournal{t: t}
			j.failing(full)
			run := newLineRunWithRuntime(t, j, runtime)
			run.keeping()
			run.send(order("a", "pump", action, time.Hour))
			run.want("at once", want)
			pass(2 * answerPatience)
			if run.count() != 1 {
				t.Errorf("not acknowledged after %v", 2*answerPatience)
			}
			_ = run.stop()
			run = newLineRunWithRuntime(t, j, runtime)
			synctest.Wait()
			run.want("the next run", want)
			_ = run.stop()
			run = newLineRunWithRuntime(t, j, runtime)
			synctest.Wait()
			run.want("the run after that") // it is kept by now
		})
	}
}

// If the runtime directory cannot be written either, everything else continues, and
// refused orders are known until the process ends. [CMD-14]
func TestBothJournalsFail(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		j, runtime := &memJournal{t: t}, &memJournal{t: t}
		j.failing(full)
		runtime.failing(full)
		run := newLineRunWithRuntime(t, j, runtime)
		a := order("a", "pump", "on", time.Hour)
		run.send(a, a)
		run.send(order("off", "pump", "off", 0))
		run.want("all", "a refused no_ledger", "a refused no_ledger", "off done")
		if run.count() != 3 {
			t.Errorf("%d acknowledged, want all", run.count())
		}
		runtime.failing(nil)
		run.send(a)
		run.want("again", "a refused no_ledger")
		_ = run.stop()
		newLedgerRunWith(t, j, runtime, clock.Fake()).gets(a, Refused, NoLedger, 0)
	})
}

// The runtime journal is limited to the latest orders. Readable entries of a damaged one
// are used.
func TestRuntimeJournalIsBounded(t *testing.T) {
	dir := t.TempDir()
	j := &memJournal{t: t}
	j.failing(full)
	run := newLedgerRunWith(t, j, journal.FileAt(dir, "orders"), clock.Fake())
	text := func(i int) []byte { return order(fmt.Sprint("o", i), "pump", "off", time.Hour) }
	var orders [][]byte
	for i := range maxRuntimeRecords + 500 {
		orders = append(orders, text(i))
		run.dispatcher.Handle(orders[i], false, "test")
	}
	path := filepath.Join(dir, "orders.journal")
	b, err := os.ReadFile(path)
	if err != nil || len(b) > maxRuntimeBytes+20*maxRuntimeRecords {
		t.Fatalf("%d bytes, %v", len(b), err)
	}
	run.stop()
	run = newLedgerRunWith(t, j, journal.FileAt(dir, "orders"), clock.Fake())
	run.gets(orders[len(orders)-1], Done, "", 0)
	run.gets(orders[0], Done, "", 1) // was evicted
	run.stop()
	at := bytes.Index(b, []byte(`"o4500"`))
	b[at+3] ^= 1
	if err := os.WriteFile(path, append(b[:len(b)-3], make([]byte, 100)...), 0o600); err != nil {
		t.Fatal(err)
	}
	run = newLedgerRunWith(t, j, journal.FileAt(dir, "orders"), clock.Fake())
	run.gets(orders[len(orders)-2], Done, "", 0)
	run.gets(orders[4500], Done, "", 1)
}

// A power cut clears the runtime directory, which may not exist.
func TestMissingRuntimeDirectory(t *testing.T) {
	j := &memJournal{t: t}
	j.failing(full)
	run := newLedgerRunWith(t, j, journal.FileAt(filepath.Join(t.TempDir(), "none"), "orders"), clock.Fake())
	run.gets(order("a", "pump", "on", time.Hour), Refused, NoLedger, 0)
	run.gets(order("a", "pump", "on", time.Hour), Refused, NoLedger, 0)
	run.want("ledger_unavailable raised")
	if !slices.Equal(run.pins.did, nil) {
		t.Errorf("did %q", run.pins.did)
	}
}
