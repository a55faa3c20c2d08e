package uplink

import (
	"context"
	"crypto/sha256"
	"slices"
	"sync"
	"time"

	"fieldpost/daemon/topic"
)

// MQTT 3.1.1 has no word for a PUBLISH that is denied. AWS IoT Core hangs up; others
// (mosquitto, EMQX) acknowledge it and deliver it to nobody, and nothing in the
// protocol tells that from a delivery. What can be done is to listen: a message of
// ours comes back to us where we are subscribed to its topic and may read it.

// Echo is the topic of which one message of ours, the first in each connection, is
// awaited from the broker.
type Echo struct {
	Topic string // "" listens for nothing
	// Subscribe says that the topic may be subscribed to for that, at QoS 0 and until
	// the message has come. Otherwise it is listened for only where a subscription of
	// Config brings it anyway. Where AWS IoT Core's limits are kept nothing is subscribed
	// to: that broker hangs up on a PUBLISH that it denies, and on a SUBSCRIBE too.
	Subscribe bool
	Within    time.Duration // after its PUBACK; 0 is 30 s
}

const defaultEchoWithin = 30 * time.Second

// echoes is what is known of them beyond one connection.
type echoState struct {
	missing bool          // the last that was awaited did not come
	logged    bool          // that nothing is subscribed to with AWS's limits
	denied bool          // the broker does not let us subscribe; until the process ends
	retryAfter    time.Duration // until a topic whose echo did not come is subscribed to again
}

// hearing is a session's part in it. What is under mu is the reading goroutine's,
// too.
type echoListener struct {
	topic  string
	ownOnly   bool      // nobody but us wants what comes on it
	ownSubscription    bool      // a subscription was made for this only
	packet uint16    // of the message that is awaited
	ackedAt  time.Time // when its PUBACK came
	startAt  time.Time // when to begin to listen; zero is never

	mu    sync.Mutex
	listening    bool // it is listened for one
	armed bool // which one, is known
	sum   [sha256.Size]byte
	came bool // it has come
}

// hears takes note of a message from the broker, and reports whether it is for
// nobody else. The goroutine that reads.
func (h *echoListener) received(p *publishPacket) bool {
	if h.topic == "" || p.topic != h.topic {
		return false
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.armed && !p.retained && len(p.payload) == p.size && sha256.Sum256(p.payload) == h.sum {
		h.came = true
	}
	return h.ownOnly
}

// listen begins or ends listening.
func (h *echoListener) reset(on, own bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.listening, h.ownSubscription, h.armed, h.came, h.ackedAt = on, own, false, false, time.Time{}
}

// sends notes that a message is published; the first is the one that is awaited.
func (h *echoListener) sent(m Publication, packet uint16) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if !h.listening || h.armed || m.Topic != h.topic {
		return
	}
	h.armed, h.came, h.sum = true, false, sha256.Sum256(m.Payload)
	h.packet, h.ackedAt = packet, time.Time{}
}

// acks notes a PUBACK.
func (h *echoListener) acked(packet uint16, now time.Time) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.armed && packet == h.packet && h.ackedAt.IsZero() {
		h.ackedAt = now
	}
}

// state says whether the message that is awaited has come, and whether it is overdue.
func (h *echoListener) state(within time.Duration, now time.Time) (heard, overdue bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.came, h.armed && !h.came && !h.ackedAt.IsZero() && now.Sub(h.ackedAt) >= within
}

// next has the next message awaited in place of the one that did not come.
func (h *echoListener) awaitNext() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.armed, h.ackedAt = false, time.Time{}
}

// covering gives the subscription of the configuration that brings the topic.
func (l *Link) covering(name string) (filter string, ok bool) {
	i := slices.IndexFunc(l.cfg.Subscriptions, func(sub Subscription) bool { return topic.Matches(sub.Filter, name) })
	if i < 0 {
		return "", false
	}
	return l.cfg.Subscriptions[i].Filter, true
}

// prepare gives a session its part, before anything can come: what an own
// subscription of an earlier connection brings is for nobody.
func (l *Link) prepare(h *echoListener) {
	e := l.cfg.Echo
	_, covered := l.covering(e.Topic)
	h.topic, h.ownOnly = e.Topic, e.Subscribe && !covered
}

// attend begins to listen where that is due: at the start of a connection, and
// again some time after an echo did not come. Nothing is in flight.
func (s *connection) attend(ctx context.Context) error {
	l, h := s.l, &s.hearing
	h.startAt = time.Time{}
	filter, covered := l.covering(h.topic)
	switch {
	case h.topic == "":
		return nil
	case covered:
		h.reset(l.filters.denied[filter] == nil, false)
		return nil
	case !l.cfg.Echo.Subscribe, l.echoes.denied:
		return nil
	case l.pace.aws:
		if !l.echoes.logged {
			l.echoes.logged = true
			l.cfg.Log.Info("our own messages are not subscribed to: AWS IoT Core hangs up on what it denies, so its acknowledgements can be relied on", "topic", h.topic)
		}
		return nil
	}
	h.reset(true, true)
	s.probing, s.phase, s.subject = true, Subscribing, h.topic
	code, err := s.request(ctx, Subscription{Filter: h.topic})
	if err != nil {
		return err
	}
	s.probing, s.phase, s.subject = false, Idle, ""
	if code > mostQoS {
		s.deaf()
		h.reset(false, false)
	}
	return nil
}

// unlisten takes an own subscription back at the end of a connection, without
// waiting for the answer.
func (s *connection) unlisten() {
	if !s.hearing.ownSubscription || s.conn.over() {
		return
	}
	s.conn.reader.subscribing.Store(true) // until the end
	s.hearing.ownSubscription = false
	if _, err := s.conn.Write(appendUnsubscribe(nil, s.identifier(), s.hearing.topic)); err != nil {
		s.conn.fail(err)
	}
}

// deaf notes that the broker does not let us listen, so that it is not asked again.
func (s *connection) deaf() {
	s.l.echoes.denied = true
	s.l.cfg.Log.Info("broker does not let us subscribe to our own messages; whether they are delivered is not known", "topic", s.l.cfg.Echo.Topic)
}

// echoed looks whether the message that is awaited has come or is overdue.
func (s *connection) echoed(ctx context.Context, now time.Time) error {
	l, h := s.l, &s.hearing
	heard, overdue := h.state(l.cfg.Echo.Within, now)
	switch {
	case heard:
		l.echoes.retryAfter = 0
		s.noteEcho(false)
	case overdue && !h.ownSubscription:
		s.noteEcho(true)
		h.awaitNext()
		return nil
	case overdue:
		s.noteEcho(true)
		l.echoes.retryAfter = min(max(firstRetry, 2*l.echoes.retryAfter), maxRetry)
		h.startAt = now.Add(l.echoes.retryAfter)
	default:
		return nil
	}
	if h.ownSubscription {
		if err := s.unsubscribe(ctx, h.topic); err != nil {
			return err
		}
	}
	h.reset(false, false)
	return nil
}

// missing says that an echo did not come, or that one did.
func (s *connection) noteEcho(is bool) {
	l := s.l
	if l.echoes.missing == is {
		return
	}
	l.echoes.missing = is
	if is {
		l.cfg.Log.Warn("broker has acknowledged a message of ours and not delivered it to us", "topic", l.cfg.Echo.Topic)
	}
	l.update(func(st *Status) {
		st.Undelivered = ""
		if is {
			st.Undelivered = l.cfg.Echo.Topic
		}
	})
}
