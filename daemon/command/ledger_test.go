package command

import (
	"bytes"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"fieldpost/daemon/clock"
	"fieldpost/daemon/output"
)

// copied returns a copy of the directory, as a killed process would leave it.
func copied(t *testing.T, dir string) string {
	t.Helper()
	to := filepath.Join(t.TempDir(), "left")
	if err := os.CopyFS(to, os.DirFS(dir)); err != nil {
		t.Fatal(err)
	}
	return to
}

// watched are outputs that report before and after they act.
type watched struct {
	*pins
	before, after func()
}

func (w watched) Do(o output.Order) (output.State, error) {
	w.before()
	defer w.after()
	return w.pins.Do(o)
}

// Killed between intent and act, act and result, result and acknowledgement: the next
// start answers unknown in the first two cases and the first answer in the third, and
// nothing is done twice. [CMD-12]
func TestKilledBetweenTwoLines(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "spool")
	j, _ := opened(t, dir)
	run := newLedgerRun(t, j, clock.Fake())
	var begun, acted string
	run.dispatcher.o.Outputs = watched{run.pins, func() { begun = copied(t, dir) }, func() { acted = copied(t, dir) }}
	text := order("a", "pump", "toggle", time.Minute)
	first := run.gets(text, Done, "", 1)
	for what, left := range map[string]string{"before the act": begun, "after the act": acted} {
		for range 2 { // the second start reads what the first one recorded
			j, s := opened(t, left)
			next := newLedgerRun(t, j, clock.Fake())
			if got := next.unsolicited(); !slices.Equal(got, []string{"a unknown pump no_result"}) && got != nil {
				t.Errorf("killed %s: told %q", what, got)
			} else if (got == nil) != strings.HasSuffix(what, "again") {
				t.Errorf("killed %s: told %q", what, got)
			}
			next.gets(text, Unknown, NoResult, 0)
			next.gets(order("a", "pump", "on", time.Minute), Unknown, NoResult, 0)
			next.gets(order("a", "pump", "off", time.Minute), Done, "", 1) // [CMD-4]
			next.want()
			if err := s.Close(); err != nil {
				t.Error(err)
			}
			what += ", again"
		}
	}
	j, _ = opened(t, copied(t, dir))
	next := newLedgerRun(t, j, clock.Fake())
	if a := next.gets(text, Done, "", 0); !a.Stamp.Wall.Equal(first.Stamp.Wall) || a.State != first.State || a.Stamp.Boot != first.Stamp.Boot {
		t.Errorf("again %+v, first %+v", a, first)
	}
	if got := next.unsolicited(); got != nil {
		t.Errorf("told %q of an order with a result", got)
	}
}

// An order that was too far ahead while the clock was years behind is still known in the
// next boot with a right clock, until a day after its expiry. [CMD-11]
func TestRefusedByAClockThatWasBehind(t *testing.T) {
	j, base := &memJournal{t: t}, clock.Fake()
	run := newLedgerRun(t, j, base)
	text := order("a", "pump", "on", time.Minute)
	run.set(func() { run.ahead = -10 * 365 * 24 * time.Hour })
	run.gets(text, Refused, TooFarAhead, 0)
	boot := func(ahead time.Duration) *ledgerRun {
		next := newLedgerRun(t, j, base)
		next.set(func() {
			next.stamp = func(s clock.Stamp) clock.Stamp {
				s.Boot, s.Wall, s.Mono = "another", s.Wall.Add(ahead), s.Mono+ahead
				return s
			}
		})
		next.dispatcher.Handle([]byte(`{"output":"pump","action":"off"}`), false, "test") // after this the journal has been read
		next.dispatcher.mu.Lock()
		defer next.dispatcher.mu.Unlock()
		next.dispatcher.ledger.orders.nextSweep = 0
		next.dispatcher.ledger.orders.dropLapsed(next.dispatcher.o.Clock.Now())
		return next
	}
	boot(0).gets(text, Refused, TooFarAhead, 0)
	boot(24*time.Hour).gets(text, Refused, TooFarAhead, 0)
	boot(25*time.Hour).gets(text, Refused, Expired, 0)
}

