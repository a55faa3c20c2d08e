package spool

import (
	"context"
	"errors"
	"math"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"fieldpost/daemon/clock"
	"fieldpost/daemon/durable"
	"fieldpost/daemon/message"
)

func TestOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, newMemDisk(), Options{AtRisk: 5 * time.Second})
		r.add(message.Reading, "air")
		r.add(message.Reading, "air")
		r.add(message.Edge, "door")
		r.appendRecord(message.Record{Kind: message.Answer})
		r.want(r.takeItems(1), ":0")
		r.add(message.Reading, "air")
		r.add(message.Edge, "door")
		r.want(r.takeItems(all), "door:1, air:1, door:2, air:2, air:3")
		if _, ok := nextOf(r.s); ok {
			t.Error("Next gave something twice")
		}
		r.s.Rewind()
		items := r.takeItems(all)
		r.want(items, ":0, door:1, air:1, door:2, air:2, air:3")
		for _, i := range []int{4, 1, 4, 3} {
			r.s.Ack(items[i].ID)
		}
		r.s.Rewind()
		r.want(r.takeItems(all), ":0, air:1, air:3")
		st := r.s.Stats()
		if st.Acked != 3 || st.Appended != 6 || st.Events.Pending != 1 || st.Samples.Pending != 2 {
			t.Errorf("stats: %+v", st)
		}
	})
}

func TestAckOfWhatIsNotOwed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, newMemDisk(), Options{})
		r.add(message.Reading, "air")
		for _, id := range []uint64{0, 1, 2, 77, firstLive*uint64(classes) + 5, math.MaxUint64, math.MaxUint64 - 1} {
			r.s.Ack(id)
			r.s.Refuse(id, "no")
		}
		if st := r.s.Stats(); st.Acked != 0 || st.Refused != 0 || st.Samples.Pending != 1 {
			t.Errorf("stats: %+v", st)
		}
	})
}

func TestReady(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, newMemDisk(), Options{AtRisk: time.Second})
		drain := func() bool {
			select {
			case <-r.s.Ready():
				return true
			default:
				return false
			}
		}
		drain()
		if drain() {
			t.Error("ready twice without cause")
		}
		r.add(message.Reading, "air")
		r.add(message.Reading, "air")
		if !drain() || drain() {
			t.Error("two records want one signal")
		}
		r.s.Rewind()
		if !drain() {
			t.Error("no signal after Rewind")
		}
	})
}

func TestAppendRefusesWhatCannotBeKept(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, newMemDisk(), Options{})
		err := r.s.Append(Entry{Class: classes})
		if err == nil || r.s.Stats().Appended != 0 {
			t.Errorf("an entry of no class was taken: %v", err)
		}
		err = r.s.Append(Entry{Body: make([]byte, durable.MaxPayload)})
		if err == nil || r.s.Stats().Appended != 0 || r.s.Stats().Appends != 0 {
			t.Errorf("an entry that no frame takes was taken: %v", err)
		}
		if err := r.stopAndClose(); err != nil {
			t.Fatal(err)
		}
		if err := appendTo(r.s, message.Record{Kind: message.Reading}); !errors.Is(err, ErrClosed) {
			t.Errorf("append after the end: %v", err)
		}
	})
}

func TestCallerMayReuseItsBody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, newMemDisk(), Options{AtRisk: time.Second})
		body := []byte("one")
		if err := r.s.Append(Entry{Class: Samples, Body: body}); err != nil {
			t.Fatal(err)
		}
		copy(body, "two")
		if x, ok := r.s.Next(); !ok || string(x.Body) != "one" {
			t.Errorf("the entry changed to %q", x.Body)
		}
	})
}

func TestOptions(t *testing.T) {
	good := Options{Dir: t.TempDir(), Clock: clock.Fake()}
	for name, damage := range map[string]func(*Options){
		"no directory": func(o *Options) { o.Dir = "" },
		"no clock":     func(o *Options) { o.Clock = nil },
		"at risk":      func(o *Options) { o.AtRisk = -1 },
		"age":          func(o *Options) { o.MaxAge = -1 },
		"1048575":      func(o *Options) { o.MaxBytes = 1<<20 - 1 },
		"-5":           func(o *Options) { o.MaxBytes = -5 },
		"memory of 1 ": func(o *Options) { o.Memory = 1 },
	} {
		o := good
		damage(&o)
		word := name
		if s, err := Open(o); err == nil || !strings.Contains(err.Error(), strings.Fields(word)[len(strings.Fields(word))-1]) {
			t.Errorf("%s: %v, %v", name, s, err)
		}
	}
	s, err := Open(good)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
}

