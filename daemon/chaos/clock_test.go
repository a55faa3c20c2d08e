//go:build chaos && linux

package chaos

import "time"

// stepClock sets the daemon's wall clock wrong, but still synchronised.
func (c *testbed) stepClock() func() {
	steps := []time.Duration{-10 * 365 * 24 * time.Hour, -time.Hour, -time.Second, time.Second, time.Hour, 20 * 24 * time.Hour}
	return c.dialed(clockDial{off: steps[c.random.IntN(len(steps))], synced: true, boots: c.dial.boots})
}

// unsyncClock sets the wall clock wrong and not synchronised, until the fault ends, or
// for a whole run.
func (c *testbed) unsyncClock() func() {
	return c.dialed(clockDial{off: -10 * 365 * 24 * time.Hour, boots: c.dial.boots})
}

func (c *testbed) dialed(d clockDial) func() {
	c.turn(d)
	return func() { c.turn(clockDial{synced: true, boots: c.dial.boots}) }
}

// switchOff kills the daemon while messages wait, and starts it in another boot, so late
// that they are too old.
func (c *testbed) switchOff() func() {
	if !c.backlogged() {
		c.net.set(down, hold)
		c.proceed(200)
		c.proceed(200)
	}
	c.kill()
	c.checker.switchedOff()
	c.dial.boots++
	c.dial.off = 90 * time.Second
	c.start()
	if c.ongoing["down"] == nil {
		c.net.set(down, pass)
	}
	return func() { c.turn(clockDial{synced: true, boots: c.dial.boots}) }
}

// switchedOff records that the board was switched off during the latest run.
func (b *checker) switchedOff() {
	b.mu.Lock()
	defer b.mu.Unlock()
	if r := b.runs[b.run]; r != nil {
		r.switchedOff = true
	}
}
