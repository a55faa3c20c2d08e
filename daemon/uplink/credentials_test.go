package uplink

import (
	"crypto/x509"
	"encoding/pem"
	"os"
	"strings"
	"testing"
	"time"

	"fieldpost/daemon/certtest"
)

func TestExpires(t *testing.T) {
	end := time.Date(2027, 3, 1, 12, 0, 0, 0, time.UTC)
	cert, key := certtest.NewAuthority(t, "test root", nil).Issue("board", func(c *x509.Certificate) { c.NotAfter = end })
	dir := t.TempDir()
	put(t, dir+"/cert", cert)
	put(t, dir+"/key", key)
	expires := func(file string) (time.Time, error) {
		f := NewCredentialFiles(CredentialFilesConfig{CA: dir + "/none", Certificate: dir + file, Key: dir + "/key"})
		readsOn(t, f)
		<-f.Refresh()
		return f.Expires()
	}
	if got, err := expires("/cert"); err != nil || got != end {
		t.Errorf("got %v, %v, want %v", got, err, end)
	}
	for _, file := range []string{"/key", "/none"} {
		if got, err := expires(file); err == nil || !got.IsZero() || !strings.HasPrefix(err.Error(), "read certificate") {
			t.Errorf("%s: got %v, %v", file, got, err)
		}
	}
}

func TestCheckCredentials(t *testing.T) {
	now := time.Date(2026, 6, 1, 12, 0, 0, 0, time.UTC)
	ca := certtest.NewAuthority(t, "test root", nil)
	cert, key := ca.Issue("board", nil)
	_, otherKey := ca.Issue("other", nil)
	dated := func(from, to time.Time) func(t *testing.T, file func(string) string) {
		return func(t *testing.T, file func(string) string) {
			c, k := ca.Issue("board", func(c *x509.Certificate) { c.NotBefore, c.NotAfter = from, to })
			put(t, file("cert"), c)
			put(t, file("key"), k)
		}
	}
	write := func(name string, data []byte) func(*testing.T, func(string) string) {
		return func(t *testing.T, file func(string) string) { put(t, file(name), data) }
	}
	remove := func(name string) func(*testing.T, func(string) string) {
		return func(t *testing.T, file func(string) string) { must(t, os.Remove(file(name))) }
	}
	replaceByDirectory := func(name string) func(*testing.T, func(string) string) {
		return func(t *testing.T, file func(string) string) {
			must(t, os.Remove(file(name)))
			must(t, os.Mkdir(file(name), 0o700))
		}
	}
	cases := []struct {
		name string
		do   func(t *testing.T, file func(string) string)
		want []string // parts of the lines
	}{
		{"good", func(*testing.T, func(string) string) {}, nil},
		{"no CA file", remove("ca"), []string{"error: root certificate cannot be read: no such file or directory; check the path"}},
		{"no certificate file", remove("cert"), []string{"error: certificate cannot be read"}},
		{"no key file", remove("key"), []string{"error: private key cannot be read"}},
		{"key is a directory", replaceByDirectory("key"), []string{"error: private key cannot be read: want a regular file, not a directory; put a readable file there"}},
		{"empty certificate", write("cert", nil), []string{"error: it is empty"}},
		{"empty key", write("key", []byte("\n")), []string{"error: it is empty"}},
		{"HTML for a CA", write("ca", []byte("<html>")), []string{"error: it holds no PEM certificate; put the broker's root"}},
		{"text for a key", write("key", []byte("secret")), []string{"error: it holds no PEM private key"}},
		{"swapped", func(t *testing.T, file func(string) string) {
			put(t, file("cert"), key)
			put(t, file("key"), cert)
		}, []string{`error: it holds "PRIVATE KEY" and no certificate`, `error: it holds "CERTIFICATE" and no private key`}},
		{"key of another", write("key", otherKey), []string{"error: the private key does not belong to the certificate"}},
		{"encrypted key", write("key", certtest.Encode("ENCRYPTED PRIVATE KEY", []byte{1})), []string{"error: the private key is encrypted"}},
		{"old encrypted key", write("key", pem.EncodeToMemory(&pem.Block{Type: "RSA PRIVATE KEY", Headers: map[string]string{"Proc-Type": "4,ENCRYPTED", "DEK-Info": "x"}, Bytes: []byte{1}})), []string{"error: the private key is encrypted"}},
		{"damaged key", write("key", certtest.Encode("PRIVATE KEY", []byte{1})), []string{"error: the private key is damaged"}},
		{"damaged RSA key", write("key", certtest.Encode("RSA PRIVATE KEY", []byte{1})), []string{"error: the private key is damaged"}},
		{"damaged EC key", write("key", certtest.Encode("EC PRIVATE KEY", []byte{1})), []string{"error: the private key is damaged"}},
		{"damaged certificate", write("cert", certtest.Encode("CERTIFICATE", []byte{1})), []string{"error: certificate 1 in it, on line 1, is damaged"}},
		{"expired", dated(certtest.LongAgo, now.Add(-time.Hour)), []string{"error: our certificate expired on 2026-06-01 11:00 UTC"}},
		{"not yet valid", dated(now.Add(time.Hour), certtest.FarAhead), []string{"error: our certificate is not valid before 2026-06-01 13:00 UTC, and it is 2026-06-01 12:00 UTC now; set the clock"}},
		{"expires soon", dated(certtest.LongAgo, now.Add(29*24*time.Hour)), []string{"warning: our certificate expires on 2026-06-30 12:00 UTC, in 29 days"}},
		{"does not expire soon", dated(certtest.LongAgo, now.Add(31*24*time.Hour)), nil},
		{"CA is none", write("ca", cert), []string{`warning: it holds no root certificate, only one of "CN=board"`}},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			dir := t.TempDir()
			file := func(name string) string { return dir + "/" + name }
			put(t, file("ca"), ca.PEM)
			put(t, file("cert"), cert)
			put(t, file("key"), key)
			c.do(t, file)
			got := CheckCredentials(file("ca"), file("cert"), file("key"), now)
			if len(got) != len(c.want) {
				t.Fatalf("got %v, want %q", got, c.want)
			}
			for i, p := range got {
				line := strings.Replace(p.String(), p.File+": ", "", 1)
				if !strings.HasPrefix(line, c.want[i]) || p.Do == "" || p.Code == "" || !strings.HasPrefix(p.File, dir) {
					t.Errorf("got %q\nwant %q", p, c.want[i])
				}
			}
		})
	}
}

