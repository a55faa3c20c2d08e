package command

import (
	"cmp"
	"errors"
	"fmt"
	"iter"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"time"

	"fieldpost/daemon/clock"
	"fieldpost/daemon/health"
	"fieldpost/daemon/spool"
)

// Journal is where a desk keeps what it must not forget, a [spool.Journal].
type Journal interface {
	Replay(take func(payload []byte)) (spool.Damage, error)
	Append(payloads ...[]byte) error
	Rewrite(payloads iter.Seq[[]byte]) error
	Size() int64
}

// The bounds of what is remembered. A full ledger takes some 8 MB of memory.
const (
	maxActed   = 16384   // orders carried out
	maxRefused = 1024    // orders refused; the oldest give way
	maxLive    = 8 << 20 // bytes of what the journal need hold
	maxQueue   = 1024    // entries on their way to the disk
	maxResult  = 512     // bytes set aside for the result of an order
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

// ledger is what the desk knows of the orders it was given, by id. Its index is
// in memory; the journal holds the same, in the order in which it was decided.
// The index is guarded by the desk's mu; one goroutine, which does not hold mu
// meanwhile, reads and writes the journal: see [ledger.pass].
type ledger struct {
	journal Journal // nil is none: what is in memory is all there is
	clock   clock.Clock
	health  *health.Health
	log     *slog.Logger
	answer  func(Answer) // answers an order of a run before
	life    time.Duration
	room    room
	wake    chan struct{} // buffered, one: there is something to be written

	mu      *sync.Mutex
	acts    int // entries of orders carried out
	refused int
	known   map[string]*entry
	count   uint64 // of entries ever put in, for their order
	live    int64  // bytes of what the journal need hold
	queue   []*pending
	read    bool // the journal has been read
	sound   bool // the journal, with what is in the queue, holds what the index does
	missed  bool // something was not put into the queue since the index was last copied
	hung    bool // the disk does not answer
	over    bool // nobody writes the journal any more
	sweep   time.Duration
}

// room is how much a ledger holds.
type room struct {
	acted, refused int
	bytes          int64
}

func newLedger(o Options, mu *sync.Mutex) *ledger {
	l := &ledger{
		journal: o.Journal, clock: o.Clock, health: o.Health, log: o.Log, life: o.MaxLife, room: room{maxActed, maxRefused, maxLive},
		answer: func(a Answer) { o.Answer(a.Record()) }, known: map[string]*entry{}, wake: make(chan struct{}, 1), mu: mu,
	}
	l.read, l.sound = l.journal == nil, l.journal == nil
	return l
}

// first gives the order first sent under the id and its answer, which is nil
// for an intent without a result, and what to wait for until that is on disk; ok
// is false where the id is unknown.
func (l *ledger) first(id string) (o Order, a *Answer, note *pending, ok bool) {
	e, ok := l.known[id]
	if !ok {
		return Order{}, nil, nil, false
	}
	return e.order, e.answer, e.note, true
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
func (l *ledger) intend(o Order, now clock.Stamp) (*pending, error) {
	if !l.read {
		return nil, errUnread
	}
	e := l.made(o, now)
	if l.acts >= l.room.acted || l.live+e.weight() > l.room.bytes {
		return nil, errFull
	}
	l.put(e)
	return l.note(e.intent()), nil
}

// settle notes the result of an order that was intended.
func (l *ledger) settle(id string, a Answer) *pending {
	e, ok := l.known[id]
	if !ok {
		l.log.Error("order cannot be remembered", "id", id, "err", "not intended")
		return nil
	}
	l.live -= e.size
	e.answer = &a
	e.size = e.weight()
	l.live += e.size
	e.note = l.note(result(a))
	return e.note
}

// acted notes an order to the safe level that was carried out, if there is room.
func (l *ledger) acted(o Order, a Answer) *pending {
	e := l.made(o, a.Stamp)
	e.answer = &a
	if l.acts >= l.room.acted || l.live+e.weight() > l.room.bytes {
		return nil
	}
	l.put(e)
	e.note = l.note(e.whole())
	return e.note
}

// refuse notes an order that was refused.
func (l *ledger) refuse(o Order, a Answer) *pending {
	if old, ok := l.known[o.ID]; ok {
		l.drop(old) // it was intended
	}
	for l.refused >= l.room.refused {
		l.drop(l.oldestRefused())
	}
	e := l.made(o, a.Stamp)
	if far := o.Expires.Add(keepFor); !e.expiry.IsZero() && far.After(e.expiry) {
		e.expiry = far // too far ahead, or the clock is behind: it may be in time yet
	}
	e.answer, e.refused = &a, true
	l.put(e)
	e.note = l.note(e.whole())
	return e.note
}

func (l *ledger) oldestRefused() *entry {
	var oldest *entry
	for _, e := range l.known {
		if e.refused && (oldest == nil || e.place < oldest.place) {
			oldest = e
		}
	}
	return oldest
}

func (l *ledger) put(e *entry) {
	if old, ok := l.known[e.order.ID]; ok {
		l.drop(old)
	}
	l.count++
	e.place, e.size = l.count, e.weight()
	l.known[e.order.ID] = e
	l.live += e.size
	if e.refused {
		l.refused++
	} else {
		l.acts++
	}
}

func (l *ledger) drop(e *entry) {
	delete(l.known, e.order.ID)
	l.live -= e.size
	if e.refused {
		l.refused--
	} else {
		l.acts--
	}
}

// forget lets go of what has lapsed, once a minute at most.
func (l *ledger) forget(now clock.Stamp) {
	if now.Mono < l.sweep {
		return
	}
	l.sweep = now.Mono + time.Minute
	for _, e := range l.known {
		if e.note.ended() {
			e.note = nil
		}
		if l.lapsed(e, now) {
			l.drop(e)
		}
	}
}

// inOrder gives copies of all entries, in their order.
func (l *ledger) inOrder() []entry {
	all := make([]entry, 0, len(l.known))
	for e := range maps.Values(l.known) {
		all = append(all, *e)
	}
	slices.SortFunc(all, func(a, b entry) int { return cmp.Compare(a.place, b.place) })
	return all
}

// wrap names the ledger in an error of its journal.
func wrap(verb string, err error) error { return fmt.Errorf("%s ledger of orders: %w", verb, err) }
