package output

import (
	"context"
	"sync"
	"sync/atomic"

	"fieldpost/daemon/wake"
)

// eventQueue holds log lines and events until the outputs' locks are released: a log or a
// callback that blocks must not prevent driving a line.
type eventQueue struct {
	mu    sync.Mutex
	queue []func()

	flushing timedMutex  // held during the calls, so that they keep their order
	running  atomic.Bool // run makes the calls
	wake     wake.Signal // the queue grew
}

func newEventQueue() *eventQueue {
	return &eventQueue{flushing: newTimedMutex(), wake: wake.New()}
}

// add queues a call that logs or delivers an event. It does not block.
func (q *eventQueue) add(f func()) {
	q.mu.Lock()
	q.queue = append(q.queue, f)
	q.mu.Unlock()
	q.wake.Set()
}

// flush makes all queued calls, after any other flush has ended.
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

// flushUnlessRunning flushes unless run does.
func (q *eventQueue) flushUnlessRunning() {
	if !q.running.Load() {
		q.flush()
	}
}

// run makes the calls until ctx ends, and then the remaining ones.
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
