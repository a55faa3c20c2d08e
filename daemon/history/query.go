package history

import (
	"cmp"
	"math"
	"slices"
	"sort"
	"time"

	"fieldpost/daemon/clock"
)

// Query asks for the points of one quantity, or of all quantities of a sensor.
type Query struct {
	Sensor   string
	Quantity string // "" is all of the sensor
	// Since and Until bound the times of points, in seconds since 1970. Both are included.
	Since, Until int64
	// Points is the most points of a quantity, from 1. More are merged.
	Points int
}

// Series is the history of a quantity.
type Series struct {
	Sensor, Quantity string
	First, Last      time.Time // of the time in which there are values
	Step             time.Duration
	Points           []Point // oldest first
}

// Point is the summary of the values from a time on, for as long as Step of its series says;
// older ones may stand for a longer time. With a Gap it has no values, and says that the
// sensor gave none.
type Point struct {
	At             int64 // in seconds since 1970
	Mean, Min, Max float64
	Gap            bool
}

// spanned is a point with the length of its step in seconds.
type spanned struct {
	Point
	step int64
}

// List returns what there is, without points, by sensor. A store that is nil has nothing.
func (h *Store) List(now clock.Stamp) (all []Series) {
	if h == nil {
		return nil
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.learnLocked(now)
	for name, s := range h.sensors {
		for _, q := range s.series {
			all = append(all, h.boundsLocked(name, q))
		}
	}
	sort.SliceStable(all, func(i, j int) bool { return all[i].Sensor < all[j].Sensor })
	return all
}

// boundsLocked returns a series without points.
func (h *Store) boundsLocked(name string, q *series) Series {
	out := Series{Sensor: name, Quantity: q.quantity}
	first, last := int64(math.MaxInt64), int64(math.MinInt64)
	for i := range q.rings {
		for p := range q.rings[i].all() {
			at := h.wallLocked(p.at)
			first, last = min(first, at), max(last, at)
		}
	}
	if first <= last {
		out.First, out.Last = time.Unix(first, 0).UTC(), time.Unix(last, 0).UTC()
	}
	return out
}

// all yields the points from the oldest on, and the step that is open.
func (r *ring) all() func(yield func(point) bool) {
	return func(yield func(point) bool) {
		for i := r.added - r.len(); i < r.added; i++ {
			if !yield(r.get(i)) {
				return
			}
		}
		if r.open.filled {
			yield(r.open.point())
		}
	}
}

// Find returns the points that a query asks for; the quantities are in the order in which the
// sensor gives them. known is false if the store has nothing of that sensor or quantity. It
// uses the finest ring that reaches back to Since, and coarser ones for what that one does
// not have, such as the time before a restart. Points of a wrong clock that lie in the future
// are after Until, and do no harm.
func (h *Store) Find(q Query, now clock.Stamp) (all []Series, known bool) {
	if h == nil {
		return nil, false
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.learnLocked(now)
	s := h.sensors[q.Sensor]
	if s == nil {
		return nil, false
	}
	for _, of := range s.series {
		if q.Quantity != "" && q.Quantity != of.quantity {
			continue
		}
		out := h.boundsLocked(q.Sensor, of)
		finest := h.finestLocked(q.Since)
		step := int64(tiers[finest].step)
		found := h.collectLocked(of, finest, q.Since, q.Until)
		if width := mergeWidth(q, step); width > step {
			found, step = merged(found, width), width
		}
		out.Step = time.Duration(step) * time.Second
		out.Points = withGaps(found, int64(s.every/time.Second))
		all = append(all, out)
	}
	return all, all != nil
}

// mergeWidth returns how long points have to be in seconds, so that a query gets no more of
// them than it asks for.
func mergeWidth(q Query, step int64) int64 {
	most := int64(max(q.Points, 1))
	width := max((q.Until-q.Since)/most+1, step)
	return (width + step - 1) / step * step
}

// finestLocked returns the finest tier that reaches back to a time. A step more or less does
// not matter: an hour ago, when asked a moment later, is an hour ago.
func (h *Store) finestLocked(since int64) int {
	age := int64(h.now) + h.shift - since
	for i, t := range tiers {
		if age <= int64(t.step)*int64(t.size+1) {
			return i
		}
	}
	return len(tiers) - 1
}

// collectLocked returns the points of a time, oldest first: those of a tier, and what is
// older of the coarser ones.
func (h *Store) collectLocked(q *series, finest int, since, until int64) (found []spanned) {
	oldest, reaches := int64(math.MaxInt64), int64(0)
	for i := finest; i < len(tiers); i++ {
		r, before, step := &q.rings[i], oldest, int64(tiers[i].step)
		for p := range r.all() {
			at := h.wallLocked(p.at)
			oldest = min(oldest, at)
			if at+reaches*step > before || at >= before || at < since || at > until {
				continue
			}
			found = append(found, spanned{Point{At: at, Mean: q.value(p.mean), Min: q.value(p.min), Max: q.value(p.max)}, step})
		}
		// A coarser point that reaches into this ring stands for more than that, if the ring
		// has not everything there was.
		reaches = 1
		if q.restored || r.added > r.len() {
			reaches = 0
		}
	}
	slices.SortStableFunc(found, func(a, b spanned) int { return cmp.Compare(a.At, b.At) })
	return merged(found, 1) // boots with wrong clocks may have had the same time
}

// merged merges the points of each width seconds. Their mean is that of the means.
func merged(all []spanned, width int64) (out []spanned) {
	n := 0.0
	for _, p := range all {
		at := p.At - p.At%width
		if len(out) == 0 || out[len(out)-1].At != at {
			p.At, p.step, n = at, max(p.step, width), 1
			out = append(out, p)
			continue
		}
		last := &out[len(out)-1]
		n++
		last.Mean += (p.Mean - last.Mean) / n
		last.Min, last.Max, last.step = min(last.Min, p.Min), max(last.Max, p.Max), max(last.step, p.step)
	}
	return out
}

// withGaps puts a point without values wherever the sensor gave none for more than twice as
// long as it may.
func withGaps(all []spanned, every int64) (out []Point) {
	for i, p := range all {
		if i > 0 {
			before := all[i-1]
			if ends := before.At + before.step; p.At-ends > 2*max(before.step, every) {
				out = append(out, Point{At: ends, Gap: true})
			}
		}
		out = append(out, p.Point)
	}
	return out
}
