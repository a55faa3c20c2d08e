package command

import (
	"cmp"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"time"

	"fieldpost/daemon/clock"
	"fieldpost/daemon/health"
	"fieldpost/daemon/journal"
)

// MaxActed is how many orders that were carried out are remembered.
const MaxActed = 16384

// The bounds of what is remembered. A full ledger takes some 10 MB of memory.
const (
	maxActed   = MaxActed // orders carried out
	maxRefused = 4096     // orders refused; those that cannot act any more give way
	maxLive    = 8 << 20  // bytes that orders carried out may take in the journal
	maxNo      = 2 << 20  // bytes that orders refused may take there
	maxForeign = 256      // orders of earlier boots that are known for longer than the clock says
	maxQueue   = 1024     // entries on their way to the disk
	maxResult  = 512      // bytes set aside for the result of an order
)

// subject is what the ledger's faults are about.
const subject = "orders"

// Reasons why an order cannot be remembered.
var (
	errFull    = errors.New("no room for another order")
	errUnread  = errors.New("the ledger of orders could not be read")
	errUnsound = errors.New("the ledger of orders could not be written")
	errHung    = errors.New("the disk does not answer")
	errOver    = errors.New("the daemon is stopping")
)

// ledger is what the dispatcher knows of the orders it was given, by id. Its index is
// in memory; the journal holds the same, in the order in which it was decided.
// The index is guarded by the dispatcher's mu; one goroutine, which does not hold mu
// meanwhile, reads and writes the journal: see [ledger.pass].
type ledger struct {
	journal *journal.Journal // nil is none: what is in memory is all there is
	clock   clock.Clock
	health  *health.Health
	log     *slog.Logger
	answer  Answerer // answers an order of a run before
	life    time.Duration
	room    room
	wake    chan struct{} // buffered, one: there is something to be written
	// energises reports whether an order energises, or might if its output were
	// there.
	energises func(Order) bool
	unstamped bool // [Options].Unstamped
	fallback  runtimeJournal

	mu         *sync.Mutex
	acts       int // entries of orders carried out
	refused    int
	far        int // of those, that expire further ahead than an id is kept
	known      map[string]*knownOrder
	count      uint64     // of entries ever put in, for their order
	live       int64      // bytes of what the journal need hold
	no         int64      // of those, of orders refused
	forgot     timeRanges // expiries of orders that are not known any more
	queue      []*queuedWrite
	read       bool // the journal has been read
	sound      bool // the journal, with what is in the queue, holds what the index does
	missed     bool // something was not put into the queue since the index was last copied
	hung       bool // the disk does not answer
	over       bool // nobody writes the journal any more
	sweep      time.Duration
	delivering []delivery // answers to orders of a run before, on their way
}

// delivery is an answer that is noted in the fallback journal until it has
// arrived.
type delivery struct {
	id   string
	kept <-chan struct{}
}

// room is how much a ledger holds.
type room struct {
	acted, refused, foreign int
	bytes, no               int64
}

func newLedger(o Options, mu *sync.Mutex) *ledger {
	l := &ledger{
		clock: o.Clock, health: o.Health, log: o.Log, life: o.MaxLife, room: room{maxActed, maxRefused, maxForeign, maxLive, maxNo},
		answer: o.Answer, known: map[string]*knownOrder{}, wake: make(chan struct{}, 1), mu: mu,
	}
	l.read, l.sound = o.Journal == nil, o.Journal == nil
	if o.Journal != nil {
		l.journal = journal.New(o.Journal)
		if o.RuntimeJournal != nil {
			l.fallback.journal = journal.New(o.RuntimeJournal)
		}
	}
	l.unstamped = o.Unstamped
	l.energises = func(order Order) bool {
		energises, exists := o.Outputs.Energises(order.Output, order.Action)
		return energises || !exists
	}
	return l
}

// first gives the order first sent under the id and its answer, which is nil
// for an intent without a result, and what to wait for until that is on disk; ok
// is false where the id is unknown.
func (l *ledger) first(id string) (o Order, a *Answer, note *queuedWrite, ok bool) {
	k, ok := l.known[id]
	if !ok {
		return Order{}, nil, nil, false
	}
	return k.order, k.answer, k.write, true
}

// broken says why nothing can be remembered for now, without asking the disk.
func (l *ledger) broken() error {
	if l.hung {
		return errHung
	}
	return nil
}

// usable says why nothing can be remembered as things are, and has that tried
// again.
func (l *ledger) usable() error {
	switch {
	case l.hung:
		return errHung
	case l.read && l.sound:
		return nil
	}
	l.poke()
	if !l.read {
		return errUnread
	}
	return errUnsound
}

// intend notes, before the act, that the order is about to be carried out. It
// may act once the entry is on disk. The error wraps errFull when there is no
// room.
func (l *ledger) intend(o Order, now clock.Stamp) (*queuedWrite, error) {
	if !l.read {
		return nil, errUnread
	}
	k := l.made(o, now)
	if !l.fits(k) {
		return nil, errFull
	}
	l.put(k)
	return l.note(k.intentRecord()), nil
}

// settle notes the result of an order that was intended.
func (l *ledger) settle(id string, a Answer) *queuedWrite {
	k, ok := l.known[id]
	if !ok {
		l.log.Error("order cannot be remembered", "id", id, "err", "not intended")
		return nil
	}
	l.live -= k.size
	k.answer, k.saved, k.delivered = &a, false, false
	k.size = k.diskSize()
	l.live += k.size
	k.write = l.note(resultRecord(a))
	return k.write
}

