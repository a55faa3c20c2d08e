package sampler

import "time"

const (
	maxFailures = 3 // failures in a row that open the breaker
	minBackoff  = time.Second
	maxBackoff  = time.Minute
)

// breaker counts a sensor's failures in a row and decides when to try again. It belongs to
// the sensor's runner.
type breaker struct {
	failures int
	backoff  time.Duration
}

// isOpen reports whether the sensor has failed so often that there is a pause before each try
// and its driver is opened again for each.
func (b *breaker) isOpen() bool { return b.failures >= maxFailures }

// fail counts a failure and returns the time until the next try.
func (b *breaker) fail(every time.Duration) time.Duration {
	b.failures++
	switch {
	case !b.isOpen():
		if every <= 0 {
			return minBackoff
		}
		return min(every, minBackoff)
	case b.backoff == 0:
		b.backoff = minBackoff
	default:
		b.backoff = min(2*b.backoff, maxBackoff)
	}
	return b.backoff
}

// succeed resets the breaker.
func (b *breaker) succeed() { *b = breaker{} }
