package broker

import (
	"bytes"
	"crypto/sha256"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"path/filepath"
	"slices"
	"strings"

	"fieldpost/daemon/awsiot"
	"fieldpost/daemon/regular"
)

// Device is a client certificate with what is attached to it, as AWS IoT Core's registry
// has it.
type Device struct {
	Name             string // of the entry; also of the files that are made for it
	Certificate, Key string // PEM files; Key is "" where only the certificate was given
	// Thing is what the certificate is attached to; nil is nothing.
	Thing *awsiot.Thing
	// Policy is what is attached to the certificate; nil is none, which allows nothing.
	Policy *awsiot.Policy
	// Inactive certificates are refused at CONNECT.
	Inactive bool

	fingerprint [sha256.Size]byte
}

const (
	devicesMax    = 1 << 20 // bytes of a file of devices
	policyMax     = 64 << 10
	thingNameMax  = 128
	attributesMax = 50
)

// deviceEntry is a Device as it is written in the file.
type deviceEntry struct {
	Certificate string            `json:"certificate"`
	Policies    []string          `json:"policies"`
	Thing       *string           `json:"thing"`
	Type        string            `json:"type"`
	Attributes  map[string]string `json:"attributes"`
	Exclusive   bool              `json:"exclusive"`
	Active      *bool             `json:"active"`
}

// readDevices reads the devices of a JSON file. Paths in it are relative to the file. It issues
// the certificate and the key of a device that names none, into the directory of files, with
// the names NAME.certificate.pem.crt and NAME.private.pem.key.
func readDevices(path string, files Files) ([]Device, error) {
	text, err := regular.Read(path, devicesMax)
	if err != nil {
		return nil, fmt.Errorf("read devices: %w", err)
	}
	entries, line, err := parseDevices(text)
	if err != nil {
		return nil, fmt.Errorf("read devices: %s:%d: %w", path, line, err)
	}
	var all []Device
	owners := map[[sha256.Size]byte]string{}
	for _, name := range slices.Sorted(maps.Keys(entries)) {
		device, err := entries[name].device(name, filepath.Dir(path), files)
		if err != nil {
			return nil, fmt.Errorf("read devices: %s: %q: %w", path, name, err)
		}
		if other, taken := owners[device.fingerprint]; taken {
			return nil, fmt.Errorf("read devices: %s: %q: its certificate is also that of %q", path, name, other)
		}
		owners[device.fingerprint] = name
		all = append(all, device)
	}
	return all, nil
}

// parseDevices parses the text of a file of devices. line is that of an error.
func parseDevices(text []byte) (entries map[string]deviceEntry, line int, err error) {
	d := json.NewDecoder(bytes.NewReader(text))
	d.DisallowUnknownFields()
	failed := func(err error) (map[string]deviceEntry, int, error) {
		return nil, lineOf(text, err, d.InputOffset()), err
	}
	begin, err := d.Token()
	if err == io.EOF {
		err = io.ErrUnexpectedEOF
	}
	switch {
	case err != nil:
		return failed(err)
	case begin != json.Delim('{'):
		return failed(errors.New("want a JSON object with a device for each name"))
	}
	entries = map[string]deviceEntry{}
	for d.More() {
		key, err := d.Token()
		if err != nil {
			return failed(err)
		}
		name := key.(string) // as all keys of an object are
		if _, twice := entries[name]; twice {
			return failed(fmt.Errorf("%q comes twice", name))
		}
		var e deviceEntry
		if err := d.Decode(&e); err != nil {
			return failed(err)
		}
		entries[name] = e
	}
	if _, err := d.Token(); err != nil {
		if err == io.EOF {
			err = io.ErrUnexpectedEOF
		}
		return failed(err)
	}
	if _, err := d.Token(); err != io.EOF {
		return failed(errors.New("something follows the JSON object"))
	}
	return entries, 0, nil
}

// lineOf returns the line of a JSON error.
func lineOf(text []byte, err error, read int64) int {
	var syntax *json.SyntaxError
	var kind *json.UnmarshalTypeError
	switch {
	case errors.As(err, &syntax):
		read = syntax.Offset
	case errors.As(err, &kind):
		read = kind.Offset
	case errors.Is(err, io.ErrUnexpectedEOF):
		read = int64(len(text))
	default: // an unknown field, which has no place
		if name, ok := strings.CutPrefix(err.Error(), "json: unknown field "); ok {
			read = int64(bytes.Index(text, []byte(name)))
		}
	}
	return lineAt(text, read)
}

func lineAt(text []byte, offset int64) int {
	return 1 + bytes.Count(text[:min(max(int(offset), 0), len(text))], []byte("\n"))
}

