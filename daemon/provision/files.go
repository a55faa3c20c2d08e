package provision

import (
	"crypto"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"fieldpost/daemon/durable"
	"fieldpost/daemon/identity"
)

// The names of the files.
const (
	currentFile  = "current.pem"
	previousFile = "previous.pem"
	nextFile     = "next.json"
)

// maxFile is the most that is read of a file, in bytes.
const maxFile = 256 << 10

// Storage returns the directory of the files. It is created, with mode 0700, when the first
// file is; the one above it must exist.
func Storage(path string) durable.Dir {
	return storage{durable.OSDir{Path: path, Mode: 0o600}}
}

type storage struct{ durable.OSDir }

// Create creates the directory if it is missing.
func (s storage) Create(name string) (durable.File, error) {
	if _, err := os.Stat(s.Path); errors.Is(err, fs.ErrNotExist) {
		if err := os.Mkdir(s.Path, 0o700); err != nil {
			return nil, err
		}
		if err := durable.SyncDir(filepath.Dir(s.Path)); err != nil {
			return nil, err
		}
	}
	return s.OSDir.Create(name)
}

// pair is a key with its certificate.
type pair struct {
	pem  []byte
	leaf *x509.Certificate
}

// parsePair reads a pair from one file.
func parsePair(text []byte) (*pair, error) {
	key, err := identity.ParseKey(text)
	if err != nil {
		return nil, err
	}
	chain, bad, err := identity.ParseCertificates(text)
	switch {
	case err != nil:
		return nil, err
	case len(bad) > 0:
		return nil, errors.New(bad[0])
	case !identity.Belongs(chain[0], key):
		return nil, errors.New("the private key does not belong to the certificate")
	}
	return &pair{text, chain[0]}, nil
}

// record is the content of next.json: a pair that is being made. What a step has brought is
// in it before the next step begins.
type record struct {
	Key         string `json:"key"`                      // PEM
	Certificate string `json:"certificate,omitempty"`    // PEM
	ID          string `json:"certificate_id,omitempty"` // AWS IoT's name for it
	Token       string `json:"token,omitempty"`          // proves that the certificate is ours
	Registered  bool   `json:"registered,omitempty"`     // the template has accepted it
	Thing       string `json:"thing,omitempty"`          // for this thing
	// InDoubt says that the token is not accepted any more: it has expired, or an answer that
	// was lost had accepted it.
	InDoubt  bool `json:"in_doubt,omitempty"`
	Refusals int  `json:"refusals,omitempty"` // connections with it that the broker refused
}

// newRecord makes a key.
func newRecord() (*record, error) {
	key, err := identity.NewKey(identity.P256)
	if err != nil {
		return nil, err
	}
	text, err := identity.EncodeKey(key)
	if err != nil {
		return nil, err
	}
	return &record{Key: string(text)}, nil
}

// parseRecord reads next.json. What it accepts can be used.
func parseRecord(text []byte) (*record, error) {
	var r record
	if err := json.Unmarshal(text, &r); err != nil {
		return nil, err
	}
	if _, err := identity.ParseKey([]byte(r.Key)); err != nil {
		return nil, err
	}
	if r.Certificate == "" {
		return &record{Key: r.Key}, nil
	}
	if _, err := r.pair(); err != nil {
		return nil, err
	}
	return &r, nil
}

// key returns the private key, which was checked.
func (r *record) key() (crypto.Signer, error) { return identity.ParseKey([]byte(r.Key)) }

// pair returns the finished pair.
func (r *record) pair() (*pair, error) { return parsePair([]byte(r.Key + r.Certificate)) }

// restart begins again with another key.
func (r *record) restart() error {
	fresh, err := newRecord()
	if err == nil {
		*r = *fresh
	}
	return err
}

// lifetime returns how long a certificate is valid.
func lifetime(c *x509.Certificate) time.Duration { return c.NotAfter.Sub(c.NotBefore) }