// A refused order stays refused after a restart, with the same words, even if it would be
// in time now. [CMD-4]
func TestRefusalIsRemembered(t *testing.T) {
	j := &memJournal{t: t}
	run := newLedgerRun(t, j, clock.Fake())
	run.set(func() { run.unsynced = true })
	text := order("a", "pump", "on", time.Minute)
	first := run.gets(text, Refused, ClockUnsynced, 0)
	if a := newLedgerRun(t, j, clock.Fake()).gets(text, Refused, ClockUnsynced, 0); a.Hint != first.Hint {
		t.Errorf("hint %q, first %q", a.Hint, first.Hint)
	}
}

// With any error of the disk, energising orders are refused and orders to the safe level
// are carried out. When the disk works again all are carried out. [CMD-14] [CMD-6]
func TestUnwritableLedger(t *testing.T) {
	for _, err := range []error{syscall.ENOSPC, syscall.EIO, syscall.EROFS, syscall.ENOENT} {
		for _, op := range []string{"append", "sync"} {
			synctest.Test(t, func(t *testing.T) {
				j := &memJournal{t: t}
				run := newLedgerRun(t, j, clock.Fake())
				run.gets(order("before", "pump", "on", time.Minute), Done, "", 1)
				j.failing(func(o string) error {
					if o == op || o == "rewrite" {
						return err
					}
					return nil
				})
				a := run.gets(order("a", "pump", "on", time.Minute), Refused, NoLedger, 0)
				if !strings.Contains(a.Hint, err.Error()) {
					t.Errorf("hint %q does not say %v", a.Hint, err)
				}
				run.gets(order("b", "pump", "toggle", time.Minute), Refused, NoLedger, 0)
				run.gets(order("c", "pump", "off", time.Minute), Done, "", 1)
				run.gets(order("before", "pump", "on", time.Minute), Done, "", 0)
				run.want("ledger_unavailable raised")
				j.failing(nil)
				<-time.After(time.Minute)
				synctest.Wait() // without an order
				run.want("ledger_unavailable cleared")
				run.gets(order("a", "pump", "on", time.Minute), Refused, NoLedger, 0)
				run.gets(order("d", "pump", "on", time.Minute), Done, "", 1)
				next := newLedgerRun(t, j, clock.Fake())
				next.gets(order("a", "pump", "on", time.Minute), Refused, NoLedger, 0)
				next.gets(order("d", "pump", "on", time.Minute), Done, "", 0)
			})
		}
	}
}

// An order to the safe level is carried out even if it cannot be recorded, and is then
// known while the process runs. [CMD-14]
func TestSafeWithoutLedger(t *testing.T) {
	j := &memJournal{t: t}
	run := newLedgerRun(t, j, clock.Fake())
	j.failing(func(string) error { return syscall.ENOSPC })
	text := order("a", "pump", "off", time.Minute)
	run.gets(text, Done, "", 1)
	run.gets(text, Done, "", 0)
	run = newLedgerRun(t, j, clock.Fake())
	run.gets(text, Done, "", 1)
	j.failing(nil)
	run.gets(text, Done, "", 0)
	run.gets(order("b", "pump", "on", time.Minute), Done, "", 1)
	newLedgerRun(t, j, clock.Fake()).gets(text, Done, "", 0)
}

// After a single error of the disk the write is retried at once, and the order is carried
// out.
func TestOneErrorOfTheDisk(t *testing.T) {
	j := &memJournal{t: t}
	run := newLedgerRun(t, j, clock.Fake())
	once := true
	j.failing(func(op string) error {
		if op == "sync" && once {
			once = false
			return syscall.EIO
		}
		return nil
	})
	run.gets(order("a", "pump", "on", time.Minute), Done, "", 1)
	run.want()
	newLedgerRun(t, j, clock.Fake()).gets(order("a", "pump", "on", time.Minute), Done, "", 0)
}

