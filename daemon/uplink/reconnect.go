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

// Reconnect makes the link connect now, whatever it waits for. It only keeps the second
// between two connections (AWS IoT Core accepts one CONNECT per second and client id). An
// open connection is closed in order and a new one is made, with the credential files as
// they are now. Everything that was left out because the broker denied it is tried again.
// Reconnect returns the state after the attempt, or ctx's error. It may be called from
// any goroutine. It does not return before ctx ends if the link does not run.
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
	l.await(ctx, time.Until(l.attempts.last.Add(backoffMin)), nil, nil)
}
