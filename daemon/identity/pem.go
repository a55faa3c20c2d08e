package identity

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"strings"
)

// Block is one block of a PEM file.
type Block struct {
	*pem.Block     // nil if what begins here cannot be read
	Line       int // on which it begins, from 1
}

// byteOrderMark is what some editors put in front of UTF-8, and what is between
// two such files that were put into one.
var byteOrderMark = []byte("\xef\xbb\xbf")

// SplitPEM gives all blocks that begin in a PEM file, read or not: encoding/pem
// passes over what it cannot read, and with it a root would be lost silently.
func SplitPEM(data []byte) ([]Block, error) {
	switch {
	case bytes.HasPrefix(data, []byte("\xff\xfe")), bytes.HasPrefix(data, []byte("\xfe\xff")):
		return nil, errors.New("it is UTF-16 text; save it as UTF-8 or ASCII")
	case len(data) > 3 && data[0] == 0x30 && data[1]&0x80 != 0:
		return nil, errors.New("it is binary (DER, or PKCS #12), not PEM; convert it, a certificate with `openssl x509 -inform der`")
	}
	const begin = "-----BEGIN "
	data = bytes.ReplaceAll(data, byteOrderMark, nil)
	data = bytes.ReplaceAll(data, []byte("\r\n"), []byte("\n"))
	var blocks []Block
	var part []byte
	line := 0
	flush := func() {
		if part != nil {
			b, _ := pem.Decode(part)
			blocks[len(blocks)-1].Block = b
		}
	}
	for text := range bytes.Lines(data) {
		line++
		text = bytes.TrimLeft(text, " \t")
		if bytes.HasPrefix(text, []byte(begin)) {
			flush()
			blocks, part = append(blocks, Block{Line: line}), []byte{}
		}
		if part != nil {
			part = append(part, text...)
		}
	}
	flush()
	return blocks, nil
}

// ParseCertificates gives the certificates of a PEM file, at least one, and says
// what is wrong with those in it that cannot be read.
func ParseCertificates(data []byte) (good []*x509.Certificate, bad []string, err error) {
	blocks, err := SplitPEM(data)
	if err != nil {
		return nil, nil, err
	}
	other, n := "", 0
	for _, b := range blocks {
		switch {
		case b.Block == nil:
			n++
			bad = append(bad, fmt.Sprintf("what begins on line %d cannot be read: it is cut short or damaged", b.Line))
			continue
		case b.Type != "CERTIFICATE":
			other = b.Type
			continue
		}
		n++
		c, err := x509.ParseCertificate(b.Bytes)
		if err != nil {
			bad = append(bad, fmt.Sprintf("certificate %d in it, on line %d, %s", n, b.Line, CertificateProblem(err)))
			continue
		}
		good = append(good, c)
	}
	switch {
	case len(good) > 0:
		return good, bad, nil
	case len(bad) > 0:
		return nil, nil, errors.New(bad[0])
	}
	return nil, nil, missingBlock(data, other, "certificate")
}

// missingBlock says that a file does not hold what it should.
func missingBlock(data []byte, other, want string) error {
	switch {
	case other != "":
		return fmt.Errorf("it holds %q and no %s", other, want)
	case len(bytes.TrimSpace(bytes.ReplaceAll(data, byteOrderMark, nil))) == 0:
		return errors.New("it is empty")
	}
	return fmt.Errorf("it holds no PEM %s", want)
}

const (
	namedCurve   = "make a new one with a named curve: `openssl ecparam -name prime256v1 -param_enc named_curve -genkey`"
	unusualCurve = "is on an elliptic curve that TLS does not take; make a new pair on P-256 or P-384"
)

