package uplink

import (
	"context"
	"fieldpost/daemon/wake"
	"time"

	mqtt "github.com/eclipse/paho.mqtt.golang"
)

// connection is one attempt to connect and the network connection that results, in the sense
// of MQTT 3.1.1, section 4.2. It has a protocol client of its own. Only Run's goroutine uses
// it, except its receiver.
type connection struct {
	link      *Link
	client    mqtt.Client
	creds     *credentials
	trial     *trial        // not decided yet; nil if creds are not on trial
	transport *transport    // nil until TCP and TLS are up
	lost      chan struct{} // closed when, after a loss, the client has ended all its goroutines

	exchange         exchange
	certificateAsked bool // the broker has asked for our certificate
	withWill         bool // the CONNECT has one
	sessionPresent   bool // the CONNACK said so
	up               time.Time
	reconnect        bool // another connection was asked for
	probingEcho      bool // the pending SUBSCRIBE or UNSUBSCRIBE is the echo's; its denial does not matter

	subscriber subscriber
	publisher  publisher
	receiver   receiver
	pinger     pinger
	echo       echoListener
}

// exchange is the last request on a connection that the broker must answer.
type exchange struct {
	phase   Phase
	subject string    // the filter of a SUBSCRIBE or UNSUBSCRIBE
	asked   time.Time // when the last SUBSCRIBE, UNSUBSCRIBE or PUBLISH was sent
}

func newConnection(l *Link) *connection {
	c := &connection{link: l, lost: make(chan struct{})}
	c.subscriber.link, c.subscriber.exchange, c.subscriber.held = l, &c.exchange, map[string]byte{}
	c.publisher.link, c.publisher.exchange, c.publisher.pinger, c.publisher.echo = l, &c.exchange, &c.pinger, &c.echo
	c.receiver.queue, c.receiver.drops, c.receiver.echo, c.receiver.subscribeSent = l.inbound, &l.drops, &c.echo, &c.subscriber.requested
	c.pinger.idle, c.pinger.keepAlive = &l.idle, l.cfg.KeepAlive
	c.prepareEcho()
	return c
}

// use makes the parts of the connection use a transport.
func (c *connection) use(t *transport) {
	c.transport = t
	c.subscriber.transport, c.publisher.transport, c.receiver.transport, c.pinger.transport = t, t, t, t
}

// run makes the connection and keeps it until it or ctx ends. It returns what ended it.
func (c *connection) run(ctx context.Context) error {
	if err := c.connect(ctx); err != nil {
		return err
	}
	defer c.link.inbound.discard(false)
	subs := &c.link.subs
	if err := c.subscriber.subscribe(ctx, subs.denials.allowed(subs.wanted, time.Now())); err != nil {
		return c.finish(err)
	}
	if ctx.Err() == nil {
		c.established()
		if err := c.subscriber.dropObsolete(ctx); err != nil {
			return c.finish(err)
		}
		c.serve(ctx)
	}
	if ctx.Err() != nil && !c.transport.over() {
		c.leave()
		return nil
	}
	if c.reconnect && !c.transport.over() {
		c.closeToReconnect()
		return errReconnect
	}
	return c.finish(nil)
}

// established is called when the subscriptions are made and the link is established.
func (c *connection) established() {
	l := c.link
	c.up = time.Now()
	l.network.stop()
	c.noteResumedSession()
	lost, doubtful := l.session.established()
	if l.cfg.Clean || len(l.subs.wanted) == 0 { // there is nothing that the broker could lose
		lost, doubtful = 0, false
	}
	l.update(func(s *Status) {
		s.Connected, s.Attempts, s.SessionPresent = true, 0, c.sessionPresent
		s.Err = l.amiss()
		noteDenied(l, s)
		s.SessionsLost += uint64(lost)
		s.Connects++
	})
	l.attempts.reportedCode = ""
	l.cfg.Log.Info("connected", "endpoint", l.cfg.Endpoint, "client_id", l.cfg.ClientID, "session_present", c.sessionPresent)
	l.answerReconnects()
	switch {
	case lost > 0:
		l.cfg.Log.Warn("broker lost our session; orders that it stored may be lost")
	case doubtful:
		l.cfg.Log.Warn("broker reports no session, and has never reported one; orders that it stored are lost, unless it keeps sessions without reporting them")
	}
}

// atOnce is a timer's channel for who does not wait.
var atOnce = func() <-chan time.Time {
	c := make(chan time.Time)
	close(c)
	return c
}()

