package uplink

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync/atomic"
	"time"
	"unicode/utf8"
)

// The types of control packets (MQTT 3.1.1, section 2.2.1) that we send or may receive. We
// publish at QoS 1 and subscribe at QoS 1 at most, so the others are missing. A DISCONNECT
// from the server is not in MQTT 3.1.1 either, but some servers send it (mochi, when it stops
// and when another client takes over the session): it is an orderly close.
const (
	connect     = 1 // only sent by us
	connack     = 2
	publish     = 3
	puback      = 4
	subscribe   = 8 // only sent by us
	suback      = 9
	unsubscribe = 10 // only sent by us
	unsuback    = 11
	pingreq     = 12 // only sent by us
	pingresp    = 13
	disconnect  = 14
)

// packetIDs returns the packet identifiers of one connection. No two in use are equal: the
// in-flight window is small, and SUBSCRIBE and UNSUBSCRIBE are sent only while nothing is in
// flight.
type packetIDs struct{ last uint16 }

// next returns the next packet identifier.
func (p *packetIDs) next() uint16 {
	p.last++
	if p.last == 0 { // not allowed (section 2.3.1)
		p.last = 1
	}
	return p.last
}

// skip skips the next n identifiers.
func (p *packetIDs) skip(n uint16) { p.last += n }

// retainFlag is in the first byte of a PUBLISH (section 3.3.1.3).
const retainFlag = 1

// appendPublish appends a PUBLISH packet at QoS 1 (section 3.3). The remaining length
// has the form of a uvarint (section 2.2.3).
func appendPublish(b []byte, packet uint16, topic string, payload []byte) []byte {
	b = append(b, publish<<4|1<<1)
	b = binary.AppendUvarint(b, uint64(2+len(topic)+2+len(payload)))
	b = binary.BigEndian.AppendUint16(b, uint16(len(topic)))
	b = append(b, topic...)
	b = binary.BigEndian.AppendUint16(b, packet)
	return append(b, payload...)
}

// appendSubscribe appends a SUBSCRIBE packet for one filter (section 3.8).
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

// partEvery is how often readPacket returns while a long message arrives.
const partEvery = 2 * time.Second

var pingreqPacket = []byte{pingreq << 4, 0}

// withKeepAlive returns a copy of a CONNECT packet with another keep-alive, in seconds
// (section 3.1.2.10).
func withKeepAlive(packet []byte, seconds uint16) []byte {
	_, n := binary.Uvarint(packet[1:]) // the remaining length
	const name, level, flags = 2 + len("MQTT"), 1, 1
	packet = slices.Clone(packet)
	binary.BigEndian.PutUint16(packet[1+n+name+level+flags:], seconds)
	return packet
}

// maxDisconnect bounds a DISCONNECT with its properties, in bytes.
const maxDisconnect = 1024

var (
	// errProtocol is wrapped by every error about a malformed packet from the broker.
	errProtocol = errors.New("not MQTT 3.1.1")
	// errDisconnect is a server's DISCONNECT. It closes the connection, like the end of the
	// stream.
	errDisconnect = fmt.Errorf("DISCONNECT from the broker: %w", io.EOF)
	// errPubacks is the error when a broker sends PUBACKs without end.
	errPubacks = fmt.Errorf("read packet: thousands of PUBACKs for nothing that was sent: %w", errProtocol)
)

// connackRefusal is a CONNACK with a return code other than 0 (section 3.2.2.3).
type connackRefusal struct{ code byte }

func (r *connackRefusal) Error() string {
	names := [...]string{1: "unacceptable protocol version", 2: "client id rejected",
		3: "server unavailable", 4: "bad user name or password", 5: "not authorized"}
	if int(r.code) < len(names) {
		return fmt.Sprintf("connack return code %d: %s", r.code, names[r.code])
	}
	return fmt.Sprintf("connack return code %d", r.code)
}

// packetReader reads packets and lets only those through that can be addressed to this
// client. The protocol client requires that: it panics on a SUBACK with too many codes,
// treats a CONNACK with code 7 as a success, completes a publish on any acknowledgement with
// its number, and allocates whatever length a packet announces.
type packetReader struct {
	r   *bufio.Reader
	buf []byte // for small packets, reused

	connected   bool        // the CONNACK has been seen
	present     bool        // its session present flag
	subscribing atomic.Bool // a SUBACK or UNSUBACK is expected

	accepted   func()       // called when a CONNACK with code 0 has come
	maxPayload atomic.Int64 // the largest payload that is kept whole, in bytes
	// deliver is called with every PUBLISH, in order, before the next packet is read.
	deliver func(*publishPacket)
	message *publishPacket // the PUBLISH that is being read
	left    int            // bytes of its payload that are missing
}

// publishPacket is a PUBLISH packet from the broker (section 3.3).
type publishPacket struct {
	topic     string
	payload   []byte // the whole payload, or its first KiB if it is over the limit
	size      int    // size of the whole payload
	packet    uint16 // the packet identifier; none at QoS 0
	qos       byte
	duplicate bool
	retained  bool
}

