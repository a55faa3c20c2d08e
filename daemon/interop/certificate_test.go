package interop

import (
	"crypto/x509"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"fieldpost/daemon/broker"
	"fieldpost/daemon/daemontest"
	"fieldpost/daemon/health"
	"fieldpost/daemon/uplink"
)

// renewal is a client of mosquitto whose certificate files change.
type renewal struct {
	*linked
	m             *daemontest.Mosquitto
	ca, caKey     string
	cert, key     string
	first, second [2][]byte // pairs that mosquitto accepts
	strange       [2][]byte // a pair that it refuses
}

func startRenewal(t *testing.T) *renewal {
	t.Helper()
	m := daemontest.StartMosquitto(t)
	certs := filepath.Join(m.Dir, "certs")
	r := &renewal{m: m, ca: m.CA, caKey: filepath.Join(certs, "ca.pem.key"), cert: filepath.Join(m.Dir, "cert"), key: filepath.Join(m.Dir, "key")}
	year := time.Now().Add(365 * 24 * time.Hour)
	r.first[0], r.first[1] = daemontest.Issue(t, r.ca, r.caKey, "first", year)
	r.second[0], r.second[1] = daemontest.Issue(t, r.ca, r.caKey, "second", year)
	other, err := broker.Certificates(filepath.Join(m.Dir, "other"))
	if err != nil {
		t.Fatal(err)
	}
	r.strange[0], r.strange[1] = daemontest.Issue(t, other.CA, other.CAKey, "strange", year)
	r.place(r.first)
	r.linked = r.start()
	return r
}

func (r *renewal) start() *linked {
	return connect(r.m, "thing-1", func(c *uplink.Config) { c.Certificate, c.Key = r.cert, r.key })
}

func (r *renewal) place(pair [2][]byte) {
	r.m.T.Helper()
	for i, path := range []string{r.cert, r.key} {
		if err := os.WriteFile(path, pair[i], 0o600); err != nil {
			r.m.T.Fatal(err)
		}
	}
}

// restart restarts the broker, so that the daemon reconnects.
func (r *renewal) restart() {
	r.m.T.Helper()
	r.m.Stop()
	daemontest.Await(r.m.T, "loss of the link", r.status, func(s uplink.Status) bool { return !s.Connected })
	r.m.Start()
}

// in waits for a connection with this certificate, and for a fault with this code, if it
// is not empty.
func (r *renewal) in(name string, code health.Code) {
	t := r.m.T
	t.Helper()
	s := r.connected(t)
	if !r.m.AwaitLog("u'" + name + "'") {
		t.Errorf("mosquitto has not seen %q", name)
	}
	got := ""
	if why, ok := s.Err.(*uplink.Explained); ok {
		got = why.Code
	}
	if got != string(code) {
		t.Errorf("connected as %q with the fault %q, want %q: %v", name, got, code, s.Err)
	}
	settled(t, r.put("test/topic", 0, 3))
}

// A new pair is used from the next connection on, and so is the old one when it is put
// back, without a restart of the client.
func TestMosquittoRotation(t *testing.T) {
	r := startRenewal(t)
	r.in("first", "")
	r.place(r.second)
	settled(t, r.put("test/topic", 0, 3)) // the connection stays
	r.restart()
	r.in("second", "")
	r.place(r.first)
	logged := r.m.CountLog("u'first'")
	r.restart()
	r.in("first", "")
	if n := r.m.CountLog("u'first'"); n != logged+1 {
		t.Errorf("%d connections of the first pair, want %d", n, logged+1)
	}
}

// Half of a pair, or a pair that mosquitto refuses, does not end the connection of a
// client.
func TestMosquittoRotationFails(t *testing.T) {
	for name, c := range map[string]struct {
		place func(r *renewal) [2][]byte
		code  health.Code
	}{
		"new certificate, old key":  {func(r *renewal) [2][]byte { return [2][]byte{r.second[0], r.first[1]} }, health.CertificateUnusable},
		"old certificate, new key":  {func(r *renewal) [2][]byte { return [2][]byte{r.first[0], r.second[1]} }, health.CertificateUnusable},
		"half of a new certificate": {func(r *renewal) [2][]byte { return [2][]byte{r.second[0][:100], r.second[1]} }, health.CertificateUnusable},
		"refused":                   {func(r *renewal) [2][]byte { return r.strange }, health.CertificateRejected},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := startRenewal(t)
			r.in("first", "")
			r.place(c.place(r))
			logged := r.m.CountLog("u'first'")
			r.restart()
			r.in("first", c.code)
			if n := r.m.CountLog("u'first'"); n != logged+1 {
				t.Errorf("%d connections of the first pair, want %d", n, logged+1)
			}
			r.place(r.second)
			r.restart()
			r.in("second", "")
		})
	}
}

// mosquitto, with OpenSSL, reports a server certificate as one of another kind, and so do
// we.
func TestMosquittoCertificateForServers(t *testing.T) {
	m := daemontest.StartMosquitto(t)
	r := &renewal{m: m, cert: filepath.Join(m.Dir, "cert"), key: filepath.Join(m.Dir, "key")}
	cert, key := daemontest.IssueFor(t, m.CA, filepath.Join(m.Dir, "certs", "ca.pem.key"), "server", time.Now().Add(365*24*time.Hour), x509.ExtKeyUsageServerAuth)
	r.place([2][]byte{cert, key})
	why := r.start().fails(t, health.CertificateRejected)
	if !strings.Contains(why.Error(), "not made for a client") || !strings.Contains(why.Hint, "clientAuth") {
		t.Errorf("%v; %s", why, why.Hint)
	}
}

// A program that is started with a pair that mosquitto refuses says so, and connects as
// soon as the files are right.
func TestMosquittoRestartDuringRotation(t *testing.T) {
	r := startRenewal(t)
	r.in("first", "")
	r.place([2][]byte{r.second[0], r.first[1]})
	if err := r.stop(); err != nil {
		t.Fatal(err)
	}
	r.linked = r.start()
	r.fails(t, health.CertificateUnusable)
	r.place(r.second)
	r.in("second", "")
}
