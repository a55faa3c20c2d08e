package uplink

import (
	"crypto/tls"
	"crypto/x509"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"fieldpost/daemon/certtest"
	"fieldpost/daemon/health"
	"fieldpost/daemon/task"

	"github.com/eclipse/paho.mqtt.golang/packets"
)

// refusedHandshake starts a link to b, lets the handshake fail and returns the link's
// explanation.
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
		l.rotation.start(new(task.Group))
		defer l.rotation.stop()
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
			b.serve(certtest.NewAuthority(t, "somebody", nil).Issue(brokerName, nil))
		}, health.ServerUntrusted, []string{"CN=somebody", "broker.ca"}},
		{"another name", func(t *testing.T, b *broker) {
			b.serve(b.ca.Issue("elsewhere.test", nil))
		}, health.ServerUntrusted, []string{`"elsewhere.test"`, `"` + brokerName + `"`}},
		{"expired", func(t *testing.T, b *broker) {
			b.serve(b.ca.Issue(brokerName, func(c *x509.Certificate) { c.NotAfter = certtest.LongAgo.Add(time.Hour) }))
		}, health.ClockWrong, []string{"expired on 1990-01-01 01:00 UTC", "2000-01-01"}},
		{"not yet valid", func(t *testing.T, b *broker) {
			b.serve(b.ca.Issue(brokerName, func(c *x509.Certificate) { c.NotBefore = certtest.FarAhead.Add(-time.Hour) }))
		}, health.ClockWrong, []string{"valid from 2089-12-31", "clock says 2000-01-01"}},
		{"not for servers", func(t *testing.T, b *broker) {
			b.serve(b.ca.Issue(brokerName, func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth} }))
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

// A board whose clock is in the past uses the time of the build, when the certificate was
// already valid.
func TestBuildTimeStandsInForTheClock(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBroker(t)
		b.serve(b.ca.Issue(brokerName, func(c *x509.Certificate) { c.NotBefore = time.Now().Add(24 * time.Hour) }))
		checkSays(t, refusedHandshake(t, b, nil), health.ClockWrong)
		checkSays(t, refusedHandshake(t, b, func(r *running) { r.built = time.Now().Add(time.Hour) }), health.ClockWrong)

		c := b.config()
		l, err := New(c)
		must(t, err)
		l.built = time.Now().Add(48 * time.Hour)
		done := make(chan struct{})
		go func() {
			defer close(done)
			l.rotation.start(new(task.Group))
			defer l.rotation.stop()
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

func TestOurCertificateIsRejected(t *testing.T) {
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		for _, c := range []struct {
			name   string
			client func(t *testing.T, b *broker) (cert, key []byte)
			says   string
		}{
			{"unknown", func(t *testing.T, b *broker) ([]byte, []byte) {
				return certtest.NewAuthority(t, "somebody", nil).Issue("client", nil)
			}, "does not know our certificate"},
			{"expired", func(t *testing.T, b *broker) ([]byte, []byte) {
				return b.ca.Issue("client", func(c *x509.Certificate) { c.NotAfter = certtest.LongAgo.Add(time.Hour) })
			}, "has expired"},
			{"not for clients", func(t *testing.T, b *broker) ([]byte, []byte) {
				return b.ca.Issue("client", func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth} })
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

// After two resets without an alert the link tries once with TLS 1.2, where the alert
// cannot be lost.
func TestLostAlertIsProbedFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBroker(t)
		l := run(t, b.config())
		var versions []uint16
		for i := range 4 {
			p := b.peer()
			versions = append(versions, p.conn.ConnectionState().Version)
			p.reset() // the alert is lost
			synctest.Wait()
			want := health.CertificateRejected
			if i == 0 {
				want = health.NetworkDown
			}
			if l.code() != string(want) {
				t.Errorf("reset %d: %v", i+1, l.Status().Err)
			}
		}
		if versions[0] != tls.VersionTLS13 || versions[1] != tls.VersionTLS13 || versions[2] != tls.VersionTLS12 || versions[3] != tls.VersionTLS13 {
			t.Errorf("versions: %x", versions)
		}
		l.end(t, nil)
	})
}

// One reset between TLS and CONNACK counts as a network failure, without a long wait.
// Only a second consecutive one counts as a refusal of the certificate. Anything else in
// between starts the count over.
func TestOneResetIsTheNetworks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBroker(t)
		var longest time.Duration // the limit of the last wait
		l := runWaiting(t, b.config(), func(below time.Duration) time.Duration {
			longest = below
			return 0
		})
		reset := func() { b.peer().reset() }
		silent := func() { b.raw().Close() }
		accepted := func() { b.accept(true).hangUp() }
		for i, s := range []struct {
			play func()
			want health.Code
			most time.Duration
		}{
			{reset, health.NetworkDown, backoffMax},
			{accepted, health.NetworkDown, backoffMax},
			{reset, health.NetworkDown, backoffMax},
			{silent, health.NetworkDown, backoffMax},
			{silent, health.NetworkDown, backoffMax},
			{silent, health.NetworkDown, backoffMax},
			{silent, health.NetworkDown, backoffMax},
			{silent, health.NetworkDown, backoffMax},
			{silent, health.NetworkDown, backoffMax},
			{silent, health.NetworkDown, backoffMax},
			{reset, health.NetworkDown, backoffMax},
			{reset, health.CertificateRejected, backoffMaxRefused},
			{reset, health.CertificateRejected, backoffMaxRefused},
			{silent, health.NetworkDown, backoffMax},
			{reset, health.NetworkDown, backoffMax},
		} {
			s.play()
			synctest.Wait()
			if l.code() != string(s.want) {
				t.Errorf("step %d: %v, want %s", i, l.Status().Err, s.want)
			}
			if want := min(s.most, max(backoffLeast, backoffFirst<<i)); backoffMin+longest != want {
				t.Errorf("step %d: waits up to %v, want %v", i, longest, want)
			}
		}
		l.end(t, nil)
	})
}

