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

const defaultWithin = 30 * time.Second

// echoes is what is known of them beyond one connection.
type echoes struct {
	missing bool          // the last that was awaited did not come
	told    bool          // that nothing is subscribed to with AWS's limits
	refused bool          // the broker does not let us subscribe; until the process ends
	wait    time.Duration // until a topic whose echo did not come is subscribed to again
}

// hearing is a session's part in it. What is under mu is the reading goroutine's,
// too.
type hearing struct {
	topic  string
	drop   bool      // nobody but us wants what comes on it
	own    bool      // a subscription was made for this only
	packet uint16    // of the message that is awaited
	acked  time.Time // when its PUBACK came
	again  time.Time // when to begin to listen; zero is never

	mu    sync.Mutex
	on    bool // it is listened for one
	armed bool // which one, is known
	sum   [sha256.Size]byte
	heard bool // it has come
}

// hears takes note of a message from the broker, and reports whether it is for
// nobody else. The goroutine that reads.
func (h *hearing) hears(p *incoming) bool {
	if h.topic == "" || p.topic != h.topic {
		return false
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.armed && !p.retained && len(p.payload) == p.size && sha256.Sum256(p.payload) == h.sum {
		h.heard = true
	}
	return h.drop
}

// listen begins or ends listening.
func (h *hearing) listen(on, own bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.on, h.own, h.armed, h.heard, h.acked = on, own, false, false, time.Time{}
}

// sends notes that a message is published; the first is the one that is awaited.
func (h *hearing) sends(m Publication, packet uint16) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if !h.on || h.armed || m.Topic != h.topic {
		return
	}
	h.armed, h.heard, h.sum = true, false, sha256.Sum256(m.Payload)
	h.packet, h.acked = packet, time.Time{}
}

// acks notes a PUBACK.
func (h *hearing) acks(packet uint16, now time.Time) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.armed && packet == h.packet && h.acked.IsZero() {
		h.acked = now
	}
}

// state says whether the message that is awaited has come, and whether it is overdue.
func (h *hearing) state(within time.Duration, now time.Time) (heard, overdue bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.heard, h.armed && !h.heard && !h.acked.IsZero() && now.Sub(h.acked) >= within
}

// next has the next message awaited in place of the one that did not come.
func (h *hearing) next() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.armed, h.acked = false, time.Time{}
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
func (l *Link) prepare(h *hearing) {
	e := l.cfg.Echo
	_, covered := l.covering(e.Topic)
	h.topic, h.drop = e.Topic, e.Subscribe && !covered
}

// attend begins to listen where that is due: at the start of a connection, and
// again some time after an echo did not come. Nothing is in flight.
func (s *session) attend(ctx context.Context) error {
	l, h := s.l, &s.hearing
	h.again = time.Time{}
	filter, covered := l.covering(h.topic)
	switch {
	case h.topic == "":
		return nil
	case covered:
		h.listen(l.filters.bans[filter] == nil, false)
		return nil
	case !l.cfg.Echo.Subscribe, l.echoes.refused:
		return nil
	case l.pace.aws:
		if !l.echoes.told {
			l.echoes.told = true
			l.cfg.Log.Info("our own messages are not subscribed to: AWS IoT Core hangs up on what it denies, so its acknowledgements can be relied on", "topic", h.topic)
		}
		return nil
	}
	h.listen(true, true)
	s.probing, s.phase, s.subject = true, Subscribing, h.topic
	code, err := s.request(ctx, Subscription{Filter: h.topic})
	if err != nil {
		return err
	}
	s.probing, s.phase, s.subject = false, Idle, ""
	if code > mostQoS {
		s.deaf()
		h.listen(false, false)
	}
	return nil
}

// unlisten takes an own subscription back at the end of a connection, without
// waiting for the answer.
func (s *session) unlisten() {
	if !s.hearing.own || s.conn.over() {
		return
	}
	s.conn.guard.subscribing.Store(true) // until the end
	s.hearing.own = false
	if _, err := s.conn.Write(appendUnsubscribe(nil, s.identifier(), s.hearing.topic)); err != nil {
		s.conn.fail(err)
	}
}

// deaf notes that the broker does not let us listen, so that it is not asked again.
func (s *session) deaf() {
	s.l.echoes.refused = true
	s.l.cfg.Log.Info("broker does not let us subscribe to our own messages; whether they are delivered is not known", "topic", s.l.cfg.Echo.Topic)
}

// echoed looks whether the message that is awaited has come or is overdue.
func (s *session) echoed(ctx context.Context, now time.Time) error {
	l, h := s.l, &s.hearing
	heard, overdue := h.state(l.cfg.Echo.Within, now)
	switch {
	case heard:
		l.echoes.wait = 0
		s.missing(false)
	case overdue && !h.own:
		s.missing(true)
		h.next()
		return nil
	case overdue:
		s.missing(true)
		l.echoes.wait = min(max(retryFirst, 2*l.echoes.wait), retryLast)
		h.again = now.Add(l.echoes.wait)
	default:
		return nil
	}
	if h.own {
		if err := s.unsubscribe(ctx, h.topic); err != nil {
			return err
		}
	}
	h.listen(false, false)
	return nil
}

// missing says that an echo did not come, or that one did.
func (s *session) missing(is bool) {
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
