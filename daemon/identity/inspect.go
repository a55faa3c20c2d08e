package identity

import (
	"crypto"
	"crypto/x509"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"fieldpost/daemon/access"
	"fieldpost/daemon/regular"
	"fieldpost/daemon/visible"
)

// endsSoon is how long before its end a certificate is pointed out.
const endsSoon = 30 * 24 * time.Hour

// The kinds of an [Item].
const (
	KindCertificate = "certificate"
	KindKey         = "private key"
	KindRequest     = "certificate request"
	KindPublic      = "public key"
	KindUnreadable  = "unreadable"
)

// Item is one thing that a file holds, as [Inspect] found it. Of a private key it tells the
// type and the public half only.
type Item struct {
	File    string `json:"file"`
	Line    int    `json:"line,omitempty"` // on which it begins, from 1
	Kind    string `json:"kind"`
	Subject string `json:"subject,omitempty"`
	Issuer  string `json:"issuer,omitempty"`
	Serial  string `json:"serial,omitempty"` // hexadecimal
	CA      bool   `json:"ca,omitempty"`     // it may sign certificates
	// Of a certificate: from when to when it is valid, and for how many whole days from now.
	NotBefore time.Time `json:"not_before,omitzero"`
	NotAfter  time.Time `json:"not_after,omitzero"`
	DaysLeft  int       `json:"days_left,omitempty"`
	Names     []string  `json:"names,omitempty"`          // host names and addresses
	Uses      []string  `json:"uses,omitempty"`           // "client", "server", or the number of another
	ID        string    `json:"certificate_id,omitempty"` // see [ID]
	Key       string    `json:"key,omitempty"`            // "EC P-256"
	// Of a certificate: who signed it, among what was inspected.
	SignedBy string `json:"signed_by,omitempty"`
	// Belongs has the files whose key or certificate or request is for the same key pair.
	Belongs  []string `json:"belongs_to,omitempty"`
	Problems []string `json:"problems,omitempty"` // for which it cannot be used
	Notes    []string `json:"notes,omitempty"`

	public      crypto.PublicKey
	certificate *x509.Certificate
}

func (i *Item) problem(format string, args ...any) {
	i.Problems = append(i.Problems, fmt.Sprintf(format, args...))
}

func (i *Item) note(format string, args ...any) {
	i.Notes = append(i.Notes, fmt.Sprintf(format, args...))
}

// Report is what [Inspect] found.
type Report struct {
	Items []*Item `json:"items"`
	// Problems counts those of all items.
	Problems int `json:"problems"`
}

// Inspect reads PEM files and reports what each holds, what belongs together, which certificate
// signed which, and what is wrong with them at the time now. It needs no network, and asks
// nobody whether a certificate was revoked or deactivated.
func Inspect(now time.Time, files ...string) *Report {
	r := &Report{Items: []*Item{}}
	for _, f := range files {
		r.Items = append(r.Items, inspectFile(f, now)...)
	}
	r.pair()
	r.order()
	for _, i := range r.Items {
		if i.certificate != nil {
			r.chain(i)
		}
		r.Problems += len(i.Problems)
	}
	return r
}

func inspectFile(file string, now time.Time) (items []*Item) {
	fail := func(line int, what string) []*Item {
		return append(items, &Item{File: file, Line: line, Kind: KindUnreadable, Problems: []string{what}})
	}
	data, err := regular.Read(file, maxFile)
	if err != nil {
		return fail(0, err.Error())
	}
	blocks, err := SplitPEM(data)
	if err == nil && len(blocks) == 0 {
		err = missingBlock(data, "", "certificate, key or request")
	}
	if err != nil {
		return fail(0, err.Error())
	}
	for _, b := range blocks {
		if b.Block == nil {
			items = fail(b.Line, "it is cut short or damaged")
			continue
		}
		i := &Item{File: file, Line: b.Line, Kind: KindUnreadable}
		switch b.Type {
		case "EC PARAMETERS":
			continue // they are in the key as well
		case "CERTIFICATE":
			i.ofCertificate(b.Bytes, now)
		case "CERTIFICATE REQUEST", "NEW CERTIFICATE REQUEST":
			i.ofRequest(b.Bytes)
		case "PUBLIC KEY", "RSA PUBLIC KEY":
			i.ofPublicKey(b.Bytes)
		case "PRIVATE KEY", "RSA PRIVATE KEY", "EC PRIVATE KEY", "ENCRYPTED PRIVATE KEY":
			i.ofKey(b)
			for _, open := range access.Secret(file) {
				i.note("%s", open)
			}
		default:
			i.problem("it holds %q, which is no certificate, key or request", visible.Text(b.Type))
		}
		items = append(items, i)
	}
	return items
}

