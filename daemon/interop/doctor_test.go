package interop

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"text/tabwriter"
	"time"

	"fieldpost/daemon/awsiot"
	"fieldpost/daemon/broker"
	"fieldpost/daemon/certtest"
	"fieldpost/daemon/config"
	"fieldpost/daemon/daemontest"
	"fieldpost/daemon/doctor"
	"fieldpost/daemon/health"
	"fieldpost/daemon/uplink"
)

// patient is a configuration of a broker with a failure.
type patient struct {
	t   *testing.T
	dir string
	o   doctor.Options
	ca  *certtest.Authority // the authority of a fake broker and of our certificate
	at  string              // the address of a fake broker
	// after, where it is set, is told of each step.
	after func(doctor.Step)
}

// newPatient makes a configuration for an endpoint with these files.
func newPatient(t *testing.T, endpoint, ca, cert, key string) *patient {
	t.Helper()
	p := &patient{t: t, dir: t.TempDir()}
	file := filepath.Join(p.dir, "fieldpost.yaml")
	text := fmt.Sprintf(`thing: thing-1
broker: {endpoint: %q, ca: %q, certificate: %q, key: %q}
readings: {topic: test/topic}
commands: {topic: test/topic}
spool: {dir: spool}
outputs:
  - {name: pump, pin: GPIO27}
`, endpoint, ca, cert, key)
	write(t, file, []byte(text))
	cfg, err := config.Load(file)
	if err != nil {
		t.Fatal(err)
	}
	p.o = doctor.Options{Config: cfg, Now: time.Now()}
	return p
}

func write(t *testing.T, file string, text []byte) {
	t.Helper()
	if err := os.WriteFile(file, text, 0o600); err != nil {
		t.Fatal(err)
	}
}

// embedded runs the embedded broker with statements of a policy; none allows everything.
func embedded(t *testing.T, statements string, change func(o *broker.Options)) *patient {
	t.Helper()
	o := broker.Options{Dir: t.TempDir()}
	if statements != "" {
		p, err := awsiot.Parse([]byte(`{"Version":"2012-10-17","Statement":[` + statements + `]}`))
		if err != nil {
			t.Fatal(err)
		}
		o.Policy = p
	}
	if change != nil {
		change(&o)
	}
	b, err := broker.New(o)
	if err != nil {
		t.Fatal(err)
	}
	daemontest.Background(t, b.Run)
	f := b.Files()
	return newPatient(t, b.Addr(), f.CA, f.Certificate, f.Key)
}

const fakeName = "broker.test"

