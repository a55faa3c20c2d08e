package command

import (
	"fmt"

	"fieldpost/daemon/clock"
	"fieldpost/daemon/health"
)

// load reads the journal into the index. What was decided meanwhile, while it
// could not be read, gives way to what it holds. Intents without a result are
// those of a run that ended in between: they are answered unknown. [CMD-12]
func (l *ledger) load(now clock.Stamp) error {
	found, strange := map[string]*entry{}, 0
	var order []*entry
	damage, err := l.journal.Replay(func(payload []byte) {
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
		e.size += int64(len(payload))
	})
	if err != nil {
		return fmt.Errorf("load ledger: %w", err)
	}
	l.read = true
	l.took(damage.Holes+strange, damage.Tail)
	var begun []*entry
	for _, e := range order {
		if found[e.order.ID] != e {
			continue
		}
		if e.answer == nil {
			begun = append(begun, e)
		}
		l.put(e)
	}
	for _, e := range begun {
		a := because(NoResult, "")
		a.ID, a.Output, a.Stamp = e.order.ID, e.order.Output, now
		e.answer = &a
	}
	// The results are on disk before they are told: what is told twice is told
	// because the disk fails.
	_ = l.rewrite() // it has told what is wrong
	for _, e := range begun {
		l.log.Warn("order of the run before has no result", "id", e.order.ID, "output", e.order.Output)
		l.answer(*e.answer)
	}
	return nil
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
