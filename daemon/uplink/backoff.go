package uplink

import (
	"context"
	"math/rand/v2"
	"time"
)

const (
	backoffSoon       = 2 * time.Second  // where the next attempt needs no patience
	backoffFirst      = 2 * time.Second  // doubles with each failure
	backoffLeast      = 4 * time.Second  // but a thousand boards that lose a broker come back over three seconds
	backoffMin        = time.Second      // AWS IoT Core: one CONNECT a second for a client id
	backoffMax        = 2 * time.Minute  // after trouble that may pass by itself
	backoffMaxRefused = 15 * time.Minute // after trouble that a person has to end
	easedFailures     = 3                // a bound of 16 s

	backoffFirstUnreached = 4 * time.Second
	backoffMaxUnreached   = 6 * time.Second // while nothing reaches the broker

	dialTimeout    = 10 * time.Second // name and TCP, after an attempt that took so long
	fullDialsAfter = 8                // each so many has connectTimeout all the same
)

// wait is how long the link waits before the next connection.
type wait struct {
	most time.Duration // the bound that waits grow up to; 0 is not at all
	// unreached says that the last attempt did not reach the broker: no name, no route,
	// nobody listening. It cost the broker nothing, so it may soon be made again.
	unreached bool
	// hurried says that a change of the network ends the wait.
	hurried bool
}

// backoff gives how long to wait before the next connection. The times are random, so
// that a thousand boards do not come back all at once when a broker does. Run's
// goroutine.
type backoff struct {
	failures  int                                     // that the broker had to do with
	unreached int                                     // in a row
	timeouts  int                                     // of these, those in a row that took dialTimeout or more
	changes   int                                     // of the network that have ended a wait
	random    func(below time.Duration) time.Duration // uniform in [0, below)
}

// next gives the next wait after an attempt that the broker had to do with: at least a
// second and less than a bound that doubles up to most.
func (b *backoff) next(most time.Duration) time.Duration {
	bound := min(most, max(backoffLeast, doubled(backoffFirst, b.failures, most)))
	b.failures++
	b.unreached, b.timeouts = 0, 0
	return backoffMin + b.random(bound-backoffMin)
}

// nextUnreached gives the next wait after an attempt that took so long and did not reach
// the broker: less than a bound of some seconds, and at least half of it. After one that
// went unanswered it is short, because the attempt itself was the wait.
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

// dialTimeout gives how long the next attempt to reach the broker may take. A SYN is
// repeated after 1, 2, 4 and 8 s, so that the broker's return would be noticed late in a
// long attempt. On a slow network only a long one succeeds.
func (b *backoff) dialTimeout() time.Duration {
	if b.timeouts%fullDialsAfter == 0 {
		return connectTimeout
	}
	return dialTimeout
}

// afterChange gives how long after the beginning of the last attempt the next one may
// be, where the network has changed. It doubles up to the bound of the waits, so that a
// link that goes up and down all the time wins nothing by it.
func (b *backoff) afterChange(w wait) time.Duration {
	spacing := doubled(backoffMin, b.changes, w.most)
	b.changes++
	return spacing
}

// ease bounds the next wait to some seconds, where it was more.
func (b *backoff) ease() { b.failures = min(b.failures, easedFailures) }

// reset starts again at the shortest waits.
func (b *backoff) reset() { *b = backoff{random: b.random} }

// doubled gives first doubled so often, and at most most.
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

// pause waits before the next attempt, as long as w says, or until somebody asks for it
// or has another configuration, or the network has changed.
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

// pauseAfterChange waits until the next attempt is due after a change of the network, or
// until the end of the wait that this has cut short.
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
