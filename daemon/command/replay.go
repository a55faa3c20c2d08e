package command

import (
	"fmt"

	"fieldpost/daemon/health"
)

// replayed is what a journal holds.
type replayed struct {
	entries     []*entry // in their order; one for each id
	holes, tail int      // places that cannot be read, bytes cut off at the end
}

// replay reads a journal.
func replay(j Journal) (replayed, error) {
	found, strange := map[string]*entry{}, 0
	var order []*entry
	damage, err := j.Replay(func(payload []byte) {
		n, err := decodeNote(payload)
		if err != nil {
			strange++
			return
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
	})
	if err != nil {
		return replayed{}, err
	}
	r := replayed{holes: damage.Holes + strange, tail: damage.Tail}
	for _, e := range order {
		if found[e.order.ID] == e {
			r.entries = append(r.entries, e)
		}
	}
	return r, nil
}

// took reports damage. A tail that is cut off is what a power cut leaves of the
// last write; a hole is not.
func (l *ledger) took(holes, tail int) {
	if tail > 0 {
		l.log.Warn("ledger of orders ended in the middle of an entry", "bytes", tail)
	}
	if holes > 0 {
		l.health.Raise(health.LedgerDamaged, subject, fmt.Sprintf("%d places", holes))
	}
}
