package rehearse

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"math"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"fieldpost/daemon"
	"fieldpost/daemon/api"
	"fieldpost/daemon/clock"
	"fieldpost/daemon/config"
	"fieldpost/daemon/message"
	"fieldpost/daemon/output"
	"fieldpost/daemon/task"
	"fieldpost/daemon/uplink"
	"fieldpost/sensors"
	"fieldpost/sensors/sim/simboard"
)

const (
	// patience bounds each wait for what must happen. It decides nothing but how long a broken
	// promise takes to be found.
	patience = 45 * time.Second
	// readEvery is the longest time between two readings of a sensor in a rehearsal.
	readEvery = 500 * time.Millisecond
	// safeSoon is what stands for safe_after.
	safeSoon = 2 * time.Second
	// slowest is the warm-up of the slowest chips that are waited for at the start.
	slowest = 10 * time.Second
)

// hasten returns a copy of a configuration that a rehearsal does not have to wait for, and what
// it has changed.
func hasten(cfg *config.Config) (*config.Config, []string) {
	c := *cfg
	var said []string
	c.Local = config.Local{}
	c.Broker.Limits = "none"
	c.Sensors = append([]sensors.Config(nil), cfg.Sensors...)
	filters, slow := false, false
	for i := range c.Sensors {
		s := &c.Sensors[i]
		filters = filters || len(s.Filters) > 0 || len(s.Derive) > 0
		slow = slow || s.Every > readEvery
		s.Every, s.Filters, s.Derive = min(s.Every, readEvery), nil, nil
	}
	if slow {
		said = append(said, fmt.Sprintf("sensors are read every %v at least", readEvery))
	}
	if filters {
		said = append(said, "filters and derived values are left out, so that each reading counts")
	}
	c.Outputs = append([]output.Config(nil), cfg.Outputs...)
	after, pauses := false, false
	for i := range c.Outputs {
		o := &c.Outputs[i]
		if o.SafeAfter > safeSoon {
			o.SafeAfter, after = safeSoon, true
		}
		pauses = pauses || o.MinOn > 0 || o.MinOff > 0 || o.Ramp > 0
		o.MinOn, o.MinOff, o.Ramp = 0, 0, 0
	}
	if after {
		said = append(said, fmt.Sprintf("safe_after is %v", safeSoon))
	}
	if pauses {
		said = append(said, "min_on, min_off and ramp are left out")
	}
	if cfg.Local.Listen != "" || cfg.Local.Metrics != "" {
		said = append(said, "the page and the metrics are not served")
	}
	return &c, append(said, "the rates of AWS IoT Core are not kept")
}

// settable is a clock whose wall time can be wrong.
type settable struct {
	clock.Clock
	mu     sync.Mutex
	off    time.Duration
	synced bool
}

// Now implements [clock.Clock].
func (c *settable) Now() clock.Stamp {
	c.mu.Lock()
	defer c.mu.Unlock()
	s := c.Clock.Now()
	s.Wall, s.Synced = s.Wall.Add(c.off), c.synced
	return s
}

func (c *settable) set(off time.Duration, synced bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.off, c.synced = off, synced
}

// stage is one simulation with one daemon, for one fault. Its methods are called from one
// goroutine.
type stage struct {
	ctx   context.Context
	o     RunOptions
	fault string
	cfg   *config.Config // hastened; not yet the simulation's
	sim   *Simulation
	clock *settable
	rec   *recorder

	failed   chan error
	board    *task.Task
	broker   *task.Task // nil: the broker does not run
	running  *task.Task // the daemon; nil: it does not run
	linked   bool       // guarded by rec.mu
	queue    *uplink.Queue
	link     *task.Task
	orders   int
	unread   map[string]string    // sensors that are not waited for, and their faults; of the whole rehearsal
	prepared func(*config.Config) // changes the daemon's configuration; nil: nothing

	// For tests, which break promises.
	watch  func(message.Record) // told of each record after the recorder; nil: nobody
	gaveUp chan struct{}        // closed when nothing is waited for any more; nil: never
}