// While the ledger cannot be read, no energising order is carried out. When it can be
// read again, an order that was carried out before is not carried out again. [CMD-14]
func TestUnreadableLedger(t *testing.T) {
	j := &memJournal{t: t}
	old := order("old", "pump", "on", time.Minute)
	newLedgerRun(t, j, clock.Fake()).gets(old, Done, "", 1)
	j.entries = append(j.entries, ledgerRecord{V: 1, ID: "begun", Order: &recordedOrder{Output: "pump", Action: "on"}}.encode())
	j.failing(func(op string) error {
		if op == "replay" {
			return syscall.EIO
		}
		return nil
	})
	run := newLedgerRun(t, j, clock.Fake())
	run.gets(order("new", "pump", "on", time.Minute), Refused, NoLedger, 0)
	run.gets(order("safe", "pump", "off", time.Minute), Done, "", 1)
	run.want("ledger_unavailable raised")
	if run.unsolicited() != nil || len(j.entries) != 3 {
		t.Errorf("%d entries: what could not be read was written over", len(j.entries))
	}
	j.failing(nil)
	run.gets(old, Done, "", 0)
	run.gets(order("new", "pump", "on", time.Minute), Refused, NoLedger, 0)
	run.want("ledger_unavailable cleared")
	if got := run.unsolicited(); !slices.Equal(got, []string{"begun unknown pump no_result"}) {
		t.Errorf("told %q", got)
	}
}

// A ledger that remains unreadable, because of a bad sector, is begun anew when all orders
// that it may have are expired by a clock that is true. An order that it may have does not
// act again, also if the clock is set back. [CMD-21]
func TestUnreadableLedgerIsBegunAnew(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		j, base := &memJournal{t: t}, clock.Fake()
		old, pass := order("old", "pump", "on", time.Hour), func(d time.Duration) {
			<-time.After(d)
			synctest.Wait()
		}
		newLedgerRun(t, j, base).gets(old, Done, "", 1)
		j.failing(func(op string) error {
			if op == "replay" {
				return syscall.EIO
			}
			return nil
		})
		run := newLedgerRun(t, j, base)
		refused := order("refused", "pump", "on", 10*time.Hour)
		pass(59 * time.Minute)
		run.gets(refused, Refused, TooFarAhead, 0)
		run.gets(order("early", "pump", "on", time.Minute), Refused, NoLedger, 0)
		run.set(func() { run.unsynced = true })
		pass(time.Hour)
		run.want("ledger_unavailable raised")
		run.set(func() { run.unsynced = false })
		pass(retryEvery)
		run.want("ledger_unavailable cleared", "ledger_damaged raised")
		run.gets(order("new", "pump", "on", time.Minute), Done, "", 1)
		run.gets(refused, Refused, TooFarAhead, 0)
		run.set(func() { run.ahead = -90 * time.Minute })
		run.gets(old, Refused, Forgotten, 0)
		run.set(func() { run.ahead = 0 })
		j.failing(nil)
		next := newLedgerRun(t, j, base)
		next.want()
		next.gets(order("new", "pump", "on", time.Minute), Done, "", 0)
		next.gets(refused, Refused, TooFarAhead, 0)
		next.set(func() { next.ahead = -90 * time.Minute })
		next.gets(old, Refused, Forgotten, 0)
		next.stop()
	})
}

// A disk that can neither be read nor written may come back with its ledger, which is read
// then, however late. [CMD-21]
func TestLedgerOfADiskThatComesBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		j, base := &memJournal{t: t}, clock.Fake()
		old := order("old", "pump", "on", 10*time.Minute)
		newLedgerRun(t, j, base).gets(old, Done, "", 1)
		j.failing(func(string) error { return syscall.EIO })
		run := newLedgerRun(t, j, base)
		<-time.After(5 * time.Hour)
		synctest.Wait()
		run.gets(order("new", "pump", "on", time.Minute), Refused, NoLedger, 0)
		j.failing(nil)
		<-time.After(retryEvery)
		synctest.Wait()
		run.want("ledger_unavailable raised", "ledger_unavailable cleared")
		run.gets(old, Done, "", 0)
		run.stop()
	})
}

// Without a directory nothing can be recorded, so no energising order is carried out.
// [CMD-14]
func TestNoDirectory(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	j, _ := opened(t, filepath.Join(file, "spool"))
	run := newLedgerRun(t, j, clock.Fake())
	run.gets(order("a", "pump", "on", time.Minute), Refused, NoLedger, 0)
	run.gets(order("b", "pump", "off", time.Minute), Done, "", 1)
	run.want("ledger_unavailable raised")
}

