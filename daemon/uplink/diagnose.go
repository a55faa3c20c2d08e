package uplink

import (
	"errors"
	"io"
	"strings"
	"time"

	"fieldpost/daemon/health"
)

const (
	answerWithin = 10 * time.Second // a hang-up within this time after a request may be its answer
	stableAfter  = time.Minute      // a connection that lasts this long is not a failure
)

// endKind is how a connection ended, as far as that distinguishes a broker's answer from a
// failure of the network. A larger value is stronger evidence of an answer.
type endKind int

const (
	brokenByNetwork endKind = iota // not a hang-up: silence, no route, or ended by us
	resetByPeer                    // reset, or cut off within a packet: usually the network, seldom the broker
	closedByPeer                   // closed in order between two packets, as AWS IoT Core denies
)

// denyAfter is how many hang-ups of one kind in a row count as a denial. AWS IoT Core closes
// in order. A broker that closes before it has read everything we sent causes a reset; but so
// does any network now and then.
var denyAfter = [...]int{resetByPeer: 8, closedByPeer: 3}

// kindOfEnd returns how a connection ended. remote says that the other side ended it.
func kindOfEnd(err error, remote bool) endKind {
	switch {
	case !remote:
		return brokenByNetwork
	case errors.Is(err, io.EOF) || isAlert(err):
		return closedByPeer
	}
	return resetByPeer
}

// streak counts consecutive hang-ups of one kind.
type streak struct {
	kind endKind
	n    int
}

// add counts one more and reports whether there are enough for a denial.
func (s *streak) add(kind endKind) bool {
	if s.kind != kind {
		*s = streak{kind: kind}
	}
	s.n++
	return s.n >= denyAfter[kind]
}

// endOther ends a streak of another kind.
func (s *streak) endOther(kind endKind) {
	if s.kind != kind {
		*s = streak{}
	}
}

// diagnose records how a connection ended and returns what that means.
func (l *Link) diagnose(c *connection, err error) *Explained {
	now := time.Now()
	lived := time.Duration(0)
	if !c.up.IsZero() {
		lived = now.Sub(c.up)
	}
	if lived >= stableAfter && (c.publisher.acked > 0 || !c.publisher.sent) {
		l.backoff.reset()
	}
	phase := c.exchange.phase
	end := l.describeEnd(c, now)
	kind := kindOfEnd(err, c.endedByPeer())
	if phase == Connecting && wasReset(err) {
		l.attempts.resets++
	} else {
		l.attempts.resets = 0
	}
	answer := l.learnFromAnswer(c, err, kind, now, &end)
	l.learnFromSilence(c, err, kind, lived, &end)
	l.takeover.connectionEnded(phase, kind == closedByPeer && lived < stableAfter, end.Repeated, c.publisher.acked > 0)
	if l.takeover.detected() {
		end.Phase, end.Repeated, end.Silence = Idle, true, 0
	}
	why := Explain(err, end)
	l.remember(c, why, lived)
	if !answer && (!needsPerson(why.Code) || why.Code == string(health.DuplicateClient)) {
		l.subs.denials.contradicted(now)
		l.topics.contradicted(now)
	}
	return why
}

// describeEnd returns what was going on when a connection ended, without a cause yet.
func (l *Link) describeEnd(c *connection, now time.Time) Disconnect {
	return Disconnect{
		Phase: c.exchange.phase, Endpoint: l.cfg.Endpoint, ClientID: l.cfg.ClientID, Topic: c.exchange.subject, Now: later(now, l.built),
		SessionPresent: c.sessionPresent || l.cfg.Clean || l.session.keptSilently(), CertificateNotAsked: c.exchange.phase == Handshaking && !c.certificateAsked,
		Will: l.cfg.Will != nil, WithoutWill: l.cfg.Will != nil && l.will.triedWithout(), Persistent: !l.cfg.Clean, Username: l.cfg.Username,
	}
}

// learnFromAnswer handles an end that may be the broker's answer to a request, and reports
// whether it may be. It completes end.
func (l *Link) learnFromAnswer(c *connection, err error, kind endKind, now time.Time, end *Disconnect) (answer bool) {
	answer = kind != brokenByNetwork && now.Sub(c.exchange.asked) <= answerWithin
	subject := c.exchange.subject
	switch phase := c.exchange.phase; {
	case phase == Connecting:
		answer = false
		end.Repeated = l.attempts.resets >= 2 // networks reset connections too, but seldom twice in a row at this point
	case c.probingEcho:
		l.echoEnded(answer, errors.Is(err, errNoSuback))
		answer = false
	case phase == Subscribing && answer:
		if end.Repeated = l.subs.denials.hungUp(subject, kind, now); end.Repeated {
			l.cfg.Log.Warn("subscription is denied", "filter", subject)
		}
	case phase == Unsubscribing && answer:
		l.unsubscribeHungUp(kind)
	case phase == Publishing && answer:
		end.Topic, end.Repeated = l.learnFromPublishing(c.publisher.window.messages, kind, now)
	default:
		answer = false
	}
	if answer {
		l.topics.endOtherStreaks(kind)
	}
	return answer
}