// openStage makes the simulation in a directory of its own.
func openStage(ctx context.Context, o RunOptions, name, dir string, cfg *config.Config) (*stage, error) {
	s := &stage{ctx: ctx, o: o, fault: name, cfg: cfg, rec: newRecorder(), failed: make(chan error, 8), unread: map[string]string{}}
	var err error
	if s.sim, err = New(Options{Config: cfg, Dir: filepath.Join(dir, name), Log: quiet}); err != nil {
		return nil, err
	}
	s.clock = &settable{Clock: s.sim.Clock, synced: true}
	s.sim.Clock = s.clock
	s.board = task.Start("simulated board", s.failed, s.sim.Board.Run)
	s.startBroker()
	return s, nil
}

// quiet logs nothing: the report says what happened.
var quiet = slog.New(slog.DiscardHandler)

func (s *stage) startBroker() {
	if s.broker == nil {
		s.broker = task.Start("broker", s.failed, s.sim.Broker.Run)
	}
}

func (s *stage) stopBroker() error {
	if s.broker == nil {
		return nil
	}
	err := s.broker.Stop(10 * time.Second)
	s.broker = nil
	return err
}

// startDaemon starts the daemon.
func (s *stage) startDaemon() error {
	o := s.sim.Daemon(s.cfg, nil, s.o.Version, quiet)
	if s.prepared != nil {
		s.prepared(o.Config)
	}
	o.Socket = "" // its path may be too long for one; nobody asks
	o.Taken, o.Acked = s.take, s.rec.ack
	o.Linked = func(st uplink.Status) {
		s.rec.mu.Lock()
		defer s.rec.mu.Unlock()
		s.linked = st.Connected
		var e *uplink.Explained
		if errors.As(st.Err, &e) {
			s.rec.ever["link "+e.Code] = true
		}
		s.rec.changedLocked()
	}
	d, err := daemon.New(o)
	if err != nil {
		return err
	}
	s.rec.began()
	s.running = task.Start("daemon", s.failed, func(ctx context.Context) error {
		err := errors.New("it panicked")
		defer func() { s.rec.end(err) }()
		err = d.Run(ctx)
		return err
	})
	return nil
}

// take is told each record that the daemon takes.
func (s *stage) take(m message.Record) {
	s.rec.take(m)
	if s.watch != nil {
		s.watch(m)
	}
}

// stopDaemon stops the daemon. The error is that it had ended by itself before, or panicked.
// late says what else it reports: on a slow machine a part may need longer than it is given, which
// breaks no promise as long as another daemon can go on after it.
func (s *stage) stopDaemon() (late string, err error) {
	if s.running == nil {
		return "", nil
	}
	s.rec.mu.Lock()
	died := s.rec.ended != nil
	s.rec.mu.Unlock()
	err = s.running.Stop(time.Minute)
	s.running = nil
	if err == nil || died || errors.Is(err, task.ErrPanicked) {
		return "", err
	}
	return err.Error(), nil
}

// close stops everything.
func (s *stage) close() error {
	_, err := s.stopDaemon()
	errs := []error{err}
	if s.link != nil {
		errs = append(errs, s.link.Stop(10*time.Second))
	}
	errs = append(errs, s.stopBroker(), s.board.Stop(5*time.Second), s.sim.Close())
	return errors.Join(errs...)
}

// await waits for a condition, which is asked with the recorder's lock held.
func (s *stage) await(ok func() bool) bool { return s.rec.await(s.ctx, patience, s.gaveUp, ok) }

