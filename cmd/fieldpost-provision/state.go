package main

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"

	"fieldpost/daemon/durable"
	"fieldpost/daemon/regular"
)

// What a [made] can be.
const (
	madeThing         = "thing"
	madePolicy        = "policy"
	madePolicyVersion = "policy version"
	madeCertificate   = "certificate"
	madePolicyAttach  = "policy attachment"
	madeThingAttach   = "thing attachment"
	madeFile          = "file"
	madeEndpoint      = "endpoint"
)

// made is one thing that was made, or was asked for: then Sure is false.
type made struct {
	What string `json:"what"`
	// Name is that of the thing or policy, the certificate's id, which file (see fileRole), or
	// the endpoint that was written into the configuration.
	Name    string `json:"name,omitempty"`
	Version string `json:"version,omitempty"` // of a policy version
	// Certificate is the id of the certificate that something was attached to.
	Certificate string    `json:"certificate,omitempty"`
	Sum         string    `json:"sha256,omitempty"` // of a file's content
	Was         string    `json:"was,omitempty"`    // the endpoint before
	Asked       time.Time `json:"asked,omitzero"`   // by AWS's clock
	Sure        bool      `json:"sure"`
}

// state is what provision.json holds.
type state struct {
	Format  int    `json:"format"` // 1
	Account string `json:"account,omitempty"`
	Region  string `json:"region,omitempty"`
	Thing   string `json:"thing,omitempty"`
	// Undoing: an undo was begun and did not end.
	Undoing bool    `json:"undoing,omitempty"`
	Made    []*made `json:"made"`
}

// find returns the entry of this kind and name; nil if there is none.
func (s *state) find(what, name string) *made {
	i := slices.IndexFunc(s.Made, func(m *made) bool { return m.What == what && m.Name == name })
	if i < 0 {
		return nil
	}
	return s.Made[i]
}

// findAttached returns the entry of what was attached to a certificate; nil if there is none.
func (s *state) findAttached(what, name, certificate string) *made {
	i := slices.IndexFunc(s.Made, func(m *made) bool { return m.What == what && m.Name == name && m.Certificate == certificate })
	if i < 0 {
		return nil
	}
	return s.Made[i]
}

// certificate returns the entry of the certificate; nil if there is none.
func (s *state) certificate() *made {
	i := slices.IndexFunc(s.Made, func(m *made) bool { return m.What == madeCertificate })
	if i < 0 {
		return nil
	}
	return s.Made[i]
}

// store is the state in its file, which one run at a time may use.
type store struct {
	state
	path string
	dir  durable.Dir
	lock *os.File
}

// stateMax is the largest state file that is read, in bytes.
const stateMax = 1 << 20

// openStore locks the state file of a path and reads it. It creates the directory if make is
// set; otherwise a directory that is missing is an empty state.
func openStore(path string, make bool) (*store, error) {
	dir := filepath.Dir(path)
	s := &store{path: path, dir: durable.OSDir{Path: dir, Mode: 0o600}, state: state{Format: 1}}
	if make {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return nil, fmt.Errorf("create directory: %w", err)
		}
	}
	f, err := regular.OpenUnlinked(path+".lock", os.O_RDWR|os.O_CREATE, 0o600)
	if errors.Is(err, fs.ErrNotExist) {
		return s, nil
	}
	if err != nil {
		return nil, fmt.Errorf("lock %q: %w", path, err)
	}
	err = durable.Lock(f)
	if err == nil {
		err = durable.OSFile{File: f}.There() // an undo that ends removes it
	}
	switch {
	case errors.Is(err, durable.ErrLocked), errors.Is(err, durable.ErrGone):
		err = fmt.Errorf("another fieldpost-provision works on %q; wait for it to end, and run this again", path)
	case err != nil:
		err = fmt.Errorf("lock %q: %w", path, err)
	default:
		s.lock = f
		err = s.read()
	}
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return s, nil
}

func (s *store) read() error {
	data, err := regular.ReadUnlinked(s.path, stateMax)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("read state: %w", err)
	}
	d := json.NewDecoder(bytes.NewReader(data))
	d.DisallowUnknownFields()
	if err := d.Decode(&s.state); err != nil || s.Format != 1 || slices.Contains(s.Made, nil) {
		if err == nil {
			err = fmt.Errorf("format %d", s.Format)
		}
		return fmt.Errorf("%q is not the state of this version of fieldpost-provision (%w); it says what was made at AWS, so do not delete it unread", s.path, err)
	}
	return nil
}

// save writes the state durably.
func (s *store) save() error {
	data, err := json.MarshalIndent(s.state, "", "  ")
	if err == nil {
		err = durable.Replace(s.dir, filepath.Base(s.path), append(data, '\n'))
	}
	if err != nil {
		return fmt.Errorf("write state %q: %w", s.path, err)
	}
	return nil
}

// intend records what is about to be made.
func (s *store) intend(m *made) error {
	s.Made = append(s.Made, m)
	if err := s.save(); err != nil {
		s.Made = s.Made[:len(s.Made)-1]
		return err
	}
	return nil
}

// drop removes an entry.
func (s *store) drop(m *made) error {
	s.Made = slices.DeleteFunc(s.Made, func(x *made) bool { return x == m })
	return s.save()
}

// close ends the use of the state. It removes the files of a state in which nothing is left.
func (s *store) close() error {
	if s.lock == nil {
		return nil
	}
	var err error
	if len(s.Made) == 0 {
		name := filepath.Base(s.path)
		err = s.dir.Remove(name)
		_ = s.dir.Remove(name + ".lock") // Windows removes no open file; it is empty
		err = errors.Join(err, s.dir.Sync())
	}
	return errors.Join(err, s.lock.Close())
}

func sumOf(data []byte) string {
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:])
}
