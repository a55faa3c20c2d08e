package uplink

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"fieldpost/daemon/topic"
	"fieldpost/daemon/wake"
)

// Subscribing bypasses the protocol client, as publishing does. The client chooses packet
// identifiers itself, always from 1 on. A broker whose deliveries to us use the same ones may
// refuse a SUBSCRIBE only for that (seen with mochi: 0x91).

const (
	subackTimeout = 15 * time.Second
	// subscribeTries is how often a filter is requested on one connection if its SUBACK has a
	// code that MQTT 3.1.1 does not define, each time with another identifier.
	subscribeTries = 4
	// identifierGap is the distance of these identifiers. It is more than a broker has
	// deliveries in flight.
	identifierGap = 4099

	subackDenied = 0x80 // the only code that refuses (MQTT 3.1.1, section 3.9.3)
	maxGranted   = 2    // codes up to this grant the subscription, and are the QoS
)

// Subscription is a topic filter to subscribe to on every connection.
type Subscription struct {
	Filter string
	QoS    byte // 0 or 1
}

// subscriptions is what the broker's session should hold. Only Run's goroutine uses it.
type subscriptions struct {
	wanted   []Subscription
	denials  filterDenials
	obsolete []obsoleteFilter
}

// obsoleteFilter is a filter that the session may hold from an earlier configuration and
// should no longer hold.
//
// An UNSUBSCRIBE needs no permission on AWS IoT Core, and is answered whether or not the
// session holds the filter (MQTT 3.1.1, section 3.10.4). But if a broker hangs up on it, or
// does not answer, it must not be sent for ever: a subscription whose messages are ignored
// does no harm.
type obsoleteFilter struct {
	filter string
	streak streak // hang-ups instead of an UNSUBACK
}

// newSubscriptions returns the subscriptions of a configuration. Obsolete are those that are
// valid filters and not wanted, each once.
func newSubscriptions(c Config) subscriptions {
	s := subscriptions{wanted: c.Subscriptions, denials: newFilterDenials()}
	for _, f := range c.Unsubscribe {
		s.drop(f)
	}
	return s
}

// drop marks a filter to unsubscribe from, unless it is wanted or invalid.
func (s *subscriptions) drop(filter string) {
	if !s.wants(filter) && !s.drops(filter) && topic.CheckFilter(filter) == nil {
		s.obsolete = append(s.obsolete, obsoleteFilter{filter: filter})
	}
}

// wants reports whether to subscribe to a filter.
func (s *subscriptions) wants(filter string) bool {
	return slices.ContainsFunc(s.wanted, func(x Subscription) bool { return x.Filter == filter })
}

// drops reports whether to unsubscribe from a filter.
func (s *subscriptions) drops(filter string) bool {
	return slices.ContainsFunc(s.obsolete, func(x obsoleteFilter) bool { return x.filter == filter })
}

// covering returns the wanted filter that matches a topic.
func (s *subscriptions) covering(name string) (filter string, ok bool) {
	i := slices.IndexFunc(s.wanted, func(x Subscription) bool { return topic.Matches(x.Filter, name) })
	if i < 0 {
		return "", false
	}
	return s.wanted[i].Filter, true
}

// subacks passes the expected SUBACK or UNSUBACK from the reading goroutine to Run's.
type subacks struct {
	ready wake.Signal // set when packet and code are new

	mu     sync.Mutex
	packet uint16
	code   byte
}

func (a *subacks) set(packet uint16, code byte) {
	a.mu.Lock()
	a.packet, a.code = packet, code
	a.mu.Unlock()
	a.ready.Set()
}

func (a *subacks) get() (packet uint16, code byte) {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.packet, a.code
}

// subscriber sends SUBSCRIBE and UNSUBSCRIBE on one connection and waits for the answers. It
// does so only while nothing is in flight, so that it is clear what a hang-up is about. Only
// Run's goroutine uses it.
type subscriber struct {
	link      *Link
	transport *transport
	exchange  *exchange
	requested atomic.Bool     // a SUBSCRIBE was sent; any goroutine
	held      map[string]byte // the filters granted on this connection, with the requested QoS
}

// subscribe requests each filter separately, so that it is clear which filter a hang-up is
// about.
func (s *subscriber) subscribe(ctx context.Context, want []Subscription) error {
	for _, sub := range want {
		s.exchange.phase, s.exchange.subject = Subscribing, sub.Filter
		code, err := s.request(ctx, sub)
		if err != nil {
			return err
		}
		if ctx.Err() != nil {
			return nil
		}
		s.answered(sub, code)
	}
	s.exchange.phase, s.exchange.subject = Idle, ""
	return nil
}

