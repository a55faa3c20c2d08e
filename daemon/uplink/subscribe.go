package uplink

import (
	"context"
	"encoding/binary"
	"fmt"
	"sync"
	"time"
)

// Subscribing goes past the protocol client, as publishing does: it chooses packet
// identifiers itself, always from 1 on, and a broker whose deliveries to us use
// the same ones may refuse a SUBSCRIBE for that alone (seen with mochi: 0x91).

const (
	subackTimeout = 15 * time.Second
	// askAgain is how often a filter is asked for in one connection whose SUBACK
	// has a code that MQTT 3.1.1 does not know, each time under another identifier.
	askAgain = 4
	// apart is how far these identifiers lie from one another, farther than a
	// broker has deliveries under way.
	apart = 4099

	subackDenied = 0x80 // the one code that refuses (MQTT 3.1.1, section 3.9.3)
	mostQoS      = 2    // the codes up to it grant
)

// appendSubscribe appends a SUBSCRIBE packet for one filter (MQTT 3.1.1, section 3.8).
func appendSubscribe(b []byte, packet uint16, sub Subscription) []byte {
	b = append(b, subscribe<<4|1<<1)
	b = binary.AppendUvarint(b, uint64(2+2+len(sub.Filter)+1))
	b = binary.BigEndian.AppendUint16(b, packet)
	b = binary.BigEndian.AppendUint16(b, uint16(len(sub.Filter)))
	b = append(b, sub.Filter...)
	return append(b, sub.QoS)
}

// appendUnsubscribe appends an UNSUBSCRIBE packet for one filter (section 3.10).
func appendUnsubscribe(b []byte, packet uint16, filter string) []byte {
	b = append(b, unsubscribe<<4|1<<1)
	b = binary.AppendUvarint(b, uint64(2+2+len(filter)))
	b = binary.BigEndian.AppendUint16(b, packet)
	b = binary.BigEndian.AppendUint16(b, uint16(len(filter)))
	return append(b, filter...)
}

// subacks takes the SUBACK or UNSUBACK that is due from the goroutine that reads to ours.
type subacks struct {
	ready chan struct{} // buffered, signalled when packet and code are new

	mu     sync.Mutex
	packet uint16
	code   byte
}

func (a *subacks) put(packet uint16, code byte) {
	a.mu.Lock()
	a.packet, a.code = packet, code
	a.mu.Unlock()
	select {
	case a.ready <- struct{}{}:
	default:
	}
}

func (a *subacks) take() (packet uint16, code byte) {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.packet, a.code
}

// subscribe asks for each filter by itself, so that a broker that hangs up says
// which one it was about.
func (s *session) subscribe(ctx context.Context, want []Subscription) error {
	for _, sub := range want {
		s.phase, s.subject = Subscribing, sub.Filter
		code, err := s.request(ctx, sub)
		if err != nil {
			return err
		}
		if ctx.Err() != nil {
			return nil
		}
		s.answered(sub.Filter, code)
	}
	s.phase, s.subject = Idle, ""
	return nil
}

// request asks for one filter until the broker grants or denies it, and gives the
// last SUBACK's code.
func (s *session) request(ctx context.Context, sub Subscription) (code byte, err error) {
	s.conn.guard.subscribing.Store(true)
	defer s.conn.guard.subscribing.Store(false)
	for range askAgain {
		packet := s.identifier()
		asked := time.Now()
		s.asked = asked
		s.subscribed.Store(true)
		if _, err := s.conn.Write(appendSubscribe(nil, packet, sub)); err != nil {
			return 0, err
		}
		code, err = s.suback(ctx, packet, asked)
		if err != nil || code <= mostQoS || code == subackDenied || ctx.Err() != nil {
			return code, err
		}
		s.l.cfg.Log.Debug("subscription was answered with a code that MQTT 3.1.1 does not know", "filter", sub.Filter, "suback", fmt.Sprintf("%#x", code))
		s.packet += apart
	}
	return code, nil
}

// unsubscribe takes one subscription back and awaits the broker's word. There may
// have been none: the broker acknowledges that all the same (section 3.10.4).
func (s *session) unsubscribe(ctx context.Context, filter string) error {
	s.conn.guard.subscribing.Store(true)
	defer s.conn.guard.subscribing.Store(false)
	packet := s.identifier()
	asked := time.Now()
	if _, err := s.conn.Write(appendUnsubscribe(nil, packet, filter)); err != nil {
		return err
	}
	_, err := s.suback(ctx, packet, asked)
	return err
}

// suback awaits the answer to the SUBSCRIBE or UNSUBSCRIBE with this identifier, which was
// sent at asked.
func (s *session) suback(ctx context.Context, packet uint16, asked time.Time) (code byte, err error) {
	for {
		came := s.l.await(ctx, time.Until(s.conn.since(asked).Add(subackTimeout)), s.conn.subacks.ready, s.conn.down)
		of, code := s.conn.subacks.take()
		switch {
		case came && of == packet:
			return code, nil
		case s.conn.over():
			cause, _ := s.conn.end()
			return 0, cause
		case ctx.Err() != nil:
			return 0, nil
		case !came && time.Since(s.conn.since(asked)) >= subackTimeout:
			return 0, errNoSuback
		}
	}
}

// answered notes what the SUBACK says. A code that the broker has given to each
// of several requests is a denial too, whatever it means to say.
func (s *session) answered(filter string, code byte) {
	if code > mostQoS {
		s.l.filters.refused(filter, time.Now())
		s.l.cfg.Log.Warn("subscription is denied", "filter", filter, "suback", fmt.Sprintf("%#x", code))
		return
	}
	s.l.filters.granted(filter)
}
