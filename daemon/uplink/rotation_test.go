package uplink

import (
	"context"
	"crypto/x509"
	"errors"
	"net"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"fieldpost/daemon/health"

	"github.com/eclipse/paho.mqtt.golang/packets"
)

// pairs returns two pairs of certificate and key.
func (b *broker) pairs() (old, renewed [2][]byte) {
	b.t.Helper()
	for i, at := range []*[2][]byte{&old, &renewed} {
		at[0], at[1] = b.ca.Issue("client", func(c *x509.Certificate) { c.SerialNumber.SetInt64(int64(101 + i)) })
	}
	return old, renewed
}

func (b *broker) place(pair [2][]byte) {
	b.t.Helper()
	put(b.t, b.file("cert.pem"), pair[0])
	put(b.t, b.file("key.pem"), pair[1])
}

// shows waits for the next connection and checks its certificate.
func (b *broker) shows(serial int64) *peer {
	b.t.Helper()
	p := b.peer()
	if got := clientOf(p); got != serial {
		b.t.Errorf("certificate %d, want %d", got, serial)
	}
	expect[*packets.ConnectPacket](p)
	return p
}

// Whatever the state of the files, the board connects with the last working pair, and
// says what is wrong with the files.
func TestHalfWrittenFiles(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBroker(t)
		old, renewed := b.pairs()
		b.place(old)
		ca := b.ca.PEM
		for _, c := range []struct {
			name  string
			write func()
			says  string
		}{
			{"certificate only", func() { put(t, b.file("cert.pem"), renewed[0]) }, "key.pem: the private key does not belong to the certificate"},
			{"key only", func() { put(t, b.file("key.pem"), renewed[1]) }, "key.pem: the private key does not belong"},
			{"half a certificate", func() { put(t, b.file("cert.pem"), renewed[0][:len(renewed[0])/2]) }, "cert.pem: what begins on line 1 cannot be read: it is cut short"},
			{"half a key", func() { put(t, b.file("key.pem"), renewed[1][:len(renewed[1])/2]) }, "key.pem: what begins on line 1 cannot be read: it is cut short"},
			{"emptied", func() { put(t, b.file("cert.pem"), nil) }, "cert.pem: it is empty"},
			{"removed", func() { must(t, os.Remove(b.file("key.pem"))) }, "key.pem: private key cannot be read: no such file"},
			{"no roots", func() { put(t, b.file("ca.PEM"), ca[:100]) }, "ca.PEM: what begins on line 1 cannot be read: it is cut short"},
		} {
			put(t, b.file("ca.PEM"), ca)
			b.place(old)
			l := run(t, b.config())
			p := b.shows(101)
			p.connack(0, true)
			c.write()
			p.hangUp()
			p = b.shows(101)
			p.connack(0, true)
			synctest.Wait()
			if st := l.Status(); !st.Connected || l.code() != string(health.CertificateUnusable) || !strings.Contains(st.Err.Error(), c.says) {
				t.Errorf("%s: %+v", c.name, st)
			}
			// When the pair is complete the error clears, and the next connection uses
			// it.
			put(t, b.file("ca.PEM"), ca)
			b.place(renewed)
			p.quiet(2 * time.Minute)
			if st := l.Status(); st.Err != nil {
				t.Errorf("%s: mended, and the status is %v", c.name, st.Err)
			}
			p.hangUp()
			p = b.shows(102)
			p.connack(0, true)
			l.end(t, p)
		}
	})
}

// A network failure says nothing about an untested new pair, so it is tried again.
func TestNetworkIsDownDuringARenewal(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBroker(t)
		old, renewed := b.pairs()
		b.place(old)
		c := b.config()
		var down atomic.Bool
		dial := c.Dial
		c.Dial = func(ctx context.Context, network, address string) (net.Conn, error) {
			if down.Load() {
				return nil, errors.New("network is unreachable")
			}
			return dial(ctx, network, address)
		}
		l := run(t, c)
		p := b.shows(101)
		p.connack(0, true)
		synctest.Wait()
		down.Store(true)
		b.place(renewed)
		p.hangUp()
		<-time.After(10 * time.Minute)
		synctest.Wait()
		down.Store(false)
		p = b.shows(102)
		p.connack(0, true)
		synctest.Wait()
		if st := l.Status(); !st.Connected || st.Err != nil {
			t.Errorf("status %+v", st)
		}
		l.end(t, p)
	})
}

