package broker

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"time"

	"fieldpost/daemon/regular"
)

// epoch is before the clock of any board: one without a battery-backed clock starts at the
// build time of its image, or at 1970.
var epoch = time.Date(2025, time.January, 1, 0, 0, 0, 0, time.UTC)

// notBefore returns the time to verify at: now, unless the clock is plainly wrong.
func notBefore(now time.Time) time.Time {
	if now.Before(epoch) {
		return epoch
	}
	return now
}

// root returns the certificate of our CA, still unsigned. It is valid from the epoch on, so that
// a slow clock does not refuse it.
func root(now time.Time) *x509.Certificate {
	return &x509.Certificate{
		Subject:               pkix.Name{CommonName: "fieldpost test root", Organization: []string{"fieldpost"}},
		NotBefore:             epoch,
		NotAfter:              notBefore(now).AddDate(10, 0, 0),
		KeyUsage:              x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
		BasicConstraintsValid: true,
		IsCA:                  true,
	}
}

// leaf returns a certificate for one side of a connection, valid as long as its CA.
func leaf(name string, ca *x509.Certificate, usage x509.ExtKeyUsage, hosts []string) *x509.Certificate {
	c := &x509.Certificate{
		Subject:               pkix.Name{CommonName: name, Organization: []string{"fieldpost"}},
		NotBefore:             ca.NotBefore,
		NotAfter:              ca.NotAfter,
		KeyUsage:              x509.KeyUsageDigitalSignature,
		ExtKeyUsage:           []x509.ExtKeyUsage{usage},
		BasicConstraintsValid: true,
	}
	for _, host := range hosts {
		if ip := net.ParseIP(host); ip != nil {
			c.IPAddresses = append(c.IPAddresses, ip)
		} else {
			c.DNSNames = append(c.DNSNames, host)
		}
	}
	return c
}

// issue signs a certificate; without a parent it is self-signed.
func issue(template, parent *x509.Certificate, public *ecdsa.PublicKey, signer *ecdsa.PrivateKey) ([]byte, error) {
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 127))
	if err != nil {
		return nil, fmt.Errorf("issue certificate: %w", err)
	}
	template.SerialNumber = serial
	if parent == nil {
		parent = template
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, public, signer)
	if err != nil {
		return nil, fmt.Errorf("issue certificate: %w", err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), nil
}

func newKey() ([]byte, error) {
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("make key: %w", err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(k)
	if err != nil {
		return nil, fmt.Errorf("make key: %w", err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), nil
}

func readKey(path string) (*ecdsa.PrivateKey, error) {
	der, err := readPEM(path, "PRIVATE KEY")
	if err != nil {
		return nil, err
	}
	k, err := x509.ParsePKCS8PrivateKey(der)
	if err != nil {
		return nil, fmt.Errorf("read %q: %w", path, err)
	}
	ec, ok := k.(*ecdsa.PrivateKey)
	if !ok {
		return nil, fmt.Errorf("read %q: want an ECDSA key, as this program makes them (got %T)", path, k)
	}
	return ec, nil
}

func readCertificate(path string) (*x509.Certificate, error) {
	der, err := readPEM(path, "CERTIFICATE")
	if err != nil {
		return nil, err
	}
	c, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, fmt.Errorf("read %q: %w", path, err)
	}
	return c, nil
}

func readPEM(path, kind string) ([]byte, error) {
	text, err := regular.Read(path, 1<<20)
	if err != nil {
		return nil, err
	}
	block, _ := pem.Decode(text)
	if block == nil {
		return nil, fmt.Errorf("read %q: %w", path, errors.New("no PEM in it"))
	}
	if block.Type != kind {
		return nil, fmt.Errorf("read %q: want a PEM %s (got %q)", path, kind, block.Type)
	}
	return block.Bytes, nil
}
