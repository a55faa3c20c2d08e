package uplink

import (
	"time"

	"fieldpost/daemon/health"
)

// Expiry watches for the end of the credentials. It remembers the last files
// that could be used: a link keeps those while what was put in their place
// cannot be, and they end all the same. The zero value has seen none yet. It is
// for one goroutine.
type Expiry struct{ last *credentials }

// Check reads the three files and gives what ends within thirty days of now,
// or has ended. None is the good answer; it is also given while no files that
// could be used have been seen, for then there is no link that could end.
func (e *Expiry) Check(ca, cert, key string, now time.Time) (ends []Problem) {
	c, broken := readCredentials(ca, cert, key)
	if len(broken) == 0 {
		e.last = c
	}
	if e.last == nil {
		return nil
	}
	for _, p := range dates(ca, cert, e.last, now) {
		if p.Code != string(health.CertificateExpiring) {
			continue
		}
		if len(broken) > 0 {
			p.What += "; what is there now cannot be used: " + broken[0].File + ": " + broken[0].What
		}
		ends = append(ends, p)
	}
	return ends
}

// dates complains about the dates of the credentials.
func dates(ca, cert string, c *credentials, now time.Time) (problems []Problem) {
	if c.leaf != nil {
		problems = validity(cert, "our certificate", c.leaf, now, "create a new certificate and put it with its key into place")
	}
	return append(problems, rootValidity(ca, c.rootCerts, now)...)
}
