package awsiot

import (
	"cmp"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/hex"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
)

// Connection is who asks: what the variables and the condition keys of a policy
// stand for. A value that is not set has the same effect as one that AWS IoT
// Core does not have: its variable is not replaced, its key is absent.
//
// Decisions only read it; any number of goroutines may share one.
type Connection struct {
	ClientID    string       // iot:ClientId
	Thing       *Thing       // the registry's thing for this connection; nil where there is none
	Certificate *Certificate // nil where nothing is known of it
	SourceIP    netip.Addr   // aws:SourceIp

	// ConnectAttributes are iot:ConnectAttributes, which AWS IoT Core knows for
	// iot:Connect only: [PersistentConnect], [LastWill].
	ConnectAttributes []string
	// LastWillTopic is the topic of the will, iot:LastWillTopic, likewise for
	// iot:Connect only; "" without a will.
	LastWillTopic string

	Time   time.Time // aws:CurrentTime and aws:EpochTime
	Domain string    // iot:DomainName
}

// The values of iot:ConnectAttributes.
const (
	PersistentConnect = "PersistentConnect" // a session that outlives the connection
	LastWill          = "LastWill"
)

// Thing is an entry of the registry.
type Thing struct {
	Name       string
	Type       string            // "" without one
	Attributes map[string]string // at most 50
	Attached   bool              // the connection's certificate is attached to it
	// Exclusive is an attachment of the kind EXCLUSIVE_THING, by which the
	// certificate alone says which thing it is. Otherwise a connection has the
	// thing's variables only where its client id is the thing's name.
	Exclusive bool
}

// Certificate has the fields of a client certificate that a policy may name.
type Certificate struct {
	ID           string // iot:CertificateId: the SHA-256 of the certificate, in hexadecimal
	SerialNumber string // iot:Certificate.SerialNumber
	// Fields are the values by the name after "iot:Certificate.", such as
	// "Subject.CommonName" or "Issuer.AlternativeName.DNSName", in the order of
	// the certificate.
	Fields map[string][]string
}

const (
	fieldValues = 5    // AWS IoT Core keeps so many values of a field
	fieldLength = 1024 // characters; a longer value is not substituted
)

// attributeNames are the parts of a distinguished name that have a variable, by
// their object identifier (X.520).
var attributeNames = map[string]string{
	"2.5.4.3":  "CommonName",
	"2.5.4.4":  "Surname",
	"2.5.4.5":  "SerialNumber",
	"2.5.4.6":  "Country",
	"2.5.4.8":  "State",
	"2.5.4.10": "Organization",
	"2.5.4.11": "OrganizationalUnit",
	"2.5.4.12": "Title",
	"2.5.4.42": "GivenName",
	"2.5.4.43": "Initials",
	"2.5.4.44": "GenerationQualifier",
	"2.5.4.46": "DistinguishedNameQualifier",
	"2.5.4.65": "Pseudonym",
}

// alternativeNames are the last parts of the variables of alternative names.
var alternativeNames = []string{"RFC822Name", "DNSName", "DirectoryName", "UniformResourceIdentifier", "IPAddress"}

// CertificateOf reads the fields of a certificate. Directory names among the
// alternative names are not read.
func CertificateOf(c *x509.Certificate) *Certificate {
	sum := sha256.Sum256(c.Raw)
	out := &Certificate{ID: hex.EncodeToString(sum[:]), Fields: map[string][]string{}}
	if c.SerialNumber != nil {
		out.SerialNumber = c.SerialNumber.String()
	}
	add := func(name, value string) { out.Fields[name] = append(out.Fields[name], value) }
	for side, name := range map[string]pkix.Name{"Subject.": c.Subject, "Issuer.": c.Issuer} {
		for _, a := range name.Names {
			if known, ok := attributeNames[asn1.ObjectIdentifier(a.Type).String()]; ok {
				add(side+known, fmt.Sprint(a.Value))
			}
		}
	}
	const alternative = "Subject.AlternativeName."
	for _, s := range c.EmailAddresses {
		add(alternative+"RFC822Name", s)
	}
	for _, s := range c.DNSNames {
		add(alternative+"DNSName", s)
	}
	for _, u := range c.URIs {
		add(alternative+"UniformResourceIdentifier", u.String())
	}
	for _, ip := range c.IPAddresses {
		add(alternative+"IPAddress", ip.String())
	}
	return out
}

