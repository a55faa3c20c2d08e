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
	malformedBurst    = 32 // orders that were not looked at: malformed, too large
	malformedInterval = time.Second
	refusedBurst      = 256 // orders that were: what a broker keeps in an outage
	refusedInterval   = time.Second / 5
	// summaryInterval is how often those that were not answered are told, and
	// floodEndsAfter how long none must come until that is over.
	summaryInterval = 10 * time.Second
	floodEndsAfter  = time.Minute
)

// limiter is a token bucket: burst tokens at most, and one more each interval.
// With the dispatcher's mu held.
type limiter struct {
	burst    int
	interval time.Duration
	tokens   int
	since    time.Time // when tokens was last added to, with package time's monotonic clock
}

// take reports whether there is one more, and whether more than half are left.
func (m *limiter) take(now time.Time) (ok, calm bool) {
	switch n := now.Sub(m.since) / m.interval; {
	case m.since.IsZero() || int64(n) >= int64(m.burst-m.tokens):
		m.tokens, m.since = m.burst, now
	case n > 0:
		m.tokens, m.since = m.tokens+int(n), m.since.Add(n*m.interval)
	}
	if m.tokens == 0 {
		return false, false
	}
	m.tokens--
	return true, m.tokens >= m.burst/2
}

// suppressed is what was not answered one by one. With the dispatcher's mu held.
type suppressed struct {
	count uint64        // since the last summary
	last  Answer        // what the last of them would have been told
	wake  chan struct{} // buffered, one: there is something
}

// suppress counts an answer that is not given. With mu held.
func (d *Dispatcher) suppressLocked(a *Answer) {
	a.suppressed = true
	d.notAnswered.count++
	d.notAnswered.last = *a
	d.stats.Unanswered++
	select {
	case d.notAnswered.wake <- struct{}{}:
	default:
	}
}

// summarise tells how many were not answered, as long as there are any, until ctx
// ends, and then what is left.
func (d *Dispatcher) reportFloods(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			d.reportSuppressed()
			return
		case <-d.notAnswered.wake:
		}
		d.mu.Lock()
		n := d.notAnswered.count
		d.mu.Unlock()
		if n == 0 {
			continue // it was told meanwhile
		}
		d.o.Health.Raise(health.OrderFlood, subject, "")
		if !d.reportFlood(ctx) {
			return
		}
		d.o.Health.Clear(health.OrderFlood, subject)
	}
}

// summariseFlood gives a summary every while until there was nothing to be told for
// long enough; it is false when ctx has ended.
func (d *Dispatcher) reportFlood(ctx context.Context) bool {
	tick := time.NewTicker(summaryInterval)
	defer tick.Stop()
	for quiet := time.Duration(0); quiet < floodEndsAfter; quiet += summaryInterval {
		select {
		case <-ctx.Done():
			d.reportSuppressed()
			return false
		case <-tick.C:
		}
		if d.reportSuppressed() {
			quiet = 0
		}
	}
	return true
}

// summary gives the number of those not answered since the last one; it is
// false when there were none.
func (d *Dispatcher) reportSuppressed() bool {
	d.mu.Lock()
	u := d.notAnswered
	d.notAnswered.count = 0
	d.mu.Unlock()
	if u.count == 0 {
		return false
	}
	a := answerFor(NotAnswered, fmt.Sprintf("%d since the last such message; the latest would have been %s, %s: %s", u.count, u.last.Status, u.last.Reason, u.last.Hint))
	a.Count, a.Stamp = u.count, d.o.Clock.Now()
	d.o.Log.Warn("orders were not answered", "count", u.count, "latest", string(u.last.Reason))
	d.o.Answer(a.Record())
	return true
}