// RenewAt returns when a certificate is to be renewed: this long before its end, but at the
// earliest when two thirds of its life are over. Boards whose certificates end together are
// spread over a tenth of that time, by what is in the certificate.
func RenewAt(c *x509.Certificate, before time.Duration) time.Time {
	before = min(before, lifetime(c)/3)
	spread := before / 10
	if spread > 0 {
		n := uint64(0)
		for _, b := range c.SerialNumber.Bytes() {
			n = n*31 + uint64(b)
		}
		before -= time.Duration(n % uint64(spread))
	}
	return c.NotAfter.Add(-before)
}

// load reads the files, as far as that was not done.
func (p *Provisioner) load() error {
	if p.loaded {
		return nil
	}
	for _, name := range []string{currentFile, previousFile, nextFile} { // of a crash, with a key in it
		if err := p.o.Dir.Remove(name + durable.TmpExt); err != nil {
			return diskFailure("remove", err)
		}
	}
	current, err := p.loadPair(currentFile)
	if err != nil {
		return err
	}
	if current == nil {
		if current, err = p.restorePrevious(); err != nil {
			return err
		}
	}
	text, err := p.o.Dir.Read(nextFile, maxFile)
	var next *record
	switch {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		return diskFailure("read", err)
	default:
		if next, err = parseRecord(text); err != nil {
			p.o.Log.Warn("what was begun of a new certificate is damaged; starting over", "file", nextFile, "err", err)
			next = nil
			if err := p.o.Dir.Remove(nextFile); err != nil {
				return diskFailure("remove", err)
			}
		}
	}
	p.current, p.next, p.loaded = current, next, true
	return nil
}

// loadPair reads a pair; nil is none that can be used.
func (p *Provisioner) loadPair(name string) (*pair, error) {
	text, err := p.o.Dir.Read(name, maxFile)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, nil
	case err != nil:
		return nil, diskFailure("read", err)
	}
	found, err := parsePair(text)
	if err != nil {
		p.o.Log.Error("the file of the certificate is damaged", "file", name, "err", err)
		return nil, nil
	}
	return found, nil
}

// restorePrevious puts the previous pair in the place of one that is damaged or missing.
func (p *Provisioner) restorePrevious() (*pair, error) {
	previous, err := p.loadPair(previousFile)
	if previous == nil || err != nil {
		return nil, err
	}
	p.o.Log.Warn("using the previous certificate, as the last one cannot be read", "expires", previous.leaf.NotAfter)
	if err := durable.Replace(p.o.Dir, currentFile, previous.pem); err != nil {
		return nil, diskFailure("write", err)
	}
	p.o.Installed()
	return previous, nil
}

// save writes next.json.
func (p *Provisioner) save() error {
	p.unsaved = true
	text, err := json.Marshal(p.next)
	if err != nil {
		return fmt.Errorf("encode state: %w", err)
	}
	if err := durable.Replace(p.o.Dir, nextFile, text); err != nil {
		return diskFailure("write", err)
	}
	p.unsaved = false
	return nil
}

// drop removes next.json.
func (p *Provisioner) drop() error {
	if err := p.o.Dir.Remove(nextFile); err != nil {
		return diskFailure("remove", err)
	}
	if err := p.o.Dir.Sync(); err != nil {
		return diskFailure("remove", err)
	}
	p.next, p.unsaved, p.proven = nil, false, false
	return nil
}

// install puts the new pair in the place of the one in use.
func (p *Provisioner) install(fresh *pair) error {
	if p.current != nil {
		if err := durable.Replace(p.o.Dir, previousFile, p.current.pem); err != nil {
			return diskFailure("write", err)
		}
	}
	if err := durable.Replace(p.o.Dir, currentFile, fresh.pem); err != nil {
		return diskFailure("write", err)
	}
	p.current = fresh
	p.o.Installed()
	p.o.Log.Info("the new certificate is in use", "certificate_id", identity.ID(fresh.leaf), "expires", fresh.leaf.NotAfter)
	return p.drop()
}
