package sampler

import "time"

const (
	// summaryEvery is how often the changes of a chattering input are reported.
	summaryEvery = time.Second
	// calmFor is how many summaries in a row must have at most half the changes that the
	// rate allows until the input no longer chatters.
	calmFor = 10
	// An input may exceed its rate for a moment: by burstSeconds' worth of changes, and in
	// any case by leastBurst, the bounces of one contact.
	burstSeconds = 2
	leastBurst   = 10
)

// bucket is a token bucket: it fills at a rate up to its size, and each change of the line
// takes one token (ITU-T I.371, annex A, calls it the continuous leaky bucket). It uses the
// kernel's time stamps, so changes that were delayed in our process do not look like a burst.
type bucket struct {
	rate   float64 // tokens a second
	size   float64
	tokens float64
	at     time.Duration // the stamp of the last change
}

// newBucket returns a full bucket.
func newBucket(rate int) bucket {
	size := float64(max(burstSeconds*rate, leastBurst))
	return bucket{rate: float64(rate), size: size, tokens: size}
}

// takeTokens takes n tokens at the time at, and reports whether there were enough. Lost
// changes count as spread over the time since the last edge that was not lost, so a delay in
// our process does not make a slow line look fast.
func (b *bucket) takeTokens(n uint64, at time.Duration) bool {
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

// fill fills the bucket.
func (b *bucket) fill() { b.tokens = b.size }
