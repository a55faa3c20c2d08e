package sampler

import "time"

const (
	patient      = 3 // failures in a row that open the breaker
	firstBackoff = time.Second
	lastBackoff  = time.Minute
)

// breaker counts a sensor's failures. It belongs to the sensor's runner.
type breaker struct {
	failures int
	backoff  time.Duration
}

// open reports whether the driver is to be constructed anew.
func (b *breaker) open() bool { return b.failures >= patient }

// fail counts a failure and gives the time until the next try.
func (b *breaker) fail(every time.Duration) time.Duration {
	b.failures++
	switch {
	case !b.open():
		if every <= 0 {
			return firstBackoff
		}
		return min(every, firstBackoff)
	case b.backoff == 0:
		b.backoff = firstBackoff
	default:
		b.backoff = min(2*b.backoff, lastBackoff)
	}
	return b.backoff
}

// succeed forgets the failures.
func (b *breaker) succeed() { *b = breaker{} }
