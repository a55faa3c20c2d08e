package daemon_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"math/big"
	"os"
	"strings"
	"testing"
	"time"

	"fieldpost/daemon/message"
	"fieldpost/daemon/uplink"
)

// shortLived replaces the client's pair by one that ends soon.
func (s *site) shortLived(left time.Duration) {
	s.t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		s.t.Fatal(err)
	}
	c := x509.Certificate{SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(left)}
	der, err := x509.CreateCertificate(rand.Reader, &c, &c, &key.PublicKey, key)
	if err != nil {
		s.t.Fatal(err)
	}
	secret, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		s.t.Fatal(err)
	}
	for path, block := range map[string]*pem.Block{
		s.files.Certificate: {Type: "CERTIFICATE", Bytes: der}, s.files.Key: {Type: "PRIVATE KEY", Bytes: secret},
	} {
		if err := os.WriteFile(path, pem.EncodeToMemory(block), 0o600); err != nil {
			s.t.Fatal(err)
		}
	}
}

// A certificate that ends within thirty days is a fault, while it still works.
func TestCertificateExpiringIsAFault(t *testing.T) {
	s := newSite(t, nil)
	cfg := s.config("", "")
	s.shortLived(10 * 24 * time.Hour)
	r := s.start(cfg)
	f := until(t, "fault", r.taken, func(rec message.Record) bool {
		return rec.Kind == message.Fault && strings.Contains(fmt.Sprint(rec.Fields), "certificate_expiring")
	})
	if text := fmt.Sprint(f.Fields); !strings.Contains(text, "certificate.pem.crt") || !strings.Contains(text, "raised") {
		t.Errorf("fault %s, want it raised, about the certificate", text)
	}
}

// Once a new pair is in place and in use, that is over.
func TestRotationEndsTheExpiry(t *testing.T) {
	s := newSite(t, nil)
	cfg := s.config("", "")
	good := map[string][]byte{}
	for _, path := range []string{s.files.Certificate, s.files.Key} {
		data, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		good[path] = data
	}
	cert, key := issue(t, s.files.CA, s.files.CAKey, "fieldpost", time.Now().Add(29*24*time.Hour))
	place := func(cert, key []byte) {
		for path, data := range map[string][]byte{s.files.Certificate: cert, s.files.Key: key} {
			if err := os.WriteFile(path, data, 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
	place(cert, key)
	r := s.start(cfg).linkedUp(t)
	expiring := func(state string) func(rec message.Record) bool {
		return func(rec message.Record) bool {
			text := fmt.Sprint(rec.Fields)
			return rec.Kind == message.Fault && strings.Contains(text, "certificate_expiring") && strings.Contains(text, state)
		}
	}
	until(t, "fault", r.taken, expiring("raised"))
	place(good[s.files.Certificate], good[s.files.Key])
	s.kick(cfg.Broker.ClientID)
	until(t, "end of the fault", r.taken, expiring("cleared"))
}

// kick has the broker close the connection of a client, as another with its
// client id comes.
func (s *site) kick(id string) {
	s.t.Helper()
	up := make(chan uplink.Status, 256)
	l, err := uplink.New(uplink.Config{
		Endpoint: s.addr, ClientID: id, CA: s.files.CA, Certificate: s.files.Certificate, Key: s.files.Key,
		Outbox: uplink.NewQueue(), Observe: changes(up),
	})
	if err != nil {
		s.t.Fatal(err)
	}
	stop := background(s.t, l.Run)
	until(s.t, "connection of the rival", up, func(st uplink.Status) bool { return st.Connected })
	if err := stop(); err != nil {
		s.t.Fatal(err)
	}
}
