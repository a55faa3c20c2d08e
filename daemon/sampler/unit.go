package sampler

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"fieldpost/daemon/health"
	"fieldpost/daemon/message"
	"fieldpost/sensors"
	"fieldpost/sensors/board"
)

// unit is one sensor and its runner.
type unit struct {
	o       *Options
	name    string
	bench   *bench
	trigger chan struct{} // one request of the scheduler's
	asks    chan ask      // requests of others
	plan    plan          // the scheduler's
	hung    bool          // the scheduler's: its last read timed out on the bus
	driver  driver        // the worker's
	count   *count
	lost    atomic.Bool // edges were lost since the last good reading
	well    atomic.Bool // the request under way has ended well, after one that had too
	stop    context.CancelFunc
	ended   chan struct{} // closed when the runner has ended

	// The runner's own.
	breaker   breaker
	faulty    bool
	failed    bool            // the last request did
	followers sync.WaitGroup  // one, from the first line with edges on
	opened    chan openedLine // to the follower; nil while there is none
	quit      chan struct{}   // ends the follower
}

func newUnit(o *Options, c sensors.Config, chip sensors.Chip, b *bench) *unit {
	every := c.Every
	if every <= 0 {
		every = chip.Every
	}
	return &unit{
		o:       o,
		name:    c.Name,
		bench:   b,
		trigger: make(chan struct{}, 1),
		asks:    make(chan ask),
		plan:    plan{every: every},
		driver:  driver{board: board.NewResting(o.Board), rests: every >= farApart, config: c, chip: chip, clock: o.Clock, lines: make(chan (<-chan board.Edge), 4)},
		count:   o.Counts.of(c.Name),
		quit:    make(chan struct{}),
		ended:   make(chan struct{}),
	}
}

// run does the scheduler's requests, and those of others, until ctx ends, and
// then lets the sensor go.
func (u *unit) run(ctx context.Context, settled chan<- outcome) {
	u.o.Health.ClearAll(u.name, health.Chatters) // of a Sampler before this one
	defer u.followers.Wait()
	defer close(u.quit)
	for {
		select {
		case <-ctx.Done():
			u.end(ctx)
			return
		case edges := <-u.driver.lines:
			u.follow(edges)
		case <-u.trigger:
			u.settle(ctx, u.read(ctx), settled)
		case a := <-u.asks:
			u.asked(ctx, a)
		}
	}
}

// settle tells the scheduler how a request has ended. It is not woken to learn
// that all is well as it was: it finds that when the sensor is due again.
func (u *unit) settle(ctx context.Context, o outcome, settled chan<- outcome) {
	failed := o.retry > 0
	if failed || u.failed {
		select {
		case settled <- o:
		case <-ctx.Done():
		}
	} else {
		u.well.Store(true)
	}
	u.failed = failed
}

// read reads the sensor, once more if need be, and says when to try again
// where both have failed.
func (u *unit) read(ctx context.Context) outcome {
	r, err := u.attempt(ctx)
	if err != nil && ctx.Err() == nil && !errors.Is(err, errLate) {
		r, err = u.attempt(ctx)
	}
	switch {
	case err == nil:
		u.succeed(r)
		return outcome{u: u}
	case ctx.Err() != nil:
		return outcome{u: u} // the end, not the sensor's fault
	}
	u.fail(err)
	return outcome{u, u.breaker.fail(u.plan.every), errors.Is(err, syscall.ETIMEDOUT)}
}

// attempt has the worker read the sensor, and gives up when it takes too long.
func (u *unit) attempt(ctx context.Context) (reading, error) {
	patience := time.Duration(u.bench.patience.Load())
	within, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	anew, got := u.breaker.open(), make(chan reading, 1)
	err := u.bench.worker.Do(within, func() error {
		u.bench.serving.set(u.name)
		r, err := u.driver.read(anew)
		if err == nil {
			got <- r
		}
		return err
	})
	u.adopt()
	select {
	case r := <-got:
		return r, nil // perhaps at the very last moment
	default:
	}
	if within.Err() != nil && errors.Is(err, within.Err()) {
		return reading{}, fmt.Errorf("%s %w within %v", u.bench.worker.Name(), errLate, patience)
	}
	return reading{}, err
}

// adopt follows the edges of a sensor that was just opened.
func (u *unit) adopt() {
	for {
		select {
		case edges := <-u.driver.lines:
			u.follow(edges)
		default:
			return
		}
	}
}

func (u *unit) succeed(r reading) {
	u.breaker.succeed()
	u.faulty = false
	if !u.lost.Swap(false) {
		u.o.Health.ClearAll(u.name, health.EdgesLost)
	}
	u.o.Health.ClearAll(u.name, readFaults...)
	u.emit(message.Record{Kind: message.Reading, Stamp: r.stamp, Fields: r.fields})
}

// fail raises the fault that err is. A fault of another kind it had before is
// over, but not before this one is raised: it works at no time between.
func (u *unit) fail(err error) {
	code := codeOf(err)
	if !u.faulty && strings.HasPrefix(err.Error(), "driver panicked") { // the worker's words, and the stack
		u.o.Log.Error("driver panicked", "sensor", u.name, "error", err)
	}
	u.faulty = true
	u.o.Health.Raise(code, u.name, detail(err))
	others := slices.DeleteFunc(slices.Clone(readFaults), func(c health.Code) bool { return c == code })
	u.o.Health.ClearAll(u.name, others...)
}

// emit numbers a record and hands it on.
func (u *unit) emit(r message.Record) {
	u.count.next(func(seq uint64) {
		r.Sensor, r.Run, r.Seq = u.name, u.o.Run, seq
		u.o.Emit(r)
	})
}

// end has the worker close the sensor, if it comes to it in time.
func (u *unit) end(ctx context.Context) {
	within, cancel := context.WithTimeout(context.WithoutCancel(ctx), grace)
	defer cancel()
	err := u.bench.worker.Do(within, func() error {
		u.bench.serving.set(u.name)
		return u.driver.close()
	})
	u.adopt() // what was opened at the last moment still has edges to tell
	if err != nil {
		u.o.Log.Warn("sensor not closed", "sensor", u.name, "error", detail(err))
	}
}
