package output

import "time"

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
