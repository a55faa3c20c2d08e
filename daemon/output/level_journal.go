package output

import (
	"context"
	"encoding/json"
	"slices"
	"sync"
	"time"

	"fieldpost/daemon/health"
	"fieldpost/daemon/journal"
	"fieldpost/daemon/wake"
)

// maxLevels is the size from which the journal is rewritten, with one entry
// for each output.
const maxLevels = 64 << 10

// levelEntry is one entry of the journal.
type levelEntry struct {
	Output string `json:"output"`
	Level  Level  `json:"level"`
}

// levelJournal stores the levels of outputs for the next run. run writes each change
// once, and writes changes that come while the disk is slow together; their callers do
// not wait. A crash may lose the change that is being written.
type levelJournal struct {
	journal *journal.Journal
	health  *health.Health
	wake    wake.Signal // pending is not empty
	damage  string      // why the levels of the last run are not known; "" if they are

	mu      sync.Mutex
	names   []string // the outputs whose levels are kept
	known   map[string]Level
	pending []string // names in known whose levels are not written yet
}

// newLevelJournal reads the levels of the last run. If they cannot be read completely,
// none is known, and each of these outputs has a fault until its level is written again.
func newLevelJournal(o Options) *levelJournal {
	j := &levelJournal{health: o.Health, known: map[string]Level{}, wake: wake.New()}
	if o.Levels == nil {
		return j
	}
	j.journal = journal.New(o.Levels)
	damage, err := j.journal.Read(func(entry []byte) bool {
		var e levelEntry
		if json.Unmarshal(entry, &e) != nil || e.Output == "" {
			return false
		}
		j.known[e.Output] = e.Level
		return true
	})
	switch {
	case err != nil:
		j.damage = err.Error()
	case damage.Any():
		j.damage = "part of the file is damaged"
	}
	if j.damage != "" {
		clear(j.known)
	}
	j.keep(o.Outputs)
	return j
}

// keep sets the outputs of which those with initial: last are kept.
func (j *levelJournal) keep(outputs []Config) {
	if j.journal == nil {
		return
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	before := j.names
	j.names = nil
	for _, c := range outputs {
		if c.Initial != InitialLast {
			continue
		}
		j.names = append(j.names, c.Name)
		if _, known := j.known[c.Name]; !known && j.damage != "" && !slices.Contains(before, c.Name) {
			j.health.Raise(health.LevelUnknown, c.Name, j.damage)
		}
	}
	for _, name := range before {
		if !slices.Contains(j.names, name) {
			j.health.Clear(health.LevelUnknown, name)
		}
	}
}

// get returns the level of an output when the last run ended.
func (j *levelJournal) get(name string) (Level, bool) {
	j.mu.Lock()
	defer j.mu.Unlock()
	v, ok := j.known[name]
	return v, ok
}

// set stores a level. It does not wait for the disk.
func (j *levelJournal) set(name string, v Level) {
	j.mu.Lock()
	if !slices.Contains(j.names, name) {
		j.mu.Unlock()
		return
	}
	j.known[name] = v
	if !slices.Contains(j.pending, name) {
		j.pending = append(j.pending, name)
	}
	j.mu.Unlock()
	j.wake.Set()
}

// run writes the levels of set until ctx ends, and then the remaining ones.
func (j *levelJournal) run(ctx context.Context) {
	journal.Keep(ctx, j.wake.C(), func(bool) time.Duration {
		if j.writePending() {
			return 0
		}
		return retryMost
	})
}

// writePending writes what is pending. It returns false if that fails, and it stays
// pending.
func (j *levelJournal) writePending() bool {
	j.mu.Lock()
	pending := j.pending
	j.pending = nil
	entries := make([][]byte, 0, len(pending))
	for _, name := range pending {
		entries = append(entries, j.encodeLocked(name))
	}
	all := j.encodeAllLocked()
	j.mu.Unlock()
	if len(pending) == 0 {
		return true
	}
	if err := j.journal.Write(maxLevels, slices.Values(all), entries...); err != nil {
		j.health.Raise(health.LevelUnsaved, "outputs", err.Error())
		j.mu.Lock()
		for _, name := range pending {
			if !slices.Contains(j.pending, name) {
				j.pending = append(j.pending, name)
			}
		}
		j.mu.Unlock()
		return false
	}
	j.health.Clear(health.LevelUnsaved, "outputs")
	for _, name := range pending {
		j.health.Clear(health.LevelUnknown, name)
	}
	return true
}

// encodeLocked encodes one level.
func (j *levelJournal) encodeLocked(name string) []byte {
	b, err := json.Marshal(levelEntry{name, j.known[name]})
	if err != nil {
		panic(err) // cannot happen: a string and a word
	}
	return b
}

// encodeAllLocked encodes all known levels that are kept.
func (j *levelJournal) encodeAllLocked() [][]byte {
	var all [][]byte
	for _, name := range j.names {
		if _, ok := j.known[name]; ok {
			all = append(all, j.encodeLocked(name))
		}
	}
	return all
}
