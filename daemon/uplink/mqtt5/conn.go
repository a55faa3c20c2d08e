package mqtt5

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"time"

	"fieldpost/daemon/task"
	"fieldpost/daemon/uplink"

	"github.com/eclipse/paho.golang/packets"
)

const (
	// maxPacket bounds a packet from the broker, in bytes. It is more than the largest
	// message of AWS IoT Core, which may be waiting in the session.
	maxPacket        = 256 << 10
	defaultKeepAlive = 30 * time.Second
	closeWithin      = time.Second // for the DISCONNECT
	queued           = 16          // packets that may wait to be handled
)

// ErrUnsupported is the error when the broker does not support MQTT 5.
var ErrUnsupported = errors.New("the broker does not speak MQTT 5")

// errGarbage is wrapped by every error about a malformed packet.
var errGarbage = errors.New("not MQTT 5")

// Message is a message from the broker.
type Message struct {
	Topic    string
	Payload  []byte
	Retained bool
}

// Publication is a message to be published at QoS 1.
type Publication struct {
	Topic   string
	Payload []byte
	Retain  bool
	// Expiry is how long the broker keeps the message for subscribers that are offline,
	// rounded up to seconds; 0 is without limit. AWS IoT Core accepts at most 7 days.
	Expiry time.Duration
}

// Conn is one connection over MQTT 5. Only one goroutine may use it, until Close. Errors of
// its methods are the context's, or an [*uplink.Explained]. If that contains an
// [*uplink.Reason], the broker has given the reason itself.
type Conn struct {
	probe     *uplink.Probe
	conn      net.Conn
	r         *bufio.Reader
	keepAlive time.Duration
	id        uint16
	at        uplink.Disconnect

	reading  *task.Group
	packets  chan *packets.ControlPacket // except PUBLISH
	messages chan *packets.Publish
	closing  chan struct{}
	ended    chan struct{} // closed when the reader has ended
	cause    error         // what ended it; valid once ended is closed
}

// Open connects: DNS, TCP, TLS, CONNECT. A session that is not clean never expires. The error
// is [ErrUnsupported] if the broker answers like one of MQTT 3.1.1, or closes the connection
// instead of answering. The caller closes the connection.
func Open(ctx context.Context, c uplink.ProbeConfig) (*Conn, error) {
	p, err := uplink.NewProbe(c)
	if err != nil {
		return nil, err
	}
	if err = p.Dial(ctx); err == nil {
		_, err = p.Handshake(ctx)
	}
	if err != nil {
		p.Close()
		return nil, err
	}
	conn := &Conn{
		probe: p, conn: p.Conn(), r: bufio.NewReader(p.Conn()), keepAlive: c.KeepAlive,
		at:      uplink.Disconnect{Phase: uplink.Connecting, Endpoint: p.Endpoint(), ClientID: c.ClientID, Will: c.Will != nil, Persistent: !c.Clean, Username: c.Username},
		packets: make(chan *packets.ControlPacket, queued), messages: make(chan *packets.Publish, queued),
		closing: make(chan struct{}), ended: make(chan struct{}), reading: task.NewGroup(ctx),
	}
	if conn.keepAlive == 0 {
		conn.keepAlive = defaultKeepAlive
	}
	conn.reading.Go("MQTT 5 reader", conn.read)
	if err := conn.connect(ctx, c); err != nil {
		conn.Close()
		return nil, err
	}
	return conn, nil
}

// connect sends CONNECT and waits for the CONNACK.
func (c *Conn) connect(ctx context.Context, config uplink.ProbeConfig) error {
	connect := &packets.Connect{ProtocolName: "MQTT", ProtocolVersion: 5, ClientID: config.ClientID, CleanStart: config.Clean,
		KeepAlive: uint16(c.keepAlive / time.Second), Properties: &packets.Properties{}}
	if !config.Clean { // like a persistent session of MQTT 3.1.1, which never expires
		forever := ^uint32(0)
		connect.Properties.SessionExpiryInterval = &forever
	}
	if config.Username != "" {
		connect.UsernameFlag, connect.Username = true, config.Username
		if password := c.probe.Password(); len(password) > 0 {
			connect.PasswordFlag, connect.Password = true, password
		}
	}
	if w := config.Will; w != nil {
		connect.WillFlag, connect.WillQOS, connect.WillTopic = true, 1, w.Topic
		connect.WillMessage, connect.WillProperties = w.Payload, &packets.Properties{}
	}
	if err := c.send(ctx, packets.CONNECT, connect); err != nil {
		return err
	}
	var got *packets.ControlPacket
	select {
	case got = <-c.packets:
	case <-c.ended:
		if len(c.packets) == 0 {
			return fmt.Errorf("%w, or closes the connection without a reason: %w", ErrUnsupported, c.cause)
		}
		got = <-c.packets
	case <-ctx.Done():
		return ctx.Err()
	}
	ack, ok := got.Content.(*packets.Connack)
	switch {
	case !ok || ack.ReasonCode > 0 && ack.ReasonCode < 128 || ack.ReasonCode == 132:
		return ErrUnsupported // the refusal of an MQTT 3.1.1 broker
	case ack.ReasonCode != 0:
		return c.explainReason(reason("CONNACK", ack.ReasonCode, ack.Properties))
	}
	c.at.SessionPresent, c.at.Phase = ack.SessionPresent, uplink.Idle
	return nil
}

