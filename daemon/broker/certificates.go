package broker

import (
	"crypto/ecdsa"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"sync"
	"time"

	"fieldpost/daemon/durable"
)

// Files are the paths of a set of certificates and keys, in PEM. The first three are for
// clients and have the names of the AWS tutorial.
type Files struct {
	CA                string // AmazonRootCA1.pem
	Certificate       string // certificate.pem.crt
	Key               string // private.pem.key
	ServerCertificate string // server.pem.crt
	ServerKey         string // server.pem.key
	CAKey             string // ca.pem.key
}

func filesIn(dir string) Files {
	return Files{
		CA:                filepath.Join(dir, "AmazonRootCA1.pem"),
		Certificate:       filepath.Join(dir, "certificate.pem.crt"),
		Key:               filepath.Join(dir, "private.pem.key"),
		ServerCertificate: filepath.Join(dir, "server.pem.crt"),
		ServerKey:         filepath.Join(dir, "server.pem.key"),
		CAKey:             filepath.Join(dir, "ca.pem.key"),
	}
}

// pair is the certificate of one side with its key.
type pair struct {
	certificate, key string
	name             string
	usage            x509.ExtKeyUsage
}

func (f Files) pairs() [2]pair {
	return [2]pair{
		{f.ServerCertificate, f.ServerKey, "fieldpost broker", x509.ExtKeyUsageServerAuth},
		{f.Certificate, f.Key, "fieldpost", x509.ExtKeyUsageClientAuth},
	}
}

// Certificates returns the set of certificates and keys in a directory. It creates
// what is missing: a root of our own, a certificate for clients, and one for a
// server on this machine (127.0.0.1, ::1, localhost) and the other hosts given,
// names or addresses. Keys are ECDSA P-256, in files of mode 0600.
//
// An existing file is never overwritten or removed, so that nobody loses the certificates of a
// real account: if one of the files exists without our ca.pem.key, nothing is written. Each file
// is created as a whole, so the next call completes one that was killed, and two concurrent
// calls agree. A set that does not match, has expired or does not cover a host is an error.
func Certificates(dir string, hosts ...string) (Files, error) {
	if dir == "" {
		return Files{}, errors.New("make certificates: no directory given")
	}
	files := filesIn(dir)
	hosts = append([]string{"127.0.0.1", "::1", "localhost"}, hosts...)
	slices.Sort(hosts)
	hosts = slices.Compact(hosts)
	if err := files.ours(); err != nil {
		return Files{}, fmt.Errorf("make certificates: %w", err)
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return Files{}, fmt.Errorf("make certificates: %w", err)
	}
	if err := files.complete(hosts, time.Now()); err != nil {
		return Files{}, fmt.Errorf("make certificates: %w", err)
	}
	if err := files.verify(hosts, time.Now()); err != nil {
		return Files{}, fmt.Errorf("check certificates: %w", err)
	}
	return files, nil
}

// deviceNames are what a thing may be called in AWS IoT, and so make directories too.
var deviceNames = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`^[a-zA-Z0-9:_-]{1,128}$`) })

// DeviceCertificate returns the key, the certificate and the root of one more device, in the
// directory of its name below the one of [Certificates], whose authority issues the
// certificate. Like Certificates, it creates what is missing and replaces nothing. The other
// paths are empty.
func DeviceCertificate(dir, name string) (Files, error) {
	if !deviceNames().MatchString(name) {
		return Files{}, fmt.Errorf("device %q: want 1 to 128 letters, digits, : _ and -", name)
	}
	all := filesIn(filepath.Join(dir, name))
	files := Files{CA: all.CA, Certificate: all.Certificate, Key: all.Key}
	if err := files.completeDevice(filesIn(dir), name, time.Now()); err != nil {
		return Files{}, fmt.Errorf("certificate of device %q: %w", name, err)
	}
	return files, nil
}

func (f Files) completeDevice(ours Files, name string, now time.Time) error {
	p := pair{f.Certificate, f.Key, name, x509.ExtKeyUsageClientAuth}
	if exists(p.certificate) && !exists(p.key) {
		return fmt.Errorf("%q exists without %s: move it away to have both made", p.certificate, filepath.Base(p.key))
	}
	caKey, err := readKey(ours.CAKey)
	if err != nil {
		return err
	}
	ca, err := readCertificate(ours.CA)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(f.Key), 0o700); err != nil {
		return err
	}
	root := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: ca.Raw})
	if err := durable.CreateFile(f.CA, root, 0o644); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	leafKey, err := key(p.key)
	if err != nil {
		return err
	}
	if _, err := certificate(p.certificate, leaf(name, ca, p.usage, nil), ca, &leafKey.PublicKey, caKey); err != nil {
		return err
	}
	if there, err := readCertificate(f.CA); err != nil {
		return err
	} else if !there.Equal(ca) {
		return fmt.Errorf("%q is not the root %q: the directory is of another set; move it away", f.CA, ours.CA)
	}
	roots := x509.NewCertPool()
	roots.AddCert(ca)
	if err := p.verify(roots, nil, now); err != nil {
		return fmt.Errorf("%q: %w; move it and %s away to have both made again", p.certificate, err, filepath.Base(p.key))
	}
	return nil
}

