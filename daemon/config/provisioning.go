package config

import (
	"fmt"
	"path/filepath"
	"strings"

	"fieldpost/daemon/awsiot"
	"fieldpost/daemon/fingerprint"
	"fieldpost/daemon/regular"
)

// serialPlaceholder is replaced by the board's serial number.
const serialPlaceholder = "{serial}"

// boardSerial returns the serial number of this board. Tests replace it.
var boardSerial = func() string { return fingerprint.Serial("/") }

// CertificateDir returns the directory of the certificate that provisioning obtains, for the
// spool directory spool.
func CertificateDir(spool string) string { return filepath.Join(spool, "certs") }

// CertificateFile is the name of the file in it with the certificate and its key.
const CertificateFile = "current.pem"

// serial replaces {serial} by the board's serial number, and {thing} in parameters.
func (l *loader) serial(c *Config) {
	known := boardSerial()
	if known == "" && !l.lookAtFiles { // not on the board
		known = "SERIAL"
	}
	fill := func(path, text string) string {
		switch {
		case !strings.Contains(text, serialPlaceholder) || !l.sound(path):
		case known == "":
			l.fail(path, "contains {serial}, and this machine has no serial number in its device tree or DMI tables; write the value itself, or use this file on the board", text)
		default:
			text = strings.ReplaceAll(text, serialPlaceholder, known)
		}
		return text
	}
	written := c.Thing
	if c.Thing = fill("thing", c.Thing); c.Thing != written {
		if reason := identifier(c.Thing); reason != "" {
			l.fail("thing", reason+", with the serial number in it", c.Thing)
		}
	}
	for name, text := range c.Broker.Provisioning.Parameters {
		path := "broker.provisioning.parameters." + name
		c.Broker.Provisioning.Parameters[name] = strings.ReplaceAll(fill(path, text), "{thing}", c.Thing)
	}
}

// provisioning checks broker.provisioning. With it, broker.certificate and broker.key are the
// file that provisioning writes.
func (l *loader) provisioning(c *Config) {
	const section = "broker.provisioning"
	p := &c.Broker.Provisioning
	l.unneeded = map[string]bool{}
	if n := l.nodes[section]; n == nil || isNull(n) {
		*p = Provisioning{}
		return
	}
	if !l.given(section + ".template") {
		l.fail(section+".template", "is missing", "")
	}
	for _, key := range []string{"broker.certificate", "broker.key"} {
		if l.given(key) {
			l.fail(key, "cannot be used with broker.provisioning, which makes the certificate and the key itself; leave it out", "")
		}
		l.unneeded[key] = true
	}
	if !l.sound("spool.dir") {
		return
	}
	current := filepath.Join(CertificateDir(l.absolute(c.Spool.Dir)), CertificateFile)
	c.Broker.Certificate, c.Broker.Key = current, current
	if regular.Check(current) == nil { // the claim is no longer needed
		l.unneeded[section+".claim_certificate"], l.unneeded[section+".claim_key"] = true, true
	}
	if p.RenewTemplate == "" {
		p.RenewTemplate = p.Template
	}
	if p.ClientID == "" {
		p.ClientID = c.Thing + "-provision"
		if len(p.ClientID) > awsiot.ClientIDMax && l.sound("thing") {
			l.fail(section+".client_id", fmt.Sprintf("is missing: the default, thing and -provision, is longer than the %d bytes of a client id", awsiot.ClientIDMax), "")
		}
	}
	id := c.Broker.ClientID
	if id == "" {
		id = c.Thing
	}
	if p.ClientID == id {
		l.fail(section+".client_id", "is the client id of the daemon, whose connection would end at each renewal; choose another", p.ClientID)
	}
}
