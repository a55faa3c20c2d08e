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

// Subscribing goes past the protocol client, as publishing does: the client chooses
// packet identifiers itself, always from 1 on, and a broker whose deliveries to us use
// the same ones may refuse a SUBSCRIBE for that alone (seen with mochi: 0x91).

const (
	subackTimeout = 15 * time.Second
	// subscribeTries is how often a filter is asked for in one connection whose SUBACK
	// has a code that MQTT 3.1.1 does not know, each time under another identifier.
	subscribeTries = 4
	// identifierGap is how far these identifiers lie from one another: farther than a
	// broker has deliveries under way.
	identifierGap = 4099

	subackDenied = 0x80 // the one code that refuses (MQTT 3.1.1, section 3.9.3)
	maxGranted   = 2    // the codes up to it grant, and are the QoS
)

// Subscription is a topic filter to be subscribed to on every connection.
type Subscription struct {
	Filter string
	QoS    byte // 0 or 1
}

// subscriptions is what the broker's session is to hold. Run's goroutine.
type subscriptions struct {
	wanted   []Subscription
	denials  filterDenials
	obsolete []obsoleteFilter
}

// obsoleteFilter is one that the session may hold of an earlier configuration, and is
// to hold no more.
//
// An UNSUBSCRIBE needs no permission on AWS IoT Core, and is answered whether or not
// the session holds the filter (MQTT 3.1.1, section 3.10.4). But a broker that hangs
// up on it, or says nothing, must not be asked forever: it does no harm to keep what
// is ignored.
type obsoleteFilter struct {
	filter string
	streak streak // of hang-ups instead of an UNSUBACK
}

// newSubscriptions gives those of a configuration. Obsolete are what is a filter and
// is not wanted, each once.
func newSubscriptions(c Config) subscriptions {
	s := subscriptions{wanted: c.Subscriptions, denials: newFilterDenials()}
	for _, f := range c.Unsubscribe {
		s.drop(f)
	}
	return s
}

// drop has a filter unsubscribed from, unless it is wanted or no filter.
func (s *subscriptions) drop(filter string) {
	if !s.wants(filter) && !s.drops(filter) && topic.CheckFilter(filter) == nil {
		s.obsolete = append(s.obsolete, obsoleteFilter{filter: filter})
	}
}

// wants reports whether a filter is to be subscribed to.
func (s *subscriptions) wants(filter string) bool {
	return slices.ContainsFunc(s.wanted, func(x Subscription) bool { return x.Filter == filter })
}

// drops reports whether a filter is to be unsubscribed from.
func (s *subscriptions) drops(filter string) bool {
	return slices.ContainsFunc(s.obsolete, func(x obsoleteFilter) bool { return x.filter == filter })
}

// covering gives the filter among those wanted that brings a topic.
func (s *subscriptions) covering(name string) (filter string, ok bool) {
	i := slices.IndexFunc(s.wanted, func(x Subscription) bool { return topic.Matches(x.Filter, name) })
	if i < 0 {
		return "", false
	}
	return s.wanted[i].Filter, true
}

// subacks hands the SUBACK or UNSUBACK that is due from the goroutine that reads to
// Run's.
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

// subscriber sends SUBSCRIBE and UNSUBSCRIBE on one connection and awaits the answers.
// Only while nothing is in flight, so that a hang-up says clearly what it is about.
// Run's goroutine.
type subscriber struct {
	link      *Link
	transport *transport
	exchange  *exchange
	requested atomic.Bool     // a SUBSCRIBE was sent; any goroutine
	held      map[string]byte // the filters granted on this connection, with the QoS asked for
}

// subscribe asks for each filter by itself, so that a broker that hangs up says which
// one it was about.
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

// request asks for one filter until the broker grants or denies it, and gives the
// return code of the last SUBACK.
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

// answered notes what a SUBACK says. A code that the broker has given to each of
// several requests is a denial too, whatever it means to say.
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

// unsubscribe ends one subscription and awaits the answer. There may have been no such
// subscription: the broker acknowledges that all the same (section 3.10.4).
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

// awaitAnswer awaits the SUBACK or UNSUBACK with this packet identifier to what was
// sent at asked.
func (s *subscriber) awaitAnswer(ctx context.Context, packet uint16, asked time.Time) (code byte, err error) {
	t := s.transport
	for {
		came := s.link.await(ctx, time.Until(t.answerableSince(asked).Add(subackTimeout)), t.subacks.ready.C(), t.down)
		of, code := t.subacks.get()
		switch {
		case came && of == packet:
			return code, nil
		case t.over():
			cause, _ := t.end()
			return 0, cause
		case ctx.Err() != nil:
			return 0, nil
		case !came && time.Since(t.answerableSince(asked)) >= subackTimeout:
			return 0, errNoSuback
		}
	}
}

// dropObsolete unsubscribes from the obsolete filters, one at a time. A clean session
// holds none but those of this connection.
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

// unsubscribeHungUp notes that the broker hung up instead of answering an
// UNSUBSCRIBE. After as many hang-ups in a row as deny a subscription it is not asked
// any more by this process.
func (l *Link) unsubscribeHungUp(kind endKind) {
	if l.subs.obsolete[0].streak.add(kind) {
		l.keepObsolete("hangs up")
	}
}

// keepObsolete has the session keep the first obsolete filter.
func (l *Link) keepObsolete(why string) {
	l.cfg.Log.Warn("cannot end a subscription of an earlier configuration; ignoring its messages", "filter", shown(l.subs.obsolete[0].filter), "broker", why)
	l.subs.obsolete = l.subs.obsolete[1:]
}
