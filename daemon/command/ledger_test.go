package command

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"fieldpost/daemon/clock"
	"fieldpost/daemon/health"
	"fieldpost/daemon/output"
	"fieldpost/daemon/spool"
)

// office is a desk at work, with its ledger, and all that it told.
type office struct {
	*bench // whose mu guards faults and what the clock says too
	stop   func()
	faults []string
	stamp  func(clock.Stamp) clock.Stamp // changes what the clock says; nil leaves it
}

// newOffice opens a desk on a journal, in the place of the one before. base is
// what boots share: their clock.
func newOffice(t *testing.T, j Journal, base clock.Clock) *office {
	t.Helper()
	f := &office{bench: &bench{t: t, pins: newPins()}}
	if p, ok := j.(*paper); ok {
		p.mu.Lock()
		before := p.stop
		p.mu.Unlock()
		if before != nil {
			before()
		}
		p.stop = func() { f.stop() }
	}
	f.desk = New(Options{
		Thing: thing, MaxLife: time.Hour, Outputs: f.pins, Journal: j,
		Health: health.New(func(c health.Change) {
			f.mu.Lock()
			defer f.mu.Unlock()
			f.faults = append(f.faults, fmt.Sprintf("%s %s", c.Fault.Code, c.State()))
		}),
		Clock: clock.Func(func() clock.Stamp {
			f.mu.Lock()
			defer f.mu.Unlock()
			s := base.Now()
			s.Wall, s.Synced = s.Wall.Add(f.ahead), !f.unsynced
			if f.stamp != nil {
				s = f.stamp(s)
			}
			return s
		}),
		Answer: f.answered,
	})
	f.stop = f.work()
	return f
}

// set changes what the clock says.
func (f *office) set(change func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	change()
}

// told gives the answers that were sent without being asked for.
func (f *office) told() (out []string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, r := range f.sent {
		line := ""
		for _, x := range r.Fields {
			if x.Name != "hint" {
				line += fmt.Sprint(x.Value, " ")
			} else if x.Value == "" {
				f.t.Errorf("answer %+v has an empty hint", r)
			}
		}
		out = append(out, strings.TrimSpace(line))
	}
	f.sent = nil
	return out
}

func (f *office) want(faults ...string) {
	f.t.Helper()
	f.mu.Lock()
	defer f.mu.Unlock()
	if !slices.Equal(f.faults, faults) {
		f.t.Errorf("told faults %q, want %q", f.faults, faults)
	}
	f.faults = nil
}

// opened is the journal of a real directory, until the test or the spool ends.
func opened(t *testing.T, dir string) (*spool.Journal, *spool.Spool) {
	t.Helper()
	s, err := spool.Open(spool.Options{Dir: dir, Clock: clock.Fake()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() }) // closed before, or of no directory
	return s.Journal("orders"), s
}

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

// [CMD-11] [CMD-6]
func TestFullLedger(t *testing.T) {
	for what, limit := range map[string]func(*ledger){
		"number": func(l *ledger) { l.room = room{50, 20, maxLive} },
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
	l.room = room{50, 20, maxLive}
	for i := range 21 {
		f.gets(order(fmt.Sprint("r", i), "pump", "on", -time.Hour), Refused, Expired, 0)
	}
	f.gets(order("r0", "pump", "on", time.Minute), Done, "", 1) // gave way
	f.gets(order("r1", "pump", "on", time.Minute), Refused, Expired, 0)
	if l.refused != 20 || len(l.known) != 21 {
		t.Errorf("%d refused, %d known", l.refused, len(l.known))
	}
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

// What is written is what is read, however odd.
func TestNotesRoundTrip(t *testing.T) {
	far, err := Decode([]byte(`{"id":"é \"<>&","output":"pump","action":"on","for":"1ns","expires":"9999-12-31T23:59:59-23:59"}`), thing)
	if err != nil {
		t.Fatal(err)
	}
	stamp := clock.Stamp{Boot: "b", Mono: 7, Wall: time.Unix(1, 2).UTC(), Synced: true}
	a := Answer{ID: far.ID, Status: Failed, Output: "pump", State: "on", Reason: OutputFailed, Hint: "x", Stamp: stamp}
	e := &entry{order: far, answer: &a, until: 9, boot: "b", expiry: time.Unix(3, 4).UTC(), refused: true}
	n, err := decodeNote(e.whole().encode())
	if err != nil {
		t.Fatal(err)
	}
	got := n.entry()
	if *got.answer != a || !got.order.same(far) || got.until != 9 || got.boot != "b" || !got.expiry.Equal(e.expiry) || !got.refused {
		t.Errorf("read %+v %+v, want %+v %+v", got, *got.answer, e, a)
	}
	a.Hint = strings.Repeat("é", maxHint)
	if n := len(result(a).encode()); n > 2*maxHint {
		t.Errorf("a long hint makes an entry of %d bytes", n)
	}
	for _, text := range []string{"", "{}", "null", `{"v":2,"id":"a","answer":{}}`, `{"v":1,"id":"a"}`, `{"v":1,"answer":{}}`} {
		if n, err := decodeNote([]byte(text)); err == nil {
			t.Errorf("%q is read as %+v", text, n)
		}
	}
}

// Whatever stands in the journal, the desk starts, answers each id at most
// once, and what it knows it does not do.
func FuzzReplay(f *testing.F) {
	f.Add([]byte(`{"v":1,"id":"a","order":{"output":"pump","action":"on","expires":[9,9]},"until":[1,2]}` + "\n" + `{"v":1,"id":"a","answer":{"status":"done"}}`))
	f.Add([]byte(`{"v":1,"id":"a","answer":{"status":"done","wall":[9223372036854775807,-1]},"mono":-1}` + "\n{}\nnull"))
	f.Fuzz(func(t *testing.T, data []byte) {
		p := &paper{t: t, entries: bytes.Split(data, []byte("\n"))}
		o := newOffice(t, p, clock.Fake())
		told := map[any]bool{}
		for _, r := range o.sent {
			if id := r.Fields[0].Value; told[id] {
				t.Errorf("told twice of order %q", id)
			} else {
				told[id] = true
			}
		}
		o.desk.mu.Lock()
		o.desk.ledger.forget(o.desk.o.Clock.Now()) // some have lapsed
		o.desk.mu.Unlock()
		_, _, _, known := o.desk.ledger.first("a")
		a, ok := o.desk.Handle(order("a", "pump", "on", time.Minute), false, "test")
		if !ok || known != (len(o.pins.did) == 0) {
			t.Errorf("known %v, did %q, answer %+v", known, o.pins.did, a)
		}
		if again := newOffice(t, p, clock.Fake()); again.told() != nil {
			t.Error("told again at the next start")
		}
	})
}
