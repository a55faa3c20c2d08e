package broker

import (
	"crypto/x509"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"
)

func make6(t *testing.T, dir string, hosts ...string) Files {
	t.Helper()
	files, err := Certificates(dir, hosts...)
	if err != nil {
		t.Fatal(err)
	}
	return files
}

func contents(t *testing.T, dir string) map[string]string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]string{}
	for _, e := range entries {
		text, err := os.ReadFile(filepath.Join(dir, e.Name()))
		if err != nil {
			t.Fatal(err)
		}
		got[e.Name()] = string(text)
	}
	return got
}

func same(t *testing.T, before, after map[string]string) {
	t.Helper()
	for name := range before {
		if before[name] != after[name] {
			t.Errorf("%s has been changed or removed", name)
		}
	}
	for name := range after {
		if _, ok := before[name]; !ok {
			t.Errorf("%s has appeared", name)
		}
	}
}

func TestCertificatesAreMadeOnce(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "not", "yet")
	files := make6(t, dir)
	made := contents(t, dir)
	if len(made) != 6 {
		t.Errorf("made %d files, want 6: %v", len(made), made)
	}
	for _, path := range []string{files.CA, files.Certificate, files.Key, files.ServerCertificate, files.ServerKey, files.CAKey} {
		info, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		want := os.FileMode(0o644)
		if strings.HasSuffix(path, ".key") {
			want = 0o600
		}
		if runtime.GOOS != "windows" && info.Mode() != want {
			t.Errorf("%s has mode %v, want %v", filepath.Base(path), info.Mode(), want)
		}
	}
	if again := make6(t, dir); again != files {
		t.Errorf("the second call gave %v, the first %v", again, files)
	}
	same(t, made, contents(t, dir))
}

func TestCertificatesBearWrongClocks(t *testing.T) {
	files := make6(t, t.TempDir())
	for _, path := range []string{files.CA, files.Certificate, files.ServerCertificate} {
		c, err := readCertificate(path)
		if err != nil {
			t.Fatal(err)
		}
		if !c.NotBefore.Equal(epoch) {
			t.Errorf("%s is valid from %v, want %v", filepath.Base(path), c.NotBefore, epoch)
		}
		if c.NotAfter.Before(time.Now().AddDate(9, 0, 0)) {
			t.Errorf("%s is valid until %v only", filepath.Base(path), c.NotAfter)
		}
	}
	atBoot := time.Unix(0, 0)
	if made := root(atBoot); made.NotAfter.Year() != epoch.Year()+10 {
		t.Errorf("made in 1970, a root is valid until %v", made.NotAfter)
	}
	if err := files.verify([]string{"localhost"}, atBoot); err != nil {
		t.Errorf("in 1970: %v", err)
	}
	if err := files.verify(nil, time.Now().AddDate(11, 0, 0)); err == nil || !strings.Contains(err.Error(), "expired") || !strings.Contains(err.Error(), "move it and server.pem.key away") {
		t.Errorf("in 11 years: %v", err)
	}
}

func TestCertificatesForHosts(t *testing.T) {
	dir := t.TempDir()
	files := make6(t, dir, "field.local", "192.0.2.7", "localhost")
	c, err := readCertificate(files.ServerCertificate)
	if err != nil {
		t.Fatal(err)
	}
	for _, host := range []string{"127.0.0.1", "::1", "localhost", "field.local", "192.0.2.7"} {
		if err := c.VerifyHostname(host); err != nil {
			t.Error(err)
		}
	}
	before := contents(t, dir)
	_, err = Certificates(dir, "other.local")
	if err == nil || !strings.Contains(err.Error(), "other.local") || !strings.Contains(err.Error(), "move it and server.pem.key away") {
		t.Errorf("another host: %v", err)
	}
	same(t, before, contents(t, dir))

	// What the error tells us to do helps, and leaves the rest alone.
	for _, path := range []string{files.ServerCertificate, files.ServerKey} {
		if err := os.Remove(path); err != nil {
			t.Fatal(err)
		}
	}
	make6(t, dir, "other.local")
	if after := contents(t, dir); after["certificate.pem.crt"] != before["certificate.pem.crt"] {
		t.Error("the client's certificate has been changed")
	}
}

