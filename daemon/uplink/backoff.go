package uplink

import (
	"context"
	"math/rand/v2"
	"time"
)

const (
	backoffFirst      = 2 * time.Second
	backoffMin        = time.Second      // AWS IoT Core: one CONNECT a second for a client id
	backoffMax        = 2 * time.Minute  // after trouble that may pass by itself
	backoffMaxRefused = 15 * time.Minute // after trouble that a person has to end
	easedFailures     = 3                // a bound of 16 s
)

// backoff gives how long to wait before the next connection: a random time up to a
// bound that doubles ("full jitter"), so that a thousand boards do not come back all
// at once when a broker does. Run's goroutine.
type backoff struct {
	failures int
	random   func(below time.Duration) time.Duration // uniform in [0, below)
}

// next gives the next wait, at least a second and less than most.
func (b *backoff) next(most time.Duration) time.Duration {
	bound := most
	if b.failures < 16 {
		bound = min(most, backoffFirst<<b.failures)
	}
	b.failures++
	return max(backoffMin, b.random(bound))
}

// ease bounds the next wait to some seconds, where it was more.
func (b *backoff) ease() { b.failures = min(b.failures, easedFailures) }

// reset starts again at the shortest waits.
func (b *backoff) reset() { b.failures = 0 }

// jitter is the random source of a link outside tests.
func jitter(below time.Duration) time.Duration {
	return time.Duration(rand.Int64N(int64(below)))
}

// pause waits before the next attempt, for at most d, or until somebody asks for it or
// has another configuration.
func (l *Link) pause(ctx context.Context, d time.Duration) {
	l.cfg.Log.Debug("waiting before the next connection attempt", "wait", d)
	l.setNextAttempt(time.Now().Add(d))
	if l.await(ctx, d, l.reconnects.wake.C(), l.reconfigurations.wake.C()) {
		l.prepareReconnect(ctx)
	}
}
