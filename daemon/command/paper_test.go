package command

import (
	"iter"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"

	"fieldpost/daemon/journal"
)

// paper is a journal in memory that outlives the desks that write on it. It
// fails when it is told to, or does not answer.
type paper struct {
	t    testing.TB
	stop func() // ends the desk that writes on it

	mu      sync.Mutex
	entries [][]byte
	size    int64
	sound   bool
	fail    func(op string) error // called without mu, before each step; nil: nothing fails
	damage  journal.Damage
	rewrote int
	synced  int
	durable int      // entries that a power cut leaves
	before  [][]byte // what a power cut may leave of before a Rewrite that is not synced
}

func (p *paper) failing(f func(op string) error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.fail = f
}

func (p *paper) op(op string) error {
	p.mu.Lock()
	f := p.fail
	p.mu.Unlock()
	if f == nil {
		return nil
	}
	return f(op)
}

func (p *paper) Replay(take func([]byte)) (journal.Damage, error) {
	if err := p.op("replay"); err != nil {
		return journal.Damage{}, err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, b := range p.entries {
		take(b)
	}
	return p.damage, nil
}

func (p *paper) Append(entries ...[]byte) error {
	p.mu.Lock()
	if !p.sound {
		p.t.Error("Append to a journal that is not sound")
	}
	p.sound = false
	p.mu.Unlock()
	for _, b := range entries {
		if err := p.op("append"); err != nil {
			return err
		}
		p.mu.Lock()
		p.entries, p.size = append(p.entries, slices.Clone(b)), p.size+int64(len(b))+16
		p.mu.Unlock()
	}
	return p.sync()
}

func (p *paper) sync() error {
	if err := p.op("sync"); err != nil {
		return err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.sound = true
	p.synced++
	p.durable, p.before = len(p.entries), nil
	return nil
}

func (p *paper) Rewrite(all iter.Seq[[]byte]) error {
	p.mu.Lock()
	p.sound = false
	p.mu.Unlock()
	if err := p.op("rewrite"); err != nil {
		return err
	}
	p.mu.Lock()
	p.before, p.durable = p.entries[:p.durable], 0
	p.entries, p.size = nil, 0
	for b := range all {
		p.entries, p.size = append(p.entries, slices.Clone(b)), p.size+int64(len(b))+16
	}
	p.rewrote++
	p.mu.Unlock()
	return p.sync()
}

func (p *paper) Size() int64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.size
}

// crash ends the process that wrote; a power cut takes what was not synced, or
// part of it.
func (p *paper) crash(power bool, r *rand.Rand) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.sound = false
	switch {
	case !power:
	case p.before != nil && r.IntN(2) == 0:
		p.entries = p.before
	default:
		p.entries = p.entries[:p.durable+r.IntN(len(p.entries)-p.durable+1)]
	}
	p.before, p.durable = nil, len(p.entries)
}

// wipe removes it.
func (p *paper) wipe() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.entries, p.before, p.durable, p.size = nil, nil, 0, 0
}

// has reports whether an entry about an id has been synced.
func (p *paper) has(id string) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.ContainsFunc(p.entries[:p.durable], func(b []byte) bool {
		n, err := decodeNote(b)
		return err == nil && n.ID == id
	})
}
