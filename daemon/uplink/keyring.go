package uplink

import (
	"crypto/sha256"
	"crypto/tls"
	"errors"
	"runtime/debug"
	"time"

	"fieldpost/daemon/health"
)

// BuildTime is when the program was built, as RFC 3339, set by the linker:
//
//	-ldflags "-X fieldpost/daemon/uplink.BuildTime=2026-11-21T19:02:11Z"
//
// Where it is empty, the time of the commit stands in. It cannot be earlier
// than that, so a board whose clock has not been set yet takes it for the
// time when it checks the broker's certificate.
var BuildTime string

// builtAt gives BuildTime or what stands in for it; zero when unknown.
func builtAt() time.Time {
	if t, err := time.Parse(time.RFC3339, BuildTime); err == nil {
		return t
	}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return time.Time{}
	}
	for _, s := range info.Settings {
		if s.Key == "vcs.time" {
			t, _ := time.Parse(time.RFC3339, s.Value) // zero when it is not one
			return t
		}
	}
	return time.Time{}
}

// later gives the later of two times.
func later(a, b time.Time) time.Time {
	if a.Before(b) {
		return b
	}
	return a
}

// alpn is the protocol that AWS IoT Core wants to see on port 443 (page
// "Device communication protocols").
const alpn = "x-amzn-mqtt-ca"

// tlsConfig gives the configuration of one connection. The certificate is sent
// whatever authorities the broker lists, so that it is the broker who says
// what is wrong with it. shown becomes true when the broker has asked for it.
func tlsConfig(c *credentials, name, port string, now time.Time, shown *bool) *tls.Config {
	conf := &tls.Config{
		MinVersion: tls.VersionTLS12,
		ServerName: name,
		RootCAs:    c.roots,
		Time:       func() time.Time { return now },
		GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
			*shown = true
			return &c.pair, nil
		},
	}
	if port == "443" {
		conf.NextProtos = []string{alpn}
	}
	return conf
}

// cutOffs is how many attempts of new credentials in a row may end without a
// CONNACK for a reason that is not theirs, before the old ones are tried: a
// broker may drop whom it does not know without a word.
const maxCutOffs = 3

// keyring gives each connection attempt its credentials. It keeps those that
// last reached a CONNACK until newer ones have, so that a renewal that went
// wrong does not cut the board off. It keeps them in memory only: a private key
// is copied nowhere.
type rotation struct {
	files *CredentialFiles

	current    *credentials      // the last that reached a CONNACK
	rejected [sha256.Size]byte // newer ones that have not reached it
	cutOffs     int               // their attempts that ended for a reason not theirs
	retryCurrent    bool              // the good ones are tried next
	reason *Explained        // why the newer ones did not get through, it seems
	problem *Explained        // why they are not in use, now that the good ones are
}

// pick gives the credentials for the next attempt: the files as they were last
// read, or else the last good ones.
func (k *rotation) next() (*credentials, error) {
	fresh, problems := k.files.latest()
	switch {
	case len(problems) > 0 && k.current == nil:
		return nil, unusable(problems)
	case len(problems) > 0:
		k.reason = unusable(problems)
		return k.current, nil
	case k.current == nil || fresh.sum == k.current.sum:
		k.reason, k.retryCurrent = nil, false
		return fresh, nil
	case fresh.sum != k.rejected:
		k.rejected, k.cutOffs, k.retryCurrent, k.reason = fresh.sum, 0, false, nil
	case k.retryCurrent:
		k.retryCurrent = false
		return k.current, nil
	}
	return fresh, nil
}

// reached says that a connection with these credentials got its CONNACK.
func (k *rotation) accepted(c *credentials) {
	if k.current == nil || c.sum != k.current.sum {
		k.reason = nil
	}
	k.current, k.problem = c, k.reason
}

// failed says that an attempt with these credentials did not get that far, but
// to the TLS handshake at least.
func (k *rotation) failed(c *credentials, why *Explained) {
	if k.current == nil || c.sum == k.current.sum {
		return
	}
	code := why.Code
	if !blamesCredentials(code) {
		if k.cutOffs++; k.cutOffs < maxCutOffs {
			return
		}
		code = string(health.CertificateRejected)
	}
	k.cutOffs, k.retryCurrent = 0, true
	k.reason = &Explained{Code: code, What: "the new certificate does not work, so the one before is still in use: " + why.What, Hint: why.Hint, Err: why.Err}
}

// recheck looks at what was read of the files while the good credentials are in use in spite of
// newer ones, and reports whether what is to be said about that has changed.
// Those that were mended are tried at the next connection.
func (k *rotation) recheck() (changed bool) {
	if k.problem == nil {
		return false
	}
	before := k.problem
	fresh, problems := k.files.latest()
	switch {
	case len(problems) > 0:
		k.problem = unusable(problems)
	case fresh.sum != k.rejected:
		k.problem = nil
	default:
		k.problem = k.reason
	}
	return k.problem == nil || k.problem.Error() != before.Error()
}

// unusable makes an error of problems with the files.
func unusable(problems []Problem) *Explained {
	var all []error
	for _, p := range problems[1:] {
		all = append(all, errors.New(p.File+": "+p.What))
	}
	first := problems[0]
	return &Explained{Code: first.Code, What: first.File + ": " + first.What, Hint: first.Do, Err: errors.Join(all...)}
}
