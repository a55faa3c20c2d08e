package doctor

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
	"time"

	"fieldpost/daemon/awsiot"
	"fieldpost/daemon/uplink"

	"github.com/eclipse/paho.golang/packets"
)

// maxPacket bounds a packet of the broker over MQTT 5, in bytes: more than the largest
// message of AWS IoT Core, which may wait in the session.
const maxPacket = 256 << 10

// errNot5 says that the broker does not speak MQTT 5.
var errNot5 = errors.New("the broker does not speak MQTT 5")

// errGarbage is wrapped by every complaint about a packet.
var errGarbage = errors.New("not MQTT 5")

// version5 is a connection over MQTT 5. Every answer there has a reason code, where
// MQTT 3.1.1 has the broker only hang up. One goroutine uses it.
type version5 struct {
	e     *exam
	probe *uplink.Probe
	conn  net.Conn
	r     *bufio.Reader
	id    uint16
	at    uplink.Disconnect
}

// askVersion5 asks again over MQTT 5 what failed. Where nothing failed nothing is
// asked, so that the session of the daemon is left as it is.
func (e *exam) askVersion5(ctx context.Context) {
	failed := func(names ...string) bool {
		return slices.ContainsFunc(names, func(n string) bool { return slices.Contains(e.failed, n) })
	}
	if !failed("connect", "will", "session", "subscribe", "publish", "retained", "same client id", "idle minute") {
		return
	}
	a := e.ordinary()
	a.will = a.will || failed("will")
	var not5 bool
	ask := func(name, found string, do func(ctx context.Context, c *version5) error) {
		if not5 {
			return
		}
		_ = e.step(ctx, "mqtt 5 "+name, 2*answerLimit, func(ctx context.Context) (string, error) {
			c, err := e.open5(ctx, a)
			if errors.Is(err, errNot5) {
				not5 = true
				return "", skip("%v", err)
			}
			if err != nil {
				return "", err
			}
			defer c.close()
			return found, do(ctx, c)
		})
	}
	before := e.report.Failed
	ask("connect", fmt.Sprintf("as %q: the broker accepts it", e.report.ClientID), func(context.Context, *version5) error { return nil })
	if failed("connect") || e.report.Failed > before && !e.withoutWill {
		return
	}
	a = e.ordinary()
	if failed("subscribe") {
		for _, f := range e.needs(awsiot.ActionSubscribe, "topicfilter") {
			ask("subscribe", f+": granted", func(ctx context.Context, c *version5) error { return c.subscribe(ctx, f) })
		}
	}
	if failed("publish") && !e.o.NoPublish {
		for _, t := range e.needs(awsiot.ActionPublish, "topic") {
			ask("publish", t+": taken", func(ctx context.Context, c *version5) error { return c.publish(ctx, t, false) })
		}
	}
	if failed("retained") {
		t := e.cfg.ReadingsTopic("")
		ask("retained", t+": taken", func(ctx context.Context, c *version5) error {
			if err := c.publish(ctx, t, true); err != nil {
				return err
			}
			return c.send(ctx, packets.PUBLISH, &packets.Publish{Topic: t, Retain: true, Properties: &packets.Properties{}})
		})
	}
	if failed("same client id", "idle minute") {
		ask("idle", "the connection stood", func(ctx context.Context, c *version5) error {
			ctx, cancel := context.WithTimeout(ctx, 2*rivalTime)
			defer cancel()
			_, err := c.await(ctx, packets.AUTH, 0) // which never comes: until it ends
			if errors.Is(err, context.DeadlineExceeded) {
				return nil
			}
			return err
		})
	}
}

// open5 connects over MQTT 5.
func (e *exam) open5(ctx context.Context, a attempt) (*version5, error) {
	if err := e.pause(ctx); err != nil { // AWS IoT Core wants it, and so may a stand-in
		return nil, err
	}
	p, err := e.probe(a)
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
	c := &version5{e: e, probe: p, conn: p.Conn(), r: bufio.NewReader(p.Conn()), at: uplink.Disconnect{
		Phase: uplink.Connecting, Endpoint: e.at.String(), ClientID: e.report.ClientID, Will: a.will, Persistent: !a.clean}}
	e.connected = time.Now()
	if err := c.connect(ctx, a); err != nil {
		c.close()
		return nil, err
	}
	return c, nil
}