// An id is known until a day after its expiry, over restarts and boots, with an
// unsynchronised clock, and with a clock that jumps in the boot in which the order came.
// [CMD-11]
func TestIDIsKnownOverBoots(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		base, j := clock.Fake(), &memJournal{t: t}
		later := func(boot string) func(clock.Stamp) clock.Stamp {
			start := base.Now().Mono
			return func(s clock.Stamp) clock.Stamp {
				s.Boot, s.Mono = boot, s.Mono-start
				return s
			}
		}
		on, off := order("a", "pump", "on", time.Hour), []byte(`{"id":"b","output":"pump","action":"off"}`)
		run := newLedgerRun(t, j, base)
		run.gets(on, Done, "", 1)
		run.set(func() { run.unsynced = true })
		run.gets(off, Done, "", 1)
		run.set(func() { run.unsynced = false })
		run.set(func() { run.ahead = 100 * time.Hour }) // the clock jumps
		<-time.After(2 * time.Minute)
		synctest.Wait()
		run.set(func() { run.ahead = 0 })
		run.gets(on, Done, "", 0)

		run = newLedgerRun(t, j, base)
		run.set(func() { run.stamp, run.unsynced, run.ahead = later("2"), true, 1000*time.Hour })
		<-time.After(2 * time.Minute)
		synctest.Wait()
		run.gets(on, Done, "", 0)
		run.set(func() { run.ahead, run.unsynced = 0, false })
		<-time.After(24*time.Hour + 30*time.Minute)
		synctest.Wait()
		run.gets(off, Done, "", 0)
		run.gets(on, Done, "", 0)
		<-time.After(time.Hour)
		synctest.Wait()
		run.gets(on, Refused, Expired, 0) // checked again
		<-time.After(24 * time.Hour)
		run.gets(off, Done, "", 1)
	})
}

// Damage loses only the damaged entries: an id with a readable result is known, one
// without is answered unknown, and an incomplete last entry is no fault. [CMD-12]
func TestDamagedLedger(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "spool")
	j, s := opened(t, dir)
	run := newLedgerRun(t, j, clock.Fake())
	orders := map[string][]byte{}
	for _, id := range []string{"a", "b", "c"} {
		orders[id] = order(id, "pump", "toggle", time.Minute)
		run.gets(orders[id], Done, "", 1)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	whole, err := os.ReadFile(filepath.Join(dir, "orders.journal"))
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		what   string
		hit    func(b []byte) []byte
		again  map[string]Status
		faults []string
	}{
		{"intent of b", func(b []byte) []byte { b[bytes.Index(b, []byte(`"id":"b"`))+6] ^= 1; return b },
			map[string]Status{"a": Done, "b": Done, "c": Done}, []string{"ledger_damaged raised"}},
		{"result of b", func(b []byte) []byte { b[bytes.LastIndex(b, []byte(`"id":"b"`))+6] ^= 1; return b },
			map[string]Status{"a": Done, "b": Unknown, "c": Done}, []string{"ledger_damaged raised"}},
		{"torn end", func(b []byte) []byte { return b[:len(b)-1] },
			map[string]Status{"a": Done, "b": Done, "c": Unknown}, nil},
		{"zeroed end", func(b []byte) []byte { return append(b[:len(b)-9], make([]byte, 4096)...) },
			map[string]Status{"a": Done, "b": Done, "c": Unknown}, nil},
	} {
		if err := os.WriteFile(filepath.Join(dir, "orders.journal"), c.hit(bytes.Clone(whole)), 0o600); err != nil {
			t.Fatal(err)
		}
		j, s := opened(t, dir)
		next := newLedgerRun(t, j, clock.Fake())
		next.want(c.faults...)
		for id, want := range c.again {
			if a, _ := next.dispatcher.Handle(orders[id], false, "test"); a.Status != want {
				t.Errorf("%s: order %s is %s, want %s", c.what, id, a.Status, want)
			}
		}
		if len(next.pins.did) != 0 {
			t.Errorf("%s: did %q again", c.what, next.pins.did)
		}
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}
}
