package sampler

import (
	"context"
	"errors"
	"slices"
	"sync/atomic"
	"syscall"
	"time"

	"fieldpost/daemon/clock"
	"fieldpost/daemon/health"
	"fieldpost/daemon/message"
	"fieldpost/daemon/task"
	"fieldpost/daemon/wake"
	"fieldpost/sensors"
	"fieldpost/sensors/board"
	"fieldpost/sensors/filter"
)

// runner reads one sensor. Only its own goroutine uses its fields, unless they say otherwise.
type runner struct {
	o        *Options
	name     string
	bus      *busWorker
	due      wake.Signal      // set by the scheduler for a read
	redo     chan error       // errors of a pass that did not read the sensor
	requests chan readRequest // reads for other callers
	plan     plan             // used only by the scheduler
	timesOut bool             // used only by the scheduler: the last read timed out on the bus
	fit      bool             // used only by the scheduler: the last read succeeded, so a pass may read it
	driver   driver           // used only by the bus worker
	records  *collector
	lost     atomic.Bool   // edges were lost since the last good reading
	pulses   atomic.Bool   // a fault of a counter's line may be raised
	reading  bool          // guarded by the collector: a scheduled read is running
	well     atomic.Bool   // the last read succeeded, and the one before it too
	failures atomic.Uint64 // number of scheduled reads that failed, each after a second attempt
	stop     context.CancelFunc
	ended    chan struct{} // closed when the runner has ended

	breaker   breaker
	faulty    bool
	failed    bool            // the last read failed
	followers *task.Group     // the follower, once a line with edges was opened
	opened    chan openedLine // to the follower; nil while there is none
	quit      chan struct{}   // closed to end the follower
}

func newRunner(o *Options, records *collector, c sensors.Config, chip sensors.Chip, b *busWorker) *runner {
	every := c.Every
	if every <= 0 {
		every = chip.Every
	}
	return &runner{
		o:        o,
		name:     c.Name,
		bus:      b,
		due:      wake.New(),
		redo:     make(chan error, 1),
		requests: make(chan readRequest),
		plan:     plan{every: every},
		driver:   driver{board: board.NewResting(o.Board), rests: every >= closeBusFrom, config: c, chip: chip, filters: filter.New(c, every), totals: o.Totals, lines: make(chan (<-chan board.Edge), 4)},
		records:  records,
		quit:     make(chan struct{}),
		ended:    make(chan struct{}),
	}
}

// run makes scheduled and requested reads until ctx ends, and then closes the sensor.
func (r *runner) run(ctx context.Context, outcomes chan<- outcome) {
	r.o.Health.ClearAll(r.name, health.Chatters) // of an earlier Sampler
	r.followers = task.NewGroup(ctx)
	defer r.followers.Wait()
	defer close(r.quit)
	for {
		select {
		case <-ctx.Done():
			r.closeSensor(ctx)
			return
		case edges := <-r.driver.lines:
			r.followLine(edges)
		case <-r.due.C():
			o := r.read(ctx)
			r.records.endRead(r)
			r.report(ctx, o, outcomes)
		case err := <-r.redo:
			o := r.readAgain(ctx, err)
			r.records.endRead(r)
			r.report(ctx, o, outcomes)
		case request := <-r.requests:
			r.answerRequest(ctx, request)
		}
	}
}

// report reports a read's outcome to the scheduler. If this read and the last succeeded, it
// does not wake the scheduler, which finds r.well when the sensor is due again.
func (r *runner) report(ctx context.Context, o outcome, outcomes chan<- outcome) {
	failed := o.retry > 0
	if failed || r.failed {
		select {
		case outcomes <- o:
		case <-ctx.Done():
		}
	} else {
		r.well.Store(true)
	}
	r.failed = failed
}

// read reads the sensor, and once more if that fails. If both fail, the outcome says when to
// try again.
func (r *runner) read(ctx context.Context) outcome {
	got, err := r.attempt(ctx, true)
	return r.finishRead(ctx, got, err)
}

// readAgain continues a read whose first attempt failed in a pass.
func (r *runner) readAgain(ctx context.Context, err error) outcome {
	if errors.Is(err, errNotOpen) {
		return r.read(ctx)
	}
	return r.finishRead(ctx, reading{}, err)
}