func (c *version5) connect(ctx context.Context, a attempt) error {
	connect := &packets.Connect{ProtocolName: "MQTT", ProtocolVersion: 5, ClientID: c.e.report.ClientID, CleanStart: a.clean,
		KeepAlive: uint16(c.e.keepAlive() / time.Second), Properties: &packets.Properties{}}
	if !a.clean { // as a session of MQTT 3.1.1 that is kept: without an end of its own
		forever := ^uint32(0)
		connect.Properties.SessionExpiryInterval = &forever
	}
	if a.will {
		connect.WillFlag, connect.WillQOS, connect.WillTopic = true, 1, c.e.cfg.ReadingsTopic("")
		connect.WillMessage, connect.WillProperties = c.e.payload("will"), &packets.Properties{}
	}
	if err := c.send(ctx, packets.CONNECT, connect); err != nil {
		return err
	}
	got, err := c.read(ctx)
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case err != nil:
		return fmt.Errorf("%w, or hangs up on it without a reason: %w", errNot5, err)
	}
	ack, ok := got.Content.(*packets.Connack)
	switch {
	case !ok || ack.ReasonCode > 0 && ack.ReasonCode < 128 || ack.ReasonCode == 132:
		return errNot5 // as a broker of MQTT 3.1.1 refuses
	case ack.ReasonCode != 0:
		return c.reason("CONNACK", ack.ReasonCode, ack.Properties)
	}
	c.at.SessionPresent, c.at.Phase = ack.SessionPresent, uplink.Idle
	return nil
}

func (c *version5) subscribe(ctx context.Context, filter string) error {
	c.at.Phase, c.at.Topic = uplink.Subscribing, filter
	c.id++
	err := c.send(ctx, packets.SUBSCRIBE, &packets.Subscribe{PacketID: c.id, Properties: &packets.Properties{},
		Subscriptions: []packets.SubOptions{{Topic: filter, QoS: c.e.qos()}}})
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
			return c.reason("SUBACK", code, ack.Properties)
		}
	}
	return nil
}

func (c *version5) publish(ctx context.Context, topic string, retain bool) error {
	c.at.Phase, c.at.Topic = uplink.Publishing, topic
	c.id++
	err := c.send(ctx, packets.PUBLISH, &packets.Publish{PacketID: c.id, QoS: 1, Topic: topic, Retain: retain,
		Payload: c.e.payload("publish"), Properties: &packets.Properties{}})
	if err != nil {
		return err
	}
	got, err := c.await(ctx, packets.PUBACK, c.id)
	if err != nil {
		return err
	}
	if ack := got.Content.(*packets.Puback); ack.ReasonCode >= 128 {
		return c.reason("PUBACK", ack.ReasonCode, ack.Properties)
	}
	return nil
}

// reason is what a broker gave as its reason.
func (c *version5) reason(packet string, code byte, p *packets.Properties) error {
	r := &uplink.Reason{Packet: packet, Code: code}
	if p != nil {
		r.Text = p.ReasonString
	}
	return uplink.ExplainReason(r, c.at)
}

// await waits for a packet of a type with an identifier. Messages are passed over, and
// not acknowledged. A DISCONNECT is an error with its reason.
func (c *version5) await(ctx context.Context, kind byte, id uint16) (*packets.ControlPacket, error) {
	for {
		got, err := c.read(ctx)
		if err != nil {
			if ctx.Err() != nil {
				return nil, ctx.Err()
			}
			return nil, uplink.Explain(err, c.at)
		}
		if d, ok := got.Content.(*packets.Disconnect); ok {
			return nil, c.reason("DISCONNECT", d.ReasonCode, d.Properties)
		}
		if got.Type == kind && got.PacketID() == id {
			return got, nil
		}
	}
}

// send sends a packet, until ctx ends.
func (c *version5) send(ctx context.Context, kind byte, content packets.Packet) error {
	stop := c.until(ctx)
	defer stop()
	p := packets.NewControlPacket(kind)
	p.Content = content
	if publish, ok := content.(*packets.Publish); ok {
		p = publish.ToControlPacket()
	}
	_, err := p.WriteTo(c.conn)
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if err != nil {
		return uplink.Explain(err, c.at)
	}
	return nil
}

// until has the end of ctx end what the connection waits for.
func (c *version5) until(ctx context.Context) (stop func() bool) {
	return context.AfterFunc(ctx, func() { _ = c.conn.SetDeadline(time.Unix(1, 0)) })
}

// read reads a packet that is not too large. The parser is others', and what it reads
// may be hostile: where it panics the packet is not MQTT 5.
func (c *version5) read(ctx context.Context) (p *packets.ControlPacket, err error) {
	stop := c.until(ctx)
	defer stop()
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

// close ends the connection in order.
func (c *version5) close() {
	_ = c.conn.SetDeadline(time.Now().Add(time.Second))
	_, _ = (&packets.ControlPacket{FixedHeader: packets.FixedHeader{Type: packets.DISCONNECT}, Content: &packets.Disconnect{Properties: &packets.Properties{}}}).WriteTo(c.conn)
	c.probe.Close()
}
