package uplink

import (
	"time"
)

// filters remembers which subscriptions the broker does not allow.
type filters struct {
	rows map[string]*row // hang-ups in a row, instead of a SUBACK
	bans bans
}

func newFilters() filters { return filters{rows: map[string]*row{}, bans: bans{}} }

// hungUp notes that the broker ended the connection instead of answering a
// SUBSCRIBE, and reports whether the filter is left out from now on.
func (f *filters) hungUp(filter string, how ending, now time.Time) bool {
	r := f.rows[filter]
	if r == nil {
		r = &row{}
		f.rows[filter] = r
	}
	if !r.add(how) && !f.bans.again(filter, how) {
		return false
	}
	delete(f.rows, filter)
	f.bans.add(filter, how, now)
	return true
}

// refused notes that the broker has said no.
func (f *filters) refused(filter string, now time.Time) {
	delete(f.rows, filter)
	f.bans.add(filter, byBroker, now).proven = true
}

// granted forgets what was held against a filter.
func (f *filters) granted(filter string) {
	delete(f.rows, filter)
	delete(f.bans, filter)
}

// contradicted notes that a connection ended early and not because of what was
// asked: so may those before it have.
func (f *filters) contradicted(now time.Time) {
	clear(f.rows)
	f.bans.doubt(now)
}

// wanted gives the subscriptions to be made now: all that are not left out, or
// only those among them that once were.
func (f *filters) wanted(all []Subscription, now time.Time, again bool) []Subscription {
	var want []Subscription
	for _, s := range all {
		b := f.bans[s.Filter]
		if b == nil && !again || b != nil && !now.Before(b.until) {
			want = append(want, s)
		}
	}
	return want
}
