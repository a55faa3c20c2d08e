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

// ErrUnknown is the error when there is no sensor of that name.
var ErrUnknown = errors.New("unknown sensor")

// ReadError says why a requested reading failed.
type ReadError struct {
	Code     health.Code // the code of the fault
	Failures int         // how many scheduled reads of the sensor have failed in a row
	Err      error
}

// Error returns the error of the driver or the bus, and how often the sensor has failed
// before.
func (e *ReadError) Error() string {
	s := detail(e.Err)
	switch {
	case e.Failures >= maxFailures:
		s += fmt.Sprintf("; it has failed %d times in a row and is tried about once a minute", e.Failures)
	case e.Failures > 0:
		s += fmt.Sprintf("; it failed before, %d in a row", e.Failures)
	}
	return s
}

// Unwrap returns the error of the driver or the bus.
func (e *ReadError) Unwrap() error { return e.Err }

// readRequest asks a runner for a reading.
type readRequest struct {
	ctx    context.Context
	answer chan readResult // has room for one
}

// readResult is the answer to a readRequest.
type readResult struct {
	reading reading
	err     error
}

// Read reads a sensor now. It waits for its turn on the bus, but not for the schedule. Only
// the caller gets the reading: it is not counted, and it raises or clears no fault. A sensor
// that keeps failing is also tried, and opened again first. Read takes no longer than ctx
// allows, and not much longer than a scheduled read. The error is or wraps [ErrUnknown] or a
// [*ReadError]. Any goroutine, while Run runs.
func (s *Sampler) Read(ctx context.Context, name string) (clock.Stamp, []sensors.Field, error) {
	for _, r := range s.sensors.Load().runners {
		if r.name == name {
			got, err := r.readNow(ctx)
			return got.stamp, got.fields, err
		}
	}
	return clock.Stamp{}, nil, fmt.Errorf("%w %q", ErrUnknown, name)
}

// readNow asks the runner to read the sensor and waits for the result. Any goroutine.
func (r *runner) readNow(ctx context.Context) (reading, error) {
	request := readRequest{ctx, make(chan readResult, 1)}
	select {
	case r.requests <- request:
	case <-r.ended:
		return reading{}, &ReadError{Code: health.ReadFailed, Err: errors.New("it is no longer read: its configuration has changed, or the daemon is stopping")}
	case <-ctx.Done():
		return reading{}, r.timedOut(ctx)
	}
	select {
	case got := <-request.answer:
		return got.reading, got.err
	case <-ctx.Done():
		return reading{}, r.timedOut(ctx)
	}
}

// timedOut returns the error of a request that took too long. It says what the sensor is
// waiting for.
func (r *runner) timedOut(ctx context.Context) error {
	err := fmt.Errorf("%s %w in time: %w", r.bus.worker.Name(), errLate, context.Cause(ctx))
	return &ReadError{Code: health.ReadFailed, Err: r.withBusy(err)}
}

// answerRequest reads the sensor for a request.
func (r *runner) answerRequest(ctx context.Context, request readRequest) {
	within, cancel := context.WithCancel(request.ctx)
	defer cancel()
	defer context.AfterFunc(ctx, cancel)()
	got, err := r.attempt(within, false)
	switch {
	case err == nil:
	case ctx.Err() != nil:
		err = &ReadError{Code: health.ReadFailed, Err: fmt.Errorf("the daemon is stopping: %w", ctx.Err())}
	case errors.Is(err, errLate):
		err = &ReadError{Code: health.ReadFailed, Failures: r.breaker.failures, Err: r.withBusy(err)}
	default:
		err = &ReadError{Code: codeOf(err), Failures: r.breaker.failures, Err: err}
	}
	request.answer <- readResult{got, err}
}

// withBusy adds the sensor that the bus is busy with to an error, if there is one.
func (r *runner) withBusy(err error) error {
	busy := r.bus.worker.Busy()
	if busy == 0 {
		return err
	}
	return fmt.Errorf("%w; it has been busy with sensor %q for %v", err, r.bus.current.name(), busy.Round(100*time.Millisecond))
}
