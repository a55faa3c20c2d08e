package uplink

import (
	"context"
	"crypto/sha256"
	"sync"
	"time"
)

// MQTT 3.1.1 has no answer to a PUBLISH that is denied. AWS IoT Core hangs up. Others
// (mosquitto, EMQX) acknowledge it and deliver it to nobody, which looks like a delivery. The
// only way to find out is to listen: if we are subscribed to the topic and may read it, our
// own message comes back to us.

// Echo is a topic of ours. The link waits for the broker to deliver the first message that it
// publishes to it in each connection.
type Echo struct {
	Topic string // "" disables the echo
	// Subscribe allows a subscription to the topic for this purpose, at QoS 0 and until the
	// message has come. Otherwise the link listens only if a subscription of Config includes
	// the topic. With the limits of AWS IoT Core there is no subscription: that broker hangs
	// up on a PUBLISH that it denies, and on a SUBSCRIBE too.
	Subscribe bool
	Within    time.Duration // how long after its PUBACK the message may take; 0 is 30 s
}

const defaultEchoWithin = 30 * time.Second

// echoState is what is known about echoes across connections. Only Run's goroutine uses it.
type echoState struct {
	missing    bool          // the last expected echo did not come
	logged     bool          // it was logged that there is no subscription with AWS's limits
	denied     bool          // the broker does not allow the subscription; kept until the process ends
	silences   int           // requests of the echo in a row that were not answered
	retryAfter time.Duration // time until the next subscription after an echo did not come
}

// echoListener listens for an echo on one connection.
type echoListener struct {
	ownSubscription bool      // a subscription was made only for the echo; Run's goroutine
	startAt         time.Time // when to begin to listen; zero: never; Run's goroutine

	mu        sync.Mutex
	topic     string // changed by Run's goroutine only
	ownOnly   bool   // nobody else receives messages of the topic
	listening bool
	armed     bool   // it is known which message is expected
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

// received handles a message from the broker. It reports whether nobody else receives it.
// Called by the reading goroutine.
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

// reset starts or ends listening.
func (e *echoListener) reset(listen, ownSubscription bool) {
	e.ownSubscription = ownSubscription
	e.mu.Lock()
	defer e.mu.Unlock()
	e.listening, e.armed, e.came, e.ackedAt = listen, false, false, time.Time{}
}

// sent records a published message; the first one is the expected echo.
func (e *echoListener) sent(m Publication, packet uint16) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if !e.listening || e.armed || m.Topic != e.topic {
		return
	}
	e.armed, e.came, e.sum = true, false, sha256.Sum256(m.Payload)
	e.packet, e.ackedAt = packet, time.Time{}
}

// acked records a PUBACK.
func (e *echoListener) acked(packet uint16, now time.Time) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.armed && packet == e.packet && e.ackedAt.IsZero() {
		e.ackedAt = now
	}
}

// state reports whether the expected message has come, and whether it is overdue.
func (e *echoListener) state(within time.Duration, now time.Time) (came, overdue bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.came, e.armed && !e.came && !e.ackedAt.IsZero() && now.Sub(e.ackedAt) >= within
}

// awaitNext expects the next message instead of the one that did not come.
func (e *echoListener) awaitNext() {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.armed, e.ackedAt = false, time.Time{}
}

// prepareEcho sets the topic to listen on before any message can arrive. Messages that arrive
// because of an echo's subscription of an earlier connection are for nobody.
func (c *connection) prepareEcho() {
	echo := c.link.cfg.Echo
	_, covered := c.link.subs.covering(echo.Topic)
	c.echo.prepare(echo.Topic, echo.Subscribe && !covered)
}

// startEcho starts to listen for an echo if that is due: at the start of a connection, and
// again some time after an echo did not come. It waits for the window to empty, and reports
// whether publishing must stop meanwhile.
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

// listenForEcho starts to listen, through an existing subscription or one of its own. Nothing
// is in flight.
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
	code := byte(0)
	if err := c.askForEcho(Subscribing, func() (err error) {
		code, err = c.subscriber.request(ctx, Subscription{Filter: topic})
		return err
	}); err != nil {
		return err
	}
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
	c.transport.reader.subscribing.Store(true) // stays set until the connection ends
	c.echo.ownSubscription = false
	if _, err := c.transport.Write(appendUnsubscribe(nil, c.transport.ids.next(), c.echo.topic)); err != nil {
		c.transport.fail(err)
	}
}

// checkEcho checks whether the expected message has come or is overdue.
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
		if err := c.askForEcho(Unsubscribing, func() error { return c.subscriber.unsubscribe(ctx, c.echo.topic) }); err != nil {
			return err
		}
		c.link.echo.silences = 0
	}
	c.echo.reset(false, false)
	return nil
}

// askForEcho makes a request of the echo's own.
func (c *connection) askForEcho(phase Phase, request func() error) error {
	before := c.exchange
	c.probingEcho, c.exchange = true, exchange{phase: phase, subject: c.echo.topic, asked: time.Now()}
	if err := request(); err != nil {
		return err
	}
	c.probingEcho, c.exchange.phase, c.exchange.subject = false, before.phase, before.subject
	return nil
}

// mostSilences is how many requests of the echo in a row may remain without an answer. One may
// be the network's doing.
const mostSilences = 2

// echoEnded records that a connection has ended instead of answering a request of the echo.
// answer says that the broker may have ended it because of that, silent that it has not
// answered in time. Otherwise the network has broken, and the next connection asks again.
func (l *Link) echoEnded(answer, silent bool) {
	if silent {
		l.echo.silences++
	}
	if answer || l.echo.silences >= mostSilences {
		l.noteEchoDenied()
	}
}

// noteEchoDenied records that the broker does not allow the subscription, so that it is not
// requested again.
func (l *Link) noteEchoDenied() {
	l.echo.denied = true
	l.cfg.Log.Info("broker denies the subscription to our own messages, or its end; cannot check that they are delivered", "topic", l.cfg.Echo.Topic)
}

// setEchoMissing records that an echo did not come, or that one did.
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
