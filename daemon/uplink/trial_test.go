package uplink

import (
	"context"
	"crypto/tls"
	"errors"
	"os"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/eclipse/paho.mqtt.golang/packets"

	"fieldpost/daemon/health"
)

// onePair is a pair as it is in one file.
func onePair(p [2][]byte) []byte { return append(append([]byte{}, p[1]...), p[0]...) }

// oneFile makes certificate and key come from one file, which need not be there.
func (b *broker) oneFile() (c Config, path string) {
	c = b.config()
	path = b.file("current.pem")
	files := NewCredentialFiles(CredentialFilesConfig{CA: c.CA, Certificate: path, Key: path, Provisioned: true})
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- files.Run(ctx) }()
	b.t.Cleanup(func() {
		cancel()
		<-done
	})
	c.CA, c.Certificate, c.Key, c.Files = "", "", "", files
	return c, path
}

// try has a pair tried.
func (r *running) try(ctx context.Context, pair []byte, acknowledged bool) <-chan error {
	done := make(chan error, 1)
	go func() { done <- r.Try(ctx, pair, acknowledged) }()
	synctest.Wait()
	return done
}

// dropped expects an end in order, without a will.
func (p *peer) dropped() {
	p.t.Helper()
	expect[*packets.DisconnectPacket](p)
	p.gone()
}

// A pair that reaches its CONNACK and a PUBACK stays in use; what was not acknowledged
// before it was tried is sent on its connection. Once it is in the file nothing is new.
func TestTrialAccepted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBroker(t)
		old, renewed := b.pairs()
		c, path := b.oneFile()
		put(t, path, onePair(old))
		l := run(t, c)
		p := b.shows(101)
		p.connack(0, true)
		sent := l.queue.Publish("a", []byte("1"))
		p.delivery("a", "1")
		done := l.try(t.Context(), onePair(renewed), true)
		p.dropped()
		p = b.shows(102)
		p.connack(0, true)
		id := p.delivery("a", "1")
		synctest.Wait()
		if len(done) > 0 {
			t.Errorf("before its PUBACK: %v", <-done)
		}
		p.puback(id)
		if err := <-done; err != nil {
			t.Fatal(err)
		}
		if got := settled(sent); got != "acknowledged" {
			t.Errorf("the message: %q", got)
		}
		put(t, path, onePair(renewed))
		p.hangUp()
		p = b.shows(102)
		p.connack(0, true)
		synctest.Wait()
		if st := l.Status(); st.Err != nil {
			t.Errorf("%v", st.Err)
		}
		l.end(t, p)
		if l.rotation.rejected != [32]byte{} {
			t.Error("the file counts as a pair that was not tried yet")
		}
	})
}

// Whatever a broker has against a new pair, the old one is back at once, nothing is
// counted against the topics, and the caller learns why.
func TestTrialRefused(t *testing.T) {
	for name, c := range map[string]struct {
		refuse func(t *testing.T, l *running, p *peer)
		code   health.Code
		says   string
	}{
		"CONNECT": {func(_ *testing.T, _ *running, p *peer) { p.hangUp() }, health.ConnectRefused, "instead of accepting the client id"},
		"reset":   {func(_ *testing.T, _ *running, p *peer) { p.reset() }, health.CertificateRejected, "right after the TLS handshake"},
		"code 5":  {func(_ *testing.T, _ *running, p *peer) { p.connack(5, false) }, health.ConnectRefused, "refused the client id"},
		"SUBSCRIBE": {func(_ *testing.T, _ *running, p *peer) {
			p.connack(0, true)
			expect[*packets.SubscribePacket](p)
			p.hangUp()
		}, health.SubscribeDenied, `subscription to "orders"`},
		"PUBLISH": {func(_ *testing.T, l *running, p *peer) {
			p.connack(0, true)
			p.grant("orders", 1)
			p.delivery("a", "1")
			p.hangUp()
		}, health.NetworkDown, "before it acknowledged"},
		"no PUBACK": {func(_ *testing.T, l *running, p *peer) {
			p.connack(0, true)
			p.grant("orders", 1)
			p.delivery("a", "1")
			p.gone()
		}, health.NoAcknowledgement, "acknowledge"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := newBroker(t)
				old, renewed := b.pairs()
				conf, path := b.oneFile()
				conf.Subscriptions = []Subscription{{Filter: "orders", QoS: 1}}
				put(t, path, onePair(old))
				l := patiently(t, conf)
				p := b.shows(101)
				p.connack(0, true)
				p.grant("orders", 1)
				for range 4 { // more than make a denial
					sent := l.queue.Publish("a", []byte("1"))
					p.delivery("a", "1")
					done := l.try(t.Context(), onePair(renewed), true)
					p.dropped()
					c.refuse(t, l, b.shows(102))
					began := time.Now()
					p = b.shows(101)
					if waited := time.Since(began); waited > backoffMin {
						t.Errorf("the old pair came after %v", waited)
					}
					p.connack(0, true)
					p.grant("orders", 1)
					p.puback(p.delivery("a", "1"))
					err := <-done
					var why *Explained
					if !errors.Is(err, ErrTrialRefused) || !errors.As(err, &why) || why.Code != string(c.code) || !strings.Contains(err.Error(), c.says) {
						t.Errorf("got %v", err)
					}
					synctest.Wait()
					if st := l.Status(); !st.Connected || st.Err != nil || len(st.Denied) > 0 || settled(sent) != "acknowledged" {
						t.Errorf("afterwards: %+v", st)
					}
				}
				l.end(t, p)
			})
		})
	}
}

