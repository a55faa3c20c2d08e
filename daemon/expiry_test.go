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

	"fieldpost/daemon/spool"
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
	f := until(t, "fault", r.taken, func(rec spool.Record) bool {
		return rec.Kind == spool.Fault && strings.Contains(fmt.Sprint(rec.Fields), "certificate_expiring")
	})
	if text := fmt.Sprint(f.Fields); !strings.Contains(text, "certificate.pem.crt") || !strings.Contains(text, "raised") {
		t.Errorf("fault %s, want it raised, about the certificate", text)
	}
}
