package uplink

import (
	"math/rand/v2"
	"time"
)

const (
	backoffFirst  = 2 * time.Second
	backoffLeast  = time.Second      // AWS IoT Core: one CONNECT a second for a client id
	backoffLost   = 2 * time.Minute  // the most after trouble that may pass by itself
	eased         = 3                // failures: a bound of 16 s
	backoffDenied = 15 * time.Minute // the most after trouble that a person has to end
)

// backoff says how long to wait before the next connection: a random time up
// to a bound that doubles ("full jitter"), so that a thousand boards do not
// come back all at once when a broker does.
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
	return max(backoffLeast, b.random(bound))
}

// ease bounds the next wait to some seconds, where it was more.
func (b *backoff) ease() { b.failures = min(b.failures, eased) }

// reset starts again at the shortest waits.
func (b *backoff) reset() { b.failures = 0 }

// jitter is the random source of a link outside tests.
func jitter(below time.Duration) time.Duration {
	return time.Duration(rand.Int64N(int64(below)))
}