func (i *Item) ofCertificate(der []byte, now time.Time) {
	c, err := x509.ParseCertificate(der)
	if err != nil {
		i.problem("it %s", CertificateProblem(err))
		return
	}
	i.Kind, i.certificate, i.public = KindCertificate, c, c.PublicKey
	i.Subject, i.Issuer = visible.Text(c.Subject.String()), visible.Text(c.Issuer.String())
	i.Serial, i.ID, i.Key = c.SerialNumber.Text(16), ID(c), DescribeKey(c.PublicKey)
	i.CA = c.IsCA || c.Version < 3 && selfSigned(c) // roots of before 1996 do not say it
	i.NotBefore, i.NotAfter = c.NotBefore.UTC(), c.NotAfter.UTC()
	if left := c.NotAfter.Sub(now); left > 0 {
		i.DaysLeft = int(left / (24 * time.Hour))
	}
	for _, n := range c.DNSNames {
		i.Names = append(i.Names, visible.Text(n))
	}
	for _, a := range c.IPAddresses {
		i.Names = append(i.Names, a.String())
	}
	for _, u := range c.ExtKeyUsage {
		i.Uses = append(i.Uses, useName(u))
	}
	if what := UnusableKey(c.PublicKey); what != "" {
		i.problem("its key %s", what)
	}
	const day = "2006-01-02 15:04 MST"
	switch {
	case now.Before(c.NotBefore):
		i.problem("it is not valid before %s, and the clock says %s: set the clock, or wait until then", i.NotBefore.Format(day), now.UTC().Format(day))
	case now.After(c.NotAfter):
		i.problem("it expired on %s, and the clock says %s", i.NotAfter.Format(day), now.UTC().Format(day))
	case now.Add(endsSoon).After(c.NotAfter):
		i.note("it expires in %d days", i.DaysLeft)
	}
}

func useName(u x509.ExtKeyUsage) string {
	switch u {
	case x509.ExtKeyUsageClientAuth:
		return "client"
	case x509.ExtKeyUsageServerAuth:
		return "server"
	case x509.ExtKeyUsageAny:
		return "any"
	}
	return fmt.Sprintf("other (%d)", u)
}

func (i *Item) ofRequest(der []byte) {
	r, err := x509.ParseCertificateRequest(der)
	if err != nil {
		i.problem("it is damaged: %v", err)
		return
	}
	i.Kind, i.public, i.Key, i.Subject = KindRequest, r.PublicKey, DescribeKey(r.PublicKey), visible.Text(r.Subject.String())
	if err := r.CheckSignature(); err != nil {
		i.problem("its signature is wrong: %v", err)
	}
	if what := UnusableKey(r.PublicKey); what != "" {
		i.problem("its key %s", what)
	}
}

func (i *Item) ofPublicKey(der []byte) {
	k, err := x509.ParsePKIXPublicKey(der)
	if err != nil {
		if rsa, e := x509.ParsePKCS1PublicKey(der); e == nil {
			k, err = rsa, nil
		}
	}
	if err != nil {
		i.problem("it is damaged: %v", err)
		return
	}
	i.Kind, i.public, i.Key = KindPublic, k, DescribeKey(k)
}

func (i *Item) ofKey(b Block) {
	i.Kind = KindKey
	switch {
	case b.Type == "ENCRYPTED PRIVATE KEY" || b.Headers["DEK-Info"] != "":
		i.problem("the private key is encrypted; fieldpost cannot ask for the passphrase: `openssl pkey -in FILE -out NEW` takes it off")
		return
	}
	k, err := parsePrivateKey(b.Bytes)
	if err != nil {
		i.problem("%v", err)
		return
	}
	i.public, i.Key = k.Public(), DescribeKey(k.Public())
}

