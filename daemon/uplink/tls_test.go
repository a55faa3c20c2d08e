package uplink

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net"
	"os"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/eclipse/paho.mqtt.golang/packets"

	"fieldpost/daemon/health"
)

// refusedHandshake starts a link against b, lets the handshake fail and gives
// what the link says about it.
func refusedHandshake(t *testing.T, b *broker, prepare func(*running)) *Explained {
	t.Helper()
	l, err := New(b.config())
	must(t, err)
	l.built = time.Time{}
	r := &running{Link: l}
	if prepare != nil {
		prepare(r)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		l.attempt(t.Context())
	}()
	raw := b.raw()
	server := tls.Server(raw, b.tls)
	must(t, server.SetDeadline(time.Now().Add(time.Minute)))
	if server.Handshake() == nil {
		if cp, err := packets.ReadPacket(server); err == nil {
			t.Errorf("want no packet, got %v", cp)
		}
	}
	raw.Close()
	<-done
	e, ok := l.Status().Err.(*Explained)
	if !ok {
		t.Fatalf("status: %+v", l.Status())
	}
	return e
}

func TestBrokerIsNotTrusted(t *testing.T) {
	cases := []struct {
		name    string
		prepare func(t *testing.T, b *broker)
		code    health.Code
		says    []string
	}{
		{"unknown authority", func(t *testing.T, b *broker) {
			b.serve(newAuthority(t, "somebody").issue(brokerName, nil))
		}, health.ServerUntrusted, []string{"CN=somebody", "broker.ca"}},
		{"another name", func(t *testing.T, b *broker) {
			b.serve(b.ca.issue("elsewhere.test", nil))
		}, health.ServerUntrusted, []string{`"elsewhere.test"`, `"` + brokerName + `"`}},
		{"expired", func(t *testing.T, b *broker) {
			b.serve(b.ca.issue(brokerName, func(c *x509.Certificate) { c.NotAfter = longAgo.Add(time.Hour) }))
		}, health.ClockWrong, []string{"expired on 1990-01-01 01:00 UTC", "2000-01-01"}},
		{"not yet valid", func(t *testing.T, b *broker) {
			b.serve(b.ca.issue(brokerName, func(c *x509.Certificate) { c.NotBefore = farAhead.Add(-time.Hour) }))
		}, health.ClockWrong, []string{"valid from 2089-12-31", "clock says 2000-01-01"}},
		{"not for servers", func(t *testing.T, b *broker) {
			b.serve(b.ca.issue(brokerName, func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth} }))
		}, health.ServerUntrusted, nil},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := newBroker(t)
				c.prepare(t, b)
				checkSays(t, refusedHandshake(t, b, nil), c.code, c.says...)
			})
		})
	}
}

func checkSays(t *testing.T, e *Explained, code health.Code, says ...string) {
	t.Helper()
	if e.Code != string(code) || e.Hint == "" || health.Lookup(health.Code(e.Code)).Title == e.Code {
		t.Errorf("want %s, got %+v", code, e)
	}
	for _, s := range says {
		if !strings.Contains(e.Error()+" "+e.Hint, s) {
			t.Errorf("%q is not in: %v", s, e)
		}
	}
}

// A board whose clock stands in the past takes the time of the build, when
// the certificate was valid already.
func TestBuildTimeStandsInForTheClock(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBroker(t)
		b.serve(b.ca.issue(brokerName, func(c *x509.Certificate) { c.NotBefore = time.Now().Add(24 * time.Hour) }))
		checkSays(t, refusedHandshake(t, b, nil), health.ClockWrong)
		checkSays(t, refusedHandshake(t, b, func(r *running) { r.built = time.Now().Add(time.Hour) }), health.ClockWrong)

		c := b.config()
		l, err := New(c)
		must(t, err)
		l.built = time.Now().Add(48 * time.Hour)
		done := make(chan struct{})
		go func() {
			defer close(done)
			l.attempt(t.Context())
		}()
		p := b.accept(false)
		synctest.Wait()
		if !l.Status().Connected {
			t.Errorf("status: %v", l.Status().Err)
		}
		p.hangUp()
		<-done
	})
}

