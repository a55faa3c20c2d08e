package sampler

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"fieldpost/daemon/clock"
	"fieldpost/daemon/health"
	"fieldpost/daemon/message"
	"fieldpost/sensors"
	"fieldpost/sensors/board"

	"periph.io/x/conn/v3/i2c"
	"periph.io/x/conn/v3/physic"
)

// quantities are what a fake chip gives.
var quantities = []sensors.Quantity{{Name: "temperature", Unit: "Cel", Min: -40, Max: 85}}

// fake is a chip whose every step the test decides. Its functions run on the
// worker and get the number of the call, from 1.
type fake struct {
	every, worst time.Duration
	warmUp       time.Duration
	open         func(n int) error
	sense        func(n int) ([]sensors.Field, error)
	shut         func(n int) error
	edges        bool

	mu                     sync.Mutex
	opened, sensed, closed int
	steps                  []string // "0s open", "0s sense", ...
	start                  time.Time
	line                   chan board.Edge // of the sensor opened last
	board                  board.Pauser    // that it was opened on
}

func (f *fake) step(what string, n *int) int {
	f.mu.Lock()
	defer f.mu.Unlock()
	*n++
	f.steps = append(f.steps, fmt.Sprint(time.Since(f.start), " ", what))
	return *n
}

// taken returns the steps so far.
func (f *fake) taken() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.steps)
}

func (f *fake) chip(name string) sensors.Chip {
	return sensors.Chip{Name: name, Quantities: quantities, Every: f.every, Worst: f.worst, WarmUp: f.warmUp, Open: func(b board.Board, _ sensors.Config) (sensors.Sensor, error) {
		n := f.step("open", &f.opened)
		if f.open != nil {
			if err := f.open(n); err != nil {
				return nil, err
			}
		}
		f.mu.Lock()
		f.board, _ = b.(board.Pauser)
		f.mu.Unlock()
		if !f.edges {
			return &fakeSensor{f: f}, nil
		}
		f.mu.Lock()
		f.line = make(chan board.Edge, 16)
		f.mu.Unlock()
		return &fakeEdger{fakeSensor{f: f}, f.line}, nil
	}}
}

type fakeSensor struct{ f *fake }

func (s *fakeSensor) Quantities() []sensors.Quantity { return quantities }

func (s *fakeSensor) Sense() ([]sensors.Field, error) {
	n := s.f.step("sense", &s.f.sensed)
	if s.f.sense != nil {
		return s.f.sense(n)
	}
	return degrees(20)
}

func (s *fakeSensor) Close() error {
	n := s.f.step("close", &s.f.closed)
	if s.f.shut != nil {
		return s.f.shut(n)
	}
	return nil
}

type fakeEdger struct {
	fakeSensor
	line chan board.Edge
}

func (s *fakeEdger) Edges() <-chan board.Edge { return s.line }

func (s *fakeEdger) Close() error {
	defer func() {
		s.f.mu.Lock()
		defer s.f.mu.Unlock()
		close(s.line)
	}()
	return s.fakeSensor.Close()
}

// tell has the line of the sensor opened last change.
func (f *fake) tell(e board.Edge) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.line <- e
}

func degrees(x float64) ([]sensors.Field, error) {
	return []sensors.Field{{Name: "temperature", Value: x}}, nil
}

// fakeBoard has the buses that are not named in absent, and nothing on them.
type fakeBoard struct {
	board.Board
	absent []string
}

func (b *fakeBoard) Bus(name string) (i2c.BusCloser, error) {
	if slices.Contains(b.absent, name) {
		return nil, fmt.Errorf("open bus %s: %w", name, board.ErrAbsent)
	}
	return fakeBus{}, nil
}

type fakeBus struct{}

func (fakeBus) String() string                  { return "fake" }
func (fakeBus) Tx(uint16, []byte, []byte) error { return board.ErrAbsent }
func (fakeBus) SetSpeed(physic.Frequency) error { return nil }
func (fakeBus) Close() error                    { return nil }

