package uplink

import (
	"context"
	"errors"
	"time"
)

// errAgain ends a connection because somebody wants it made anew.
var errAgain = errors.New("made anew, as was asked for")

// requests are those who want a connection now, and how the link hears of them.
type requests struct {
	waiting []chan<- Status // under Link.mu
	hurry   chan struct{}   // buffered, signalled while any wait
}

// Reconnect has the link connect now, without waiting for anything but the second
// that lies between two connections (AWS IoT Core takes one CONNECT a second from a
// client id), and whatever it waits for. A connection that stands is ended in
// order and made anew, with the files of credentials as they are now; all that is
// left out because the broker does not allow it is tried again. It gives the state
// after that attempt, or ctx's error. Any goroutine; a link that does not run
// answers nobody.
func (l *Link) Reconnect(ctx context.Context) (Status, error) {
	done := make(chan Status, 1)
	l.mu.Lock()
	l.asked.waiting = append(l.asked.waiting, done)
	select {
	case l.asked.hurry <- struct{}{}:
	default:
	}
	l.mu.Unlock()
	select {
	case s := <-done:
		return s, nil
	case <-ctx.Done():
		return Status{}, ctx.Err()
	}
}

// answer tells all who have asked for a connection what has become of it. One that
// was asked for while this one was being made is this one.
func (l *Link) answer() {
	now := l.Status()
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, done := range l.asked.waiting {
		done <- now
	}
	l.asked.waiting = nil
	select {
	case <-l.asked.hurry:
	default:
	}
}

// pause waits before the next attempt, for at most d, or until somebody asks for it.
func (l *Link) pause(ctx context.Context, d time.Duration) {
	l.cfg.Log.Debug("link waits", "wait", d)
	l.rest(time.Now().Add(d))
	if l.await(ctx, d, l.asked.hurry, nil) {
		l.anew(ctx)
	}
}

// anew prepares an attempt that was asked for: it may be that what was wrong has
// been mended, so nothing that was held against anything holds up this one.
func (l *Link) anew(ctx context.Context) {
	now := time.Now()
	l.wait.reset()
	l.filters.bans.retry(now)
	l.topics.bans.retry(now)
	l.wills.again()
	l.await(ctx, time.Until(l.tried.Add(backoffLeast)), nil, nil)
}

// part ends the connection in order, for another to be made: the broker does not
// publish our will. What is not acknowledged is sent again.
func (s *session) part() {
	s.unlisten()
	s.client.Disconnect(uint(goodbyeWait.Milliseconds()))
	s.conn.fail(errAgain)
	s.collect()
	s.l.cfg.Log.Info("link is made anew, as was asked for", "endpoint", s.l.cfg.Endpoint, "unacknowledged", len(s.window))
}
