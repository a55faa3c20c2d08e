package uplink

import (
	"context"
	"errors"
	"sync"
	"time"

	"fieldpost/daemon/wake"
)

// errReconnect ends a connection because somebody wants it made anew.
var errReconnect = errors.New("reconnecting, as requested")

// reconnects are the callers that want a connection now, and how the link hears of
// them. Any goroutine.
type reconnects struct {
	wake wake.Signal // set while any wait

	mu      sync.Mutex
	waiting []chan<- Status
}

// ask adds a caller. The channel delivers once.
func (r *reconnects) ask() <-chan Status {
	done := make(chan Status, 1)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.waiting = append(r.waiting, done)
	r.wake.Set() // with the lock, so that answer clears no later one
	return done
}

// answer tells all callers what has become of their connection. One that was asked for
// while it was being made is this one.
func (r *reconnects) answer(s Status) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, done := range r.waiting {
		done <- s // there is room for one, and only one is sent
	}
	r.waiting = nil
	r.wake.Clear()
}

// Reconnect has the link connect now, without waiting for anything but the second that
// lies between two connections (AWS IoT Core takes one CONNECT a second from a client
// id), and whatever it waits for. A connection that stands is ended in order and made
// anew, with the files of credentials as they are now; all that is left out because
// the broker does not allow it is tried again. It gives the state after that attempt,
// or ctx's error. Any goroutine; a link that does not run answers nobody.
func (l *Link) Reconnect(ctx context.Context) (Status, error) {
	select {
	case s := <-l.reconnects.ask():
		return s, nil
	case <-ctx.Done():
		return Status{}, ctx.Err()
	}
}

// answerReconnects tells all who have asked for a connection what has become of it.
func (l *Link) answerReconnects() { l.reconnects.answer(l.Status()) }

// prepareReconnect prepares an attempt that was asked for. It may be that what was
// wrong has been mended, so nothing that was held against anything holds it up.
func (l *Link) prepareReconnect(ctx context.Context) {
	now := time.Now()
	l.backoff.reset()
	l.subs.denials.denied.retryAll(now)
	l.topics.denied.retryAll(now)
	l.will.retryNow()
	l.await(ctx, time.Until(l.tried.Add(backoffMin)), nil, nil)
}
