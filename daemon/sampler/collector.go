package sampler

import (
	"sync"
	"time"

	"fieldpost/daemon/message"
	"fieldpost/daemon/task"
)

// collector numbers and emits records. It keeps readings until all reads that are under way
// have ended, for at most the linger time, so that the readings of one tick are emitted at
// once. Only the first reading of a run does not wait, because somebody may wait for it.
// Any goroutine.
type collector struct {
	o      *Options
	others *task.Group // of Run, which sets it first; nil before

	mu     sync.Mutex
	linger time.Duration
	begun  bool // a reading was emitted; the first one of a run is not held
	held   []message.Record
	waits  bool        // the timer is set
	timer  *time.Timer // calls expire; a new one each time, see uplink's connection.serve
	closed bool
	reads  int // scheduled reads that have begun and have not ended
}

// begin notes that a sensor is due.
func (c *collector) begin(r *runner) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !r.reading {
		r.reading = true
		c.reads++
	}
}

// end notes that a sensor's read has ended, or is not made any more. After the last one it
// emits what is held.
func (c *collector) end(r *runner) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !r.reading {
		return
	}
	r.reading = false
	if c.reads--; c.reads == 0 {
		c.emitLocked()
		c.restLocked()
	}
}

// add takes a reading.
func (c *collector) add(r message.Record) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.held = append(c.held, r)
	switch {
	case c.linger <= 0, !c.begun:
		c.begun = true
		c.emitLocked()
	case !c.waits:
		c.waits, c.timer = true, time.AfterFunc(c.linger, func() { c.others.Call("held readings", c.expire) })
	}
}

// emitNow emits a record, after what is held.
func (c *collector) emitNow(r message.Record) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.held = append(c.held, r)
	c.emitLocked()
}

// flush emits what is held.
func (c *collector) flush() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.emitLocked()
}

// expire emits what was held for long enough. The timer calls it.
func (c *collector) expire() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.waits {
		c.emitLocked()
		c.restLocked()
	}
}

// close emits what is held, and nothing from then on.
func (c *collector) close() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.emitLocked()
	c.closed = true
}

// setLinger sets how long a reading may be held.
func (c *collector) setLinger(most time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.linger = most
	c.emitLocked()
}

func (c *collector) emitLocked() {
	if c.waits {
		c.waits = false
		c.timer.Stop()
	}
	if len(c.held) > 0 && !c.closed {
		c.o.Counts.emit(c.held, c.o.Emit)
	}
	clear(c.held)
	c.held = c.held[:0]
}

func (c *collector) restLocked() {
	if c.o.Rest != nil {
		c.o.Rest()
	}
}
