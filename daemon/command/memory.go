package command

import (
	"errors"
	"time"

	"fieldpost/daemon/clock"
)

// keepFor is how long an id is known after its order has expired. [CMD-11]
const keepFor = 24 * time.Hour

// The bounds of what is remembered. A full memory takes some 5 MB.
const (
	maxActed   = 16384 // orders carried out
	maxRefused = 1024  // orders refused; the oldest give way
)

// errFull is the reason when no more orders can be remembered.
var errFull = errors.New("no room for another order")

// remember is what the desk knows of the orders it was given, by id. The desk
// calls it from one goroutine at a time.
//
// A remember that outlives the process has intend return when the intent is
// on disk, and begins with the intents and results it finds there.
type remember interface {
	// first gives the order first sent under the id and its answer, which is
	// nil for an intent without a result; ok is false where the id is unknown.
	first(id string) (o Order, a *Answer, ok bool)
	// intend notes, before the act, that the order is about to be carried
	// out. The error wraps errFull when there is no room.
	intend(o Order, now clock.Stamp) error
	// settle notes the result of an order that was intended.
	settle(id string, a Answer) error
	// refuse notes an order that was refused.
	refuse(o Order, a Answer) error
	// forget lets go of what need not be known any more.
	forget(now clock.Stamp)
}

// memory is a remember that ends with the process, for a desk without a
// journal.
type memory struct {
	known   map[string]*entry
	acted   int
	refused []string // ids of refused orders, oldest first
	life    time.Duration
	room    room
	sweep   time.Duration // when forget next looks through all, on CLOCK_BOOTTIME
}

// room is how many orders a memory holds.
type room struct{ acted, refused int }

type entry struct {
	order  Order
	answer *Answer
	until  time.Duration // on CLOCK_BOOTTIME, which no correction of the time moves

	// The rest is the ledger's.
	boot    string    // the boot for which until holds
	expiry  time.Time // when it may be forgotten by the wall clock; zero while that is not known
	refused bool
	place   uint64 // in the order of the entries
	size    int64  // bytes it takes in the journal
}

func newMemory(life time.Duration) *memory {
	return &memory{known: map[string]*entry{}, life: life, room: room{maxActed, maxRefused}}
}

func (m *memory) first(id string) (Order, *Answer, bool) {
	e, ok := m.known[id]
	if !ok {
		return Order{}, nil, false
	}
	return e.order, e.answer, true
}

func (m *memory) intend(o Order, now clock.Stamp) error {
	if m.acted >= m.room.acted {
		return errFull
	}
	m.acted++
	m.known[o.ID] = &entry{order: o, until: m.until(o, now)}
	return nil
}

func (m *memory) settle(id string, a Answer) error {
	if e, ok := m.known[id]; ok {
		e.answer = &a
	}
	return nil
}

func (m *memory) refuse(o Order, a Answer) error {
	if len(m.refused) >= m.room.refused {
		delete(m.known, m.refused[0])
		m.refused = m.refused[1:]
	}
	m.refused = append(m.refused, o.ID)
	m.known[o.ID] = &entry{order: o, answer: &a}
	return nil
}

// forget looks through all orders carried out, once a minute at most. Refused
// ones stay until others take their place.
func (m *memory) forget(now clock.Stamp) {
	if now.Mono < m.sweep {
		return
	}
	m.sweep = now.Mono + time.Minute
	for id, e := range m.known {
		if e.until != 0 && now.Mono >= e.until {
			delete(m.known, id)
			m.acted--
		}
	}
}

// until is when an order carried out may be forgotten.
func (m *memory) until(o Order, now clock.Stamp) time.Duration {
	return now.Mono + left(o, now, m.life) + keepFor
}

// left is how long an order can be in time. Without a true clock or without an
// expiry it is as if it expired as late as it may.
func left(o Order, now clock.Stamp, life time.Duration) time.Duration {
	if !now.Synced || o.Expires.IsZero() {
		return life
	}
	return min(max(o.Expires.Sub(now.Wall), 0), life)
}
