package sampler

import (
	"context"
	"fieldpost/daemon/wake"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"

	"fieldpost/daemon/clock"
	"fieldpost/daemon/health"
	"fieldpost/daemon/message"
	"fieldpost/daemon/task"
	"fieldpost/daemon/totals"
	"fieldpost/sensors"
	"fieldpost/sensors/board"
)

// Options says what to read and where it goes.
type Options struct {
	Board     board.Board
	Sensors   []sensors.Config // checked and complete, as from package config; see [Sampler.Reconfigure]
	Run       uint64           // the daemon's run, stamped on every record
	Clock     clock.Clock
	Health    *health.Health    // gets the faults of sensors and buses; may be nil
	Heartbeat *health.Heartbeat // beats at least once a second while Run runs; may be nil
	Log       *slog.Logger      // nil discards
	// Emit receives the records; those of a sensor come in the order of Seq. It is called
	// from one goroutine at a time. It should not block for long, because all sensors wait,
	// and must not keep the slice.
	Emit func([]message.Record)
	// Linger is how long a reading may wait for running reads, to be emitted together with
	// them; 0: not at all. See [Sampler.SetLinger].
	Linger time.Duration
	// Rest is called when the last running read has ended and its record is emitted, and when
	// readings were emitted that have waited for Linger. It is called from a goroutine of the
	// Sampler, must not block and must not call methods of the Sampler. May be nil.
	Rest func()
	// Counts has the sensors' sequence numbers so far in this run. If a run has more than one
	// Sampler, they must share it, because receivers take a reading with a known number for a
	// duplicate. Nil starts from 1.
	Counts *Counts
	// Totals has the totals of counters. If it is nil, they count from their opening.
	Totals *totals.Store
}

const (
	// margin is how much longer than the chip's own time a read may take: until the bus gives
	// up a transaction, which takes 100 ms, or a second if the adapter does not support
	// I2C_TIMEOUT.
	margin = time.Second
	// untilReady is when a sensor that has no value yet is asked again.
	untilReady = time.Second
	// stuckAfter is how long a bus may be busy with one read before it counts as stuck.
	stuckAfter = 5 * time.Second
	// beatEvery is the longest that the scheduler waits.
	beatEvery = health.IdleEvery
	// watchEvery is how often the scheduler checks buses that are in use for being stuck.
	watchEvery = time.Second
	// closeBusFrom is the shortest period of a sensor for which its bus is closed between
	// readings. While it is closed, a USB adapter can be unplugged, so somebody who wants to
	// unplug one may have to wait that long. Opening a bus costs a hundredth of a reading.
	closeBusFrom = 5 * time.Second
	// stopWait bounds the wait for a stuck bus worker at a stop.
	stopWait = 2 * time.Second
)

// Sampler reads sensors. Make it with [New] and run it once.
type Sampler struct {
	o        Options
	lookup   func(string) (sensors.Chip, bool)
	sensors  atomic.Pointer[sensorSet] // the sensors that are read now
	changes  chan change               // to Run
	ended    chan struct{}             // closed when Run has ended
	others   *task.Group               // Run's: all other goroutines
	toPlan   chan *sensorSet           // from Run to the scheduler
	outcomes chan outcome
	records  collector
	passes   []*busPass // used only by the scheduler: passes that have not ended
}

// outcome is the outcome of a scheduled read.
type outcome struct {
	runner   *runner
	retry    time.Duration // when to try again after a failure; 0 after success
	timedOut bool          // the bus itself timed out
}

// busWorker is the worker of one bus, or of one sensor that is not on a bus.
type busWorker struct {
	worker   *board.Worker
	bus      string        // its name; "" for a sensor that is not on a bus
	patience atomic.Int64  // how long a read may wait for its turn and its result, in ns
	current  currentSensor // the sensor that the worker is reading
	stop     context.CancelFunc
	ended    chan struct{} // closed when the worker has ended
	stuck    bool          // used only by the scheduler: the fault is raised
	due      []*runner     // used only by the scheduler: to be read in one pass
	pause    *wake.Timer   // used only by the worker: the timer of sleep
	idle     []*coroutine  // used only by the worker: coroutines for reads
	trim     atomic.Bool   // the next pass must end the idle coroutines, because fewer may be needed
}

