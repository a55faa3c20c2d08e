package uplink

import (
	"bufio"
	"context"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"sync"
	"time"

	"fieldpost/daemon/endpoint"
	"fieldpost/daemon/regular"
)

// ProbeConfig says how a [Probe] connects.
type ProbeConfig struct {
	Endpoint             string // as [endpoint.Parse] reads it; port 443 uses ALPN x-amzn-mqtt-ca
	ClientID             string
	CA, Certificate, Key string        // PEM files; no certificate if Certificate and Key are ""
	Access                             // what some brokers require in addition
	KeepAlive            time.Duration // 0 is 30 s
	Clean                bool          // a clean session
	Will                 *Publication  // nil is none
	MinTLS, MaxTLS       uint16        // as in [tls.Config]; 0 is TLS 1.2 for MinTLS and the newest for MaxTLS
	// Repeated says that an earlier attempt has ended in the same way, so it is not chance.
	// WithoutWill says that a CONNECT without a will was refused too.
	Repeated, WithoutWill bool
	// Dial opens the TCP connection; nil is the operating system's. For tests.
	Dial func(ctx context.Context, network, address string) (net.Conn, error)

	creds *credentials // used instead of the files
}

// Probe is a single connection to examine a broker, one step at a time: Dial, Handshake,
// Connect, and then what the caller wants. Unlike a [Link] it does nothing on its own and
// retries nothing. It never acknowledges a message, so everything that a session stores for
// the daemon stays there.
//
// Each step ends when its context does. Its error is an [*Explained]. Only one goroutine may
// use a Probe. It must always be closed.
type Probe struct {
	cfg      ProbeConfig
	at       endpoint.Endpoint
	raw      net.Conn
	tls      *tls.Conn
	asked    bool // the broker asked for our certificate
	password []byte
	phase    Phase
	topic    string
	present  bool
	ids      packetIDs
	reader   packetReader

	reading  sync.WaitGroup
	packets  chan []byte // except PUBLISH
	messages chan Message
	closing  chan struct{} // closed by Close
	ended    chan struct{} // closed when the reader has ended
	cause    error         // what ended it; valid once ended is closed
}

// NewProbe checks the endpoint and returns a Probe that is not connected.
func NewProbe(c ProbeConfig) (*Probe, error) {
	at, err := endpoint.Parse(c.Endpoint)
	if err != nil {
		return nil, fmt.Errorf("endpoint %q: %w", c.Endpoint, err)
	}
	if c.KeepAlive == 0 {
		c.KeepAlive = defaultKeepAlive
	}
	if c.Dial == nil {
		c.Dial = dialTCP
	}
	return &Probe{
		cfg: c, at: at,
		packets: make(chan []byte, 16), messages: make(chan Message, 16),
		closing: make(chan struct{}), ended: make(chan struct{}),
	}, nil
}

// Dial resolves the name and opens the TCP connection.
func (p *Probe) Dial(ctx context.Context) error {
	p.phase = Dialing
	var err error
	p.raw, err = p.cfg.Access.Dial(ctx, p.at.String(), p.cfg.Dial)
	return p.explain(err)
}

// Inferred reports whether the meaning of an error is a conclusion, because the other side
// hung up without a reason.
func Inferred(err error) bool { return err != nil && endedByPeer(err) }

// Endpoint returns the host:port that the probe connects to.
func (p *Probe) Endpoint() string { return p.at.String() }

// Remote returns the address that answered, after Dial.
func (p *Probe) Remote() string { return p.raw.RemoteAddr().String() }

// Handshake does the TLS handshake, after Dial. It sends the name of the endpoint (SNI),
// unless that is an address.
func (p *Probe) Handshake(ctx context.Context) (tls.ConnectionState, error) {
	p.phase = Handshaking
	creds := p.cfg.creds
	if creds == nil {
		var problems []Problem
		if creds, problems = readPEMs(CredentialFilesConfig{CA: p.cfg.CA, Certificate: p.cfg.Certificate, Key: p.cfg.Key, Password: p.cfg.PasswordFile, Read: regular.Read}).parse(); len(problems) > 0 {
			first := problems[0]
			return tls.ConnectionState{}, &Explained{Code: first.Code, What: first.File + ": " + first.What, Hint: first.Do}
		}
	}
	p.password = creds.password
	conf := tlsConfig(creds, p.at.ServerName(), p.cfg.protocols(p.at.Port), later(time.Now(), builtAt()), &p.asked)
	conf.MinVersion, conf.MaxVersion = max(conf.MinVersion, p.cfg.MinTLS), p.cfg.MaxTLS
	p.tls = tls.Client(p.raw, conf)
	if err := p.tls.HandshakeContext(ctx); err != nil {
		return tls.ConnectionState{}, p.explain(err)
	}
	p.phase = Connecting
	return p.tls.ConnectionState(), nil
}

