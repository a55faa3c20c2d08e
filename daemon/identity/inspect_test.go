package identity

import (
	"bytes"
	"crypto/x509"
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"fieldpost/daemon/certtest"
)

// bench is a directory with files of these names.
func bench(t *testing.T, files map[string][]byte) (dir string, paths []string) {
	t.Helper()
	dir = t.TempDir()
	for name, data := range files {
		must(t, os.WriteFile(filepath.Join(dir, name), data, 0o600))
		paths = append(paths, filepath.Join(dir, name))
	}
	slices.Sort(paths)
	return dir, paths
}

// said is a report as text, without the directory.
func said(t *testing.T, dir string, r *Report) string {
	t.Helper()
	var b bytes.Buffer
	must(t, r.Write(&b))
	return strings.ReplaceAll(b.String(), dir+string(filepath.Separator), "")
}

var today = time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)

// What belongs together is told, and nothing of the private key.
func TestInspect(t *testing.T) {
	ca := certtest.NewAuthority(t, "root", nil)
	cert, key := ca.Issue("board.example", func(c *x509.Certificate) {
		c.NotBefore, c.NotAfter = today.AddDate(0, 0, -1), today.AddDate(0, 0, 12)
	})
	parsed, err := x509.ParseCertificate(certtest.Decode(t, cert))
	must(t, err)
	signer, err := ParseKey(key)
	must(t, err)
	csr, err := NewRequest(signer, "board.example")
	must(t, err)
	dir, paths := bench(t, map[string][]byte{"a.pem": ca.PEM, "b.crt": cert, "c.key": key, "d.csr": csr})
	r := Inspect(today, paths...)
	got, want := said(t, dir, r), `a.pem: certificate of an authority
  subject    CN=root
  issuer     CN=root
  signed by  itself
  valid      1990-01-01 00:00 to 2090-01-01 00:00 UTC, 23051 days left
  id         `+ID(ca.Cert)+`
  key        EC P-256
b.crt: certificate
  subject    CN=board.example
  issuer     CN=root
  signed by  CN=root (a.pem)
  valid      2026-11-20 12:00 to 2026-12-03 12:00 UTC, 12 days left
  id         `+ID(parsed)+`
  for        board.example, 127.0.0.1
  use        client, server
  key        EC P-256, as in c.key, d.csr
  note       it expires in 12 days
c.key: private key
  key        EC P-256, as in b.crt, d.csr
d.csr: certificate request
  subject    CN=board.example
  key        EC P-256, as in b.crt, c.key
`
	if got != want || r.Problems != 0 {
		t.Errorf("%d problems, got\n%s\nwant\n%s", r.Problems, got, want)
	}
	text, err := json.Marshal(r)
	must(t, err)
	if !strings.Contains(string(text), `"certificate_id":"`+ID(parsed)+`"`) {
		t.Errorf("JSON %s", text)
	}
}