// Subscribe subscribes to a filter and waits for the SUBACK.
func (c *Conn) Subscribe(ctx context.Context, s uplink.Subscription) error {
	c.at.Phase, c.at.Topic = uplink.Subscribing, s.Filter
	c.id++
	err := c.send(ctx, packets.SUBSCRIBE, &packets.Subscribe{PacketID: c.id, Properties: &packets.Properties{},
		Subscriptions: []packets.SubOptions{{Topic: s.Filter, QoS: s.QoS}}})
	if err != nil {
		return err
	}
	got, err := c.await(ctx, packets.SUBACK, c.id)
	if err != nil {
		return err
	}
	ack := got.Content.(*packets.Suback)
	for _, code := range ack.Reasons {
		if code >= 128 {
			return c.explainReason(reason("SUBACK", code, ack.Properties))
		}
	}
	c.at.Phase = uplink.Idle
	return nil
}

// noSubscribers is the reason code of a PUBACK for a message without subscribers (section
// 3.4.2.1).
const noSubscribers = 16

// Publish publishes a message at QoS 1 and waits for the PUBACK. taken is false if the broker
// says that the topic has no subscribers; not every broker does.
func (c *Conn) Publish(ctx context.Context, p Publication) (taken bool, err error) {
	c.at.Phase, c.at.Topic = uplink.Publishing, p.Topic
	c.id++
	properties := &packets.Properties{}
	if p.Expiry > 0 {
		seconds := uint32(min((p.Expiry+time.Second-1)/time.Second, 1<<32-1))
		properties.MessageExpiry = &seconds
	}
	err = c.send(ctx, packets.PUBLISH, &packets.Publish{PacketID: c.id, QoS: 1, Topic: p.Topic, Retain: p.Retain, Payload: p.Payload, Properties: properties})
	if err != nil {
		return false, err
	}
	got, err := c.await(ctx, packets.PUBACK, c.id)
	if err != nil {
		return false, err
	}
	ack := got.Content.(*packets.Puback)
	if ack.ReasonCode >= 128 {
		return false, c.explainReason(reason("PUBACK", ack.ReasonCode, ack.Properties))
	}
	c.at.Phase = uplink.Idle
	return ack.ReasonCode != noSubscribers, nil
}