// fake makes a patient with the endpoint broker.test:8883, which is a listener of the
// test. serve handles each connection. server may change the broker's certificate.
func fake(t *testing.T, server func(ca *certtest.Authority, c *tls.Config), serve func(raw net.Conn, c *tls.Config)) *patient {
	t.Helper()
	ca := certtest.NewAuthority(t, "test root", nil)
	dir := t.TempDir()
	cert, key := ca.Issue("client", nil)
	file := func(name string, text []byte) string {
		write(t, filepath.Join(dir, name), text)
		return filepath.Join(dir, name)
	}
	p := newPatient(t, fakeName, file("ca.pem", ca.PEM), file("cert.pem", cert), file("key.pem", key))
	p.ca = ca
	clients := x509.NewCertPool()
	clients.AddCert(ca.Cert)
	conf := &tls.Config{ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: clients, Certificates: []tls.Certificate{pair(t, ca, fakeName, nil)}}
	if server != nil {
		server(ca, conf)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p.at = l.Addr().String()
	var all sync.WaitGroup
	all.Go(func() {
		for {
			raw, err := l.Accept()
			if err != nil {
				return
			}
			all.Go(func() {
				defer raw.Close()
				_ = raw.SetDeadline(time.Now().Add(daemontest.Patience))
				serve(raw, conf)
			})
		}
	})
	t.Cleanup(func() {
		l.Close()
		all.Wait()
	})
	p.o.Resolve = func(context.Context, string) ([]string, error) { return []string{"192.0.2.1"}, nil }
	p.o.Dial = func(ctx context.Context, network, address string) (net.Conn, error) {
		if host, port, _ := net.SplitHostPort(address); host != fakeName || port != p.port() {
			return nil, &net.OpError{Op: "dial", Err: syscall.ECONNREFUSED}
		}
		return (&net.Dialer{}).DialContext(ctx, network, l.Addr().String())
	}
	return p
}

func (p *patient) port() string {
	_, port, _ := net.SplitHostPort(p.o.Config.Endpoint())
	return port
}

func pair(t *testing.T, ca *certtest.Authority, name string, tweak func(*x509.Certificate)) tls.Certificate {
	t.Helper()
	cert, key := ca.Issue(name, tweak)
	out, err := tls.X509KeyPair(cert, key)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// handshake only makes the TLS handshake, for brokers with which it fails.
func handshake(raw net.Conn, c *tls.Config) {
	s := tls.Server(raw, c)
	if s.Handshake() == nil {
		_, _ = s.Read(make([]byte, 4096))
	}
}

// talk returns a broker that answers packets with answer. nil means the usual answer, and
// an empty one closes the connection.
func talk(answer func(kind byte, body []byte) []byte) func(raw net.Conn, c *tls.Config) {
	return talk5(answer, func(byte, []byte) []byte { return []byte{} })
}

// talk5 is like talk, with other answers over MQTT 5.
func talk5(answer, answer5 func(kind byte, body []byte) []byte) func(raw net.Conn, c *tls.Config) {
	return func(raw net.Conn, c *tls.Config) {
		answer := answer
		s := tls.Server(raw, c)
		r := bufio.NewReader(s)
		for {
			first, err := r.ReadByte()
			if err != nil {
				return
			}
			n, err := binary.ReadUvarint(r)
			if err != nil || n > 1<<16 {
				return
			}
			body := make([]byte, n)
			if _, err := io.ReadFull(r, body); err != nil {
				return
			}
			if first>>4 == 14 {
				return
			}
			if first>>4 == 1 && body[6] == 5 {
				answer = answer5
			}
			reply := answer(first>>4, body)
			if reply == nil {
				reply = usual(first, body)
			}
			if len(reply) == 0 {
				return
			}
			if _, err := s.Write(reply); err != nil {
				return
			}
		}
	}
}

// usual returns the answer of a broker that grants everything and echoes what is
// published.
func usual(first byte, body []byte) []byte {
	switch first >> 4 {
	case 1:
		return []byte{0x20, 2, 1, 0}
	case 3:
		t := int(binary.BigEndian.Uint16(body))
		echo := append([]byte{0x30}, binary.AppendUvarint(nil, uint64(len(body)-2))...)
		echo = append(echo, body[:2+t]...)
		echo = append(echo, body[4+t:]...)
		return append([]byte{0x40, 2, body[2+t], body[3+t]}, echo...)
	case 8:
		return []byte{0x90, 3, body[0], body[1], body[len(body)-1]}
	case 10:
		return []byte{0xb0, 2, body[0], body[1]}
	}
	return []byte{0xd0, 0}
}

// connack answers each CONNECT with a return code.
func connack(code byte) func(net.Conn, *tls.Config) {
	return talk(func(kind byte, _ []byte) []byte {
		if kind == 1 {
			return []byte{0x20, 2, 0, code}
		}
		return nil
	})
}

// hangUp closes the connection on packets of a kind.
func hangUp(on byte) func(net.Conn, *tls.Config) {
	return talk(func(kind byte, _ []byte) []byte {
		if kind == on {
			return []byte{}
		}
		return nil
	})
}

// idle ends a connection that is silent for a moment. present is the session-present flag
// of its CONNACK.
func idle(present byte) func(raw net.Conn, c *tls.Config) {
	inner := talk(func(kind byte, _ []byte) []byte {
		if kind == 1 {
			return []byte{0x20, 2, present, 0}
		}
		return nil
	})
	return func(raw net.Conn, c *tls.Config) { inner(impatient{raw}, c) }
}

// impatient is a connection whose reads time out after a moment.
type impatient struct{ net.Conn }

func (c impatient) Read(p []byte) (int, error) {
	_ = c.Conn.SetReadDeadline(time.Now().Add(300 * time.Millisecond))
	return c.Conn.Read(p)
}

const (
	allowAll  = `{"Effect":"Allow","Action":"*","Resource":"*"}`
	notPolicy = `{"Effect":"Deny","Action":%q,"Resource":"*"}`
)

// denies returns a policy that allows all actions except one.
func denies(action string) string { return allowAll + "," + fmt.Sprintf(notPolicy, action) }

// without returns a policy that allows CONNECT only with these attributes.
func without(attributes string) string {
	return `{"Effect":"Allow","Action":["iot:Publish","iot:Subscribe","iot:Receive"],"Resource":"*"},
		{"Effect":"Allow","Action":"iot:Connect","Resource":"*","Condition":{"ForAllValues:StringEquals":{"iot:ConnectAttributes":[` + attributes + `]}}}`
}

// failure is a failure of a connection, and what the doctor must say first.
type failure struct {
	name, how string
	make      func(t *testing.T) *patient
	step      string
	code      health.Code
	inferred  bool
	says      string // part of the finding, its meaning, its cure or its details
	over5     string // the broker's own reason over MQTT 5; "" if it has none
}

// reasoned is a broker that closes the connection on packets of a kind without a reason,
// or with 0 on silence. Over MQTT 5 it sends says instead of the answer.
func reasoned(on byte, says ...byte) func(*testing.T) *patient {
	return func(t *testing.T) *patient {
		serve := talk5(func(kind byte, _ []byte) []byte {
			if kind == on {
				return []byte{}
			}
			return nil
		}, func(kind byte, _ []byte) []byte {
			switch {
			case kind == on:
				return says
			case kind == 1 && on == 0:
				return append([]byte{0x20, 3, 1, 0, 0}, says...)
			case kind == 1:
				return []byte{0x20, 3, 1, 0, 0}
			}
			return []byte{}
		})
		return fake(t, nil, func(raw net.Conn, c *tls.Config) {
			if on == 0 {
				raw = impatient{raw}
			}
			serve(raw, c)
		})
	}
}

// dialled makes a patient whose Dial or Resolve fails.
func dialled(err error) func(*testing.T) *patient {
	return func(t *testing.T) *patient {
		p := fake(t, nil, handshake)
		p.o.Dial = func(context.Context, string, string) (net.Conn, error) {
			return nil, &net.OpError{Op: "dial", Err: err}
		}
		return p
	}
}

func resolved(err error) func(*testing.T) *patient {
	return func(t *testing.T) *patient {
		p := fake(t, nil, handshake)
		p.o.Resolve = func(context.Context, string) ([]string, error) { return nil, err }
		return p
	}
}

func served(serve func(net.Conn, *tls.Config)) func(*testing.T) *patient {
	return func(t *testing.T) *patient { return fake(t, nil, serve) }
}

// certified is a broker with another certificate.
func certified(tweak func(*x509.Certificate)) func(*testing.T) *patient {
	return func(t *testing.T) *patient {
		return fake(t, func(ca *certtest.Authority, c *tls.Config) {
			c.Certificates = []tls.Certificate{pair(t, ca, fakeName, tweak)}
		}, handshake)
	}
}

func policed(statements string) func(*testing.T) *patient {
	return func(t *testing.T) *patient { return embedded(t, statements, nil) }
}

func mosquitto(lines func(t *testing.T) []string, change func(t *testing.T, p *patient)) func(*testing.T) *patient {
	return func(t *testing.T) *patient {
		var all []string
		if lines != nil {
			all = lines(t)
		}
		m := daemontest.StartMosquitto(t, all...)
		p := newPatient(t, m.Addr, m.CA, m.Cert, m.Key)
		if change != nil {
			change(t, p)
		}
		return p
	}
}

// ours replaces our certificate.
func ours(t *testing.T, p *patient, ca *certtest.Authority, tweak func(*x509.Certificate)) *patient {
	t.Helper()
	cert, key := ca.Issue("client", tweak)
	b := &p.o.Config.Broker
	b.Certificate, b.Key = filepath.Join(p.dir, "cert.pem"), filepath.Join(p.dir, "key.pem")
	write(t, b.Certificate, cert)
	write(t, b.Key, key)
	return p
}

// withRival has another client connect with our client id every half second, once the doctor
// has published.
func (p *patient) withRival() *patient {
	b := p.o.Config.Broker
	rival := uplink.ProbeConfig{Endpoint: p.o.Config.Endpoint(), ClientID: b.ClientID, CA: b.CA, Certificate: b.Certificate, Key: b.Key}
	begin := sync.OnceFunc(func() {
		daemontest.Background(p.t, func(ctx context.Context) error {
			tick := time.NewTicker(500 * time.Millisecond)
			defer tick.Stop()
			for {
				if c, err := uplink.NewProbe(rival); err == nil && c.Dial(ctx) == nil {
					if _, err := c.Handshake(ctx); err == nil {
						_, _ = c.Connect(ctx)
					}
					c.Close()
				}
				select {
				case <-tick.C:
				case <-ctx.Done():
					return nil
				}
			}
		})
	})
	p.after = func(s doctor.Step) {
		if s.Name == "publish" {
			begin()
		}
	}
	return p
}

func aclFile(text string) func(t *testing.T) []string {
	return func(t *testing.T) []string {
		file := filepath.Join(t.TempDir(), "acl")
		write(t, file, []byte(text))
		return []string{"acl_file " + file}
	}
}

func failures() []failure {
	return []failure{
		{"key of another certificate", "files swapped", func(t *testing.T) *patient {
			p := fake(t, nil, handshake)
			_, key := p.ca.Issue("other", nil)
			write(t, p.o.Config.Broker.Key, key)
			return p
		}, "credentials", health.CertificateUnusable, false, "does not belong", ""},
		{"file is gone", "certificate removed", func(t *testing.T) *patient {
			p := fake(t, nil, handshake)
			if err := os.Remove(p.o.Config.Broker.Certificate); err != nil {
				t.Fatal(err)
			}
			return p
		}, "credentials", health.CertificateUnusable, false, "cannot be read", ""},
		{"our certificate has expired", "dates", func(t *testing.T) *patient {
			p := fake(t, nil, handshake)
			return ours(t, p, p.ca, func(c *x509.Certificate) { c.NotAfter = certtest.LongAgo.Add(time.Hour) })
		}, "credentials", health.CertificateExpiring, false, "expired on 1990-01-01", ""},
		{"clock before our certificate", "clock set back", func(t *testing.T) *patient {
			p := fake(t, nil, handshake)
			p.o.Now = certtest.LongAgo.Add(-time.Hour)
			return p
		}, "credentials", health.CertificateUnusable, false, "set the clock", ""},
		{"name does not exist", "resolver", resolved(&net.DNSError{Err: "no such host", Name: fakeName, IsNotFound: true}), "dns", health.NetworkDown, false, "does not exist", ""},
		{"name server is away", "resolver", resolved(&net.DNSError{Err: "i/o timeout", Name: fakeName, IsTimeout: true}), "dns", health.NetworkDown, false, "cannot be resolved", ""},
		{"nothing listens", "ECONNREFUSED", dialled(syscall.ECONNREFUSED), "tcp 8883", health.NetworkDown, false, "nothing listens", ""},
		{"no route", "ENETUNREACH", dialled(syscall.ENETUNREACH), "tcp 8883", health.NetworkDown, false, "no route", ""},
		{"firewall drops", "ETIMEDOUT", dialled(syscall.ETIMEDOUT), "tcp 8883", health.NetworkDown, false, "did not answer in time", ""},
		{"captive portal", "answers HTTP", served(func(raw net.Conn, _ *tls.Config) {
			_, _ = raw.Read(make([]byte, 4096))
			_, _ = io.WriteString(raw, "HTTP/1.1 302 Found\r\n\r\n")
		}), "tls handshake", health.NetworkDown, false, "instead of the broker", ""},
		{"closes in the handshake", "fake broker", served(func(raw net.Conn, _ *tls.Config) { _, _ = raw.Read(make([]byte, 4096)) }), "tls handshake", health.NetworkDown, true, "ended the TLS handshake", ""},
		{"TLS is opened on the way", "another authority", func(t *testing.T) *patient {
			return fake(t, func(_ *certtest.Authority, c *tls.Config) {
				c.Certificates = []tls.Certificate{pair(t, certtest.NewAuthority(t, "Acme Firewall", nil), fakeName, nil)}
			}, handshake)
		}, "tls handshake", health.ServerUntrusted, false, "Acme Firewall", ""},
		{"certificate of another host", "other name", certified(func(c *x509.Certificate) { c.DNSNames = []string{"elsewhere.test"} }), "tls handshake", health.ServerUntrusted, false, "elsewhere.test", ""},
		{"broker's certificate has expired", "dates", certified(func(c *x509.Certificate) { c.NotAfter = certtest.LongAgo.Add(time.Hour) }), "tls handshake", health.ClockWrong, false, "expired on 1990-01-01", ""},
		{"broker's certificate is not valid yet", "dates", certified(func(c *x509.Certificate) { c.NotBefore = certtest.FarAhead.Add(-time.Hour) }), "tls handshake", health.ClockWrong, false, "valid from 2089", ""},
		{"broker's certificate is not for servers", "key usage", certified(func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth} }), "tls handshake", health.ServerUntrusted, false, "serverAuth", ""},
		{"TLS 1.1", "old broker", func(t *testing.T) *patient {
			return fake(t, func(_ *certtest.Authority, c *tls.Config) {
				c.MinVersion, c.MaxVersion = tls.VersionTLS10, tls.VersionTLS11
			}, handshake)
		}, "tls handshake", health.TLSTooOld, false, "TLS 1.2", ""},
		{"port 443 without AWS", "ALPN refused", func(t *testing.T) *patient {
			p := fake(t, func(_ *certtest.Authority, c *tls.Config) { c.NextProtos = []string{"h2"} }, handshake)
			p.o.Config.Broker.Endpoint = fakeName + ":443"
			return p
		}, "tls handshake", health.ConnectRefused, false, "8883", ""},
		{"certificate unknown to the broker", "another authority", func(t *testing.T) *patient {
			return ours(t, fake(t, nil, handshake), certtest.NewAuthority(t, "somebody", nil), nil)
		}, "tls versions", health.CertificateRejected, false, "does not know our certificate", ""},
		{"certificate not for clients", "key usage", func(t *testing.T) *patient {
			p := fake(t, nil, handshake)
			return ours(t, p, p.ca, func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth} })
		}, "tls versions", health.CertificateRejected, false, "rejected our certificate", ""},
		{"reset after TLS", "RST before CONNACK", served(func(raw net.Conn, c *tls.Config) {
			s := tls.Server(raw, c)
			if s.Handshake() == nil {
				_, _ = s.Read(make([]byte, 1))
				_ = raw.(*net.TCPConn).SetLinger(0)
			}
		}), "connect", health.CertificateRejected, true, "probably because of our certificate", ""},
		{"client id is not allowed", "iot:Connect denied", policed(`{"Effect":"Allow","Action":"*","Resource":"arn:aws:iot:*:*:client/other"}`), "connect", health.ConnectRefused, true, "client/thing-1", "CONNACK 135"},
		{"CONNACK 1", "fake broker", served(connack(1)), "connect", health.ConnectRefused, false, "does not speak MQTT 3.1.1", ""},
		{"CONNACK 2", "fake broker", served(connack(2)), "connect", health.ConnectRefused, false, "does not take the client id", ""},
		{"CONNACK 3", "fake broker", served(connack(3)), "connect", health.NetworkDown, false, "not available", ""},
		{"CONNACK 4", "fake broker", served(connack(4)), "connect", health.LoginRefused, false, "broker.password_file", ""},
		{"CONNACK 5", "fake broker", served(connack(5)), "connect", health.ConnectRefused, false, "refused the client id", ""},
		{"CONNACK 7", "fake broker", served(connack(7)), "connect", health.ConnectRefused, false, "return code 7", ""},
		{"not MQTT", "garbage for a CONNACK", served(talk(func(byte, []byte) []byte { return []byte("220 mail.test ESMTP\r\n") })), "connect", health.NetworkDown, false, "not MQTT", ""},
		{"will is not allowed", "iot:ConnectAttributes", policed(without(`"PersistentConnect"`)), "will", health.WillRefused, false, "LastWill", "CONNACK 135"},
		{"session is not allowed", "iot:ConnectAttributes", policed(without(`"LastWill"`)), "connect", health.ConnectRefused, true, "PersistentConnect", "CONNACK 135"},
		{"subscription is denied", "iot:Subscribe denied", policed(denies("iot:Subscribe")), "subscribe", health.SubscribeDenied, true, "topicfilter/test/topic", "SUBACK 135"},
		{"subscription is refused", "SUBACK 0x80", func(t *testing.T) *patient {
			return embedded(t, denies("iot:Subscribe"), func(o *broker.Options) { o.AckDenied = true })
		}, "subscribe", health.SubscribeDenied, false, "0x80", ""},
		{"publish is denied", "iot:Publish denied", policed(denies("iot:Publish")), "publish", health.PublishDenied, true, "topic/test/topic", "PUBACK 135"},
		{"publish is thrown away", "PUBACK, no delivery", func(t *testing.T) *patient {
			return embedded(t, denies("iot:Publish"), func(o *broker.Options) { o.AckDenied = true })
		}, "publish", health.NotDelivered, false, "not delivered", ""},
		{"receiving is denied", "iot:Receive denied", policed(denies("iot:Receive")), "publish", health.NotDelivered, false, "not delivered", ""},
		{"retained is denied", "iot:RetainPublish denied", func(t *testing.T) *patient {
			p := embedded(t, denies("iot:RetainPublish"), nil)
			p.o.Retained = true
			return p
		}, "retained", health.PublishDenied, true, "test/topic", "PUBACK 135"},
		{"ended at SUBSCRIBE", "fake broker", served(hangUp(8)), "subscribe", health.SubscribeDenied, true, "iot:Subscribe", ""},
		{"ended at PUBLISH", "fake broker", served(hangUp(3)), "publish", health.PublishDenied, true, "iot:Publish", ""},
		{"another client with our id", "ended when idle, with a session", served(idle(1)), "same client id", health.DuplicateClient, true, "client id of its own", ""},
		{"ended when idle", "ended when idle, without a session", served(idle(0)), "same client id", health.NetworkDown, true, "ended the connection", ""},
		{"client id is not valid", "CONNACK 133 over MQTT 5", reasoned(1, []byte("\x20\x0b\x00\x85\x08\x1f\x00\x05no id")...), "connect", health.ConnectRefused, true, "client/thing-1", "CONNACK 133: client identifier not valid (\"no id\")"},
		{"session taken over", "DISCONNECT 142 over MQTT 5", reasoned(0, 0xe0, 2, 142, 0), "same client id", health.DuplicateClient, true, "client id of its own", "DISCONNECT 142: session taken over"},
		{"quota exceeded", "DISCONNECT 151 over MQTT 5", reasoned(3, 0xe0, 2, 151, 0), "publish", health.PublishDenied, true, "iot:Publish", "DISCONNECT 151: quota exceeded"},
		{"subscription denied", "DISCONNECT 135 over MQTT 5", reasoned(8, 0xe0, 2, 135, 0), "subscribe", health.SubscribeDenied, true, "iot:Subscribe", "DISCONNECT 135: not authorized"},
		{"garbage over MQTT 5", "fake broker", reasoned(8, 0x90, 0xff, 0xff, 0xff, 0xff, 0xff), "subscribe", health.SubscribeDenied, true, "iot:Subscribe", "not MQTT 5"},
		{"mosquitto: publish is thrown away", "acl_file", mosquitto(aclFile("user fieldpost\ntopic read test/#\n"), nil), "publish", health.NotDelivered, false, "not delivered", "PUBACK 135"},
		{"mosquitto: client id prefix", "clientid_prefixes", mosquitto(func(*testing.T) []string { return []string{"clientid_prefixes other-"} }, nil), "connect", health.ConnectRefused, false, "client id", "CONNACK 13"},
		{"mosquitto: certificate unknown", "another authority", mosquitto(nil, func(t *testing.T, p *patient) {
			ours(t, p, certtest.NewAuthority(t, "somebody", nil), nil)
		}), "tls versions", health.CertificateRejected, false, "does not know our certificate", ""},
		{"mosquitto: subscription is refused", "dynamic security", mosquitto(func(t *testing.T) []string { return denying(t, "test/topic") }, nil), "subscribe", health.SubscribeDenied, false, "does not allow the subscription", "SUBACK 135"},
		{"stand-in: certificate unknown", "another authority", func(t *testing.T) *patient {
			return ours(t, embedded(t, "", nil), certtest.NewAuthority(t, "somebody", nil), nil)
		}, "tls versions", health.CertificateRejected, false, "does not know our certificate", ""},
		{"stand-in: of another authority", "broker.ca", func(t *testing.T) *patient {
			p := embedded(t, "", nil)
			p.o.Config.Broker.CA = filepath.Join(p.dir, "ca.pem")
			write(t, p.o.Config.Broker.CA, certtest.NewAuthority(t, "other root", nil).PEM)
			return p
		}, "tls handshake", health.ServerUntrusted, false, "is not among the roots in broker.ca", ""},
		{"stand-in: certificate is inactive", "devices", func(t *testing.T) *patient {
			dir := t.TempDir()
			write(t, filepath.Join(dir, "devices.json"), []byte(`{"thing-1": {"policies": [], "active": false}}`))
			b, err := broker.New(broker.Options{Dir: filepath.Join(dir, "certs"), Devices: filepath.Join(dir, "devices.json")})
			if err != nil {
				t.Fatal(err)
			}
			daemontest.Background(t, b.Run)
			d := b.Devices()[0]
			return newPatient(t, b.Addr(), b.Files().CA, d.Certificate, d.Key)
		}, "connect", health.ConnectRefused, true, "certificate must be active", "CONNACK 135"},
		{"stand-in: another client with our id", "a client that connects again and again", func(t *testing.T) *patient {
			return embedded(t, "", nil).withRival()
		}, "same client id", health.DuplicateClient, true, "client id of its own", ""},
		{"mosquitto: another client with our id", "a client that connects again and again", mosquitto(nil, func(_ *testing.T, p *patient) { p.withRival() }),
			"same client id", health.DuplicateClient, true, "client id of its own", ""},
		{"mosquitto: of another authority", "broker.ca", mosquitto(nil, func(t *testing.T, p *patient) {
			p.o.Config.Broker.CA = filepath.Join(p.dir, "ca.pem")
			write(t, p.o.Config.Broker.CA, certtest.NewAuthority(t, "other root", nil).PEM)
		}), "tls handshake", health.ServerUntrusted, false, "broker.ca does not have it", ""},
	}
}

