package sampler

import (
	"context"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"

	"fieldpost/daemon/clock"
	"fieldpost/daemon/health"
	"fieldpost/daemon/message"
	"fieldpost/daemon/task"
	"fieldpost/sensors"
	"fieldpost/sensors/board"
)

// Options says what to read and where it goes.
type Options struct {
	Board     board.Board
	Sensors   []sensors.Config // as package config gives them: checked and complete; see [Sampler.Reconfigure]
	Run       uint64           // the daemon's run, stamped on every record
	Clock     clock.Clock
	Health    *health.Health    // told of the faults of sensors and buses; may be nil
	Heartbeat *health.Heartbeat // beats at least once a second while Run runs; may be nil
	Log       *slog.Logger      // nil discards
	// Emit takes the records, of each sensor in the order of Seq. It is called from one
	// goroutine at a time, should not block for long, because all sensors wait, and must not
	// keep the slice.
	Emit func([]message.Record)
	// Linger is how long a reading may wait for others that are being read, to be emitted
	// together; 0 is not at all. See [Sampler.SetLinger].
	Linger time.Duration
	// Rest is called when the last of the scheduled reads under way has ended and its record
	// is emitted, and when readings were emitted that have waited for Linger; from a
	// goroutine of the Sampler; must not block, nor call methods of the Sampler; may be nil.
	Rest func()
	// Counts has the sensors' sequence numbers so far in this run. If there is more than
	// one Sampler in a run they must share it, because receivers take a reading with a
	// known number for a duplicate. Nil starts from 1.
	Counts *Counts
}

const (
	// margin is what a read may take beyond the chip's own time: a transaction that the
	// bus gives up, after 100 ms, or after a second if the adapter does not support
	// I2C_TIMEOUT.
	margin = time.Second
	// untilReady is when a sensor that has no value yet is asked again.
	untilReady = time.Second
	// stuckAfter is how long a bus may be busy with one read before it counts as stuck.
	stuckAfter = 5 * time.Second
	// beatEvery is the longest that the scheduler waits.
	beatEvery = health.IdleEvery
	// watchEvery is how often it looks whether a bus is stuck while one is in use.
	watchEvery = time.Second
	// closeBusFrom is the shortest period between readings for which the bus is closed
	// meanwhile, so that a USB adapter can be unplugged. Somebody who unplugs one may have
	// to wait that long, and opening a bus costs a hundredth of a reading.
	closeBusFrom = 5 * time.Second
	// stopWait is how long a stop waits for a stuck bus worker.
	stopWait = 2 * time.Second
)

// Sampler reads sensors. Make it with [New] and run it once.
type Sampler struct {
	o        Options
	lookup   func(string) (sensors.Chip, bool)
	sensors  atomic.Pointer[sensorSet] // that are read now
	changes  chan change               // to Run
	ended    chan struct{}             // closed when Run has ended
	others   *task.Group               // Run's: all other goroutines
	toPlan   chan *sensorSet           // from Run to the scheduler
	outcomes chan outcome
	records  collector
	passes   []*busPass // the scheduler's: that have not ended
}

// outcome is how a scheduled read has ended.
type outcome struct {
	runner   *runner
	retry    time.Duration // when to try again after a failure; 0 after success
	timedOut bool          // the bus itself timed out
}

// busWorker is the worker of one bus, or of one sensor that is on no bus.
type busWorker struct {
	worker   *board.Worker
	bus      string        // its name; "" for a sensor on no bus
	patience atomic.Int64  // how long a read may wait for its turn and its result, in ns
	current  currentSensor // that the worker works for
	stop     context.CancelFunc
	ended    chan struct{} // closed when the worker has ended
	stuck    bool          // the scheduler's: the fault is raised
	due      []*runner     // the scheduler's: to be read in one pass
	pause    *time.Timer   // the worker's, of sleep
	idle     []*coroutine  // the worker's
	trim     atomic.Bool   // the next pass is to end those: fewer may be needed
}

// New makes a Sampler. It touches nothing until [Sampler.Run].
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
			_ = b.worker.Run(ctx) // ends with ctx; its error says no more
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
			defer s.records.end(r)
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
