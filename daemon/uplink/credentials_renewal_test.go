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

	"fieldpost/daemon/health"

	"github.com/eclipse/paho.mqtt.golang/packets"
)

// Unusable files are reported before anything is dialled.
func TestUnusableFiles(t *testing.T) {
	for name, break_ := range map[string]func(t *testing.T, b *broker){
		"key.pem": func(t *testing.T, b *broker) {
			_, key := b.ca.Issue("other", nil)
			put(t, b.file("key.pem"), key)
		},
		"cert.pem": func(t *testing.T, b *broker) { must(t, os.Remove(b.file("cert.pem"))) },
		"ca.PEM":   func(t *testing.T, b *broker) { put(t, b.file("ca.PEM"), []byte("no PEM")) },
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

// clientOf returns the serial number of the client's certificate.
func clientOf(p *peer) int64 {
	return p.conn.ConnectionState().PeerCertificates[0].SerialNumber.Int64()
}

func (b *broker) renew(serial int64) {
	b.t.Helper()
	cert, key := b.ca.Issue("client", func(c *x509.Certificate) { c.SerialNumber.SetInt64(serial) })
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

// After a failed renewal the board can still connect.
func TestOldCertificateIsKept(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBroker(t)
		l := run(t, b.config())
		p := b.accept(false)
		_, key := b.ca.Issue("client", nil)
		put(t, b.file("key.pem"), key) // half of a new pair
		p.hangUp()
		p = b.accept(true)
		synctest.Wait()
		if st := l.Status(); clientOf(p) != 2 || !st.Connected || l.code() != string(health.CertificateUnusable) {
			t.Errorf("certificate %d, status %+v", clientOf(p), st)
		}
		// The pair is complete, but the broker refuses it: the link tries both pairs in
		// turn.
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
		if st := l.Status(); !st.Connected || l.code() != string(health.ConnectRefused) || !strings.Contains(st.Err.Error(), "the old one is still in use") {
			t.Errorf("status %+v", st)
		}
		p.hangUp()
		p = b.accept(true) // the broker accepts it now
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
		done := l.queue.Publish("t", []byte{byte(i)})
		p.puback(expect[*packets.PublishPacket](p).MessageID)
		must(t, <-done)
	}
	server.Close()
	p.hangUp()
	<-refused
	l.end(t, nil)
}
