package clock

import "time"

// Burst is a Clock for what happens within a moment. It asks another clock, which costs system
// calls, at most once in its time, and in between counts on from the answer. One goroutine at
// a time may use it.
type Burst struct {
	c     Clock
	most  time.Duration
	asked time.Time // zero: not yet
	stamp Stamp
}

// NewBurst returns a Burst that asks c at most once in so long. It notices a step of the wall
// clock, and that this is synchronised, that much later.
func NewBurst(c Clock, most time.Duration) *Burst { return &Burst{c: c, most: most} }

// Now returns the present moment.
func (b *Burst) Now() Stamp {
	now := time.Now()
	if b.asked.IsZero() || now.Sub(b.asked) >= b.most {
		b.asked, b.stamp = now, b.c.Now()
	}
	s, since := b.stamp, now.Sub(b.asked)
	s.Mono, s.Wall = s.Mono+since, s.Wall.Add(since)
	return s
}
