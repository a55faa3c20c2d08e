package uplink

import (
	"context"
	"math/rand/v2"
	"time"
)

const (
	backoffSoon       = 2 * time.Second  // if the next attempt need not be delayed
	backoffFirst      = 2 * time.Second  // doubled after each failure
	backoffLeast      = 4 * time.Second  // spreads a thousand boards that lose a broker over three seconds
	backoffMin        = time.Second      // AWS IoT Core accepts one CONNECT per second and client id
	backoffMax        = 2 * time.Minute  // after trouble that may pass
	backoffMaxRefused = 15 * time.Minute // after trouble that a person must end
	easedFailures     = 3                // limits the bound to 16 s

	backoffFirstUnreached = 4 * time.Second
	backoffMaxUnreached   = 6 * time.Second // while no attempt reaches the broker

	dialTimeout    = 10 * time.Second // for DNS and TCP, after an attempt that took this long
	fullDialsAfter = 8                // every eighth attempt still has connectTimeout
)

// wait says how long the link waits before the next connection.
type wait struct {
	most time.Duration // the bound up to which waits grow; 0: no wait
	// unreached says that the last attempt did not reach the broker: no name, no route,
	// nobody listening. It cost the broker nothing, so the next attempt may follow soon.
	unreached bool
	// hurried says that a change of the network ends the wait early.
	hurried bool
}

// backoff calculates the wait before the next connection. The times are random, so that a
// thousand boards do not all connect at the same moment when a broker returns. Only Run's
// goroutine uses it.
type backoff struct {
	failures  int                                     // failures that involved the broker
	unreached int                                     // failures to reach the broker, in a row
	timeouts  int                                     // of those, the ones in a row that took dialTimeout or more
	changes   int                                     // changes of the network that have ended a wait
	random    func(below time.Duration) time.Duration // uniform in [0, below)
}

// next returns the wait after an attempt that involved the broker: at least a second, and
// less than a bound that doubles up to most.
func (b *backoff) next(most time.Duration) time.Duration {
	bound := min(most, max(backoffLeast, doubled(backoffFirst, b.failures, most)))
	b.failures++
	b.unreached, b.timeouts = 0, 0
	return backoffMin + b.random(bound-backoffMin)
}

// nextUnreached returns the wait after an attempt that took took and did not reach the
// broker: less than a bound of some seconds, and at least half of it. After an attempt that
// went unanswered it is short, because the attempt itself was a wait.
func (b *backoff) nextUnreached(took time.Duration) time.Duration {
	bound := doubled(backoffFirstUnreached, b.unreached, backoffMaxUnreached)
	b.unreached++
	b.timeouts++
	if took < dialTimeout {
		b.timeouts = 0
	}
	if took >= backoffMaxUnreached {
		bound = backoffSoon
	}
	return bound/2 + b.random(bound/2)
}

// dialTimeout returns the time limit of the next attempt to reach the broker. A SYN is
// repeated after 1, 2, 4 and 8 s, so in a long attempt the broker's return would be noticed
// late. But on a slow network only a long attempt succeeds.
func (b *backoff) dialTimeout() time.Duration {
	if b.timeouts%fullDialsAfter == 0 {
		return connectTimeout
	}
	return dialTimeout
}

// afterChange returns how long after the beginning of the last attempt the next one may be
// made if the network has changed. It doubles up to the bound of the waits, so a link that
// goes up and down all the time gains nothing.
func (b *backoff) afterChange(w wait) time.Duration {
	spacing := doubled(backoffMin, b.changes, w.most)
	b.changes++
	return spacing
}

// ease limits the next wait to some seconds.
func (b *backoff) ease() { b.failures = min(b.failures, easedFailures) }

// reset returns to the shortest waits.
func (b *backoff) reset() { *b = backoff{random: b.random} }

// doubled returns first doubled times times, but not more than most.
func doubled(first time.Duration, times int, most time.Duration) time.Duration {
	if times >= 16 {
		return most
	}
	return min(most, first<<times)
}

// jitter is the random source of a link outside tests.
func jitter(below time.Duration) time.Duration {
	return time.Duration(rand.Int64N(int64(below)))
}

// pause waits for w before the next attempt. It ends early if somebody asks for an attempt,
// if there is a new configuration, or if the network has changed.
func (l *Link) pause(ctx context.Context, w wait) {
	var d time.Duration
	var changed <-chan struct{}
	if w.unreached {
		d = l.backoff.nextUnreached(time.Since(l.attempts.last))
	} else {
		d = l.backoff.next(w.most)
	}
	if w.hurried {
		l.network.start(l.cfg, l.others)
		changed = l.network.news.C()
	}
	l.cfg.Log.Debug("waiting before the next connection attempt", "wait", d)
	end := time.Now().Add(d)
	l.setNextAttempt(end)
	switch l.awaitAny(ctx, d, l.reconnects.wake.C(), l.reconfigurations.wake.C(), l.trials.wake.C(), changed) {
	case 1, 2, 3:
		l.prepareReconnect(ctx)
	case 4:
		l.pauseAfterChange(ctx, l.attempts.last.Add(l.backoff.afterChange(w)), end)
	}
}

// pauseAfterChange waits until due, the time of the next attempt after a change of the
// network, or until end, when the original wait would have ended.
func (l *Link) pauseAfterChange(ctx context.Context, due, end time.Time) {
	if end.Before(due) {
		due = end
	}
	l.cfg.Log.Debug("the network has changed", "wait", time.Until(due))
	l.setNextAttempt(due)
	if l.awaitAny(ctx, time.Until(due), l.reconnects.wake.C(), l.reconfigurations.wake.C(), l.trials.wake.C(), nil) != 0 {
		l.prepareReconnect(ctx)
	}
}
