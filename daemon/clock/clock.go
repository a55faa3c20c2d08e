// Package clock says when something happened and whether that time can be trusted.
//
// A board without a battery-backed clock starts in the past. The time since boot is always
// true. The wall clock is true once the kernel says that it is synchronised (adjtimex(2),
// STA_UNSYNC and TIME_ERROR). So every record has both, in a [Stamp].
//
// One moment at which both are known gives the wall time of everything earlier in the same
// boot: [Fill] calculates it. [Boots] stores such a moment for each boot, for records that
// are sent after a reboot.
package clock

import "time"

// Stamp is a moment, as this machine knew it.
type Stamp struct {
	Boot   string        // the kernel's boot id, /proc/sys/kernel/random/boot_id
	Mono   time.Duration // CLOCK_BOOTTIME, the time since that boot
	Wall   time.Time     // the wall clock, in UTC, true or not
	Synced bool          // whether the wall clock was synchronised
}

// Clock returns the present moment. Any goroutine may call it.
type Clock interface {
	Now() Stamp
}

// Func makes a Clock of a function, for tests.
type Func func() Stamp

// Now calls the function.
func (f Func) Now() Stamp { return f() }

// Fake returns a Clock that uses only package time, so that testing/synctest controls it. It
// is always synchronised, and its boot is "test".
func Fake() Clock {
	start := time.Now()
	return Func(func() Stamp {
		now := time.Now()
		return Stamp{Boot: "test", Mono: now.Sub(start), Wall: now.UTC(), Synced: true}
	})
}

// Trusted returns a Clock like c that is always synchronised. It is for the demo, in which
// the sender of orders uses the same clock.
func Trusted(c Clock) Clock {
	return Func(func() Stamp {
		s := c.Now()
		s.Synced = true
		return s
	})
}
