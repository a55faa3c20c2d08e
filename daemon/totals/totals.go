// Package totals keeps the totals of counters over restarts.
//
// A reading never has a total that is not on disk. So after a kill or a power cut no total is
// lower than one that was sent, and none is higher than what was counted. What was counted
// since the last write is lost then, about a minute of pulses; the reading's number of gaps
// says that pulses may have been missed.
//
// A counter's total is written when the counter is read, about once a minute at most, and at
// the end. Totals of counters that are read together share a write, an append to a journal
// with one sync. Nobody waits long for the disk: if it does not take a total in time, the
// readings have the total before.
package totals

import (
	"context"
	"encoding/json"
	"fmt"
	"iter"
	"log/slog"
	"slices"
	"strconv"
	"sync"
	"time"

	"fieldpost/daemon/health"
	"fieldpost/daemon/journal"
	"fieldpost/daemon/wake"
	"fieldpost/sensors"
)

const (
	// saveEvery is how often a counter's total is written at most. It is shorter than a
	// minute, so that a counter that is read every minute has its total in each reading.
	saveEvery = 50 * time.Second
	// patience is how long a reading waits for the disk.
	patience = 500 * time.Millisecond
	// large is the size of the journal from which on it is rewritten.
	large = 64 << 10
	// keptUnused is how many totals are kept of counters that are no longer configured.
	keptUnused = 256
)

// Meter says what a counter counts.
type Meter struct {
	Name     string  // the sensor's
	Line     string  // label:offset
	Measures string  // what the pulses stand for
	PerPulse float64 // what one stands for
	Start    float64 // the total at which it begins
}

// Options are what a [Store] needs.
type Options struct {
	Storage journal.Storage
	Health  *health.Health // may be nil
	Log     *slog.Logger   // nil discards
}

// Store holds the totals. Make one with [New]. Run is for one goroutine; the other methods
// may be called from any.
type Store struct {
	o       Options
	journal *journal.Journal // Run's, after New
	wake    wake.Signal

	mu       sync.Mutex
	names    []string   // of the sensors that are configured
	read     bool       // the journal has been
	damaged  bool       // and had holes
	renamed  bool       // the journal has a total under a name before
	counters []*counter // in the order of their first entry
	asked    uint64     // writes that were asked for
	answered uint64     // of those, how many have been tried
	tried    chan struct{}
}

// record is a total as it is on disk, in JSON.
type record struct {
	Name     string  `json:"name"`
	Line     string  `json:"line"`
	Measures string  `json:"measures"`
	PerPulse float64 `json:"per_pulse"`
	Start    float64 `json:"start"`
	// Base is the amount at the count Base. Pulses since then stand for PerPulse each.
	Base  float64 `json:"base"`
	From  uint64  `json:"from"`
	Count uint64  `json:"count"`
	Gaps  uint64  `json:"gaps"`
}

// amount returns what the pulses stand for.
func (r record) amount() float64 { return r.Base + float64(r.Count-r.From)*r.PerPulse }

func (r record) total() sensors.Total {
	return sensors.Total{Count: r.Count, Amount: tidy(r.amount()), Gaps: r.Gaps}
}

// counter is one total. Before the journal was read, now has only what was counted since.
type counter struct {
	now   record
	disk  record    // what is on disk
	saved bool      // something is
	last  time.Time // when it was written
	meter *Meter    // begun before the journal was read
}

// New returns a store, and reads the journal if that is possible already.
func New(o Options) *Store {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	s := &Store{o: o, journal: journal.New(o.Storage), wake: wake.New(), tried: make(chan struct{})}
	if err := s.readJournal(); err != nil {
		o.Log.Debug("the totals of counters cannot be read yet", "err", err)
	}
	return s
}

// Configure says which sensors are configured. A counter with a new name, on the line of one
// that is no longer configured, continues its total.
func (s *Store) Configure(names []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.names = slices.Clone(names)
}