func TestCheckCredentialsRoots(t *testing.T) {
	now := time.Date(2026, 6, 1, 12, 0, 0, 0, time.UTC)
	ca := certtest.NewAuthority(t, "test root", nil)
	root := func(to time.Time) []byte {
		c, _ := ca.Issue("old root", func(c *x509.Certificate) {
			c.NotAfter, c.IsCA, c.BasicConstraintsValid = to, true, true
		})
		return c
	}
	cert, key := ca.Issue("board", nil)
	expired, soon := root(now.Add(-time.Hour)), root(now.Add(time.Hour))
	for _, c := range []struct {
		name string
		ca   []byte
		want string
	}{
		{"expired beside a good one", append(expired, ca.PEM...), ""},
		{"expired", expired, `error: the root "old root" expired`},
		{"expired beside one that expires soon", append(append([]byte(nil), expired...), soon...), `warning: the root "old root" expires`},
	} {
		dir := t.TempDir()
		put(t, dir+"/ca", c.ca)
		put(t, dir+"/cert", cert)
		put(t, dir+"/key", key)
		var lines []string
		for _, p := range CheckCredentials(dir+"/ca", dir+"/cert", dir+"/key", now) {
			lines = append(lines, strings.Replace(p.String(), p.File+": ", "", 1))
		}
		if got := strings.Join(lines, "\n"); !strings.HasPrefix(got, c.want) || c.want == "" && got != "" {
			t.Errorf("%s: got %q, want %q", c.name, got, c.want)
		}
	}
}

// Errors never contain parts of a key.
func TestProblemsTellNoSecret(t *testing.T) {
	ca := certtest.NewAuthority(t, "test root", nil)
	cert, _ := ca.Issue("board", nil)
	dir := t.TempDir()
	put(t, dir+"/ca", ca.PEM)
	put(t, dir+"/cert", cert)
	for _, key := range []string{"hunter2", "-----BEGIN PRIVATE KEY-----\naHVudGVyMg==\n-----END PRIVATE KEY-----\n"} {
		put(t, dir+"/key", []byte(key))
		got := CheckCredentials(dir+"/ca", dir+"/cert", dir+"/key", time.Now())
		if len(got) != 1 {
			t.Fatalf("got %v", got)
		}
		if text := got[0].String(); strings.Contains(text, "hunter2") || strings.Contains(text, "aHVudGVyMg") {
			t.Errorf("it tells the key: %s", text)
		}
	}
}
