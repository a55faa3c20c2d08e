package spool

import (
	"testing"
	"testing/synctest"
	"time"

	"fieldpost/daemon/clock"
	"fieldpost/daemon/message"
)

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
		items := r.take(2)
		for _, x := range items {
			r.s.Ack(x.ID)
		}
		want("when two are acknowledged", Backlog{Records: 1, Oldest: 10 * time.Second})
		if err := r.end(); err != nil {
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
		if err := r.end(); err != nil {
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
		if err := r.end(); err != nil {
			t.Fatal(err)
		}
	})
}
