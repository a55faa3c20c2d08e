package sampler

import (
	"context"
	"fmt"
	"strings"
	"time"

	"fieldpost/daemon/health"
)

// schedule starts reads when they are due. It never blocks.
func (s *Sampler) schedule(ctx context.Context, set *sensorSet) {
	start := time.Now()
	for _, u := range set.units {
		u.plan.begin(start, start)
	}
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		s.o.Heartbeat.Beat()
		now := time.Now()
		for _, b := range set.benches {
			s.watch(set, b, now)
		}
		wait := turn
		for _, u := range set.units {
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
		case next := <-s.toPlan:
			now := time.Now()
			for _, u := range missing(next.units, set.units) {
				u.plan.begin(start, now)
			}
			set = next
		case <-timer.C:
		}
	}
}

// watch looks whether a bus moves, and when it does so again has the sensors on
// it that failed tried at once.
func (s *Sampler) watch(set *sensorSet, b *bench, now time.Time) {
	if b.bus == "" {
		return // a sensor of its own; its missed deadline says it all
	}
	why := set.halts(b)
	switch {
	case why != "" && !b.stuck:
		b.stuck = true
		s.o.Health.Raise(health.BusStuck, b.bus, why)
	case why == "" && b.stuck:
		b.stuck = false
		s.o.Health.Clear(health.BusStuck, b.bus)
		for _, u := range set.units {
			if u.bench == b {
				u.plan.hasten(now)
			}
		}
	}
}

// halts says why a bus is stuck, or "". Either its worker does not come back
// from the kernel; or the kernel gives up on it, whichever sensor is asked
// (ETIMEDOUT). Where one sensor of several times out, it is that one's.
func (set *sensorSet) halts(b *bench) string {
	if busy := b.worker.Busy(); busy > max(stall, time.Duration(b.patience.Load())) {
		return fmt.Sprintf("one transaction for sensor %q has been under way for %v", b.serving.name(), busy.Round(time.Second))
	}
	var names []string
	for _, u := range set.units {
		switch {
		case u.bench != b:
		case !u.hung:
			return ""
		default:
			names = append(names, u.name)
		}
	}
	return "transactions time out, for " + strings.Join(names, ", ")
}