// The doctor names each failure: its step, the fault's code, and whether that is only a
// conclusion. With -v the test prints a table.
func TestDoctorNamesFailures(t *testing.T) {
	all := failures()
	rows := make([]string, len(all))
	t.Run("all", func(t *testing.T) {
		for i, f := range all {
			t.Run(f.name, func(t *testing.T) {
				t.Parallel()
				rows[i] = f.check(t)
			})
		}
	})
	var table bytes.Buffer
	w := tabwriter.NewWriter(&table, 0, 0, 2, ' ', 0)
	fmt.Fprintf(w, "failure\tprovoked by\tstep\tfault\tinferred\tthe doctor said\tover MQTT 5\n%s", strings.Join(rows, ""))
	if err := w.Flush(); err != nil {
		t.Fatal(err)
	}
	t.Logf("\n%s", table.String())
}

// check provokes the failure and returns its row of the table.
func (f failure) check(t *testing.T) string {
	p := f.make(t)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	p.o.Observe = func(s doctor.Step) {
		if p.after != nil {
			p.after(s)
		}
		if s.Outcome == doctor.Failed && f.over5 == "" {
			cancel() // the other steps do not matter here
		}
	}
	r, err := doctor.Examine(ctx, p.o)
	if err != nil && ctx.Err() == nil {
		t.Fatal(err)
	}
	i := slices.IndexFunc(r.Steps, func(s doctor.Step) bool { return s.Outcome == doctor.Failed })
	if i < 0 {
		t.Errorf("no step failed: %+v", r.Steps)
		return f.name + "\tnot named\n"
	}
	s := r.Steps[i]
	said := fmt.Sprint(s.Found, s.Meaning, s.Cure, s.Detail)
	if s.Name != f.step || s.Code != string(f.code) || s.Inferred != f.inferred || !strings.Contains(said, f.says) || s.Meaning == "" || s.Cure == "" {
		t.Errorf("want step %q, %s, inferred %v, %q; got %+v", f.step, f.code, f.inferred, f.says, s)
	}
	five := "-"
	i = slices.IndexFunc(r.Steps, func(s doctor.Step) bool { return strings.HasPrefix(s.Name, "mqtt 5 ") && s.Outcome == doctor.Failed })
	if i >= 0 {
		five = r.Steps[i].Found
	}
	if f.over5 != "" && (!strings.Contains(five, f.over5) || r.Steps[i].Inferred || r.Steps[i].Cure == "") {
		t.Errorf("over MQTT 5: want %q in %q; %+v", f.over5, five, r.Steps)
	}
	return fmt.Sprintf("%s\t%s\t%s\t%s\t%v\t%s\t%s\n", f.name, f.how, s.Name, s.Code, s.Inferred, s.Found, five)
}

// Without a failure the doctor reports none.
func TestDoctorFindsNothing(t *testing.T) {
	for name, make := range map[string]func(t *testing.T) *patient{
		"embedded": policed(allowAll), "restricted policy": func(t *testing.T) *patient {
			return embedded(t, "", func(o *broker.Options) { o.Policy = awsiot.Tutorial() })
		}, "mosquitto": mosquitto(nil, nil), "fake": served(talk(func(byte, []byte) []byte { return nil })),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := make(t)
			p.o.Retained = name == "embedded" || name == "mosquitto"
			r, err := doctor.Examine(t.Context(), p.o)
			if err != nil || r.Failed > 0 || !r.OwnID {
				t.Errorf("%v: %+v", err, r)
			}
		})
	}
}

// The doctor reports no failure with a broker that accepts one CONNECT a second for each
// client id.
func TestDoctorAtTheRate(t *testing.T) {
	p := embedded(t, "", func(o *broker.Options) { o.Rates = true })
	report, err := doctor.Examine(t.Context(), p.o)
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range report.Steps {
		if s.Outcome == doctor.Failed {
			t.Errorf("%s: %s", s.Name, s.Found)
		}
	}
}
