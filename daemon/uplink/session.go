package uplink

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/url"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	mqtt "github.com/eclipse/paho.mqtt.golang"
)

const (
	connectTimeout = 20 * time.Second // name, TCP, TLS and CONNACK together
	ackTimeout     = 30 * time.Second
	pingTimeout    = 10 * time.Second
)

// session is one connection attempt and what comes of it. It has a protocol
// client of its own, which is thrown away with it.
type session struct {
	l      *Link
	client mqtt.Client
	creds  *credentials
	conn   *conn         // set while connecting
	lost   chan struct{} // closed when the client has ended all of its own, after a loss

	will    bool // the CONNECT has one
	shown   bool // the broker has asked for our certificate
	phase   Phase
	subject string // the filter being subscribed to
	present bool   // session present, in the CONNACK
	up      time.Time
	window  []flight // in flight, in the order sent
	transit transit
	head    *Publication // taken from the outbox; it waits to be sent
	out     []byte       // published, and not yet written
	packet  uint16       // the packet identifier last used
	parting uint16       // that of the farewell, until its PUBACK has come
	again   bool         // another connection is asked for
	trial   bool         // what is in flight tries a held topic, alone
	sent    bool
	asked   time.Time // the last SUBSCRIBE or PUBLISH
	second  second
	hearing hearing
	probing bool      // the SUBSCRIBE under way is for that, and its denial is no matter
	pinged  time.Time // when we last pinged, beside the protocol client, or first since something came
	acked   uint64

	subscribed atomic.Bool // a SUBSCRIBE was sent
	resumed    atomic.Bool // a message came that only a session of before can have brought
}

// run makes the connection and keeps it until it ends or ctx does. It gives
// what ended it.
func (s *session) run(ctx context.Context) error {
	if err := s.connect(ctx); err != nil {
		return err
	}
	defer s.l.inbound.discard()
	if err := s.subscribe(ctx, s.l.filters.wanted(s.l.cfg.Subscriptions, time.Now(), false)); err != nil {
		return s.finish(err)
	}
	if ctx.Err() == nil {
		s.stand()
		if err := s.giveUp(ctx); err != nil {
			return s.finish(err)
		}
		s.flow(ctx)
	}
	if ctx.Err() != nil && !s.conn.over() {
		s.leave()
		return nil
	}
	if s.again && !s.conn.over() {
		s.part()
		return errAgain
	}
	return s.finish(nil)
}

// connect opens the connection and awaits the CONNACK.
func (s *session) connect(ctx context.Context) (err error) {
	s.l.freshen(ctx)
	s.creds, err = s.l.keys.pick()
	if err != nil {
		return err
	}
	s.will = s.l.cfg.Will != nil && s.l.wills.wanted(time.Now())
	ctx, cancel := context.WithTimeout(ctx, connectTimeout)
	defer cancel()
	var opening error
	s.client = mqtt.NewClient(s.options(func() (net.Conn, error) {
		s.conn, opening = s.open(ctx)
		if opening != nil {
			return nil, opening
		}
		return s.conn, nil
	}))
	token := s.client.Connect()
	for !s.l.await(context.Background(), connectTimeout, token.Done(), nil) {
		// Everything that Connect waits for ends with ctx.
	}
	switch {
	case opening != nil:
		return opening
	case token.Error() != nil:
		if cause, _ := s.conn.end(); cause != nil && !errors.Is(cause, net.ErrClosed) {
			return cause
		}
		return token.Error()
	}
	s.phase, s.present = Idle, s.conn.guard.session
	s.l.memory.said(s.present)
	if s.l.cfg.Will != nil && s.l.wills.taken(s.will, time.Now()) {
		s.l.cfg.Log.Warn("broker takes no will of ours, and the link goes on without", "client_id", s.l.cfg.ClientID)
	}
	s.l.keys.reached(s.creds)
	return nil
}

