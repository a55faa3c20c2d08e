package command

import (
	"errors"
	"fmt"
	"slices"
	"sync"

	"fieldpost/daemon/journal"
)

// The bounds of the fallback journal.
const (
	maxRuntimeRecords = 4096    // entries
	maxRuntimeBytes   = 2 << 20 // bytes of their payloads
)

// errNoFallback is the reason where there is no fallback journal.
var errNoRuntimeDir = errors.New("there is no runtime directory")

// fallback is a second journal, in the runtime directory, which the end of the
// process leaves alone: what the ledger's own could not take is noted there
// before it is answered, so that a daemon that is killed knows it again. It
// never lets an order act, for it does not outlive a power cut. It is empty
// while the ledger works.
//
// It is written by whoever answers an order, and not by the ledger's
// goroutine, which may hang in a disk.
type runtimeJournal struct {
	mu      sync.Mutex       // held while it is written; taken before the dispatcher's mu
	journal *journal.Journal // nil is none
	failing bool             // that it cannot be written has been told
	entries int              // in the file
	bytes   int64
}

// loadFallback puts what the fallback journal holds into the index. It is called
// once, before the ledger's own journal is read.
func (l *ledger) loadFallback() {
	r := &l.fallback
	if r.journal == nil {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	found, err := replay(r.journal)
	if err != nil {
		l.log.Warn("orders noted in the runtime directory cannot be read", "err", err)
		return
	}
	if n := found.damage.Holes + min(found.damage.Tail, 1); n > 0 {
		l.log.Warn("orders noted in the runtime directory are damaged", "places", n)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, k := range found.orders {
		if k.answer == nil {
			continue // not ours: nothing is noted here without its answer
		}
		k.saved = true
		l.put(k)
		r.entries++
		r.bytes += k.size
	}
}

// wins reports whether what the fallback journal says of an order goes before
// what the ledger's own does. It is later, unless it was decided while nobody
// knew what stands there, or the id came again when the ledger worked.
func (k *knownOrder) overrules(own *knownOrder) bool {
	if own.answer != nil && own.answer.Stamp.Boot == k.answer.Stamp.Boot {
		switch x, y := k.answer.Stamp.Mono, own.answer.Stamp.Mono; {
		case x < y:
			return false
		case x == y && k.answer.Status == own.answer.Status && k.answer.Reason == own.answer.Reason:
			return k.saved // the same: whether it was told stands here
		}
	}
	return k.saved && !k.unread
}

// saveFallback notes what is known of an order in the fallback journal, unless it is
// there already. told says that nobody need be given its answer any more. The
// error says why it is not noted.
func (l *ledger) saveFallback(id string, told bool) error {
	r := &l.fallback
	if r.journal == nil {
		return errNoRuntimeDir
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	l.mu.Lock()
	k, ok := l.known[id]
	if !ok || k.answer == nil {
		l.mu.Unlock()
		return errors.New("nothing is known of the order")
	}
	if k.saved && (k.delivered || !told) {
		l.mu.Unlock()
		return nil
	}
	said := *k
	said.delivered = told
	l.mu.Unlock()
	err := r.write(l, said)
	if err != nil {
		if !r.failing {
			l.log.Warn("what the ledger of orders cannot take cannot be noted in the runtime directory either", "err", err)
		}
		r.failing = true
		return err
	}
	r.failing = false
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.known[id] == k && k.answer == said.answer {
		k.saved, k.delivered = true, told
	}
	return nil
}

// put writes an entry, and all the others anew where the file has grown too
// large or cannot be trusted. With f's mu held.
func (r *runtimeJournal) write(l *ledger, e knownOrder) error {
	payload := e.wholeRecord().encode()
	if r.journal.Sound() && r.entries < maxRuntimeRecords && r.bytes+int64(len(payload)) <= maxRuntimeBytes {
		if err := r.journal.Append(payload); err == nil {
			r.entries++
			r.bytes += int64(len(payload))
			return nil
		}
	}
	payloads, bytes := l.savedEntries(e.order.ID, int64(len(payload)))
	payloads = append(payloads, payload)
	if err := r.journal.Rewrite(slices.Values(payloads)); err != nil {
		return fmt.Errorf("note order: %w", err)
	}
	r.entries, r.bytes = len(payloads), bytes
	return nil
}

// savedEntries gives the entries that the fallback journal is to keep when it
// is written anew, oldest first. Where they fill more than three quarters of it,
// the oldest give way, and are not noted any more. size is what an entry
// besides takes, that of the order id. With the fallback's mu held.
func (l *ledger) savedEntries(id string, size int64) (payloads [][]byte, bytes int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	bytes = size
	all := l.inOrder()
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
	for _, e := range all[:first] {
		l.known[e.order.ID].saved = false
	}
	slices.Reverse(payloads)
	return payloads, bytes
}

// clearFallback has the fallback journal hold nothing, once the ledger's own holds all
// and every answer noted here has been told. The ledger's goroutine calls it.
func (l *ledger) clearFallback() {
	r := &l.fallback
	if r.journal == nil {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.entries == 0 || !l.settled() {
		return
	}
	if err := r.journal.Rewrite(func(func([]byte) bool) {}); err != nil {
		return
	}
	r.entries, r.bytes = 0, 0
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, k := range l.known {
		k.saved = false
	}
}

// settled reports whether the ledger's own journal holds what the index does,
// and every answer that is noted in the fallback journal has been told.
func (l *ledger) settled() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.read || !l.sound || l.hung || len(l.queue) > 0 {
		return false
	}
	for _, k := range l.known {
		if k.saved && !k.delivered {
			return false
		}
	}
	return true
}

// undelivered gives the answers that a run before noted in the fallback journal and
// need not have told any more, oldest first.
func (l *ledger) undelivered() (out []Answer) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, e := range l.inOrder() {
		told := e.delivered || slices.ContainsFunc(l.delivering, func(x delivery) bool { return x.id == e.order.ID })
		if e.saved && !told {
			a := *e.answer
			a.saved = true
			out = append(out, a)
		}
	}
	return out
}

// noteDelivered notes which answers to orders of a run before have arrived. The
// ledger's goroutine calls it.
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
		_ = l.saveFallback(id, true) // if not, it is told once more
	}
}
