package uplink

import (
	"context"
	"crypto/sha256"
	"sync"
	"time"
)

// MQTT 3.1.1 has no answer to a PUBLISH that is denied. AWS IoT Core hangs up; others
// (mosquitto, EMQX) acknowledge it and deliver it to nobody, and nothing in the
// protocol tells that from a delivery. What can be done is to listen: a message of ours
// comes back to us where we are subscribed to its topic and may read it.

// Echo is the topic of which one message of ours, the first in each connection, is
// awaited from the broker.
type Echo struct {
	Topic string // "" listens for nothing
	// Subscribe says that the topic may be subscribed to for that, at QoS 0 and until
	// the message has come. Otherwise it is listened for only where a subscription of
	// Config brings it anyway. Where AWS IoT Core's limits are kept nothing is
	// subscribed to: that broker hangs up on a PUBLISH that it denies, and on a
	// SUBSCRIBE too.
	Subscribe bool
	Within    time.Duration // after its PUBACK; 0 is 30 s
}

const defaultEchoWithin = 30 * time.Second

// echoState is what is known of echoes over all connections. Run's goroutine.
type echoState struct {
	missing    bool          // the last that was awaited did not come
	logged     bool          // that nothing is subscribed to with AWS's limits
	denied     bool          // the broker does not let us subscribe; until the process ends
	retryAfter time.Duration // until a topic whose echo did not come is subscribed to again
}

// echoListener listens for an echo on one connection.
type echoListener struct {
	ownSubscription bool      // a subscription was made for this only; Run's goroutine
	startAt         time.Time // when to begin to listen, zero is never; Run's goroutine

	mu        sync.Mutex
	topic     string // changed by Run's goroutine only
	ownOnly   bool   // nobody but us wants what comes on the topic
	listening bool
	armed     bool   // it is known which message is awaited
	packet    uint16 // of that message
	sum       [sha256.Size]byte
	ackedAt   time.Time // when its PUBACK came
	came      bool      // it has come back
}

// prepare sets the topic to listen on.
func (e *echoListener) prepare(topic string, ownOnly bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.topic, e.ownOnly = topic, ownOnly
}

// received takes note of a message from the broker, and reports whether it is for
// nobody else. The goroutine that reads.
func (e *echoListener) received(p *publishPacket) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.topic == "" || p.topic != e.topic {
		return false
	}
	if e.armed && !p.retained && len(p.payload) == p.size && sha256.Sum256(p.payload) == e.sum {
		e.came = true
	}
	return e.ownOnly
}

// reset begins or ends listening.
func (e *echoListener) reset(listen, ownSubscription bool) {
	e.ownSubscription = ownSubscription
	e.mu.Lock()
	defer e.mu.Unlock()
	e.listening, e.armed, e.came, e.ackedAt = listen, false, false, time.Time{}
}

// sent notes that a message is published; the first is the one that is awaited.
func (e *echoListener) sent(m Publication, packet uint16) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if !e.listening || e.armed || m.Topic != e.topic {
		return
	}
	e.armed, e.came, e.sum = true, false, sha256.Sum256(m.Payload)
	e.packet, e.ackedAt = packet, time.Time{}
}

// acked notes a PUBACK.
func (e *echoListener) acked(packet uint16, now time.Time) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.armed && packet == e.packet && e.ackedAt.IsZero() {
		e.ackedAt = now
	}
}

// state reports whether the message that is awaited has come, and whether it is
// overdue.
func (e *echoListener) state(within time.Duration, now time.Time) (came, overdue bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.came, e.armed && !e.came && !e.ackedAt.IsZero() && now.Sub(e.ackedAt) >= within
}

// awaitNext has the next message awaited in place of the one that did not come.
func (e *echoListener) awaitNext() {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.armed, e.ackedAt = false, time.Time{}
}

// prepareEcho sets the topic to listen on, before anything can come: what a
// subscription for the echo, of an earlier connection, brings is for nobody.
func (c *connection) prepareEcho() {
	echo := c.link.cfg.Echo
	_, covered := c.link.subs.covering(echo.Topic)
	c.echo.prepare(echo.Topic, echo.Subscribe && !covered)
}