func TestBuildTimeIsParsed(t *testing.T) {
	defer func(was string) { BuildTime = was }(BuildTime)
	BuildTime = "2026-11-21T19:02:11Z"
	if got := builtAt(); !got.Equal(time.Date(2026, 11, 21, 19, 2, 11, 0, time.UTC)) {
		t.Errorf("got %v", got)
	}
	BuildTime = "yesterday"
	if got := builtAt(); got.After(time.Now()) {
		t.Errorf("got %v", got)
	}
}

func TestOurCertificateIsRejected(t *testing.T) {
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		for _, c := range []struct {
			name   string
			client func(t *testing.T, b *broker) (cert, key []byte)
			says   string
		}{
			{"unknown", func(t *testing.T, b *broker) ([]byte, []byte) {
				return newAuthority(t, "somebody").issue("client", nil)
			}, "does not know our certificate"},
			{"expired", func(t *testing.T, b *broker) ([]byte, []byte) {
				return b.ca.issue("client", func(c *x509.Certificate) { c.NotAfter = longAgo.Add(time.Hour) })
			}, "has expired"},
			{"not for clients", func(t *testing.T, b *broker) ([]byte, []byte) {
				return b.ca.issue("client", func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth} })
			}, "rejected our certificate"},
		} {
			t.Run(tls.VersionName(version)+" "+c.name, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					b := newBroker(t)
					b.tls.MaxVersion = version
					cert, key := c.client(t, b)
					put(t, b.file("cert.pem"), cert)
					put(t, b.file("key.pem"), key)
					checkSays(t, refusedHandshake(t, b, nil), health.CertificateRejected, c.says)
				})
			})
		}
	}
}

// After two resets without a word the link asks once with TLS 1.2, where the
// broker's alert cannot be lost.
func TestLostAlertIsProbedFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBroker(t)
		l := run(t, b.config())
		var versions []uint16
		for range 4 {
			p := b.peer()
			versions = append(versions, p.conn.ConnectionState().Version)
			p.reset() // and the alert is lost
			synctest.Wait()
			if l.code() != string(health.CertificateRejected) {
				t.Errorf("status: %v", l.Status().Err)
			}
		}
		if versions[0] != tls.VersionTLS13 || versions[1] != tls.VersionTLS13 || versions[2] != tls.VersionTLS12 || versions[3] != tls.VersionTLS13 {
			t.Errorf("versions: %x", versions)
		}
		l.end(t, nil)
	})
}

func TestALPNOnlyOnPort443(t *testing.T) {
	for port, want := range map[string]string{"443": alpn, "8883": ""} {
		synctest.Test(t, func(t *testing.T) {
			b := newBroker(t)
			b.tls.NextProtos = []string{alpn}
			c := b.config()
			c.Endpoint = brokerName + ":" + port
			l := run(t, c)
			p := b.peer()
			if got := p.conn.ConnectionState(); got.NegotiatedProtocol != want || got.ServerName != brokerName {
				t.Errorf("port %s: protocol %q for %q", port, got.NegotiatedProtocol, got.ServerName)
			}
			l.end(t, p)
		})
	}
}

func TestALPNIsNotKnown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBroker(t)
		b.tls.NextProtos = []string{"h2"}
		e := refusedHandshake(t, b, func(r *running) { r.port = "443" })
		checkSays(t, e, health.ConnectRefused, "8883")
	})
}

func TestNotTLS(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBroker(t)
		l := run(t, b.config())
		raw := b.raw()
		_, err := raw.Read(make([]byte, 4096))
		must(t, err)
		_, err = raw.Write([]byte("HTTP/1.1 400 Bad Request\r\n\r\n"))
		must(t, err)
		raw.Close()
		synctest.Wait()
		checkSays(t, l.Status().Err.(*Explained), health.NetworkDown, "does not speak TLS", "8883")
		l.end(t, nil)
	})
}

