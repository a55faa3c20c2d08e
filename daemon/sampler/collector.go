package sampler

import (
	"fieldpost/daemon/wake"
	"sync"
	"time"

	"fieldpost/daemon/message"
	"fieldpost/daemon/task"
)

// collector numbers and emits records. It holds readings until all running reads have ended,
// for at most the linger time, so that the readings of one tick are emitted together. Only
// the first reading of a run is not held, because somebody may be waiting for it. Any
// goroutine.
type collector struct {
	o      *Options
	others *task.Group // of Run, which sets it first; nil before

	emitting sync.Mutex       // held during Emit, so that records keep their order; locked before mu
	spare    []message.Record // memory for held

	// mu is never held during Emit, so the scheduler never waits for Emit.
	mu     sync.Mutex
	linger time.Duration
	begun  bool // a reading was emitted; the first one of a run is not held
	held   []message.Record
	waits  bool        // the timer is set
	timer  *wake.Timer // calls expire; a new one each time, see uplink's connection.serve
	closed bool
	reads  int // scheduled reads that have begun and have not ended
}

// beginRead counts a sensor's read as running.
func (c *collector) beginRead(r *runner) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !r.reading {
		r.reading = true
		c.reads++
	}
}

// endRead counts a sensor's read as ended. After the last one it emits the held readings.
func (c *collector) endRead(r *runner) {
	if c.countEnded(r) {
		c.flush()
		c.rest()
	}
}

// countEnded counts a sensor's read as ended; it may also be one that will not take place. It
// reports whether that was the last running read. It does not wait for Emit.
func (c *collector) countEnded(r *runner) (last bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !r.reading {
		return false
	}
	r.reading = false
	c.reads--
	return c.reads == 0
}

// add holds or emits a reading.
func (c *collector) add(r message.Record) {
	if c.hold(r) {
		c.flush()
	}
}

// hold holds a reading. It reports whether the held readings must be emitted now.
func (c *collector) hold(r message.Record) (now bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.held = append(c.held, r)
	switch {
	case c.linger <= 0, !c.begun:
		c.begun = true
		return true
	case !c.waits:
		c.waits, c.timer = true, wake.AfterFunc(c.linger, func() { c.others.Call("held readings", c.expire) })
	}
	return false
}

// emitNow emits a record, after the held readings.
func (c *collector) emitNow(r message.Record) {
	c.mu.Lock()
	c.held = append(c.held, r)
	c.mu.Unlock()
	c.flush()
}

// flush emits the held records.
func (c *collector) flush() {
	c.emitting.Lock()
	defer c.emitting.Unlock()
	c.flushLocked()
}

// expire emits the held records when the linger time is over. The timer calls it.
func (c *collector) expire() {
	c.mu.Lock()
	waits := c.waits
	c.mu.Unlock()
	if waits {
		c.flush()
		c.rest()
	}
}

// close emits the held records. After it, nothing is emitted.
func (c *collector) close() {
	c.emitting.Lock()
	defer c.emitting.Unlock()
	c.flushLocked()
	c.mu.Lock()
	defer c.mu.Unlock()
	c.closed = true
}

// setLinger sets how long a reading may be held.
func (c *collector) setLinger(most time.Duration) {
	c.mu.Lock()
	c.linger = most
	c.mu.Unlock()
	c.flush()
}

// flushLocked emits the held records. It needs emitting to be held, and mu not.
func (c *collector) flushLocked() {
	records := c.takeHeld()
	if len(records) > 0 {
		c.o.Counts.emit(records, c.o.Emit)
	}
	clear(records)
	c.spare = records[:0]
}

// takeHeld returns the held records, none after close. It needs emitting.
func (c *collector) takeHeld() (records []message.Record) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.waits {
		c.waits = false
		c.timer.Stop()
	}
	records, c.held = c.held, c.spare
	c.spare = nil
	if c.closed {
		return nil
	}
	return records
}

// rest calls Options.Rest.
func (c *collector) rest() {
	if c.o.Rest != nil {
		c.o.Rest()
	}
}
