package broker

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/mochi-mqtt/server/v2/packets"

	"fieldpost/daemon/awsiot"
)

// patience bounds what a broken broker can cost a test; no test waits it out.
const patience = 20 * time.Second

// start runs a broker until the end of the test, or until stop is called.
func start(t *testing.T, b *Broker) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- b.Run(ctx) }()
	stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("run: %v", err)
		}
	})
	t.Cleanup(stop)
	return stop
}

func open(t *testing.T, policy *awsiot.Policy) *Broker {
	t.Helper()
	b, err := New(Options{Dir: t.TempDir(), Policy: policy})
	if err != nil {
		t.Fatal(err)
	}
	start(t, b)
	return b
}

func policy(t *testing.T, statements string) *awsiot.Policy {
	t.Helper()
	p, err := awsiot.Parse([]byte(`{"Version":"2012-10-17","Statement":[` + statements + `]}`))
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// clientTLS is what a client makes of its three files.
func clientTLS(t *testing.T, files Files) *tls.Config {
	t.Helper()
	pair, err := tls.LoadX509KeyPair(files.Certificate, files.Key)
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(files.CA)
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(text) {
		t.Fatal("no root in the CA file")
	}
	return &tls.Config{RootCAs: roots, Certificates: []tls.Certificate{pair}, ServerName: "localhost"}
}

// client speaks MQTT packet by packet, so that a test sees each of them.
type client struct {
	t    *testing.T
	conn net.Conn
	in   *bufio.Reader

	version byte // of MQTT
}

func dial(t *testing.T, b *Broker) *client {
	t.Helper()
	config := clientTLS(t, b.Files())
	tick := time.NewTicker(5 * time.Millisecond) // a second Run has yet to listen
	defer tick.Stop()
	for range patience / (5 * time.Millisecond) {
		conn, err := tls.DialWithDialer(&net.Dialer{Timeout: patience}, "tcp", b.Addr(), config)
		if err == nil {
			return speak(t, conn)
		}
		if !errors.Is(err, syscall.ECONNREFUSED) {
			t.Fatal(err)
		}
		<-tick.C
	}
	t.Fatal("nobody listens")
	return nil
}

func speak(t *testing.T, conn net.Conn) *client {
	t.Helper()
	t.Cleanup(func() { _ = conn.Close() })
	if err := conn.SetDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	return &client{t: t, conn: conn, in: bufio.NewReader(conn), version: 4}
}

// send does not mind a connection that the broker has closed already.
func (c *client) send(pk packets.Packet) {
	c.t.Helper()
	if pk.ProtocolVersion == 0 {
		pk.ProtocolVersion = c.version
	}
	var buf bytes.Buffer
	var err error
	switch pk.FixedHeader.Type {
	case packets.Connect:
		err = pk.ConnectEncode(&buf)
	case packets.Publish:
		err = pk.PublishEncode(&buf)
	case packets.Puback:
		err = pk.PubackEncode(&buf)
	case packets.Subscribe:
		err = pk.SubscribeEncode(&buf)
	case packets.Unsubscribe:
		err = pk.UnsubscribeEncode(&buf)
	case packets.Pingreq:
		err = pk.PingreqEncode(&buf)
	case packets.Disconnect:
		err = pk.DisconnectEncode(&buf)
	}
	if err != nil {
		c.t.Fatal(err)
	}
	_, _ = c.conn.Write(buf.Bytes())
}

func (c *client) read() (pk packets.Packet, err error) {
	first, err := c.in.ReadByte()
	if err != nil {
		return pk, err
	}
	if err := pk.FixedHeader.Decode(first); err != nil {
		return pk, err
	}
	n, _, err := packets.DecodeLength(c.in)
	if err != nil {
		return pk, err
	}
	pk.FixedHeader.Remaining, pk.ProtocolVersion = n, c.version
	body := make([]byte, n)
	if _, err := io.ReadFull(c.in, body); err != nil {
		return pk, err
	}
	switch pk.FixedHeader.Type {
	case packets.Connack:
		err = pk.ConnackDecode(body)
	case packets.Publish:
		err = pk.PublishDecode(body)
	case packets.Puback:
		err = pk.PubackDecode(body)
	case packets.Suback:
		err = pk.SubackDecode(body)
	case packets.Unsuback:
		err = pk.UnsubackDecode(body)
	case packets.Disconnect:
		err = pk.DisconnectDecode(body)
	}
	return pk, err
}

// want reads the next packet, which must be of this type.
func (c *client) want(kind byte) packets.Packet {
	c.t.Helper()
	pk, err := c.read()
	if err != nil {
		c.t.Fatalf("waiting for %s: %v", packets.PacketNames[kind], err)
	}
	if pk.FixedHeader.Type != kind {
		c.t.Fatalf("got %s, want %s: %+v", packets.PacketNames[pk.FixedHeader.Type], packets.PacketNames[kind], pk)
	}
	return pk
}

// wantClosed sees the connection end without another packet.
func (c *client) wantClosed() {
	c.t.Helper()
	pk, err := c.read()
	if err == nil {
		c.t.Fatalf("want the connection closed, got %s %+v", packets.PacketNames[pk.FixedHeader.Type], pk)
	}
	if timeout, ok := err.(net.Error); ok && timeout.Timeout() {
		c.t.Fatal("the connection was not closed")
	}
}

// wantNothing sees that no other packet comes before the answer to a ping.
func (c *client) wantNothing() {
	c.t.Helper()
	c.send(packets.Packet{FixedHeader: packets.FixedHeader{Type: packets.Pingreq}})
	c.want(packets.Pingresp)
}

func hello(id string, clean bool) packets.Packet {
	return packets.Packet{
		FixedHeader: packets.FixedHeader{Type: packets.Connect},
		Connect:     packets.ConnectParams{ProtocolName: []byte("MQTT"), ClientIdentifier: id, Clean: clean, Keepalive: 30},
	}
}

// join connects, and expects to be let in.
func join(t *testing.T, b *Broker, id string, clean bool) *client {
	t.Helper()
	c := dial(t, b)
	c.send(hello(id, clean))
	if ack := c.want(packets.Connack); ack.ReasonCode != 0 {
		t.Fatalf("CONNACK with code %d", ack.ReasonCode)
	}
	return c
}

func publication(id uint16, topic, payload string) packets.Packet {
	pk := packets.Packet{FixedHeader: packets.FixedHeader{Type: packets.Publish}, TopicName: topic, Payload: []byte(payload), PacketID: id}
	if id != 0 {
		pk.FixedHeader.Qos = 1
	}
	return pk
}

func subscription(id uint16, filters ...string) packets.Packet {
	pk := packets.Packet{FixedHeader: packets.FixedHeader{Type: packets.Subscribe, Qos: 1}, PacketID: id}
	for _, f := range filters {
		pk.Filters = append(pk.Filters, packets.Subscription{Filter: f, Qos: 1})
	}
	return pk
}

// subscribe expects every filter to be granted with QoS 1.
func (c *client) subscribe(id uint16, filters ...string) {
	c.t.Helper()
	c.send(subscription(id, filters...))
	ack := c.want(packets.Suback)
	if ack.PacketID != id || len(ack.ReasonCodes) != len(filters) || bytes.Count(ack.ReasonCodes, []byte{1}) != len(filters) {
		c.t.Fatalf("SUBACK %d with codes %v, want %d with %d granted", ack.PacketID, ack.ReasonCodes, id, len(filters))
	}
}

// publish expects the PUBACK.
func (c *client) publish(id uint16, topic, payload string) {
	c.t.Helper()
	c.send(publication(id, topic, payload))
	if ack := c.want(packets.Puback); ack.PacketID != id {
		c.t.Fatalf("PUBACK for %d, want %d", ack.PacketID, id)
	}
}

// receive expects a message and acknowledges it.
func (c *client) receive(topic, payload string) packets.Packet {
	c.t.Helper()
	pk := c.want(packets.Publish)
	if pk.TopicName != topic || string(pk.Payload) != payload {
		c.t.Fatalf("got %q on %q, want %q on %q", pk.Payload, pk.TopicName, payload, topic)
	}
	if pk.FixedHeader.Qos > 0 {
		c.send(packets.Packet{FixedHeader: packets.FixedHeader{Type: packets.Puback}, PacketID: pk.PacketID})
	}
	return pk
}
