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
func (p *pin) noteBusy(now time.Time) {
	switch {
	case p.busySince.IsZero():
		p.busySince = now
	case now.Sub(p.busySince) >= hungAfter && !p.hungReported:
		p.hungReported = true
		p.b.o.Health.Raise(health.OutputFailed, p.c.Name, fmt.Sprintf("a call into the kernel has been under way for %v", now.Sub(p.busySince).Round(time.Second)))
	}
}

// free notes that no such call is under way any more; the caller holds mu.
func (p *pin) noteFree() {
	p.busySince = time.Time{}
	if p.hungReported && p.state.Load().Err == nil {
		p.b.o.Health.Clear(health.OutputFailed, p.c.Name)
	}
	p.hungReported = false
}

// turn does what is due now and gives when the next thing is; zero is never.
func (p *pin) runDue(now time.Time) time.Time {
	_, stopped := p.b.linkState()
	if p.line == nil {
		switch {
		case stopped:
			return time.Time{}
		case now.Before(p.retryAt) && (p.awaitsRecordSince.IsZero() || p.awaitsRecord.Load()):
			return p.retryAt
		}
		if p.requestLine(now); p.line == nil {
			return p.retryAt
		}
	}
	do := p.nextDue()
	if do.at.IsZero() || now.Before(do.at) {
		return do.at
	}
	if do.why.cause == CauseRefresh && p.owed.why.cause == "" { // and no second try of that
		p.countTrip()
	}
	if p.actDue(now, do) != nil {
		return p.retryAt
	}
	return p.nextDue().at
}

// act does what is due. An initial level that had to wait is not given when
// another output forbids it by now, or the link was down for too long.
func (p *pin) actDue(now time.Time, do scheduledLevel) error {
	if safe, ok := p.c.Safe.Level(); ok && do.level != safe {
		if lost := p.linkLostAt(do.level); !lost.IsZero() && !now.Before(lost) {
			p.scheduled = scheduledLevel{}
			return nil
		}
		if err := p.b.claimEnergised(p); err != nil {
			p.scheduled = scheduledLevel{}
			p.warnNotInitial(do.level, err)
			return nil
		}
	}
	return p.driveLevel(do.level, do.why)
}

// due gives what the pin's timers ask for next.
func (p *pin) nextDue() (do scheduledLevel) {
	first := func(at time.Time, l Level, w why) {
		if !at.IsZero() && (do.at.IsZero() || at.Before(do.at)) {
			do = scheduledLevel{at: at, level: l, why: w}
		}
	}
	if p.owed.why.cause != "" {
		return scheduledLevel{at: p.retryAt, level: p.owed.level, why: p.owed.why}
	}
	has := p.state.Load().Level
	if !p.scheduled.at.IsZero() {
		at := p.scheduled.at
		if least := p.changedAt.Add(p.minimum(has)); p.scheduled.level != has && at.Before(least) {
			at = least
		}
		first(at, p.scheduled.level, p.scheduled.why)
	}
	if p.c.MaxOn > 0 && !p.onSince.IsZero() {
		first(p.onSince.Add(p.c.MaxOn), Off, why{cause: CauseMaxOn})
	}
	safe, _ := p.c.Safe.Level()
	first(p.linkLostAt(has), safe, why{cause: CauseLinkLost})
	first(p.refreshLostAt(has), safe, why{cause: CauseRefresh})
	return do
}

// refreshLostAt is when a line at that level is to be made safe because no order
// was carried out for it; zero is never. It counts from the last order, or from
// the moment at which the line left its safe level without one, at the start.
func (p *pin) refreshLostAt(level Level) time.Time {
	safe, ok := p.c.Safe.Level()
	if p.c.Refresh <= 0 || !ok || level == safe {
		return time.Time{}
	}
	last := p.state.Load().Since
	if p.lastOrder.After(last) {
		last = p.lastOrder
	}
	return last.Add(p.c.Refresh)
}

// trip counts that the output is made safe for want of an order.
func (p *pin) countTrip() {
	s := *p.state.Load()
	s.Trips++
	p.state.Store(&s)
}

// linkLostAt is when a line at that level is to be made safe because of the
// link; zero is never. An order given while the link is down comes from
// somebody on the spot: from then on it has safe_after once more.
func (p *pin) linkLostAt(level Level) time.Time {
	down, _ := p.b.linkState()
	safe, ok := p.c.Safe.Level()
	if p.c.SafeAfter <= 0 || down.IsZero() || !ok || level == safe {
		return time.Time{}
	}
	if p.lastOrder.After(down) {
		down = p.lastOrder
	}
	return down.Add(p.c.SafeAfter)
}
