package sampler

import (
	"context"
	"fieldpost/daemon/wake"
	"fmt"
	"strings"
	"time"

	"fieldpost/daemon/health"
)

// schedule starts reads when they are due, until ctx ends. It begins with set. It never
// blocks.
func (s *Sampler) schedule(ctx context.Context, set *sensorSet) {
	origin := time.Now()
	s.o.Heartbeat.Pace(origin)
	for _, r := range set.runners {
		r.plan.start(origin, origin)
	}
	timer := wake.NewTimer(0)
	defer timer.Stop()
	for {
		s.o.Heartbeat.Beat()
		now := time.Now()
		used := false
		for _, b := range set.buses {
			s.checkBus(set, b, now)
			used = used || b.stuck || b.worker.Busy() > 0
		}
		wait := s.startDue(set, now)
		if used || len(set.due) > 0 {
			wait = min(wait, watchEvery)
		}
		if next := s.checkPasses(now); !next.IsZero() {
			wait = min(wait, next.Sub(now))
		}
		if wait == beatEvery || wait == watchEvery { // nothing is due earlier
			wait = s.o.Heartbeat.Wait(now, wait)
		}
		timer.Reset(wait)
		select {
		case <-ctx.Done():
			return
		case o := <-s.outcomes:
			o.runner.timesOut, o.runner.fit = o.timedOut, o.retry == 0
			o.runner.plan.finish(time.Now(), o.retry)
		case next := <-s.toPlan:
			now := time.Now()
			for _, r := range missing(next.runners, set.runners) {
				r.plan.start(origin, now)
			}
			for _, r := range missing(set.runners, next.runners) {
				s.records.countEnded(r) // it may have fallen due after its runner had ended
			}
			set = next
		case <-timer.C:
		}
	}
}

// startDue starts the reads that are due. It counts all as running before the first can end.
// It returns how long there is nothing to do.
func (s *Sampler) startDue(set *sensorSet, now time.Time) time.Duration {
	wait, due := beatEvery, set.due[:0]
	for _, r := range set.runners {
		if r.well.Swap(false) {
			r.plan.finish(now, 0)
			r.fit = true
		}
		if r.plan.due(now) {
			s.records.beginRead(r)
			due = append(due, r)
		}
		wait = min(wait, r.plan.untilDue(now))
	}
	for _, r := range due {
		if r.fit {
			r.bus.due = append(r.bus.due, r)
		} else {
			r.due.Set()
		}
		r.fit = false
	}
	for _, b := range set.buses {
		if len(b.due) > 0 && !s.startPass(b, b.due, now) {
			for _, r := range b.due {
				r.due.Set()
			}
		}
		clear(b.due)
		b.due = b.due[:0]
	}
	set.due = due
	return wait
}

// checkBus raises and clears the fault of a stuck bus. When the bus works again, it makes
// the sensors on it that failed due at once.
func (s *Sampler) checkBus(set *sensorSet, b *busWorker, now time.Time) {
	if b.bus == "" {
		return // a single sensor, not on a bus: its own fault is enough
	}
	why := set.whyStuck(b)
	switch {
	case why != "" && !b.stuck:
		b.stuck = true
		s.o.Health.Raise(health.BusStuck, b.bus, why)
	case why == "" && b.stuck:
		b.stuck = false
		s.o.Health.Clear(health.BusStuck, b.bus)
		for _, r := range set.runners {
			if r.bus == b {
				r.plan.retryNow(now)
			}
		}
	}
}

// whyStuck returns why a bus is stuck, or "" if it is not. A bus is stuck if its worker does
// not return from the kernel, or if the kernel gives up on every sensor on it (ETIMEDOUT). If
// only one of several sensors times out, that sensor is the cause.
func (set *sensorSet) whyStuck(b *busWorker) string {
	if busy := b.worker.Busy(); busy > max(stuckAfter, time.Duration(b.patience.Load())) {
		return fmt.Sprintf("one transaction for sensor %q has been under way for %v", b.current.name(), busy.Round(time.Second))
	}
	var names []string
	for _, r := range set.runners {
		switch {
		case r.bus != b:
		case !r.timesOut:
			return ""
		default:
			names = append(names, r.name)
		}
	}
	return "transactions time out, for " + strings.Join(names, ", ")
}
