package history

import (
	"math"
	"slices"
	"strings"
	"sync"
	"time"

	"fieldpost/daemon/clock"
	"fieldpost/daemon/message"
)

// Sensor is a sensor of the configuration.
type Sensor struct {
	Name string
	// Every is how long a healthy sensor may give no reading. A longer time without one is a
	// gap.
	Every time.Duration
}

// Store keeps the history. Make one with [New]. Any goroutine may call its methods.
type Store struct {
	mu      sync.Mutex
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

// DefaultSeries is how many quantities are kept at most.
const DefaultSeries = 64

// New returns a store without history, of that many quantities at most.
func New(most int) *Store { return &Store{sensors: map[string]*sensor{}, most: most} }

// Configure says which sensors there are. The history of others stays until its memory is
// needed.
func (h *Store) Configure(sensors []Sensor) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, s := range h.sensors {
		s.configured = false
	}
	for _, c := range sensors {
		s := h.sensors[c.Name]
		if s == nil {
			s = &sensor{}
			h.sensors[strings.Clone(c.Name)] = s
		}
		s.every, s.configured = c.Every, true
	}
}

// Record adds a reading or an edge; it ignores all others. Numbers and truth values are kept,
// texts and the number of an edge's changes are not. It allocates nothing unless a quantity
// is new.
func (h *Store) Record(r message.Record) {
	if r.Kind != message.Reading && r.Kind != message.Edge {
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

// evictLocked drops the series that has been without values for the longest time, if its
// sensor is no longer configured or the time is more than a week. It reports whether there is
// room.
func (h *Store) evictLocked() bool {
	var of *sensor
	var which *series
	for _, s := range h.sensors {
		for _, q := range s.series {
			if (!s.configured || h.now-q.latest > unused) && (which == nil || q.latest < which.latest) {
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
