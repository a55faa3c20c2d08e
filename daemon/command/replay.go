package command

import (
	"fmt"

	"fieldpost/daemon/clock"
	"fieldpost/daemon/health"
	"fieldpost/daemon/journal"
)

// replayed is what a journal holds.
type replayed struct {
	orders []*knownOrder // in their order; one for each id
	forgot []timeRange   // expiries of orders that were forgotten
	damage journal.Damage
}

// replay reads a journal.
func replay(j *journal.Journal) (replayed, error) {
	found := map[string]*knownOrder{}
	var order []*knownOrder
	var forgot []timeRange
	damage, err := j.Read(func(payload []byte) bool {
		r, err := decodeRecord(payload)
		if err != nil {
			return false
		}
		for _, x := range r.Forgot {
			forgot = append(forgot, timeRange{x[0].time(), x[1].time()})
		}
		if r.Forgot != nil {
			return true
		}
		k, known := found[r.ID]
		switch {
		case !known || r.Order != nil: // new, or its id came again after it had lapsed
			k = r.knownOrder()
			found[r.ID] = k
			order = append(order, k)
		case k.answer == nil:
			a := r.Answer.answer(r.ID)
			k.answer = &a
		}
		return true
	})
	if err != nil {
		return replayed{}, err
	}
	r := replayed{forgot: forgot, damage: damage}
	for _, k := range order {
		if found[k.order.ID] == k {
			r.orders = append(r.orders, k)
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
func (l *ledger) load() (begun []*knownOrder, err error) {
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
	for _, k := range found.orders {
		k.unread, k.delivered = false, false
		old := l.known[k.order.ID]
		if old != nil && old.overrules(k) {
			continue
		}
		if k.answer == nil {
			k.answer = unknown(k.order, now)
			k.boot, k.until = now.Boot, now.Mono+l.life+keepFor // nobody has had this answer yet
			begun = append(begun, k)
		}
		k.mustDeliver = old != nil // its message may have been acknowledged with another answer
		l.put(k)
	}
	for _, k := range l.known {
		k.unread = false
	}
	return begun, nil
}

// unknown is the answer to an order whose end nobody knows.
func unknown(o Order, now clock.Stamp) *Answer {
	a := answerFor(NoResult, "")
	a.ID, a.Output, a.Stamp = o.ID, o.Output, now
	return &a
}