// Password returns the password for the user name, after Handshake; nil is none.
func (p *Probe) Password() []byte { return p.password }

// Conn returns the TLS connection, after Handshake, for a caller that uses another version of
// MQTT. Such a caller does not call Connect.
func (p *Probe) Conn() net.Conn { return p.tls }

// Explain explains an error of Conn.
func (p *Probe) Explain(err error) error { return p.explain(err) }

// Connect sends CONNECT, after Handshake, and waits for the CONNACK. present says that the
// broker had a session for this client id.
func (p *Probe) Connect(ctx context.Context) (present bool, err error) {
	p.phase = Connecting
	p.reader.r = bufio.NewReaderSize(p.tls, 2048)
	p.reader.maxPayload.Store(truncatedBytes)
	p.reader.accepted = func() {}
	p.reader.deliver = p.deliver
	p.reading.Go(p.read)
	if err := p.write(ctx, appendConnect(nil, p.cfg, p.password)); err != nil {
		return false, p.explain(err)
	}
	packet, err := p.await(ctx, connack)
	if err != nil {
		return false, p.explain(err)
	}
	// From the packet, because the reader may set its own copy while a write fails here.
	p.present = packet[len(packet)-2]&1 != 0
	p.phase = Idle
	return p.present, nil
}

// Subscribe makes a subscription. It is an error if the SUBACK refuses it.
func (p *Probe) Subscribe(ctx context.Context, s Subscription) error {
	p.phase, p.topic = Subscribing, s.Filter
	p.reader.subscribing.Store(true)
	defer p.reader.subscribing.Store(false)
	packet, err := p.ask(ctx, appendSubscribe(nil, p.ids.next(), s), suback)
	switch {
	case errors.Is(err, context.DeadlineExceeded):
		return p.explain(errNoSuback)
	case err != nil:
		return p.explain(err)
	case packet[len(packet)-1] > 1:
		e := subscribeDenied(s.Filter)
		e.Err = fmt.Errorf("suback code %#x", packet[len(packet)-1])
		return e
	}
	p.phase = Idle
	return nil
}

// Unsubscribe ends a subscription.
func (p *Probe) Unsubscribe(ctx context.Context, filter string) error {
	p.phase, p.topic = Unsubscribing, filter
	p.reader.subscribing.Store(true)
	defer p.reader.subscribing.Store(false)
	if _, err := p.ask(ctx, appendUnsubscribe(nil, p.ids.next(), filter), unsuback); err != nil {
		return p.explain(err)
	}
	p.phase = Idle
	return nil
}

// Publish publishes at QoS 1, retained or not, and waits for the PUBACK.
func (p *Probe) Publish(ctx context.Context, topic string, payload []byte, retain bool) error {
	p.phase, p.topic = Publishing, topic
	packet := appendPublish(nil, p.ids.next(), topic, payload)
	if retain {
		packet[0] |= retainFlag
	}
	_, err := p.ask(ctx, packet, puback)
	switch {
	case errors.Is(err, context.DeadlineExceeded):
		return p.explain(errNoAck)
	case err != nil:
		return p.explain(err)
	}
	p.phase = Idle
	return nil
}

// Send publishes at QoS 0, retained or not. There is no answer. A Ping afterwards shows
// whether the connection is still up; many brokers close it if they deny the message.
func (p *Probe) Send(ctx context.Context, topic string, payload []byte, retain bool) error {
	p.phase, p.topic = Publishing, topic
	body := append(appendField(nil, topic), payload...)
	packet := binary.AppendUvarint([]byte{3 << 4}, uint64(len(body)))
	if retain {
		packet[0] |= retainFlag
	}
	return p.explain(p.write(ctx, append(packet, body...)))
}

// Receive waits for a message that want accepts, and ignores others.
func (p *Probe) Receive(ctx context.Context, want func(Message) bool) error {
	for {
		select {
		case m := <-p.messages:
			if want(m) {
				return nil
			}
		case <-p.ended:
			return p.explain(p.cause)
		case <-ctx.Done():
			return p.explain(ctx.Err())
		}
	}
}

// Ping sends a PINGREQ and waits for the PINGRESP.
func (p *Probe) Ping(ctx context.Context) error {
	_, err := p.ask(ctx, pingreqPacket, pingresp)
	if errors.Is(err, context.DeadlineExceeded) {
		err = errNoPing
	}
	return p.explain(err)
}

// Ended returns a channel that is closed when the connection has ended, after a successful
// Connect. Err returns why.
func (p *Probe) Ended() <-chan struct{} { return p.ended }

