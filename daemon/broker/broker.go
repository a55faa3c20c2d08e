package broker

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"time"

	mqtt "github.com/mochi-mqtt/server/v2"
	"github.com/mochi-mqtt/server/v2/packets"

	"fieldpost/daemon/awsiot"
)

// The MQTT library builds a table for its own tests whenever a program starts, 0.4 MB, and the
// daemon's program has this package. Nothing else uses the table, so the memory is given back.
func init() { packets.TPacketData = nil }

// greeting is how long a client may take for its TLS handshake, and again for its CONNECT.
const greeting = 10 * time.Second

// Options say where a broker listens and what it allows.
type Options struct {
	Listen string         // host:port; "" is 127.0.0.1:0, a free port
	Dir    string         // of the certificates; see [Certificates]
	Policy *awsiot.Policy // nil allows everything, within AWS's limits
	// Devices is a JSON file of client certificates with policies and a thing of their own;
	// Policy is that of every other certificate. "" is none.
	Devices string
	// AckDenied acknowledges and discards a denied PUBLISH, and answers a denied SUBSCRIBE
	// with 0x80, like mosquitto. AWS IoT Core closes the connection.
	AckDenied bool
	// Rates applies the limits of AWS IoT Core that depend on time: [awsiot.PublishRate],
	// [awsiot.Throughput], [awsiot.StoredRate] and [awsiot.ConnectEvery].
	Rates bool
	// SessionExpiry is how long a session outlives its connection; 0 is [awsiot.SessionExpiry].
	SessionExpiry time.Duration
	// Silent does not log refusals.
	Silent bool
	// Provisioning provisions devices by claim; nil does not. The claim certificate and its
	// key are in Dir; see [ClaimFiles].
	Provisioning *Provisioning
	Log          *slog.Logger // nil discards

	now       func() time.Time                                 // for tests; nil is time.Now
	nap       func(ctx context.Context, d time.Duration) error // for tests; nil waits
	authority *authority                                       // of Provisioning
}

// Broker is an MQTT broker. Make it with [New].
type Broker struct {
	files   Files
	devices []Device
	rules   *rules
	addr    string
	tls     *tls.Config
	server  *mqtt.Server
	log     *slog.Logger

	authority *authority // nil: devices are not provisioned

	mu       sync.Mutex
	running  bool
	listener net.Listener // opened by New for the first Run
}

// New creates missing certificates and opens the listening socket, so that Addr is known.
// Clients are served once Run is called.
func New(o Options) (*Broker, error) {
	o.fill()
	files, err := Certificates(o.Dir, hostsFor(o.Listen)...)
	if err != nil {
		return nil, fmt.Errorf("start broker: %w", err)
	}
	config, err := serverTLS(files)
	if err != nil {
		return nil, fmt.Errorf("start broker: %w", err)
	}
	if o.Provisioning != nil {
		if o.authority, err = newAuthority(*o.Provisioning, files, o.now); err != nil {
			return nil, fmt.Errorf("start broker: %w", err)
		}
	}
	var devices []Device
	if o.Devices != "" {
		if devices, err = readDevices(o.Devices, files); err != nil {
			return nil, fmt.Errorf("start broker: %w", err)
		}
	}
	server, rules, err := newServer(o, newRegistry(devices, o.Policy))
	if err != nil {
		return nil, fmt.Errorf("start broker: %w", err)
	}
	listener, err := net.Listen("tcp", o.Listen)
	if err != nil {
		return nil, fmt.Errorf("start broker: %w", err)
	}
	return &Broker{files: files, devices: devices, rules: rules, addr: listener.Addr().String(), tls: config, server: server, authority: o.authority, log: o.Log, listener: listener}, nil
}

