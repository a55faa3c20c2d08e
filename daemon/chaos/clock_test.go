//go:build chaos && linux

package chaos

import "time"

// stepClock puts the daemon's wall clock wrong, for all that it knows rightly.
func (c *testbed) stepClock() func() {
	steps := []time.Duration{-10 * 365 * 24 * time.Hour, -time.Hour, -time.Second, time.Second, time.Hour, 20 * 24 * time.Hour}
	return c.dialed(clockDial{off: steps[c.random.IntN(len(steps))], synced: true, boots: c.dial.boots})
}

// unsyncClock has the kernel say that the wall clock is not true, as it is not:
// until it is healed, or for all of a run.
func (c *testbed) unsyncClock() func() {
	return c.dialed(clockDial{off: -10 * 365 * 24 * time.Hour, boots: c.dial.boots})
}

func (c *testbed) dialed(d clockDial) func() {
	c.turn(d)
	return func() { c.turn(clockDial{synced: true, boots: c.dial.boots}) }
}

// switchOff kills the daemon when something waits to be sent, and starts it in
// another boot, so late that this is too old.
func (c *testbed) switchOff() func() {
	if !c.backlogged() {
		c.net.set(down, hold)
		c.proceed(200)
		c.proceed(200)
	}
	c.kill()
	c.books.switchedOff()
	c.dial.boots++
	c.dial.off = 90 * time.Second
	c.start()
	if c.ongoing["down"] == nil {
		c.net.set(down, pass)
	}
	return func() { c.turn(clockDial{synced: true, boots: c.dial.boots}) }
}

// switchedOff notes that the board was switched off during the latest run.
func (b *books) switchedOff() {
	b.mu.Lock()
	defer b.mu.Unlock()
	if r := b.runs[b.run]; r != nil {
		r.switchedOff = true
	}
}
