package command

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"fieldpost/daemon/clock"
	"fieldpost/daemon/health"
	"fieldpost/daemon/wake"
)

// How many refusals are answered one by one: so many at once, and then one more
// every so often. Who sends faster than that is told in one message. [CMD-19]
const (
	malformedBurst    = 32 // orders that were not looked at: malformed, too large
	malformedInterval = time.Second
	refusedBurst      = 256 // orders that were: what a broker keeps in an outage
	refusedInterval   = time.Second / 5
	// summaryInterval is how often those that were not answered are summarised, and
	// floodEndsAfter how long none must come until that is over.
	summaryInterval = 10 * time.Second
	floodEndsAfter  = time.Minute
)

// limiter is a token bucket: burst tokens at most, and one more each interval.
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

// floodControl limits the answers to orders that came from the broker and did not
// act, and reports how many were not given. [CMD-19]
type floodControl struct {
	clock  clock.Clock
	health *health.Health
	log    *slog.Logger
	answer Answerer
	wake   wake.Signal // there is something to report

	mu                           *sync.Mutex // the dispatcher's; guards what follows
	malformed, refused, repeated limiter
	suppressed                   uint64 // answers that were not given
	reported                     uint64 // of these, those in a summary
	last                         Answer // what the last of them would have been told
}

func newFloodControl(o Options, mu *sync.Mutex) *floodControl {
	refused := limiter{burst: refusedBurst, interval: refusedInterval}
	return &floodControl{
		clock: o.Clock, health: o.Health, log: o.Log, answer: o.Answer, wake: wake.New(), mu: mu,
		malformed: limiter{burst: malformedBurst, interval: malformedInterval}, refused: refused, repeated: refused,
	}
}

// limitLocked has an answer only counted where there have been so many. It reports
// whether the answer is given.
func (f *floodControl) limitLocked(a *Answer, from source, m *limiter) bool {
	if !from.limited {
		return true
	}
	ok, calm := m.take(time.Now())
	a.noWait = !calm
	if !ok {
		f.suppressLocked(a)
	}
	return ok
}

// suppressLocked counts an answer that is not given.
func (f *floodControl) suppressLocked(a *Answer) {
	a.suppressed = true
	f.suppressed++
	f.last = *a
	f.wake.Set()
}

// run reports how many answers were not given, as long as there are any, until ctx
// ends, and then what is left.
func (f *floodControl) run(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			f.report()
			return
		case <-f.wake.C():
		}
		f.mu.Lock()
		n := f.suppressed - f.reported
		f.mu.Unlock()
		if n == 0 {
			continue // it was reported meanwhile
		}
		f.health.Raise(health.OrderFlood, subject, "")
		if !f.reportUntilCalm(ctx) {
			return
		}
		f.health.Clear(health.OrderFlood, subject)
	}
}

// reportUntilCalm gives a summary every summaryInterval until there was nothing to
// report for floodEndsAfter; it is false when ctx has ended.
func (f *floodControl) reportUntilCalm(ctx context.Context) bool {
	tick := time.NewTicker(summaryInterval)
	defer tick.Stop()
	for quiet := time.Duration(0); quiet < floodEndsAfter; quiet += summaryInterval {
		select {
		case <-ctx.Done():
			f.report()
			return false
		case <-tick.C:
		}
		if f.report() {
			quiet = 0
		}
	}
	return true
}

// report gives the number of answers that were not given since the last report; it
// is false when there were none.
func (f *floodControl) report() bool {
	f.mu.Lock()
	count, last := f.suppressed-f.reported, f.last
	f.reported = f.suppressed
	f.mu.Unlock()
	if count == 0 {
		return false
	}
	a := answerFor(NotAnswered, fmt.Sprintf("%d since the last such message; the latest would have been %s, %s: %s", count, last.Status, last.Reason, last.Hint))
	a.Count, a.Stamp = count, f.clock.Now()
	f.log.Warn("orders were not answered", "count", count, "latest", string(last.Reason))
	f.answer(a.Record())
	return true
}