// The variables, which are condition keys as well.
const (
	keyClientID    = "iot:ClientId"
	keyThingName   = "iot:Connection.Thing.ThingName"
	keyThingType   = "iot:Connection.Thing.ThingTypeName"
	keyAttached    = "iot:Connection.Thing.IsAttached"
	keyAttribute   = "iot:Connection.Thing.Attributes["
	keyCertificate = "iot:Certificate."
	keyCertID      = "iot:CertificateId"
	keyConnect     = "iot:ConnectAttributes"
	keyWillTopic   = "iot:LastWillTopic"
	keyDomain      = "iot:DomainName"
	keySourceIP    = "aws:SourceIp"
	keyTime        = "aws:CurrentTime"
	keyEpoch       = "aws:EpochTime"
	keySecure      = "aws:SecureTransport"
)

// plainKeys are the keys that are written in one way only.
var plainKeys = []string{
	keyClientID, keyThingName, keyThingType, keyAttached, keyCertID, keyConnect, keyWillTopic, keyDomain,
	keySourceIP, keyTime, keyEpoch, keySecure, keyCertificate + "SerialNumber", keyCertificate + "AvailableKeys",
}

// fields are the names of the certificate's fields after "iot:Certificate.".
var fields = func() (all []string) {
	for _, side := range []string{"Subject.", "Issuer."} {
		for _, name := range attributeNames {
			all = append(all, side+name)
		}
		for _, name := range alternativeNames {
			all = append(all, side+"AlternativeName."+name)
		}
	}
	slices.Sort(all)
	return all
}()

// value is what a variable or a condition key stands for.
type value struct {
	all      []string // none: it has no value
	why      string   // why it has none
	several  bool     // it may have more than one, so that a condition needs ForAllValues or ForAnyValue
	unknown  bool     // no such name is documented
	inferred string   // what about it is not documented
}

func one(s, why string) value {
	if s == "" {
		return value{why: why}
	}
	return value{all: []string{s}}
}

// canonical gives the name as the documentation writes it: IAM compares names of
// keys without regard to case.
func canonical(name string) (string, bool) {
	for _, k := range plainKeys {
		if strings.EqualFold(k, name) {
			return k, true
		}
	}
	if n := len(keyAttribute); len(name) > n && strings.EqualFold(name[:n], keyAttribute) && strings.HasSuffix(name, "]") {
		return keyAttribute + name[n:], true
	}
	n := len(keyCertificate)
	if len(name) <= n || !strings.EqualFold(name[:n], keyCertificate) {
		return name, false
	}
	field, index := name[n:], ""
	if i := strings.LastIndexByte(field, '.'); i >= 0 {
		if _, err := strconv.ParseUint(field[i+1:], 10, 8); err == nil {
			field, index = field[:i], field[i:]
		} else if strings.EqualFold(field[i+1:], "List") {
			field, index = field[:i], ".List"
		}
	}
	for _, f := range fields {
		if strings.EqualFold(f, field) {
			return keyCertificate + f + index, true
		}
	}
	return name, false
}

// lookup gives what a name stands for when an action is asked for. action is in
// lower case.
func (c *Connection) lookup(name, action string) value {
	known, ok := canonical(name)
	if !ok {
		return value{unknown: true, why: name + " is no documented variable", inferred: name + " is not documented; it is taken as having no value"}
	}
	v := c.known(known, action)
	if known != name {
		v.inferred = fmt.Sprintf("%s is taken as %s; that case does not matter is IAM's rule", name, known)
	}
	return v
}

func (c *Connection) known(name, action string) value {
	switch name {
	case keyClientID:
		return one(c.ClientID, "there is no client id")
	case keySourceIP:
		if !c.SourceIP.IsValid() {
			return value{why: "the address is not known"}
		}
		return one(c.SourceIP.Unmap().String(), "")
	case keyThingName, keyThingType, keyAttached:
		return c.thing(name)
	case keyCertID:
		if c.Certificate == nil {
			return value{why: "the certificate is not known"}
		}
		return one(c.Certificate.ID, "the certificate's id is not known")
	case keyConnect:
		v := value{several: true, why: "the connection has no such attributes"}
		if action == "iot:connect" {
			v.all = c.ConnectAttributes
		}
		return v
	case keyWillTopic:
		if action != "iot:connect" || c.LastWillTopic == "" {
			return value{why: "there is no will"}
		}
		return value{all: []string{"topic/" + c.LastWillTopic}}
	case keyDomain:
		return one(c.Domain, "the name of the endpoint is not known")
	case keySecure:
		return value{all: []string{"true"}, inferred: keySecure + " is not in the IoT guide; every MQTT connection is taken as secure"}
	case keyTime, keyEpoch:
		return c.time(name)
	}
	if attribute, ok := strings.CutPrefix(name, keyAttribute); ok {
		return c.attribute(strings.TrimSuffix(attribute, "]"))
	}
	return c.field(strings.TrimPrefix(name, keyCertificate))
}

