package sampler

import (
	"errors"
	"fieldpost/daemon/wake"
	"fmt"
	"iter"
	"runtime/debug"
	"sync"
	"time"

	"fieldpost/daemon/clock"
	"fieldpost/sensors/board"
)

const (
	// waitTogether is how much longer than requested a driver may wait for its chip's
	// conversion, so that one wake-up serves several chips on a bus.
	waitTogether = 20 * time.Millisecond
	// waitGrid is the grid, counted from the beginning of the tick, to which waits are
	// rounded up, so that one wake-up serves several buses.
	waitGrid = 2 * time.Millisecond
)

// errNotOpen is the error when a pass does not read a sensor because it is not open.
var errNotOpen = errors.New("not open")

// busPass reads those sensors of one bus worker that are due together and whose last read
// succeeded. It runs on the worker. While a driver waits for a conversion, the pass reads the
// next sensor; conversions that end at about the same time are waited for together. If a
// sensor cannot be read, its runner takes over.
//
// If there are several reads, each is a coroutine, because drivers block while they wait.
// Only one of them runs at a time, so the worker is still the only user of the bus.
type busPass struct {
	s     *Sampler
	bus   *busWorker
	began time.Time
	until time.Time   // when the scheduler gives up the pass
	reads []read      // used only by the worker, except ended
	clock clock.Clock // used only by the worker

	mu   sync.Mutex
	left int  // reads that have not ended
	late bool // given up
}

// read is the read of one sensor in a pass.
type read struct {
	r     *runner
	begun bool
	call  *coroutine // the coroutine that the driver runs in; nil if it needs none
	at    time.Time  // when to continue
	over  bool
	ended bool // the runner has the result; guarded by the pass's mu
}

// coroutine runs reads, one after the other. Only the worker uses it.
type coroutine struct {
	pass *busPass // what to read next
	task *read
	next func() (time.Duration, bool) // runs until the driver waits, and returns for how long; readEnded at the end of a read
	stop func()
}

// readEnded is returned by coroutine.next at the end of a read.
const readEnded time.Duration = -1

func newCoroutine() *coroutine {
	c := &coroutine{}
	c.next, c.stop = iter.Pull(func(yield func(time.Duration) bool) {
		for c.read(yield); yield(readEnded); c.read(yield) {
		}
	})
	return c
}

// read reads a sensor.
func (c *coroutine) read(yield func(time.Duration) bool) {
	d := &c.task.r.driver
	d.yield = yield
	got, err := d.readGuarded(c.pass.clock)
	d.yield = nil
	c.pass.endRead(c.task, got, err)
}

// coroutine returns an idle coroutine. They are reused, because their stacks have grown to
// what drivers need.
func (b *busWorker) coroutine() *coroutine {
	n := len(b.idle)
	if n == 0 {
		return newCoroutine()
	}
	c := b.idle[n-1]
	b.idle = b.idle[:n-1]
	return c
}

// stopCoroutines ends the idle coroutines. It is called while no read runs, so these are all.
func (b *busWorker) stopCoroutines() {
	for _, c := range b.idle {
		c.stop()
	}
	b.idle = nil
}

// startPass makes a bus worker read sensors in a pass. It reports whether the worker was
// idle; if not, it does nothing. Only the scheduler calls it.
func (s *Sampler) startPass(b *busWorker, runners []*runner, now time.Time) bool {
	p := &busPass{s: s, bus: b, began: now, until: now.Add(time.Duration(b.patience.Load())), reads: make([]read, len(runners)), left: len(runners), clock: clock.NewBurst(s.o.Clock, time.Second)}
	for i, r := range runners {
		p.reads[i].r = r
	}
	run := func() error { // a driver's panic is a failure of its sensor; any other panic ends the daemon
		s.others.Call("bus pass", p.run)
		return nil
	}
	if !b.worker.Try(run) {
		return false
	}
	s.passes = append(s.passes, p)
	return true
}

