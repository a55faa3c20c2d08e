package uplink

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"fieldpost/daemon/certtest"

	"github.com/eclipse/paho.mqtt.golang/packets"
)

// broker is a fake broker. Each test sends its packets.
type broker struct {
	t      *testing.T
	ca     *certtest.Authority
	dir    string // ca.PEM, cert.pem, key.pem of the client
	tls    *tls.Config
	dialed chan net.Conn
}

const brokerName = "broker.test"

func newBroker(t *testing.T) *broker {
	t.Helper()
	ca := certtest.NewAuthority(t, "test root", nil)
	b := &broker{t: t, ca: ca, dir: t.TempDir(), dialed: make(chan net.Conn)}
	b.serve(ca.Issue(brokerName, nil))
	cert, key := ca.Issue("client", nil)
	put(t, b.file("ca.PEM"), ca.PEM)
	put(t, b.file("cert.pem"), cert)
	put(t, b.file("key.pem"), key)
	return b
}

// serve sets the broker's certificate.
func (b *broker) serve(cert, key []byte) {
	b.t.Helper()
	pair, err := tls.X509KeyPair(cert, key)
	must(b.t, err)
	clients := x509.NewCertPool()
	clients.AddCert(b.ca.Cert)
	b.tls = &tls.Config{Certificates: []tls.Certificate{pair}, ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: clients}
}

func (b *broker) file(name string) string { return filepath.Join(b.dir, name) }

// config returns a configuration for this broker.
func (b *broker) config() Config {
	return Config{
		Endpoint: brokerName + ":8883", ClientID: "board", Dial: b.dial, Outbox: NewQueue(),
		CA: b.file("ca.PEM"), Certificate: b.file("cert.pem"), Key: b.file("key.pem"),
	}
}

// dial is Config.Dial.
func (b *broker) dial(ctx context.Context, _, _ string) (net.Conn, error) {
	near, far := newPipe()
	select {
	case b.dialed <- far:
		return near, nil
	case <-ctx.Done():
		near.Close()
		far.Close()
		return nil, ctx.Err()
	}
}

// patience is how long a test waits for the link, in the bubble's time.
const patience = 3 * time.Hour

// raw waits for the next connection, before TLS.
func (b *broker) raw() net.Conn {
	b.t.Helper()
	select {
	case c := <-b.dialed:
		return c
	case <-time.After(patience):
		b.t.Fatal("no connection came")
		return nil
	}
}

// peer waits for the next connection and makes the TLS handshake.
func (b *broker) peer() *peer {
	b.t.Helper()
	c := tls.Server(b.raw(), b.tls)
	b.t.Cleanup(func() { c.NetConn().Close() })
	must(b.t, c.Handshake())
	return &peer{b.t, c}
}

// accept waits for the next connection and accepts its CONNECT.
func (b *broker) accept(session bool) *peer {
	b.t.Helper()
	p := b.peer()
	expect[*packets.ConnectPacket](p)
	p.connack(0, session)
	return p
}

// peer is the broker's end of one connection.
type peer struct {
	t    *testing.T
	conn *tls.Conn
}

// read returns the next packet. It answers pings itself.
func (p *peer) read() (packets.ControlPacket, error) { return p.readFor(patience) }

func (p *peer) readFor(d time.Duration) (packets.ControlPacket, error) {
	must(p.t, p.conn.SetReadDeadline(time.Now().Add(d)))
	for {
		cp, err := packets.ReadPacket(p.conn)
		if _, ping := cp.(*packets.PingreqPacket); err == nil && ping {
			// An error shows again at the next read.
			_ = packets.NewControlPacket(packets.Pingresp).Write(p.conn)
			continue
		}
		return cp, err
	}
}

// expect reads the next packet, which must be of this type.
func expect[P packets.ControlPacket](p *peer) P {
	p.t.Helper()
	cp, err := p.read()
	if err != nil {
		p.t.Fatalf("want a packet, the connection gave %v", err)
	}
	want, ok := cp.(P)
	if !ok {
		p.t.Fatalf("want a %T, got %v", want, cp)
	}
	return want
}

// quiet expects that only pings come for a while.
func (p *peer) quiet(d time.Duration) {
	p.t.Helper()
	cp, err := p.readFor(d)
	if !errors.Is(err, os.ErrDeadlineExceeded) {
		p.t.Fatalf("want silence, got %v, %v", cp, err)
	}
}

