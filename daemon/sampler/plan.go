package sampler

import "time"

// plan is when a sensor is due. It belongs to the scheduler. Its times are
// compared by their monotonic clock, so a step of the wall clock moves none.
type plan struct {
	every time.Duration
	grid  time.Time // a sensor is due at grid, grid+every, and so on
	next  time.Time // zero is never
	busy  bool      // a request is under way
	fails bool      // the last one failed
}

// begin makes the first read due now, and the others on the grid that start gives.
// Sensors of one period are due
// together ever after, and so are those of a multiple of it: the processor, the
// radio and the broker then wake up once for all of them, and their readings
// belong to one moment.
func (p *plan) begin(start, now time.Time) { p.grid, p.next = start, now }

// due reports whether to read now. What falls due while a request is under
// way is left out.
func (p *plan) due(now time.Time) bool {
	if p.next.IsZero() || now.Before(p.next) {
		return false
	}
	p.next = p.after(now)
	if p.busy {
		return false
	}
	p.busy = true
	return true
}

// after gives the first time of the grid that is later than now.
func (p *plan) after(now time.Time) time.Time {
	if p.every <= 0 {
		return time.Time{}
	}
	return p.grid.Add((now.Sub(p.grid)/p.every + 1) * p.every)
}

// settle takes the end of a request; retry is when to try again where it has
// failed, and 0 where it has not.
func (p *plan) settle(now time.Time, retry time.Duration) {
	p.busy, p.fails = false, retry > 0
	if p.fails {
		p.next = now.Add(retry)
	}
}

// hasten has a sensor that fails be tried at once.
func (p *plan) hasten(now time.Time) {
	if p.fails {
		p.next = now
	}
}

// wait is how long there is nothing to do.
func (p *plan) wait(now time.Time) time.Duration {
	if p.next.IsZero() {
		return turn
	}
	return max(p.next.Sub(now), 0)
}
