package identity

import (
	"bytes"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"fieldpost/daemon/certtest"
)

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// read reads a file of the test.
func read(t *testing.T, path string) []byte {
	t.Helper()
	data, err := os.ReadFile(path)
	must(t, err)
	return data
}

// A key and its request are made, for each type of key, and OpenSSL takes them.
func TestMake(t *testing.T) {
	openssl, _ := exec.LookPath("openssl")
	for kind, is := range map[string]string{"": "EC P-256", P256: "EC P-256", RSA2048: "RSA 2048"} {
		t.Run(kind, func(t *testing.T) {
			f := FilesIn(filepath.Join(t.TempDir(), "a", "certs"))
			p, err := Make(f, kind, "thing-greenhouse", nil)
			must(t, err)
			if got := strings.Join(p.Made, " "); got != f.Key+" "+f.Request {
				t.Errorf("made %q", got)
			}
			r, err := ParseRequest(p.Request)
			must(t, err)
			if DescribeKey(p.Key.Public()) != is || !SameKey(r.PublicKey, p.Key.Public()) || r.Subject.CommonName != "thing-greenhouse" {
				t.Errorf("a request of %q for a key %s", r.Subject, DescribeKey(r.PublicKey))
			}
			for path, mode := range map[string]os.FileMode{f.Key: 0o600, f.Request: 0o644, filepath.Dir(f.Key): os.ModeDir | 0o700} {
				if info, err := os.Stat(path); err != nil || info.Mode() != mode {
					t.Errorf("%s: %v, %v", path, info.Mode(), err)
				}
			}
			if openssl == "" {
				return
			}
			if out, err := exec.Command(openssl, "req", "-verify", "-noout", "-in", f.Request).CombinedOutput(); err != nil {
				t.Errorf("openssl req: %v\n%s", err, out)
			}
			if out, err := exec.Command(openssl, "pkey", "-check", "-noout", "-in", f.Key).CombinedOutput(); err != nil {
				t.Errorf("openssl pkey: %v\n%s", err, out)
			}
		})
	}
}

// What is there is kept, and a run that was killed after the key is completed.
func TestMakeAgain(t *testing.T) {
	f := FilesIn(t.TempDir())
	first, err := Make(f, "", "x", nil)
	must(t, err)
	key, request := read(t, f.Key), read(t, f.Request)
	second, err := Make(f, P256, "y", nil)
	must(t, err)
	if len(second.Made) != 0 || !bytes.Equal(second.Request, first.Request) || !bytes.Equal(read(t, f.Key), key) || !bytes.Equal(read(t, f.Request), request) {
		t.Errorf("the second run made %q", second.Made)
	}
	must(t, os.Remove(f.Request))
	third, err := Make(f, "", "x", nil)
	must(t, err)
	if len(third.Made) != 1 || third.Made[0] != f.Request || !SameKey(third.Key.Public(), first.Key.Public()) {
		t.Errorf("the third run made %q", third.Made)
	}
}

// Whoever keeps a record is told of each file before it is there, and may end the run.
func TestMakeTells(t *testing.T) {
	f := FilesIn(t.TempDir())
	told := map[string]string{}
	full := errors.New("disk full")
	_, err := Make(f, "", "x", func(path string, data []byte) error {
		if _, err := os.Stat(path); err == nil {
			t.Errorf("%s is there already", path)
		}
		told[path] = string(data)
		if path == f.Request {
			return full
		}
		return nil
	})
	if !errors.Is(err, full) || told[f.Key] != string(read(t, f.Key)) || told[f.Request] == "" {
		t.Errorf("%v, told of %d files", err, len(told))
	}
	if _, err := os.Stat(f.Request); err == nil {
		t.Error("the request was made all the same")
	}
}

// Two runs at once agree.
func TestMakeAtOnce(t *testing.T) {
	f := FilesIn(t.TempDir())
	var wait sync.WaitGroup
	for range 8 {
		wait.Go(func() {
			p, err := Make(f, "", "x", nil)
			if err != nil {
				t.Error(err)
				return
			}
			if r, err := ParseRequest(p.Request); err != nil || !SameKey(r.PublicKey, p.Key.Public()) {
				t.Errorf("a request for another key: %v", err)
			}
		})
	}
	wait.Wait()
	if all, _ := os.ReadDir(filepath.Dir(f.Key)); len(all) != 2 {
		t.Errorf("left %v", all)
	}
}

