package command

import (
	"context"
	"sync"
	"time"

	"fieldpost/daemon/wake"
)

// ackPatience is how long an unfinished message delays the acknowledgements of later
// ones.
const ackPatience = 5 * time.Second

// inOrderAcks acknowledges messages when they are finished, in the order in which they
// came (MQTT 3.1.1, section 4.6). If a line hangs and a message takes longer than
// ackPatience, later ones do not wait for it, because the broker would stop sending
// orders for all outputs.
type inOrderAcks struct {
	wake wake.Signal // a message was finished

	mu   sync.Mutex
	list []*pendingAck
}

func newInOrderAcks() *inOrderAcks { return &inOrderAcks{wake: wake.New()} }

// pendingAck is a message that was not acknowledged yet.
type pendingAck struct {
	ack      func()
	came     time.Time
	finished bool
	sent     chan struct{} // closed after the acknowledgement
}

// add queues the acknowledgement of a message until it is finished.
func (q *inOrderAcks) add(ack func()) *pendingAck {
	a := &pendingAck{ack: ack, came: time.Now(), sent: make(chan struct{})}
	q.mu.Lock()
	defer q.mu.Unlock()
	q.list = append(q.list, a)
	return a
}

// finish marks a message as finished. Without ack it is dropped without an
// acknowledgement. a may be nil.
func (q *inOrderAcks) finish(a *pendingAck, ack bool) {
	if a == nil {
		return
	}
	q.mu.Lock()
	a.finished = true
	if !ack {
		a.ack = func() {}
	}
	q.mu.Unlock()
	q.wake.Set()
}

// run acknowledges messages until ctx ends, and then the remaining ones. An
// acknowledgement may wait for the connection.
func (q *inOrderAcks) run(ctx context.Context) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		ended := ctx.Err() != nil
		acks, next := q.due(time.Now())
		for _, a := range acks {
			a.ack()
			close(a.sent)
		}
		if ended {
			return
		}
		if next > 0 {
			timer.Reset(next)
		}
		select {
		case <-ctx.Done():
		case <-q.wake.C():
		case <-timer.C:
		}
	}
}

// due removes and returns the acknowledgements that are due now, and the time until the
// next one; 0 if that depends on others.
func (q *inOrderAcks) due(now time.Time) (acks []*pendingAck, next time.Duration) {
	q.mu.Lock()
	defer q.mu.Unlock()
	kept := q.list[:0]
	held := false
	for _, a := range q.list {
		age := now.Sub(a.came)
		switch {
		case a.finished && !held:
			acks = append(acks, a)
			continue
		case !a.finished && age < ackPatience && !held:
			held, next = true, ackPatience-age
		}
		kept = append(kept, a)
	}
	clear(q.list[len(kept):])
	q.list = kept
	return acks, next
}
