package uplink

import (
	"bytes"
	"crypto/x509"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"fieldpost/daemon/certtest"
)

// byteOrderMark is what some editors put in front of UTF-8.
var byteOrderMark = []byte("\xef\xbb\xbf")

// sample returns a file of testdata/pem, made by OpenSSL 3.0.
func sample(t *testing.T, name string) []byte {
	t.Helper()
	data, err := os.ReadFile("testdata/pem/" + name)
	must(t, err)
	return data
}

// checked returns the errors of CheckCredentials for three files, without their paths.
func checked(t *testing.T, ca, cert, key []byte) (lines []string) {
	t.Helper()
	dir := t.TempDir()
	put(t, dir+"/ca", ca)
	put(t, dir+"/cert", cert)
	put(t, dir+"/key", key)
	for _, p := range CheckCredentials(dir+"/ca", dir+"/cert", dir+"/key", time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC)) {
		lines = append(lines, strings.ReplaceAll(p.String(), dir+"/", ""))
	}
	return lines
}

// Wrong files that OpenSSL makes: each is named as what it is.
func TestFilesThatTLSDoesNotTake(t *testing.T) {
	const (
		curve    = "elliptic curve that TLS does not take; make a new pair on P-256 or P-384"
		explicit = "spells out its curve's parameters, which TLS does not take; make a new one with a named curve"
		kind     = "of a kind that TLS does not take; make a new pair, RSA"
	)
	ca := sample(t, "good.crt")
	for _, tt := range []struct {
		cert, key string
		want      []string // one for each line
	}{
		{"good.crt", "good.key", nil},
		{"good.crt", "misnamed.key", nil}, // PRIVATE KEY, and in the form of EC PRIVATE KEY
		{"secp256k1.crt", "secp256k1.key", []string{"cert: certificate 1 in it, on line 1, has a key that is on an " + curve, "key: the private key is on an " + curve}},
		{"secp256k1.crt", "secp256k1-pkcs8.key", []string{"cert: certificate 1", "key: the private key is on an " + curve}},
		{"brainpoolP256r1.crt", "brainpoolP256r1.key", []string{"cert: certificate 1 in it, on line 1, has a key that is on an " + curve, "key: the private key is on an " + curve}},
		{"secp224r1.crt", "secp224r1.key", []string{"key: the private key is on an " + curve, "cert: the key of the certificate is on an " + curve}},
		{"explicit.crt", "explicit.key", []string{"cert: certificate 1 in it, on line 1, has a key that " + explicit, "key: the private key " + explicit}},
		{"explicit.crt", "explicit-pkcs8.key", []string{"cert: certificate 1", "key: the private key " + explicit}},
		{"rsa512.crt", "rsa512.key", []string{"key: the private key has 512 bits only", "cert: the key of the certificate has 512 bits only"}},
		{"ed448.crt", "ed448.key", []string{"key: the private key is " + kind, "cert: the key of the certificate is " + kind}},
		{"pss.crt", "pss.key", []string{"key: the private key is " + kind, "cert: the key of the certificate is " + kind}},
		{"good.crt", "x25519.key", []string{"key: the private key is " + kind}},
		{"negative.crt", "good.key", []string{"cert: certificate 1 in it, on line 1, has a negative serial number"}},
		{"good.crt", "encrypted.key", []string{"key: the private key is encrypted"}},
		{"good.crt", "encrypted-pkcs8.key", []string{"key: the private key is encrypted"}},
		{"good.crt", "openssh.key", []string{`key: it holds "OPENSSH PRIVATE KEY" and no private key`}},
		{"good.crt", "public.key", []string{`key: it holds "PUBLIC KEY" and no private key`}},
		{"pkcs7.crt", "good.key", []string{`cert: it holds "PKCS7" and no certificate`}},
		{"der.crt", "good.key", []string{"cert: it is binary (DER, or PKCS #12), not PEM; convert it, a certificate with `openssl x509 -inform der`"}},
		{"pkcs12.crt", "good.key", []string{"cert: it is binary (DER, or PKCS #12)"}},
	} {
		got := checked(t, ca, sample(t, tt.cert), sample(t, tt.key))
		ok := len(got) == len(tt.want)
		for i := 0; ok && i < len(got); i++ {
			ok = strings.HasPrefix(got[i], "error: "+tt.want[i])
		}
		if !ok {
			t.Errorf("%s, %s: got\n%s\nwant\n%s", tt.cert, tt.key, strings.Join(got, "\n"), strings.Join(tt.want, "\n"))
		}
	}
}

