package sampler

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"fieldpost/daemon/health"
)

// schedule starts reads when they are due. It never blocks.
func (s *Sampler) schedule(ctx context.Context) {
	start := time.Now()
	for _, u := range s.units {
		u.plan.begin(start)
	}
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		s.o.Heartbeat.Beat()
		now := time.Now()
		for _, b := range s.benches {
			s.watch(b, now)
		}
		wait := turn
		for _, u := range s.units {
			if u.well.Swap(false) {
				u.plan.settle(now, 0)
			}
			if u.plan.due(now) {
				u.trigger <- struct{}{} // has room: the last one was settled
			}
			wait = min(wait, u.plan.wait(now))
		}
		timer.Reset(wait)
		select {
		case <-ctx.Done():
			return
		case o := <-s.settled:
			o.u.hung = o.hung
			o.u.plan.settle(time.Now(), o.retry)
		case <-timer.C:
		}
	}
}

// watch looks whether a bus moves, and when it does so again has the sensors on
// it that failed tried at once.
func (s *Sampler) watch(b *bench, now time.Time) {
	if b.bus == "" {
		return // a sensor of its own; its missed deadline says it all
	}
	why := s.halts(b)
	switch {
	case why != "" && !b.stuck:
		b.stuck = true
		s.o.Health.Raise(health.BusStuck, b.bus, why)
	case why == "" && b.stuck:
		b.stuck = false
		s.o.Health.Clear(health.BusStuck, b.bus)
		for _, u := range b.units {
			u.plan.hasten(now)
		}
	}
}

// halts says why a bus is stuck, or "". Either its worker does not come back
// from the kernel; or the kernel gives up on it, whichever sensor is asked
// (ETIMEDOUT). Where one sensor of several times out, it is that one's.
func (s *Sampler) halts(b *bench) string {
	if busy := b.worker.Busy(); busy > max(stall, b.patience) {
		return fmt.Sprintf("one transaction for sensor %q has been under way for %v", b.serving.name(), busy.Round(time.Second))
	}
	if slices.ContainsFunc(b.units, func(u *unit) bool { return !u.hung }) {
		return ""
	}
	names := make([]string, 0, len(b.units))
	for _, u := range b.units {
		names = append(names, u.name)
	}
	return "transactions time out, for " + strings.Join(names, ", ")
}