// Files that cannot be used are named before anything is dialled.
func TestUnusableFiles(t *testing.T) {
	for name, break_ := range map[string]func(t *testing.T, b *broker){
		"key.pem": func(t *testing.T, b *broker) {
			_, key := b.ca.issue("other", nil)
			put(t, b.file("key.pem"), key)
		},
		"cert.pem": func(t *testing.T, b *broker) { must(t, os.Remove(b.file("cert.pem"))) },
		"ca.pem":   func(t *testing.T, b *broker) { put(t, b.file("ca.pem"), []byte("no PEM")) },
	} {
		synctest.Test(t, func(t *testing.T) {
			b := newBroker(t)
			break_(t, b)
			l := run(t, b.config())
			synctest.Wait()
			checkSays(t, l.Status().Err.(*Explained), health.CertificateUnusable, name)
			l.end(t, nil)
		})
	}
}

// clientOf gives the serial number of the certificate the client showed.
func clientOf(p *peer) int64 {
	return p.conn.ConnectionState().PeerCertificates[0].SerialNumber.Int64()
}

func (b *broker) renew(serial int64) {
	b.t.Helper()
	cert, key := b.ca.issue("client", func(c *x509.Certificate) { c.SerialNumber.SetInt64(serial) })
	put(b.t, b.file("cert.pem"), cert)
	put(b.t, b.file("key.pem"), key)
}

func TestRenewedCertificateIsUsedFromTheNextConnection(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBroker(t)
		l := run(t, b.config())
		p := b.accept(false)
		b.renew(77)
		p.hangUp()
		p = b.accept(true)
		if got := clientOf(p); got != 77 {
			t.Errorf("certificate %d", got)
		}
		l.end(t, p)
	})
}

// A renewal that went wrong does not cut the board off.
func TestOldCertificateIsKept(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBroker(t)
		l := run(t, b.config())
		p := b.accept(false)
		_, key := b.ca.issue("client", nil)
		put(t, b.file("key.pem"), key) // half of a new pair
		p.hangUp()
		p = b.accept(true)
		synctest.Wait()
		if st := l.Status(); clientOf(p) != 2 || !st.Connected || l.code() != string(health.CertificateUnusable) {
			t.Errorf("certificate %d, status %+v", clientOf(p), st)
		}
		// The pair is complete, but the broker refuses it: the two take turns.
		b.renew(78)
		p.hangUp()
		for _, want := range []int64{78, 2} {
			p = b.peer()
			if got := clientOf(p); got != want {
				t.Errorf("certificate %d, want %d", got, want)
			}
			expect[*packets.ConnectPacket](p)
			if want == 78 {
				p.connack(5, false)
				p.gone()
			}
		}
		p.connack(0, true)
		synctest.Wait()
		if st := l.Status(); !st.Connected || l.code() != string(health.ConnectRefused) || !strings.Contains(st.Err.Error(), "the one before is still in use") {
			t.Errorf("status %+v", st)
		}
		p.hangUp()
		p = b.accept(true) // the broker has come round
		synctest.Wait()
		if st := l.Status(); clientOf(p) != 78 || st.Err != nil {
			t.Errorf("certificate %d, status %+v", clientOf(p), st)
		}
		l.end(t, p)
	})
}

// On real sockets, with the system's dialler.
func TestOverTCP(t *testing.T) {
	b := newBroker(t)
	server, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	c := b.config()
	c.Dial, c.Endpoint = nil, server.Addr().String()
	refused := make(chan struct{})
	c.Observe = func(s Status) {
		var e *Explained
		if errors.As(s.Err, &e) && strings.Contains(e.What, "nothing listens") {
			close(refused)
		}
	}
	l := run(t, c)
	raw, err := server.Accept()
	must(t, err)
	p := &peer{t, tls.Server(raw, b.tls)}
	must(t, p.conn.Handshake())
	expect[*packets.ConnectPacket](p)
	p.connack(0, false)
	for i := range 100 {
		done := l.queue.Put("t", []byte{byte(i)})
		p.puback(expect[*packets.PublishPacket](p).MessageID)
		must(t, <-done)
	}
	server.Close()
	p.hangUp()
	<-refused
	l.end(t, nil)
}