// Receive waits for a message that want accepts, and keeps the connection alive meanwhile. It
// acknowledges every message that it passes to want.
func (c *Conn) Receive(ctx context.Context, want func(Message) bool) error {
	c.at.Phase = uplink.Idle
	ping := time.NewTicker(c.keepAlive)
	defer ping.Stop()
	answered := true
	for {
		select {
		case m := <-c.messages:
			if ok, err := c.handleMessage(ctx, m, want); ok || err != nil {
				return err
			}
		case <-c.packets: // a PINGRESP, or a late answer to an earlier request
			answered = true
		case <-ping.C:
			if !answered {
				return uplink.Explain(os.ErrDeadlineExceeded, c.at)
			}
			answered = false
			if err := c.send(ctx, packets.PINGREQ, &packets.Pingreq{}); err != nil {
				return err
			}
		case <-c.ended:
			for len(c.messages) > 0 { // packets that came before the end
				if want(messageOf(<-c.messages)) {
					return nil
				}
			}
			return c.explain(c.cause)
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// handleMessage acknowledges a message and reports whether it is the wanted one.
func (c *Conn) handleMessage(ctx context.Context, m *packets.Publish, want func(Message) bool) (bool, error) {
	if want(messageOf(m)) {
		if m.QoS > 0 {
			_ = c.send(ctx, packets.PUBACK, &packets.Puback{PacketID: m.PacketID, Properties: &packets.Properties{}})
		}
		return true, nil
	}
	if m.QoS == 0 {
		return false, nil
	}
	return false, c.send(ctx, packets.PUBACK, &packets.Puback{PacketID: m.PacketID, Properties: &packets.Properties{}})
}

func messageOf(p *packets.Publish) Message {
	return Message{Topic: p.Topic, Payload: p.Payload, Retained: p.Retain}
}

// Wait waits until the connection ends, and returns why. It acknowledges no messages.
func (c *Conn) Wait(ctx context.Context) error {
	_, err := c.await(ctx, packets.AUTH, 0) // a packet that never comes
	return err
}

// Close ends the connection, in order if it is still open, and waits for its goroutine.
func (c *Conn) Close() {
	_ = c.conn.SetWriteDeadline(time.Now().Add(closeWithin))
	_, _ = (&packets.ControlPacket{FixedHeader: packets.FixedHeader{Type: packets.DISCONNECT}, Content: &packets.Disconnect{Properties: &packets.Properties{}}}).WriteTo(c.conn)
	close(c.closing)
	c.probe.Close()
	c.reading.Wait()
}

// reason returns the reason that a broker gave.
func reason(packet string, code byte, p *packets.Properties) *uplink.Reason {
	r := &uplink.Reason{Packet: packet, Code: code}
	if p != nil {
		r.Text = p.ReasonString
	}
	return r
}

func (c *Conn) explainReason(r *uplink.Reason) error { return uplink.ExplainReason(r, c.at) }

// explain explains what ended the connection.
func (c *Conn) explain(err error) error {
	var r *uplink.Reason
	if errors.As(err, &r) {
		return c.explainReason(r)
	}
	return uplink.Explain(err, c.at)
}

// await waits for a packet with this type and identifier.
func (c *Conn) await(ctx context.Context, kind byte, id uint16) (*packets.ControlPacket, error) {
	for {
		select {
		case got := <-c.packets:
			if got.Type == kind && got.PacketID() == id {
				return got, nil
			}
		case <-c.ended:
			for len(c.packets) > 0 { // packets that came before the end
				if got := <-c.packets; got.Type == kind && got.PacketID() == id {
					return got, nil
				}
			}
			return nil, c.explain(c.cause)
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// send sends a packet, until ctx ends.
func (c *Conn) send(ctx context.Context, kind byte, content packets.Packet) error {
	stop := context.AfterFunc(ctx, func() { _ = c.conn.SetWriteDeadline(time.Unix(1, 0)) })
	defer stop()
	p := packets.NewControlPacket(kind)
	p.Content = content
	if publish, ok := content.(*packets.Publish); ok {
		p = publish.ToControlPacket()
	}
	_, err := p.WriteTo(c.conn)
	switch {
	case err == nil:
		return nil
	case ctx.Err() != nil:
		return ctx.Err()
	}
	// What the broker said before it closed is more useful than the error of the write.
	timer := time.NewTimer(closeWithin)
	defer timer.Stop()
	select {
	case <-c.ended:
		return c.explain(c.cause)
	case <-timer.C:
	case <-ctx.Done():
	}
	return uplink.Explain(err, c.at)
}

// read reads packets until the connection ends. Messages without a waiting receiver are
// dropped and not acknowledged.
func (c *Conn) read() {
	defer close(c.ended)
	for {
		p, err := c.readPacket()
		if err != nil {
			c.cause = err
			return
		}
		switch content := p.Content.(type) {
		case *packets.Disconnect:
			c.cause = reason("DISCONNECT", content.ReasonCode, content.Properties)
			return
		case *packets.Publish:
			select {
			case c.messages <- content:
			default:
			}
			continue
		}
		select {
		case c.packets <- p:
		case <-c.closing:
			c.cause = net.ErrClosed
			return
		}
	}
}

// readPacket reads a packet of at most maxPacket bytes. The parser is a library's, and
// packets may be hostile: if the parser panics, the packet is not MQTT 5.
func (c *Conn) readPacket() (p *packets.ControlPacket, err error) {
	length := 0
	for n := 2; ; n++ {
		head, err := c.r.Peek(n)
		if err != nil {
			return nil, err
		}
		length |= int(head[n-1]&0x7f) << (7 * (n - 2))
		if head[n-1]&0x80 == 0 {
			break
		}
		if n == 5 {
			return nil, fmt.Errorf("read packet: length of more than four bytes: %w", errGarbage)
		}
	}
	if length > maxPacket {
		return nil, fmt.Errorf("read packet: %d bytes, want at most %d: %w", length, maxPacket, errGarbage)
	}
	defer func() {
		if r := recover(); r != nil {
			p, err = nil, fmt.Errorf("read packet: %v: %w", r, errGarbage)
		}
	}()
	p, err = packets.ReadPacket(c.r)
	if err != nil && strings.Contains(err.Error(), io.ErrUnexpectedEOF.Error()) {
		err = io.ErrUnexpectedEOF
	}
	return p, err
}