func (c *Connection) time(name string) value {
	v := value{why: "the time is not known", inferred: name + " is IAM's; the IoT guide has no example of it"}
	switch {
	case c.Time.IsZero():
	case name == keyEpoch:
		v.all = []string{strconv.FormatInt(c.Time.Unix(), 10)}
	default:
		v.all = []string{c.Time.UTC().Format(time.RFC3339)}
	}
	return v
}

// bound reports whether the connection has its thing's variables.
func (c *Connection) bound() bool {
	return c.Thing != nil && c.Thing.Name != "" && (c.Thing.Name == c.ClientID || c.Thing.Exclusive && c.Thing.Attached)
}

// unbound says why it has not.
func (c *Connection) unbound() string {
	if c.Thing != nil && c.Thing.Name != "" {
		return fmt.Sprintf("the client id %q is not the thing's name %q", c.ClientID, c.Thing.Name)
	}
	return fmt.Sprintf("no thing has the name %q, the client id", c.ClientID)
}

func (c *Connection) thing(name string) value {
	bound := c.bound()
	switch {
	case name == keyAttached:
		return value{all: []string{strconv.FormatBool(bound && c.Thing.Attached)}}
	case !bound:
		return value{why: c.unbound()}
	}
	v := one(c.Thing.Name, "")
	if name == keyThingType {
		v = one(c.Thing.Type, fmt.Sprintf("thing %q has no type", c.Thing.Name))
	}
	if !c.Thing.Attached {
		v.inferred = name + " is taken as replaced for a thing that the certificate is not attached to; the guide does not say"
	}
	return v
}

func (c *Connection) attribute(name string) value {
	switch {
	case !c.bound():
		return value{why: c.unbound()}
	case !c.Thing.Attached:
		return value{why: fmt.Sprintf("the certificate is not attached to thing %q", c.Thing.Name)}
	}
	return one(c.Thing.Attributes[name], fmt.Sprintf("thing %q has no attribute %q", c.Thing.Name, name))
}

// field gives a field of the certificate: the first value, with .1 the second
// and so on, with .List all.
func (c *Connection) field(name string) value {
	if c.Certificate == nil {
		return value{why: "the certificate is not known"}
	}
	if name == "SerialNumber" {
		return one(c.Certificate.SerialNumber, "the certificate's serial number is not known")
	}
	if name == "AvailableKeys" {
		return value{all: c.Certificate.keys(), several: true, why: "the certificate has no fields"}
	}
	index, list := 0, false
	if i := strings.LastIndexByte(name, '.'); i >= 0 {
		if n, err := strconv.Atoi(name[i+1:]); err == nil {
			name, index = name[:i], n
		} else if name[i+1:] == "List" {
			name, list = name[:i], true
		}
	}
	all := c.Certificate.Fields[name]
	all = all[:min(len(all), fieldValues)]
	if list {
		return value{all: all, several: true, why: "the certificate has no " + name}
	}
	if index >= len(all) {
		return value{why: fmt.Sprintf("the certificate has %d values of %s that are kept", len(all), name)}
	}
	switch s := all[index]; {
	case strings.ContainsAny(s, "*$+?#"):
		return value{why: fmt.Sprintf("its value %q holds one of * $ + ? #", shorten(s))}
	case utf8.RuneCountInString(s) > fieldLength:
		return value{why: fmt.Sprintf("its value is longer than %d characters", fieldLength)}
	default:
		return one(s, "its value is empty")
	}
}

// keys are the names of the certificate's variables that have a value.
func (c *Certificate) keys() (all []string) {
	for _, name := range slices.Sorted(maps.Keys(c.Fields)) {
		if len(c.Fields[name]) > 0 {
			all = append(all, keyCertificate+name)
		}
	}
	if c.SerialNumber != "" {
		all = append(all, keyCertificate+"SerialNumber")
	}
	return all
}

// nearest gives the documented name that was probably meant, or "".
func nearest(name string) string {
	best, least := "", 4
	consider := func(k string) {
		if d := distance(strings.ToLower(k), strings.ToLower(name)); d < least {
			best, least = k, d
		}
	}
	for _, k := range plainKeys {
		consider(k)
	}
	for _, f := range fields {
		consider(keyCertificate + f)
	}
	if best == "" && strings.HasPrefix(name, "iot:Thing.") {
		best = cmp.Or(nearest("iot:Connection."+strings.TrimPrefix(name, "iot:")), keyThingName)
	}
	return best
}

// distance counts the characters to change between two short texts, up to 9.
func distance(a, b string) int {
	if len(a) > len(b)+9 || len(b) > len(a)+9 {
		return 9
	}
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			change := diagonal
			if a[i] != b[j] {
				change++
			}
			diagonal = row[j+1]
			row[j+1] = min(change, row[j]+1, diagonal+1)
		}
	}
	return row[len(b)]
}
