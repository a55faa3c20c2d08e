package spool

import (
	"testing"
	"testing/synctest"
	"time"

	"fieldpost/daemon/clock"
	"fieldpost/daemon/message"
)

// However the wall clock is set, and whether it is held to be true or not, what
// is at risk is synced in time and not before, and what this boot took is
// dropped when it is too old and not before. `make clock-steps` shows it of the
// process's own clock.
func TestClockStepMovesNoAge(t *testing.T) {
	const year = 365 * 24 * time.Hour
	for _, step := range []time.Duration{-30 * year, -time.Hour, -time.Second, time.Second, time.Hour, 30 * year} {
		synctest.Test(t, func(t *testing.T) {
			fake, began := clock.Fake(), time.Now()
			set := clock.Func(func() clock.Stamp { // back, true, forward, for 7 s each
				s, by := fake.Now(), step*time.Duration(int(time.Since(began)/(7*time.Second))%3-1)
				s.Wall, s.Synced = s.Wall.Add(by), by == 0
				return s
			})
			r := newRig(t, newMemDisk(), Options{AtRisk: 10 * time.Second, MaxAge: time.Hour, Clock: set}).start()
			r.add(message.Reading, "air")
			wait(12 * time.Second) // the first sync makes the file's name durable too
			syncs := r.d.SyncCount()
			r.add(message.Reading, "air")
			wait(9*time.Second - 1)
			if n := r.d.SyncCount() - syncs; n != 0 {
				t.Errorf("step %v: %d syncs before the time", step, n)
			}
			wait(time.Second + 1)
			if n := r.d.SyncCount() - syncs; n != 1 {
				t.Errorf("step %v: %d syncs when a record is at risk no longer, want 1", step, n)
			}
			wait(time.Hour - 15*time.Second)
			if st := r.s.Stats(); st.Dropped != 0 || st.Samples.Pending != 2 {
				t.Errorf("step %v: before they are too old: %+v", step, st)
			}
			wait(2 * time.Minute)
			if st := r.s.Stats(); st.Dropped != 2 || st.Samples.Pending != 0 {
				t.Errorf("step %v: when they are too old: %+v", step, st)
			}
			wait(2 * time.Hour)
			r.s.Rewind()
			r.want(r.take(all), "gap air 1 after_seq=0 to_seq=2 reason=too_old")
			if err := r.end(); err != nil {
				t.Error(err)
			}
		})
	}
}