// finishRead completes a read after its first attempt.
func (r *runner) finishRead(ctx context.Context, got reading, err error) outcome {
	if err != nil && ctx.Err() == nil && !errors.Is(err, errLate) && !errors.Is(err, sensors.ErrNotReady) {
		got, err = r.attempt(ctx, true)
	}
	switch {
	case err == nil:
		r.readSucceeded(got)
		return outcome{runner: r}
	case ctx.Err() != nil:
		return outcome{runner: r} // the daemon is stopping; it is not the sensor's failure
	case errors.Is(err, sensors.ErrNotReady):
		return outcome{runner: r, retry: untilReady} // not a failure: it works but has no value yet
	}
	r.failures.Add(1)
	r.readFailed(err)
	return outcome{r, r.breaker.fail(r.plan.every), errors.Is(err, syscall.ETIMEDOUT)}
}

// attempt makes the bus worker read the sensor, and gives up if that takes too long. For
// scheduled see driver.read.
func (r *runner) attempt(ctx context.Context, scheduled bool) (reading, error) {
	patience := time.Duration(r.bus.patience.Load())
	within, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	reopen, result := r.breaker.isOpen(), make(chan reading, 1)
	err := r.bus.worker.Do(within, func() error {
		r.bus.current.set(&r.name)
		got, err := r.driver.read(reopen, scheduled, r.o.Clock)
		if within.Err() != nil {
			r.driver.filters.Failed() // the runner has given up, so it is not sent
		}
		if err == nil {
			result <- got
		}
		return err
	})
	r.followOpened()
	select {
	case got := <-result:
		return got, nil // it may have come just as the time ended
	default:
	}
	if within.Err() != nil && errors.Is(err, within.Err()) {
		return reading{}, r.bus.lateError()
	}
	return reading{}, err
}

// followOpened follows the edges of lines that were just opened.
func (r *runner) followOpened() {
	for {
		select {
		case edges := <-r.driver.lines:
			r.followLine(edges)
		default:
			return
		}
	}
}

// readSucceeded clears the sensor's faults and emits the reading.
func (r *runner) readSucceeded(got reading) {
	r.breaker.succeed()
	r.faulty = false
	if !r.lost.Swap(false) {
		r.o.Health.ClearAll(r.name, health.EdgesLost)
	}
	r.o.Health.ClearAll(r.name, readFaults...)
	r.reportPulses(got.pulses)
	r.emit(got)
}

// passed accepts a reading that a pass has made. The sensor's last read succeeded, so there
// is no fault of reading to clear. Only the bus worker calls it.
func (r *runner) passed(got reading) {
	select {
	case <-r.ended:
		return // it is no longer read
	default:
	}
	if r.driver.edges && !r.lost.Swap(false) {
		r.o.Health.ClearAll(r.name, health.EdgesLost)
	}
	r.well.Store(true)
	r.reportPulses(got.pulses)
	r.emit(got)
}

// emit emits a reading unless a filter suppresses it. A suppressed reading has no number, so
// it leaves no gap in the sequence.
func (r *runner) emit(got reading) {
	if !got.kept {
		r.records.add(r.record(message.Reading, got.stamp, got.fields))
	}
}

// record makes a record of the sensor, without its number.
func (r *runner) record(kind message.Kind, stamp clock.Stamp, fields []sensors.Field) message.Record {
	return message.Record{Kind: kind, Sensor: r.name, Run: r.o.Run, Stamp: stamp, Fields: fields}
}

// readFailed raises the fault for err and then clears other faults of reading. In this order
// the sensor always has a fault.
func (r *runner) readFailed(err error) {
	code := codeOf(err)
	if panicked := (*board.PanicError)(nil); !r.faulty && errors.As(err, &panicked) {
		r.o.Log.Error("driver panicked", "sensor", r.name, "error", err) // with the stack
	}
	r.faulty = true
	r.o.Health.Raise(code, r.name, detail(err))
	others := slices.DeleteFunc(slices.Clone(readFaults), func(c health.Code) bool { return c == code })
	r.o.Health.ClearAll(r.name, others...)
}

// closeSensor emits what was read, makes the bus worker close the sensor, and waits for that
// for a bounded time.
func (r *runner) closeSensor(ctx context.Context) {
	within, cancel := context.WithTimeout(context.WithoutCancel(ctx), stopWait)
	defer cancel()
	err := r.bus.worker.Do(within, func() error {
		r.bus.current.set(&r.name)
		return r.driver.close()
	})
	r.records.flush()
	r.followOpened() // a line that was opened at the last moment still has edges to emit
	if err != nil {
		r.o.Log.Warn("sensor not closed", "sensor", r.name, "error", detail(err))
	}
}