// readPacket returns the next packet that is not a PUBLISH, complete. It is valid until the
// next call. While a long PUBLISH arrives, readPacket returns nil from time to time.
func (g *packetReader) readPacket() ([]byte, error) {
	for {
		if g.message != nil {
			if done, err := g.readPayload(); err != nil || !done {
				return nil, err
			}
			g.deliver(g.message)
			g.message = nil
		}
		first, err := g.r.ReadByte()
		if err != nil {
			return nil, err
		}
		length, head, err := g.readLength(first)
		if err != nil {
			return nil, err
		}
		if err := g.checkHeader(first, length); err != nil {
			return nil, err
		}
		if first>>4 == publish {
			if err := g.readPublishHeader(first, length); err != nil {
				return nil, err
			}
			continue
		}
		packet := g.buffer(len(head) + length)
		copy(packet, head)
		body := packet[len(head):]
		if _, err := io.ReadFull(g.r, body); err != nil {
			return nil, cutShort(err)
		}
		if err := g.checkBody(first, body); err != nil {
			return nil, err
		}
		return packet, nil
	}
}

// readLength reads the remaining length (section 2.2.3) and returns it and the fixed header.
func (g *packetReader) readLength(first byte) (length int, head []byte, err error) {
	head = append(make([]byte, 0, 5), first)
	for shift := 0; shift < 28; shift += 7 {
		b, err := g.r.ReadByte()
		if err != nil {
			return 0, nil, cutShort(err)
		}
		head = append(head, b)
		length |= int(b&0x7f) << shift
		if b&0x80 == 0 {
			return length, head, nil
		}
	}
	return 0, nil, fmt.Errorf("read packet: length of more than four bytes: %w", errProtocol)
}

// checkHeader checks a fixed header before its body is read.
func (g *packetReader) checkHeader(first byte, length int) error {
	kind, flags := first>>4, first&0x0f
	if !g.connected && kind != connack && kind != disconnect {
		return fmt.Errorf("read packet: first one has type %d and not CONNACK: %w", kind, errProtocol)
	}
	fits := false
	switch kind {
	case connack:
		fits = !g.connected && flags == 0 && length == 2
	case publish:
		fits = flags>>1&3 <= 1 && length >= 3
	case puback:
		fits = flags == 0 && length == 2
	case suback: // we subscribe to one filter at a time
		fits = g.subscribing.Load() && flags == 0 && length == 3
	case unsuback:
		fits = g.subscribing.Load() && flags == 0 && length == 2
	case pingresp:
		fits = flags == 0 && length == 0
	case disconnect: // with a reason and properties if the server takes us for a client of MQTT 5
		fits = flags == 0 && length <= maxDisconnect
	}
	if !fits {
		return fmt.Errorf("read packet: unexpected type %d with flags %#x and %d bytes: %w", kind, flags, length, errProtocol)
	}
	return nil
}

// checkBody checks the body of a packet that is not a PUBLISH.
func (g *packetReader) checkBody(first byte, body []byte) error {
	switch first >> 4 {
	case connack:
		if body[1] != 0 {
			return &connackRefusal{body[1]}
		}
		g.connected, g.present = true, body[0]&1 != 0
		g.accepted()
	case disconnect:
		return errDisconnect
	}
	return nil
}

// readPublishHeader reads a PUBLISH up to its payload. A payload over the limit is discarded
// and not refused, because the broker would send it again for ever.
func (g *packetReader) readPublishHeader(first byte, length int) error {
	m := &publishPacket{qos: first >> 1 & 3, duplicate: first&8 != 0, retained: first&1 != 0}
	var n [2]byte
	if _, err := io.ReadFull(g.r, n[:]); err != nil {
		return cutShort(err)
	}
	topic := int(binary.BigEndian.Uint16(n[:]))
	m.size = length - 2 - topic - 2*int(m.qos)
	if m.size < 0 {
		return fmt.Errorf("read packet: PUBLISH shorter than its topic: %w", errProtocol)
	}
	b := make([]byte, topic)
	if _, err := io.ReadFull(g.r, b); err != nil {
		return cutShort(err)
	}
	m.topic = string(b)
	if topic == 0 || strings.ContainsAny(m.topic, "+#\x00") || !utf8.ValidString(m.topic) {
		return fmt.Errorf("read packet: PUBLISH with the topic %q: %w", shown(m.topic), errProtocol)
	}
	if m.qos > 0 {
		if _, err := io.ReadFull(g.r, n[:]); err != nil {
			return cutShort(err)
		}
		if m.packet = binary.BigEndian.Uint16(n[:]); m.packet == 0 { // section 2.3.1
			return fmt.Errorf("read packet: PUBLISH with the packet identifier 0: %w", errProtocol)
		}
	}
	kept := m.size
	if int64(kept) > g.maxPayload.Load() {
		kept = truncatedBytes
	}
	m.payload = make([]byte, 0, kept)
	g.message, g.left = m, m.size
	return nil
}

// readPayload continues to read the payload of a PUBLISH. If that takes long it returns
// before it is done and must be called again.
func (g *packetReader) readPayload() (done bool, err error) {
	for since := time.Now(); g.left > 0; {
		if time.Since(since) >= partEvery {
			return false, nil
		}
		m := g.message
		to := m.payload[len(m.payload):cap(m.payload)]
		if len(to) == 0 {
			to = g.buffer(smallPacket)
		}
		n, err := g.r.Read(to[:min(len(to), g.left)])
		if len(m.payload) < cap(m.payload) {
			m.payload = m.payload[:len(m.payload)+n]
		}
		if g.left -= n; err != nil && g.left > 0 {
			return false, cutShort(err)
		}
	}
	return true, nil
}

// smallPacket is more than the size of any packet other than a PUBLISH.
const smallPacket = 4096

// buffer returns a buffer of n bytes, at most smallPacket.
func (g *packetReader) buffer(n int) []byte {
	if g.buf == nil {
		g.buf = make([]byte, smallPacket)
	}
	return g.buf[:n]
}

// cutShort distinguishes the end of the stream within a packet from one between two packets.
func cutShort(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}
