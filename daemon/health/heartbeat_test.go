package health

import (
	"testing"
	"time"
)

// Loops that wait for nothing wake up with the one that sets the pace, before what they wait for
// is over, and at once never.
func TestHeartbeatWait(t *testing.T) {
	var all Heartbeats
	first, second := all.Register("first"), all.Register("second")
	grid := time.Now()
	if d := second.Wait(grid, time.Second); d != time.Second {
		t.Errorf("without a pace: %v", d)
	}
	first.Pace(grid)
	for _, c := range []struct{ after, most, want time.Duration }{
		{0, time.Second, time.Second},
		{1, time.Second, time.Second - 1},
		{300 * time.Millisecond, time.Second, 700 * time.Millisecond},
		{300 * time.Millisecond, 2 * time.Second, 1700 * time.Millisecond},
		{1300 * time.Millisecond, 2 * time.Second, 700 * time.Millisecond},
		{300 * time.Millisecond, 10 * time.Second, 9700 * time.Millisecond},
		{1300 * time.Millisecond, 10 * time.Second, 8700 * time.Millisecond},
		{300 * time.Millisecond, 50 * time.Millisecond, 50 * time.Millisecond},
		{5*time.Second - 1, time.Second, 1},
		{5 * time.Second, 2 * time.Second, time.Second},
		{6 * time.Second, 2 * time.Second, 2 * time.Second},
		{time.Hour + time.Millisecond, time.Second, 999 * time.Millisecond},
		{-time.Second, time.Second, time.Second}, // a pace that begins later
	} {
		if got := second.Wait(grid.Add(c.after), c.most); got != c.want {
			t.Errorf("%v after it began, at most %v: %v, want %v", c.after, c.most, got, c.want)
		}
	}
	var none *Heartbeat
	none.Pace(grid)
	if d := none.Wait(grid.Add(time.Millisecond), time.Second); d != time.Second {
		t.Errorf("no heartbeat: %v", d)
	}
}
