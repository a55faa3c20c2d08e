package output

import (
	"context"
	"encoding/json"
	"slices"
	"sync"
	"time"

	"fieldpost/daemon/health"
	"fieldpost/daemon/journal"
)

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
	journal *journal.Journal
	health  *health.Health
	names   []string // whose levels are kept

	mu      sync.Mutex
	known   map[string]Level
	pending []string      // names of known that are not written yet
	wake    chan struct{} // buffered, one: pending grew
}

// newLevels reads what the run before has left. Where that cannot be read, or
// where part of it is lost, nothing is known, and each output it concerns has
// a fault until its level is written again.
func newLevels(o Options) *levels {
	l := &levels{health: o.Health, known: map[string]Level{}, wake: make(chan struct{}, 1)}
	for _, c := range o.Outputs {
		if c.Initial == InitialLast {
			l.names = append(l.names, c.Name)
		}
	}
	if o.Levels == nil || len(l.names) == 0 {
		l.names = nil
		return l
	}
	l.journal = journal.New(o.Levels)
	damage, err := l.journal.Read(func(entry []byte) bool {
		var e level
		if json.Unmarshal(entry, &e) != nil || e.Output == "" {
			return false
		}
		if slices.Contains(l.names, e.Output) {
			l.known[e.Output] = e.Level
		}
		return true
	})
	detail := "part of the file is damaged"
	if err != nil {
		detail = err.Error()
	}
	if err != nil || damage.Any() {
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
	journal.Keep(ctx, l.wake, func(bool) time.Duration {
		if l.write() {
			return 0
		}
		return retryMost
	})
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
	if err := l.journal.Write(maxLevels, slices.Values(all), entries...); err != nil {
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
