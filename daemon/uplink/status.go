package uplink

import (
	"sync"
	"time"
)

// Status is the state of the link, for people and for the safety of pins.
type Status struct {
	Connected bool
	Endpoint  string
	ClientID  string
	Attempts  int // connection attempts since the last success
	// Connects counts the connections that came to stand since the start.
	Connects uint64
	// Next is when the next attempt is, while none is under way.
	Next time.Time
	// Err says why it is not connected, as an [*Explained]. While it is connected, Err
	// says what is amiss all the same (a topic that may not be published to, a new
	// certificate that does not work), or is nil.
	Err error
	// Denied are the subscriptions left out of this connection, because the broker does
	// not allow them.
	Denied []string
	// DeniedWhy says of the first of Denied that was not refused by a SUBACK what the broker
	// said when it was asked over MQTT 5, or that the denial is inferred; "" is nothing.
	DeniedWhy string
	// SessionPresent is the session present flag of the last CONNACK.
	SessionPresent bool
	// Undelivered is the topic of a message of ours that the broker has acknowledged and
	// not delivered to us, though we listened; "" where there is none. See [Echo].
	Undelivered string
	// PingEvery is how often a ping goes because connections are given up on which
	// nothing has been sent for IdleTimeout; both are 0 where they are not.
	PingEvery, IdleTimeout time.Duration
	// Published counts the messages for which a PUBACK has come since the start. A batch
	// of readings is one.
	Published uint64
	// Dropped counts the messages from the broker that were lost since the start: at QoS
	// 0 because too many waited, at any QoS because of their size. Of those the
	// beginning was received.
	Dropped uint64
	// SessionsLost counts how often the link came to stand again and the broker had
	// forgotten our session, and with it the orders it may have kept for us. What a
	// broker says that has never said that it has a session counts once it has.
	SessionsLost uint64
}

// currentStatus is the present status. Any goroutine.
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

// Status gives the present state. Any goroutine.
func (l *Link) Status() Status {
	s := l.status.get()
	s.Dropped = l.drops.total.Load()
	return s
}

// update changes the status and tells the observer.
func (l *Link) update(change func(*Status)) {
	l.status.change(func(s *Status) {
		change(s)
		s.PingEvery, s.IdleTimeout = l.idle.pingEvery, l.idle.after
	})
	now := l.Status()
	l.attempts.reportedDrops = now.Dropped
	l.cfg.Observe(now)
}

// reportDrops tells the observer of messages that were dropped since it was last told
// anything.
func (l *Link) reportDrops() {
	if l.drops.total.Load() != l.attempts.reportedDrops {
		l.update(func(*Status) {})
	}
}

// setNextAttempt notes when the next attempt is. The observer has been told of the
// failure, and is not told again.
func (l *Link) setNextAttempt(at time.Time) {
	l.status.change(func(s *Status) { s.Next = at })
}
