package sampler

import "time"

const (
	// summaryEvery is how often the changes of an input that chatters are told.
	summaryEvery = time.Second
	// calmFor is for how many summaries in a row an input must have kept to half
	// its rate until it no longer chatters.
	calmFor = 10
	// An input may exceed its rate for a while: by as much as comes in so many
	// seconds at the rate, and by the bounces of one contact in any case.
	burstSeconds = 2
	leastBurst   = 10
)

// bucket is a token bucket: it fills at a rate up to its size, and each change
// of the line takes one token (ITU-T I.371, annex A, calls it the continuous
// leaky bucket). Its time is that of the kernel's stamps, so that changes that
// had to wait for us do not look like a burst.
type bucket struct {
	rate   float64 // tokens a second
	size   float64
	tokens float64
	at     time.Duration // the stamp of the last change
}

// newBucket gives a full bucket.
func newBucket(rate int) bucket {
	size := float64(max(burstSeconds*rate, leastBurst))
	return bucket{rate: float64(rate), size: size, tokens: size}
}

// take takes n tokens at the time at, if there are so many. Changes that were
// lost count as spread over the time since the last one that was not, so that a
// stall of ours does not turn a slow line into a fast one.
func (b *bucket) take(n uint64, at time.Duration) bool {
	if at > b.at {
		b.tokens += b.rate * (at - b.at).Seconds()
	}
	b.at = at
	enough := float64(n) <= b.tokens
	if enough {
		b.tokens -= float64(n)
	}
	b.tokens = min(b.tokens, b.size)
	return enough
}

// fill makes the bucket full.
func (b *bucket) fill() { b.tokens = b.size }