// rig is a Sampler that runs, with all it says.
type rig struct {
	t      *testing.T
	s      *Sampler
	start  time.Time
	cancel context.CancelFunc
	done   chan error
	beats  *health.Heartbeats

	mu      sync.Mutex
	records []message.Record
	emitted []int // how many records came at once
	changes []string
	log     bytes.Buffer
}

// run starts a Sampler of fakes; the sensors' chips are the names of fakes.
// It belongs into a bubble of synctest.
func run(t *testing.T, fakes map[string]*fake, configs ...sensors.Config) *rig {
	t.Helper()
	return runWith(t, Options{Board: &fakeBoard{}, Run: 7}, fakes, configs...)
}

func runWith(t *testing.T, o Options, fakes map[string]*fake, configs ...sensors.Config) *rig {
	t.Helper()
	for _, f := range fakes {
		f.start = time.Now()
	}
	return runCatalog(t, o, func(name string) (sensors.Chip, bool) {
		f, ok := fakes[name]
		if !ok {
			return sensors.Chip{}, false
		}
		return f.chip(name), true
	}, configs...)
}

func runCatalog(t *testing.T, o Options, lookup func(string) (sensors.Chip, bool), configs ...sensors.Config) *rig {
	t.Helper()
	r := &rig{t: t, start: time.Now(), done: make(chan error, 1), beats: new(health.Heartbeats)}
	o.Sensors, o.Heartbeat = configs, r.beats.Register("scheduler")
	if o.Clock == nil {
		o.Clock = clock.Fake()
	}
	o.Health = health.New(func(c health.Change) {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.changes = append(r.changes, fmt.Sprint(time.Since(r.start), " ", c.Subject, " ", c.Fault.Code, " ", c.State()))
	})
	o.Log = slog.New(slog.NewTextHandler(&lockedWriter{r}, nil))
	o.Emit = func(recs []message.Record) {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.records = append(r.records, recs...)
		r.emitted = append(r.emitted, len(recs))
	}
	r.s = build(o, lookup)
	ctx, cancel := context.WithCancel(context.Background())
	r.cancel = cancel
	go func() { r.done <- r.s.Run(ctx) }()
	t.Cleanup(cancel)
	synctest.Wait()
	return r
}

type lockedWriter struct{ r *rig }

func (w *lockedWriter) Write(p []byte) (int, error) {
	w.r.mu.Lock()
	defer w.r.mu.Unlock()
	return w.r.log.Write(p)
}

// pass lets time go by, and what falls due in it happen.
func pass(d time.Duration) {
	<-time.After(d)
	synctest.Wait()
}

// stop ends the Sampler and gives how long that took.
func (r *rig) stop() time.Duration {
	r.t.Helper()
	before := time.Now()
	r.cancel()
	if err := <-r.done; err != context.Canceled {
		r.t.Errorf("run ended with %v", err)
	}
	return time.Since(before)
}

// got returns the records as "when sensor kind seq".
func (r *rig) got() (all []string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, rec := range r.records {
		all = append(all, fmt.Sprint(rec.Stamp.Mono, " ", rec.Sensor, " ", rec.Kind, " ", rec.Seq))
	}
	return all
}

func (r *rig) faults() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.changes)
}

func (r *rig) logged() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.log.String()
}

// changed returns the faults raised and cleared, without their times.
func changed(r *rig) (all []string) {
	for _, c := range r.faults() {
		_, what, _ := strings.Cut(c, " ")
		all = append(all, what)
	}
	return all
}

func sorted(list []string) []string {
	slices.Sort(list)
	return list
}

// fieldsOf returns a sensor's first and last values.
func fieldsOf(r *rig, sensor string) (first, last map[string]any) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, rec := range r.records {
		if rec.Sensor != sensor {
			continue
		}
		last = map[string]any{}
		for _, f := range rec.Fields {
			last[f.Name] = f.Value
		}
		if first == nil {
			first = last
		}
	}
	return first, last
}

// same compares two lists and shows both where they differ.
func same(t *testing.T, what string, got, want []string) {
	t.Helper()
	if !slices.Equal(got, want) {
		t.Errorf("%s:\n got %q\nwant %q", what, got, want)
	}
}
