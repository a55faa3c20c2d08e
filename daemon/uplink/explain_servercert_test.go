package uplink

import (
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"testing"
	"testing/synctest"

	"fieldpost/daemon/certtest"
	"fieldpost/daemon/health"
	"fieldpost/daemon/identity"
)

// impostor makes an authority whose certificate must not sign.
func impostor(t *testing.T, name string, tweak func(*x509.Certificate)) *certtest.Authority {
	t.Helper()
	return certtest.NewAuthority(t, name, func(c *x509.Certificate) {
		c.IsCA, c.KeyUsage = false, 0
		tweak(c)
	})
}

// serveDER serves the bytes of a certificate as they are.
func (b *broker) serveDER(cert, key []byte) {
	b.t.Helper()
	block, _ := pem.Decode(cert)
	k, err := identity.ParseKey(key)
	must(b.t, err)
	b.tls.Certificates = []tls.Certificate{{Certificate: [][]byte{block.Bytes}, PrivateKey: k}}
}

// Each usual mistake in a broker's certificate is named, in a real handshake.
func TestBrokersCertificateIsWrong(t *testing.T) {
	for name, c := range map[string]struct {
		prepare func(t *testing.T, b *broker)
		says    []string
	}{
		"common name only": {func(t *testing.T, b *broker) {
			b.serve(b.ca.Issue(brokerName, func(c *x509.Certificate) { c.DNSNames, c.IPAddresses = nil, nil }))
		}, []string{`names no host: it has the common name "` + brokerName + `" and no subject alternative name`, "subjectAltName=DNS:" + brokerName}},
		"not for servers": {func(t *testing.T, b *broker) {
			b.serve(b.ca.Issue(brokerName, func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth} }))
		}, []string{"is not made for servers", "serverAuth"}},
		"authority reissued": {func(t *testing.T, b *broker) {
			b.serve(certtest.NewAuthority(t, "test root", nil).Issue(brokerName, nil))
		}, []string{`a root with the name "CN=test root", but the broker's certificate is not signed with its key`, "reissued"}},
		"authority that is none": {func(t *testing.T, b *broker) {
			a := impostor(t, "no authority", func(*x509.Certificate) {})
			b.serve(a.Issue(brokerName, nil))
			put(t, b.file("ca.PEM"), a.PEM)
		}, []string{`issued by "CN=no authority", and what broker.ca has of that name may not sign`, "CA:TRUE"}},
		"authority for other names": {func(t *testing.T, b *broker) {
			a := impostor(t, "elsewhere", func(c *x509.Certificate) {
				c.IsCA, c.KeyUsage, c.PermittedDNSDomainsCritical, c.PermittedDNSDomains = true, x509.KeyUsageCertSign, true, []string{"elsewhere.test"}
			})
			b.serve(a.Issue(brokerName, func(c *x509.Certificate) { c.IPAddresses = nil }))
			put(t, b.file("ca.PEM"), a.PEM)
		}, []string{"may not sign for that name"}},
		"signed by itself": {func(t *testing.T, b *broker) {
			a := impostor(t, brokerName, func(c *x509.Certificate) { c.DNSNames = []string{brokerName} })
			b.serve(a.PEM, certtest.KeyPEM(t, a.Key))
		}, []string{`self-signed, "CN=` + brokerName + `", and broker.ca does not have it`, "put its certificate into broker.ca"}},
		"SHA-1": {func(t *testing.T, b *broker) {
			b.serveDER(sample(t, "sha1.crt"), sample(t, "good.key"))
			put(t, b.file("ca.PEM"), sample(t, "sha1-root.crt"))
		}, []string{`signed by "CN=sha1-root" in a way that is not secure any more`, "SHA-256"}},
		"negative serial number": {func(t *testing.T, b *broker) { b.serveDER(sample(t, "negative.crt"), sample(t, "good.key")) },
			[]string{"the broker's certificate has a negative serial number", "reissued"}},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := newBroker(t)
				c.prepare(t, b)
				checkSays(t, refusedHandshake(t, b, nil), health.ServerUntrusted, c.says...)
			})
		})
	}
}

// The broker's certificate has a name, but the configuration an address, and the other
// way round.
func TestNameAndAddress(t *testing.T) {
	for _, c := range []struct {
		host  string
		names []string
		says  []string
	}{
		{"10.0.0.5", nil, []string{"names no host", "subjectAltName=IP:10.0.0.5"}},
		{"10.0.0.5", []string{"broker.lan"}, []string{`is for ["broker.lan"] and not for "10.0.0.5"`}},
		{"broker.lan", nil, []string{"names no host", "subjectAltName=DNS:broker.lan"}},
	} {
		cert := &x509.Certificate{Subject: pkix.Name{CommonName: "broker.lan"}, DNSNames: c.names}
		err := cert.VerifyHostname(c.host)
		checkSays(t, Explain(err, Disconnect{Phase: Handshaking, Endpoint: c.host + ":8883"}), health.ServerUntrusted, c.says...)
	}
}

// crypto/tls refuses a key that TLS does not support, with its own message.
func TestBrokersKeyIsUnusual(t *testing.T) {
	for _, said := range []string{
		"tls: server's certificate contains an unsupported type of public key: <nil>",
		"tls: server sent certificate containing RSA key larger than 8192 bits",
	} {
		checkSays(t, Explain(errors.New(said), Disconnect{Phase: Handshaking, Endpoint: "b:8883"}), health.ServerUntrusted, "the key of the broker's certificate is of a kind that TLS does not take")
	}
	checkSays(t, Explain(errors.New("tls: failed to parse certificate from server: x509: unsupported elliptic curve"), Disconnect{Phase: Handshaking, Endpoint: "b:8883"}),
		health.ServerUntrusted, "the broker's certificate has a key that is on an elliptic curve")
}