// acted notes an order to the safe level that was carried out, if there is room.
func (l *ledger) acted(o Order, a Answer) *queuedWrite {
	k := l.made(o, a.Stamp)
	k.answer = &a
	if !l.fits(k) {
		return nil
	}
	l.put(k)
	k.write = l.note(k.wholeRecord())
	return k.write
}

// fits reports whether there is room for an order that is carried out.
func (l *ledger) fits(k *knownOrder) bool {
	return l.acts < l.room.acted && l.live-l.no+k.diskSize() <= l.room.bytes
}

// refuse notes an order that was refused. Orders that could yet act if they were
// forgotten do not give way to it: lasts is false where there is no room, and
// this one could act if it came again. [CMD-20]
func (l *ledger) refuse(o Order, a Answer) (w *queuedWrite, lasts bool) {
	now := a.Stamp
	k := l.made(o, now)
	if far := o.Expires.Add(keepFor); !k.expiry.IsZero() && far.After(k.expiry) {
		k.expiry = far // too far ahead, or the clock is behind: it may be in time yet
	}
	k.answer, k.refused = &a, true
	k.far = isFar(o, now, l.life)
	old, intended := l.known[o.ID]
	if !intended && (!l.makeRoom(k, now) || k.far && l.far >= l.room.refused/2) {
		lasts = l.spent(o, now)
		if lasts && !o.Expires.IsZero() && !l.forgot.has(o.Expires) {
			l.forgot.add(o.Expires, now.Wall)
			return l.note(forgottenRecord(l.forgot)), true
		}
		return nil, lasts
	}
	if intended {
		l.drop(old)
	}
	l.put(k)
	k.write = l.note(k.wholeRecord())
	return k.write, true
}

// isFar reports whether an order expires so far ahead that its id would have
// to be known for longer than that of one that was carried out.
func isFar(o Order, now clock.Stamp, life time.Duration) bool {
	return now.Synced && o.Expires.Sub(now.Wall) > life+keepFor
}

// makeRoom has orders refused give way to one more, the oldest first: those
// that would be refused again by their expiry, whatever becomes of the clock.
func (l *ledger) makeRoom(k *knownOrder, now clock.Stamp) bool {
	full := func(n int, bytes int64) bool { return n >= l.room.refused || bytes+k.diskSize() > l.room.no }
	if !full(l.refused, l.no) {
		return true
	}
	var spent []*knownOrder
	for _, x := range l.known {
		if x.refused && l.spent(x.order, now) {
			spent = append(spent, x)
		}
	}
	slices.SortFunc(spent, func(a, b *knownOrder) int { return cmp.Compare(a.place, b.place) })
	spare := l.room.refused / 16 // so that not every order has to look for one
	for i, x := range spent {
		if i >= spare && !full(l.refused, l.no) {
			break
		}
		l.lose(x, now)
	}
	return !full(l.refused, l.no)
}

// spent reports whether an order that was refused will not act either if its
// expiry is all that is known of it.
func (l *ledger) spent(o Order, now clock.Stamp) bool {
	switch {
	case !l.energises(o):
		return true
	case o.Expires.IsZero():
		return !l.unstamped
	}
	return l.forgot.has(o.Expires) || now.Synced && !now.Wall.Before(o.Expires)
}

// lose drops an entry whose order must not act if it comes again: it is told by
// its expiry from then on. Without one it never acts late.
func (l *ledger) lose(k *knownOrder, now clock.Stamp) {
	if !k.order.Expires.IsZero() && l.energises(k.order) {
		l.forgot.add(k.order.Expires, now.Wall)
	}
	l.drop(k)
}

func (l *ledger) put(k *knownOrder) {
	if old, ok := l.known[k.order.ID]; ok {
		l.drop(old)
	}
	l.count++
	k.place, k.size = l.count, k.diskSize()
	l.known[k.order.ID] = k
	l.live += k.size
	if k.refused {
		l.refused++
		l.no += k.size
		if k.far {
			l.far++
		}
	} else {
		l.acts++
	}
}

func (l *ledger) drop(k *knownOrder) {
	delete(l.known, k.order.ID)
	l.live -= k.size
	if k.refused {
		l.refused--
		l.no -= k.size
		if k.far {
			l.far--
		}
	} else {
		l.acts--
	}
}

// forget lets go of what has lapsed, once a minute at most. [CMD-11]
func (l *ledger) forget(now clock.Stamp) {
	if now.Mono < l.sweep {
		return
	}
	l.sweep = now.Mono + time.Minute
	var foreign []*knownOrder
	for _, k := range l.known {
		if k.write.finished() {
			k.write = nil
		}
		switch {
		case !l.lapsed(k, now):
		case k.boot != now.Boot && now.Mono < l.life+keepFor:
			foreign = append(foreign, k)
		default:
			l.lose(k, now)
		}
	}
	slices.SortFunc(foreign, func(a, b *knownOrder) int { return cmp.Compare(a.place, b.place) })
	for _, k := range foreign[:max(0, len(foreign)-l.room.foreign)] {
		l.lose(k, now)
	}
}

// inOrder gives copies of all entries, in their order.
func (l *ledger) inOrder() []knownOrder {
	all := make([]knownOrder, 0, len(l.known))
	for k := range maps.Values(l.known) {
		all = append(all, *k)
	}
	slices.SortFunc(all, func(a, b knownOrder) int { return cmp.Compare(a.place, b.place) })
	return all
}

// wrap names the ledger in an error of its journal.
func wrap(verb string, err error) error { return fmt.Errorf("%s ledger of orders: %w", verb, err) }
