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

// knownOrder is an order in the ledger.
type knownOrder struct {
	order       Order
	answer      *Answer       // nil while it is pending; the answer never changes
	until       time.Duration // when it may be forgotten, on CLOCK_BOOTTIME
	boot        string        // the boot of until
	expiry      time.Time     // when it may be forgotten, on the wall clock; zero if not known
	refused     bool
	far         bool         // refused, and expires further ahead than an id is kept
	saved       bool         // the runtime journal has it in this state
	delivered   bool         // its answer need not be given any more
	mustDeliver bool         // only this run can give its answer again
	unread      bool         // decided while the ledger could not be read
	write       *queuedWrite // the last of its records; nil if it was read
	place       uint64       // its position among the orders
	size        int64        // its bytes in a rewritten journal
}

// timeLeft returns the time until an order expires. Without a synchronised clock or
// without an expiry it is maxLife.
func timeLeft(o Order, now clock.Stamp, maxLife time.Duration) time.Duration {
	if !now.Synced || o.Expires.IsZero() {
		return maxLife
	}
	return min(max(o.Expires.Sub(now.Wall), 0), maxLife)
}

// diskSize returns an order's size in a rewritten journal.
func (k *knownOrder) diskSize() int64 {
	n := int64(len(k.wholeRecord().encode()))
	if k.answer == nil {
		n += maxResult
	}
	return n
}

// overrules reports whether k, from the runtime journal, replaces own, from the ledger's
// journal. It is newer, unless it was decided while the ledger could not be read, or the
// id came again when the ledger worked.
func (k *knownOrder) overrules(own *knownOrder) bool {
	if own.answer != nil && own.answer.Stamp.Boot == k.answer.Stamp.Boot {
		switch x, y := k.answer.Stamp.Mono, own.answer.Stamp.Mono; {
		case x < y:
			return false
		case x == y && k.answer.Status == own.answer.Status && k.answer.Reason == own.answer.Reason:
			return k.saved // the same answer: the runtime journal knows whether it was delivered
		}
	}
	return k.saved && !k.unread
}

// capacity limits the recorded orders.
type capacity struct {
	acted        int   // orders carried out
	refused      int   // orders refused
	foreign      int   // orders of earlier boots that are kept longer than the clock says
	actedBytes   int64 // bytes that orders carried out may take in the journal
	refusedBytes int64 // bytes that orders refused may take there
}

// usage is the used part of the capacity.
type usage struct {
	acted, refused int
	far            int // refused ones that expire further ahead than an id is kept
	bytes          int64
	refusedBytes   int64 // bytes of the refused ones
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

// knownOrders holds all recorded orders by id, and the expiries of forgotten ones. It is
// in memory only. The dispatcher's mu guards it.
type knownOrders struct {
	capacity  capacity
	maxLife   time.Duration // [Options].MaxLife
	unstamped bool          // [Options].Unstamped
	energises func(Order) bool

	byID      map[string]*knownOrder
	lastPlace uint64
	used      usage
	forgotten timeRanges // expiries of forgotten orders
	nextSweep time.Duration
}

// create makes the record of an order.
func (s *knownOrders) create(o Order, now clock.Stamp, unread bool) *knownOrder {
	k := &knownOrder{order: o, boot: now.Boot, unread: unread}
	left := timeLeft(o, now, s.maxLife) + keepFor
	k.until = now.Mono + left
	if now.Synced {
		k.expiry = now.Wall.Add(left)
	}
	return k
}

// add adds an order, and replaces one with the same id.
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

// settle sets the answer of an order that was carried out.
func (s *knownOrders) settle(k *knownOrder, a Answer) {
	s.used.add(k, -1)
	k.answer, k.saved, k.delivered = &a, false, false
	k.size = k.diskSize()
	s.used.add(k, 1)
}

// fits reports whether there is room for an order to carry out.
func (s *knownOrders) fits(k *knownOrder) bool {
	return s.used.acted < s.capacity.acted && s.used.bytes-s.used.refusedBytes+k.diskSize() <= s.capacity.actedBytes
}

// addRefused adds a refused order. It may evict only orders that can never act. known is
// false if there is no room. Then lasts reports whether this order cannot act if it is
// repeated, and ranges whether that is because its expiry was just added to the forgotten
// ones. [CMD-20]
func (s *knownOrders) addRefused(o Order, a Answer, unread bool) (k *knownOrder, known, lasts, ranges bool) {
	now := a.Stamp
	k = s.create(o, now, unread)
	if far := o.Expires.Add(keepFor); !k.expiry.IsZero() && far.After(k.expiry) {
		k.expiry = far // too far ahead, or the clock is behind: it may be in time later
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

// isFar reports whether an order expires so far ahead that its id would have to be kept
// for longer than that of an order that was carried out.
func isFar(o Order, now clock.Stamp, maxLife time.Duration) bool {
	return now.Synced && o.Expires.Sub(now.Wall) > maxLife+keepFor
}

// makeRoom evicts refused orders, oldest first, to make room for one more. It evicts only
// those that would be refused again because of their expiry, whatever the clock does.
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
	spare := s.capacity.refused / 16 // evict some more, so that not every order has to
	for i, x := range spent {
		if i >= spare && !full() {
			break
		}
		s.forget(x, now)
	}
	return !full()
}

// isSpent reports whether a refused order cannot act if only its expiry is known.
func (s *knownOrders) isSpent(o Order, now clock.Stamp) bool {
	switch {
	case !s.energises(o):
		return true
	case o.Expires.IsZero():
		return !s.unstamped
	}
	return s.forgotten.has(o.Expires) || now.Synced && !now.Wall.Before(o.Expires)
}

// forget removes an order that must not act if it is repeated. It adds its expiry to the
// forgotten ones. An order without an expiry never acts late.
func (s *knownOrders) forget(k *knownOrder, now clock.Stamp) {
	if !k.order.Expires.IsZero() && s.energises(k.order) {
		s.forgotten.add(k.order.Expires, now.Wall)
	}
	s.remove(k)
}

// dropLapsed removes orders that have lapsed, at most once a minute. [CMD-11]
func (s *knownOrders) dropLapsed(now clock.Stamp) {
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

// hasLapsed reports whether an id may be forgotten. Its time has passed on the wall clock
// and, in the boot in which it came, also on CLOCK_BOOTTIME, so that a clock that jumps
// forgets nothing. Nothing lapses while the clock is not synchronised. For other boots
// see dropLapsed. [CMD-11]
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

// sorted returns copies of all orders, in their order.
func (s *knownOrders) sorted() []knownOrder {
	all := make([]knownOrder, 0, len(s.byID))
	for k := range maps.Values(s.byID) {
		all = append(all, *k)
	}
	slices.SortFunc(all, func(a, b knownOrder) int { return cmp.Compare(a.place, b.place) })
	return all
}

func byPlace(a, b *knownOrder) int { return cmp.Compare(a.place, b.place) }