// request requests one filter until the broker grants or denies it, and returns the code of
// the last SUBACK.
func (s *subscriber) request(ctx context.Context, sub Subscription) (code byte, err error) {
	s.transport.reader.subscribing.Store(true)
	defer s.transport.reader.subscribing.Store(false)
	for range subscribeTries {
		packet := s.transport.ids.next()
		asked := time.Now()
		s.exchange.asked = asked
		s.requested.Store(true)
		if _, err := s.transport.Write(appendSubscribe(nil, packet, sub)); err != nil {
			return 0, err
		}
		code, err = s.awaitAnswer(ctx, packet, asked)
		if err != nil || code <= maxGranted || code == subackDenied || ctx.Err() != nil {
			return code, err
		}
		s.link.cfg.Log.Debug("SUBACK has a code that MQTT 3.1.1 does not define", "filter", sub.Filter, "suback", fmt.Sprintf("%#x", code))
		s.transport.ids.skip(identifierGap)
	}
	return code, nil
}

// answered records the code of a SUBACK. A code that the broker has returned for each of
// several requests is a denial too, whatever it means.
func (s *subscriber) answered(sub Subscription, code byte) {
	if code > maxGranted {
		delete(s.held, sub.Filter)
		s.link.subs.denials.refused(sub.Filter, time.Now())
		s.link.cfg.Log.Warn("subscription is denied", "filter", sub.Filter, "suback", fmt.Sprintf("%#x", code))
		return
	}
	s.held[sub.Filter] = sub.QoS
	s.link.subs.denials.forget(sub.Filter)
}

// unsubscribe ends one subscription and waits for the answer. The broker also acknowledges it
// if there was no such subscription (section 3.10.4).
func (s *subscriber) unsubscribe(ctx context.Context, filter string) error {
	s.transport.reader.subscribing.Store(true)
	defer s.transport.reader.subscribing.Store(false)
	packet := s.transport.ids.next()
	asked := time.Now()
	if _, err := s.transport.Write(appendUnsubscribe(nil, packet, filter)); err != nil {
		return err
	}
	_, err := s.awaitAnswer(ctx, packet, asked)
	return err
}

// awaitAnswer waits for the SUBACK or UNSUBACK with this packet identifier. asked is when the
// request was sent.
func (s *subscriber) awaitAnswer(ctx context.Context, packet uint16, asked time.Time) (code byte, err error) {
	t := s.transport
	for {
		came := s.link.await(ctx, time.Until(t.answerableSince(asked).Add(subackTimeout)), t.subacks.ready.C(), t.down)
		of, code := t.subacks.get()
		switch {
		case came && of == packet:
			return code, nil
		case t.over():
			cause, _ := t.endedBy()
			return 0, cause
		case ctx.Err() != nil:
			return 0, nil
		case !came && time.Since(t.answerableSince(asked)) >= subackTimeout:
			return 0, errNoSuback
		}
	}
}

// dropObsolete unsubscribes from the obsolete filters, one at a time. A clean session holds
// only the filters of this connection.
func (s *subscriber) dropObsolete(ctx context.Context) error {
	l := s.link
	for len(l.subs.obsolete) > 0 {
		filter := l.subs.obsolete[0].filter
		if _, held := s.held[filter]; held || !l.cfg.Clean {
			s.exchange.phase, s.exchange.subject, s.exchange.asked = Unsubscribing, filter, time.Now()
			err := s.unsubscribe(ctx, filter)
			if errors.Is(err, errNoSuback) {
				l.keepObsolete("says nothing")
			}
			if err != nil || ctx.Err() != nil {
				return err
			}
			delete(s.held, filter)
			l.cfg.Log.Info("subscription of an earlier configuration ended", "filter", shown(filter))
		}
		l.subs.obsolete = l.subs.obsolete[1:]
		if l.cfg.Unsubscribed != nil {
			l.cfg.Unsubscribed(filter)
		}
	}
	s.exchange.phase, s.exchange.subject = Idle, ""
	return nil
}

// unsubscribeHungUp records that the broker hung up instead of answering an UNSUBSCRIBE.
// After as many hang-ups in a row as deny a subscription, this process does not try again.
func (l *Link) unsubscribeHungUp(kind endKind) {
	if l.subs.obsolete[0].streak.add(kind) {
		l.keepObsolete("hangs up")
	}
}

// keepObsolete leaves the first obsolete filter in the session.
func (l *Link) keepObsolete(why string) {
	l.cfg.Log.Warn("cannot end a subscription of an earlier configuration; ignoring its messages", "filter", shown(l.subs.obsolete[0].filter), "broker", why)
	l.subs.obsolete = l.subs.obsolete[1:]
}