// What is there and cannot be completed is left alone, and said.
func TestMakeRefuses(t *testing.T) {
	ca := certtest.NewAuthority(t, "root", nil)
	cert, key := ca.Issue("board", nil)
	encrypted := "-----BEGIN ENCRYPTED PRIVATE KEY-----\nMIIB\n-----END ENCRYPTED PRIVATE KEY-----\n"
	for name, tc := range map[string]struct {
		files map[string]string // by their names in the directory
		kind  string
		want  string
	}{
		"unknown type":                  {nil, "dsa", `key type "dsa": want p256 or rsa2048`},
		"another type":                  {map[string]string{"private.pem.key": string(key)}, RSA2048, "exists and is EC P-256, not rsa2048; an existing key is never replaced"},
		"a certificate without its key": {map[string]string{"certificate.pem.crt": string(cert)}, "", "no new key belongs to it"},
		"no key":                        {map[string]string{"private.pem.key": "x"}, "", "it holds no PEM private key"},
		"a key cut short":               {map[string]string{"private.pem.key": string(key[:80])}, "", "cut short or damaged"},
		"an encrypted key":              {map[string]string{"private.pem.key": encrypted}, "", "the private key is encrypted"},
		"a request for another key":     {map[string]string{"private.pem.key": string(key), "certificate.pem.csr": string(request(t))}, "", "is not for the key"},
		"no request":                    {map[string]string{"private.pem.key": string(key), "certificate.pem.csr": string(cert)}, "", `it holds "CERTIFICATE" and no certificate request`},
		"a damaged request":             {map[string]string{"private.pem.key": string(key), "certificate.pem.csr": string(damaged(request(t)))}, "", "is damaged"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			for file, text := range tc.files {
				must(t, os.WriteFile(filepath.Join(dir, file), []byte(text), 0o600))
			}
			_, err := Make(FilesIn(dir), tc.kind, "x", nil)
			if err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("%v, want %q", err, tc.want)
			}
			for file, text := range tc.files {
				if got := read(t, filepath.Join(dir, file)); string(got) != text {
					t.Errorf("%s was changed", file)
				}
			}
			if all, _ := os.ReadDir(dir); len(all) != len(tc.files) {
				t.Errorf("left %v", all)
			}
		})
	}
}

// request makes one for a key of its own.
func request(t *testing.T) []byte {
	t.Helper()
	r, err := NewRequest(certtest.NewKey(t), "other")
	must(t, err)
	return r
}

// damaged changes the signature of a request.
func damaged(request []byte) []byte {
	block, _ := pem.Decode(request)
	block.Bytes[len(block.Bytes)-1] ^= 1
	return pem.EncodeToMemory(block)
}

// A name that is too long for a subject does not make a request that nobody takes.
func TestRequestOfALongName(t *testing.T) {
	text, err := NewRequest(certtest.NewKey(t), strings.Repeat("é", 60))
	must(t, err)
	r, err := ParseRequest(text)
	must(t, err)
	if want := strings.Repeat("é", 32); r.Subject.CommonName != want {
		t.Errorf("%q", r.Subject.CommonName)
	}
}

// The id is what AWS calls the certificate: the SHA-256 that OpenSSL gives.
func TestID(t *testing.T) {
	cert, _ := certtest.NewAuthority(t, "root", nil).Issue("board", nil)
	c, err := x509.ParseCertificate(certtest.Decode(t, cert))
	must(t, err)
	id := ID(c)
	if len(id) != 64 || strings.ToLower(id) != id {
		t.Errorf("id %q", id)
	}
	openssl, err := exec.LookPath("openssl")
	if err != nil {
		return
	}
	cmd := exec.Command(openssl, "x509", "-noout", "-fingerprint", "-sha256")
	cmd.Stdin = bytes.NewReader(cert)
	out, err := cmd.Output()
	must(t, err)
	_, print, _ := strings.Cut(strings.TrimSpace(string(out)), "=")
	if got := strings.ToLower(strings.ReplaceAll(print, ":", "")); got != id {
		t.Errorf("openssl: %s, here %s", got, id)
	}
}