// begin starts the daemon, and waits until it is connected and has read all sensors that can be
// read soon. It returns their names. Those that are not read, although others are, are not waited
// for again in this rehearsal.
func (s *stage) begin() (read []string, err error) {
	if err := s.startDaemon(); err != nil {
		return nil, err
	}
	var want []string
	for _, p := range s.sim.Board.Parts() {
		if s.unread[p.Sensor] == "" && !slow(p.Chip) {
			want = append(want, p.Sensor)
		}
	}
	all := s.await(func() bool {
		read = read[:0]
		for _, name := range want {
			if s.rec.count[name]+s.rec.edges[name] > 0 {
				read = append(read, name)
			}
		}
		return s.linked && len(read) == len(want)
	})
	s.rec.mu.Lock()
	defer s.rec.mu.Unlock()
	switch {
	case s.ctx.Err() != nil:
		return nil, s.ctx.Err()
	case s.rec.ended != nil:
		return nil, fmt.Errorf("the daemon ended: %w", s.rec.ended)
	case !s.linked:
		return nil, errors.New("the daemon did not connect to the stand-in broker")
	case !all && len(read) == 0:
		return nil, fmt.Errorf("no sensor was read; faults: %s", s.rec.saidLocked(""))
	}
	for _, name := range want {
		if !slices.Contains(read, name) {
			s.unread[name] = cmp.Or(s.rec.saidLocked(name), "no fault")
		}
	}
	return read, nil
}

// slow reports whether a chip needs so long to warm up that it is not waited for.
func slow(chip string) bool {
	c, _ := sensors.Lookup(chip)
	return c.WarmUp > slowest
}

// part returns the simulated sensor of that name.
func (s *stage) part(name string) *simboard.Part {
	for _, p := range s.sim.Board.Parts() {
		if p.Sensor == name {
			return p
		}
	}
	return nil
}

// others returns the sensors of read that the fault does not reach.
func (s *stage) others(read []string, reached func(*simboard.Part) bool) (names []string) {
	for _, name := range read {
		if !reached(s.part(name)) {
			names = append(names, name)
		}
	}
	return names
}

// goOn waits until each of the sensors has n more readings, and returns the first that has not; ""
// if all have.
func (s *stage) goOn(names []string, n int) (stands string) {
	s.rec.mu.Lock()
	before := maps.Clone(s.rec.count)
	s.rec.mu.Unlock()
	s.await(func() bool {
		i := slices.IndexFunc(names, func(name string) bool { return s.rec.count[name] < before[name]+n })
		if stands = ""; i >= 0 {
			stands = names[i]
		}
		return i < 0
	})
	return stands
}

// named waits until a fault of the subject is raised, and returns the codes; "" if none is.
func (s *stage) named(subject string) (codes string) {
	s.await(func() bool {
		codes = s.rec.saidLocked(subject)
		return codes != ""
	})
	return codes
}

// cleared waits until no fault of the subject is raised any more.
func (s *stage) cleared(subject string) bool {
	return s.await(func() bool { return s.rec.saidLocked(subject) == "" })
}

// settle waits until everything that waits was delivered, and judges the delivery. Readings that
// are on their way when a daemon stops stay in its spool, so a second run delivers the rest; its
// own readings do not count.
func (s *stage) settle() Outcome {
	s.startBroker()
	if s.running == nil {
		if err := s.startDaemon(); err != nil {
			return Outcome{Promise: 1, Verdict: Broken, Happened: "the daemon does not start again", Why: err.Error()}
		}
	}
	s.awaitDelivery(s.lastRun())
	late, err := s.stopDaemon()
	if err != nil {
		return Outcome{Promise: 1, Verdict: Broken, Happened: "the daemon did not run until it was stopped", Why: err.Error()}
	}
	run := s.lastRun()
	if err := s.startDaemon(); err != nil {
		return Outcome{Promise: 1, Verdict: Broken, Happened: "the daemon does not start again", Why: err.Error()}
	}
	s.awaitDelivery(run)
	o := s.rec.delivered(run)
	if late != "" && o.Why == "" {
		o.Why = "the daemon did not stop in time: " + late
	}
	return o
}

