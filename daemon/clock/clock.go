// Package clock says when something happened and how far that can be trusted.
//
// A board without a battery clock starts in the past. What is always true on
// it is the time since boot; the wall clock is true once the kernel says that
// it is synchronised (adjtimex(2), STA_UNSYNC and TIME_ERROR). So every message
// carries both, in a [Stamp].
//
// One moment at which both are known tells the wall time of all that came before
// it in the same boot: [Fill] finds it. [Boots] remembers such a moment of each
// boot, for what is sent after the next.
package clock

import "time"

// Stamp is a moment as this machine knew it.
type Stamp struct {
	Boot   string        // the kernel's boot id, /proc/sys/kernel/random/boot_id
	Mono   time.Duration // CLOCK_BOOTTIME, the time since that boot
	Wall   time.Time     // the wall clock, UTC, true or not
	Synced bool          // whether the kernel held the wall clock to be true
}

// Clock gives the present moment. It may be called from any goroutine.
type Clock interface {
	Now() Stamp
}

// Func makes a Clock of a function, for tests.
type Func func() Stamp

// Now calls the function.
func (f Func) Now() Stamp { return f() }

// Fake is a Clock that reads package time only, so that testing/synctest moves
// it; it is always synchronised and its boot is "test".
func Fake() Clock {
	start := time.Now()
	return Func(func() Stamp {
		now := time.Now()
		return Stamp{Boot: "test", Mono: now.Sub(start), Wall: now.UTC(), Synced: true}
	})
}

// Trusted is c held to be synchronised, whatever the kernel says: for the
// demo, whose sender of orders reads the same clock.
func Trusted(c Clock) Clock {
	return Func(func() Stamp {
		s := c.Now()
		s.Synced = true
		return s
	})
}
