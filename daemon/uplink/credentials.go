package uplink

import (
	"bytes"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"time"

	"fieldpost/daemon/health"
	"fieldpost/daemon/regular"
)

// expiresSoon is how long before its end a certificate is complained about.
const expiresSoon = 30 * 24 * time.Hour

// Problem is one thing that is wrong with the credentials.
type Problem struct {
	Code    string // a fault's code, as in package health: certificate_unusable or certificate_expiring
	File    string // the file it is about
	What    string // what is wrong
	Do      string // what to do about it
	Warning bool   // a connection is possible all the same
}

// String gives the problem as one line, with what to do.
func (p Problem) String() string {
	grade := "error"
	if p.Warning {
		grade = "warning"
	}
	return fmt.Sprintf("%s: %s: %s; %s", grade, p.File, p.What, p.Do)
}

// CheckCredentials examines the three files as a connection would use them at
// the time now: whether they can be read, hold what they should, belong
// together and are valid. None is the good answer.
func CheckCredentials(ca, cert, key string, now time.Time) (problems []Problem) {
	c, problems := readCredentials(ca, cert, key)
	problems = append(problems, dates(ca, cert, c, now)...)
	problems = append(problems, notRoots(ca, c.rootCerts)...)
	return problems
}

// credentials are the three files at one moment.
type credentials struct {
	pair      tls.Certificate
	leaf      *x509.Certificate
	roots     *x509.CertPool
	rootCerts []*x509.Certificate
	sum       [sha256.Size]byte // of the three files
}

// readCredentials reads and parses the files, here and now.
func readCredentials(ca, cert, key string) (*credentials, []Problem) {
	return readPEMs(FilesConfig{CA: ca, Certificate: cert, Key: key, Read: regular.Read}).parse()
}

// parse gives what is in the files. It is usable only if there is no problem;
// what could be parsed is filled in all the same.
func (p pems) parse() (*credentials, []Problem) {
	c := &credentials{roots: x509.NewCertPool(), sum: p.sum}
	problems := p.problems
	unusable := func(file, what, do string) { problems = append(problems, unusableFile(file, what, do)) }
	if p.ca != nil {
		var err error
		if c.rootCerts, err = parseCertificates(p.ca); err != nil {
			unusable(p.from.CA, err.Error(), "put the broker's root certificates there, for AWS IoT Core AmazonRootCA1.pem")
		}
	}
	if p.cert != nil {
		if chain, err := parseCertificates(p.cert); err != nil {
			unusable(p.from.Certificate, err.Error(), "put the device certificate there, as it was downloaded")
		} else {
			c.leaf = chain[0]
		}
	}
	keyGood := p.key != nil
	if keyGood {
		if err := parseKey(p.key); err != nil {
			keyGood = false
			unusable(p.from.Key, err.Error(), "put the private key there, as it was downloaded, without a passphrase")
		}
	}
	for _, r := range c.rootCerts {
		c.roots.AddCert(r)
	}
	if c.leaf != nil && keyGood {
		var err error
		if c.pair, err = tls.X509KeyPair(p.cert, p.key); err != nil {
			unusable(p.from.Key, fmt.Sprintf("the private key does not belong to the certificate %q", p.from.Certificate), "put certificate and key of the same pair into place")
		}
	}
	return c, problems
}

// parseCertificates gives the certificates of a PEM file, at least one.
func parseCertificates(data []byte) ([]*x509.Certificate, error) {
	var certs []*x509.Certificate
	other := ""
	for {
		var block *pem.Block
		if block, data = pem.Decode(data); block == nil {
			break
		}
		if block.Type != "CERTIFICATE" {
			other = block.Type
			continue
		}
		c, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, fmt.Errorf("certificate %d in it is damaged: %w", len(certs)+1, err)
		}
		certs = append(certs, c)
	}
	switch {
	case len(certs) > 0:
		return certs, nil
	case other != "":
		return nil, fmt.Errorf("it holds %q and no certificate", other)
	case len(bytes.TrimSpace(data)) == 0:
		return nil, errors.New("it is empty")
	}
	return nil, errors.New("it holds no PEM certificate")
}

