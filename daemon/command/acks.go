package command

import (
	"context"
	"sync"
	"time"

	"fieldpost/daemon/wake"
)

// ackPatience is how long a message that is not finished holds up the
// acknowledgements of those that came after it.
const ackPatience = 5 * time.Second

// inOrderAcks acknowledges messages when they are finished, in the order in which they
// came (MQTT 3.1.1, section 4.6). Messages do not wait behind one that takes longer
// than ackPatience because its line hangs: the broker would stop sending orders to
// all outputs.
type inOrderAcks struct {
	wake wake.Signal // something was finished

	mu   sync.Mutex
	list []*pendingAck
}

func newInOrderAcks() *inOrderAcks { return &inOrderAcks{wake: wake.New()} }

// pendingAck is a message that was not acknowledged yet.
type pendingAck struct {
	ack      func()
	came     time.Time
	finished bool
	sent     chan struct{} // closed when it was acknowledged
}

// add takes a message whose acknowledgement is due when it is finished.
func (q *inOrderAcks) add(ack func()) *pendingAck {
	a := &pendingAck{ack: ack, came: time.Now(), sent: make(chan struct{})}
	q.mu.Lock()
	defer q.mu.Unlock()
	q.list = append(q.list, a)
	return a
}

// finish notes that a message is finished; without ack it is dropped and not
// acknowledged. a may be nil.
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

// run acknowledges until ctx ends, and then what is left. An acknowledgement
// may wait for the connection.
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

// due takes out what is to be acknowledged now, and gives the time until more
// may be; 0 where that depends on others.
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
