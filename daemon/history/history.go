package history

import (
	"log/slog"
	"maps"
	"math"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"fieldpost/daemon/clock"
	"fieldpost/daemon/health"
	"fieldpost/daemon/message"
)

// Sensor is a sensor of the configuration.
type Sensor struct {
	Name string
	// Every is how long a healthy sensor may give no reading. A longer time without one is a
	// gap.
	Every time.Duration
}

// Where history is kept.
const (
	OnDisk   = "disk"
	InMemory = "memory"
	Nowhere  = "none"
)

// Settings are what a configuration says of the history.
type Settings struct {
	Keep    string // one of the constants above
	Most    int    // how many quantities are kept at most, from 1
	Sensors []Sensor
}

// Options are what a [Store] needs.
type Options struct {
	Settings
	Files  Files
	Clock  clock.Clock
	Health *health.Health // may be nil
	Log    *slog.Logger   // nil discards
}

// Store keeps the history. Make one with [New]. Run is for one goroutine; any may call the
// other methods.
type Store struct {
	o    Options     // without its settings
	on   atomic.Bool // history is kept
	disk disk        // Run's, after New

	mu      sync.Mutex
	keep    string
	unsaved string // why the disk does not have it; "" if it does
	sensors map[string]*sensor
	most    int // series
	series  int
	// The wall time of points of the present boot is their time since the boot and shift.
	// It changes only with a step of the clock, so that a point keeps its time from answer to
	// answer.
	shift  int64 // in seconds
	known  bool  // there is a shift
	synced bool  // by a clock that was true
	now    uint32
}

// sensor is the history of a sensor.
type sensor struct {
	every      time.Duration
	configured bool
	series     []*series // in the order in which they came
}

// New returns a store, with the history that is on disk.
func New(o Options) *Store {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	h := &Store{o: o, sensors: map[string]*sensor{}, disk: disk{files: o.Files}}
	h.Configure(o.Settings)
	h.o.Settings = Settings{}
	if h.toDisk() {
		if err := h.openFiles(); err != nil {
			o.Log.Debug("the history cannot be read yet", "err", err)
		}
	}
	return h
}

// Configure has the store go by other settings. The history of sensors that are no longer
// there stays until its memory is needed.
func (h *Store) Configure(c Settings) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.keep, h.most = c.Keep, c.Most
	h.on.Store(c.Keep == OnDisk || c.Keep == InMemory)
	if !h.on.Load() {
		h.sensors, h.series = map[string]*sensor{}, 0
	}
	if h.keep != OnDisk {
		h.unsaved = ""
		h.o.Health.Clear(health.HistoryUnsaved, Subject)
	}
	for _, s := range h.sensors {
		s.configured = false
	}
	for _, c := range c.Sensors {
		s := h.sensors[c.Name]
		if s == nil {
			s = &sensor{}
			h.sensors[strings.Clone(c.Name)] = s
		}
		s.every, s.configured = c.Every, true
	}
	for h.series > h.most {
		h.dropLocked(func(*sensor, *series) bool { return true })
	}
	maps.DeleteFunc(h.sensors, func(_ string, s *sensor) bool { return !s.configured && len(s.series) == 0 })
}

// Kept returns where the history is kept, and why the disk does not have it; "" if it does.
func (h *Store) Kept() (where, unsaved string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.keep, h.unsaved
}

// toDisk reports whether the history is written to disk.
func (h *Store) toDisk() bool {
	where, _ := h.Kept()
	return where == OnDisk
}

// setUnsaved stores why the disk does not have the history, or that it has.
func (h *Store) setUnsaved(err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.unsaved = ""
	if err != nil && h.keep == OnDisk {
		h.unsaved = err.Error()
	}
}