// New makes a Sampler. It uses no hardware before [Sampler.Run].
func New(o Options) *Sampler { return build(o, sensors.Lookup) }

func build(o Options, lookup func(string) (sensors.Chip, bool)) *Sampler {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Counts == nil {
		o.Counts = new(Counts)
	}
	s := &Sampler{
		o: o, lookup: lookup, changes: make(chan change), ended: make(chan struct{}),
		toPlan: make(chan *sensorSet), outcomes: make(chan outcome, len(o.Sensors)),
	}
	s.records.o, s.records.linger = &s.o, o.Linger
	s.sensors.Store(s.arrange(&sensorSet{}, o.Sensors))
	return s
}

// unknownChip stands in for a chip that is not in the catalog. Package config refuses
// such a chip.
func unknownChip(name string) sensors.Chip {
	return sensors.Chip{Name: name, Every: time.Minute, Open: func(board.Board, sensors.Config) (sensors.Sensor, error) {
		return nil, fmt.Errorf("open chip: %q is not in the catalog", name)
	}}
}

// FailedReads returns how many scheduled reads of each sensor have failed since it was
// configured as it is now, by its name. A read is tried twice before it fails. Any goroutine.
func (s *Sampler) FailedReads() map[string]uint64 {
	set := s.sensors.Load()
	all := make(map[string]uint64, len(set.runners))
	for _, r := range set.runners {
		all[r.name] = r.failures.Load()
	}
	return all
}

// Run reads until ctx ends. Then it closes the sensors and returns when all its
// goroutines have ended. A bus worker that is blocked in the kernel is left behind after
// some seconds and named in the log.
func (s *Sampler) Run(ctx context.Context) error {
	defer s.o.Heartbeat.End()
	defer close(s.ended)
	work, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	s.others = task.NewGroup(ctx)
	s.records.others = s.others
	first := s.sensors.Load()
	s.startWorkers(work, first.buses)
	s.startRunners(ctx, first.runners)
	scheduler := task.NewGroup(ctx)
	scheduler.Go("sampling schedule", func() { s.schedule(ctx, first) })
	for ctx.Err() == nil {
		select {
		case <-ctx.Done():
		case c := <-s.changes:
			s.apply(ctx, work, c.sensors)
			close(c.done)
		}
	}
	scheduler.Wait()
	last := s.sensors.Load()
	last.awaitRunners()
	stop()
	s.stopWorkers(last.buses)
	s.records.close()
	return ctx.Err()
}

// startWorkers starts bus workers. They end with work, or when they are stopped.
func (s *Sampler) startWorkers(work context.Context, buses []*busWorker) {
	for _, b := range buses {
		if b.bus != "" {
			s.o.Health.ClearAll(b.bus, health.BusStuck) // of a Sampler before this one
		}
		ctx, stop := context.WithCancel(work)
		b.stop = stop
		s.others.Go("bus worker", func() {
			defer close(b.ended)
			defer b.stopCoroutines()
			_ = b.worker.Run(ctx) // ends with ctx; the error is only that of ctx
		})
	}
}

// startRunners starts the runners of sensors. They end with ctx, or when they are
// stopped.
func (s *Sampler) startRunners(ctx context.Context, runners []*runner) {
	for _, r := range runners {
		ctx, stop := context.WithCancel(ctx)
		r.stop = stop
		s.others.Go("sensor runner", func() {
			defer close(r.ended)
			defer s.records.endRead(r)
			r.run(ctx, s.outcomes)
		})
	}
}

// stopWorkers stops bus workers and waits for them to end, for stopWait at most.
func (s *Sampler) stopWorkers(buses []*busWorker) {
	late := time.NewTimer(stopWait)
	defer late.Stop()
	for _, b := range buses {
		b.stop()
		select {
		case <-b.ended:
			continue
		default:
		}
		select {
		case <-b.ended:
		case <-late.C:
			late.Reset(0) // do not wait for the others either
			s.o.Log.Warn("worker left behind", "worker", b.worker.Name(), "busy", b.worker.Busy(), "sensor", b.current.name())
		}
	}
}