// options sets the protocol client up to do as little by itself as possible.
func (s *session) options(open func() (net.Conn, error)) *mqtt.ClientOptions {
	c := &s.l.cfg
	o := mqtt.NewClientOptions().
		AddBroker("tcp://broker"). // never looked at
		SetCustomOpenConnectionFn(func(*url.URL, mqtt.ClientOptions) (net.Conn, error) { return open() }).
		SetProtocolVersion(4).
		SetClientID(c.ClientID).
		SetCleanSession(c.Clean).
		SetStore(mqtt.NewMemoryStore()).
		SetAutoReconnect(false).
		SetConnectRetry(false).
		SetConnectTimeout(connectTimeout).
		SetKeepAlive(c.KeepAlive).
		SetPingTimeout(pingTimeout).
		SetWriteTimeout(writeTimeout).
		SetOrderMatters(true).
		SetConnectionLostHandler(func(mqtt.Client, error) { close(s.lost) })
	if s.will {
		o.SetBinaryWill(c.Will.Topic, c.Will.Payload, 1, false)
	}
	return o
}

// open makes the TCP and TLS connection. From then on the end of ctx ends it,
// until the CONNACK has come.
func (s *session) open(ctx context.Context) (*conn, error) {
	l := s.l
	s.phase = Dialing
	raw, err := l.cfg.Dial(ctx, "tcp", l.cfg.Endpoint)
	if err != nil {
		return nil, err
	}
	s.phase = Handshaking
	conf := tlsConfig(s.creds, l.at.ServerName(), l.at.Port, later(time.Now(), l.built), &s.shown)
	probe := l.resets == 2
	if probe {
		// With TLS 1.3 the alert about our certificate can be lost in a reset;
		// with 1.2 it comes within the handshake. So ask once with 1.2.
		conf.MaxVersion = tls.VersionTLS12
	}
	secure := tls.Client(raw, conf)
	if err := secure.HandshakeContext(ctx); err != nil {
		raw.Close()
		if probe && isAlert(err) && strings.Contains(err.Error(), "protocol version") {
			s.phase = Connecting // it takes TLS 1.3 only: nothing new has been learnt
			err = fmt.Errorf("asked again with TLS 1.2 (%v): %w", err, syscall.ECONNRESET)
		}
		return nil, err
	}
	s.phase = Connecting
	c := newConn(raw, secure)
	c.guard.limit, c.guard.deliver = l.cfg.MaxPayload, s.receive
	stop := context.AfterFunc(ctx, func() { c.fail(context.Cause(ctx)) })
	c.guard.accepted = func() { stop() }
	return c, nil
}

// stand says that the link stands.
func (s *session) stand() {
	l := s.l
	s.up = time.Now()
	s.recall()
	lost, doubtful := l.memory.stood()
	if l.cfg.Clean || len(l.cfg.Subscriptions) == 0 { // nothing is kept that could be lost
		lost, doubtful = 0, false
	}
	l.update(func(st *Status) {
		st.Connected, st.Attempts, st.SessionPresent = true, 0, s.present
		st.Err, st.Denied = l.amiss(), l.filters.bans.names()
		st.SessionsLost += uint64(lost)
	})
	l.told = ""
	l.cfg.Log.Info("link stands", "endpoint", l.cfg.Endpoint, "client_id", l.cfg.ClientID, "session_present", s.present)
	l.answer()
	switch {
	case lost > 0:
		l.cfg.Log.Warn("broker has forgotten our session; orders it kept for us may be lost")
	case doubtful:
		l.cfg.Log.Warn("broker says that it has no session of ours, and has never said that it has one; orders it kept for us are lost unless it keeps sessions without saying so")
	}
}

// recall notes what has come of a session of before. It may come after the SUBACK,
// by the protocol client's own way.
func (s *session) recall() {
	if s.resumed.Load() {
		s.l.memory.resumed()
	}
}

// finish ends a session that has failed, with err unless the connection has
// its own reason, and waits until the client has ended all of its own.
func (s *session) finish(err error) error {
	if err != nil {
		s.conn.fail(err)
	}
	if !s.l.await(context.Background(), pingTimeout, s.lost, nil) {
		s.client.Disconnect(0)
	}
	s.collect()
	s.recall()
	cause, _ := s.conn.end()
	if errors.Is(cause, net.ErrClosed) {
		cause = errNoPing // the client closes by itself only then
	}
	return cause
}

// remote reports whether the other side ended the connection.
func (s *session) remote() bool {
	if s.conn == nil {
		return false
	}
	_, remote := s.conn.end()
	return remote
}
