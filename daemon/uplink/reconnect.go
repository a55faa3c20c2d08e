package uplink

import (
	"context"
	"errors"
	"sync"
	"time"

	"fieldpost/daemon/wake"
)

// errReconnect ends a connection because somebody wants a new one.
var errReconnect = errors.New("reconnecting, as requested")

// reconnects are the calls that want a connection now, and the signal to the link. Any
// goroutine.
type reconnects struct {
	wake wake.Signal // set while any are waiting

	mu      sync.Mutex
	waiting []chan<- Status
}

// ask adds a call. The channel delivers once.
func (r *reconnects) ask() <-chan Status {
	done := make(chan Status, 1)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.waiting = append(r.waiting, done)
	r.wake.Set() // under the lock, so that answer does not clear a later signal
	return done
}

// answer sends all calls the status of their connection. A call that came while a connection
// was being made gets that one.
func (r *reconnects) answer(s Status) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, done := range r.waiting {
		done <- s // has room for the one value
	}
	r.waiting = nil
	r.wake.Clear()
}

// Reconnect makes the link connect now, whatever it is waiting for. It only keeps one second
// between two connections (AWS IoT Core accepts one CONNECT per second and client id). An
// open connection is closed in order and a new one is made, with the credential files as they
// are now. Everything that was left out because the broker denied it is tried again.
// Reconnect returns the state after the attempt, or ctx's error. Any goroutine. If the link
// is not running, it returns only when ctx ends.
func (l *Link) Reconnect(ctx context.Context) (Status, error) {
	select {
	case s := <-l.reconnects.ask():
		return s, nil
	case <-ctx.Done():
		return Status{}, ctx.Err()
	}
}

// answerReconnects sends the outcome to all calls that have asked for a connection.
func (l *Link) answerReconnects() { l.reconnects.answer(l.Status()) }

// prepareReconnect prepares an attempt that was asked for. The causes of earlier failures may
// have been removed, so no backoff or denial delays it.
func (l *Link) prepareReconnect(ctx context.Context) {
	now := time.Now()
	l.backoff.reset()
	l.subs.denials.denied.retryAll(now)
	l.topics.denied.retryAll(now)
	l.will.retryNow()
	l.await(ctx, time.Until(l.attempts.last.Add(backoffMin)), nil, nil)
}
