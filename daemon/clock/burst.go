package clock

import "time"

// Burst is a Clock that saves system calls. It asks another clock at most once per interval,
// and adds the time since then to the answer. One goroutine at a time may use it.
type Burst struct {
	c     Clock
	most  time.Duration
	asked time.Time // when c was last asked; zero if never
	stamp Stamp
}

// NewBurst returns a Burst that asks c at most once per interval most. It notices a step or
// the synchronisation of the wall clock up to that much later.
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