// Changes by editors and people in a PEM file: harmless ones are accepted, the others are
// errors, and nothing is ignored silently.
func TestEditedFiles(t *testing.T) {
	first, second := certtest.NewAuthority(t, "first", nil), certtest.NewAuthority(t, "second", nil)
	cert, key := first.Issue("board", nil)
	both := slices.Concat(first.PEM, second.PEM)
	bom := func(b []byte) []byte { return slices.Concat(byteOrderMark, b) }
	indented := func(b []byte) []byte {
		return bytes.ReplaceAll(append([]byte("  "), b...), []byte("\n"), []byte("\n  "))
	}
	dos := func(b []byte) []byte { return bytes.ReplaceAll(b, []byte("\n"), []byte("\r\n")) }
	utf16 := func(b []byte) []byte {
		out := []byte("\xff\xfe")
		for _, c := range b {
			out = append(out, c, 0)
		}
		return out
	}
	for name, edit := range map[string]func([]byte) []byte{"mark": bom, "indented": indented, "DOS": dos, "mark and DOS": func(b []byte) []byte { return bom(dos(b)) }} {
		if got := checked(t, edit(both), edit(cert), edit(key)); got != nil {
			t.Errorf("%s: %q", name, got)
		}
		c, _ := pemFiles{ca: edit(slices.Concat(edit(first.PEM), edit(second.PEM)))}.parse()
		if len(c.rootCerts) != 2 {
			t.Errorf("%s: %d roots", name, len(c.rootCerts))
		}
	}
	for _, is := range []string{"ca", "cert", "key"} {
		files := map[string][]byte{"ca": both, "cert": cert, "key": key}
		files[is] = utf16(files[is])
		if got := checked(t, files["ca"], files["cert"], files["key"]); len(got) != 1 || !strings.HasPrefix(got[0], "error: "+is+": it is UTF-16 text; save it as UTF-8") {
			t.Errorf("UTF-16: %q", got)
		}
		files[is] = byteOrderMark
		if got := checked(t, files["ca"], files["cert"], files["key"]); len(got) != 1 || !strings.HasPrefix(got[0], "error: "+is+": it is empty") {
			t.Errorf("a mark alone: %q", got)
		}
	}
}

// Only the bad root is left out, with its name in the error.
func TestBadRootAmongGoodOnes(t *testing.T) {
	first, second := certtest.NewAuthority(t, "first", nil), certtest.NewAuthority(t, "second", nil)
	cert, key := first.Issue("board", nil)
	cut := first.PEM[:len(first.PEM)/2]
	garbled := bytes.Replace(slices.Clone(second.PEM), []byte("\nM"), []byte("\n!"), 1)
	for name, c := range map[string]struct {
		ca   []byte
		want string
	}{
		"negative serial number": {slices.Concat(first.PEM, sample(t, "negative.crt"), second.PEM), "certificate 2 in it, on line 10, has a negative serial number"},
		"unusual curve":          {slices.Concat(sample(t, "secp256k1.crt"), first.PEM, second.PEM), "certificate 1 in it, on line 1, has a key that is on an elliptic curve"},
		"cut short":              {slices.Concat(first.PEM, cut, []byte("\n"), second.PEM), "what begins on line 10 cannot be read: it is cut short or damaged"},
		"garbled":                {slices.Concat(first.PEM, garbled, second.PEM), "what begins on line 10 cannot be read"},
		"at the end":             {slices.Concat(first.PEM, second.PEM, cut), "what begins on line 19 cannot be read"},
	} {
		lines := strings.Count(string(first.PEM), "\n")
		want := strings.NewReplacer("line 10", "line "+strconv.Itoa(lines+1), "line 19", "line "+strconv.Itoa(2*lines+1)).Replace(c.want)
		if got := checked(t, c.ca, cert, key); len(got) != 1 || !strings.HasPrefix(got[0], "warning: ca: "+want) || !strings.HasSuffix(got[0], "the other roots in the file are used") {
			t.Errorf("%s: %q, want %q", name, got, want)
		}
		parsed, problems := pemFiles{ca: c.ca, cert: cert, key: key}.parse()
		if len(parsed.rootCerts) != 2 || len(problems) > 0 {
			t.Errorf("%s: %d roots, %v", name, len(parsed.rootCerts), problems)
		}
	}
}

// A chain in the wrong order is named as that, not as a key that does not match. So is an
// authority's certificate in place of our own.
func TestChains(t *testing.T) {
	ca := certtest.NewAuthority(t, "root", nil)
	cert, key := ca.Issue("board", nil)
	other, _ := ca.Issue("other", nil)
	for name, c := range map[string]struct {
		cert []byte
		want string
	}{
		"in order":         {slices.Concat(cert, ca.PEM), ""},
		"reversed":         {slices.Concat(ca.PEM, cert), "error: cert: the certificates in it are in the wrong order: the device's own is number 2; put the device's own first"},
		"last of three":    {slices.Concat(ca.PEM, other, cert), "error: cert: the certificates in it are in the wrong order: the device's own is number 3"},
		"the authority's":  {ca.PEM, `error: cert: it holds the certificate of an authority, "CN=root", and not the one that belongs to the private key "key"`},
		"another device's": {other, `error: key: the private key does not belong to the certificate "cert"`},
	} {
		if got := strings.Join(checked(t, ca.PEM, c.cert, key), "\n"); !strings.HasPrefix(got, c.want) || c.want == "" && got != "" {
			t.Errorf("%s: %q, want %q", name, got, c.want)
		}
	}
}

// A server-only certificate is named before a broker rejects it.
func TestCertificateNotForClients(t *testing.T) {
	ca := certtest.NewAuthority(t, "root", nil)
	for _, c := range []struct {
		uses []x509.ExtKeyUsage
		want string
	}{
		{nil, ""},
		{[]x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth}, ""},
		{[]x509.ExtKeyUsage{x509.ExtKeyUsageAny}, ""},
		{[]x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}, "warning: cert: our certificate is not made for clients (its extended key usage)"},
	} {
		cert, key := ca.Issue("board", func(t *x509.Certificate) { t.ExtKeyUsage = c.uses })
		if got := strings.Join(checked(t, ca.PEM, cert, key), "\n"); !strings.HasPrefix(got, c.want) || c.want == "" && got != "" {
			t.Errorf("%v: %q, want %q", c.uses, got, c.want)
		}
	}
}
