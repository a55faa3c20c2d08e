package output

import (
	"context"
	"sync"
	"sync/atomic"
)

// teller keeps what is to be told, to the log and as events, until whoever
// drives lines has let go of them: a log or a callback that blocks must not
// keep a line from being driven.
type teller struct {
	mu    sync.Mutex
	queue []func()

	telling lock          // held by who tells, so that all is told in its order
	running atomic.Bool   // run tells
	wake    chan struct{} // buffered, one: the queue grew
}

func newTeller() *teller { return &teller{telling: newLock(), wake: make(chan struct{}, 1)} }

// put adds something to tell. It does not wait.
func (t *teller) put(f func()) {
	t.mu.Lock()
	t.queue = append(t.queue, f)
	t.mu.Unlock()
	select {
	case t.wake <- struct{}{}:
	default:
	}
}

// tell tells all that is queued, and waits for who is telling.
func (t *teller) tell() {
	t.telling.Lock()
	defer t.telling.Unlock()
	for {
		t.mu.Lock()
		if len(t.queue) == 0 {
			t.mu.Unlock()
			return
		}
		f := t.queue[0]
		t.queue = t.queue[1:]
		t.mu.Unlock()
		f()
	}
}

// leave sees to it that all is told, and waits only where nobody else does it.
func (t *teller) leave() {
	if !t.running.Load() {
		t.tell()
	}
}

// run tells until ctx ends, and then what is left.
func (t *teller) run(ctx context.Context) {
	t.running.Store(true)
	defer t.running.Store(false)
	for {
		select {
		case <-ctx.Done():
			t.tell()
			return
		case <-t.wake:
			t.tell()
		}
	}
}
