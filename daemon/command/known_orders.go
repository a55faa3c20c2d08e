package command

import (
	"time"

	"fieldpost/daemon/clock"
)

// keepFor is how long an id is known after its order has expired. [CMD-11]
const keepFor = 24 * time.Hour

// entry is an order that is remembered.
type knownOrder struct {
	order       Order
	answer      *Answer       // nil while it is under way; never changed
	until       time.Duration // on CLOCK_BOOTTIME, which no correction of the time moves
	boot        string        // the boot for which until holds
	expiry      time.Time     // when it may be forgotten by the wall clock; zero while that is not known
	refused     bool
	far         bool         // refused, and it expires further ahead than an id is kept
	saved       bool         // the fallback journal has it as it is
	delivered   bool         // and nobody need be given its answer any more
	mustDeliver bool         // its answer may be one that only we can give again
	unread      bool         // decided while the ledger could not be read
	write       *queuedWrite // the last that was to be written of it; nil where it was read
	place       uint64       // in the order of the entries
	size        int64        // bytes it takes in a journal that was written anew
}

// made is the entry of an order that is new.
func (l *ledger) made(o Order, now clock.Stamp) *knownOrder {
	k := &knownOrder{order: o, boot: now.Boot, unread: !l.read}
	k.until = now.Mono + left(o, now, l.life) + keepFor
	if now.Synced {
		k.expiry = now.Wall.Add(left(o, now, l.life) + keepFor)
	}
	return k
}

// left is how long an order can be in time. Without a true clock or without an
// expiry it is as if it expired as late as it may.
func left(o Order, now clock.Stamp, life time.Duration) time.Duration {
	if !now.Synced || o.Expires.IsZero() {
		return life
	}
	return min(max(o.Expires.Sub(now.Wall), 0), life)
}

// weight is an entry's size in a journal that is written anew.
func (k *knownOrder) diskSize() int64 {
	n := int64(len(k.wholeRecord().encode()))
	if k.answer == nil {
		n += maxResult
	}
	return n
}

// lapsed reports whether an id need not be known any more: its time by the wall
// clock has come, and in the boot in which it came that much time has passed
// too, so that a clock that jumps makes nobody forget. While the clock is not
// true nothing lapses. In other boots see [ledger.forget]. [CMD-11]
func (l *ledger) lapsed(k *knownOrder, now clock.Stamp) bool {
	if !now.Synced {
		return false
	}
	if k.expiry.IsZero() {
		k.expiry = now.Wall.Add(left(k.order, now, l.life) + keepFor)
	}
	if k.boot == now.Boot && now.Mono < k.until {
		return false
	}
	return k.answer != nil && !now.Wall.Before(k.expiry)
}
