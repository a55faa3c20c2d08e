package command

import (
	"context"
	"fmt"
	"time"

	"fieldpost/daemon/health"
)

// How many refusals are answered one by one: so many at once, and then one more
// every so often. Who sends faster than that is told in one message. [CMD-19]
const (
	strangeMost  = 32 // orders that were not looked at: malformed, too large
	strangeEvery = time.Second
	refusedMost  = 256 // orders that were: what a broker keeps in an outage
	refusedEvery = time.Second / 5
	// countedEvery is how often those that were not answered are told, and
	// calmAfter how long none must come until that is over.
	countedEvery = 10 * time.Second
	calmAfter    = time.Minute
)

// meter is a rate. With the desk's mu held.
type meter struct {
	most  int
	every time.Duration
	left  int
	since time.Time // when left was last added to, with package time's monotonic clock
}

// take reports whether there is one more, and whether more than half are left.
func (m *meter) take(now time.Time) (ok, calm bool) {
	switch n := now.Sub(m.since) / m.every; {
	case m.since.IsZero() || int64(n) >= int64(m.most-m.left):
		m.left, m.since = m.most, now
	case n > 0:
		m.left, m.since = m.left+int(n), m.since.Add(n*m.every)
	}
	if m.left == 0 {
		return false, false
	}
	m.left--
	return true, m.left >= m.most/2
}

// unsaid is what was not answered one by one. With the desk's mu held.
type unsaid struct {
	count uint64        // since the last summary
	last  Answer        // what the last of them would have been told
	wake  chan struct{} // buffered, one: there is something
}

// leave counts an answer that is not given. With mu held.
func (d *Desk) leave(a *Answer) {
	a.untold = true
	d.unsaid.count++
	d.unsaid.last = *a
	d.stats.Unanswered++
	select {
	case d.unsaid.wake <- struct{}{}:
	default:
	}
}

// sumUp tells how many were not answered, as long as there are any, until ctx
// ends, and then what is left.
func (d *Desk) sumUp(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			d.summary()
			return
		case <-d.unsaid.wake:
		}
		d.mu.Lock()
		n := d.unsaid.count
		d.mu.Unlock()
		if n == 0 {
			continue // it was told meanwhile
		}
		d.o.Health.Raise(health.OrderFlood, subject, "")
		if !d.sumUpFlood(ctx) {
			return
		}
		d.o.Health.Clear(health.OrderFlood, subject)
	}
}

// sumUpFlood gives a summary every while until there was nothing to be told for
// long enough; it is false when ctx has ended.
func (d *Desk) sumUpFlood(ctx context.Context) bool {
	tick := time.NewTicker(countedEvery)
	defer tick.Stop()
	for quiet := time.Duration(0); quiet < calmAfter; quiet += countedEvery {
		select {
		case <-ctx.Done():
			d.summary()
			return false
		case <-tick.C:
		}
		if d.summary() {
			quiet = 0
		}
	}
	return true
}

// summary gives the number of those not answered since the last one; it is
// false when there were none.
func (d *Desk) summary() bool {
	d.mu.Lock()
	u := d.unsaid
	d.unsaid.count = 0
	d.mu.Unlock()
	if u.count == 0 {
		return false
	}
	a := because(NotAnswered, fmt.Sprintf("%d since the last such message; the latest would have been %s, %s: %s", u.count, u.last.Status, u.last.Reason, u.last.Hint))
	a.Count, a.Stamp = u.count, d.o.Clock.Now()
	d.o.Log.Warn("orders were not answered", "count", u.count, "latest", string(u.last.Reason))
	d.o.Answer(a.Record())
	return true
}