// ours refuses a set that is not ours. The key of our CA is written first, so ours looks for it
// last.
func (f Files) ours() error {
	var there []string
	for _, path := range []string{f.CA, f.Certificate, f.Key, f.ServerCertificate, f.ServerKey} {
		if exists(path) {
			there = append(there, path)
		}
	}
	if len(there) == 0 || exists(f.CAKey) {
		return nil
	}
	return fmt.Errorf("%q exists without %s: it was not made here and is left alone; choose another directory",
		there[0], filepath.Base(f.CAKey))
}

// complete creates the missing files, each from the ones before it.
func (f Files) complete(hosts []string, now time.Time) error {
	for _, p := range f.pairs() {
		if exists(p.certificate) && !exists(p.key) {
			return fmt.Errorf("%q exists without %s: move it away to have both made", p.certificate, filepath.Base(p.key))
		}
	}
	caKey, err := key(f.CAKey)
	if err != nil {
		return err
	}
	ca, err := certificate(f.CA, root(now), nil, &caKey.PublicKey, caKey)
	if err != nil {
		return err
	}
	if !caKey.PublicKey.Equal(ca.PublicKey) {
		return fmt.Errorf("%q and %s do not belong together", f.CA, filepath.Base(f.CAKey))
	}
	for _, p := range f.pairs() {
		leafKey, err := key(p.key)
		if err != nil {
			return err
		}
		if _, err := certificate(p.certificate, leaf(p.name, ca, p.usage, hosts), ca, &leafKey.PublicKey, caKey); err != nil {
			return err
		}
	}
	return nil
}

// verify checks that the set belongs together and will be accepted now.
func (f Files) verify(hosts []string, now time.Time) error {
	ca, err := readCertificate(f.CA)
	if err != nil {
		return err
	}
	roots := x509.NewCertPool()
	roots.AddCert(ca)
	for _, p := range f.pairs() {
		if p.usage != x509.ExtKeyUsageServerAuth {
			hosts = nil
		}
		if err := p.verify(roots, hosts, now); err != nil {
			return fmt.Errorf("%q: %w; move it and %s away to have both made again", p.certificate, err, filepath.Base(p.key))
		}
	}
	return nil
}

func (p pair) verify(roots *x509.CertPool, hosts []string, now time.Time) error {
	loaded, err := tls.LoadX509KeyPair(p.certificate, p.key)
	if err != nil {
		return err
	}
	_, err = loaded.Leaf.Verify(x509.VerifyOptions{Roots: roots, CurrentTime: notBefore(now), KeyUsages: []x509.ExtKeyUsage{p.usage}})
	if err != nil {
		return err
	}
	for _, host := range hosts {
		if err := loaded.Leaf.VerifyHostname(host); err != nil {
			return err
		}
	}
	return nil
}

// key reads a private key, or creates it if there is none.
func key(path string) (*ecdsa.PrivateKey, error) {
	k, err := readKey(path)
	if !errors.Is(err, fs.ErrNotExist) {
		return k, err
	}
	made, err := newKey()
	if err != nil {
		return nil, err
	}
	if err := durable.CreateFile(path, made, 0o600); err != nil && !errors.Is(err, fs.ErrExist) {
		return nil, err
	}
	return readKey(path) // ours, or that of a concurrent call
}

// certificate reads a certificate, or issues it if there is none.
func certificate(path string, template, parent *x509.Certificate, public *ecdsa.PublicKey, signer *ecdsa.PrivateKey) (*x509.Certificate, error) {
	c, err := readCertificate(path)
	if !errors.Is(err, fs.ErrNotExist) {
		return c, err
	}
	issued, err := issue(template, parent, public, signer)
	if err != nil {
		return nil, err
	}
	if err := durable.CreateFile(path, issued, 0o644); err != nil && !errors.Is(err, fs.ErrExist) {
		return nil, err
	}
	return readCertificate(path)
}

func exists(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
}

// hostsFor returns the names by which clients may reach a listening address.
func hostsFor(listen string) []string {
	host, _, err := net.SplitHostPort(listen)
	if err != nil {
		return nil
	}
	if ip := net.ParseIP(host); host != "" && (ip == nil || !ip.IsUnspecified()) {
		return []string{host}
	}
	name, err := os.Hostname()
	if err != nil || name == "" {
		return nil
	}
	return []string{name, name + ".local"}
}
