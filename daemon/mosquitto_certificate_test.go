package daemon_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"fieldpost/daemon/broker"
	"fieldpost/daemon/health"
	"fieldpost/daemon/uplink"
)

// issue makes a client's pair with this common name, signed by the authority
// whose certificate and key are given. mosquitto logs the name.
func issue(t *testing.T, ca, caKey, name string, until time.Time) (cert, key []byte) {
	t.Helper()
	return issueFor(t, ca, caKey, name, until, x509.ExtKeyUsageClientAuth)
}

// issueFor is like issue, for another use.
func issueFor(t *testing.T, ca, caKey, name string, until time.Time, use x509.ExtKeyUsage) (cert, key []byte) {
	t.Helper()
	decode := func(path string) []byte {
		data, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		block, _ := pem.Decode(data)
		return block.Bytes
	}
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	root, err := x509.ParseCertificate(decode(ca))
	must(err)
	signer, err := x509.ParsePKCS8PrivateKey(decode(caKey))
	must(err)
	own, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(err)
	c := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: name},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: until, ExtKeyUsage: []x509.ExtKeyUsage{use},
	}
	der, err := x509.CreateCertificate(rand.Reader, c, root, &own.PublicKey, signer)
	must(err)
	secret, err := x509.MarshalPKCS8PrivateKey(own)
	must(err)
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: secret})
}

// renewal is a client of mosquitto whose files change, and the authority's own.
type renewal struct {
	*linked
	m             *mosquitto
	ca, caKey     string
	cert, key     string
	first, second [2][]byte // pairs that mosquitto takes
	strange       [2][]byte // one that it does not
}

func startRenewal(t *testing.T) *renewal {
	t.Helper()
	m := startMosquitto(t)
	certs := filepath.Join(m.dir, "certs")
	r := &renewal{m: m, ca: m.CA, caKey: filepath.Join(certs, "ca.pem.key"), cert: filepath.Join(m.dir, "cert"), key: filepath.Join(m.dir, "key")}
	year := time.Now().Add(365 * 24 * time.Hour)
	r.first[0], r.first[1] = issue(t, r.ca, r.caKey, "first", year)
	r.second[0], r.second[1] = issue(t, r.ca, r.caKey, "second", year)
	other, err := broker.Certificates(filepath.Join(m.dir, "other"))
	if err != nil {
		t.Fatal(err)
	}
	r.strange[0], r.strange[1] = issue(t, other.CA, other.CAKey, "strange", year)
	r.place(r.first)
	r.linked = r.start()
	return r
}

func (r *renewal) start() *linked {
	return r.m.link("thing-1", func(c *uplink.Config) { c.Certificate, c.Key = r.cert, r.key })
}

func (r *renewal) place(pair [2][]byte) {
	r.m.t.Helper()
	for i, path := range []string{r.cert, r.key} {
		if err := os.WriteFile(path, pair[i], 0o600); err != nil {
			r.m.t.Fatal(err)
		}
	}
}

// restart has the broker restarted, and with it the connection made anew.
func (r *renewal) restart() {
	r.m.t.Helper()
	r.m.Stop()
	until(r.m.t, "loss of the link", r.status, func(s uplink.Status) bool { return !s.Connected })
	r.m.Start()
}

// in waits for the connection of this certificate; the fault beside it, if any,
// has this code.
func (r *renewal) in(name string, code health.Code) {
	t := r.m.t
	t.Helper()
	s := r.connected(t)
	if !r.m.says("u'" + name + "'") {
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

// A new pair is used from the next connection on, and so is the old one when it
// comes back, without a restart of ours.
func TestMosquittoRotation(t *testing.T) {
	r := startRenewal(t)
	r.in("first", "")
	r.place(r.second)
	settled(t, r.put("test/topic", 0, 3)) // the connection stays
	r.restart()
	r.in("second", "")
	r.place(r.first)
	logged := r.count("u'first'")
	r.restart()
	r.in("first", "")
	if n := r.count("u'first'"); n != logged+1 {
		t.Errorf("%d connections of the first pair, want %d", n, logged+1)
	}
}

// count says how often mosquitto has logged this.
func (r *renewal) count(text string) int {
	r.m.t.Helper()
	log, err := os.ReadFile(filepath.Join(r.m.dir, "log"))
	if err != nil {
		r.m.t.Fatal(err)
	}
	return strings.Count(string(log), text)
}

// Halves of a pair, and a pair that mosquitto refuses, cut nobody off who was in.
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
			logged := r.count("u'first'")
			r.restart()
			r.in("first", c.code)
			if n := r.count("u'first'"); n != logged+1 {
				t.Errorf("%d connections of the first pair, want %d", n, logged+1)
			}
			r.place(r.second)
			r.restart()
			r.in("second", "")
		})
	}
}

// mosquitto, that is OpenSSL, says of a certificate for servers that it is of
// another kind; so do we.
func TestMosquittoCertificateForServers(t *testing.T) {
	m := startMosquitto(t)
	r := &renewal{m: m, cert: filepath.Join(m.dir, "cert"), key: filepath.Join(m.dir, "key")}
	cert, key := issueFor(t, m.CA, filepath.Join(m.dir, "certs", "ca.pem.key"), "server", time.Now().Add(365*24*time.Hour), x509.ExtKeyUsageServerAuth)
	r.place([2][]byte{cert, key})
	why := r.start().fails(t, health.CertificateRejected)
	if !strings.Contains(why.Error(), "not made for a client") || !strings.Contains(why.Hint, "clientAuth") {
		t.Errorf("%v; %s", why, why.Hint)
	}
}

// A program started on a pair that mosquitto refuses says so, and is in as soon
// as the files are right: nothing else is needed.
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
