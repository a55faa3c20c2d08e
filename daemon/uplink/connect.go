package uplink

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/url"
	"runtime/debug"
	"strings"
	"syscall"
	"time"

	mqtt "github.com/eclipse/paho.mqtt.golang"
)

const connectTimeout = 20 * time.Second // for DNS, TCP, TLS and the CONNACK together

// connect opens the connection, sends CONNECT and waits for the CONNACK.
func (c *connection) connect(ctx context.Context) (err error) {
	l := c.link
	l.refreshCredentials(ctx)
	if c.trial = l.trials.takeNext(); c.trial != nil {
		c.creds = c.trial.creds
	} else if c.creds, err = l.rotation.next(); err != nil {
		return err
	}
	c.withWill = l.cfg.Will != nil && l.will.useWill(time.Now())
	ctx, cancel := context.WithTimeout(ctx, connectTimeout)
	defer cancel()
	var opening error
	c.client = mqtt.NewClient(c.options(func() (net.Conn, error) {
		opening = errOurs
		l.others.Call("connection", func() { opening = c.open(ctx) })
		if opening != nil {
			return nil, opening
		}
		return c.transport, nil
	}))
	token := c.client.Connect()
	for !l.await(context.Background(), connectTimeout, token.Done(), nil) {
		// Everything that Connect waits for ends with ctx.
	}
	switch {
	case opening != nil:
		return opening
	case token.Error() != nil:
		if cause, _ := c.transport.endedBy(); cause != nil && !errors.Is(cause, net.ErrClosed) {
			return cause
		}
		return token.Error()
	}
	c.exchange.phase, c.sessionPresent = Idle, c.transport.reader.present
	l.session.connack(c.sessionPresent)
	if l.cfg.Will != nil && l.will.accepted(c.withWill, time.Now()) {
		l.cfg.Log.Warn("broker refuses our will; connected without one", "client_id", l.cfg.ClientID)
	}
	switch {
	case c.trial == nil:
		l.rotation.accepted(c.creds)
	case !c.trial.acknowledged:
		c.passTrial()
	}
	return nil
}

// options configures the protocol client so that it does as little as possible.
func (c *connection) options(open func() (net.Conn, error)) *mqtt.ClientOptions {
	cfg, others := &c.link.cfg, c.link.others // of this Run: the client may call after its end
	o := mqtt.NewClientOptions().
		AddBroker("tcp://broker"). // never used
		SetCustomOpenConnectionFn(func(*url.URL, mqtt.ClientOptions) (net.Conn, error) { return open() }).
		SetProtocolVersion(4).
		SetClientID(cfg.ClientID).
		SetCleanSession(cfg.Clean).
		SetStore(mqtt.NewMemoryStore()).
		SetAutoReconnect(false).
		SetConnectRetry(false).
		SetConnectTimeout(connectTimeout).
		SetKeepAlive(0). // it must not ping; see transport.keepAlive
		SetWriteTimeout(writeTimeout).
		SetOrderMatters(true).
		SetConnectionLostHandler(func(mqtt.Client, error) { others.Call("lost connection", func() { close(c.lost) }) })
	if cfg.Username != "" {
		o.SetUsername(cfg.Username).SetPassword(string(c.creds.password))
	}
	if c.withWill {
		o.SetBinaryWill(cfg.Will.Topic, cfg.Will.Payload, 1, false)
	}
	return o
}

// open makes the TCP and TLS connection. Until the CONNACK has come, the end of ctx ends the
// connection. The protocol client's goroutine calls it, while Run's goroutine waits.
func (c *connection) open(ctx context.Context) error {
	l := c.link
	c.exchange.phase = Dialing
	raw, err := c.dial(ctx)
	if err != nil {
		return err
	}
	c.exchange.phase = Handshaking
	conf := tlsConfig(c.creds, l.at.ServerName(), l.cfg.protocols(l.at.Port), later(time.Now(), l.built), &c.certificateAsked)
	probe := l.attempts.resets == 2
	if probe {
		// With TLS 1.3 the alert about our certificate can be lost in a reset; with 1.2
		// it comes within the handshake. So ask once with 1.2.
		conf.MaxVersion = tls.VersionTLS12
	}
	secure := tls.Client(raw, conf)
	if err := secure.HandshakeContext(ctx); err != nil {
		raw.Close()
		if probe && isAlert(err) && strings.Contains(err.Error(), "protocol version") {
			c.exchange.phase = Connecting // the broker accepts only TLS 1.3: nothing new is known
			err = fmt.Errorf("asked again with TLS 1.2 (%v): %w", err, syscall.ECONNRESET)
		}
		return err
	}
	c.exchange.phase = Connecting
	t := newTransport(raw, secure)
	t.others, t.keepAlive = l.others, uint16(l.cfg.KeepAlive/time.Second)
	t.reader.maxPayload.Store(int64(l.cfg.MaxPayload))
	t.reader.deliver = c.receiver.receive
	stop := context.AfterFunc(ctx, func() { t.fail(context.Cause(ctx)) })
	t.reader.accepted = func() { stop() }
	c.use(t)
	return nil
}

// dial resolves the name and opens the TCP connection.
func (c *connection) dial(ctx context.Context) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, c.link.backoff.dialTimeout())
	defer cancel()
	return c.link.cfg.Access.Dial(ctx, c.link.cfg.Endpoint, c.link.cfg.Dial)
}

// alpn is the protocol name that AWS IoT Core requires on port 443 (page "Device
// communication protocols").
const alpn = "x-amzn-mqtt-ca"

// tlsConfig returns the TLS configuration of one connection. The certificate is sent whatever
// authorities the broker lists, so that it is the broker who says what is wrong with it.
// asked is set when the broker has asked for the certificate.
func tlsConfig(c *credentials, name string, protocols []string, now time.Time, asked *bool) *tls.Config {
	conf := &tls.Config{
		MinVersion: tls.VersionTLS12,
		ServerName: name,
		RootCAs:    c.roots,
		Time:       func() time.Time { return now },
		GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
			*asked = true
			return &c.pair, nil // empty where there is none
		},
	}
	conf.NextProtos = protocols
	return conf
}

// BuildTime is the time when the program was built, as RFC 3339, set by the linker:
//
//	-ldflags "-X fieldpost/daemon/uplink.BuildTime=2026-11-21T19:02:11Z"
//
// If it is empty, the time of the commit is used. The current time cannot be earlier, so a
// board whose clock has not been set yet uses it to verify the broker's certificate.
var BuildTime string

// builtAt returns BuildTime or the time of the commit; zero if both are unknown.
func builtAt() time.Time {
	if t, err := time.Parse(time.RFC3339, BuildTime); err == nil {
		return t
	}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return time.Time{}
	}
	for _, s := range info.Settings {
		if s.Key == "vcs.time" {
			t, _ := time.Parse(time.RFC3339, s.Value) // zero when it is not one
			return t
		}
	}
	return time.Time{}
}

// later returns the later of two times.
func later(a, b time.Time) time.Time {
	if a.Before(b) {
		return b
	}
	return a
}