func TestTwoOpens(t *testing.T) {
	o := Options{Dir: t.TempDir(), Clock: clock.Fake()}
	a, err := Open(o)
	if err != nil {
		t.Fatal(err)
	}
	_, err = Open(o)
	var locked *LockedError
	if !errors.As(err, &locked) || locked.PID != os.Getpid() || !strings.Contains(err.Error(), o.Dir) {
		t.Errorf("second open: %v", err)
	}
	if err := a.Close(); err != nil {
		t.Fatal(err)
	}
	b, err := Open(o)
	if err != nil {
		t.Fatalf("open after close: %v", err)
	}
	if a.RunNumber() != 1 || b.RunNumber() != 2 {
		t.Errorf("runs %d and %d, want 1 and 2", a.RunNumber(), b.RunNumber())
	}
	if err := errors.Join(b.Close(), b.Close()); err != nil {
		t.Errorf("close twice: %v", err)
	}
}

func TestBacklogOnARealDisk(t *testing.T) {
	o := Options{Dir: filepath.Join(t.TempDir(), "spool"), Clock: clock.Fake(), AtRisk: time.Second}
	for run := uint64(1); run <= 3; run++ {
		s, err := Open(o)
		if err != nil {
			t.Fatal(err)
		}
		for seq := uint64(1); seq <= 100; seq++ {
			if err := appendTo(s, message.Record{Kind: message.Reading, Sensor: "air", Run: run, Seq: seq}); err != nil {
				t.Fatal(err)
			}
		}
		for want := uint64(1); want <= run; want++ {
			for seq := uint64(1); seq <= 100; seq++ {
				x, ok := readNext(s)
				if !ok || x.Record.Run != want || x.Record.Seq != seq {
					t.Fatalf("run %d: got %+v, %v, want %d of run %d", run, x, ok, seq, want)
				}
			}
		}
		if x, ok := readNext(s); ok {
			t.Fatalf("run %d: more than was put in: %+v", run, x)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

func TestDirectoryThatCannotBe(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	s, err := Open(Options{Dir: filepath.Join(file, "spool"), Clock: clock.Fake()})
	if err != nil {
		t.Fatalf("a disk that cannot be used must be no error: %v", err)
	}
	if err := appendTo(s, message.Record{Kind: message.Reading, Sensor: "air", Seq: 1}); err != nil {
		t.Fatal(err)
	}
	if x, ok := nextOf(s); !ok || x.Record.Sensor != "air" {
		t.Errorf("memory alone gave %+v, %v", x, ok)
	}
	if st := s.Stats(); st.Disk || st.Run < 1<<50 || st.Run >= 1<<53 {
		t.Errorf("stats: %+v", st)
	}
	if err := s.Close(); err == nil || !strings.Contains(err.Error(), file) {
		t.Errorf("close kept silent about what it could not write: %v", err)
	}
}

// What waits is counted from the moment it comes until it is acknowledged; it
// is at risk until it is synced.
func TestBacklog(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, newMemDisk(), Options{AtRisk: 5 * time.Second}).start()
		want := func(when string, w Backlog) {
			t.Helper()
			if got := r.s.Backlog(); got != w {
				t.Errorf("%s: %+v, want %+v", when, got, w)
			}
		}
		want("at first", Backlog{})
		r.add(message.Reading, "air")
		r.add(message.Answer, "")
		want("at once", Backlog{Records: 2, AtRisk: 2})
		wait(500 * time.Millisecond)
		r.add(message.Reading, "air")
		want("after half a second", Backlog{Records: 3, AtRisk: 3, Oldest: 500 * time.Millisecond})
		wait(10 * time.Second)
		want("when it is synced", Backlog{Records: 3, Oldest: 10500 * time.Millisecond})
		items := r.takeItems(2)
		for _, x := range items {
			r.s.Ack(x.ID)
		}
		want("when two are acknowledged", Backlog{Records: 1, Oldest: 10 * time.Second})
		if err := r.stopAndClose(); err != nil {
			t.Fatal(err)
		}
	})
}

