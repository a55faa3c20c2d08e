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

// copied is what a killed process leaves: the directory as it is now.
func copied(t *testing.T, dir string) string {
	t.Helper()
	to := filepath.Join(t.TempDir(), "left")
	if err := os.CopyFS(to, os.DirFS(dir)); err != nil {
		t.Fatal(err)
	}
	return to
}

// watched is outputs that say when they are about to act and when they have.
type watched struct {
	*pins
	before, after func()
}

func (w watched) Do(o output.Order) (output.State, error) {
	w.before()
	defer w.after()
	return w.pins.Do(o)
}

// Killed between intent and act, act and result, result and acknowledgement:
// the next start says unknown to the first two and the first answer to the
// third, and nothing is done twice. [CMD-12]
func TestKilledBetweenTwoLines(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "spool")
	j, _ := opened(t, dir)
	f := newOffice(t, j, clock.Fake())
	var begun, acted string
	f.desk.o.Outputs = watched{f.pins, func() { begun = copied(t, dir) }, func() { acted = copied(t, dir) }}
	text := order("a", "pump", "toggle", time.Minute)
	first := f.gets(text, Done, "", 1)
	for what, left := range map[string]string{"before the act": begun, "after the act": acted} {
		for range 2 { // the second start finds what the first one recorded
			j, s := opened(t, left)
			next := newOffice(t, j, clock.Fake())
			if got := next.told(); !slices.Equal(got, []string{"a unknown pump no_result"}) && got != nil {
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
	next := newOffice(t, j, clock.Fake())
	if a := next.gets(text, Done, "", 0); !a.Stamp.Wall.Equal(first.Stamp.Wall) || a.State != first.State || a.Stamp.Boot != first.Stamp.Boot {
		t.Errorf("again %+v, first %+v", a, first)
	}
	if got := next.told(); got != nil {
		t.Errorf("told %q of an order with a result", got)
	}
}

// An order that was too far ahead while the clock was years behind is known in
// the next boot too, though by then the clock has left behind what it knew, and
// until its own expiry and a day. [CMD-11]
func TestRefusedByAClockThatWasBehind(t *testing.T) {
	p, base := &paper{t: t}, clock.Fake()
	f := newOffice(t, p, base)
	text := order("a", "pump", "on", time.Minute)
	f.set(func() { f.ahead = -10 * 365 * 24 * time.Hour })
	f.gets(text, Refused, TooFarAhead, 0)
	boot := func(ahead time.Duration) *office {
		next := newOffice(t, p, base)
		next.set(func() {
			next.stamp = func(s clock.Stamp) clock.Stamp {
				s.Boot, s.Wall, s.Mono = "another", s.Wall.Add(ahead), s.Mono+ahead
				return s
			}
		})
		next.desk.Handle([]byte(`{"output":"pump","action":"off"}`), false, "test") // the journal has been read
		next.desk.mu.Lock()
		defer next.desk.mu.Unlock()
		next.desk.ledger.sweep = 0
		next.desk.ledger.forget(next.desk.o.Clock.Now())
		return next
	}
	boot(0).gets(text, Refused, TooFarAhead, 0)
	boot(24*time.Hour).gets(text, Refused, TooFarAhead, 0)
	boot(25*time.Hour).gets(text, Refused, Expired, 0)
}

// An order refused stays refused after a restart, though it would be in time
// by now, with the same words. [CMD-4]
func TestRefusalIsRemembered(t *testing.T) {
	p := &paper{t: t}
	f := newOffice(t, p, clock.Fake())
	f.set(func() { f.unsynced = true })
	text := order("a", "pump", "on", time.Minute)
	first := f.gets(text, Refused, ClockUnsynced, 0)
	if a := newOffice(t, p, clock.Fake()).gets(text, Refused, ClockUnsynced, 0); a.Hint != first.Hint {
		t.Errorf("hint %q, first %q", a.Hint, first.Hint)
	}
}

// Whatever the disk says, orders that energise are refused and orders to the
// safe level are done; when it works again so does everything. [CMD-14] [CMD-6]
func TestLedgerThatCannotBeWritten(t *testing.T) {
	for _, err := range []error{syscall.ENOSPC, syscall.EIO, syscall.EROFS, syscall.ENOENT} {
		for _, op := range []string{"append", "sync"} {
			synctest.Test(t, func(t *testing.T) {
				p := &paper{t: t}
				f := newOffice(t, p, clock.Fake())
				f.gets(order("before", "pump", "on", time.Minute), Done, "", 1)
				p.failing(func(o string) error {
					if o == op || o == "rewrite" {
						return err
					}
					return nil
				})
				a := f.gets(order("a", "pump", "on", time.Minute), Refused, NoLedger, 0)
				if !strings.Contains(a.Hint, err.Error()) {
					t.Errorf("hint %q does not say %v", a.Hint, err)
				}
				f.gets(order("b", "pump", "toggle", time.Minute), Refused, NoLedger, 0)
				f.gets(order("c", "pump", "off", time.Minute), Done, "", 1)
				f.gets(order("before", "pump", "on", time.Minute), Done, "", 0)
				f.want("ledger_unavailable raised")
				p.failing(nil)
				<-time.After(time.Minute)
				synctest.Wait() // though no order comes
				f.want("ledger_unavailable cleared")
				f.gets(order("a", "pump", "on", time.Minute), Refused, NoLedger, 0)
				f.gets(order("d", "pump", "on", time.Minute), Done, "", 1)
				next := newOffice(t, p, clock.Fake())
				next.gets(order("a", "pump", "on", time.Minute), Refused, NoLedger, 0)
				next.gets(order("d", "pump", "on", time.Minute), Done, "", 0)
			})
		}
	}
}

// An order to the safe level is done though it cannot be recorded, and is then
// known as long as the process runs. [CMD-14]
func TestSafeWithoutLedger(t *testing.T) {
	p := &paper{t: t}
	f := newOffice(t, p, clock.Fake())
	p.failing(func(string) error { return syscall.ENOSPC })
	text := order("a", "pump", "off", time.Minute)
	f.gets(text, Done, "", 1)
	f.gets(text, Done, "", 0)
	f = newOffice(t, p, clock.Fake())
	f.gets(text, Done, "", 1)
	p.failing(nil)
	f.gets(text, Done, "", 0)
	f.gets(order("b", "pump", "on", time.Minute), Done, "", 1)
	newOffice(t, p, clock.Fake()).gets(text, Done, "", 0)
}

// A single error of the disk is mended on the spot: the order is done.
func TestOneErrorOfTheDisk(t *testing.T) {
	p := &paper{t: t}
	f := newOffice(t, p, clock.Fake())
	once := true
	p.failing(func(op string) error {
		if op == "sync" && once {
			once = false
			return syscall.EIO
		}
		return nil
	})
	f.gets(order("a", "pump", "on", time.Minute), Done, "", 1)
	f.want()
	newOffice(t, p, clock.Fake()).gets(order("a", "pump", "on", time.Minute), Done, "", 0)
}

// While nobody knows which orders were done, none that energises is; and one
// that had been done is not done again by the very order after which the
// ledger can be read. [CMD-14]
func TestLedgerThatCannotBeRead(t *testing.T) {
	p := &paper{t: t}
	old := order("old", "pump", "on", time.Minute)
	newOffice(t, p, clock.Fake()).gets(old, Done, "", 1)
	p.entries = append(p.entries, note{V: 1, ID: "begun", Order: &noteOrder{Output: "pump", Action: "on"}}.encode())
	p.failing(func(op string) error {
		if op == "replay" {
			return syscall.EIO
		}
		return nil
	})
	f := newOffice(t, p, clock.Fake())
	f.gets(order("new", "pump", "on", time.Minute), Refused, NoLedger, 0)
	f.gets(order("safe", "pump", "off", time.Minute), Done, "", 1)
	f.want("ledger_unavailable raised")
	if f.told() != nil || len(p.entries) != 3 {
		t.Errorf("%d entries: what could not be read was written over", len(p.entries))
	}
	p.failing(nil)
	f.gets(old, Done, "", 0)
	f.gets(order("new", "pump", "on", time.Minute), Refused, NoLedger, 0)
	f.want("ledger_unavailable cleared")
	if got := f.told(); !slices.Equal(got, []string{"begun unknown pump no_result"}) {
		t.Errorf("told %q", got)
	}
}

// Without a directory nothing is recorded, so nothing energises. [CMD-14]
func TestNoDirectory(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	j, _ := opened(t, filepath.Join(file, "spool"))
	f := newOffice(t, j, clock.Fake())
	f.gets(order("a", "pump", "on", time.Minute), Refused, NoLedger, 0)
	f.gets(order("b", "pump", "off", time.Minute), Done, "", 1)
	f.want("ledger_unavailable raised")
}

// An id is known until its expiry and a day, over restarts and boots, whatever
// a clock says that is not true, and whatever a clock says that jumps in the
// boot in which the order came. [CMD-11]
func TestIDIsKnownOverBoots(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		base, p := clock.Fake(), &paper{t: t}
		later := func(boot string) func(clock.Stamp) clock.Stamp {
			start := base.Now().Mono
			return func(s clock.Stamp) clock.Stamp {
				s.Boot, s.Mono = boot, s.Mono-start
				return s
			}
		}
		on, off := order("a", "pump", "on", time.Hour), []byte(`{"id":"b","output":"pump","action":"off"}`)
		f := newOffice(t, p, base)
		f.gets(on, Done, "", 1)
		f.set(func() { f.unsynced = true })
		f.gets(off, Done, "", 1)
		f.set(func() { f.unsynced = false })
		f.set(func() { f.ahead = 100 * time.Hour }) // the clock jumps
		<-time.After(2 * time.Minute)
		synctest.Wait()
		f.set(func() { f.ahead = 0 })
		f.gets(on, Done, "", 0)

		f = newOffice(t, p, base)
		f.set(func() { f.stamp, f.unsynced, f.ahead = later("2"), true, 1000*time.Hour })
		<-time.After(2 * time.Minute)
		synctest.Wait()
		f.gets(on, Done, "", 0)
		f.set(func() { f.ahead, f.unsynced = 0, false })
		<-time.After(24*time.Hour + 30*time.Minute)
		synctest.Wait()
		f.gets(off, Done, "", 0)
		f.gets(on, Done, "", 0)
		<-time.After(time.Hour)
		synctest.Wait()
		f.gets(on, Refused, Expired, 0) // looked at anew
		<-time.After(24 * time.Hour)
		f.gets(off, Done, "", 1)
	})
}

// Damage costs what was hit: an id whose result is left is known, one whose
// result was hit is unknown, and a torn end is no fault. [CMD-12]
func TestDamagedLedger(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "spool")
	j, s := opened(t, dir)
	f := newOffice(t, j, clock.Fake())
	orders := map[string][]byte{}
	for _, id := range []string{"a", "b", "c"} {
		orders[id] = order(id, "pump", "toggle", time.Minute)
		f.gets(orders[id], Done, "", 1)
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
		next := newOffice(t, j, clock.Fake())
		next.want(c.faults...)
		for id, want := range c.again {
			if a, _ := next.desk.Handle(orders[id], false, "test"); a.Status != want {
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