// A broker with TLS 1.1 at most. One that knows newer versions says that it does not
// support them; an older one answers with its own version.
func TestBrokerWithOldTLS(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBroker(t)
		b.tls.MinVersion, b.tls.MaxVersion = tls.VersionTLS10, tls.VersionTLS11
		checkSays(t, refusedHandshake(t, b, nil), health.TLSTooOld, "refuses TLS 1.2 and 1.3", "nothing older than TLS 1.2", "Let the broker offer TLS 1.2")
	})
	for version, name := range map[byte]string{0: "SSLv3", 1: "TLS 1.0", 2: "TLS 1.1"} {
		synctest.Test(t, func(t *testing.T) {
			b := newBroker(t)
			l := run(t, b.config())
			raw := b.raw()
			_, err := raw.Read(make([]byte, 4096))
			must(t, err)
			// A ServerHello without session, extensions or compression (RFC 4346, 7.4.1.3).
			hello := append([]byte{22, 3, version, 0, 42, 2, 0, 0, 38, 3, version}, make([]byte, 32+1+2+1)...)
			_, err = raw.Write(hello)
			must(t, err)
			synctest.Wait()
			checkSays(t, l.Status().Err.(*Explained), health.TLSTooOld, "it offers "+name, "nothing older than TLS 1.2")
			raw.Close()
			l.end(t, nil)
		})
	}
}

// A handshake that fails before the broker requests our certificate says nothing about
// it.
func TestNoCipherInCommon(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBroker(t)
		b.tls.MaxVersion = tls.VersionTLS12
		b.tls.CipherSuites = []uint16{tls.TLS_RSA_WITH_3DES_EDE_CBC_SHA}
		checkSays(t, refusedHandshake(t, b, nil), health.TLSTooOld, "no cipher in common")
	})
}

// If the attempt with TLS 1.2, to find a lost alert, meets a broker with only 1.3, that
// is not "too old", and the resets still count as the certificate's.
func TestLostAlertOfABrokerWithNewTLSOnly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBroker(t)
		b.tls.MinVersion = tls.VersionTLS13
		l := run(t, b.config())
		for range 2 {
			b.peer().reset()
		}
		raw := b.raw()
		if tls.Server(raw, b.tls).Handshake() == nil {
			t.Error("no try with TLS 1.2")
		}
		raw.Close()
		synctest.Wait()
		checkSays(t, l.Status().Err.(*Explained), health.CertificateRejected, "certificate")
		b.peer().reset()
		synctest.Wait()
		checkSays(t, l.Status().Err.(*Explained), health.CertificateRejected, "certificate")
		l.end(t, nil)
	})
}

func TestALPNIsNotKnown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBroker(t)
		b.tls.NextProtos = []string{"h2"}
		e := refusedHandshake(t, b, func(r *running) { r.at.Port = "443" })
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