// CertificateProblem says why a certificate cannot be parsed.
func CertificateProblem(err error) string {
	text := err.Error()
	switch {
	case strings.Contains(text, "unsupported elliptic curve"):
		return "has a key that " + unusualCurve
	case strings.Contains(text, "invalid ECDSA parameters"):
		return "has a key that spells out its curve's parameters, which TLS does not take; " + namedCurve
	case strings.Contains(text, "negative serial number"):
		return "has a negative serial number, which no certificate may have"
	}
	return "is damaged: " + text
}

// ParseKey gives the private key of a PEM file. An error says nothing of it.
func ParseKey(data []byte) (crypto.Signer, error) {
	blocks, err := SplitPEM(data)
	if err != nil {
		return nil, err
	}
	other, bad := "", 0
	for _, b := range blocks {
		switch {
		case b.Block == nil:
			bad = b.Line
		case b.Type == "ENCRYPTED PRIVATE KEY" || b.Headers["DEK-Info"] != "":
			return nil, errors.New("the private key is encrypted")
		case b.Type == "PRIVATE KEY" || b.Type == "RSA PRIVATE KEY" || b.Type == "EC PRIVATE KEY":
			return parsePrivateKey(b.Bytes)
		case b.Type != "EC PARAMETERS":
			other = b.Type
		}
	}
	if bad > 0 {
		return nil, fmt.Errorf("what begins on line %d cannot be read: it is cut short or damaged", bad)
	}
	return nil, missingBlock(data, other, "private key")
}

// primeField is in a key that spells out its curve's parameters: the object
// identifier of RFC 3279, section 2.3.5, of the field that they begin with.
var primeField = []byte("\x06\x07\x2a\x86\x48\xce\x3d\x01\x01")

// parsePrivateKey gives the key, whatever of the three forms its bytes have: programs
// have not always named them rightly.
func parsePrivateKey(der []byte) (crypto.Signer, error) {
	var key any
	key, err := x509.ParsePKCS8PrivateKey(der)
	if err != nil {
		if rsa, e := x509.ParsePKCS1PrivateKey(der); e == nil {
			key, err = rsa, nil
		} else if ec, e := x509.ParseECPrivateKey(der); e == nil {
			key, err = ec, nil
		} else if strings.Contains(e.Error(), "unknown elliptic curve") {
			err = e
		}
	}
	s, signs := key.(crypto.Signer)
	switch {
	case err != nil && bytes.Contains(der, primeField):
		return nil, errors.New("the private key spells out its curve's parameters, which TLS does not take; " + namedCurve)
	case err != nil && strings.Contains(err.Error(), "unknown elliptic curve"):
		return nil, errors.New("the private key " + unusualCurve)
	case err != nil && strings.Contains(err.Error(), "unknown algorithm"), err == nil && !signs:
		return nil, errors.New("the private key is of a kind that TLS does not take; make a new pair, RSA with 2048 bits or EC on P-256")
	case err != nil:
		return nil, errors.New("the private key is damaged") // err may tell of its contents
	}
	if what := UnusableKey(s.Public()); what != "" {
		return nil, errors.New("the private key " + what)
	}
	return s, nil
}

// UnusableKey says why no TLS connection can be made with a key; "" is none.
func UnusableKey(public crypto.PublicKey) string {
	switch k := public.(type) {
	case *rsa.PublicKey:
		if n := k.N.BitLen(); n < 1024 {
			return fmt.Sprintf("has %d bits only, which is not secure; make a new pair of 2048 bits", n)
		}
	case *ecdsa.PublicKey:
		if k.Curve != elliptic.P256() && k.Curve != elliptic.P384() && k.Curve != elliptic.P521() {
			return unusualCurve
		}
	case ed25519.PublicKey:
	default:
		return "is of a kind that TLS does not take; make a new pair, RSA with 2048 bits or EC on P-256"
	}
	return ""
}

// Belongs reports whether a certificate is for this key.
func Belongs(c *x509.Certificate, key crypto.Signer) bool {
	public, ok := c.PublicKey.(interface{ Equal(crypto.PublicKey) bool })
	return ok && public.Equal(key.Public())
}
