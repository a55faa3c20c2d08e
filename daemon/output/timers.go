package output

import (
	"fmt"
	"time"

	"fieldpost/daemon/health"
)

// hungAfter is how long a call into the kernel may take before it is a fault.
const hungAfter = 5 * time.Second

// busy notes that somebody else's call on the line is under way. One that does
// not return is told: no timer of this output can act meanwhile.
func (p *pin) busy(now time.Time) {
	switch {
	case p.busySince.IsZero():
		p.busySince = now
	case now.Sub(p.busySince) >= hungAfter && !p.hung:
		p.hung = true
		p.b.o.Health.Raise(health.OutputFailed, p.c.Name, fmt.Sprintf("a call into the kernel has been under way for %v", now.Sub(p.busySince).Round(time.Second)))
	}
}

// free notes that no such call is under way any more; the caller holds mu.
func (p *pin) free() {
	p.busySince = time.Time{}
	if p.hung && p.state.Load().Err == nil {
		p.b.o.Health.Clear(health.OutputFailed, p.c.Name)
	}
	p.hung = false
}

// turn does what is due now and gives when the next thing is; zero is never.
func (p *pin) turn(now time.Time) time.Time {
	_, stopped := p.b.linkDown()
	if p.line == nil {
		switch {
		case stopped:
			return time.Time{}
		case now.Before(p.again):
			return p.again
		}
		if p.request(now); p.line == nil {
			return p.again
		}
	}
	at, level, cause := p.due()
	if at.IsZero() || now.Before(at) {
		return at
	}
	if p.drive(level, cause) != nil {
		return p.again
	}
	at, _, _ = p.due()
	return at
}

// due gives what the pin's timers ask for next.
func (p *pin) due() (at time.Time, level Level, cause string) {
	first := func(t time.Time, l Level, c string) {
		if !t.IsZero() && (at.IsZero() || t.Before(at)) {
			at, level, cause = t, l, c
		}
	}
	if p.owed != "" {
		return p.again, p.c.Safe, p.owed
	}
	first(p.ends, p.c.Safe, p.endCause)
	if p.c.MaxOn > 0 && !p.onSince.IsZero() {
		first(p.onSince.Add(p.c.MaxOn), Off, CauseMaxOn)
	}
	first(p.linkLostAt(p.state.Load().Level), p.c.Safe, CauseLinkLost)
	return at, level, cause
}

// linkLostAt is when a line at that level is to be made safe because of the
// link; zero is never. An order given while the link is down comes from
// somebody on the spot: from then on it has safe_after once more.
func (p *pin) linkLostAt(level Level) time.Time {
	down, _ := p.b.linkDown()
	if p.c.SafeAfter <= 0 || down.IsZero() || level == p.c.Safe {
		return time.Time{}
	}
	if p.ordered.After(down) {
		down = p.ordered
	}
	return down.Add(p.c.SafeAfter)
}