// Each thing that is wrong is told where it is.
func TestInspectProblems(t *testing.T) {
	ca, other := certtest.NewAuthority(t, "root", nil), certtest.NewAuthority(t, "root", nil)
	cert, key := ca.Issue("board", nil)
	stranger, _ := ca.Issue("stranger", nil)
	old, oldKey := certtest.SelfSigned(t, today.AddDate(-2, 0, 0), today.AddDate(-1, 0, 0))
	early, earlyKey := certtest.SelfSigned(t, today.AddDate(1, 0, 0), today.AddDate(2, 0, 0))
	hostile, hostileKey := ca.Issue("x\x1b[2J", nil)
	openssl := func(name string) []byte { return read(t, "../uplink/testdata/pem/"+name) }
	encrypted := []byte("-----BEGIN ENCRYPTED PRIVATE KEY-----\nMIIB\n-----END ENCRYPTED PRIVATE KEY-----\n")
	for name, tc := range map[string]struct {
		files map[string][]byte
		want  []string // each is in the report
		bad   int
	}{
		"expired":           {map[string][]byte{"c": old, "k": oldKey}, []string{"PROBLEM    it expired on 2025-11-21 12:00 UTC, and the clock says 2026-11-21 12:00 UTC"}, 1},
		"not yet":           {map[string][]byte{"c": early, "k": earlyKey}, []string{"PROBLEM    it is not valid before 2027-11-21 12:00 UTC, and the clock says"}, 1},
		"not a pair":        {map[string][]byte{"c": stranger, "k": key}, []string{"none of the private keys belongs to it", "it belongs to none of the certificates"}, 2},
		"a pair and one":    {map[string][]byte{"c": cert, "k": key, "s": stranger}, []string{"s: certificate", "none of the private keys belongs to it"}, 1},
		"order":             {map[string][]byte{"c": slices.Concat(ca.PEM, cert), "k": key}, []string{"c:1: certificate of an authority", "in the wrong order: the device's own, on line"}, 1},
		"right order":       {map[string][]byte{"c": slices.Concat(cert, ca.PEM), "k": key}, []string{"signed by  CN=root (c:"}, 0},
		"another authority": {map[string][]byte{"a": other.PEM, "c": cert, "k": key}, []string{"signed by  none of these files", "note       a certificate with the issuer's name is there, but did not sign it"}, 0},
		"encrypted":         {map[string][]byte{"k": encrypted}, []string{"PROBLEM    the private key is encrypted"}, 1},
		"cut":               {map[string][]byte{"c": cert[:len(cert)/2]}, []string{"c: unreadable", "PROBLEM    it is cut short or damaged"}, 1},
		"DER":               {map[string][]byte{"c": certtest.Decode(t, cert)}, []string{"it is binary (DER, or PKCS #12), not PEM"}, 1},
		"empty":             {map[string][]byte{"c": nil}, []string{"PROBLEM    it is empty"}, 1},
		"something else":    {map[string][]byte{"c": certtest.Encode("X509 CRL", []byte("x"))}, []string{`it holds "X509 CRL", which is no certificate, key or request`}, 1},
		"damaged request":   {map[string][]byte{"r": damaged(request(t))}, []string{"PROBLEM    its signature is wrong"}, 1},
		"request alone":     {map[string][]byte{"r": request(t), "k": key}, []string{"none of the private keys belongs to it"}, 1},
		"unusual curve":     {map[string][]byte{"c": openssl("secp256k1.crt")}, []string{"PROBLEM    it has a key that is on an elliptic curve that TLS does not take"}, 1},
		"no terminal":       {map[string][]byte{"c": hostile, "k": hostileKey}, []string{`CN=x\x1b[2J`}, 0},
	} {
		t.Run(name, func(t *testing.T) {
			dir, paths := bench(t, tc.files)
			r := Inspect(today, paths...)
			got := said(t, dir, r)
			for _, want := range tc.want {
				if !strings.Contains(got, want) {
					t.Errorf("no %q in\n%s", want, got)
				}
			}
			if r.Problems != tc.bad || strings.Contains(got, "\x1b") {
				t.Errorf("%d problems, want %d:\n%s", r.Problems, tc.bad, got)
			}
		})
	}
	if r := Inspect(today, filepath.Join(t.TempDir(), "none")); r.Problems != 1 || r.Items[0].Kind != KindUnreadable {
		t.Errorf("no file: %+v", r.Items)
	}
}

// A key that others may read is pointed out.
func TestInspectMode(t *testing.T) {
	_, key := certtest.NewAuthority(t, "root", nil).Issue("board", nil)
	dir, paths := bench(t, map[string][]byte{"k": key})
	must(t, os.Chmod(paths[0], 0o644))
	if got := said(t, dir, Inspect(today, paths...)); !strings.Contains(got, "every user may read it (mode 0644)") {
		t.Errorf("got %s", got)
	}
}

// FuzzInspect: whatever a file holds, each line of the report is one that can be printed.
func FuzzInspect(f *testing.F) {
	names, err := os.ReadDir("../uplink/testdata/pem")
	if err != nil {
		f.Fatal(err)
	}
	for _, n := range names {
		data, err := os.ReadFile("../uplink/testdata/pem/" + n.Name())
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		dir, paths := bench(t, map[string][]byte{"x": data})
		for _, r := range said(t, dir, Inspect(today, paths...)) {
			if r < ' ' && r != '\n' || r == 0x7f || r == 0x9b {
				t.Errorf("prints %q", r)
			}
		}
	})
}
