package uplink

import (
	"crypto"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"time"

	"fieldpost/daemon/health"
	"fieldpost/daemon/identity"
	"fieldpost/daemon/regular"
	"fieldpost/daemon/visible"
)

// expiresSoon is how long before its expiry a certificate causes a warning.
const expiresSoon = 30 * 24 * time.Hour

// Problem is one problem of the credentials.
type Problem struct {
	Code    string // a fault's code, as in package health: certificate_unusable or certificate_expiring
	File    string // the file that has the problem
	What    string // what is wrong
	Do      string // what to do about it
	Warning bool   // a connection is still possible
}

// String returns the problem as one line, with what to do.
func (p Problem) String() string {
	grade := "error"
	if p.Warning {
		grade = "warning"
	}
	return fmt.Sprintf("%s: %s: %s; %s", grade, visible.Text(p.File), p.What, p.Do)
}

// CheckCredentials checks the three files as a connection at the time now would use them:
// whether they can be read, have the right content, match and are valid. Empty is the good
// result.
func CheckCredentials(ca, cert, key string, now time.Time) (problems []Problem) {
	return CheckFiles(CredentialFilesConfig{CA: ca, Certificate: cert, Key: key}, now)
}

// CheckFiles is CheckCredentials for all files of the credentials. Stuck is not used.
func CheckFiles(files CredentialFilesConfig, now time.Time) (problems []Problem) {
	if files.Read == nil {
		files.Read = regular.Read
	}
	ca, cert := files.CA, files.Certificate
	c, problems := readPEMs(files).parse()
	problems = append(problems, c.warnings...)
	problems = append(problems, checkDates(ca, cert, c, now)...)
	problems = append(problems, checkRoots(ca, c.rootCerts)...)
	return problems
}

// credentials are the contents of the three files at one moment.
type credentials struct {
	pair      tls.Certificate
	leaf      *x509.Certificate
	roots     *x509.CertPool
	rootCerts []*x509.Certificate
	warnings  []Problem         // problems that do not prevent their use
	sum       [sha256.Size]byte // of the files
	password  []byte            // for the user name; nil is none
}

// parse parses the files. The result is usable only if there is no problem, but it always has
// everything that could be parsed. A root that cannot be read, among others that can, is only
// a warning.
func (p pemFiles) parse() (*credentials, []Problem) {
	c := &credentials{roots: x509.NewCertPool(), sum: p.sum}
	problems := p.problems
	unusable := func(file, what, do string) { problems = append(problems, fileProblem(file, what, do)) }
	if p.ca != nil {
		const do = "put the broker's root certificates there, for AWS IoT Core AmazonRootCA1.pem"
		var bad []string
		var err error
		if c.rootCerts, bad, err = identity.ParseCertificates(p.ca); err != nil {
			unusable(p.from.CA, err.Error(), do)
		}
		for _, what := range bad {
			w := fileProblem(p.from.CA, what, "take it out or put it right; the other roots in the file are used")
			w.Warning = true
			c.warnings = append(c.warnings, w)
		}
	}
	for _, r := range c.rootCerts {
		c.roots.AddCert(r)
	}
	if p.password != nil {
		if c.password = password(p.password); len(c.password) == 0 || len(c.password) > maxPassword {
			unusable(p.from.Password, fmt.Sprintf("the password has %d bytes, want 1 to %d", len(c.password), maxPassword), "write the password into it, on one line")
		}
	}
	var chain []*x509.Certificate
	if p.cert != nil {
		var bad []string
		var err error
		if chain, bad, err = identity.ParseCertificates(p.cert); err == nil && len(bad) > 0 {
			err = errors.New(bad[0])
		}
		if err != nil {
			unusable(p.from.Certificate, err.Error(), "put the device certificate there, as it was downloaded")
			chain = nil
		}
	}
	var key crypto.Signer
	if p.key != nil {
		var err error
		if key, err = identity.ParseKey(p.key); err != nil {
			unusable(p.from.Key, err.Error(), "put the private key there, as it was downloaded, without a passphrase")
		}
	}
	if len(chain) > 0 {
		problems = append(problems, c.setOwn(p.from, chain, key)...)
	}
	return c, problems
}