// A real account's files, of which the user has pointed us at.
func TestCertificatesLeaveOthersAlone(t *testing.T) {
	for _, names := range [][]string{
		{"AmazonRootCA1.pem"},
		{"private.pem.key"},
		{"AmazonRootCA1.pem", "certificate.pem.crt", "private.pem.key"},
		{"server.pem.crt", "server.pem.key"},
	} {
		dir := t.TempDir()
		for _, name := range names {
			if err := os.WriteFile(filepath.Join(dir, name), []byte("precious"), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		before := contents(t, dir)
		_, err := Certificates(dir)
		if err == nil || !strings.Contains(err.Error(), names[0]) || !strings.Contains(err.Error(), "left alone") {
			t.Errorf("%v: %v", names, err)
		}
		same(t, before, contents(t, dir))
	}
}

// Killed between any two files, the next call completes the set.
func TestCertificatesCompleteTheirOwn(t *testing.T) {
	order := []string{"ca.pem.key", "AmazonRootCA1.pem", "server.pem.key", "server.pem.crt", "private.pem.key", "certificate.pem.crt"}
	for kept := range order {
		dir := t.TempDir()
		make6(t, dir)
		for _, name := range order[kept:] {
			if err := os.Remove(filepath.Join(dir, name)); err != nil {
				t.Fatal(err)
			}
		}
		before := contents(t, dir)
		make6(t, dir)
		after := contents(t, dir)
		for name, text := range before {
			if after[name] != text {
				t.Errorf("with %d files: %s has been changed", kept, name)
			}
		}
	}
}

func TestCertificatesTwiceAtOnce(t *testing.T) {
	dir := t.TempDir()
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			if _, err := Certificates(dir); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	if got := contents(t, dir); len(got) != 6 {
		t.Errorf("left %d files, want 6", len(got))
	}
}

func TestCertificatesRefuse(t *testing.T) {
	for name, tc := range map[string]struct {
		spoil func(t *testing.T, dir string, other Files)
		want  string
	}{
		"a certificate without its key": {func(t *testing.T, dir string, _ Files) {
			remove(t, dir, "private.pem.key")
		}, "certificate.pem.crt\" exists without private.pem.key: move it away"},
		"another's key": {func(t *testing.T, dir string, other Files) {
			replace(t, dir, "private.pem.key", other.Key)
		}, "move it and private.pem.key away"},
		"another's pair": {func(t *testing.T, dir string, other Files) {
			replace(t, dir, "private.pem.key", other.Key)
			replace(t, dir, "certificate.pem.crt", other.Certificate)
		}, "certificate.pem.crt\": x509: certificate signed by unknown authority"},
		"another's root": {func(t *testing.T, dir string, other Files) {
			replace(t, dir, "AmazonRootCA1.pem", other.CA)
		}, "AmazonRootCA1.pem\" and ca.pem.key do not belong together"},
		"a server's certificate for the client": {func(t *testing.T, dir string, _ Files) {
			replace(t, dir, "certificate.pem.crt", filepath.Join(dir, "server.pem.crt"))
			replace(t, dir, "private.pem.key", filepath.Join(dir, "server.pem.key"))
		}, "incompatible key usage"},
		"an empty file": {func(t *testing.T, dir string, _ Files) {
			write(t, dir, "server.pem.crt", "")
		}, "server.pem.crt\": no PEM in it"},
		"a key where the root should be": {func(t *testing.T, dir string, other Files) {
			replace(t, dir, "AmazonRootCA1.pem", other.Key)
		}, `want a PEM CERTIFICATE (got "PRIVATE KEY")`},
		"half a key": {func(t *testing.T, dir string, _ Files) {
			write(t, dir, "ca.pem.key", "-----BEGIN PRIVATE KEY-----\nMIGH\n-----END PRIVATE KEY-----\n")
		}, "ca.pem.key\": asn1"},
	} {
		t.Run(name, func(t *testing.T) {
			dir, other := t.TempDir(), make6(t, t.TempDir())
			make6(t, dir)
			tc.spoil(t, dir, other)
			before := contents(t, dir)
			_, err := Certificates(dir)
			if err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("got  %v\nwant %s", err, tc.want)
			}
			same(t, before, contents(t, dir))
		})
	}
}

func remove(t *testing.T, dir, name string) {
	t.Helper()
	if err := os.Remove(filepath.Join(dir, name)); err != nil {
		t.Fatal(err)
	}
}

func write(t *testing.T, dir, name, text string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func replace(t *testing.T, dir, name, from string) {
	t.Helper()
	text, err := os.ReadFile(from)
	if err != nil {
		t.Fatal(err)
	}
	write(t, dir, name, string(text))
}

func TestCertificatesNowhere(t *testing.T) {
	if _, err := Certificates(""); err == nil || !strings.Contains(err.Error(), "no directory") {
		t.Errorf("no directory: %v", err)
	}
	file := filepath.Join(t.TempDir(), "file")
	write(t, filepath.Dir(file), "file", "")
	if _, err := Certificates(file); err == nil {
		t.Error("made certificates in a file")
	}
	if _, err := Certificates(t.TempDir(), "münchen.local"); err == nil || !strings.Contains(err.Error(), "münchen.local") {
		t.Errorf("a host that no certificate can hold: %v", err)
	}
}

func TestHostsFor(t *testing.T) {
	if got := hostsFor("192.0.2.1:8883"); len(got) != 1 || got[0] != "192.0.2.1" {
		t.Errorf("one address: %v", got)
	}
	name, err := os.Hostname()
	if err != nil {
		t.Fatal(err)
	}
	for _, listen := range []string{":8883", "0.0.0.0:8883", "[::]:8883"} {
		if got := hostsFor(listen); len(got) != 2 || got[0] != name || got[1] != name+".local" {
			t.Errorf("%s: %v", listen, got)
		}
	}
	if got := hostsFor("nonsense"); got != nil {
		t.Errorf("nonsense: %v", got)
	}
}

// A certificate lasts no longer than the root that vouches for it.
func TestLeafEndsWithItsRoot(t *testing.T) {
	ca := root(epoch)
	if c := leaf("x", ca, x509.ExtKeyUsageClientAuth, nil); !c.NotAfter.Equal(ca.NotAfter) {
		t.Errorf("root until %v, leaf until %v", ca.NotAfter, c.NotAfter)
	}
}

// More devices get certificates of the same authority, in directories of their own.
func TestDeviceCertificate(t *testing.T) {
	dir := t.TempDir()
	if _, err := DeviceCertificate(dir, "board-1"); err == nil {
		t.Error("without an authority: no error")
	}
	all, err := Certificates(dir)
	if err != nil {
		t.Fatal(err)
	}
	one, err := DeviceCertificate(dir, "board-1")
	if err != nil {
		t.Fatal(err)
	}
	again, err := DeviceCertificate(dir, "board-1")
	if err != nil || again != one {
		t.Errorf("again: %+v, %v", again, err)
	}
	ours, err := readCertificate(all.Certificate)
	if err != nil {
		t.Fatal(err)
	}
	its, err := readCertificate(one.Certificate)
	if err != nil || its.Subject.CommonName != "board-1" || its.Equal(ours) || string(its.RawIssuer) != string(ours.RawIssuer) {
		t.Errorf("its certificate %v, %v", its.Subject, err)
	}
	for _, name := range []string{"", ".", "..", "a/b", `a\b`, "a b", strings.Repeat("x", 129)} {
		if _, err := DeviceCertificate(dir, name); err == nil {
			t.Errorf("%q: no error", name)
		}
	}
	other := filepath.Join(t.TempDir(), "other")
	if _, err := Certificates(other); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(filepath.Join(dir, "board-1"), filepath.Join(other, "board-1")); err != nil {
		t.Fatal(err)
	}
	if _, err := DeviceCertificate(other, "board-1"); err == nil || !strings.Contains(err.Error(), "the directory is of another set") {
		t.Errorf("of another authority: %v", err)
	}
}
