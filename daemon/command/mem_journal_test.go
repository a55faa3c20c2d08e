package command

import (
	"iter"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"

	"fieldpost/daemon/journal"
)

// memJournal is a journal in memory that outlives the dispatchers that use it. It can
// fail or hang.
type memJournal struct {
	t    testing.TB
	stop func() // ends the dispatcher that uses it

	mu      sync.Mutex
	entries [][]byte
	size    int64
	sound   bool
	fail    func(op string) error // called without mu before each operation; nil: nothing fails
	damage  journal.Damage
	rewrote int
	synced  int
	durable int      // number of entries that survive a power cut
	before  [][]byte // what a power cut may leave if a Rewrite is not synced
}

func (j *memJournal) failing(f func(op string) error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.fail = f
}

func (j *memJournal) op(op string) error {
	j.mu.Lock()
	f := j.fail
	j.mu.Unlock()
	if f == nil {
		return nil
	}
	return f(op)
}

func (j *memJournal) Replay(take func([]byte)) (journal.Damage, error) {
	if err := j.op("replay"); err != nil {
		return journal.Damage{}, err
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	for _, b := range j.entries {
		take(b)
	}
	return j.damage, nil
}

func (j *memJournal) Append(entries ...[]byte) error {
	j.mu.Lock()
	if !j.sound {
		j.t.Error("Append to a journal that is not sound")
	}
	j.sound = false
	j.mu.Unlock()
	for _, b := range entries {
		if err := j.op("append"); err != nil {
			return err
		}
		j.mu.Lock()
		j.entries, j.size = append(j.entries, slices.Clone(b)), j.size+int64(len(b))+16
		j.mu.Unlock()
	}
	return j.sync()
}

func (j *memJournal) sync() error {
	if err := j.op("sync"); err != nil {
		return err
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	j.sound = true
	j.synced++
	j.durable, j.before = len(j.entries), nil
	return nil
}

func (j *memJournal) Rewrite(all iter.Seq[[]byte]) error {
	j.mu.Lock()
	j.sound = false
	j.mu.Unlock()
	if err := j.op("rewrite"); err != nil {
		return err
	}
	j.mu.Lock()
	j.before, j.durable = j.entries[:j.durable], 0
	j.entries, j.size = nil, 0
	for b := range all {
		j.entries, j.size = append(j.entries, slices.Clone(b)), j.size+int64(len(b))+16
	}
	j.rewrote++
	j.mu.Unlock()
	return j.sync()
}

func (j *memJournal) Size() int64 {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.size
}

// crash ends the process that writes. A power cut loses all or part of what was not
// synced.
func (j *memJournal) crash(power bool, r *rand.Rand) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.sound = false
	switch {
	case !power:
	case j.before != nil && r.IntN(2) == 0:
		j.entries = j.before
	default:
		j.entries = j.entries[:j.durable+r.IntN(len(j.entries)-j.durable+1)]
	}
	j.before, j.durable = nil, len(j.entries)
}

// wipe removes all entries.
func (j *memJournal) wipe() {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.entries, j.before, j.durable, j.size = nil, nil, 0, 0
}

// has reports whether an entry about an id has been synced.
func (j *memJournal) has(id string) bool {
	j.mu.Lock()
	defer j.mu.Unlock()
	return slices.ContainsFunc(j.entries[:j.durable], func(b []byte) bool {
		r, err := decodeRecord(b)
		return err == nil && r.ID == id
	})
}
