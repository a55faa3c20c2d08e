package command

import (
	"cmp"
	"maps"
	"slices"
	"time"

	"fieldpost/daemon/clock"
)

// keepFor is how long an id is known after its order has expired. [CMD-11]
const keepFor = 24 * time.Hour

// knownOrder is an order that is remembered.
type knownOrder struct {
	order       Order
	answer      *Answer       // nil while it is under way; the answer itself never changes
	until       time.Duration // on CLOCK_BOOTTIME, which no correction of the time moves
	boot        string        // the boot for which until holds
	expiry      time.Time     // when it may be forgotten by the wall clock; zero while that is not known
	refused     bool
	far         bool         // refused, and it expires further ahead than an id is kept
	saved       bool         // the runtime journal has it as it is
	delivered   bool         // and its answer need not be given any more
	mustDeliver bool         // nobody but this run can give its answer again
	unread      bool         // decided while the ledger could not be read
	write       *queuedWrite // the last of its records; nil where it was read
	place       uint64       // its place in the order of the orders
	size        int64        // bytes that it takes in a journal that is rewritten
}

// timeLeft is how long an order can be in time. Without a true clock or without an
// expiry it is as if it expired as late as it may.
func timeLeft(o Order, now clock.Stamp, maxLife time.Duration) time.Duration {
	if !now.Synced || o.Expires.IsZero() {
		return maxLife
	}
	return min(max(o.Expires.Sub(now.Wall), 0), maxLife)
}

// diskSize is an order's size in a journal that is rewritten.
func (k *knownOrder) diskSize() int64 {
	n := int64(len(k.wholeRecord().encode()))
	if k.answer == nil {
		n += maxResult
	}
	return n
}

// overrules reports whether what the runtime journal says of an order goes before
// what the ledger's journal does. It is later, unless it was decided while nobody
// knew what stands there, or the id came again when the ledger worked.
func (k *knownOrder) overrules(own *knownOrder) bool {
	if own.answer != nil && own.answer.Stamp.Boot == k.answer.Stamp.Boot {
		switch x, y := k.answer.Stamp.Mono, own.answer.Stamp.Mono; {
		case x < y:
			return false
		case x == y && k.answer.Status == own.answer.Status && k.answer.Reason == own.answer.Reason:
			return k.saved // the same: whether it was delivered stands here
		}
	}
	return k.saved && !k.unread
}

// capacity is how much is remembered.
type capacity struct {
	acted        int   // orders carried out
	refused      int   // orders refused
	foreign      int   // orders of earlier boots that are known for longer than the clock says
	actedBytes   int64 // bytes that orders carried out may take in the journal
	refusedBytes int64 // bytes that orders refused may take there
}

// usage is how much of the capacity is used.
type usage struct {
	acted, refused int
	far            int // of the refused, those that expire further ahead than an id is kept
	bytes          int64
	refusedBytes   int64 // of these
}

func (u *usage) add(k *knownOrder, n int) {
	u.bytes += int64(n) * k.size
	if !k.refused {
		u.acted += n
		return
	}
	u.refused += n
	u.refusedBytes += int64(n) * k.size
	if k.far {
		u.far += n
	}
}

// knownOrders is every order that is remembered, by id, and the expiries of those
// that were forgotten. It is in memory only, and knows no disk and no lock: the
// dispatcher's mu guards it.
type knownOrders struct {
	capacity  capacity
	maxLife   time.Duration // [Options].MaxLife
	unstamped bool          // [Options].Unstamped
	energises func(Order) bool

	byID      map[string]*knownOrder
	lastPlace uint64
	used      usage
	forgotten timeRanges // expiries of orders that are not known any more
	nextSweep time.Duration
}

// create makes the order that is to be remembered.
func (s *knownOrders) create(o Order, now clock.Stamp, unread bool) *knownOrder {
	k := &knownOrder{order: o, boot: now.Boot, unread: unread}
	left := timeLeft(o, now, s.maxLife) + keepFor
	k.until = now.Mono + left
	if now.Synced {
		k.expiry = now.Wall.Add(left)
	}
	return k
}

// add remembers an order, in the place of one with the same id.
func (s *knownOrders) add(k *knownOrder) {
	if old, ok := s.byID[k.order.ID]; ok {
		s.remove(old)
	}
	s.lastPlace++
	k.place, k.size = s.lastPlace, k.diskSize()
	s.byID[k.order.ID] = k
	s.used.add(k, 1)
}

func (s *knownOrders) remove(k *knownOrder) {
	delete(s.byID, k.order.ID)
	s.used.add(k, -1)
}

// settle gives an order that was carried out its answer.
func (s *knownOrders) settle(k *knownOrder, a Answer) {
	s.used.add(k, -1)
	k.answer, k.saved, k.delivered = &a, false, false
	k.size = k.diskSize()
	s.used.add(k, 1)
}

// fits reports whether there is room for an order that is carried out.
func (s *knownOrders) fits(k *knownOrder) bool {
	return s.used.acted < s.capacity.acted && s.used.bytes-s.used.refusedBytes+k.diskSize() <= s.capacity.actedBytes
}