// device makes a Device of an entry.
func (e deviceEntry) device(name, dir string, files Files) (Device, error) {
	d := Device{Name: name, Inactive: e.Active != nil && !*e.Active}
	if err := checkThingName(name); err != nil {
		return d, err
	}
	thing := name
	if e.Thing != nil {
		thing = *e.Thing
	}
	if thing != "" {
		if err := checkThingName(thing); err != nil {
			return d, fmt.Errorf("thing: %w", err)
		}
		d.Thing = &awsiot.Thing{Name: thing, Type: e.Type, Attributes: e.Attributes, Attached: true, Exclusive: e.Exclusive}
	} else if e.Type != "" || len(e.Attributes) > 0 || e.Exclusive {
		return d, errors.New("type, attributes and exclusive are of a thing, and thing is empty")
	}
	if n := len(e.Attributes); n > attributesMax {
		return d, fmt.Errorf("attributes: want at most %d (got %d)", attributesMax, n)
	}
	var err error
	if d.Policy, err = readPolicies(dir, e.Policies); err != nil {
		return d, err
	}
	var c *x509.Certificate
	if e.Certificate != "" {
		d.Certificate = within(dir, e.Certificate)
		c, err = readCertificate(d.Certificate)
	} else {
		c, err = d.issue(files)
	}
	if err != nil {
		return d, err
	}
	d.fingerprint = sha256.Sum256(c.Raw)
	return d, nil
}

// issue reads the device's certificate, or makes it and its key.
func (d *Device) issue(files Files) (*x509.Certificate, error) {
	dir := filepath.Dir(files.CA)
	d.Certificate, d.Key = filepath.Join(dir, d.Name+".certificate.pem.crt"), filepath.Join(dir, d.Name+".private.pem.key")
	if exists(d.Certificate) && !exists(d.Key) {
		return nil, fmt.Errorf("%q exists without %s: move it away to have both made", d.Certificate, filepath.Base(d.Key))
	}
	ca, err := readCertificate(files.CA)
	if err != nil {
		return nil, err
	}
	caKey, err := readKey(files.CAKey)
	if err != nil {
		return nil, err
	}
	own, err := key(d.Key)
	if err != nil {
		return nil, err
	}
	c, err := certificate(d.Certificate, leaf(d.Name, ca, x509.ExtKeyUsageClientAuth, nil), ca, &own.PublicKey, caKey)
	if err != nil {
		return nil, err
	}
	if !own.PublicKey.Equal(c.PublicKey) {
		return nil, fmt.Errorf("%q and %s do not belong together: move both away to have them made again", d.Certificate, filepath.Base(d.Key))
	}
	return c, nil
}

// checkThingName reports why AWS IoT Core takes no thing of this name.
func checkThingName(name string) error {
	if name == "" || len(name) > thingNameMax || strings.IndexFunc(name, func(r rune) bool {
		return !(r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == '_' || r == '-' || r == ':')
	}) >= 0 {
		return fmt.Errorf("want 1 to %d letters, digits, _, - or : as the name (got %q)", thingNameMax, name)
	}
	return nil
}

// readPolicies reads the policies of a device; nil is none.
func readPolicies(dir string, paths []string) (*awsiot.Policy, error) {
	var all []*awsiot.Policy
	for _, path := range paths {
		path = within(dir, path)
		text, err := regular.Read(path, policyMax)
		if err != nil {
			return nil, fmt.Errorf("policies: %w", err)
		}
		p, err := awsiot.ParseNamed(path, text)
		if err != nil {
			return nil, fmt.Errorf("policies: %w", err)
		}
		all = append(all, p)
	}
	return awsiot.Merge(all...), nil
}

// within returns a path as seen from dir, unless it is absolute.
func within(dir, path string) string {
	if filepath.IsAbs(path) {
		return path
	}
	return filepath.Join(dir, path)
}

// registry knows the devices by their certificates, and the things by their names. It does not
// change.
type registry struct {
	devices map[[sha256.Size]byte]*Device
	things  map[string]*awsiot.Thing
	policy  *awsiot.Policy // of every other certificate; nil allows everything
}

func newRegistry(devices []Device, policy *awsiot.Policy) *registry {
	r := &registry{devices: map[[sha256.Size]byte]*Device{}, things: map[string]*awsiot.Thing{}, policy: policy}
	for i := range devices {
		d := &devices[i]
		r.devices[d.fingerprint] = d
		if d.Thing != nil {
			r.things[d.Thing.Name] = d.Thing
		}
	}
	return r
}

// of returns the device of a certificate; nil is none.
func (r *registry) of(c *x509.Certificate) *Device {
	if c == nil {
		return nil
	}
	return r.devices[sha256.Sum256(c.Raw)]
}

// policyOf returns what decides about a device's requests; nil allows everything.
func (r *registry) policyOf(d *Device) *awsiot.Policy {
	switch {
	case d == nil:
		return r.policy
	case d.Policy == nil:
		return &awsiot.Policy{}
	}
	return d.Policy
}

// thingOf returns the thing that AWS IoT Core finds for a connection: the one that the
// certificate is attached to, where its kind or the client id says so, or else the one that
// has the client id as its name. A certificate that is no device's is attached to whatever
// thing the client id names.
func (r *registry) thingOf(d *Device, clientID string) *awsiot.Thing {
	switch {
	case d == nil:
		return &awsiot.Thing{Name: clientID, Attached: true}
	case d.Thing != nil && (d.Thing.Exclusive || d.Thing.Name == clientID):
		return d.Thing
	}
	named, ok := r.things[clientID]
	if !ok {
		return nil
	}
	other := *named
	other.Attached, other.Exclusive = false, false
	return &other
}
