package uplink

import (
	"errors"
	"time"
)

// The link pings when it has sent nothing for the keep-alive interval (MQTT 3.1.1, section
// 3.1.2.10), from the loop that publishes. The protocol client would use a ticker of its own,
// which wakes the process up every five seconds.
//
// Some pings are sent earlier: a proxy, a NAT or a firewall in the network may close idle
// connections, or drop them silently.
//
// Two things distinguish such an idle timeout from another client with our client id: the
// time is always the same, and it counts from the last thing we sent and not from when we
// connected. So after two such ends in a row the link pings more than twice as often as that.
// If the connection then lasts, the cause was an idle timeout. If not, it was not, and the
// ends count as ordinary ones.

const (
	minIdle         = 2 * time.Second // a shorter idle time does not make pings more frequent
	minReportedIdle = 5 * time.Second // no proxy has a shorter timeout, but another client may return sooner
	// minForgotten is minIdle for a connection that is dropped silently. A bad network looks
	// like that too, and should not be filled with pings.
	minForgotten = 20 * time.Second

	pingTimeout = 10 * time.Second // for a PINGRESP
)

// pinger sends the pings of one connection. Only Run's goroutine uses it.
type pinger struct {
	keepAlive time.Duration
	transport *transport
	idle      *idleTimeout
	pinged    time.Time // when we last pinged, or first pinged since something came
}

// ping sends a PINGREQ.
func (p *pinger) ping() {
	if !p.transport.traffic().heard.Before(p.pinged) { // otherwise the previous ping is not answered yet
		p.pinged = time.Now()
	}
	if _, err := p.transport.Write(pingreqPacket); err != nil {
		p.transport.fail(err)
	}
}

// untilNext sends the ping that is due, and returns how long until the next one.
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

// checkAnswer ends the connection if a ping has waited too long for its answer.
func (p *pinger) checkAnswer() {
	if !p.pinged.IsZero() && p.transport.traffic().heard.Before(p.pinged) && time.Since(p.pinged) >= pingTimeout {
		p.transport.fail(errNoPing)
	}
}

// idleTimeout is what is known about an idle timeout in the network, across connections. Only
// Run's goroutine uses it.
type idleTimeout struct {
	last      silence       // the silence in which the last connection ended; zero if it ended otherwise
	after     time.Duration // how long connections may be idle before they end; 0 if there is no such limit
	pingEvery time.Duration // the interval of pings because of that; 0: as configured
	proven    bool          // a connection with those pings has lasted
	explained *Explained    // the explanation until then; nil if there is none
}

// silence is a time in which nothing was sent over a connection, after which it ended.
type silence struct {
	length    time.Duration
	forgotten bool // it turned out to be dead only when something was sent again
}

// pingIntervalFor returns the interval of pings that prevents such a silence. It is not
// exactly half of it: a ping would then coincide with an end that comes at a constant time.
func pingIntervalFor(idle time.Duration) time.Duration { return idle * 2 / 5 }

// like reports whether two ends may have the same cause. If one was found later than it
// happened, it only shows that the timeout is not longer.
func (a silence) like(b silence) bool {
	if a.length == 0 || a.forgotten != b.forgotten {
		return false
	}
	return a.forgotten || (a.length-b.length).Abs() <= max(500*time.Millisecond, b.length/32)
}

// silenceAtEnd returns the silence in which an established connection has ended; zero if
// something else has ended it. A close in order right after something was sent may be the
// broker's answer to that. A close after a time that the connection has survived before is
// not a timeout.
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

// connectionEnded records the end of a connection that was up for lived. closed says that the
// other side closed it while no request was pending. It reports whether this shows, for the
// first time, that idle connections are ended.
func (i *idleTimeout) connectionEnded(s silence, closed bool, lived time.Duration) (found bool) {
	again := s.like(i.last) || s.forgotten && i.pingEvery > 0 && !i.proven // the pings are still not frequent enough
	i.last = s
	switch {
	case again && (i.pingEvery == 0 || pingIntervalFor(s.length) < i.pingEvery):
		i.after, i.pingEvery, i.proven, i.last = s.length, pingIntervalFor(s.length), false, silence{}
		return true
	case i.pingEvery > 0 && !i.proven && closed && !s.forgotten && lived < 2*i.after:
		*i = idleTimeout{last: s} // more pings made no difference
	}
	return false
}

// connectionLasts records that a connection has been up for lived. It reports whether that
// proves the idle timeout.
func (i *idleTimeout) connectionLasts(lived time.Duration) (proven bool) {
	if i.pingEvery == 0 || i.proven || lived < max(stableAfter, 2*i.after) {
		return false
	}
	i.proven, i.explained, i.last = true, nil, silence{}
	return true
}
