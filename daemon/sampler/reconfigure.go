package sampler

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"time"

	"fieldpost/sensors"
	"fieldpost/sensors/board"
)

// ErrStopped is the error when the Sampler has ended.
var ErrStopped = errors.New("sensors are no longer read")

// sensorSet is the set of sensors that are read at one time, and their bus workers. A set is
// not changed; [Sampler.Reconfigure] replaces it.
type sensorSet struct {
	buses   []*busWorker
	runners []*runner
	due     []*runner // memory for the scheduler
}

// awaitRunners waits until all runners have ended.
func (set *sensorSet) awaitRunners() {
	for _, r := range set.runners {
		<-r.ended
	}
}

// change is a request to Run to use another set of sensors.
type change struct {
	sensors []sensors.Config
	done    chan struct{} // closed when it is in use
}

// SetLinger sets how long a reading may wait for running reads, to be emitted together with
// them; 0: not at all. Any goroutine.
func (s *Sampler) SetLinger(most time.Duration) { s.records.setLinger(most) }

// Reconfigure makes the Sampler read another set of sensors from now on. Package config must
// have checked them. Any goroutine, while Run runs; concurrent calls take effect one after
// the other.
//
// A sensor whose configuration is unchanged is not touched: it is not opened again, loses no
// edge and keeps its schedule. Every other old sensor is closed after it has emitted its
// readings, and all its faults are cleared. Then every other new sensor is opened and read
// immediately, and from then on in step with the sensors that stay. A sensor with the name of
// an old one continues its sequence numbers.
//
// Reconfigure returns when all that is done, which takes some seconds if a bus is stuck. If
// ctx ends earlier, the change is still made. The error wraps that of ctx, or is or wraps
// [ErrStopped].
func (s *Sampler) Reconfigure(ctx context.Context, configs []sensors.Config) error {
	c := change{configs, make(chan struct{})}
	select {
	case s.changes <- c:
	case <-s.ended:
		return fmt.Errorf("reconfigure sensors: %w", ErrStopped)
	case <-ctx.Done():
		return fmt.Errorf("reconfigure sensors: %w", ctx.Err())
	}
	select {
	case <-c.done:
		return nil
	case <-s.ended:
		return fmt.Errorf("reconfigure sensors: %w", ErrStopped)
	case <-ctx.Done():
		return fmt.Errorf("reconfigure sensors: not done yet: %w", ctx.Err())
	}
}

// apply replaces the set of sensors. Only Run calls it.
func (s *Sampler) apply(ctx, work context.Context, configs []sensors.Config) {
	old := s.sensors.Load()
	next := s.arrange(old, configs)
	// Close the old sensors first: a new one may have the line or the address of an old one.
	gone := &sensorSet{buses: missing(old.buses, next.buses), runners: missing(old.runners, next.runners)}
	for _, r := range gone.runners {
		r.stop()
	}
	gone.awaitRunners()
	for _, b := range next.buses {
		b.trim.Store(true)
	}
	s.startWorkers(work, missing(next.buses, old.buses))
	select {
	case s.toPlan <- next:
	case <-ctx.Done(): // the scheduler may have ended
	}
	for _, r := range gone.runners {
		s.o.Health.ClearAll(r.name)
	}
	s.startRunners(ctx, missing(next.runners, old.runners))
	s.sensors.Store(next)
	s.stopWorkers(gone.buses)
	for _, b := range gone.buses {
		if b.bus != "" {
			s.o.Health.ClearAll(b.bus)
		}
	}
}

// missing returns the elements of list that are not in other.
func missing[T comparable](list, other []T) []T {
	return slices.DeleteFunc(slices.Clone(list), func(x T) bool { return slices.Contains(other, x) })
}

// arrange returns the set for a configuration. It takes over from old the sensors whose
// configuration is unchanged, and the workers of buses that are still in use. It starts
// nothing.
func (s *Sampler) arrange(old *sensorSet, configs []sensors.Config) *sensorSet {
	next := &sensorSet{}
	byBus, before, patience := map[string]*busWorker{}, map[string]*runner{}, map[*busWorker]int64{}
	for _, b := range old.buses {
		if b.bus != "" {
			byBus[b.bus] = b
		}
	}
	for _, r := range old.runners {
		before[r.name] = r
	}
	for _, c := range configs {
		chip, ok := s.lookup(c.Chip)
		if !ok {
			chip = unknownChip(c.Chip)
		}
		r := before[c.Name]
		if r == nil || !reflect.DeepEqual(r.driver.config, c) {
			bus := c.Place().Shared()
			b := byBus[bus]
			if b == nil || bus == "" {
				b = &busWorker{worker: board.NewWorker(cmp.Or(bus, c.Name)), bus: bus, ended: make(chan struct{})}
				byBus[bus] = b
			}
			r = newRunner(&s.o, &s.records, c, chip, b)
		}
		if patience[r.bus] == 0 {
			next.buses = append(next.buses, r.bus)
		}
		patience[r.bus] += int64(2*chip.Worst + margin) // another sensor may wait while each is opened and read
		next.runners = append(next.runners, r)
	}
	for b, long := range patience {
		b.patience.Store(long)
	}
	return next
}
