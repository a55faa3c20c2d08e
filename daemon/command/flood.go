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

// How many refusals are answered individually: a burst, and then one each interval. The
// others are reported in a summary. [CMD-19]
const (
	malformedBurst    = 32 // orders that were not checked: malformed, too large
	malformedInterval = time.Second
	refusedBurst      = 256 // orders that were checked: as many as a broker keeps in an outage
	refusedInterval   = time.Second / 5
	// summaryInterval is the time between summaries of unanswered orders. The flood ends
	// when floodEndsAfter has passed without any.
	summaryInterval = 10 * time.Second
	floodEndsAfter  = time.Minute
)

// limiter is a token bucket with at most burst tokens and one more each interval.
type limiter struct {
	burst    int
	interval time.Duration
	tokens   int
	since    time.Time // when a token was last added, on package time's monotonic clock
}

// take takes a token. It reports whether there was one, and whether more than half are
// left.
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

// floodControl limits the answers to orders from the broker that did not act, and reports
// how many were suppressed. [CMD-19]
type floodControl struct {
	clock  clock.Clock
	health *health.Health
	log    *slog.Logger
	answer Answerer
	wake   wake.Signal // there is something to report

	mu                           *sync.Mutex // the dispatcher's mu; guards the following fields
	malformed, refused, repeated limiter
	suppressed                   uint64 // answers that were not given
	reported                     uint64 // those of them that a summary has reported
	last                         Answer // the last suppressed answer
}

func newFloodControl(o Options, mu *sync.Mutex) *floodControl {
	refused := limiter{burst: refusedBurst, interval: refusedInterval}
	return &floodControl{
		clock: o.Clock, health: o.Health, log: o.Log, answer: o.Answer, wake: wake.New(), mu: mu,
		malformed: limiter{burst: malformedBurst, interval: malformedInterval}, refused: refused, repeated: refused,
	}
}

// limitLocked suppresses an answer if there have been too many. It reports whether the
// answer is given.
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

// suppressLocked suppresses and counts an answer.
func (f *floodControl) suppressLocked(a *Answer) {
	a.suppressed = true
	f.suppressed++
	f.last = *a
	f.wake.Set()
}

// run reports suppressed answers until ctx ends, and then the remaining ones.
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
			continue // reported meanwhile
		}
		f.health.Raise(health.OrderFlood, subject, "")
		if !f.reportUntilCalm(ctx) {
			return
		}
		f.health.Clear(health.OrderFlood, subject)
	}
}

// reportUntilCalm sends a summary every summaryInterval until there was nothing to report
// for floodEndsAfter. It returns false if ctx ends.
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

// report sends a summary of the answers that were suppressed since the last one. It
// returns false if there were none.
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