// pair finds what is for the same key pair. If there are keys and certificates of devices, each
// needs its other half.
func (r *Report) pair() {
	has := map[string]bool{}
	for _, i := range r.Items {
		has[i.Kind] = has[i.Kind] || i.public != nil && !i.CA
		for _, other := range r.Items {
			if other != i && other.Kind != i.Kind && i.public != nil && other.public != nil && SameKey(i.public, other.public) {
				if at := other.place(r); !slices.Contains(i.Belongs, at) {
					i.Belongs = append(i.Belongs, at)
				}
			}
		}
	}
	for _, i := range r.Items {
		switch {
		case i.public == nil || i.CA:
		case i.Kind == KindCertificate && has[KindKey] && !r.halved(i, KindKey):
			i.problem("none of the private keys belongs to it")
		case i.Kind == KindKey && has[KindCertificate] && !r.halved(i, KindCertificate):
			i.problem("it belongs to none of the certificates")
		case i.Kind == KindRequest && has[KindKey] && !r.halved(i, KindKey):
			i.problem("none of the private keys belongs to it")
		}
	}
}

// halved reports whether there is an item of this kind for the same key pair.
func (r *Report) halved(of *Item, kind string) bool {
	return slices.ContainsFunc(r.Items, func(i *Item) bool {
		return i.Kind == kind && i.public != nil && SameKey(i.public, of.public)
	})
}

// order finds a file whose first certificate is not the one that its device shows: a broker
// takes the first for the device's own.
func (r *Report) order() {
	for n, i := range r.Items {
		if i.certificate == nil || !i.CA || n > 0 && r.Items[n-1].File == i.File && r.Items[n-1].certificate != nil {
			continue
		}
		for _, later := range r.Items[n+1:] {
			if later.File == i.File && later.certificate != nil && !later.CA && r.halved(later, KindKey) {
				i.problem("the certificates are in the wrong order: the device's own, on line %d, comes first", later.Line)
				break
			}
		}
	}
}

// chain finds who signed a certificate.
func (r *Report) chain(i *Item) {
	c := i.certificate
	if selfSigned(c) {
		i.SignedBy = "itself"
		return
	}
	for _, by := range r.Items {
		if by.certificate != nil && by != i && c.CheckSignatureFrom(by.certificate) == nil {
			i.SignedBy = fmt.Sprintf("%s (%s)", by.Subject, by.place(r))
			return
		}
	}
	if slices.ContainsFunc(r.Items, func(by *Item) bool {
		return by != i && by.certificate != nil && string(by.certificate.RawSubject) == string(c.RawIssuer)
	}) {
		i.note("a certificate with the issuer's name is there, but did not sign it")
	}
}

func selfSigned(c *x509.Certificate) bool {
	return string(c.RawSubject) == string(c.RawIssuer) && c.CheckSignature(c.SignatureAlgorithm, c.RawTBSCertificate, c.Signature) == nil
}

// place names an item: its file, and its line if the file holds several.
func (i *Item) place(r *Report) string {
	for _, other := range r.Items {
		if other != i && other.File == i.File {
			return fmt.Sprintf("%s:%d", i.File, i.Line)
		}
	}
	return i.File
}

// Write writes a report for people.
func (r *Report) Write(w io.Writer) error {
	var b strings.Builder
	row := func(name, format string, args ...any) {
		fmt.Fprintf(&b, "  %-10s %s\n", name, fmt.Sprintf(format, args...))
	}
	const day = "2006-01-02 15:04"
	for _, i := range r.Items {
		kind := i.Kind
		if i.CA {
			kind = "certificate of an authority"
		}
		fmt.Fprintf(&b, "%s: %s\n", visible.Text(i.place(r)), kind)
		if i.Subject != "" {
			row("subject", "%s", i.Subject)
		}
		if i.certificate != nil {
			by := i.SignedBy
			if by == "" {
				by = "none of these files"
			}
			row("issuer", "%s", i.Issuer)
			row("signed by", "%s", by)
			row("valid", "%s to %s UTC, %d days left", i.NotBefore.Format(day), i.NotAfter.Format(day), i.DaysLeft)
			row("id", "%s", i.ID)
		}
		if len(i.Names) > 0 {
			row("for", "%s", strings.Join(i.Names, ", "))
		}
		if len(i.Uses) > 0 {
			row("use", "%s", strings.Join(i.Uses, ", "))
		}
		if i.Key != "" {
			belongs := ""
			if len(i.Belongs) > 0 {
				belongs = ", as in " + visible.Text(strings.Join(i.Belongs, ", "))
			}
			row("key", "%s%s", i.Key, belongs)
		}
		for _, n := range i.Notes {
			row("note", "%s", n)
		}
		for _, p := range i.Problems {
			row("PROBLEM", "%s", p)
		}
	}
	_, err := io.WriteString(w, b.String())
	return err
}
