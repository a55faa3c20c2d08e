package sampler

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"reflect"
	"slices"

	"fieldpost/sensors"
	"fieldpost/sensors/board"
)

// ErrStopped is the reason when the Sampler has ended.
var ErrStopped = errors.New("sensors are not read any more")

// sensorSet is the sensors that are read at one moment, and the workers that read
// them. It does not change: [Sampler.Reconfigure] puts another one in its place.
type sensorSet struct {
	benches []*bench
	units   []*unit
}

// awaitRunners waits until the runners of all sensors have ended.
func (set *sensorSet) awaitRunners() {
	for _, u := range set.units {
		<-u.ended
	}
}

// change is another set of sensors, on its way to Run.
type change struct {
	sensors []sensors.Config
	done    chan struct{} // closed when it is carried out
}

// Reconfigure has the Sampler read another set of sensors, valid as package config
// sees to, from now on. It may be called from any goroutine while Run runs; calls
// follow one another.
//
// A sensor whose configuration is the same goes on untouched: it is not opened anew,
// loses no edge and keeps its schedule. Every other sensor that was there is let go
// of, after what it still had to tell, and all its faults are over. Then every
// other sensor that is there now is opened and read for the first time, in the
// rhythm of those that go on. A sensor of the same name goes on with its numbers.
//
// It returns when all that is done, which takes some seconds where a bus is stuck, or
// when ctx ends: then it is done all the same. The error wraps ctx's or is or wraps
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

// apply puts another set of sensors in the place of the one before. It is Run's.
func (s *Sampler) apply(ctx, work context.Context, configs []sensors.Config) {
	old := s.sensors.Load()
	next := s.arrange(old, configs)
	// All that is let go of comes first: a new sensor may have the line or the
	// address of an old one.
	gone := &sensorSet{benches: missing(old.benches, next.benches), units: missing(old.units, next.units)}
	for _, u := range gone.units {
		u.stop()
	}
	gone.awaitRunners()
	s.startWorkers(work, missing(next.benches, old.benches))
	select {
	case s.toPlan <- next:
	case <-ctx.Done(): // it may have ended
	}
	for _, u := range gone.units {
		s.o.Health.ClearAll(u.name)
	}
	s.startRunners(ctx, missing(next.units, old.units))
	s.sensors.Store(next)
	s.leave(gone.benches)
	for _, b := range gone.benches {
		if b.bus != "" {
			s.o.Health.ClearAll(b.bus)
		}
	}
}

// missing gives those of a list that are not in another.
func missing[T comparable](list, other []T) []T {
	return slices.DeleteFunc(slices.Clone(list), func(x T) bool { return slices.Contains(other, x) })
}

// arrange gives the set of these sensors, with those of a set whose configuration is
// the same, and the workers of buses that are still in use. Nothing of it that is
// new runs yet.
func (s *Sampler) arrange(old *sensorSet, configs []sensors.Config) *sensorSet {
	next := &sensorSet{}
	byBus, before, patience := map[string]*bench{}, map[string]*unit{}, map[*bench]int64{}
	for _, b := range old.benches {
		if b.bus != "" {
			byBus[b.bus] = b
		}
	}
	for _, u := range old.units {
		before[u.name] = u
	}
	for _, c := range configs {
		chip, ok := s.lookup(c.Chip)
		if !ok {
			chip = strange(c.Chip)
		}
		u := before[c.Name]
		if u == nil || !reflect.DeepEqual(u.driver.config, c) {
			bus := c.Place().Shared()
			b := byBus[bus]
			if b == nil || bus == "" {
				b = &bench{worker: board.NewWorker(cmp.Or(bus, c.Name)), bus: bus, ended: make(chan struct{})}
				byBus[bus] = b
			}
			u = newUnit(&s.o, c, chip, b)
		}
		if patience[u.bench] == 0 {
			next.benches = append(next.benches, u.bench)
		}
		patience[u.bench] += int64(2*chip.Worst + margin) // each may be opened and read while another waits
		next.units = append(next.units, u)
	}
	for b, long := range patience {
		b.patience.Store(long)
	}
	return next
}