// setOwn sets our certificate chain, and its key if that can be used.
func (c *credentials) setOwn(from CredentialFilesConfig, chain []*x509.Certificate, key crypto.Signer) (problems []Problem) {
	c.leaf = chain[0]
	if what := identity.UnusableKey(c.leaf.PublicKey); what != "" {
		problems = append(problems, fileProblem(from.Certificate, "the key of the certificate "+what, "put the device certificate there, as it was downloaded"))
	} else if key != nil && !identity.Belongs(c.leaf, key) {
		problems = append(problems, keyMismatch(from, chain, key))
	}
	if uses := c.leaf.ExtKeyUsage; len(uses) > 0 && !slices.Contains(uses, x509.ExtKeyUsageClientAuth) && !slices.Contains(uses, x509.ExtKeyUsageAny) {
		w := fileProblem(from.Certificate, "our certificate is not made for clients (its extended key usage), so a broker may reject it", "have one made with the extended key usage clientAuth")
		w.Warning = true
		c.warnings = append(c.warnings, w)
	}
	c.pair = tls.Certificate{PrivateKey: key, Leaf: c.leaf}
	for _, one := range chain {
		c.pair.Certificate = append(c.pair.Certificate, one.Raw)
	}
	return problems
}

// keyMismatch explains that the key does not match the first certificate of a chain.
func keyMismatch(from CredentialFilesConfig, chain []*x509.Certificate, key crypto.Signer) Problem {
	for i, one := range chain {
		if identity.Belongs(one, key) {
			return fileProblem(from.Certificate, fmt.Sprintf("the certificates in it are in the wrong order: the device's own is number %d", i+1),
				"put the device's own first, and behind it those that signed it, each after what it signed")
		}
	}
	if chain[0].IsCA {
		return fileProblem(from.Certificate, fmt.Sprintf("it holds the certificate of an authority, %q, and not the one that belongs to the private key %q", chain[0].Subject.String(), from.Key),
			"put the device's own certificate there")
	}
	return fileProblem(from.Key, fmt.Sprintf("the private key does not belong to the certificate %q", from.Certificate), "put certificate and key of the same pair into place")
}

// checkRoots reports a CA file without a certificate that may sign others. Such a file works
// only if it has the broker's own certificate.
func checkRoots(file string, certs []*x509.Certificate) []Problem {
	for _, c := range certs {
		if c.IsCA || c.Version < 3 {
			return nil
		}
	}
	if len(certs) == 0 {
		return nil // already reported
	}
	return []Problem{{Code: string(health.CertificateUnusable), File: file, Warning: true,
		What: fmt.Sprintf("it holds no root certificate, only one of %q", certs[0].Subject.String()),
		Do:   "put the broker's root certificates there, for AWS IoT Core AmazonRootCA1.pem"}}
}

// checkDates reports credentials that are not valid at this time or expire soon.
func checkDates(ca, cert string, c *credentials, now time.Time) (problems []Problem) {
	if c.leaf != nil {
		problems = checkValidity(cert, "our certificate", c.leaf, now, "create a new certificate and put it with its key into place")
	}
	return append(problems, checkRootValidity(ca, c.rootCerts, now)...)
}

// checkValidity reports a certificate that is not valid at this time or expires soon.
func checkValidity(file, whose string, c *x509.Certificate, now time.Time, do string) []Problem {
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

// checkRootValidity reports roots only if none of them is valid for long, because a file may
// keep an old root beside the new one.
func checkRootValidity(file string, roots []*x509.Certificate, now time.Time) []Problem {
	var first []Problem
	for _, r := range roots {
		p := checkValidity(file, fmt.Sprintf("the root %q", r.Subject.CommonName), r, now, "put the broker's current root certificates there")
		if p == nil {
			return nil
		}
		if first == nil || p[0].Warning {
			first = p
		}
	}
	return first
}

// reason returns the system's error without the path.
func reason(err error) string {
	var p *fs.PathError
	if errors.As(err, &p) {
		return p.Err.Error()
	}
	return err.Error()
}

// unreadable returns what to do about a file that cannot be read.
func unreadable(err error) string {
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return "check the path in the configuration"
	case errors.Is(err, fs.ErrPermission):
		return "let the user that fieldpost runs as read it: owner root, group fieldpost, mode 0640, and each directory above it searchable"
	}
	return "put a readable file there"
}
