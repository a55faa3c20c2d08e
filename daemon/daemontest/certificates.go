package daemontest

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"os"
	"testing"
	"time"
)

// Issue makes a client's certificate and key, both PEM, with this common name.
// ca and caKey are the files of the authority that signs. mosquitto logs the name.
func Issue(t testing.TB, ca, caKey, name string, until time.Time) (cert, key []byte) {
	t.Helper()
	return IssueFor(t, ca, caKey, name, until, x509.ExtKeyUsageClientAuth)
}

// IssueFor is like [Issue], for another extended key usage.
func IssueFor(t testing.TB, ca, caKey, name string, until time.Time, use x509.ExtKeyUsage) (cert, key []byte) {
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
