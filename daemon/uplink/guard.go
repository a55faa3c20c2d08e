package uplink

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync/atomic"
	"unicode/utf8"
)

// The control packets that a server may send to us (MQTT 3.1.1, section 2.2.1).
// We publish at QoS 1 and subscribe at no more, and never unsubscribe, so the
// others have no place here. A DISCONNECT from the server is not in MQTT 3.1.1 either,
// but some send it (mochi, at its end and when another client takes the session
// over): it is an orderly close.
const (
	connack   = 2
	publish   = 3
	puback    = 4
	subscribe = 8 // only ours
	suback    = 9
	pingreq   = 12 // only ours
	pingresp  = 13
	goodbye   = 14 // DISCONNECT
)

// maxInbound is the largest packet that is kept in memory. AWS IoT Core sends
// no payload over 128 KB; other brokers may send 256 MB.
const maxInbound = 1 << 20

// maxGoodbye bounds a DISCONNECT, with its properties.
const maxGoodbye = 1024

// errGoodbye is a server's DISCONNECT. It closes the connection, as the end of the
// stream does.
var errGoodbye = fmt.Errorf("DISCONNECT from the broker: %w", io.EOF)

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
	subscribing atomic.Bool // a SUBACK is due, and no PUBACK can be

	accepted func() // called when the CONNACK has come and is good
	// tooBig is told of a message that was read but not kept; acknowledge says
	// that the broker waits for a PUBACK for id.
	tooBig func(topic string, size int, acknowledge bool, id uint16)
}

// next gives the next packet, whole. It is valid until the next call.
func (g *guard) next() ([]byte, error) {
	for {
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
		if length > maxInbound {
			if err := g.skip(first, length); err != nil {
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
		fits = !g.subscribing.Load() && flags == 0 && length == 2
	case suback: // we ask for one filter at a time
		fits = g.subscribing.Load() && flags == 0 && length == 3
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
	case publish:
		n := int(binary.BigEndian.Uint16(body))
		rest := len(body) - 2 - n
		if first>>1&3 == 1 {
			rest -= 2
		}
		if rest < 0 {
			return fmt.Errorf("read packet: PUBLISH shorter than its topic: %w", errProtocol)
		}
		topic := string(body[2 : 2+n])
		if n == 0 || strings.ContainsAny(topic, "+#\x00") || !utf8.ValidString(topic) {
			return fmt.Errorf("read packet: PUBLISH with the topic %q: %w", topic, errProtocol)
		}
	}
	return nil
}

// skip reads past a message that is too big to be kept. Ending the connection
// instead would have the broker send it again for ever.
func (g *guard) skip(first byte, length int) error {
	if first>>4 != publish {
		return fmt.Errorf("read packet: type %d with %d bytes: %w", first>>4, length, errProtocol)
	}
	var n [2]byte
	if _, err := io.ReadFull(g.r, n[:]); err != nil {
		return cutShort(err)
	}
	topic := make([]byte, binary.BigEndian.Uint16(n[:]))
	if _, err := io.ReadFull(g.r, topic); err != nil {
		return cutShort(err)
	}
	left := length - 2 - len(topic)
	acknowledge := first>>1&3 == 1
	if acknowledge {
		if _, err := io.ReadFull(g.r, n[:]); err != nil {
			return cutShort(err)
		}
		left -= 2
	}
	if _, err := io.CopyN(io.Discard, g.r, int64(left)); err != nil {
		return cutShort(err)
	}
	g.tooBig(string(topic), left, acknowledge, binary.BigEndian.Uint16(n[:]))
	return nil
}

// room gives a buffer of n bytes.
func (g *guard) room(n int) []byte {
	if n > 4096 {
		return make([]byte, n)
	}
	if g.buf == nil {
		g.buf = make([]byte, 4096)
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
