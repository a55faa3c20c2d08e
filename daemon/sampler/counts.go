package sampler

import "sync"

// Counts holds the last sequence number of each sensor in one run of the daemon. The
// zero value is ready. Any goroutine.
type Counts struct {
	mu     sync.Mutex
	byName map[string]*count
}

// of returns a sensor's count.
func (c *Counts) of(sensor string) *count {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.byName == nil {
		c.byName = map[string]*count{}
	}
	n := c.byName[sensor]
	if n == nil {
		n = new(count)
		c.byName[sensor] = n
	}
	return n
}

// count is one sensor's. Readings and edges share it.
type count struct {
	mu sync.Mutex
	n  uint64
}

// next calls emit with the next number. It holds the lock until emit returns, so records
// leave in the order of their numbers.
func (c *count) next(emit func(seq uint64)) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.n++
	emit(c.n)
}
