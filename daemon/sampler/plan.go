package sampler

import "time"

// plan decides when a sensor is due. It belongs to the scheduler. Times are compared by their
// monotonic clock, so a step of the wall clock does not move them.
type plan struct {
	every time.Duration
	grid  time.Time // a sensor is due at grid, grid+every, and so on
	next  time.Time // zero: never
	busy  bool      // a read is running
	fails bool      // the last read failed
}

// start makes the first read due now, and the others on a grid that begins at origin. Sensors
// with the same period, or a multiple of it, are due together. So the processor, the radio
// and the broker wake up once for all of them, and their readings belong to one moment.
func (p *plan) start(origin, now time.Time) { p.grid, p.next = origin, now }

// due reports whether to read now. A read that falls due while another is running is skipped.
func (p *plan) due(now time.Time) bool {
	if p.next.IsZero() || now.Before(p.next) {
		return false
	}
	p.next = p.nextAfter(now)
	if p.busy {
		return false
	}
	p.busy = true
	return true
}

// nextAfter returns the first time of the grid that is later than now.
func (p *plan) nextAfter(now time.Time) time.Time {
	if p.every <= 0 {
		return time.Time{}
	}
	return p.grid.Add((now.Sub(p.grid)/p.every + 1) * p.every)
}

// finish ends a read. retry is when to try again after a failure, and 0 after a success.
func (p *plan) finish(now time.Time, retry time.Duration) {
	p.busy, p.fails = false, retry > 0
	if p.fails {
		p.next = now.Add(retry)
	}
}

// retryNow makes a failing sensor due now.
func (p *plan) retryNow(now time.Time) {
	if p.fails {
		p.next = now
	}
}

// untilDue returns the time until the sensor is due.
func (p *plan) untilDue(now time.Time) time.Duration {
	if p.next.IsZero() {
		return beatEvery
	}
	return max(p.next.Sub(now), 0)
}
