package uplink

import (
	"errors"
	"time"
)

// A proxy, a NAT or a firewall on the way to the broker may end connections on which
// nothing has gone for a while, or forget them without a word. What tells it from
// another client with our client id is that the time is the same each time, and
// that it is counted from what was last sent and not from when we connected. So
// after two such ends in a row pings go more than twice as often as that. If the connection
// lasts then, it was that; if not, it was not, and the ends count for what they are.

const (
	leastIdle = 2 * time.Second // no ping goes more often than for this
	tellIdle  = 5 * time.Second // no proxy's timeout is shorter; another client's return may be
	// leastSilent is the same as leastIdle for a connection that is forgotten without
	// a word: a bad network looks like that too, and is not to be filled with pings.
	leastSilent = 20 * time.Second
)

// idling is what is known of such a timeout.
type idling struct {
	last   lull          // how the last connection ended; zero where otherwise
	found  time.Duration // after how long without anything sent connections end; 0 where they do not
	every  time.Duration // how often a ping goes because of that; 0 is as configured
	proven bool          // a connection with those pings has lasted
	why    *Explained    // what is to be said of it until then; nil for nothing
}

// lull is a time in which nothing went over a connection, and then it ended.
type lull struct {
	length time.Duration
	silent bool // it was found dead only when something was sent after that
}

// often says how often to ping so that there is no such time: not just at its half,
// where a ping would meet the end that comes at a constant time after all.
func often(idle time.Duration) time.Duration { return idle * 2 / 5 }

// like reports whether two ends may have one cause. One that was found later than
// it came about says only that the timeout is no longer.
func (a lull) like(b lull) bool {
	if a.length == 0 || a.silent != b.silent {
		return false
	}
	return a.silent || (a.length-b.length).Abs() <= max(500*time.Millisecond, b.length/32)
}

// lullOf gives the lull in which a connection that stood has ended; zero where
// something else has ended it. A close in order right after something was sent
// may be the broker's answer to that, and one after less time than the connection
// has outlived before is no timeout.
func (s *session) lullOf(err error, how ending) lull {
	if s.up.IsZero() {
		return lull{}
	}
	t := s.conn.traffic()
	quiet := t.ended.Sub(later(t.sent, t.heard))
	switch {
	case how != byNetwork && s.phase == Idle && quiet >= leastIdle:
		if quiet > t.survived {
			return lull{length: quiet}
		}
	case how == byBroker, errors.Is(err, errFull), errors.Is(err, errProtocol):
	case t.gap >= leastSilent && t.gap > t.survived*6/5:
		return lull{length: t.gap, silent: true}
	}
	return lull{}
}

// ended learns from the end of a connection that stood for lived; closed says that
// the other side closed it while nothing was under way. It reports whether it is
// found that it ended because nothing was sent.
func (i *idling) ended(l lull, closed bool, lived time.Duration) bool {
	again := l.like(i.last) || l.silent && i.every > 0 && !i.proven // still not often enough
	i.last = l
	switch {
	case again && (i.every == 0 || often(l.length) < i.every):
		i.found, i.every, i.proven, i.last = l.length, often(l.length), false, lull{}
		return true
	case i.every > 0 && !i.proven && closed && !l.silent && lived < 2*i.found:
		*i = idling{last: l} // pings have changed nothing
	}
	return false
}

// lasted notes that a connection has stood for so long. It reports whether that
// proves what was found.
func (i *idling) lasted(lived time.Duration) bool {
	if i.every == 0 || i.proven || lived < max(steady, 2*i.found) {
		return false
	}
	i.proven, i.why, i.last = true, nil, lull{}
	return true
}

// untilPing says for how long no ping of ours is due; it sends the one that is.
func (s *session) untilPing() time.Duration {
	every := s.l.idle.every
	if every == 0 {
		return turnEvery
	}
	left := every - time.Since(s.conn.traffic().sent)
	if left <= 0 {
		s.ping()
		left = every
	}
	return left
}

// unanswered ends the connection when a ping of ours has waited too long for its
// answer.
func (s *session) unanswered() {
	if !s.pinged.IsZero() && s.conn.traffic().heard.Before(s.pinged) && time.Since(s.pinged) >= pingTimeout {
		s.conn.fail(errNoPing)
	}
}
