package output

import (
	"errors"
	"time"

	"fieldpost/sensors/board"
)

// find learns which line it is.
func (p *pin) find() bool {
	id, err := p.b.o.Board.Find(p.c.Pin)
	if err != nil {
		p.unclaimed(err, time.Now())
		return false
	}
	p.id.Store(&id)
	return true
}

// initial is the level that the configuration asks for at the start; keep is
// the one that the line has.
func (p *pin) initial() (level Level, keep bool) {
	switch p.c.Initial {
	case InitialOn:
		return On, false
	case InitialOff:
		return Off, false
	case InitialLast:
		if last, ok := p.b.levels.last(p.c.Name); ok {
			return last, false
		}
		safe, ok := p.c.Safe.Level()
		return safe, !ok
	}
	return Off, true
}

// beginsSafe reports whether the line is to begin at its safe level.
func (p *pin) beginsSafe() bool {
	level, keep := p.initial()
	safe, ok := p.c.Safe.Level()
	return ok && !keep && level == safe
}

// begin decides with which level the line is requested, and what it is given
// in time: an output that may have been switched off a moment ago, by the end
// of the run before, stays so for its min_off.
func (p *pin) begin(now time.Time) (level Level, keep bool, next end) {
	level, keep = p.initial()
	safe, has := p.c.Safe.Level()
	if keep || has && level == safe {
		return level, keep, end{}
	}
	if lost := p.linkLostAt(level); !lost.IsZero() && !now.Before(lost) {
		return safe, false, end{}
	}
	if wait := p.minimum(!level); wait > 0 {
		return safe, !has, end{at: now.Add(wait), level: level, why: why{cause: CauseInitial}}
	}
	if err := p.b.claim(p); err != nil {
		p.notBegun(level, err)
		return safe, false, end{}
	}
	return level, false, end{}
}

// notBegun tells why a line is not given its initial level.
func (p *pin) notBegun(level Level, err error) {
	p.b.tells.put(func() {
		p.b.o.Log.Warn("output does not get its initial level", "output", p.c.Name, "initial", level.String(), "err", err)
	})
}

// request claims the line, at its initial level, when it has been recorded.
func (p *pin) request(now time.Time) {
	if p.id.Load() == nil && !p.find() || !p.b.opening && !p.prepared(now) {
		return
	}
	level, keep, next := p.begin(now)
	line, err := p.b.o.Held.claim(p.b.o.Board, *p.id.Load(), board.OutputConfig{
		Line: p.c.Pin, ActiveLow: p.c.ActiveLow, Drive: p.c.Drive, Active: bool(level), Keep: keep,
	}, p.b.opening)
	if err != nil {
		p.unclaimed(err, now)
		return
	}
	if keep {
		got, err := line.Active()
		if err != nil {
			p.unclaimed(errors.Join(err, line.Close()), now)
			return
		}
		level = Level(got)
	}
	p.b.o.Health.ClearAll(p.c.Name, lineFaults...)
	p.line, p.wait, p.again, p.moved, p.onSince = line, retryFirst, time.Time{}, now, time.Time{}
	p.begun(level, next, now)
}

// begun follows the request of a line.
func (p *pin) begun(level Level, next end, now time.Time) {
	id := p.id.Load().String()
	p.b.tells.put(func() { p.b.o.Log.Info("output is ours", "output", p.c.Name, "line", id) })
	p.state.Store(&State{Name: p.c.Name, Level: level, Trips: p.state.Load().Trips})
	err := p.verify(level)
	p.has(level, why{cause: CauseInitial}, now)
	if err != nil {
		p.fail(err)
		p.b.whereabouts(p, true)
		p.failed(level, level, why{cause: CauseFailed}, err)
		return
	}
	p.settled(level)
	if next.level != level {
		p.next = next
	}
	safe, ok := p.c.Safe.Level()
	if !ok {
		p.b.keeper.keep()
		return
	}
	if level == safe {
		return
	}
	if err := p.b.claim(p); err != nil { // a line that was found at that level
		p.notBegun(level, err)
		_ = p.drive(safe, why{cause: CauseInterlock}) // its fault says what is wrong
	}
}

// unclaimed reports why the line is not ours and sets the next attempt.
func (p *pin) unclaimed(err error, now time.Time) {
	p.b.whereabouts(p, true)
	code := faultOf(err)
	for _, c := range lineFaults {
		if c != code {
			p.b.o.Health.Clear(c, p.c.Name)
		}
	}
	p.b.o.Health.Raise(code, p.c.Name, err.Error())
	p.fail(err)
	p.again = now.Add(p.wait)
	p.wait = min(2*p.wait, retryMost)
}