// Record adds a reading or an edge; it ignores all others. Numbers and truth values are kept,
// texts and the number of an edge's changes are not. It allocates nothing unless a quantity
// is new. A store that is nil keeps nothing.
func (h *Store) Record(r message.Record) {
	if h == nil || !h.on.Load() || r.Kind != message.Reading && r.Kind != message.Edge {
		return
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	s := h.sensors[r.Sensor]
	if s == nil || !s.configured {
		return // it was removed while it was read
	}
	h.learnLocked(r.Stamp)
	at := secondsOf(r.Stamp.Mono)
	for i, f := range r.Fields {
		v, number := numberOf(f.Value)
		_, level := f.Value.(bool)
		if !number || r.Kind == message.Edge && !level {
			continue
		}
		q := h.seriesLocked(s, i, f.Name, v)
		switch {
		case q == nil:
		case r.Kind == message.Edge:
			q.change(at, v)
		default:
			q.add(at, v)
		}
	}
}

// seriesLocked finds or makes the series of a quantity, which mostly is the sensor's ith; nil
// if there is no room for it.
func (h *Store) seriesLocked(s *sensor, i int, quantity string, value float64) *series {
	if i < len(s.series) && s.series[i].quantity == quantity {
		return s.series[i]
	}
	for _, q := range s.series {
		if q.quantity == quantity {
			return q
		}
	}
	if h.series >= h.most && !h.evictLocked() {
		return nil
	}
	q := newSeries(strings.Clone(quantity), value)
	s.series = append(s.series, q)
	h.series++
	return q
}

// unused is how many seconds the history of a quantity that no longer comes is safe.
const unused = 7 * 24 * 60 * 60

// evictLocked drops a series whose sensor is no longer configured, or that has been without
// values for more than a week. It reports whether there was one.
func (h *Store) evictLocked() bool {
	return h.dropLocked(func(s *sensor, q *series) bool { return !s.configured || h.now-q.latest > unused })
}

// dropLocked drops that one of some series that has been without values for the longest time.
// It reports whether there was one.
func (h *Store) dropLocked(some func(*sensor, *series) bool) bool {
	var of *sensor
	var which *series
	for _, s := range h.sensors {
		for _, q := range s.series {
			if some(s, q) && (which == nil || sooner(s, q, of, which)) {
				of, which = s, q
			}
		}
	}
	if which == nil {
		return false
	}
	of.series = slices.DeleteFunc(of.series, func(q *series) bool { return q == which })
	h.series--
	return true
}

// sooner reports whether the first of two series is to be dropped before the second: that of
// a sensor that is no longer configured, then the one without values for longer.
func sooner(s *sensor, q *series, of *sensor, than *series) bool {
	if s.configured != of.configured {
		return !s.configured
	}
	return q.latest < than.latest
}

// learnLocked learns from a stamp what time it is. A clock that is true is believed, and
// then no other.
func (h *Store) learnLocked(now clock.Stamp) {
	h.now = max(h.now, secondsOf(now.Mono))
	if h.synced && !now.Synced {
		return
	}
	shift := now.Wall.Add(-now.Mono).Round(time.Second).Unix()
	if !h.known || now.Synced && !h.synced || shift > h.shift+1 || shift < h.shift-1 {
		h.shift, h.known, h.synced = shift, true, now.Synced
	}
}

// wallLocked returns the wall time of a point, in seconds since 1970.
func (h *Store) wallLocked(at uint32) int64 {
	if at < wallFirst {
		return int64(at) + h.shift
	}
	return int64(at)
}

// secondsOf returns the seconds of a time since the boot.
func secondsOf(mono time.Duration) uint32 {
	return uint32(min(max(mono/time.Second, 0), wallFirst-1))
}

// numberOf returns a value as a number that can be kept.
func numberOf(v any) (x float64, ok bool) {
	switch v := v.(type) {
	case float64:
		x = v
	case int64:
		x = float64(v)
	case bool:
		if v {
			x = 1
		}
	default:
		return 0, false
	}
	return x, !math.IsNaN(x) && math.Abs(x) <= math.MaxFloat32/2
}
