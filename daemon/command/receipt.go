package command

import (
	"context"
	"sync"
	"time"
)

// ackPatience is how long a message that is not finished holds up the
// acknowledgements of those that came after it.
const ackPatience = 5 * time.Second

// receipts acknowledges messages when they are finished, and in the order in
// which they came (MQTT 3.1.1, section 4.6). Only behind one that takes longer
// than ackPatience, because its line hangs, do others not wait: the broker
// would stop sending orders to all.
type receipts struct {
	wake chan struct{} // buffered, one: something was finished

	mu   sync.Mutex
	list []*receipt
}

type receipt struct {
	ack    func()
	came   time.Time
	closed bool
	sent   chan struct{} // closed when it was acknowledged
}

// open begins a message.
func (r *receipts) open(ack func()) *receipt {
	m := &receipt{ack: ack, came: time.Now(), sent: make(chan struct{})}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.list = append(r.list, m)
	return m
}

// close finishes a message; without ack it is only forgotten. A nil one is none.
func (r *receipts) close(m *receipt, ack bool) {
	if m == nil {
		return
	}
	r.mu.Lock()
	m.closed = true
	if !ack {
		m.ack = func() {}
	}
	r.mu.Unlock()
	select {
	case r.wake <- struct{}{}:
	default:
	}
}

// run acknowledges until ctx ends, and then what is left. An acknowledgement
// may wait for the connection.
func (r *receipts) run(ctx context.Context) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		ended := ctx.Err() != nil
		acks, next := r.due(time.Now())
		for _, m := range acks {
			m.ack()
			close(m.sent)
		}
		if ended {
			return
		}
		if next > 0 {
			timer.Reset(next)
		}
		select {
		case <-ctx.Done():
		case <-r.wake:
		case <-timer.C:
		}
	}
}

// due takes out what is to be acknowledged now, and gives the time until more
// may be; 0 where that depends on others.
func (r *receipts) due(now time.Time) (acks []*receipt, next time.Duration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	kept := r.list[:0]
	held := false
	for _, m := range r.list {
		age := now.Sub(m.came)
		switch {
		case m.closed && !held:
			acks = append(acks, m)
			continue
		case !m.closed && age < ackPatience && !held:
			held, next = true, ackPatience-age
		}
		kept = append(kept, m)
	}
	clear(r.list[len(kept):])
	r.list = kept
	return acks, next
}
