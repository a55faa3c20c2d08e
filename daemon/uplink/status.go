package uplink

import (
	"sync"
	"time"
)

// Status is the state of the link, for people and for the safety of outputs.
type Status struct {
	Connected bool
	Endpoint  string
	ClientID  string
	Attempts  int // connection attempts since the last success
	// Connects counts the connections that were established since the start.
	Connects uint64
	// Next is when the next attempt is made; zero during an attempt.
	Next time.Time
	// Err is why the link is not connected, as an [*Explained]. While it is connected, Err is
	// what is still wrong (a topic that may not be published to, a new certificate that does
	// not work), or nil.
	Err error
	// Denied are the subscriptions that are left out of this connection because the broker
	// does not allow them.
	Denied []string
	// DeniedWhy is about the first of Denied that was not refused by a SUBACK: what the
	// broker said over MQTT 5, or that the denial is inferred; "" is nothing.
	DeniedWhy string
	// SessionPresent is the session present flag of the last CONNACK.
	SessionPresent bool
	// Undelivered is the topic of a message of ours that the broker has acknowledged but not
	// delivered to us, although we listened; "" if there is none. See [Echo].
	Undelivered string
	// PingEvery is the interval of pings if connections are dropped after being idle for
	// IdleTimeout. Both are 0 if not.
	PingEvery, IdleTimeout time.Duration
	// Published counts the acknowledged messages since the start. A batch of readings is one
	// message.
	Published uint64
	// Dropped counts the lost messages from the broker since the start: at QoS 0 because too
	// many were waiting, at any QoS because they were too large. The beginning of those was
	// received.
	Dropped uint64
	// SessionsLost counts how often the link was established again and the broker had lost
	// our session, and with it perhaps orders. If a broker has never reported a session, its
	// losses are counted once it reports one.
	SessionsLost uint64
}

// currentStatus is the current status. Any goroutine.
type currentStatus struct {
	mu     sync.Mutex
	status Status
}

func (c *currentStatus) get() Status {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.status
}

func (c *currentStatus) change(change func(*Status)) {
	c.mu.Lock()
	defer c.mu.Unlock()
	change(&c.status)
}

// Status returns the current state. Any goroutine.
func (l *Link) Status() Status {
	s := l.status.get()
	s.Dropped = l.drops.total.Load()
	return s
}

// update changes the status and calls the observer.
func (l *Link) update(change func(*Status)) {
	l.status.change(func(s *Status) {
		change(s)
		s.PingEvery, s.IdleTimeout = l.idle.pingEvery, l.idle.after
	})
	now := l.Status()
	l.attempts.reportedDrops = now.Dropped
	l.cfg.Observe(now)
}

// reportDrops calls the observer if messages were dropped since its last call.
func (l *Link) reportDrops() {
	if l.drops.total.Load() != l.attempts.reportedDrops {
		l.update(func(*Status) {})
	}
}

// setNextAttempt sets the time of the next attempt. It does not call the observer, which
// already knows about the failure.
func (l *Link) setNextAttempt(at time.Time) {
	l.status.change(func(s *Status) { s.Next = at })
}
