package history

import (
	"math"

	"fieldpost/daemon/clock"
)

// loading restores the history from entries. They come in the order in which they were
// written. An entry may be there twice, after a write that failed; and the last point of a
// stop is there again, with more values, if the next run began within its step. So a point
// that comes again replaces the one before, and one that is older than what came from its
// boot is not new.
type loading struct {
	h      *Store
	boot   string           // the present one
	now    uint32           // seconds since it
	shifts map[string]int64 // the shift of each boot whose clock was right in the end
	points map[*series]*[len(tiers)]lastPoint
	lost   int // points whose time will never be known
}

// lastPoint is the last point that was read of a ring. It waits until it cannot be replaced.
type lastPoint struct {
	counted
	any  bool
	boot string
	raw  uint32 // its time since that boot
}

func newLoading(h *Store, now clock.Stamp) *loading {
	return &loading{h: h, boot: now.Boot, now: secondsOf(now.Mono), shifts: map[string]int64{}, points: map[*series]*[len(tiers)]lastPoint{}}
}

// learn learns from an entry when its boot was. It is called for all entries first.
func (l *loading) learn(h header) {
	if h.synced && h.boot != "" {
		l.shifts[h.boot] = h.shift
	}
}

// take restores the points of an entry. It reports whether the entry is whole. Its caller
// holds the store's mu.
func (l *loading) take(entry []byte) bool {
	head, d, known := decodeHeader(entry)
	if !known {
		return false
	}
	present := head.boot != "" && head.boot == l.boot
	shift, right := l.shifts[head.boot]
	for {
		r, ok := decodeSeries(&d)
		if !ok {
			return !d.Bad
		}
		var s *series
		before := point{}
		for range r.points {
			p := decodePoint(&d, head.ring, r.weight, before)
			if d.Bad {
				return false
			}
			before = p.point
			wall := int64(p.at) + shift
			if !present && (!right || wall < wallFirst || wall > math.MaxUint32-int64(tiers[len(tiers)-1].step)) {
				l.lost++
				continue
			}
			if s == nil {
				if s = l.series(r); s == nil {
					continue // no room
				}
			}
			raw := p.at
			if !present {
				p.at = uint32(wall)
			}
			move := float32(r.base - s.base)
			p.mean, p.min, p.max = p.mean+move, p.min+move, p.max+move
			l.put(s, head.ring, lastPoint{p, true, head.boot, raw})
		}
	}
}

// series finds or makes the series of an entry; nil if there is no room for it.
func (l *loading) series(r readSeries) *series {
	s := l.h.sensors[string(r.sensor)]
	fresh := s == nil
	if fresh {
		s = &sensor{}
	}
	q := l.h.seriesLocked(s, len(s.series), string(r.quantity), r.base)
	if q == nil {
		return nil
	}
	if fresh {
		l.h.sensors[string(r.sensor)] = s
	}
	q.restored = true
	if l.points[q] == nil {
		l.points[q] = new([len(tiers)]lastPoint)
	}
	return q
}

// put takes a point of a ring.
func (l *loading) put(s *series, ring int, p lastPoint) {
	last := &l.points[s][ring]
	if last.any && last.boot == p.boot {
		if p.raw < last.raw {
			return
		}
		if p.raw == last.raw {
			*last = p
			return
		}
	}
	l.commit(s, ring, *last)
	*last = p
}

// commit adds a point that cannot be replaced any more.
func (l *loading) commit(s *series, ring int, p lastPoint) {
	if !p.any {
		return
	}
	l.open(s, ring, p)
	s.rings[ring].close()
}

// open puts a point into its ring, as the step that is not over, and into the coarser ones.
func (l *loading) open(s *series, ring int, p lastPoint) {
	for i := ring; i < len(tiers); i++ {
		at := p.at - p.at%tiers[i].step
		if i == ring {
			at = p.at
			if s.rings[i].open.at == at { // it has what finer points have given of it
				s.rings[i].open = summary{}
			}
			s.rings[i].close()
		}
		s.rings[i].add(at, p.min, p.max, p.mean, float64(p.mean)*float64(p.count), p.count)
	}
}

// end puts the last points into their rings. A step of the present boot that is not over goes
// on. All that is restored then is on disk.
func (l *loading) end() {
	for s, last := range l.points {
		for ring, p := range last {
			if p.any && p.boot == l.boot && l.now-p.at < tiers[ring].step {
				l.open(s, ring, p)
			} else {
				l.commit(s, ring, p)
			}
		}
		for i := range s.rings {
			if s.rings[i].open.at >= wallFirst {
				s.rings[i].close()
			}
			s.rings[i].saved = s.rings[i].added
		}
	}
	if shift, right := l.shifts[l.boot]; right && !l.h.synced {
		l.h.shift, l.h.known, l.h.synced = shift, true, true
	}
}
