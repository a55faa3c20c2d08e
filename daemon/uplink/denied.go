package uplink

import (
	"time"
)

// filters remembers which subscriptions the broker does not allow.
type filterDenials struct {
	streaks map[string]*streak // hang-ups in a row, instead of a SUBACK
	denied denials
}

func newFilterDenials() filterDenials { return filterDenials{streaks: map[string]*streak{}, denied: denials{}} }

// hungUp notes that the broker ended the connection instead of answering a
// SUBSCRIBE, and reports whether the filter is left out from now on.
func (f *filterDenials) hungUp(filter string, how endKind, now time.Time) bool {
	r := f.streaks[filter]
	if r == nil {
		r = &streak{}
		f.streaks[filter] = r
	}
	if !r.add(how) && !f.denied.deniesAgain(filter, how) {
		return false
	}
	delete(f.streaks, filter)
	f.denied.deny(filter, how, now)
	return true
}

// refused notes that the broker has said no.
func (f *filterDenials) refused(filter string, now time.Time) {
	delete(f.streaks, filter)
	f.denied.deny(filter, closedByPeer, now).proven = true
}

// granted forgets what was held against a filter.
func (f *filterDenials) granted(filter string) {
	delete(f.streaks, filter)
	delete(f.denied, filter)
}

// contradicted notes that a connection ended early and not because of what was
// asked: so may those before it have.
func (f *filterDenials) contradicted(now time.Time) {
	clear(f.streaks)
	f.denied.retryUnproven(now)
}

// wanted gives the subscriptions to be made now: all that are not left out, or
// only those among them that once were.
func (f *filterDenials) wanted(all []Subscription, now time.Time, again bool) []Subscription {
	var want []Subscription
	for _, s := range all {
		b := f.denied[s.Filter]
		if b == nil && !again || b != nil && !now.Before(b.retryAt) {
			want = append(want, s)
		}
	}
	return want
}