// lastRun returns the number of the latest run that has taken a reading.
func (s *stage) lastRun() (run uint64) {
	s.rec.mu.Lock()
	defer s.rec.mu.Unlock()
	for k := range s.rec.taken {
		run = max(run, k.Run)
	}
	return run
}

// awaitDelivery waits until the readings taken by now in the runs up to this one were delivered
// or reported as lost, but for some.
func (s *stage) awaitDelivery(run uint64, but ...number) {
	var rest []number
	s.rec.mu.Lock()
	for n := range s.rec.waiting {
		if n.Run <= run && !slices.Contains(but, n) {
			rest = append(rest, n)
		}
	}
	s.rec.mu.Unlock()
	s.await(func() bool {
		for len(rest) > 0 && !s.rec.waiting[rest[len(rest)-1]] {
			rest = rest[:len(rest)-1]
		}
		return len(rest) == 0
	})
}

// send publishes an order, which expires in five minutes by the daemon's clock, and waits for the
// broker's acknowledgement. Each copy is the same message again.
func (s *stage) send(name, action string, copies int) (id string, err error) {
	if s.link == nil {
		files := s.sim.Broker.Files()
		s.queue = uplink.NewQueue()
		l, err := uplink.New(uplink.Config{
			Endpoint: s.sim.Broker.Addr(), ClientID: "rehearsal-orders", Clean: true, CA: files.CA, Certificate: files.Certificate, Key: files.Key,
			Access: uplink.Access{Proxy: "none"}, Outbox: s.queue,
		})
		if err != nil {
			return "", err
		}
		s.link = task.Start("orders' link", s.failed, l.Run)
	}
	s.orders++
	id = fmt.Sprintf("r-%s-%d", s.fault, s.orders)
	payload, err := json.Marshal(api.Order{ID: id, Thing: s.cfg.Thing, Output: name, Action: action, Expires: s.clock.Now().Wall.Add(5 * time.Minute).UTC()})
	if err != nil {
		return id, fmt.Errorf("encode order: %w", err)
	}
	for range copies {
		end := time.NewTimer(patience)
		select {
		case err := <-s.queue.Publish(s.cfg.CommandsTopic(), payload):
			end.Stop()
			if err != nil {
				return id, err
			}
		case <-s.ctx.Done():
			end.Stop()
			return id, s.ctx.Err()
		case <-end.C:
			return id, errors.New("the broker did not take the order")
		}
	}
	return id, nil
}

// answered waits for an order's answer, which is zero if there is none.
func (s *stage) answered(id string) (a answer) {
	s.await(func() bool {
		a = s.rec.answers[id]
		return a != answer{}
	})
	return a
}

// at reports whether an output's line or channel is at a level.
func (s *stage) at(o output.Config, level output.Level) bool {
	if o.PWM != "" {
		return math.Abs(s.sim.Board.Channel(o.PWM).Share()*100-level.Percent()) < 0.1
	}
	high, _ := s.sim.Board.Line(o.Pin).Level()
	return high != o.ActiveLow == (level > output.Off)
}

// reaches waits until an output is at a level.
func (s *stage) reaches(o output.Config, level output.Level) bool {
	end := time.NewTimer(patience)
	defer end.Stop()
	again := time.NewTicker(20 * time.Millisecond)
	defer again.Stop()
	for !s.at(o, level) {
		select {
		case <-again.C:
		case <-s.ctx.Done():
			return false
		case <-s.gaveUp:
			return false
		case <-end.C:
			return false
		}
	}
	return true
}

// moves returns how often an output's line or channel has changed its level.
func (s *stage) moves(o output.Config) (n int) {
	var levels []float64
	if o.PWM != "" {
		levels = s.sim.Board.Channel(o.PWM).History()
	} else {
		for _, c := range s.sim.Board.Line(o.Pin).History() {
			levels = append(levels, map[bool]float64{true: 1}[c.High])
		}
	}
	for i := 1; i < len(levels); i++ {
		if levels[i] != levels[i-1] {
			n++
		}
	}
	return n
}
