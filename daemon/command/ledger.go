package command

import (
	"cmp"
	"errors"
	"fmt"
	"iter"
	"log/slog"
	"maps"
	"slices"
	"time"

	"fieldpost/daemon/clock"
	"fieldpost/daemon/health"
	"fieldpost/daemon/spool"
)

// Journal is where a desk keeps what it must not forget, a [spool.Journal].
type Journal interface {
	Replay(take func(payload []byte)) (spool.Damage, error)
	Append(payload []byte) error
	Rewrite(payloads iter.Seq[[]byte]) error
	Size() int64
}

// The bounds of the ledger's file: it is written anew when it is larger than
// compactAt and than twice what it need hold, which is at most maxLive.
const (
	compactAt = 256 << 10
	maxLive   = 8 << 20
)

// maxResult is what is set aside for the result of an order carried out.
const maxResult = 512

// subject is what the ledger's faults are about.
const subject = "orders"

// ledger is a remember that outlives the process. Its index is in memory; the
// journal holds the same, in the order in which it was decided.
type ledger struct {
	journal Journal
	health  *health.Health
	log     *slog.Logger
	answer  func(Answer) // answers an order of a run before
	life    time.Duration
	room    room
	most    int64 // bound of live
	acted   int
	refused int
	known   map[string]*entry
	count   uint64 // of entries ever put in, for their order
	live    int64  // bytes of what the journal need hold
	read    bool   // the journal has been read
	sound   bool   // the journal holds what the index does
	sweep   time.Duration
}

// newLedger reads the journal. A journal that cannot be read or written is no
// error: it is tried again.
func newLedger(o Options) *ledger {
	l := &ledger{
		journal: o.Journal, health: o.Health, log: o.Log, life: o.MaxLife, room: room{maxActed, maxRefused}, most: maxLive,
		answer: func(a Answer) { o.Answer(a.Record()) }, known: map[string]*entry{},
	}
	l.mend(o.Clock.Now())
	return l
}

// mend has the journal read and written, if that is yet to be done.
func (l *ledger) mend(now clock.Stamp) {
	switch {
	case l.sound:
	case l.read:
		_ = l.rewrite() // it has told what is wrong
	default:
		if err := l.load(now); err != nil {
			l.unusable(err)
		}
	}
}

func (l *ledger) unusable(err error) {
	l.sound = false
	l.health.Raise(health.LedgerUnavailable, subject, err.Error())
}

// rewrite puts the index in the place of the journal.
func (l *ledger) rewrite() error {
	live := int64(0)
	err := l.journal.Rewrite(func(yield func([]byte) bool) {
		for _, e := range l.inOrder() {
			b := e.whole().encode()
			if e.size = int64(len(b)); e.answer == nil {
				e.size += maxResult
			}
			if live += e.size; !yield(b) {
				return
			}
		}
	})
	if err != nil {
		l.unusable(err)
		return err
	}
	l.sound, l.live = true, live
	l.health.Clear(health.LedgerUnavailable, subject)
	return nil
}

func (l *ledger) inOrder() []*entry {
	return slices.SortedFunc(maps.Values(l.known), func(a, b *entry) int { return cmp.Compare(a.place, b.place) })
}

// write puts one entry into the journal, or where that fails or failed
// before, the whole index, which has it too.
func (l *ledger) write(n note) error {
	if !l.read {
		return errUnread
	}
	if l.sound {
		err := l.journal.Append(n.encode())
		if err == nil {
			return l.compact()
		}
		l.log.Warn("ledger of orders is written anew", "err", err)
		l.sound = false
	}
	return l.rewrite()
}

// errUnread is the reason while nobody knows what the journal holds.
var errUnread = errors.New("the ledger of orders could not be read")

// compact writes the journal anew when most of it is of no use any more. A
// failure takes nothing from the entry that was just written.
func (l *ledger) compact() error {
	if l.journal.Size() <= max(compactAt, 2*l.live) {
		return nil
	}
	if err := l.rewrite(); err != nil {
		l.log.Warn("ledger of orders cannot be compacted", "err", err)
	}
	return nil
}

func (l *ledger) first(id string) (Order, *Answer, bool) {
	e, ok := l.known[id]
	if !ok {
		return Order{}, nil, false
	}
	return e.order, e.answer, true
}

func (l *ledger) intend(o Order, now clock.Stamp) error {
	switch {
	case !l.read:
		return errUnread
	case !l.sound:
		if err := l.rewrite(); err != nil {
			return err
		}
	}
	e := l.made(o, now)
	n := e.intent()
	e.size = int64(len(n.encode())) + maxResult
	if l.acted >= l.room.acted || l.live+e.size > l.most {
		return errFull
	}
	l.put(e)
	if err := l.write(n); err != nil {
		l.drop(e)
		return err
	}
	return nil
}

func (l *ledger) settle(id string, a Answer) error {
	e, ok := l.known[id]
	if !ok {
		return fmt.Errorf("settle order %q: not intended", id)
	}
	e.answer = &a
	n := result(a)
	more := int64(len(n.encode())) - maxResult
	e.size += more
	l.live += more
	return l.write(n)
}

func (l *ledger) refuse(o Order, a Answer) error {
	for l.refused >= l.room.refused {
		l.drop(l.oldestRefused())
	}
	e := l.made(o, a.Stamp)
	e.answer, e.refused = &a, true
	n := e.whole()
	e.size = int64(len(n.encode()))
	l.put(e)
	_ = l.write(n) // a fault has told; the order is remembered as long as we run
	return nil
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

// made is the entry of an order that is new.
func (l *ledger) made(o Order, now clock.Stamp) *entry {
	e := &entry{order: o, boot: now.Boot}
	e.until = now.Mono + left(o, now, l.life) + keepFor
	if now.Synced {
		e.expiry = now.Wall.Add(left(o, now, l.life) + keepFor)
	}
	return e
}

func (l *ledger) put(e *entry) {
	if old, ok := l.known[e.order.ID]; ok {
		l.drop(old)
	}
	l.count++
	e.place = l.count
	l.known[e.order.ID] = e
	l.live += e.size
	if e.refused {
		l.refused++
	} else {
		l.acted++
	}
}

func (l *ledger) drop(e *entry) {
	delete(l.known, e.order.ID)
	l.live -= e.size
	if e.refused {
		l.refused--
	} else {
		l.acted--
	}
}

// forget lets go of what has lapsed, and tries again what failed, once a
// minute at most. It is also the only one that reads, before every look at an
// id: what is known must not change between that look and the intent.
func (l *ledger) forget(now clock.Stamp) {
	if !l.read {
		l.mend(now)
	}
	if now.Mono < l.sweep {
		return
	}
	l.sweep = now.Mono + time.Minute
	for _, e := range l.known {
		if l.lapsed(e, now) {
			l.drop(e)
		}
	}
	l.mend(now)
}

// lapsed reports whether an id need not be known any more: its time by the wall
// clock has come, and in the boot in which it came that much time has passed
// too, so that a clock that jumps makes nobody forget. While the clock is not
// true nothing lapses. [CMD-11]
func (l *ledger) lapsed(e *entry, now clock.Stamp) bool {
	if !now.Synced {
		return false
	}
	if e.expiry.IsZero() {
		e.expiry = now.Wall.Add(left(e.order, now, l.life) + keepFor)
	}
	if e.boot == now.Boot && now.Mono < e.until {
		return false
	}
	return e.answer != nil && !now.Wall.Before(e.expiry)
}