// addRefused remembers an order that was refused. Orders that could yet act if they
// were forgotten do not give way to it; known is false where there is no room. Then
// lasts reports whether this one cannot act either if it comes again, and
// ranges whether that is so because its expiry has just been put into the forgotten
// ones. [CMD-20]
func (s *knownOrders) addRefused(o Order, a Answer, unread bool) (k *knownOrder, known, lasts, ranges bool) {
	now := a.Stamp
	k = s.create(o, now, unread)
	if far := o.Expires.Add(keepFor); !k.expiry.IsZero() && far.After(k.expiry) {
		k.expiry = far // too far ahead, or the clock is behind: it may be in time yet
	}
	k.answer, k.refused = &a, true
	k.far = isFar(o, now, s.maxLife)
	if _, intended := s.byID[o.ID]; intended {
		s.add(k)
		return k, true, true, false
	}
	if s.makeRoom(k, now) && !(k.far && s.used.far >= s.capacity.refused/2) {
		s.add(k)
		return k, true, true, false
	}
	lasts = s.isSpent(o, now)
	if ranges = lasts && !o.Expires.IsZero() && !s.forgotten.has(o.Expires); ranges {
		s.forgotten.add(o.Expires, now.Wall)
	}
	return nil, false, lasts, ranges
}

// isFar reports whether an order expires so far ahead that its id would have
// to be known for longer than that of one that was carried out.
func isFar(o Order, now clock.Stamp, maxLife time.Duration) bool {
	return now.Synced && o.Expires.Sub(now.Wall) > maxLife+keepFor
}

// makeRoom has orders refused give way to one more, the oldest first: those
// that would be refused again by their expiry, whatever becomes of the clock.
func (s *knownOrders) makeRoom(k *knownOrder, now clock.Stamp) bool {
	full := func() bool {
		return s.used.refused >= s.capacity.refused || s.used.refusedBytes+k.diskSize() > s.capacity.refusedBytes
	}
	if !full() {
		return true
	}
	var spent []*knownOrder
	for _, x := range s.byID {
		if x.refused && s.isSpent(x.order, now) {
			spent = append(spent, x)
		}
	}
	slices.SortFunc(spent, byPlace)
	spare := s.capacity.refused / 16 // so that not every order has to look for one
	for i, x := range spent {
		if i >= spare && !full() {
			break
		}
		s.forget(x, now)
	}
	return !full()
}

// isSpent reports whether an order that was refused will not act either if its
// expiry is all that is known of it.
func (s *knownOrders) isSpent(o Order, now clock.Stamp) bool {
	switch {
	case !s.energises(o):
		return true
	case o.Expires.IsZero():
		return !s.unstamped
	}
	return s.forgotten.has(o.Expires) || now.Synced && !now.Wall.Before(o.Expires)
}

// forget removes an order that must not act if it comes again: from then on it is
// known by its expiry. Without one it never acts late.
func (s *knownOrders) forget(k *knownOrder, now clock.Stamp) {
	if !k.order.Expires.IsZero() && s.energises(k.order) {
		s.forgotten.add(k.order.Expires, now.Wall)
	}
	s.remove(k)
}

// sweep forgets what has lapsed, once a minute at most. [CMD-11]
func (s *knownOrders) sweep(now clock.Stamp) {
	if now.Mono < s.nextSweep {
		return
	}
	s.nextSweep = now.Mono + time.Minute
	var foreign []*knownOrder
	for _, k := range s.byID {
		if k.write.finished() {
			k.write = nil
		}
		switch {
		case !s.hasLapsed(k, now):
		case k.boot != now.Boot && now.Mono < s.maxLife+keepFor:
			foreign = append(foreign, k)
		default:
			s.forget(k, now)
		}
	}
	slices.SortFunc(foreign, byPlace)
	for _, k := range foreign[:max(0, len(foreign)-s.capacity.foreign)] {
		s.forget(k, now)
	}
}

// hasLapsed reports whether an id need not be known any more: its time by the wall
// clock has come, and in the boot in which it came that much time has passed
// too, so that a clock that jumps makes nobody forget. While the clock is not
// true nothing lapses. For other boots see sweep. [CMD-11]
func (s *knownOrders) hasLapsed(k *knownOrder, now clock.Stamp) bool {
	if !now.Synced {
		return false
	}
	if k.expiry.IsZero() {
		k.expiry = now.Wall.Add(timeLeft(k.order, now, s.maxLife) + keepFor)
	}
	if k.boot == now.Boot && now.Mono < k.until {
		return false
	}
	return k.answer != nil && !now.Wall.Before(k.expiry)
}

// sorted gives copies of all orders, in their order.
func (s *knownOrders) sorted() []knownOrder {
	all := make([]knownOrder, 0, len(s.byID))
	for k := range maps.Values(s.byID) {
		all = append(all, *k)
	}
	slices.SortFunc(all, func(a, b knownOrder) int { return cmp.Compare(a.place, b.place) })
	return all
}

func byPlace(a, b *knownOrder) int { return cmp.Compare(a.place, b.place) }