// gone expects that the other side ends the connection.
func (p *peer) gone() {
	p.t.Helper()
	cp, err := p.read()
	if err == nil {
		p.t.Fatalf("want the end of the connection, got %v", cp)
	}
	if errors.Is(err, os.ErrDeadlineExceeded) {
		p.t.Fatal("the connection did not end")
	}
	p.hangUp()
}

func (p *peer) send(cp packets.ControlPacket) {
	p.t.Helper()
	must(p.t, cp.Write(p.conn))
}

func (p *peer) connack(code byte, session bool) {
	p.t.Helper()
	c := packets.NewControlPacket(packets.Connack).(*packets.ConnackPacket)
	c.ReturnCode, c.SessionPresent = code, session
	p.send(c)
}

func (p *peer) suback(id uint16, codes ...byte) {
	p.t.Helper()
	s := packets.NewControlPacket(packets.Suback).(*packets.SubackPacket)
	s.MessageID, s.ReturnCodes = id, codes
	p.send(s)
}

// grant answers the SUBSCRIBE for filter.
func (p *peer) grant(filter string, code byte) {
	p.t.Helper()
	s := expect[*packets.SubscribePacket](p)
	if len(s.Topics) != 1 || s.Topics[0] != filter {
		p.t.Fatalf("subscribe: want %q, got %q", filter, s.Topics)
	}
	p.suback(s.MessageID, code)
}

func (p *peer) puback(id uint16) {
	p.t.Helper()
	a := packets.NewControlPacket(packets.Puback).(*packets.PubackPacket)
	a.MessageID = id
	p.send(a)
}

// publish sends a message to the link.
func (p *peer) publish(topic, payload string, qos byte, id uint16, retained bool) {
	p.t.Helper()
	m := packets.NewControlPacket(packets.Publish).(*packets.PublishPacket)
	m.TopicName, m.Payload, m.Qos, m.MessageID, m.Retain = topic, []byte(payload), qos, id, retained
	p.send(m)
}

// delivery expects a message from the link.
func (p *peer) delivery(topic, payload string) (id uint16) {
	p.t.Helper()
	m := expect[*packets.PublishPacket](p)
	if m.TopicName != topic || string(m.Payload) != payload || m.Qos != 1 {
		p.t.Fatalf("publish: want %q to %q at QoS 1, got %q to %q at QoS %d", payload, topic, m.Payload, m.TopicName, m.Qos)
	}
	return m.MessageID
}

// hangUp closes the connection without a reason.
func (p *peer) hangUp() { p.conn.NetConn().Close() }

// reset ends the connection as if data of the link were unread.
func (p *peer) reset() { p.conn.NetConn().(*pipe).reset() }

// running is a running link.
type running struct {
	*Link
	queue  *Queue
	cancel context.CancelFunc
	ended  chan error
}

// run starts a link with the shortest waits.
func run(t *testing.T, c Config) *running {
	t.Helper()
	return runWaiting(t, c, func(time.Duration) time.Duration { return 0 })
}

// runWaiting starts a link with waits chosen by random.
func runWaiting(t *testing.T, c Config, random func(below time.Duration) time.Duration) *running {
	t.Helper()
	l, err := New(c)
	must(t, err)
	l.backoff.random = random
	l.built = time.Time{}
	ctx, cancel := context.WithCancel(context.Background())
	queue, _ := c.Outbox.(*Queue)
	r := &running{Link: l, queue: queue, cancel: cancel, ended: make(chan error, 1)}
	go func() {
		r.ended <- l.Run(ctx)
		close(r.ended)
	}()
	t.Cleanup(func() { // for a test that ends early
		cancel()
		for range r.ended {
		}
	})
	return r
}

// end stops the link. Its peer, if not nil, closes the connection.
func (r *running) end(t *testing.T, p *peer) {
	t.Helper()
	if p != nil {
		p.hangUp()
	}
	r.cancel()
	select {
	case err := <-r.ended:
		must(t, err)
	case <-time.After(patience):
		t.Fatal("the link did not end")
	}
}

// code returns the code of the status's error.
func (r *running) code() string {
	var e *Explained
	if errors.As(r.Status().Err, &e) {
		return e.Code
	}
	return ""
}

// settled returns the result of a put message, or "" if it has none yet.
func settled(done <-chan error) string {
	select {
	case err := <-done:
		if err != nil {
			return err.Error()
		}
		return "acknowledged"
	default:
		return ""
	}
}