// If the broker closes the connection with the new pair without a reason, in the
// handshake or after it, the link tries the old pair after three times, and then both in
// turn.
func TestBrokerDropsTheNewPairSilently(t *testing.T) {
	for name, drop := range map[string]func(b *broker){
		"before the handshake":   func(b *broker) { b.raw().Close() },
		"instead of the CONNACK": func(b *broker) { b.shows(102).gone() },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := newBroker(t)
				old, renewed := b.pairs()
				b.place(old)
				l := run(t, b.config())
				p := b.shows(101)
				p.connack(0, true)
				b.place(renewed)
				p.hangUp()
				for range 2 {
					for range maxCutOffs {
						drop(b)
					}
					p = b.shows(101)
					p.connack(0, true)
					synctest.Wait()
					if st := l.Status(); !st.Connected || l.code() != string(health.CertificateRejected) || !strings.Contains(st.Err.Error(), "the old one is still in use") {
						t.Errorf("status %+v", st)
					}
					p.hangUp()
				}
				p = b.shows(102) // the network was the cause
				p.connack(0, true)
				synctest.Wait()
				if st := l.Status(); !st.Connected || st.Err != nil {
					t.Errorf("status %+v", st)
				}
				l.end(t, p)
			})
		})
	}
}

// To the new pair and back: each pair is used when its files are in place. A refused pair
// that is removed again is forgotten while the link is connected.
func TestRotationBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBroker(t)
		old, renewed := b.pairs()
		b.place(old)
		l := run(t, b.config())
		for i := range 4 {
			p := b.shows(101 + int64(i%2))
			p.connack(0, true)
			b.place([][2][]byte{renewed, old}[i%2])
			synctest.Wait()
			if st := l.Status(); !st.Connected || st.Err != nil {
				t.Errorf("rotation %d: %+v", i, st)
			}
			p.quiet(2 * time.Minute)
			p.hangUp()
		}
		p := b.shows(101)
		p.connack(0, true)
		b.place(renewed)
		p.hangUp()
		p = b.shows(102)
		p.connack(5, false)
		p.gone()
		p = b.shows(101)
		p.connack(0, true)
		synctest.Wait()
		if l.code() != string(health.ConnectRefused) {
			t.Errorf("status %v", l.Status().Err)
		}
		p.quiet(2 * time.Minute)
		if l.code() != string(health.ConnectRefused) {
			t.Errorf("nothing has changed, and the status is %v", l.Status().Err)
		}
		b.place(old)
		p.quiet(2 * time.Minute)
		if st := l.Status(); st.Err != nil {
			t.Errorf("the old pair is back, and the status is %v", st.Err)
		}
		l.end(t, p)
	})
}

// However long the wait after a refusal is, the working pair is tried within two seconds.
func TestOldPairIsTriedSoon(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBroker(t)
		old, renewed := b.pairs()
		b.place(old)
		l := runWaiting(t, b.config(), func(below time.Duration) time.Duration { return below - 1 })
		for range 8 { // the waits grow
			b.shows(101).hangUp()
		}
		p := b.shows(101)
		p.connack(0, true)
		b.place(renewed)
		p.hangUp()
		p = b.shows(102)
		p.connack(5, false)
		p.gone()
		began := time.Now()
		p = b.shows(101)
		if d := time.Since(began); d > 3*time.Second {
			t.Errorf("the old pair was tried after %v", d)
		}
		p.connack(0, true)
		l.end(t, p)
	})
}

// A program that starts during a change of the files has no working pair. It says what is
// wrong, and connects as soon as the files are right.
func TestRestartDuringARenewal(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBroker(t)
		old, renewed := b.pairs()
		b.place([2][]byte{renewed[0], old[1]})
		l := run(t, b.config())
		synctest.Wait()
		if l.code() != string(health.CertificateUnusable) {
			t.Errorf("status %v", l.Status().Err)
		}
		b.place(renewed)
		p := b.shows(102)
		p.connack(5, false) // not yet active
		p.gone()
		synctest.Wait()
		if l.code() != string(health.ConnectRefused) {
			t.Errorf("status %v", l.Status().Err)
		}
		p = b.shows(102)
		p.connack(0, false)
		synctest.Wait()
		if st := l.Status(); !st.Connected || st.Err != nil {
			t.Errorf("status %+v", st)
		}
		l.end(t, p)
	})
}
