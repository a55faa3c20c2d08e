// Package certtest makes certificates for tests. All keys are ECDSA P-256, in
// PEM as PKCS #8. Its functions fail the test themselves, and must be called
// from the test's goroutine.
package certtest

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"os"
	"testing"
	"time"
)

// The dates of a certificate unless the test sets others. They enclose both the
// real time and the time of testing/synctest, which begins on 1 January 2000.
var (
	LongAgo  = time.Date(1990, 1, 1, 0, 0, 0, 0, time.UTC)
	FarAhead = time.Date(2090, 1, 1, 0, 0, 0, 0, time.UTC)
)

// Authority is a throw-away certificate authority.
type Authority struct {
	Cert *x509.Certificate
	Key  *ecdsa.PrivateKey
	PEM  []byte // of Cert

	t testing.TB
}

// NewAuthority makes an authority of this name. tweak, if not nil, may change
// its certificate, so that it is none.
func NewAuthority(t testing.TB, name string, tweak func(*x509.Certificate)) *Authority {
	t.Helper()
	c := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, NotBefore: LongAgo, NotAfter: FarAhead,
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	if tweak != nil {
		tweak(c)
	}
	key := NewKey(t)
	der := create(t, c, c, key, key)
	cert, err := x509.ParseCertificate(der)
	must(t, err)
	return &Authority{Cert: cert, Key: key, PEM: Encode("CERTIFICATE", der), t: t}
}

// ReadAuthority reads an authority from the files of its certificate and key.
func ReadAuthority(t testing.TB, certFile, keyFile string) *Authority {
	t.Helper()
	cert, err := os.ReadFile(certFile)
	must(t, err)
	key, err := os.ReadFile(keyFile)
	must(t, err)
	a := &Authority{PEM: cert, t: t}
	a.Cert, err = x509.ParseCertificate(Decode(t, cert))
	must(t, err)
	k, err := x509.ParsePKCS8PrivateKey(Decode(t, key))
	must(t, err)
	a.Key = k.(*ecdsa.PrivateKey)
	return a
}

// Issue makes a certificate with this name, as common name and as host, and its
// key, both PEM. It is for clients and servers, and for 127.0.0.1; tweak, if not
// nil, may change that.
func (a *Authority) Issue(name string, tweak func(*x509.Certificate)) (cert, key []byte) {
	a.t.Helper()
	c := &x509.Certificate{
		SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: name}, DNSNames: []string{name}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		NotBefore: LongAgo, NotAfter: FarAhead,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth},
	}
	if tweak != nil {
		tweak(c)
	}
	k := NewKey(a.t)
	return Encode("CERTIFICATE", create(a.t, c, a.Cert, k, a.Key)), KeyPEM(a.t, k)
}

// SelfSigned makes a certificate that is good between two times, and its key,
// both PEM.
func SelfSigned(t testing.TB, from, to time.Time) (cert, key []byte) {
	t.Helper()
	k := NewKey(t)
	c := &x509.Certificate{SerialNumber: big.NewInt(1), NotBefore: from, NotAfter: to}
	return Encode("CERTIFICATE", create(t, c, c, k, k)), KeyPEM(t, k)
}

func create(t testing.TB, c, parent *x509.Certificate, of, signer *ecdsa.PrivateKey) (der []byte) {
	t.Helper()
	der, err := x509.CreateCertificate(rand.Reader, c, parent, &of.PublicKey, signer)
	must(t, err)
	return der
}

// NewKey makes a key.
func NewKey(t testing.TB) *ecdsa.PrivateKey {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(t, err)
	return k
}

// KeyPEM is a key in PEM.
func KeyPEM(t testing.TB, k *ecdsa.PrivateKey) []byte {
	t.Helper()
	der, err := x509.MarshalPKCS8PrivateKey(k)
	must(t, err)
	return Encode("PRIVATE KEY", der)
}

// Encode makes one block of PEM.
func Encode(kind string, der []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der})
}

// Decode gives what the first block of PEM holds.
func Decode(t testing.TB, text []byte) []byte {
	t.Helper()
	block, _ := pem.Decode(text)
	if block != nil {
		return block.Bytes
	}
	t.Fatalf("no PEM: %.80q", text)
	return nil
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