// Err returns what ended the connection, once Ended is closed.
func (p *Probe) Err() error { return p.explain(p.cause) }

// Close ends the connection, in order if it is still open, and waits for its goroutine.
func (p *Probe) Close() {
	if p.raw == nil {
		return
	}
	if p.phase >= Subscribing {
		_ = p.raw.SetDeadline(time.Now().Add(time.Second))
		_, _ = p.tls.Write([]byte{disconnect << 4, 0}) // the connection is closed either way
	}
	close(p.closing)
	p.raw.Close()
	p.reading.Wait()
	p.raw = nil
}

func (p *Probe) explain(err error) error {
	if err == nil {
		return nil
	}
	return Explain(err, Disconnect{
		Phase: p.phase, Endpoint: p.at.String(), ClientID: p.cfg.ClientID, Topic: p.topic, Now: later(time.Now(), builtAt()),
		Repeated: p.cfg.Repeated, SessionPresent: p.present, Will: p.cfg.Will != nil, WithoutWill: p.cfg.WithoutWill,
		Persistent: !p.cfg.Clean, Username: p.cfg.Username, CertificateNotAsked: !p.asked,
	})
}

// ask sends a packet and waits for an answer of this type.
func (p *Probe) ask(ctx context.Context, packet []byte, kind byte) ([]byte, error) {
	if err := p.write(ctx, packet); err != nil {
		return nil, err
	}
	return p.await(ctx, kind)
}

func (p *Probe) write(ctx context.Context, packet []byte) error {
	limit := time.Now().Add(writeTimeout)
	if d, ok := ctx.Deadline(); ok && d.Before(limit) {
		limit = d
	}
	if err := p.tls.SetWriteDeadline(limit); err != nil {
		return err
	}
	raw := p.raw // Close may forget it while the function below begins
	stop := context.AfterFunc(ctx, func() { raw.Close() })
	defer stop()
	_, err := p.tls.Write(packet)
	switch {
	case err == nil:
		return nil
	case ctx.Err() != nil:
		return ctx.Err()
	case endedByPeer(err): // the reader reports what the peer said before that
		timer := time.NewTimer(time.Second)
		defer timer.Stop()
		select {
		case <-p.ended:
			return p.cause
		case <-timer.C:
		case <-ctx.Done():
		}
	}
	return err
}

// await waits for a packet of this type. It ignores others, which are late answers to earlier
// steps.
func (p *Probe) await(ctx context.Context, kind byte) ([]byte, error) {
	for {
		select {
		case packet := <-p.packets:
			if packet[0]>>4 == kind {
				return packet, nil
			}
		case <-p.ended:
			for len(p.packets) > 0 { // packets that came before the end
				if packet := <-p.packets; packet[0]>>4 == kind {
					return packet, nil
				}
			}
			return nil, p.cause
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// read reads packets until the connection ends.
func (p *Probe) read() {
	defer close(p.ended)
	for {
		packet, err := p.reader.readPacket()
		if err != nil {
			p.cause = err
			return
		}
		if packet == nil {
			continue
		}
		select {
		case p.packets <- append([]byte(nil), packet...):
		case <-p.closing:
			p.cause = net.ErrClosed
			return
		}
	}
}

// deliver keeps a message for Receive if there is room.
func (p *Probe) deliver(m *publishPacket) {
	select {
	case p.messages <- Message{Topic: m.topic, Payload: m.payload, Size: m.size, QoS: m.qos, Retained: m.retained, Ack: func() {}, Lost: func() bool { return true }}:
	default:
	}
}

// appendConnect appends a CONNECT packet (section 3.1).
func appendConnect(b []byte, c ProbeConfig, password []byte) []byte {
	body := []byte("\x00\x04MQTT\x04\x00")
	if c.Clean {
		body[7] |= 1 << 1
	}
	body = binary.BigEndian.AppendUint16(body, uint16(c.KeepAlive/time.Second))
	body = appendField(body, c.ClientID)
	if c.Will != nil {
		body[7] |= 1<<2 | 1<<3
		body = appendField(body, c.Will.Topic)
		body = appendField(body, string(c.Will.Payload))
	}
	if c.Username != "" {
		body[7] |= 1 << 7
		body = appendField(body, c.Username)
		if len(password) > 0 {
			body[7] |= 1 << 6
			body = appendField(body, string(password))
		}
	}
	b = append(b, 1<<4)
	b = binary.AppendUvarint(b, uint64(len(body)))
	return append(b, body...)
}

// appendField appends a string with its length (section 1.5.3).
func appendField(b []byte, s string) []byte {
	b = binary.BigEndian.AppendUint16(b, uint16(len(s)))
	return append(b, s...)
}
