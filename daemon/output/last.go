package output

import (
	"context"
	"encoding/json"
	"iter"
	"slices"
	"sync"
	"time"

	"fieldpost/daemon/health"
	"fieldpost/daemon/spool"
)

// Journal is where the levels of outputs with initial: last are kept: a
// [spool.Journal], whose documentation tells the order of the calls. Its
// methods are called from one goroutine at a time, and may wait for the disk.
type Journal interface {
	Replay(take func(payload []byte)) (spool.Damage, error)
	Append(payloads ...[]byte) error
	Rewrite(entries iter.Seq[[]byte]) error
	Size() int64
}

// maxLevels is the size from which the journal is written anew, with one entry
// for each output.
const maxLevels = 64 << 10

// level is one entry of the journal.
type level struct {
	Output string `json:"output"`
	Level  Level  `json:"level"`
}

// levels remembers the levels of outputs from one run to the next. A change is
// written by run, once, and changes that come while the disk is slow are
// written as one; whoever makes them does not wait. What a crash may cost is
// the change that was being written.
type levels struct {
	journal Journal
	health  *health.Health
	names   []string // whose levels are kept

	mu      sync.Mutex
	known   map[string]Level
	pending []string      // names of known that are not written yet
	wake    chan struct{} // buffered, one: pending grew

	sound bool // of run alone: the journal holds what it is to hold, but for pending
}

// newLevels reads what the run before has left. Where that cannot be read, or
// where part of it is lost, nothing is known, and each output it concerns has
// a fault until its level is written again.
func newLevels(o Options) *levels {
	l := &levels{journal: o.Levels, health: o.Health, known: map[string]Level{}, wake: make(chan struct{}, 1)}
	for _, c := range o.Outputs {
		if c.Initial == InitialLast {
			l.names = append(l.names, c.Name)
		}
	}
	if l.journal == nil || len(l.names) == 0 {
		l.names = nil
		return l
	}
	strange := false
	damage, err := l.journal.Replay(func(payload []byte) {
		var e level
		if json.Unmarshal(payload, &e) != nil || e.Output == "" {
			strange = true
		} else if slices.Contains(l.names, e.Output) {
			l.known[e.Output] = e.Level
		}
	})
	detail := "part of the file is damaged"
	if err != nil {
		detail = err.Error()
	}
	if err != nil || strange || damage.Holes > 0 || damage.Tail > 0 {
		clear(l.known)
		for _, name := range l.names {
			l.health.Raise(health.LevelUnknown, name, detail)
		}
	}
	return l
}

// last is the level of an output when the run before ended.
func (l *levels) last(name string) (Level, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	v, ok := l.known[name]
	return v, ok
}

// put notes a level. It does not wait.
func (l *levels) put(name string, v Level) {
	if !slices.Contains(l.names, name) {
		return
	}
	l.mu.Lock()
	l.known[name] = v
	if !slices.Contains(l.pending, name) {
		l.pending = append(l.pending, name)
	}
	l.mu.Unlock()
	select {
	case l.wake <- struct{}{}:
	default:
	}
}

// run writes what put notes, until ctx ends, and then what is left.
func (l *levels) run(ctx context.Context) {
	retry := time.NewTimer(retryMost)
	defer retry.Stop()
	for {
		select {
		case <-ctx.Done():
			l.write()
			return
		case <-l.wake:
		case <-retry.C:
		}
		if l.write() {
			retry.Stop()
		} else {
			retry.Reset(retryMost)
		}
	}
}

// write writes what is pending, and reports whether all is written. What
// cannot be written stays pending.
func (l *levels) write() bool {
	l.mu.Lock()
	pending := l.pending
	l.pending = nil
	entries := make([][]byte, 0, len(pending))
	for _, name := range pending {
		entries = append(entries, l.entry(name))
	}
	all := l.all()
	l.mu.Unlock()
	if len(pending) == 0 {
		return true
	}
	if err := l.add(entries, all); err != nil {
		l.health.Raise(health.LevelUnsaved, "outputs", err.Error())
		l.mu.Lock()
		for _, name := range pending {
			if !slices.Contains(l.pending, name) {
				l.pending = append(l.pending, name)
			}
		}
		l.mu.Unlock()
		return false
	}
	l.health.Clear(health.LevelUnsaved, "outputs")
	for _, name := range pending {
		l.health.Clear(health.LevelUnknown, name)
	}
	return true
}

// add puts entries at the journal's end, or all in its place where nothing can
// be put at its end or where it is large.
func (l *levels) add(entries, all [][]byte) error {
	if !l.sound || l.journal.Size() > maxLevels {
		l.sound = false
		if err := l.journal.Rewrite(slices.Values(all)); err != nil {
			return err
		}
		l.sound = true
		return nil
	}
	if err := l.journal.Append(entries...); err != nil {
		l.sound = false
		return err
	}
	return nil
}

// entry encodes one level, under mu.
func (l *levels) entry(name string) []byte {
	b, err := json.Marshal(level{name, l.known[name]})
	if err != nil {
		panic(err) // a string and a word
	}
	return b
}

// all encodes all levels that are known, under mu.
func (l *levels) all() [][]byte {
	var all [][]byte
	for _, name := range l.names {
		if _, ok := l.known[name]; ok {
			all = append(all, l.entry(name))
		}
	}
	return all
}
