package command

import (
	"errors"
	"fmt"
	"slices"
	"sync"

	"fieldpost/daemon/journal"
)

// The limits of the runtime journal.
const (
	maxRuntimeRecords = 4096
	maxRuntimeBytes   = 2 << 20 // of the records
)

// errNoRuntimeDir is the reason when there is no runtime journal.
var errNoRuntimeDir = errors.New("there is no runtime directory")

// runtimeJournal is a second journal, in the runtime directory. What the ledger's
// journal could not take is written here before it is answered, so the next run knows
// it even if this one is killed. It never lets an order act, because it does not
// outlive a power cut. It is empty while the ledger works.
//
// The goroutine that answers an order writes it, because the ledger writer may hang.
type runtimeJournal struct {
	mu      sync.Mutex       // held while it is written; taken before the dispatcher's mu
	journal *journal.Journal // nil if there is none
	failing bool             // the last write failed, which was logged
	records int              // number of records in the file
	bytes   int64            // of the records
}

// loadRuntime reads the runtime journal. It is called once, before the ledger's own
// journal is read.
func (l *ledger) loadRuntime() {
	r := &l.runtime
	if r.journal == nil {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	found, err := replay(r.journal)
	if err != nil {
		l.log.Warn("orders recorded in the runtime directory cannot be read", "err", err)
		return
	}
	if n := found.damage.Holes + min(found.damage.Tail, 1); n > 0 {
		l.log.Warn("orders recorded in the runtime directory are damaged", "places", n)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, k := range found.orders {
		if k.answer == nil {
			continue // not ours: every record here has an answer
		}
		k.saved = true
		l.orders.add(k)
		r.records++
		r.bytes += k.size
	}
}

// saveRuntime writes a known order to the runtime journal, unless it is there already.
// delivered says that its answer need not be given any more.
func (l *ledger) saveRuntime(id string, delivered bool) error {
	r := &l.runtime
	if r.journal == nil {
		return errNoRuntimeDir
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	l.mu.Lock()
	k, ok := l.orders.byID[id]
	if !ok || k.answer == nil {
		l.mu.Unlock()
		return errors.New("nothing is known of the order")
	}
	if k.saved && (k.delivered || !delivered) {
		l.mu.Unlock()
		return nil
	}
	latest := *k
	latest.delivered = delivered
	l.mu.Unlock()
	err := r.write(l, latest)
	if err != nil {
		if !r.failing {
			l.log.Warn("cannot record orders, neither in the ledger nor in the runtime directory", "err", err)
		}
		r.failing = true
		return err
	}
	r.failing = false
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.orders.byID[id] == k && k.answer == latest.answer {
		k.saved, k.delivered = true, delivered
	}
	return nil
}

// write writes an order, and rewrites all the others if the file has grown too large or
// cannot be trusted. Call it with r's mu held.
func (r *runtimeJournal) write(l *ledger, k knownOrder) error {
	payload := k.wholeRecord().encode()
	if r.journal.Sound() && r.records < maxRuntimeRecords && r.bytes+int64(len(payload)) <= maxRuntimeBytes {
		if err := r.journal.Append(payload); err == nil {
			r.records++
			r.bytes += int64(len(payload))
			return nil
		}
	}
	payloads, bytes := l.savedRecords(k.order.ID, int64(len(payload)))
	payloads = append(payloads, payload)
	if err := r.journal.Rewrite(slices.Values(payloads)); err != nil {
		return fmt.Errorf("record order: %w", err)
	}
	r.records, r.bytes = len(payloads), bytes
	return nil
}

// savedRecords returns the records that the runtime journal keeps when it is rewritten,
// oldest first, without that of the order id, whose size is given. If they would fill
// more than three quarters of the journal, the oldest are left out and no longer saved.
// Call it with the runtime journal's mu held.
func (l *ledger) savedRecords(id string, size int64) (payloads [][]byte, bytes int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	bytes = size
	all := l.orders.sorted()
	first := len(all)
	for ; first > 0; first-- {
		k := &all[first-1]
		if !k.saved || k.order.ID == id {
			continue
		}
		b := k.wholeRecord().encode()
		if len(payloads) >= maxRuntimeRecords*3/4 || bytes+int64(len(b)) > maxRuntimeBytes*3/4 {
			break
		}
		payloads, bytes = append(payloads, b), bytes+int64(len(b))
	}
	for _, k := range all[:first] {
		l.orders.byID[k.order.ID].saved = false
	}
	slices.Reverse(payloads)
	return payloads, bytes
}

// clearRuntime empties the runtime journal if isSettled. The ledger writer calls it.
func (l *ledger) clearRuntime() {
	r := &l.runtime
	if r.journal == nil {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.records == 0 || !l.isSettled() {
		return
	}
	if err := r.journal.Rewrite(func(func([]byte) bool) {}); err != nil {
		return
	}
	r.records, r.bytes = 0, 0
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, k := range l.orders.byID {
		k.saved = false
	}
}

// isSettled reports whether the ledger's journal has everything that is known and every
// answer in the runtime journal has been delivered.
func (l *ledger) isSettled() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.queue.read || !l.queue.sound || l.queue.hung || len(l.queue.waiting) > 0 {
		return false
	}
	for _, k := range l.orders.byID {
		if k.saved && !k.delivered {
			return false
		}
	}
	return true
}

// undelivered returns the answers in the runtime journal that earlier runs may not have
// delivered, oldest first.
func (l *ledger) undelivered() (out []Answer) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, k := range l.orders.sorted() {
		underWay := slices.ContainsFunc(l.delivering, func(x delivery) bool { return x.id == k.order.ID })
		if k.saved && !k.delivered && !underWay {
			a := *k.answer
			a.saved = true
			out = append(out, a)
		}
	}
	return out
}

// noteDelivered records which answers of earlier runs have arrived. The ledger writer
// calls it.
func (l *ledger) noteDelivered() {
	l.mu.Lock()
	var done []string
	l.delivering = slices.DeleteFunc(l.delivering, func(x delivery) bool {
		select {
		case <-x.kept:
		default:
			if x.kept != nil {
				return false
			}
		}
		done = append(done, x.id)
		return true
	})
	l.mu.Unlock()
	for _, id := range done {
		_ = l.saveRuntime(id, true) // if that fails, it is given once more
	}
}
