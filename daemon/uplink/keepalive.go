package uplink

import (
	"errors"
	"time"
)

// The link pings when it has sent nothing for the keep-alive interval (MQTT 3.1.1,
// section 3.1.2.10), from the loop that publishes. The protocol client would do it with a
// ticker of its own, which wakes the process up every five seconds.
//
// Some pings go earlier: a proxy, a NAT or a firewall on the way to the broker may end
// connections on which nothing has gone for a while, or forget them without a word.
//
// Two things tell such an idle timeout from another client with our client id: the
// time is the same each time, and it counts from what was last sent and not from when
// we connected. So after two such ends in a row pings go more than twice as often as
// that. If the connection lasts then, it was an idle timeout. If not, it was none, and
// the ends count for what they are.

const (
	minIdle         = 2 * time.Second // no ping goes more often than for this
	minReportedIdle = 5 * time.Second // no proxy's timeout is shorter; another client's return may be
	// minForgotten is minIdle for a connection that is forgotten without a word: a bad
	// network looks like that too, and is not to be filled with pings.
	minForgotten = 20 * time.Second

	pingTimeout = 10 * time.Second // for a PINGRESP
)

// pinger sends the pings of one connection. Run's goroutine.
type pinger struct {
	keepAlive time.Duration
	transport *transport
	idle      *idleTimeout
	pinged    time.Time // when we last pinged, or first since something came
}

// ping sends a PINGREQ.
func (p *pinger) ping() {
	if !p.transport.traffic().heard.Before(p.pinged) { // else the one before is not answered yet
		p.pinged = time.Now()
	}
	if _, err := p.transport.Write(pingreqPacket); err != nil {
		p.transport.fail(err)
	}
}

// untilNext sends the ping that is due, and gives for how long none will be.
func (p *pinger) untilNext() time.Duration {
	every := p.keepAlive
	if p.idle.pingEvery > 0 {
		every = min(every, p.idle.pingEvery)
	}
	left := every - time.Since(p.transport.traffic().sent)
	if left <= 0 {
		p.ping()
		left = every
	}
	return left
}

// checkAnswer ends the connection when a ping has waited too long for its answer.
func (p *pinger) checkAnswer() {
	if !p.pinged.IsZero() && p.transport.traffic().heard.Before(p.pinged) && time.Since(p.pinged) >= pingTimeout {
		p.transport.fail(errNoPing)
	}
}

// idleTimeout is what is known of an idle timeout on the way to the broker, over all
// connections. Run's goroutine.
type idleTimeout struct {
	last      silence       // in which the last connection ended; zero where it ended otherwise
	after     time.Duration // after how long without anything sent connections end; 0 where they do not
	pingEvery time.Duration // how often a ping goes because of that; 0 is as configured
	proven    bool          // a connection with those pings has lasted
	explained *Explained    // what is to be said of it until then; nil for nothing
}

// silence is a time in which nothing went over a connection, and then it ended.
type silence struct {
	length    time.Duration
	forgotten bool // it was found dead only when something was sent after that
}

// pingIntervalFor gives how often to ping so that there is no such silence. Not at just
// half of it, where a ping would meet the end that comes at a constant time after all.
func pingIntervalFor(idle time.Duration) time.Duration { return idle * 2 / 5 }

// like reports whether two ends may have one cause. One that was found later than it
// came about says only that the timeout is no longer.
func (a silence) like(b silence) bool {
	if a.length == 0 || a.forgotten != b.forgotten {
		return false
	}
	return a.forgotten || (a.length-b.length).Abs() <= max(500*time.Millisecond, b.length/32)
}

// silenceAtEnd gives the silence in which a connection that stood has ended; zero
// where something else has ended it. A close in order right after something was sent
// may be the broker's answer to that, and one after less time than the connection has
// survived before is no timeout.
func (c *connection) silenceAtEnd(err error, kind endKind) silence {
	if c.up.IsZero() {
		return silence{}
	}
	t := c.transport.traffic()
	quiet := t.ended.Sub(later(t.sent, t.heard))
	switch {
	case kind != brokenByNetwork && c.exchange.phase == Idle && quiet >= minIdle:
		if quiet > t.survived {
			return silence{length: quiet}
		}
	case kind == closedByPeer, errors.Is(err, errFull), errors.Is(err, errProtocol):
	case t.gap >= minForgotten && t.gap > t.survived*6/5:
		return silence{length: t.gap, forgotten: true}
	}
	return silence{}
}

// connectionEnded learns from the end of a connection that stood for lived; closed
// says that the other side closed it while nothing was under way. It reports whether
// it is found now that connections end because nothing is sent.
func (i *idleTimeout) connectionEnded(s silence, closed bool, lived time.Duration) (found bool) {
	again := s.like(i.last) || s.forgotten && i.pingEvery > 0 && !i.proven // still not often enough
	i.last = s
	switch {
	case again && (i.pingEvery == 0 || pingIntervalFor(s.length) < i.pingEvery):
		i.after, i.pingEvery, i.proven, i.last = s.length, pingIntervalFor(s.length), false, silence{}
		return true
	case i.pingEvery > 0 && !i.proven && closed && !s.forgotten && lived < 2*i.after:
		*i = idleTimeout{last: s} // pings have changed nothing
	}
	return false
}

// connectionLasts notes that a connection has stood for so long. It reports whether
// that proves what was found.
func (i *idleTimeout) connectionLasts(lived time.Duration) (proven bool) {
	if i.pingEvery == 0 || i.proven || lived < max(stableAfter, 2*i.after) {
		return false
	}
	i.proven, i.explained, i.last = true, nil, silence{}
	return true
}
