package broker

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/mochi-mqtt/server/v2/packets"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestNewRefuses(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	foreign := t.TempDir()
	write(t, foreign, "private.pem.key", "precious")
	for name, o := range map[string]Options{
		"no directory":       {},
		"no port":            {Dir: t.TempDir(), Listen: "localhost"},
		"a port in use":      {Dir: t.TempDir(), Listen: taken.Addr().String()},
		"others' files":      {Dir: foreign},
		"a file's directory": {Dir: filepath.Join(foreign, "private.pem.key")},
	} {
		if b, err := New(o); err == nil || !strings.HasPrefix(err.Error(), "start broker: ") {
			t.Errorf("%s: got %v, %v", name, b, err)
		}
	}
}

// A client with the three files gets through, on both versions of TLS; one
// without them ends in the handshake.
func TestMutualTLS(t *testing.T) {
	b := open(t, nil)
	other := make6(t, t.TempDir())
	for name, tc := range map[string]struct {
		change func(c *tls.Config)
		want   bool
	}{
		"tls 1.2":                {func(c *tls.Config) { c.MaxVersion = tls.VersionTLS12 }, true},
		"tls 1.3":                {func(c *tls.Config) { c.MinVersion = tls.VersionTLS13 }, true},
		"alpn of port 443":       {func(c *tls.Config) { c.NextProtos = []string{"x-amzn-mqtt-ca"} }, true},
		"alpn of something else": {func(c *tls.Config) { c.NextProtos = []string{"h2"} }, false},
		"tls 1.1":                {func(c *tls.Config) { c.MinVersion, c.MaxVersion = tls.VersionTLS11, tls.VersionTLS11 }, false},
		"no certificate":         {func(c *tls.Config) { c.Certificates = nil }, false},
		"another's certificate":  {func(c *tls.Config) { c.Certificates = clientTLS(t, other).Certificates }, false},
		"another's root":         {func(c *tls.Config) { c.RootCAs = clientTLS(t, other).RootCAs }, false},
		"another name":           {func(c *tls.Config) { c.ServerName = "example.org" }, false},
	} {
		t.Run(name, func(t *testing.T) {
			config := clientTLS(t, b.Files())
			tc.change(config)
			if got := canConnect(t, b, config); got != tc.want {
				t.Errorf("connected: %v, want %v", got, tc.want)
			}
		})
	}
}

// canConnect goes as far as the CONNACK: with TLS 1.3 a client believes that
// the handshake is over before its certificate has been looked at.
func canConnect(t *testing.T, b *Broker, config *tls.Config) bool {
	t.Helper()
	conn, err := tls.DialWithDialer(&net.Dialer{Timeout: patience}, "tcp", b.Addr(), config)
	if err != nil {
		return false
	}
	c := speak(t, conn)
	c.send(hello("thing-1", true))
	_, err = c.read()
	return err == nil
}

func TestServerIsNotAClient(t *testing.T) {
	b := open(t, nil)
	files := b.Files()
	files.Certificate, files.Key = files.ServerCertificate, files.ServerKey
	if canConnect(t, b, clientTLS(t, files)) {
		t.Error("the server's certificate was taken for a client's")
	}
	pair, err := tls.LoadX509KeyPair(files.ServerCertificate, files.ServerKey)
	if err != nil {
		t.Fatal(err)
	}
	if slices.Contains(pair.Leaf.ExtKeyUsage, x509.ExtKeyUsageClientAuth) {
		t.Error("the server's certificate is for clients too")
	}
}

