package command

import (
	"slices"
	"time"
)

const (
	// maxRanges limits the number of ranges. With correct clocks one or two are needed,
	// because everything that was forgotten is in the past.
	maxRanges = 64
	// rangeGap is the largest gap between two expiries in one range.
	rangeGap = time.Hour
)

// timeRanges is a set of times: the expiries of forgotten orders. It consists of closed,
// sorted ranges, so it may contain more times than were added, never fewer. [CMD-20]
type timeRanges []timeRange

type timeRange struct{ from, to time.Time }

// add adds a time to the set. If there are too many ranges, it joins those with the least
// future time between them, as seen from now.
func (s *timeRanges) add(t, now time.Time) { s.addRange(timeRange{t, t}, now) }

func (s *timeRanges) addRange(x timeRange, now time.Time) {
	if x.to.Before(x.from) || x.from.IsZero() || x.to.IsZero() {
		return // not a range that add makes
	}
	i := 0
	for ; i < len(*s); i++ {
		switch o := (*s)[i]; {
		case o.to.Add(rangeGap).Before(x.from):
			continue
		case x.to.Add(rangeGap).Before(o.from):
		default: // they touch
			x = timeRange{earlier(x.from, o.from), later(x.to, o.to)}
			*s = slices.Delete(*s, i, i+1)
			i--
			continue
		}
		break
	}
	*s = slices.Insert(*s, i, x)
	if len(*s) > maxRanges {
		s.join(now)
	}
}

// join joins the two neighbours with the least future time between them. Of equal pairs
// it takes the closest.
func (s *timeRanges) join(now time.Time) {
	best := 0
	var ahead, gap time.Duration
	for i := range len(*s) - 1 {
		a, b := (*s)[i], (*s)[i+1]
		f, g := max(0, b.from.Sub(later(a.to, now))), b.from.Sub(a.to)
		if i == 0 || f < ahead || f == ahead && g < gap {
			best, ahead, gap = i, f, g
		}
	}
	(*s)[best].to = (*s)[best+1].to
	*s = slices.Delete(*s, best+1, best+2)
}

// has reports whether a time is in the set, so it may have been added.
func (s timeRanges) has(t time.Time) bool {
	return slices.ContainsFunc(s, func(x timeRange) bool { return !t.Before(x.from) && !t.After(x.to) })
}

func earlier(a, b time.Time) time.Time {
	if b.Before(a) {
		return b
	}
	return a
}

func later(a, b time.Time) time.Time {
	if b.After(a) {
		return b
	}
	return a
}