// A board without a pair waits, and is connected at once with the first that is accepted;
// for that no PUBACK is needed. One that is refused leaves it waiting.
func TestTrialOfTheFirstPair(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBroker(t)
		refused, good := b.pairs()
		c, path := b.oneFile()
		l := patiently(t, c)
		<-time.After(10 * time.Minute)
		if l.code() != string(health.NotProvisioned) {
			t.Fatalf("%+v", l.Status())
		}
		done := l.try(t.Context(), onePair(refused), false)
		b.shows(101).hangUp()
		if err := <-done; !errors.Is(err, ErrTrialRefused) {
			t.Error(err)
		}
		<-time.After(time.Minute)
		synctest.Wait()
		if st := l.Status(); st.Connected || l.code() != string(health.NotProvisioned) {
			t.Fatalf("%+v", st)
		}
		done = l.try(t.Context(), onePair(good), false)
		p := b.shows(102)
		p.connack(0, false)
		if err := <-done; err != nil {
			t.Fatal(err)
		}
		put(t, path, onePair(good))
		p.hangUp()
		p = b.shows(102)
		p.connack(0, false)
		l.end(t, p)
	})
}

// What says nothing of the pair is no refusal: no network, another broker's certificate, a
// connection that somebody else asks for, an end of the link or of the patience.
func TestTrialWithoutAVerdict(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBroker(t)
		old, renewed := b.pairs()
		c, path := b.oneFile()
		put(t, path, onePair(old))
		l := run(t, c)
		p := b.shows(101)
		p.connack(0, true)

		done := l.try(t.Context(), onePair(renewed), true)
		p.dropped()
		b.raw().Close() // within the handshake
		if err := <-done; err == nil || !errors.Is(err, ErrTrialRefused) {
			t.Errorf("cut off in the handshake: %v", err)
		}
		p = b.shows(101)
		p.connack(0, true)

		good := b.tls
		done = l.try(t.Context(), onePair(renewed), true)
		p.dropped()
		b.serve(b.ca.Issue("another.test", nil))
		if c := tls.Server(b.raw(), b.tls); c.Handshake() == nil {
			_, _ = c.Read(make([]byte, 1)) // until the alert comes
		}
		if err := <-done; err == nil || errors.Is(err, ErrTrialRefused) {
			t.Errorf("another broker: %v", err)
		}
		b.tls = good
		p = b.shows(101)
		p.connack(0, true)

		done = l.try(t.Context(), onePair(renewed), true)
		p.dropped()
		p = b.shows(102)
		p.connack(0, true)
		synctest.Wait()
		asked := l.ask()
		p.dropped()
		if err := <-done; !errors.Is(err, errTrialInterrupted) {
			t.Errorf("interrupted: %v", err)
		}
		p = b.shows(101)
		p.connack(0, true)
		<-asked

		done = l.try(t.Context(), onePair(renewed), true)
		p.dropped()
		p = b.shows(102)
		p.connack(0, true)
		began := time.Now()
		p.dropped() // there is nothing that could be acknowledged
		if err := <-done; !errors.Is(err, ErrTrialRefused) || !strings.Contains(err.Error(), "acknowledged nothing within 1m0s") || time.Since(began) > trialAckTimeout+heartbeatEvery {
			t.Errorf("after %v: %v", time.Since(began), err)
		}
		p = b.shows(101)
		p.connack(0, true)
		synctest.Wait()

		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if err := <-l.try(ctx, onePair(renewed), true); !errors.Is(err, context.Canceled) {
			t.Errorf("withdrawn: %v", err)
		}
		var unusable *Explained
		if err := <-l.try(t.Context(), onePair([2][]byte{renewed[0], old[1]}), true); !errors.As(err, &unusable) || unusable.Code != string(health.CertificateUnusable) {
			t.Errorf("no pair: %v", err)
		}
		l.end(t, p)
	})
}

// A file that holds both is read once, and that there is none is said as such only where
// the pair is to come by provisioning.
func TestOneFile(t *testing.T) {
	b := newBroker(t)
	pair, _ := b.pairs()
	path := b.file("current.pem")
	reads := 0
	c := CredentialFilesConfig{CA: b.file("ca.PEM"), Certificate: path, Key: path, Provisioned: true, Read: func(name string, most int64) ([]byte, error) {
		if name == path {
			reads++
		}
		return os.ReadFile(name)
	}}
	if _, problems := readPEMs(c).parse(); len(problems) != 1 || problems[0].Code != string(health.NotProvisioned) {
		t.Errorf("no file: %v", problems)
	}
	put(t, path, onePair(pair))
	reads = 0
	if got, problems := readPEMs(c).parse(); len(problems) > 0 || got.leaf.SerialNumber.Int64() != 101 || reads != 1 {
		t.Errorf("%v, read %d times", problems, reads)
	}
	c.Certificate, c.Key, c.Provisioned = b.file("none"), b.file("key.pem"), false
	if _, problems := readPEMs(c).parse(); len(problems) != 1 || problems[0].Code != string(health.CertificateUnusable) {
		t.Errorf("no certificate: %v", problems)
	}
}
