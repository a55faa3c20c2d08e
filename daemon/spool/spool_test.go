package spool

import (
	"errors"
	"fieldpost/daemon/durable"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"fieldpost/daemon/clock"
	"fieldpost/daemon/message"
)

func TestOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, newMemDisk(), Options{AtRisk: 5 * time.Second})
		r.add(message.Reading, "air")
		r.add(message.Reading, "air")
		r.add(message.Edge, "door")
		r.put(message.Record{Kind: message.Answer})
		r.want(r.take(1), ":0")
		r.add(message.Reading, "air")
		r.add(message.Edge, "door")
		r.want(r.take(all), "door:1, air:1, door:2, air:2, air:3")
		if _, ok := nextOf(r.s); ok {
			t.Error("Next gave something twice")
		}
		r.s.Rewind()
		items := r.take(all)
		r.want(items, ":0, door:1, air:1, door:2, air:2, air:3")
		for _, i := range []int{4, 1, 4, 3} {
			r.s.Ack(items[i].ID)
		}
		r.s.Rewind()
		r.want(r.take(all), ":0, air:1, air:3")
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
		if err == nil || r.s.Stats().Appended != 0 {
			t.Errorf("an entry that no frame takes was taken: %v", err)
		}
		if err := r.end(); err != nil {
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
	for name, harm := range map[string]func(*Options){
		"no directory": func(o *Options) { o.Dir = "" },
		"no clock":     func(o *Options) { o.Clock = nil },
		"at risk":      func(o *Options) { o.AtRisk = -1 },
		"age":          func(o *Options) { o.MaxAge = -1 },
		"1048575":      func(o *Options) { o.MaxBytes = 1<<20 - 1 },
		"-5":           func(o *Options) { o.MaxBytes = -5 },
		"memory of 1 ": func(o *Options) { o.Memory = 1 },
	} {
		o := good
		harm(&o)
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
