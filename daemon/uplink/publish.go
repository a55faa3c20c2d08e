package uplink

import (
	"encoding/binary"
	"sync"
	"time"
)

// Publishing is done here and not by the protocol client: there each message
// passes three goroutines on its way out and two on its way back, has a timer
// and a store of its own, and is one TLS record, and all that costs several
// times what sending does. What the client keeps is the connection's beginning
// and end, and pings. As it does not see what we
// publish, it pings once in a keep-alive interval whether or not we do.

// flight is a message that was sent and is not acknowledged.
type flight struct {
	id     uint64 // the outbox's
	packet uint16 // the packet identifier
	topic  string
	size   int // of the packet, roughly
	sent   time.Time
	taken  bool // its PUBACK has come
	fast   bool // sent in a second in which AWS IoT Core takes no more
}

// second counts what was sent in the present second.
type second struct {
	began           time.Time
	messages, bytes int
}

// add counts a message, and reports whether it comes when so much was sent already
// as AWS IoT Core takes in a second.
func (c *second) add(m Publication, now time.Time) (fast bool) {
	if now.Sub(c.began) >= time.Second {
		*c = second{began: now}
	}
	c.messages, c.bytes = c.messages+1, c.bytes+packetSize(m)
	return c.messages > awsMessages || c.bytes > awsBytes
}

const (
	recordBytes = 16 << 10 // of a TLS record (RFC 8446, section 5.1); no more than that waits to be written
	keptBytes   = 2 * recordBytes

	maxAcks = 4096 // PUBACKs that wait; no more than the window can be for what we sent
)

// appendPublish appends a PUBLISH packet at QoS 1 (MQTT 3.1.1, section 3.3).
// The remaining length has the form of a uvarint (section 2.2.3).
func appendPublish(b []byte, packet uint16, topic string, payload []byte) []byte {
	b = append(b, publish<<4|1<<1)
	b = binary.AppendUvarint(b, uint64(2+len(topic)+2+len(payload)))
	b = binary.BigEndian.AppendUint16(b, uint16(len(topic)))
	b = append(b, topic...)
	b = binary.BigEndian.AppendUint16(b, packet)
	return append(b, payload...)
}

// identifier gives the next packet identifier. None is in use twice: the
// window is small, and the protocol client uses identifiers for its
// subscriptions only while nothing is in flight.
func (s *session) identifier() uint16 {
	s.packet++
	if s.packet == 0 { // not allowed (section 2.3.1)
		s.packet = 1
	}
	return s.packet
}

// put has a message written, at the latest by the next flush.
func (s *session) put(packet uint16, m Publication) {
	s.out = appendPublish(s.out, packet, m.Topic, m.Payload)
	if len(s.out) >= recordBytes {
		s.flush()
	}
}

// flush writes what waits to be written.
func (s *session) flush() {
	if len(s.out) == 0 {
		return
	}
	if _, err := s.conn.Write(s.out); err != nil {
		s.conn.fail(err) // the protocol client finds it ended
	}
	if s.out = s.out[:0]; cap(s.out) > keptBytes {
		s.out = nil
	}
}

// acks collects PUBACKs: the protocol client's goroutine reads them and ours
// takes them.
type acks struct {
	ready chan struct{} // buffered, signalled when packets grew

	mu      sync.Mutex
	packets []uint16 // their identifiers
}

// put adds one, and reports whether there was room. It takes no broker that
// acknowledges what we have sent to fill it.
func (a *acks) put(packet uint16) (ok bool) {
	a.mu.Lock()
	ok = len(a.packets) < maxAcks
	if ok {
		a.packets = append(a.packets, packet)
	}
	a.mu.Unlock()
	select {
	case a.ready <- struct{}{}:
	default:
	}
	return ok
}

// each calls f for what has come.
func (a *acks) each(f func(packet uint16)) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, p := range a.packets {
		f(p)
	}
	a.packets = a.packets[:0]
}

// mark takes note of the PUBACKs that have come. One for nothing that we sent
// is passed over.
func (s *session) mark() {
	s.conn.acks.each(func(packet uint16) {
		if packet == s.parting {
			s.parting = 0
			return
		}
		for i := range s.window {
			if s.window[i].packet == packet {
				s.window[i].taken = true
				s.transit.acked(s.window[i], time.Now())
				return
			}
		}
	})
}
