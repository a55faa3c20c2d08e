package sampler

import (
	"fmt"
	"time"

	"fieldpost/daemon/clock"
	"fieldpost/daemon/health"
	"fieldpost/daemon/spool"
	"fieldpost/sensors"
	"fieldpost/sensors/board"
)

// follow hands on a sensor's edges, until the sensor is closed or the runner
// ends. Only the runner calls it, and waits for it at its end.
func (u *unit) follow(edges <-chan board.Edge) {
	u.followers.Go(func() {
		for {
			select {
			case e, open := <-edges:
				if !open {
					return
				}
				u.edge(e)
			case <-u.quit:
				u.drain(edges)
				return
			}
		}
	})
}

// drain hands on the edges that have arrived.
func (u *unit) drain(edges <-chan board.Edge) {
	for {
		select {
		case e, open := <-edges:
			if !open {
				return
			}
			u.edge(e)
		default:
			return
		}
	}
}

func (u *unit) edge(e board.Edge) {
	if e.Lost > 0 {
		u.o.Health.Raise(health.EdgesLost, u.name, fmt.Sprintf("%d changes were not seen", e.Lost))
		if !u.lost.Swap(true) {
			u.o.Log.Warn("edges lost", "sensor", u.name, "lost", e.Lost)
		}
	}
	field := "active"
	if q := u.driver.chip.Quantities; len(q) > 0 {
		field = q[0].Name
	}
	u.emit(spool.Record{
		Kind:   spool.Edge,
		Stamp:  stampOf(u.o.Clock.Now(), e.Mono),
		Fields: []sensors.Field{{Name: field, Value: e.Active}},
	})
}

// stampOf gives the moment of an edge from the one at which it arrived here.
//
// The kernel stamps edges on CLOCK_MONOTONIC, and now.Mono is CLOCK_BOOTTIME.
// The two differ by the time the machine was suspended (clock_gettime(2)), and
// the boards that fieldpost is for do not suspend. An edge from the future is
// of a clock that cannot be compared; it happened now.
func stampOf(now clock.Stamp, mono time.Duration) clock.Stamp {
	age := max(now.Mono-mono, 0)
	now.Mono -= age
	now.Wall = now.Wall.Add(-age)
	return now
}