// learnFromPublishing handles a hang-up with these messages in flight. It returns the topic
// that is held because of it.
func (l *Link) learnFromPublishing(unacked []inFlight, kind endKind, now time.Time) (topic string, held bool) {
	v := l.topics.hungUp(unacked, kind, now)
	if v == unclear {
		return "", false
	}
	l.takeover.busy = 0
	f := unacked[0] // a verdict is always about a single message
	switch v {
	case denied:
		l.cfg.Log.Warn("publishing is denied; messages are kept", "topic", f.topic)
	case poison:
		l.cfg.Log.Warn("message set aside: the broker closes the connection on it, and accepts others on its topic", "topic", f.topic)
		l.cfg.Outbox.Refuse(f.id, refusedByBroker)
	}
	return f.topic, v != poison
}

// learnFromSilence finds out whether a connection ended because nothing was sent. Then there
// is no reason to back off, because the next connection will ping more often. It completes
// end.
func (l *Link) learnFromSilence(c *connection, err error, kind endKind, lived time.Duration, end *Disconnect) {
	closed := kind != brokenByNetwork && c.exchange.phase == Idle
	if !l.idle.connectionEnded(c.silenceAtEnd(err, kind), closed, lived) {
		return
	}
	l.cfg.Log.Info("idle connections are closed; sending pings more often from now on", "idle", l.idle.after, "ping_every", l.idle.pingEvery)
	if l.idle.after >= minReportedIdle && l.takeover.explained == nil {
		end.Silence, end.PingEvery = l.idle.after, l.idle.pingEvery
		l.backoff.reset()
	}
}

// remember records for the next connections why this one ended, after it had been up for
// lived.
func (l *Link) remember(c *connection, why *Explained, lived time.Duration) {
	phase := c.exchange.phase
	l.idle.explained = nil
	switch health.Code(why.Code) {
	case health.IdleTimeout:
		l.idle.explained = why
	case health.DuplicateClient:
		l.takeover.explained = why
		if lived >= answerWithin { // the other client does not return immediately any more
			l.backoff.ease()
		}
	case health.ConnectRefused:
		if phase == Connecting {
			l.will.refused++
		}
	}
	if c.creds != nil && (phase == Handshaking || phase == Connecting) {
		l.rotation.failed(c.creds, why)
	}
}

// noteLasting records that a connection has lasted since up. So everything that was left out
// was left out rightly, and no other client uses our client id any more.
func (l *Link) noteLasting(up time.Time) {
	lived := time.Since(up)
	if l.idle.connectionLasts(lived) {
		l.update(func(s *Status) { s.Err = l.amiss() })
	}
	if lived < stableAfter {
		return
	}
	rival := l.takeover.explained != nil
	if rival { // the other client may have caused the denials
		l.subs.denials.denied.retryUnproven(time.Now())
		l.topics.denied.retryUnproven(time.Now())
	}
	l.subs.denials.denied.prove()
	l.topics.connectionLasted()
	if rival {
		l.takeover.over()
		l.update(func(s *Status) { s.Err = l.amiss() })
	}
}

// noteDenied adds to the status what is left out, and how it is known to be denied.
func noteDenied(l *Link, s *Status) {
	s.Denied, s.DeniedWhy = l.subs.denials.denied.names(), ""
	for _, filter := range s.Denied {
		if !l.subs.denials.denied[filter].said {
			s.DeniedWhy = strings.TrimSuffix(strings.TrimPrefix(l.quote(Subscribing, filter), " ("), ")")
			return
		}
	}
}

// amiss returns what is wrong while the link is connected, or nil.
func (l *Link) amiss() error {
	if l.takeover.explained != nil { // another client may have caused the held topics
		return l.takeover.explained
	}
	if l.idle.explained != nil {
		return l.idle.explained
	}
	if held := l.topics.heldTopics(); len(held) > 0 {
		e := publishDenied(strings.Join(held, ", "))
		e.What += l.quote(Publishing, held[0]) // the first one stands for all
		return e
	}
	if l.rotation.problem != nil {
		return l.rotation.problem
	}
	if !l.will.withoutUntil.IsZero() {
		return l.willRefused()
	}
	return nil
}