// startEcho begins to listen for an echo where that is due: at the start of a
// connection, and again some time after an echo did not come. It waits for the window
// to empty, and reports whether nothing is to be published meanwhile.
func (c *connection) startEcho(ctx context.Context) bool {
	if at := c.echo.startAt; at.IsZero() || time.Now().Before(at) {
		return false
	}
	if c.publisher.window.len() > 0 {
		return true
	}
	if err := c.listenForEcho(ctx); err != nil {
		c.transport.fail(err)
		return true
	}
	return ctx.Err() != nil
}

// listenForEcho begins to listen, by a subscription that there is or by one of its
// own. Nothing is in flight.
func (c *connection) listenForEcho(ctx context.Context) error {
	l, topic := c.link, c.link.cfg.Echo.Topic
	c.echo.startAt = time.Time{}
	filter, covered := l.subs.covering(topic)
	switch {
	case topic == "":
		return nil
	case covered:
		c.echo.reset(l.subs.denials.denied[filter] == nil, false)
		return nil
	case !l.cfg.Echo.Subscribe, l.echo.denied:
		return nil
	case l.rate.aws:
		if !l.echo.logged {
			l.echo.logged = true
			l.cfg.Log.Info("not subscribing to our own messages: AWS IoT Core closes the connection on what it denies, so its acknowledgements are reliable", "topic", topic)
		}
		return nil
	}
	c.echo.reset(true, true)
	c.probingEcho, c.exchange.phase, c.exchange.subject = true, Subscribing, topic
	code, err := c.subscriber.request(ctx, Subscription{Filter: topic})
	if err != nil {
		return err
	}
	c.probingEcho, c.exchange.phase, c.exchange.subject = false, Idle, ""
	if code > maxGranted {
		l.noteEchoDenied()
		c.echo.reset(false, false)
	}
	return nil
}

// stopEcho ends the echo's own subscription at the end of a connection, without
// waiting for the UNSUBACK.
func (c *connection) stopEcho() {
	if !c.echo.ownSubscription || c.transport.over() {
		return
	}
	c.transport.reader.subscribing.Store(true) // until the end
	c.echo.ownSubscription = false
	if _, err := c.transport.Write(appendUnsubscribe(nil, c.transport.ids.next(), c.echo.topic)); err != nil {
		c.transport.fail(err)
	}
}

// checkEcho looks whether the message that is awaited has come or is overdue.
func (c *connection) checkEcho(ctx context.Context, now time.Time) error {
	l := c.link
	came, overdue := c.echo.state(l.cfg.Echo.Within, now)
	switch {
	case came:
		l.echo.retryAfter = 0
		l.setEchoMissing(false)
	case overdue && !c.echo.ownSubscription:
		l.setEchoMissing(true)
		c.echo.awaitNext()
		return nil
	case overdue:
		l.setEchoMissing(true)
		l.echo.retryAfter = min(max(firstRetry, 2*l.echo.retryAfter), maxRetry)
		c.echo.startAt = now.Add(l.echo.retryAfter)
	default:
		return nil
	}
	return c.endEcho(ctx)
}

// endEcho ends listening, and the echo's own subscription.
func (c *connection) endEcho(ctx context.Context) error {
	if c.echo.ownSubscription {
		if err := c.subscriber.unsubscribe(ctx, c.echo.topic); err != nil {
			return err
		}
	}
	c.echo.reset(false, false)
	return nil
}

// noteEchoDenied notes that the broker does not let us listen, so that it is not asked
// again.
func (l *Link) noteEchoDenied() {
	l.echo.denied = true
	l.cfg.Log.Info("broker denies the subscription to our own messages; cannot check that they are delivered", "topic", l.cfg.Echo.Topic)
}

// setEchoMissing says that an echo did not come, or that one did.
func (l *Link) setEchoMissing(missing bool) {
	if l.echo.missing == missing {
		return
	}
	l.echo.missing = missing
	if missing {
		l.cfg.Log.Warn("broker acknowledged our message but did not deliver it to us", "topic", l.cfg.Echo.Topic)
	}
	l.update(func(s *Status) {
		s.Undelivered = ""
		if missing {
			s.Undelivered = l.cfg.Echo.Topic
		}
	})
}
