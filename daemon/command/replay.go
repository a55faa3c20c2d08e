package command

import (
	"fmt"

	"fieldpost/daemon/clock"
	"fieldpost/daemon/health"
	"fieldpost/daemon/journal"
)

// replayed is what a journal holds.
type replayed struct {
	entries []*entry    // in their order; one for each id
	forgot  []timeRange // expiries of orders that were forgotten
	damage  journal.Damage
}

// replay reads a journal.
func replay(j *journal.Journal) (replayed, error) {
	found := map[string]*entry{}
	var order []*entry
	var forgot []timeRange
	damage, err := j.Read(func(payload []byte) bool {
		n, err := decodeNote(payload)
		if err != nil {
			return false
		}
		for _, x := range n.Forgot {
			forgot = append(forgot, timeRange{x[0].time(), x[1].time()})
		}
		if n.Forgot != nil {
			return true
		}
		e, known := found[n.ID]
		switch {
		case !known || n.Order != nil: // new, or its id came again after it had lapsed
			e = n.entry()
			found[n.ID] = e
			order = append(order, e)
		case e.answer == nil:
			a := n.Answer.answer(n.ID)
			e.answer = &a
		}
		return true
	})
	if err != nil {
		return replayed{}, err
	}
	r := replayed{forgot: forgot, damage: damage}
	for _, e := range order {
		if found[e.order.ID] == e {
			r.entries = append(r.entries, e)
		}
	}
	return r, nil
}

// took reports damage. A tail that is cut off is what a power cut leaves of the
// last write; a hole is not.
func (l *ledger) took(damage journal.Damage) {
	if damage.Tail > 0 {
		l.log.Warn("ledger of orders ended in the middle of an entry", "bytes", damage.Tail)
	}
	if damage.Holes > 0 {
		l.health.Raise(health.LedgerDamaged, subject, fmt.Sprintf("%d places", damage.Holes))
	}
}

// load reads the journal into the index. What was decided meanwhile, while it
// could not be read, gives way to what it holds; what the fallback journal holds
// and is later does not. Intents without a result are
// those of a run that ended in between: they get the answer unknown, and are
// given. [CMD-12]
func (l *ledger) load() (begun []*entry, err error) {
	found, err := replay(l.journal)
	if err != nil {
		return nil, wrap("read", err)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.read = true
	l.took(found.damage)
	now := l.clock.Now()
	for _, x := range found.forgot {
		l.forgot.addRange(x, now.Wall)
	}
	for _, e := range found.entries {
		e.unread, e.delivered = false, false
		old := l.known[e.order.ID]
		if old != nil && old.wins(e) {
			continue
		}
		if e.answer == nil {
			e.answer = unknown(e.order, now)
			e.boot, e.until = now.Boot, now.Mono+l.life+keepFor // nobody has had this answer yet
			begun = append(begun, e)
		}
		e.mustDeliver = old != nil // its message may have been acknowledged with another answer
		l.put(e)
	}
	for _, e := range l.known {
		e.unread = false
	}
	return begun, nil
}

// unknown is the answer to an order whose end nobody knows.
func unknown(o Order, now clock.Stamp) *Answer {
	a := because(NoResult, "")
	a.ID, a.Output, a.Stamp = o.ID, o.Output, now
	return &a
}
