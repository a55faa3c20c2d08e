package output

import (
	"context"
	"sync"
	"sync/atomic"

	"fieldpost/daemon/wake"
)

// eventQueue keeps what is to be told, to the log and as events, until whoever
// drives lines has let go of them: a log or a callback that blocks must not
// keep a line from being driven.
type eventQueue struct {
	mu    sync.Mutex
	queue []func()

	flushing timedMutex  // held by who tells, so that all is told in its order
	running  atomic.Bool // run tells
	wake     wake.Signal // the queue grew
}

func newEventQueue() *eventQueue {
	return &eventQueue{flushing: newTimedMutex(), wake: wake.New()}
}

// add adds something to tell. It does not wait.
func (q *eventQueue) add(f func()) {
	q.mu.Lock()
	q.queue = append(q.queue, f)
	q.mu.Unlock()
	q.wake.Set()
}

// flush tells all that is queued, and waits for who is telling.
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

// flushUnlessRunning sees to it that all is told, and waits only where nobody else does it.
func (q *eventQueue) flushUnlessRunning() {
	if !q.running.Load() {
		q.flush()
	}
}

// run tells until ctx ends, and then what is left.
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
