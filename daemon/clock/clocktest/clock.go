// Package clocktest has a clock for tests that is set by hand.
package clocktest

import (
	"sync"
	"time"

	"fieldpost/daemon/clock"
)

// Clock is a clock of which a test sets the wall time and whether that is known to
// be true; the rest is package time's, so that testing/synctest moves it. Its
// fields are set before it is used; its methods may be called from any goroutine.
type Clock struct {
	Boot   string
	Began  time.Time     // when the boot began
	Off    time.Duration // how wrong the wall clock is at first
	Synced bool          // whether it is held to be true at first

	mu sync.Mutex
}

// Set sets by how much the wall clock is wrong, and whether it is held to be true.
func (c *Clock) Set(off time.Duration, synced bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.Off, c.Synced = off, synced
}

// Now implements [clock.Clock].
func (c *Clock) Now() clock.Stamp {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := time.Now()
	return clock.Stamp{Boot: c.Boot, Mono: now.Sub(c.Began), Wall: now.Add(c.Off).UTC(), Synced: c.Synced}
}
