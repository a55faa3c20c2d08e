package daemontest

import (
	"crypto/x509"
	"math/big"
	"testing"
	"time"

	"fieldpost/daemon/certtest"
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
	return certtest.ReadAuthority(t, ca, caKey).Issue(name, func(c *x509.Certificate) {
		c.SerialNumber = big.NewInt(time.Now().UnixNano())
		c.NotBefore, c.NotAfter = time.Now().Add(-time.Hour), until
		c.DNSNames, c.IPAddresses, c.ExtKeyUsage = nil, nil, []x509.ExtKeyUsage{use}
	})
}
