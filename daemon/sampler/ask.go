package sampler

import (
	"context"
	"errors"
	"fmt"
	"time"

	"fieldpost/daemon/clock"
	"fieldpost/daemon/health"
	"fieldpost/sensors"
)

// ErrUnknown is the reason when there is no sensor of that name.
var ErrUnknown = errors.New("unknown sensor")

// ReadError says why a reading that was asked for was not had.
type ReadError struct {
	Code     health.Code // the fault that it is
	Failures int         // how often in a row the sensor has failed by its schedule
	Err      error
}

// Error gives what the driver or the bus said, and whether that is news.
func (e *ReadError) Error() string {
	s := detail(e.Err)
	switch {
	case e.Failures >= patient:
		s += fmt.Sprintf("; it has failed %d times in a row and is tried once a minute or so", e.Failures)
	case e.Failures > 0:
		s += fmt.Sprintf("; it failed before, %d in a row", e.Failures)
	}
	return s
}

// Unwrap gives what the driver or the bus said.
func (e *ReadError) Unwrap() error { return e.Err }

// ask is a reading that somebody asks for.
type ask struct {
	ctx    context.Context
	answer chan said // has room for one
}

// said is the answer.
type said struct {
	r   reading
	err error
}

// Read reads a sensor now, in its turn on its bus, and beside its schedule: the
// reading is for the caller alone, is not counted, and raises or clears no fault.
// A sensor that keeps failing is tried too, opened anew. It takes no longer than
// ctx allows, and about as long as a scheduled read at most. Any goroutine,
// while Run runs. The error is or wraps [ErrUnknown] or a [*ReadError].
func (s *Sampler) Read(ctx context.Context, name string) (clock.Stamp, []sensors.Field, error) {
	for _, u := range s.sensors.Load().units {
		if u.name == name {
			r, err := u.now(ctx)
			return r.stamp, r.fields, err
		}
	}
	return clock.Stamp{}, nil, fmt.Errorf("%w %q", ErrUnknown, name)
}

// now has the runner read the sensor.
func (u *unit) now(ctx context.Context) (reading, error) {
	a := ask{ctx, make(chan said, 1)}
	select {
	case u.asks <- a:
	case <-u.ended:
		return reading{}, &ReadError{Code: health.ReadFailed, Err: errors.New("it is no longer read: its configuration has changed, or the daemon stops")}
	case <-ctx.Done():
		return reading{}, u.late(ctx)
	}
	select {
	case got := <-a.answer:
		return got.r, got.err
	case <-ctx.Done():
		return reading{}, u.late(ctx)
	}
}

// late says what the sensor waits for.
func (u *unit) late(ctx context.Context) error {
	err := fmt.Errorf("%s %w in time: %w", u.bench.worker.Name(), errLate, context.Cause(ctx))
	return &ReadError{Code: health.ReadFailed, Err: u.held(err)}
}

// asked reads the sensor for somebody, on the runner.
func (u *unit) asked(ctx context.Context, a ask) {
	within, cancel := context.WithCancel(a.ctx)
	defer cancel()
	defer context.AfterFunc(ctx, cancel)()
	r, err := u.attempt(within)
	switch {
	case err == nil:
	case ctx.Err() != nil:
		err = &ReadError{Code: health.ReadFailed, Err: fmt.Errorf("cut short by the end: %w", ctx.Err())}
	case errors.Is(err, errLate):
		err = &ReadError{Code: health.ReadFailed, Failures: u.breaker.failures, Err: u.held(err)}
	default:
		err = &ReadError{Code: codeOf(err), Failures: u.breaker.failures, Err: err}
	}
	a.answer <- said{r, err}
}

// held adds whom the bus is busy with, where it is.
func (u *unit) held(err error) error {
	busy := u.bench.worker.Busy()
	if busy == 0 {
		return err
	}
	return fmt.Errorf("%w; it has been busy with sensor %q for %v", err, u.bench.serving.name(), busy.Round(100*time.Millisecond))
}
