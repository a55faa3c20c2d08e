package identity

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"fieldpost/daemon/durable"
	"fieldpost/daemon/regular"
)

// The types of private keys that [NewKey] makes.
const (
	P256    = "p256"
	RSA2048 = "rsa2048"
)

// maxFile is the largest PEM file that is read, in bytes.
const maxFile = 1 << 20

// NewKey makes a private key of a type: [P256] or [RSA2048]. RSA may take a second on a small
// board.
func NewKey(kind string) (crypto.Signer, error) {
	switch kind {
	case P256:
		return ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	case RSA2048:
		return rsa.GenerateKey(rand.Reader, 2048)
	}
	return nil, fmt.Errorf("key type %q: want %s or %s", kind, P256, RSA2048)
}

// EncodeKey returns a key in PEM, as PKCS #8.
func EncodeKey(key crypto.Signer) ([]byte, error) {
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, fmt.Errorf("encode key: %w", err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), nil
}

// maxCommonName is the upper bound of a common name (RFC 5280, ub-common-name).
const maxCommonName = 64

// NewRequest returns a certificate signing request for a key, in PEM. Its subject is the common
// name, cut to the 64 bytes that one may have; AWS IoT Core writes another into the certificate.
func NewRequest(key crypto.Signer, name string) ([]byte, error) {
	if len(name) > maxCommonName {
		name = strings.ToValidUTF8(name[:maxCommonName], "")
	}
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{Subject: pkix.Name{CommonName: name}}, key)
	if err != nil {
		return nil, fmt.Errorf("make certificate request: %w", err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der}), nil
}

// ParseRequest returns the first certificate signing request in PEM data. Its signature is
// checked: whoever made it had the key.
func ParseRequest(data []byte) (*x509.CertificateRequest, error) {
	blocks, err := SplitPEM(data)
	if err != nil {
		return nil, err
	}
	other := ""
	for _, b := range blocks {
		switch {
		case b.Block == nil:
			return nil, fmt.Errorf("what begins on line %d cannot be read: it is cut short or damaged", b.Line)
		case b.Type != "CERTIFICATE REQUEST" && b.Type != "NEW CERTIFICATE REQUEST":
			other = b.Type
			continue
		}
		r, err := x509.ParseCertificateRequest(b.Bytes)
		if err == nil {
			err = r.CheckSignature()
		}
		if err != nil {
			return nil, fmt.Errorf("the certificate request is damaged: %w", err)
		}
		return r, nil
	}
	return nil, missingBlock(data, other, "certificate request")
}

// ID returns what AWS IoT Core calls a certificate's id: the SHA-256 of its DER form, as 64
// hexadecimal digits.
func ID(c *x509.Certificate) string {
	sum := sha256.Sum256(c.Raw)
	return hex.EncodeToString(sum[:])
}

// SameKey reports whether two public keys are the same.
func SameKey(a, b crypto.PublicKey) bool {
	k, ok := a.(interface{ Equal(crypto.PublicKey) bool })
	return ok && k.Equal(b)
}

// DescribeKey names the type of a public key: "EC P-256", "RSA 2048".
func DescribeKey(public crypto.PublicKey) string {
	switch k := public.(type) {
	case *ecdsa.PublicKey:
		return "EC " + k.Curve.Params().Name
	case *rsa.PublicKey:
		return fmt.Sprintf("RSA %d", k.N.BitLen())
	}
	return strings.TrimSuffix(strings.TrimPrefix(fmt.Sprintf("%T", public), "*"), ".PublicKey")
}

// Files are the paths of a device's files.
type Files struct {
	Key         string // the private key; made with mode 0600
	Request     string // the certificate signing request
	Certificate string // the certificate, which an authority makes
}

// FilesIn returns the files of a directory by the names that AWS IoT gives them.
func FilesIn(dir string) Files {
	return Files{
		Key:         filepath.Join(dir, "private.pem.key"),
		Request:     filepath.Join(dir, "certificate.pem.csr"),
		Certificate: filepath.Join(dir, "certificate.pem.crt"),
	}
}

// Pair is a private key with its certificate signing request.
type Pair struct {
	Key     crypto.Signer
	Request []byte   // PEM
	Made    []string // the paths of the files that [Make] created, in this order; nil: all were there

	before func(path string, data []byte) error
}