// Begin says that a counter begins to count. If it has counted before, pulses may have been
// missed since.
func (s *Store) Begin(m Meter) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.read {
		s.beginLocked(m)
		return
	}
	c := s.findLocked(m.Name)
	if c == nil {
		c = &counter{now: record{Name: m.Name}}
		s.counters = append(s.counters, c)
	} else {
		c.now.Gaps++
	}
	c.meter = &m
}

// beginLocked finds or makes the total of a counter.
func (s *Store) beginLocked(m Meter) *counter {
	fresh := record{Name: m.Name, Line: m.Line, Measures: m.Measures, PerPulse: m.PerPulse, Start: m.Start, Base: m.Start}
	c := s.findLocked(m.Name)
	if c == nil {
		c = s.renamedLocked(m)
	}
	switch {
	case c == nil:
		c = &counter{now: fresh}
		s.pruneLocked()
		s.counters = append(s.counters, c)
		if s.damaged {
			c.now.Gaps++
		}
	case c.now.Start != m.Start || c.now.Measures != m.Measures:
		s.o.Log.Info("a total begins again, because start or measures was changed", "sensor", m.Name, "before", c.now.total().Amount, "start", m.Start)
		c.now = fresh
		return c
	default:
		c.now.Name, c.now.Line = m.Name, m.Line
		c.now.Gaps++
		if c.now.PerPulse != m.PerPulse { // for the pulses from now on
			c.now.Base, c.now.From, c.now.PerPulse = c.now.amount(), c.now.Count, m.PerPulse
		}
	}
	if s.damaged {
		s.o.Health.Raise(health.TotalDamaged, m.Name, fmt.Sprintf("it goes on from %v", c.now.total().Amount))
	}
	return c
}

// renamedLocked returns the total of a counter on the same line that is no longer
// configured.
func (s *Store) renamedLocked(m Meter) *counter {
	for _, c := range slices.Backward(s.counters) {
		if c.now.Line == m.Line && c.now.Measures == m.Measures && !slices.Contains(s.names, c.now.Name) {
			s.o.Log.Info("a counter was renamed and continues its total", "sensor", m.Name, "before", c.now.Name)
			s.renamed = true
			return c
		}
	}
	return nil
}

// pruneLocked drops the oldest total that nobody uses, if there are too many.
func (s *Store) pruneLocked() {
	unused := func(c *counter) bool { return !slices.Contains(s.names, c.now.Name) }
	n := 0
	for _, c := range s.counters {
		if unused(c) {
			n++
		}
	}
	if i := slices.IndexFunc(s.counters, unused); n > keptUnused {
		s.counters = slices.Delete(s.counters, i, i+1)
	}
}

func (s *Store) findLocked(name string) *counter {
	for _, c := range s.counters {
		if c.now.Name == name {
			return c
		}
	}
	return nil
}

// Add adds pulses to a counter that has begun. uncertain says that there may have been more.
func (s *Store) Add(name string, pulses uint64, uncertain bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	c := s.findLocked(name)
	if c == nil {
		return
	}
	c.now.Count += pulses
	if uncertain {
		c.now.Gaps++
	}
}

