package output

import (
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"fieldpost/daemon/clock"
)

// A timer of an output acts once and on time, however the wall clock is set meanwhile,
// and whether it counts as synchronised or not. `make clock-steps` tests it with the
// system's clock.
func TestClockStepMovesNoTimer(t *testing.T) {
	const year = 365 * 24 * time.Hour
	for _, c := range []struct {
		cause string
		set   func(*Config)
		begin func(*harness)
	}{
		{CauseForEnded, func(*Config) {}, func(n *harness) { n.do("pump", ActionOn, time.Minute) }},
		{CausePulse, func(*Config) {}, func(n *harness) { n.do("pump", ActionPulse, time.Minute) }},
		{CauseMaxOn, func(c *Config) { c.MaxOn = time.Minute }, func(n *harness) { n.do("pump", ActionOn, 0) }},
		{CauseLinkLost, func(c *Config) { c.SafeAfter = time.Minute }, func(n *harness) { n.do("pump", ActionOn, 0); n.bank.Link(false) }},
		{CauseRefresh, func(c *Config) { c.Refresh = time.Minute }, func(n *harness) { n.do("pump", ActionOn, 0) }},
		{"waited", func(c *Config) { c.MinOn = time.Minute }, func(n *harness) {
			n.do("pump", ActionOn, 0)
			n.orderAsync(Order{Output: "pump", Action: ActionOff, Cause: "waited"})
		}},
	} {
		for _, step := range []time.Duration{-30 * year, -time.Hour, -time.Second, time.Second, time.Hour, 30 * year} {
			synctest.Test(t, func(t *testing.T) {
				var off atomic.Int64
				steady := clock.Fake()
				set := clock.Func(func() clock.Stamp {
					s, by := steady.Now(), time.Duration(off.Load())
					s.Wall, s.Synced = s.Wall.Add(by), by == 0
					return s
				})
				out := pump
				c.set(&out)
				s := newBoard()
				n := openWith(t, s, Options{Board: s, Outputs: []Config{out}, Clock: set})
				defer n.run()()
				n.bank.Link(true)
				c.begin(n)
				for i := range 59 {
					off.Store(int64(step) * int64(i%3-1)) // backward, right, forward, each second
					n.after(time.Second)
				}
				n.after(time.Second - 1)
				n.wantWire("GPIO27", On)
				n.after(1)
				n.wantWire("GPIO27", Off)
				off.Store(int64(step))
				n.after(time.Hour)
				n.wantWire("GPIO27", Off)
				n.wantEvents("output=pump state=off cause=" + c.cause)
			})
		}
	}
}
