package output

import (
	"context"
	"sync"
	"sync/atomic"

	"fieldpost/daemon/wake"
)

// eventQueue is the log lines and events that wait until the outputs' locks are
// free: a log or a callback that blocks must not keep a line from being driven.
type eventQueue struct {
	mu    sync.Mutex
	queue []func()

	flushing timedMutex  // held by who gives them, so that they keep their order
	running  atomic.Bool // run makes the calls
	wake     wake.Signal // the queue grew
}

func newEventQueue() *eventQueue {
	return &eventQueue{flushing: newTimedMutex(), wake: wake.New()}
}

// add queues a call that logs or gives an event. It does not wait.
func (q *eventQueue) add(f func()) {
	q.mu.Lock()
	q.queue = append(q.queue, f)
	q.mu.Unlock()
	q.wake.Set()
}

// flush makes all calls that are queued, and waits for who is at it.
func (q *eventQueue) flush() {
	q.flushing.Lock()
	defer q.flushing.Unlock()
	for {
		q.mu.Lock()
		if len(q.queue) == 0 {
			q.mu.Unlock()
			return
		}
		f := q.queue[0]
		q.queue = q.queue[1:]
		q.mu.Unlock()
		f()
	}
}

// flushUnlessRunning flushes, unless run does that.
func (q *eventQueue) flushUnlessRunning() {
	if !q.running.Load() {
		q.flush()
	}
}

// run makes the calls until ctx ends, and then those that are left.
func (q *eventQueue) run(ctx context.Context) {
	q.running.Store(true)
	defer q.running.Store(false)
	for {
		select {
		case <-ctx.Done():
			q.flush()
			return
		case <-q.wake.C():
			q.flush()
		}
	}
}
