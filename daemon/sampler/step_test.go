package sampler

import (
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"fieldpost/daemon/clock"
	"fieldpost/sensors"
	"fieldpost/sensors/board"
)

// However the wall clock is set, and whether it is held to be true or not, a
// sensor is read when it is due and tried again when that is due, and once.
// `make clock-steps` shows it of the process's own clock.
func TestClockStepMovesNoReading(t *testing.T) {
	const year = 365 * 24 * time.Hour
	for _, step := range []time.Duration{-30 * year, -time.Hour, -time.Second, time.Second, time.Hour, 30 * year} {
		synctest.Test(t, func(t *testing.T) {
			var off atomic.Int64
			steady := clock.Fake()
			set := clock.Func(func() clock.Stamp {
				s, by := steady.Now(), time.Duration(off.Load())
				s.Wall, s.Synced = s.Wall.Add(by), by == 0
				return s
			})
			failing := func(n int) error {
				if n <= 4 {
					return board.ErrAbsent
				}
				return nil
			}
			r := runWith(t, Options{Board: &fakeBoard{}, Run: 7, Clock: set}, map[string]*fake{"good": {}, "bad": {open: failing}},
				sensors.Config{Name: "air", Chip: "good", Every: 10 * time.Second}, sensors.Config{Name: "soil", Chip: "bad", Every: 10 * time.Second})
			for i := range 45 {
				off.Store(int64(step) * int64(i%3-1)) // back, true, forward, each second
				pass(time.Second)
			}
			got := r.got()
			slices.Sort(got)
			same(t, "records", got, []string{"0s air reading 1", "10s air reading 2", "10s soil reading 2", "20s air reading 3",
				"20s soil reading 3", "2s soil reading 1", "30s air reading 4", "30s soil reading 4", "40s air reading 5", "40s soil reading 5"})
			r.stop()
		})
	}
}
