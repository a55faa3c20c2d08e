package sampler

import (
	"sync"

	"fieldpost/daemon/message"
)

// Counts holds the last sequence number of each sensor in one run of the daemon. Readings
// and edges share it. The zero value is ready. Any goroutine.
type Counts struct {
	mu     sync.Mutex
	byName map[string]uint64
}

// emit gives records their sensors' next numbers and calls do. It holds the lock until do
// returns, so records leave in the order of their numbers.
func (c *Counts) emit(records []message.Record, do func([]message.Record)) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.byName == nil {
		c.byName = map[string]uint64{}
	}
	for i := range records {
		n := c.byName[records[i].Sensor] + 1
		c.byName[records[i].Sensor], records[i].Seq = n, n
	}
	do(records)
}
