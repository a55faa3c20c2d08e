package outbox

import (
	"encoding/json"
	"log/slog"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"fieldpost/daemon/clock"
	"fieldpost/daemon/clock/clocktest"
	"fieldpost/daemon/config"
	"fieldpost/daemon/message"
	"fieldpost/daemon/records"
	"fieldpost/daemon/spool"
	"fieldpost/daemon/task"
)

// sent is what a message says of its place and time.
type sent struct {
	Sensor   string
	Run, Seq uint64
	Time     time.Time
	Clock    string
}

func (x *boxed) stamped() (all []sent) {
	x.t.Helper()
	for idle := 0; idle < 3; idle++ {
		mail := x.all()
		if len(mail) > 0 {
			idle = 0
		}
		for _, m := range mail {
			var s sent
			if err := json.Unmarshal(m.Payload, &s); err != nil {
				x.t.Fatal(err)
			}
			if s.Sensor == "air" && s.Seq > 0 {
				all = append(all, s)
			}
		}
		<-time.After(time.Second) // for what is to be read from the disk
	}
	return all
}

// boot opens the spool in dir as after a start, and runs it; end ends it in order.
func boot(t *testing.T, dir string, d *clocktest.Clock) (x *boxed, end func()) {
	t.Helper()
	s, err := records.Open(spool.Options{Dir: dir, AtRisk: time.Second, MaxBytes: 1 << 20, MaxAge: 1000 * time.Hour, Clock: d})
	if err != nil {
		t.Fatal(err)
	}
	running := task.Start("spool", make(chan error, 1), s.Run)
	times := clock.NewBootLog(d, s.Journal("boots"), slog.New(slog.DiscardHandler))
	timing := task.Start("clock", make(chan error, 1), times.Run)
	cfg := &config.Config{Thing: "thing", Readings: config.Readings{Topic: "t"}}
	x = &boxed{t: t, seq: map[string]uint64{}, Outbox: New(Options{Spool: s, Config: cfg, Clock: d, Boots: times.Boots()})}
	x.Rewind()
	return x, func() {
		t.Helper()
		if err := timing.Stop(time.Minute); err != nil {
			t.Error(err)
		}
		if err := running.Stop(time.Minute); err != nil {
			t.Error(err)
		}
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}
}

// Once the kernel knows the time, what was taken before in this boot is sent with
// its true time, wherever it waited: in memory, on disk, or handed out already.
// What an earlier boot took that never knew keeps its order and says so.
func TestLateClock(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		first := &clocktest.Clock{Boot: "first", Began: time.Now(), Off: -30 * 365 * 24 * time.Hour}
		x, end := boot(t, dir, first)
		x.readings("air", 3)
		end()

		second := &clocktest.Clock{Boot: "second", Began: time.Now(), Off: -30 * 365 * 24 * time.Hour}
		x, end = boot(t, dir, second)
		var taken []time.Time
		for range 3 {
			taken = append(taken, time.Now())
			x.readings("air", 1)
			<-time.After(10 * time.Second)
		}
		end() // the daemon restarts, the machine does not
		x, end = boot(t, dir, second)
		taken = append(taken, time.Now())
		x.readings("air", 1)

		var order []sent
		check := func(when string, known bool) {
			t.Helper()
			got := x.stamped()
			if len(got) != 7 {
				t.Fatalf("%s: %d readings, %+v: %+v", when, len(got), x.Spool.Stats(), got)
			}
			for i, s := range got {
				if want := uint64(i%3 + 1); s.Seq != want || i > 0 && s.Run < got[i-1].Run {
					t.Errorf("%s: reading %d is run %d, number %d", when, i, s.Run, s.Seq)
				}
				if i < 3 || !known {
					if s.Clock != "unsynced" {
						t.Errorf("%s: reading %d says %+v, want it unsynced", when, i, s)
					}
				} else if s.Clock != "" || s.Time.Sub(taken[i-3]).Abs() > time.Millisecond {
					t.Errorf("%s: reading %d says %+v, want %v", when, i, s, taken[i-3])
				}
			}
			order = got
		}
		check("before", false)
		second.Set(0, true)
		<-time.After(time.Hour)
		x.Rewind()
		check("after", true)
		if !slices.IsSortedFunc(order[:3], func(a, b sent) int { return a.Time.Compare(b.Time) }) {
			t.Errorf("the first boot's are out of order: %+v", order[:3])
		}
		end()
	})
}

// What a boot took before it knew the time is sent with it after a reboot too, and
// before the next boot knows it. What was taken when the time was lost again, or
// in a boot that never knew it, says so.
func TestTimesOfEarlierBoots(t *testing.T) {
	const decades = -30 * 365 * 24 * time.Hour
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		first := &clocktest.Clock{Boot: "first", Began: time.Now(), Off: decades}
		x, end := boot(t, dir, first)
		var taken []time.Time
		take := func() {
			taken = append(taken, time.Now())
			x.readings("air", 1)
			<-time.After(20 * time.Second)
		}
		take()
		first.Set(0, true)
		<-time.After(10 * time.Second)
		take()
		first.Set(decades, false)
		take()
		end()
		never := &clocktest.Clock{Boot: "never", Began: time.Now(), Off: decades}
		x, end = boot(t, dir, never)
		take()
		end()

		third := &clocktest.Clock{Boot: "third", Began: time.Now(), Off: decades}
		x, end = boot(t, dir, third)
		for _, when := range []string{"not known", "known"} {
			got := x.stamped()
			if len(got) != 4 {
				t.Fatalf("%s: %+v", when, got)
			}
			for i, s := range got {
				if i < 2 && (s.Clock != "" || s.Time.Sub(taken[i]).Abs() > time.Millisecond) {
					t.Errorf("%s: reading %d says %+v, want %v", when, i, s, taken[i])
				} else if i >= 2 && s.Clock != "unsynced" {
					t.Errorf("%s: reading %d says %+v, want it unsynced", when, i, s)
				}
			}
			third.Set(0, true)
			x.Rewind()
		}
		end()
	})
}

// However the wall clock is set, a batch goes when its first reading has waited
// as long as it may, and not before.
func TestClockStepMovesNoBatch(t *testing.T) {
	for _, step := range []time.Duration{-10 * 365 * 24 * time.Hour, -time.Hour, -time.Second, time.Second, time.Hour, 10 * 365 * 24 * time.Hour} {
		synctest.Test(t, func(t *testing.T) {
			d := &clocktest.Clock{Boot: "b", Began: time.Now(), Synced: true}
			x := newBoxed(t, "t", config.Batch{Max: 10, Within: time.Minute})
			x.Clock = d
			x.Rewind()
			r := message.Record{Kind: message.Reading, Sensor: "air", Seq: 1, Stamp: d.Now()}
			if err := x.Spool.Append(r); err != nil {
				t.Fatal(err)
			}
			began := time.Now()
			<-time.After(20 * time.Second)
			d.Off = step
			x.want("too early")
			if due := x.Due().Sub(began); due != time.Minute {
				t.Errorf("a step by %v: due after %v", step, due)
			}
			<-time.After(40*time.Second - time.Millisecond)
			d.Off = -step
			x.want("still too early")
			<-time.After(time.Millisecond)
			x.want("in time", "air 1")
		})
	}
}