// parseKey says what is wrong with a private key by itself.
func parseKey(data []byte) error {
	other := ""
	for {
		var block *pem.Block
		if block, data = pem.Decode(data); block == nil {
			break
		}
		switch {
		case block.Type == "ENCRYPTED PRIVATE KEY" || block.Headers["DEK-Info"] != "":
			return errors.New("the private key is encrypted")
		case block.Type == "PRIVATE KEY":
			_, err := x509.ParsePKCS8PrivateKey(block.Bytes)
			return damaged(err)
		case block.Type == "RSA PRIVATE KEY":
			_, err := x509.ParsePKCS1PrivateKey(block.Bytes)
			return damaged(err)
		case block.Type == "EC PRIVATE KEY":
			_, err := x509.ParseECPrivateKey(block.Bytes)
			return damaged(err)
		}
		if block.Type != "EC PARAMETERS" {
			other = block.Type
		}
	}
	switch {
	case other != "":
		return fmt.Errorf("it holds %q and no private key", other)
	case len(bytes.TrimSpace(data)) == 0:
		return errors.New("it is empty")
	}
	return errors.New("it holds no PEM private key")
}

func damaged(err error) error {
	if err != nil {
		return errors.New("the private key is damaged") // err may tell of its contents
	}
	return nil
}

// notRoots complains about a CA file without a certificate that may sign. It is
// usable only if the broker's own certificate is in it.
func notRoots(file string, certs []*x509.Certificate) []Problem {
	for _, c := range certs {
		if c.IsCA || c.Version < 3 {
			return nil
		}
	}
	if len(certs) == 0 {
		return nil // said already
	}
	return []Problem{{Code: string(health.CertificateUnusable), File: file, Warning: true,
		What: fmt.Sprintf("it holds no root certificate, only one of %q", certs[0].Subject.String()),
		Do:   "put the broker's root certificates there, for AWS IoT Core AmazonRootCA1.pem"}}
}

// dates complains about the dates of the credentials.
func dates(ca, cert string, c *credentials, now time.Time) (problems []Problem) {
	if c.leaf != nil {
		problems = validity(cert, "our certificate", c.leaf, now, "create a new certificate and put it with its key into place")
	}
	return append(problems, rootValidity(ca, c.rootCerts, now)...)
}

// validity complains about a certificate's dates.
func validity(file, whose string, c *x509.Certificate, now time.Time, do string) []Problem {
	const day = "2006-01-02 15:04 MST"
	end := c.NotAfter.UTC().Format(day)
	p := Problem{Code: string(health.CertificateExpiring), File: file, Do: do}
	switch {
	case now.Before(c.NotBefore):
		p.Code = string(health.CertificateUnusable)
		p.What = fmt.Sprintf("%s is not valid before %s, and it is %s now", whose, c.NotBefore.UTC().Format(day), now.UTC().Format(day))
		p.Do = "set the clock, or wait until then"
	case now.After(c.NotAfter):
		p.What = fmt.Sprintf("%s expired on %s", whose, end)
	case now.Add(expiresSoon).After(c.NotAfter):
		p.Warning = true
		p.What = fmt.Sprintf("%s expires on %s, in %d days", whose, end, int(c.NotAfter.Sub(now)/(24*time.Hour)))
	default:
		return nil
	}
	return []Problem{p}
}

// rootValidity complains about roots only when none is good for long: a file
// may well keep an old one beside the new.
func rootValidity(file string, roots []*x509.Certificate, now time.Time) []Problem {
	var first []Problem
	for _, r := range roots {
		p := validity(file, fmt.Sprintf("the root %q", r.Subject.CommonName), r, now, "put the broker's present root certificates there")
		if p == nil {
			return nil
		}
		if first == nil || p[0].Warning {
			first = p
		}
	}
	return first
}

func reason(err error) string {
	var p *fs.PathError
	if errors.As(err, &p) {
		return p.Err.Error()
	}
	return err.Error()
}

func unreadable(err error) string {
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return "check the path in the configuration"
	case errors.Is(err, fs.ErrPermission):
		return "let the user that fieldpost runs as read it: owner root, group fieldpost, mode 0640, and each directory above it searchable"
	}
	return "put a readable file there"
}