// serve publishes from the outbox and keeps the connection alive until it or ctx ends, or
// until somebody wants another connection. All else is looked after also while the outbox
// always has more: it takes minutes to skip a long backlog of a topic that is held.
func (c *connection) serve(ctx context.Context) {
	checked := time.Now()
	c.echo.startAt = checked
	c.publisher.rewind()
	for !c.transport.over() {
		c.link.cfg.Heartbeat()
		c.publisher.caughtUp = false
		more, wait := false, heartbeatEvery
		if !c.holdsBack() && !c.reconfigure(ctx) && !c.retryDenied(ctx) && !c.startEcho(ctx) {
			more, wait = c.publisher.fill()
		}
		if c.reconnect {
			return
		}
		wait = min(wait, c.pinger.untilNext(), c.publisher.awaitPubacks())
		var next *wake.Timer
		over := atOnce
		if !more {
			if wait == heartbeatEvery { // nothing is due earlier
				wait = c.link.cfg.HeartbeatWait(time.Now(), wait)
			}
			// A new timer each time: one that was reset to an earlier time wakes the process up
			// then, even if it was put off since (runtime/time.go, minWhenModified).
			next = wake.NewTimer(wait)
			over = next.C
		}
		select {
		case <-ctx.Done():
			return
		case <-c.transport.down:
		case <-c.link.reconnects.wake.C():
			c.reconnect = true
			return
		case <-c.link.trials.wake.C():
			c.reconnect = true
			return
		case <-c.link.reconfigurations.wake.C():
		case <-c.transport.pubacks.ready.C():
		case <-c.link.cfg.Outbox.Ready():
		case <-over:
		}
		if next != nil {
			next.Stop()
		}
		if c.transport.over() { // finish handles the PUBACKs that came before
			return
		}
		c.publisher.acknowledge()
		if c.trial != nil {
			c.checkTrial(time.Now())
		}
		if now := time.Now(); now.Sub(checked) >= heartbeatEvery {
			checked = now
			c.check(now)
			if err := c.checkEcho(ctx, now); err != nil {
				c.transport.fail(err)
			}
		}
	}
}

// check does periodic work.
func (c *connection) check(now time.Time) {
	c.publisher.checkOverdue()
	c.pinger.checkAnswer()
	c.noteResumedSession()
	c.link.noteLasting(c.up)
	c.link.checkCredentials(now)
	c.link.reportDrops()
}

// holdsBack reports whether publishing must wait; see takeover.
func (c *connection) holdsBack() bool { return c.link.takeover.holdsBack(time.Since(c.up)) }

// retryDenied retries denied requests when they are due. It waits for the window to empty, so
// that it is clear what a hang-up is about. It reports whether publishing must stop
// meanwhile.
func (c *connection) retryDenied(ctx context.Context) bool {
	l, now := c.link, time.Now()
	filters, topics := l.subs.denials.denied.due(now), l.topics.due(now)
	if !filters && !topics {
		return false
	}
	if c.publisher.window.len() > 0 {
		return true
	}
	if filters {
		if err := c.subscriber.subscribe(ctx, l.subs.denials.dueAgain(l.subs.wanted, now)); err != nil {
			c.transport.fail(err)
			return true
		}
	}
	if topics {
		l.topics.release(now)
		c.publisher.rewind()
	}
	l.update(func(s *Status) {
		s.Err = l.amiss()
		noteDenied(l, s)
	})
	return false
}

// noteResumedSession records whether a message of an earlier session has come. It may come
// after the SUBACK.
func (c *connection) noteResumedSession() {
	if c.receiver.resumed.Load() {
		c.link.session.noteResumed()
	}
}

// leave ends the connection in order. It sends what is in the outbox and waits for
// acknowledgements while there is time, then sends the farewell, then DISCONNECT, so that the
// broker does not publish our will.
func (c *connection) leave() {
	if !c.up.IsZero() {
		c.stopEcho()
		c.publisher.drain()
		c.publisher.sendFarewell()
	}
	c.disconnect(errEnded)
	c.link.cfg.Log.Info("disconnected", "endpoint", c.link.cfg.Endpoint, "unacknowledged", c.publisher.window.len())
}

// closeToReconnect ends the connection in order before another is made. Unacknowledged
// messages are sent again.
func (c *connection) closeToReconnect() {
	c.stopEcho()
	c.disconnect(errReconnect)
	c.link.cfg.Log.Info("reconnecting on request", "endpoint", c.link.cfg.Endpoint, "unacknowledged", c.publisher.window.len())
}

// disconnect sends DISCONNECT, so that the broker does not publish our will, and closes the
// connection.
func (c *connection) disconnect(why error) {
	c.client.Disconnect(uint(disconnectTimeout.Milliseconds()))
	c.transport.fail(why)
	c.publisher.acknowledgeRest()
}

// finish ends a connection that has failed, with err unless the connection has its own
// reason. It waits until the client has ended all its goroutines.
func (c *connection) finish(err error) error {
	if err != nil {
		c.transport.fail(err)
	}
	if !c.link.await(context.Background(), pingTimeout, c.lost, nil) {
		c.client.Disconnect(0)
	}
	c.publisher.acknowledgeRest()
	c.noteResumedSession()
	cause, _ := c.transport.endedBy()
	return cause
}

// endedByPeer reports whether the other side ended the connection.
func (c *connection) endedByPeer() bool {
	if c.transport == nil {
		return false
	}
	_, remote := c.transport.endedBy()
	return remote
}
