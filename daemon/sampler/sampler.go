package sampler

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"fieldpost/daemon/clock"
	"fieldpost/daemon/health"
	"fieldpost/daemon/message"
	"fieldpost/sensors"
	"fieldpost/sensors/board"
)

// Options says what to read and where it goes.
type Options struct {
	Board     board.Board
	Sensors   []sensors.Config // as package config gives them: checked and complete; see [Sampler.Reconfigure]
	Run       uint64           // the daemon's run, stamped on every record
	Clock     clock.Clock
	Health    *health.Health    // told of the faults of sensors and buses; nil tells nobody
	Heartbeat *health.Heartbeat // beats at least once a second while Run runs; may be nil
	Log       *slog.Logger      // nil discards
	// Emit takes the records, for each sensor from one goroutine at a time
	// and in the order of their Seq. It should not block for long: while it
	// does, that sensor waits.
	Emit func(message.Record)
	// Counts are the sensors' counts so far in this run, for who makes one Sampler
	// after another in a run: otherwise receivers would take new readings for
	// copies of old ones. Nil starts from 1.
	Counts *Counts
}

const (
	// margin is what a request may take beyond the work itself: a transaction
	// that the bus gives up, after 100 ms or where an adapter knows no
	// I2C_TIMEOUT after a second.
	margin = time.Second
	// stall is how long a bus may be busy with one thing before it counts as
	// stuck.
	stall = 5 * time.Second
	// turn is the longest the scheduler waits.
	turn = time.Second
	// farApart is the least time between readings for which a bus is let go of,
	// so that an adapter on USB can be unplugged: it is longer than that nobody
	// who plugs something in should wait, and opening a bus costs a hundredth of
	// a reading.
	farApart = 5 * time.Second
	// grace is how long the end waits for a stuck worker.
	grace = 2 * time.Second
)

// Sampler reads sensors. Make it with [New] and run it once.
type Sampler struct {
	o       Options
	lookup  func(string) (sensors.Chip, bool)
	sensors atomic.Pointer[sensorSet] // that are read now
	changes chan change               // to Run
	ended   chan struct{}             // closed when Run has ended
	toPlan  chan *sensorSet           // from Run to the scheduler
	settled chan outcome
}

// outcome is how a request that the scheduler made has ended.
type outcome struct {
	u     *unit
	retry time.Duration // when to try again, after a failure; 0 after success
	hung  bool          // the bus itself timed out
}

// bench is a worker and what the scheduler knows of it.
type bench struct {
	worker   *board.Worker
	bus      string       // "" where the worker serves one sensor that is on no bus
	patience atomic.Int64 // how long a request waits for its turn and its answer, in ns
	serving  serving      // whom the worker serves
	stop     context.CancelFunc
	ended    chan struct{} // closed when the worker has ended
	stuck    bool          // the scheduler's
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
		toPlan: make(chan *sensorSet), settled: make(chan outcome, len(o.Sensors)),
	}
	s.sensors.Store(s.arrange(&sensorSet{}, o.Sensors))
	return s
}

// strange stands in for a chip that is not in the catalog; package config lets
// none through.
func strange(name string) sensors.Chip {
	return sensors.Chip{Name: name, Every: time.Minute, Open: func(board.Board, sensors.Config) (sensors.Sensor, error) {
		return nil, fmt.Errorf("open chip: %q is not in the catalog", name)
	}}
}

// Run reads until ctx ends. Then it lets go of the sensors and returns when
// all its goroutines have ended, or after some seconds when a worker is caught
// in the kernel: that one is left behind and named in the log.
func (s *Sampler) Run(ctx context.Context) error {
	defer s.o.Heartbeat.End()
	defer close(s.ended)
	work, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	first := s.sensors.Load()
	s.startWorkers(work, first.benches)
	s.startRunners(ctx, first.units)
	var scheduler sync.WaitGroup
	scheduler.Go(func() { s.schedule(ctx, first) })
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
	s.leave(last.benches)
	return ctx.Err()
}

// startWorkers starts the workers of benches; they end with work, or when they are
// stopped.
func (s *Sampler) startWorkers(work context.Context, benches []*bench) {
	for _, b := range benches {
		if b.bus != "" {
			s.o.Health.ClearAll(b.bus, health.BusStuck) // of a Sampler before this one
		}
		ctx, stop := context.WithCancel(work)
		b.stop = stop
		go func() {
			defer close(b.ended)
			_ = b.worker.Run(ctx) // it ends with ctx's end and says no more than that
		}()
	}
}

// startRunners starts the runners of sensors; they end with ctx, or when they are
// stopped.
func (s *Sampler) startRunners(ctx context.Context, units []*unit) {
	for _, u := range units {
		ctx, stop := context.WithCancel(ctx)
		u.stop = stop
		go func() {
			defer close(u.ended)
			u.run(ctx, s.settled)
		}()
	}
}

// leave waits for the workers, within bounds.
func (s *Sampler) leave(benches []*bench) {
	late := time.NewTimer(grace)
	defer late.Stop()
	for _, b := range benches {
		b.stop()
		select {
		case <-b.ended:
			continue
		default:
		}
		select {
		case <-b.ended:
		case <-late.C:
			late.Reset(0) // for the ones after this
			s.o.Log.Warn("worker left behind", "worker", b.worker.Name(), "busy", b.worker.Busy(), "sensor", b.serving.name())
		}
	}
}
