package doctor

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"fieldpost/daemon/certtest"
	"fieldpost/daemon/config"
	"fieldpost/daemon/health"
	"fieldpost/daemon/output"
	"fieldpost/daemon/uplink"
)

// quiet is a broker that answers what it is asked until the packets of one kind, and
// of that kind nothing any more. Its time is the bubble's.
type quiet struct {
	t    *testing.T
	tls  *tls.Config
	cfg  *config.Config
	deaf int // the type of packet; 0 is the handshake, -1 is none
	seen chan []byte
}

func newQuiet(t *testing.T, deaf int) *quiet {
	t.Helper()
	ca, dir := certtest.NewAuthority(t, "test root", nil), t.TempDir()
	put := func(name string, text []byte) string {
		name = filepath.Join(dir, name)
		if err := os.WriteFile(name, text, 0o600); err != nil {
			t.Fatal(err)
		}
		return name
	}
	cert, key := ca.Issue("broker.test", nil)
	pair, err := tls.X509KeyPair(cert, key)
	if err != nil {
		t.Fatal(err)
	}
	clients := x509.NewCertPool()
	clients.AddCert(ca.Cert)
	q := &quiet{t: t, deaf: deaf, seen: make(chan []byte, 1000), cfg: &config.Config{
		File: "fieldpost.yaml", Thing: "thing-1", Outputs: []output.Config{{Name: "pump", Pin: "GPIO27"}},
		Broker: config.Broker{
			Endpoint: "broker.test", ClientID: "thing-1", CA: put("ca.pem", ca.PEM), KeepAlive: 20 * time.Second, Will: "offline",
			Certificate: put("cert.pem", cert), Key: put("key.pem", key),
		},
		Readings: config.Readings{Topic: "test/topic"}, Commands: config.Commands{Topic: "test/topic", Answers: "test/topic"},
	}}
	q.tls = &tls.Config{Certificates: []tls.Certificate{pair}, ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: clients}
	return q
}

func (q *quiet) options() Options {
	return Options{Config: q.cfg, Now: time.Now(), Idle: true, Dial: q.dial, Resolve: func(context.Context, string) ([]string, error) {
		return []string{"192.0.2.1"}, nil
	}}
}

func (q *quiet) dial(context.Context, string, string) (net.Conn, error) {
	near, far := net.Pipe()
	go q.serve(far)
	return near, nil
}

func (q *quiet) serve(raw net.Conn) {
	defer raw.Close()
	if q.deaf == 0 {
		_, _ = io.Copy(io.Discard, raw)
		return
	}
	s := tls.Server(raw, q.tls)
	head := make([]byte, 2)
	for {
		if _, err := io.ReadFull(s, head); err != nil {
			return
		}
		n := int(head[1])
		if n >= 0x80 { // two bytes are enough here
			more := make([]byte, 1)
			if _, err := io.ReadFull(s, more); err != nil {
				return
			}
			n = n&0x7f | int(more[0])<<7
		}
		body := make([]byte, n)
		if _, err := io.ReadFull(s, body); err != nil {
			return
		}
		kind := head[0] >> 4
		q.seen <- append([]byte{kind}, body...)
		if int(kind) == q.deaf || kind == 14 {
			continue
		}
		var reply []byte
		switch kind {
		case 1:
			reply = []byte{0x20, 2, 1, 0}
		case 3:
			t := int(body[1])
			echo := append([]byte{0x30, byte(n - 2)}, append(slices.Clone(body[:2+t]), body[4+t:]...)...)
			reply = append([]byte{0x40, 2, body[2+t], body[3+t]}, echo...)
		case 8:
			reply = []byte{0x90, 3, body[0], body[1], 1}
		case 12:
			reply = []byte{0xd0, 0}
		}
		if _, err := s.Write(reply); err != nil {
			return
		}
	}
}

// A broker that falls silent at any point ends a step and nothing hangs.
func TestEachStepHasALimit(t *testing.T) {
	for name, c := range map[string]struct {
		deaf int
		step string
		code health.Code
		most time.Duration
	}{
		"handshake": {0, "tls handshake", health.NetworkDown, tlsLimit},
		"CONNECT":   {1, "connect", health.NetworkDown, 4 * connectLimit},
		"SUBSCRIBE": {8, "subscribe", health.NoAcknowledgement, 2 * answerLimit},
		"PUBLISH":   {3, "publish", health.NoAcknowledgement, 2 * answerLimit},
		"PINGREQ":   {12, "idle minute", health.NetworkDown, 40 * time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r, err := Examine(t.Context(), newQuiet(t, c.deaf).options())
				if err != nil {
					t.Fatal(err)
				}
				i := slices.IndexFunc(r.Steps, func(s Step) bool { return s.Outcome == Failed })
				if i < 0 || r.Steps[i].Name != c.step || r.Steps[i].Code != string(c.code) || r.Steps[i].Inferred ||
					r.Steps[i].Seconds <= 0 || r.Steps[i].Seconds > c.most.Seconds() {
					t.Errorf("want %s at %q; got %+v", c.code, c.step, r.Steps)
				}
			})
		})
	}
}