// What an earlier run has left is as old as its file, if that can be known.
func TestBacklogOfAnEarlierRun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		boot, synced, start := "a", true, time.Now()
		now := clock.Func(func() clock.Stamp {
			return clock.Stamp{Boot: boot, Mono: time.Since(start), Wall: time.Now(), Synced: synced}
		})
		d := newMemDisk()
		r := newRig(t, d, Options{AtRisk: 5 * time.Second, Clock: now}).start()
		r.add(message.Reading, "air")
		wait(time.Minute)
		if err := r.stopAndClose(); err != nil {
			t.Fatal(err)
		}
		r = newRig(t, d, Options{AtRisk: 5 * time.Second, Clock: now})
		if got, want := r.s.Backlog(), (Backlog{Records: 1, Oldest: time.Minute}); got != want {
			t.Errorf("%+v, want %+v", got, want)
		}
		boot, synced = "b", false
		if got, want := r.s.Backlog(), (Backlog{Records: 1}); got != want {
			t.Errorf("in another boot with no true clock: %+v, want %+v", got, want)
		}
		synced = true
		if got, want := r.s.Backlog(), (Backlog{Records: 1, Oldest: time.Minute}); got != want {
			t.Errorf("in another boot: %+v, want %+v", got, want)
		}
		if err := r.stopAndClose(); err != nil {
			t.Fatal(err)
		}
	})
}

// follow takes what Next gives, and when there is nothing waits for Ready and
// for nothing else. It counts records of the samples.
func (r *rig) follow(ctx context.Context, Samples *atomic.Int64) {
	for {
		if x, ok := nextOf(r.s); ok {
			if x.Record.Kind.Sample() {
				Samples.Add(1)
			}
			continue
		}
		select {
		case <-r.s.Ready():
		case <-ctx.Done():
			return
		}
	}
}

// gated opens a spool on d that reads files whose name begins so only when let
// is called, once for each.
func gated(t *testing.T, d *memDisk, prefix string) (r *rig, let func()) {
	gate := make(chan bool)
	var loaded atomic.Bool // until then Open reads all
	r = newRigOn(t, d, &slowDisk{d, func(op, file string) {
		if op == "read" && strings.HasPrefix(file, prefix) && loaded.Load() {
			<-gate
		}
	}}, Options{AtRisk: time.Second})
	loaded.Store(true)
	let = func() {
		t.Helper()
		synctest.Wait()
		select {
		case gate <- true:
			synctest.Wait()
		default:
			t.Fatal("nothing is being read")
		}
	}
	return r, let
}

// Who waits for Ready alone gets what there is: also where a file is wanted
// while it is being read ahead, and where that reading fails.
func TestReadyTellsOfWhatWasReadAhead(t *testing.T) {
	for name, fails := range map[string]error{"read": nil, "fails once": syscall.EIO} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r, let := gated(t, backlog(t, true), "samples")
				r.start()
				ctx, cancel := context.WithCancel(t.Context())
				var n atomic.Int64
				go r.follow(ctx, &n)
				let()
				first := n.Load()
				if first == 0 || first >= 5000 {
					t.Fatalf("%d samples while the second file is read ahead", first)
				}
				r.d.Failing(only("read", "samples", fails))
				let() // before the disk is known to hang, which has Next called too
				if fails != nil {
					r.d.Failing(nil)
					wait(settleDelay) // it is read again then
					let()
				}
				if got := n.Load(); got <= first || got >= 10000 {
					t.Errorf("%d samples while the third is read ahead", got)
				}
				let()
				if got := n.Load(); got != 10000 {
					t.Errorf("%d samples, and waits", got)
				}
				cancel()
				if err := r.stopAndClose(); err != nil {
					t.Error(err)
				}
			})
		})
	}
}

// An event that has to be read is acknowledged before the reader comes to it:
// then there is nothing to read, and the samples behind it are due.
func TestReadyTellsThatNothingNeedsToBeRead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, backlog(t, true), Options{AtRisk: time.Second})
		edge, _ := r.next()
		r.add(message.Reading, "air")
		r.s.Rewind()
		if _, ok := nextOf(r.s); ok {
			t.Fatal("the edge is still in memory")
		}
		<-r.s.Ready()
		r.s.Ack(edge.ID)
		r.start()
		select {
		case <-r.s.Ready():
		default:
			t.Error("nobody tells that the samples are due")
		}
		if err := r.stopAndClose(); err != nil {
			t.Error(err)
		}
	})
}

// While a file of events that cannot be read waits to be read again, the
// samples are due at once.
func TestReadyTellsOfSamplesWhileEventsAreReadAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, backlog(t, true), Options{AtRisk: time.Second})
		r.d.Failing(only("read", "events", syscall.EIO))
		r.start()
		ctx, cancel := context.WithCancel(t.Context())
		var n atomic.Int64
		go r.follow(ctx, &n)
		synctest.Wait()
		if got := n.Load(); got != 10000 {
			t.Errorf("%d samples before the events are read again", got)
		}
		cancel()
		if err := r.stopAndClose(); err != nil {
			t.Error(err)
		}
	})
}
