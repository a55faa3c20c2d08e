package uplink

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync/atomic"
	"time"
	"unicode/utf8"
)

// The control packets that a server may send to us (MQTT 3.1.1, section 2.2.1).
// We publish at QoS 1 and subscribe at no more, so the others have no place here. A DISCONNECT from the server is not in MQTT 3.1.1 either,
// but some send it (mochi, at its end and when another client takes the session
// over): it is an orderly close.
const (
	connack     = 2
	publish     = 3
	puback      = 4
	subscribe   = 8 // only ours
	suback      = 9
	unsubscribe = 10 // only ours
	unsuback    = 11
	pingreq     = 12 // only ours
	pingresp    = 13
	goodbye     = 14 // DISCONNECT
)

// aliveEvery is how often a sign of life is given while a message comes.
const aliveEvery = 2 * time.Second

// alive is that sign: a PINGRESP.
var alive = []byte{pingresp << 4, 0}

// maxGoodbye bounds a DISCONNECT, with its properties.
const maxGoodbye = 1024

// errGoodbye is a server's DISCONNECT. It closes the connection, as the end of the
// stream does.
var errGoodbye = fmt.Errorf("DISCONNECT from the broker: %w", io.EOF)

// errPubacks is the reason where a broker acknowledges without end.
var errPubacks = fmt.Errorf("read packet: thousands of PUBACKs for nothing that was sent: %w", errProtocol)

// errProtocol is wrapped by every complaint about what the broker sent.
var errProtocol = errors.New("not MQTT 3.1.1")

// refusal is a CONNACK with a return code other than 0 (section 3.2.2.3).
type refusal struct{ code byte }

func (r *refusal) Error() string {
	names := [...]string{1: "unacceptable protocol version", 2: "client id rejected",
		3: "server unavailable", 4: "bad user name or password", 5: "not authorized"}
	if int(r.code) < len(names) {
		return fmt.Sprintf("connack return code %d: %s", r.code, names[r.code])
	}
	return fmt.Sprintf("connack return code %d", r.code)
}

// guard reads one packet after the other and lets through only what this
// client can have been sent. The protocol client below it panics on a SUBACK
// with too many codes, takes a CONNACK with code 7 for a success, completes
// a publish on any acknowledgement with its number, and allocates whatever
// length a packet announces.
type guard struct {
	r   *bufio.Reader
	buf []byte // of small packets, used again

	connected   bool        // the CONNACK has been seen
	session     bool        // its session present flag
	subscribing atomic.Bool // a SUBACK or UNSUBACK is due

	accepted func() // called when the CONNACK has come and is good
	limit    int    // the largest payload that is kept, in bytes
	// deliver is called with every message, in their order, before anything after
	// it is read.
	deliver func(*incoming)
	message *incoming // that is being read
	left    int       // bytes of its payload that have not come
}

// incoming is a PUBLISH packet (section 3.3).
type incoming struct {
	topic     string
	payload   []byte // whole, or where it is over the limit its first KiB
	size      int    // of the whole payload
	packet    uint16 // the packet identifier; none at QoS 0
	qos       byte
	duplicate bool
	retained  bool
}

// next gives the next packet that is no message, whole; it is valid until the next
// call. It gives nil once in a while when a message is still coming.
func (g *guard) next() ([]byte, error) {
	for {
		if g.message != nil {
			if done, err := g.body(); err != nil || !done {
				return nil, err
			}
			g.deliver(g.message)
			g.message = nil
		}
		first, err := g.r.ReadByte()
		if err != nil {
			return nil, err
		}
		length, head, err := g.length(first)
		if err != nil {
			return nil, err
		}
		if err := g.expected(first, length); err != nil {
			return nil, err
		}
		if first>>4 == publish {
			if err := g.begin(first, length); err != nil {
				return nil, err
			}
			continue
		}
		packet := g.room(len(head) + length)
		copy(packet, head)
		body := packet[len(head):]
		if _, err := io.ReadFull(g.r, body); err != nil {
			return nil, cutShort(err)
		}
		if err := g.check(first, body); err != nil {
			return nil, err
		}
		return packet, nil
	}
}

// length reads the remaining length (section 2.2.3) and gives the fixed header.
func (g *guard) length(first byte) (length int, head []byte, err error) {
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

// expected checks a fixed header before its body is read.
func (g *guard) expected(first byte, length int) error {
	kind, flags := first>>4, first&0x0f
	if !g.connected && kind != connack && kind != goodbye {
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
	case suback: // we ask for one filter at a time
		fits = g.subscribing.Load() && flags == 0 && length == 3
	case unsuback:
		fits = g.subscribing.Load() && flags == 0 && length == 2
	case pingresp:
		fits = flags == 0 && length == 0
	case goodbye: // with a reason and properties where a server takes us for a client of MQTT 5
		fits = flags == 0 && length <= maxGoodbye
	}
	if !fits {
		return fmt.Errorf("read packet: unexpected type %d with flags %#x and %d bytes: %w", kind, flags, length, errProtocol)
	}
	return nil
}

// check looks at the body.
func (g *guard) check(first byte, body []byte) error {
	switch first >> 4 {
	case connack:
		if body[1] != 0 {
			return &refusal{body[1]}
		}
		g.connected, g.session = true, body[0]&1 != 0
		g.accepted()
	case goodbye:
		return errGoodbye
	}
	return nil
}

// begin reads a message up to its payload. One whose payload is over the limit is
// read past and not refused: the broker would send it again for ever.
func (g *guard) begin(first byte, length int) error {
	m := &incoming{qos: first >> 1 & 3, duplicate: first&8 != 0, retained: first&1 != 0}
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
	if kept > g.limit {
		kept = headBytes
	}
	m.payload = make([]byte, 0, kept)
	g.message, g.left = m, m.size
	return nil
}

// body reads on in the message that has begun. It is not done, and is called again,
// when that takes a while.
func (g *guard) body() (done bool, err error) {
	for since := time.Now(); g.left > 0; {
		if time.Since(since) >= aliveEvery {
			return false, nil
		}
		m := g.message
		to := m.payload[len(m.payload):cap(m.payload)]
		if len(to) == 0 {
			to = g.room(smallPacket)
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

// smallPacket is more than any packet has that is no message.
const smallPacket = 4096

// room gives a buffer of n bytes, at most smallPacket.
func (g *guard) room(n int) []byte {
	if g.buf == nil {
		g.buf = make([]byte, smallPacket)
	}
	return g.buf[:n]
}

// cutShort makes an end within a packet tell itself from one between two.
func cutShort(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}