// An idle minute passes with the keep-alive of the configuration alone, and a ping at
// the end shows that the connection stands.
func TestIdleMinute(t *testing.T) {
	for keepAlive, want := range map[time.Duration]int{20 * time.Second: 3, 25 * time.Second: 3, 20 * time.Minute: 1} {
		synctest.Test(t, func(t *testing.T) {
			q := newQuiet(t, -1)
			q.cfg.Broker.KeepAlive = keepAlive
			r, err := Examine(t.Context(), q.options())
			if err != nil || r.Failed > 0 {
				t.Fatalf("%v: %+v", err, r)
			}
			last := r.Steps[len(r.Steps)-1]
			pings := 0
			for len(q.seen) > 0 {
				if p := <-q.seen; p[0] == 12 {
					pings++
				}
			}
			// At the minute's end a ping of the keep-alive may come first.
			if last.Name != "idle minute" || last.Seconds < 60 || last.Seconds > 61 || pings < want || pings > want+1 {
				t.Errorf("%v: %d pings: %+v", keepAlive, pings, last)
			}
		})
	}
}

// Whatever it waits for, the end of the context ends it at once, and that is not taken
// for a failure of the broker.
func TestInterrupted(t *testing.T) {
	for _, deaf := range []int{0, 1, 3, 8, 12, -1} {
		synctest.Test(t, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
			defer cancel()
			began := time.Now()
			r, err := Examine(ctx, newQuiet(t, deaf).options())
			if !errors.Is(err, context.DeadlineExceeded) || time.Since(began) > 7*time.Second || r.Failed > 0 {
				t.Errorf("deaf to %d: %v after %v: %+v", deaf, err, time.Since(began), r)
			}
		})
	}
}

// While a daemon runs its client id is never used.
func TestDaemonRuns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := newQuiet(t, -1)
		policy := filepath.Join(t.TempDir(), "policy.json")
		if err := os.WriteFile(policy, []byte(`{"Version":"2012-10-17","Statement":{"Effect":"Allow","Action":"*","Resource":["arn:aws:iot:*:*:client/test-*","arn:aws:iot:*:*:topic/*","arn:aws:iot:*:*:topicfilter/*"]}}`), 0o600); err != nil {
			t.Fatal(err)
		}
		for _, c := range []struct {
			policies []string
			want     string
		}{{nil, "thing-1-send-doctor"}, {[]string{policy}, "test-doctor"}} {
			o := q.options()
			o.Running, o.Policies = &Running{Connected: true, ClientID: "thing-1", Fault: string(health.DuplicateClient), Detail: "thrown out"}, c.policies
			r, err := Examine(t.Context(), o)
			if err != nil || r.ClientID != c.want || r.OwnID {
				t.Errorf("%v: %q, want %q", err, r.ClientID, c.want)
			}
			i := slices.IndexFunc(r.Steps, func(s Step) bool { return s.Name == "connect" })
			if i < 0 || r.Steps[i].Found != `as "`+c.want+`", not as "thing-1": a daemon is connected with that id and would be disconnected` {
				t.Errorf("%+v", r.Steps)
			}
			i = slices.IndexFunc(r.Steps, func(s Step) bool { return s.Name == "idle minute" })
			if i < 0 {
				t.Fatalf("%+v", r.Steps)
			}
			if last := r.Steps[i]; last.Code != string(health.DuplicateClient) {
				t.Errorf("the daemon's own word: %+v", last)
			}
			connects := 0
			for len(q.seen) > 0 {
				p := <-q.seen
				if p[0] != 1 {
					continue
				}
				connects++
				at := 13
				if p[7] == 5 {
					at++ // behind the properties, of which there are none
				}
				id := string(p[at : at+int(p[at-1])])
				if id != c.want || p[8]&4 != 0 && !bytes.Contains(p, []byte(`"kind":"probe"`)) {
					t.Errorf("CONNECT as %q with a will of the daemon's: %q", id, p)
				}
			}
			if connects == 0 {
				t.Error("no CONNECT")
			}
		}
	})
}

// What waits in the session for the daemon is not acknowledged by a probe.
func TestProbeAcknowledgesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := newQuiet(t, -1)
		p, err := uplink.NewProbe(uplink.ProbeConfig{Endpoint: "broker.test", ClientID: "thing-1",
			CA: q.cfg.Broker.CA, Certificate: q.cfg.Broker.Certificate, Key: q.cfg.Broker.Key,
			Dial: func(context.Context, string, string) (net.Conn, error) {
				near, far := net.Pipe()
				go func() {
					defer far.Close()
					s := tls.Server(far, q.tls)
					_, _ = s.Read(make([]byte, 4096))
					_, _ = s.Write([]byte("\x20\x02\x01\x00\x32\x06\x00\x01a\x00\x07x"))
					n, _ := s.Read(make([]byte, 4096))
					q.seen <- make([]byte, n)
				}()
				return near, nil
			}})
		if err != nil {
			t.Fatal(err)
		}
		if err := p.Dial(t.Context()); err != nil {
			t.Fatal(err)
		}
		if _, err := p.Handshake(t.Context()); err != nil {
			t.Fatal(err)
		}
		if present, err := p.Connect(t.Context()); err != nil || !present {
			t.Fatal(present, err)
		}
		if err := p.Receive(t.Context(), func(m uplink.Message) bool { return m.Topic == "a" && m.QoS == 1 }); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		p.Close()
		if sent := <-q.seen; len(sent) != 2 && len(sent) != 0 { // the DISCONNECT
			t.Errorf("%d bytes were sent", len(sent))
		}
	})
}