// run reads the sensors. Only the worker calls it.
func (p *busPass) run() {
	if p.bus.trim.Swap(false) {
		p.bus.stopCoroutines()
	}
	left := len(p.reads)
	for {
		now := time.Now()
		var first, last time.Time // of the reads that wait
		for i := range p.reads {
			t := &p.reads[i]
			if t.over || now.Before(t.at) || !t.begun && p.conflicts(i) {
				continue
			}
			if !t.begun && p.isLate() {
				t.over = true // reads that have begun are completed
			} else {
				p.step(t)
			}
			if t.over {
				left--
			}
		}
		if left == 0 {
			return
		}
		for i := range p.reads {
			t := &p.reads[i]
			switch {
			case t.over || !t.begun:
			case first.IsZero() || t.at.Before(first):
				first = t.at
			}
		}
		for i := range p.reads {
			if t := &p.reads[i]; !t.over && t.begun && t.at.After(last) && t.at.Sub(first) <= waitTogether {
				last = t.at
			}
		}
		p.bus.sleep(time.Until(p.began.Add((last.Sub(p.began) + waitGrid - 1).Truncate(waitGrid))))
	}
}

// conflicts reports whether an earlier read uses the same chip. Package config does not let
// two sensors share a chip, but two sensors on no bus may have the same place.
func (p *busPass) conflicts(i int) bool {
	place := p.reads[i].r.driver.config.Place()
	for j := range p.reads[:i] {
		if t := &p.reads[j]; !t.over && t.r.driver.config.Place() == place {
			return true
		}
	}
	return false
}

// step starts or continues a read, until it has ended or the driver waits.
func (p *busPass) step(t *read) {
	d := &t.r.driver
	p.bus.current.set(&t.r.name)
	if !t.begun {
		t.begun = true
		if d.sensor == nil || d.broken {
			t.over = true
			p.endRead(t, reading{}, errNotOpen)
			return
		}
		if len(p.reads) == 1 || !d.pauses {
			got, err := d.readGuarded(p.clock)
			t.over = true
			p.endRead(t, got, err)
			return
		}
		t.call = p.bus.coroutine()
		t.call.pass, t.call.task = p, t
	}
	pause, _ := t.call.next()
	if pause == readEnded {
		t.call.pass, t.call.task = nil, nil
		t.over, p.bus.idle = true, append(p.bus.idle, t.call)
		return
	}
	t.at = time.Now().Add(max(pause, 0))
}

// readGuarded reads an open sensor and turns a panic into an error.
func (d *driver) readGuarded(c clock.Clock) (got reading, err error) {
	defer func() {
		if x := recover(); x != nil {
			err = &board.PanicError{Value: x, Stack: string(debug.Stack())}
		}
	}()
	return d.read(false, true, c)
}

// endRead hands the result of a read on: a failure to the sensor's runner, a reading to be
// emitted.
func (p *busPass) endRead(t *read, got reading, err error) {
	r := t.r
	p.mu.Lock()
	late := p.late
	if !late {
		t.ended = true
		p.left--
	}
	p.mu.Unlock()
	switch {
	case late: // the runner has taken over
		r.driver.filters.Failed() // it is not sent
	case err != nil:
		r.redo <- err // has room: one read at a time
	default:
		r.passed(got)
		p.s.records.endRead(r)
	}
}

func (p *busPass) isLate() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.late
}

// checkPasses gives up passes that take too long. It returns when to check again; zero if
// there are no passes. Only the scheduler calls it.
func (s *Sampler) checkPasses(now time.Time) (next time.Time) {
	left := s.passes[:0]
	for _, p := range s.passes {
		if p.check(now) {
			continue
		}
		left = append(left, p)
		if next.IsZero() || p.until.Before(next) {
			next = p.until
		}
	}
	clear(s.passes[len(left):])
	s.passes = left
	return next
}

// check gives up the pass if it takes too long: the sensors that were not read are left to
// their runners. It reports whether the pass is over.
func (p *busPass) check(now time.Time) (over bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.left == 0 || now.Before(p.until) {
		return p.left == 0
	}
	p.late = true
	for i := range p.reads {
		if t := &p.reads[i]; !t.ended {
			t.r.redo <- t.r.bus.lateError()
		}
	}
	return true
}

// lateError is the error when the worker did not read a sensor in time.
func (b *busWorker) lateError() error {
	return fmt.Errorf("%s %w within %v", b.worker.Name(), errLate, time.Duration(b.patience.Load()))
}

// sleep waits on the worker's goroutine.
func (b *busWorker) sleep(d time.Duration) {
	if b.pause == nil {
		b.pause = wake.NewTimer(d)
	} else {
		b.pause.Reset(d)
	}
	<-b.pause.C
}
