package history

import "math"

// tier is the resolution of a ring: the length of its points in seconds, and how many it
// has.
type tier struct{ step, size uint32 }

// The rings of a series: an hour, a day and a week.
var tiers = [...]tier{{10, 360}, {600, 144}, {1800, 336}}

// points is the number of points of all rings of a series.
const points = 360 + 144 + 336

// SeriesBytes is the memory that a series takes for its points.
const SeriesBytes = points * 16

// wallFirst separates the two kinds of times of a point. Seconds below are since the boot
// (34 years), others since 1970 (from 2004 on).
const wallFirst = 1 << 30

// point is the summary of the values of one step. Values are less the base of their series,
// so that a large total has its last digits.
type point struct {
	at             uint32 // when the step begins, see wallFirst
	mean, min, max float32
}

// summary collects the values of a step.
type summary struct {
	at       uint32 // when the step begins
	filled   bool   // there are values
	count    uint32 // of polled values
	sum      float64
	last     float32 // the latest value; stands for the mean if no value was polled
	min, max float32
}

func (s *summary) add(min, max, last float32, sum float64, count uint32) {
	if !s.filled {
		s.filled, s.min, s.max = true, min, max
	}
	s.min, s.max, s.last = minOf(s.min, min), maxOf(s.max, max), last
	s.sum += sum
	s.count += count
	if s.count < count { // never in ten minutes
		s.count = math.MaxUint32
	}
}

// point returns what is stored of the step.
func (s *summary) point() point {
	mean := s.last
	if s.count > 0 {
		mean = float32(s.sum / float64(s.count))
	}
	return point{s.at, minOf(maxOf(mean, s.min), s.max), s.min, s.max}
}

// minOf and maxOf are for finite numbers.
func minOf(a, b float32) float32 {
	if b < a {
		return b
	}
	return a
}

func maxOf(a, b float32) float32 {
	if b > a {
		return b
	}
	return a
}

// ring holds the newest points of a series at one resolution, and the step that is not over.
type ring struct {
	points []point // its memory, all of it
	added  uint64  // how many points were ever added
	saved  uint64  // how many of these are on disk, or never need to be
	weight uint32  // how many values the latest point has
	open   summary
}

// add puts values into the step that begins at. It ends the step before. Values of this boot
// from a step that is over count as of the present one: the kernel's stamp of an edge may be a
// moment older than a reading.
func (r *ring) add(at uint32, min, max, last float32, sum float64, count uint32) {
	late := at < r.open.at && r.open.at < wallFirst
	if r.open.filled && at != r.open.at && !late {
		r.close()
	}
	if !r.open.filled {
		r.open.at = at
	}
	r.open.add(min, max, last, sum, count)
}

// close ends the step that is open.
func (r *ring) close() {
	if r.open.filled {
		r.points[r.added%uint64(len(r.points))] = r.open.point()
		r.added++
		r.weight = r.open.count
	}
	r.open = summary{}
}

// len returns how many points there are, without the step that is open.
func (r *ring) len() uint64 { return min(r.added, uint64(len(r.points))) }

// get returns the point of a number, from added-len on.
func (r *ring) get(i uint64) point { return r.points[i%uint64(len(r.points))] }

// series is the history of one quantity.
type series struct {
	quantity string
	base     float64
	restored bool   // it has points of an earlier run
	latest   uint32 // when its latest value was taken, in seconds since the boot; 0: in an earlier one
	rings    [len(tiers)]ring
}

// newSeries makes the history of a quantity that begins near base. It is the only place where
// history takes memory for points.
func newSeries(quantity string, base float64) *series {
	s := &series{quantity: quantity, base: base}
	all := make([]point, points)
	for i, t := range tiers {
		s.rings[i].points, all = all[:t.size:t.size], all[t.size:]
	}
	return s
}

// add puts a value into all rings. at is the time since the boot in seconds.
func (s *series) add(at uint32, value float64) {
	v := float32(value - s.base)
	s.latest = at
	for i, t := range tiers {
		s.rings[i].add(at-at%t.step, v, v, v, float64(v), 1)
	}
}

// change puts the change of an input into all rings: it had both levels. The mean is that of
// the polled levels; otherwise an input that chatters for a second would outweigh them.
func (s *series) change(at uint32, level float64) {
	low, high, v := float32(0-s.base), float32(1-s.base), float32(level-s.base)
	s.latest = at
	for i, t := range tiers {
		s.rings[i].add(at-at%t.step, low, high, v, 0, 0)
	}
}

// value returns a value of a point as it was taken. A float32 has 24 bits of it less the
// base; what is beyond these is rounded off.
func (s *series) value(v float32) float64 {
	if v == 0 {
		return s.base
	}
	_, exp := math.Frexp(float64(v))
	ulp := math.Ldexp(1, exp-24)
	scale := math.Pow10(-int(math.Ceil(math.Log10(ulp))))
	x := float64(v) + s.base
	if scale < 1 || math.Abs(x*scale) > 1<<53 {
		return x
	}
	return math.Round(x*scale) / scale
}
