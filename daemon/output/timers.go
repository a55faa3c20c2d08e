package output

import (
	"fmt"
	"time"

	"fieldpost/daemon/health"
)

// hungAfter is how long a call into the kernel may take before it is a fault.
const hungAfter = 5 * time.Second

// hangWatch watches an output that is busy with a call of another goroutine. A call that does
// not return is a fault, because the output's timers cannot act.
type hangWatch struct {
	since    time.Time // since when Run finds it busy; zero if it is not
	turns    uint64    // the pin's turns then
	reported bool      // the fault is raised
}

// busy records that the output is busy. If it has been so for too long, busy returns what to
// report, once. turns counts the times that the goroutine of its expander had it.
func (h *hangWatch) busy(now time.Time, turns uint64) (detail string) {
	switch {
	case h.since.IsZero(), h.turns != turns:
		h.since, h.turns = now, turns
	case now.Sub(h.since) >= hungAfter && !h.reported:
		h.reported = true
		return fmt.Sprintf("a call into the kernel has been under way for %v", now.Sub(h.since).Round(time.Second))
	}
	return ""
}

// free records that the output is not busy. It reports whether the fault was raised.
func (h *hangWatch) free() (reported bool) {
	reported = h.reported
	*h = hangWatch{}
	return reported
}

// scheduledLevel is a level that the line gets at a later time.
type scheduledLevel struct {
	at    time.Time // zero is never
	after time.Duration
	level Level
	why   why
}

// runFree is runDue for a pin that the caller has just locked. It unlocks the pin. It
// does nothing for an output on an expander, which has its own goroutine.
func (p *pin) runFree(now time.Time) time.Time {
	defer p.mu.Unlock()
	if p.hang.free() && p.state.Load().Err == nil {
		p.b.o.Health.Clear(health.OutputFailed, p.c.Name)
	}
	if p.check.on() != "" {
		return time.Time{}
	}
	return p.runDue(now)
}

// runDue does what is due and returns when it must be called again; zero means never.
func (p *pin) runDue(now time.Time) time.Time {
	if p.removal.begun.Load() {
		return time.Time{} // see remove
	}
	if b := p.bounds.Load(); b != p.boundsSeen {
		p.boundsSeen = b
		p.waiters.wake()
	}
	_, stopped := p.b.linkState()
	if p.line == nil {
		switch {
		case stopped:
			return time.Time{}
		case now.Before(p.retry.at) && (p.record.since.IsZero() || p.record.awaited.Load()):
			return p.retry.at
		}
		if p.requestLine(now); p.line == nil {
			return p.retry.at
		}
	}
	do := p.nextDue()
	if do.at.IsZero() || now.Before(do.at) {
		return do.at
	}
	if do.why.cause == CauseRefresh && p.owed.why.cause == "" { // not a retry
		p.state.countTrip()
	}
	if p.actDue(now, do) != nil {
		return p.retry.at
	}
	return p.nextDue().at
}

// actDue sets the level that is due. An initial level that had to wait is dropped if an
// interlocked output forbids it now, or if the link has been down for too long.
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

// nextDue returns the next level that the output's timers set.
func (p *pin) nextDue() (do scheduledLevel) {
	first := func(at time.Time, l Level, w why) {
		if !at.IsZero() && (do.at.IsZero() || at.Before(do.at)) {
			do = scheduledLevel{at: at, level: l, why: w}
		}
	}
	if p.owed.why.cause != "" {
		return scheduledLevel{at: p.retry.at, level: p.owed.level, why: p.owed.why}
	}
	has, limits := p.state.Load().Level, p.bounds.Load()
	if !p.scheduled.at.IsZero() {
		at := p.scheduled.at
		if least := p.changedAt.Add(limits.minimum(has)); p.scheduled.level.Word() != has.Word() && at.Before(least) {
			at = least
		}
		first(at, p.scheduled.level, p.scheduled.why)
	}
	if limits.maxOn > 0 && !p.onSince.IsZero() {
		first(p.onSince.Add(limits.maxOn), Off, why{cause: CauseMaxOn})
	}
	safe, _ := p.c.Safe.Level()
	first(p.linkLostAt(has), safe, why{cause: CauseLinkLost})
	first(p.refreshLostAt(has), safe, why{cause: CauseRefresh})
	return do
}

// refreshLostAt returns when a line at that level must be made safe because no order was
// carried out for it; zero means never. The time counts from the last order, or without
// one from when the line left its safe level.
func (p *pin) refreshLostAt(level Level) time.Time {
	safe, ok := p.c.Safe.Level()
	refresh := p.bounds.Load().refresh
	if refresh <= 0 || !ok || level == safe {
		return time.Time{}
	}
	last := p.state.Load().Since
	if p.lastOrder.After(last) {
		last = p.lastOrder
	}
	return last.Add(refresh)
}

// linkLostAt returns when a line at that level must be made safe because of the link;
// zero means never. An order while the link is down comes from somebody on the spot, and
// restarts safe_after.
func (p *pin) linkLostAt(level Level) time.Time {
	down, _ := p.b.linkState()
	safe, ok := p.c.Safe.Level()
	after := p.bounds.Load().safeAfter
	if after <= 0 || down.IsZero() || !ok || level == safe {
		return time.Time{}
	}
	if p.lastOrder.After(down) {
		down = p.lastOrder
	}
	return down.Add(after)
}

// minimumLeft returns how long min_on or min_off still keep the output's level.
func (p *pin) minimumLeft(now time.Time) time.Duration {
	return max(0, p.changedAt.Add(p.bounds.Load().minimum(p.state.Load().Level)).Sub(now))
}