// fill fills in what is left empty.
func (o *Options) fill() {
	if o.Listen == "" {
		o.Listen = "127.0.0.1:0"
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.SessionExpiry == 0 {
		o.SessionExpiry = awsiot.SessionExpiry
	}
	if o.now == nil {
		o.now = time.Now
	}
	if o.nap == nil {
		o.nap = nap
	}
}

// serverTLS asks every client for a certificate of our CA.
func serverTLS(files Files) (*tls.Config, error) {
	pair, err := tls.LoadX509KeyPair(files.ServerCertificate, files.ServerKey)
	if err != nil {
		return nil, fmt.Errorf("read %q: %w", files.ServerCertificate, err)
	}
	ca, err := readCertificate(files.CA)
	if err != nil {
		return nil, err
	}
	roots := x509.NewCertPool()
	roots.AddCert(ca)
	return &tls.Config{
		MinVersion:   tls.VersionTLS12,
		Certificates: []tls.Certificate{pair},
		ClientAuth:   tls.RequireAndVerifyClientCert,
		ClientCAs:    roots,
		NextProtos:   []string{"x-amzn-mqtt-ca"}, // which AWS wants on port 443
		Time:         func() time.Time { return notBefore(time.Now()) },
	}, nil
}

// Addr returns the host:port where the broker listens or will listen.
func (b *Broker) Addr() string { return b.addr }

// Files returns the certificates' files. A client needs CA, Certificate and Key.
func (b *Broker) Files() Files { return b.files }

// Deactivate has no client with the certificate accepted any more, as the status INACTIVE
// does in AWS IoT; connections that are open stay. It is for brokers that provision
// devices. Any goroutine.
func (b *Broker) Deactivate(c *x509.Certificate) { b.authority.deactivate(idOf(c.Raw)) }

// Devices returns the certificates that have policies of their own, sorted by name.
func (b *Broker) Devices() []Device { return b.devices }

// Run serves until ctx is cancelled. Then it drops every connection without a DISCONNECT, like a
// killed broker. After it has returned it may be called again: it then listens on the same
// address and still has its persistent sessions and retained messages. For a broker that has
// lost them, make a new one on the same address.
func (b *Broker) Run(ctx context.Context) error {
	listener, err := b.begin()
	if err != nil {
		return fmt.Errorf("run broker: %w", err)
	}
	defer b.end()
	stop := context.AfterFunc(ctx, func() { _ = listener.Close() })
	defer stop()
	defer listener.Close()

	b.log.Info("broker listening", "address", b.addr)
	serving, cancel := context.WithCancel(ctx)
	var clients sync.WaitGroup
	defer clients.Wait()
	defer cancel()
	for {
		conn, err := listener.Accept()
		switch {
		case ctx.Err() != nil:
			if err == nil {
				_ = conn.Close()
			}
			return nil
		case err != nil:
			return fmt.Errorf("run broker: %w", err)
		}
		clients.Go(func() { b.serve(serving, conn) })
	}
}

func (b *Broker) begin() (net.Listener, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.running {
		return nil, errors.New("it is running already")
	}
	listener := b.listener
	b.listener = nil
	if listener == nil {
		var err error
		if listener, err = net.Listen("tcp", b.addr); err != nil {
			return nil, err
		}
	}
	b.running = true
	return listener, nil
}

func (b *Broker) end() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.running = false
}

// serve serves one connection until it ends or Run does.
func (b *Broker) serve(ctx context.Context, raw net.Conn) {
	stop := context.AfterFunc(ctx, func() { _ = raw.Close() })
	defer stop()
	defer raw.Close()

	conn := tls.Server(raw, b.tls)
	greeted, cancel := context.WithTimeout(ctx, greeting)
	defer cancel()
	if err := conn.HandshakeContext(greeted); err != nil {
		if ctx.Err() == nil {
			b.log.Warn("tls handshake refused", "remote", raw.RemoteAddr().String(), "error", err)
		}
		return
	}
	// From the CONNECT on, the deadline follows the keep-alive.
	if err := conn.SetDeadline(time.Now().Add(greeting)); err != nil {
		return
	}
	ctx, end := context.WithCancel(ctx)
	client := b.rules.identify(ctx, conn)
	client.end = end
	ended := make(chan struct{})
	client.ended = ended
	defer client.sending.Wait()
	defer end()
	err := b.server.EstablishConnection("tls", client)
	if client.client != nil {
		b.rules.takeovers.detach(client.client)
	}
	close(ended)
	if err != nil {
		b.log.Debug("connection ended", "remote", raw.RemoteAddr().String(), "error", err)
	}
}

// identified is a connection with the client's attributes for the policy.
type identified struct {
	*tls.Conn
	device      *Device // nil: the certificate is no device's
	certificate *awsiot.Certificate
	source      netip.Addr
	rates       *rates // nil where there are none
	unacked     unacked
	sending     sync.WaitGroup

	client *mqtt.Client       // nil before its CONNECT was allowed
	end    context.CancelFunc // ends what a rate delays
	ended  <-chan struct{}    // closed when the server has forgotten the connection
}

// identify is called after the handshake. ctx ends what a rate delays.
func (r *rules) identify(ctx context.Context, conn *tls.Conn) *identified {
	out := &identified{Conn: conn}
	if chain := conn.ConnectionState().PeerCertificates; len(chain) > 0 {
		out.certificate, out.device = awsiot.CertificateOf(chain[0]), r.registry.of(chain[0])
	}
	if at, err := netip.ParseAddrPort(conn.RemoteAddr().String()); err == nil {
		out.source = at.Addr()
	}
	if r.rates {
		out.rates = &rates{ctx: ctx, now: r.now, nap: r.nap}
	}
	return out
}