// Nobody who connects and then says nothing may hold up the end.
func TestRunEndsWithSilentClients(t *testing.T) {
	b, err := New(Options{Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	stop := start(t, b)
	raw, err := net.Dial("tcp", b.Addr()) // no TLS
	if err != nil {
		t.Fatal(err)
	}
	defer raw.Close()
	silent := dial(t, b)                    // TLS, and no CONNECT
	idle := join(t, b, "thing-idle", false) // CONNECT, and nothing more
	stop()
	silent.wantClosed()
	idle.wantClosed()
}

func TestRunTwiceAtOnce(t *testing.T) {
	b := open(t, nil)
	join(t, b, "thing-1", true) // it runs
	if err := b.Run(context.Background()); err == nil || !strings.Contains(err.Error(), "running already") {
		t.Errorf("got %v", err)
	}
	join(t, b, "thing-2", true)
}

func TestRunWithoutItsPort(t *testing.T) {
	b, err := New(Options{Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	start(t, b)()
	taken, err := net.Listen("tcp", b.Addr())
	if err != nil {
		t.Fatal(err)
	}
	if err := b.Run(context.Background()); err == nil || !strings.HasPrefix(err.Error(), "run broker: ") {
		t.Errorf("got %v", err)
	}
	if err := taken.Close(); err != nil {
		t.Fatal(err)
	}
	start(t, b)
	join(t, b, "thing-1", true)
}

func TestRunCancelledBefore(t *testing.T) {
	b, err := New(Options{Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if err := b.Run(ctx); err != nil {
		t.Error(err)
	}
	if conn, err := net.Dial("tcp", b.Addr()); err == nil {
		_ = conn.Close()
		t.Error("it still listens")
	}
}

// Stopped and started again, the broker remembers sessions and retained
// messages; a new one on the same address does not.
func TestRestart(t *testing.T) {
	dir := t.TempDir()
	b, err := New(Options{Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	stop := start(t, b)
	join(t, b, "thing-sub", false).subscribe(1, "a/+")
	p := join(t, b, "thing-pub", true)
	p.send(retained(publication(1, "a/kept", "old")))
	p.want(packets.Puback)
	stop()
	p.wantClosed()

	stop = start(t, b)
	join(t, b, "thing-pub", true).publish(1, "a/b", "while away")
	s := resume(t, b, "thing-sub", true)
	got := []string{string(s.want(packets.Publish).Payload), string(s.want(packets.Publish).Payload)}
	if slices.Sort(got); !slices.Equal(got, []string{"old", "while away"}) {
		t.Errorf("after a restart: %q", got)
	}
	stop()

	forgetful, err := New(Options{Dir: dir, Listen: b.Addr()})
	if err != nil {
		t.Fatal(err)
	}
	start(t, forgetful)
	s = resume(t, forgetful, "thing-sub", false)
	s.subscribe(1, "a/+")
	s.wantNothing()
}

func resume(t *testing.T, b *Broker, id string, present bool) *client {
	t.Helper()
	c := dial(t, b)
	c.send(hello(id, false))
	if ack := c.want(packets.Connack); ack.SessionPresent != present {
		t.Fatalf("session present: %v, want %v", ack.SessionPresent, present)
	}
	return c
}

// Many at once, and everything published is delivered.
func TestManyClients(t *testing.T) {
	b := open(t, nil)
	s := join(t, b, "thing-sub", false)
	s.subscribe(1, "load/#")
	const clients, each = 8, 40
	done := make(chan error, clients)
	for n := range clients {
		c := join(t, b, "thing-"+strconv.Itoa(n), true)
		go func() { done <- load(c, each) }()
	}
	seen := map[string]bool{}
	for range clients * each {
		pk := s.want(packets.Publish)
		seen[string(pk.Payload)] = true
	}
	for range clients {
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
	if len(seen) != each {
		t.Errorf("saw %d payloads, want %d", len(seen), each)
	}
}

func load(c *client, n int) error {
	for i := range n {
		c.send(publication(uint16(i+1), "load/x", strconv.Itoa(i)))
		ack, err := c.read()
		if err != nil {
			return err
		}
		if int(ack.PacketID) != i+1 {
			return errors.New("PUBACK of another message")
		}
	}
	return nil
}