// Make makes a private key and a request for it, or completes and returns those that are there.
// An existing file is never replaced: a run that was killed between the two is completed, and
// of two at once both return the same pair. Each file appears as a whole, and is on disk when
// Make returns.
//
// kind is the type of key: [P256], [RSA2048], or "" for P-256 or whatever is there. It is an
// error if the key that is there is of another type, if the request is for another key, or if
// there is a certificate without its key. The directories are created with mode 0700.
//
// before, if not nil, is called with the path and content of each file before it is created; an
// error of it ends Make. So whoever keeps a record of what was made has it over any crash.
func Make(f Files, kind, name string, before func(path string, data []byte) error) (*Pair, error) {
	p := &Pair{before: before}
	err := p.makeKey(f, kind)
	if err == nil {
		err = p.makeRequest(f, name)
	}
	return p, err
}

func (p *Pair) makeKey(f Files, kind string) error {
	key, err := ReadKey(f.Key)
	if errors.Is(err, fs.ErrNotExist) {
		if _, err := os.Lstat(f.Certificate); err == nil {
			return fmt.Errorf("%q exists without %q: no new key belongs to it; move it away, or choose another directory", f.Certificate, f.Key)
		}
		if err := p.createKey(f.Key, kind); err != nil {
			return err
		}
		key, err = ReadKey(f.Key) // ours, or that of another run
	}
	if err != nil {
		return err
	}
	if is := kindOf(key.Public()); kind != "" && is != kind {
		return fmt.Errorf("%q exists and is %s, not %s; an existing key is never replaced: choose another directory", f.Key, DescribeKey(key.Public()), kind)
	}
	p.Key = key
	return nil
}

func (p *Pair) createKey(path, kind string) error {
	if kind == "" {
		kind = P256
	}
	key, err := NewKey(kind)
	if err != nil {
		return err
	}
	data, err := EncodeKey(key)
	if err != nil {
		return err
	}
	return p.create(path, data, 0o600)
}

func (p *Pair) makeRequest(f Files, name string) error {
	data, err := regular.Read(f.Request, maxFile)
	if errors.Is(err, fs.ErrNotExist) {
		made, err := NewRequest(p.Key, name)
		if err != nil {
			return err
		}
		if err := p.create(f.Request, made, 0o644); err != nil {
			return err
		}
		data, err = regular.Read(f.Request, maxFile)
		if err != nil {
			return fmt.Errorf("read certificate request: %w", err)
		}
	} else if err != nil {
		return fmt.Errorf("read certificate request: %w", err)
	}
	r, err := ParseRequest(data)
	if err != nil {
		return fmt.Errorf("%q: %w; move it away to have it made again", f.Request, err)
	}
	if !SameKey(p.Key.Public(), r.PublicKey) {
		return fmt.Errorf("%q is not for the key %q; move it away to have it made again", f.Request, f.Key)
	}
	p.Request = data
	return nil
}

// create creates a file, unless another run was faster.
func (p *Pair) create(path string, data []byte, mode fs.FileMode) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return fmt.Errorf("create directory: %w", err)
	}
	if p.before != nil {
		if err := p.before(path, data); err != nil {
			return err
		}
	}
	err := durable.CreateFile(path, data, mode)
	switch {
	case err == nil:
		p.Made = append(p.Made, path)
	case !errors.Is(err, fs.ErrExist):
		return err
	}
	return nil
}

// ReadKey reads a private key. The error says nothing of its content; it wraps [fs.ErrNotExist]
// if there is no file.
func ReadKey(path string) (crypto.Signer, error) {
	data, err := regular.Read(path, maxFile)
	if err != nil {
		return nil, fmt.Errorf("read key: %w", err)
	}
	key, err := ParseKey(data)
	if err != nil {
		return nil, fmt.Errorf("%q: %w", path, err)
	}
	return key, nil
}

// ReadCertificate reads the first certificate of a file. The error wraps [fs.ErrNotExist] if
// there is no file.
func ReadCertificate(path string) (*x509.Certificate, error) {
	data, err := regular.Read(path, maxFile)
	if err != nil {
		return nil, fmt.Errorf("read certificate: %w", err)
	}
	all, bad, err := ParseCertificates(data)
	if err == nil && len(bad) > 0 {
		err = errors.New(bad[0])
	}
	if err != nil {
		return nil, fmt.Errorf("%q: %w", path, err)
	}
	return all[0], nil
}

// kindOf returns the type of a key as [NewKey] takes it; "" for others.
func kindOf(public crypto.PublicKey) string {
	switch DescribeKey(public) {
	case "EC P-256":
		return P256
	case "RSA 2048":
		return RSA2048
	}
	return ""
}