// Saved returns the total of a counter that is on disk; known is false if none is, because
// the disk cannot be read or written. If it is time to write the total, Saved has it
// written first, and waits for that for half a second at most.
func (s *Store) Saved(name string) (total sensors.Total, known bool) {
	if done := s.ask(name); done != nil {
		late := time.NewTimer(patience)
		defer late.Stop()
		for waits := true; waits; {
			tried, over := done()
			if over {
				break
			}
			select {
			case <-tried:
			case <-late.C:
				waits = false
			}
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if c := s.findLocked(name); c != nil && c.saved {
		return c.disk.total(), true
	}
	return sensors.Total{}, false
}

// ask asks for a write, if a total is to be written now. done says whether the write has
// been tried, and otherwise gives a channel that is closed at the next try.
func (s *Store) ask(name string) (done func() (<-chan struct{}, bool)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	c := s.findLocked(name)
	if c == nil || c.saved && (c.now == c.disk || time.Since(c.last) < saveEvery) {
		return nil
	}
	s.asked++
	mine := s.asked
	s.wake.Set()
	return func() (<-chan struct{}, bool) {
		s.mu.Lock()
		defer s.mu.Unlock()
		return s.tried, s.answered >= mine
	}
}

// Run writes the totals until ctx ends, and then once more.
func (s *Store) Run(ctx context.Context) error {
	journal.Keep(ctx, s.wake.C(), func(last bool) time.Duration {
		s.write(last)
		return 0
	})
	return nil
}

// write writes the totals that have changed, if that was asked for.
func (s *Store) write(last bool) {
	s.mu.Lock()
	covers := s.asked
	idle := covers == s.answered && (!last || len(s.counters) == 0)
	s.mu.Unlock()
	if idle {
		return
	}
	err := s.save()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.answered = covers
	close(s.tried)
	s.tried = make(chan struct{})
	if err != nil && last {
		s.o.Log.Warn("the last pulses of counters are not stored", "err", err)
	}
}

// save writes the totals that differ from those on disk.
func (s *Store) save() error {
	err := s.readJournal()
	if err != nil {
		s.failed(err)
		return err
	}
	all, changed, renamed := s.changes()
	switch {
	case len(changed) == 0:
		return nil
	case renamed: // an entry under the name before must not be found any more
		err = s.journal.Rewrite(encoded(all))
	default:
		err = s.journal.Write(large, encoded(all), slices.Collect(encoded(changed))...)
	}
	if err != nil {
		s.failed(err)
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.renamed = s.renamed && !renamed
	now := time.Now()
	for _, r := range changed {
		if c := s.findLocked(r.Name); c != nil { // unless it was renamed meanwhile
			c.disk, c.saved, c.last = r, true, now
		}
		s.o.Health.Clear(health.TotalUnsaved, r.Name)
	}
	return nil
}

// changes returns all totals, those that differ from what is on disk, and whether one was
// renamed.
func (s *Store) changes() (all, changed []record, renamed bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, c := range s.counters {
		all = append(all, c.now)
		if !c.saved || c.now != c.disk {
			changed = append(changed, c.now)
		}
	}
	return all, changed, s.renamed
}

// failed raises the fault of each counter whose total is not on disk.
func (s *Store) failed(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, c := range s.counters {
		if (!c.saved || c.now != c.disk) && slices.Contains(s.names, c.now.Name) {
			s.o.Health.Raise(health.TotalUnsaved, c.now.Name, err.Error())
		}
	}
}

// readJournal reads the journal, unless that was done.
func (s *Store) readJournal() error {
	if s.journal.WasRead() {
		return nil
	}
	var found []*counter
	damage, err := s.journal.Read(func(entry []byte) bool {
		var r record
		if json.Unmarshal(entry, &r) != nil || r.Name == "" || r.From > r.Count {
			return false
		}
		found = slices.DeleteFunc(found, func(c *counter) bool { return c.now.Name == r.Name })
		found = append(found, &counter{now: r, disk: r, saved: true})
		return true
	})
	if err != nil {
		return err
	}
	if damage.Any() {
		s.o.Log.Warn("totals of counters were damaged", "places", damage.Holes, "tail", damage.Tail)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	begun := s.counters
	s.counters, s.read, s.damaged = found, true, damage.Holes > 0
	for _, b := range begun { // while the disk could not be read
		c := s.beginLocked(*b.meter)
		c.now.Count += b.now.Count
		c.now.Gaps += b.now.Gaps
	}
	return nil
}

// encoded returns totals as they are on disk.
func encoded(records []record) iter.Seq[[]byte] {
	return func(yield func([]byte) bool) {
		for _, r := range records {
			b, err := json.Marshal(r)
			if err != nil { // it has only numbers and texts
				panic(err)
			}
			if !yield(b) {
				return
			}
		}
	}
}

// tidy rounds to 12 significant digits: 0.1 added three times is 0.3.
func tidy(x float64) float64 {
	if y, err := strconv.ParseFloat(strconv.FormatFloat(x, 'g', 12, 64), 64); err == nil {
		return y
	}
	return x
}
