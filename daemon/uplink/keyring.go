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
const cutOffs = 3

// keyring gives each connection attempt its credentials. It keeps those that
// last reached a CONNACK until newer ones have, so that a renewal that went
// wrong does not cut the board off. It keeps them in memory only: a private key
// is copied nowhere.
type keyring struct {
	files *CredentialFiles

	good    *credentials      // the last that reached a CONNACK
	failing [sha256.Size]byte // newer ones that have not reached it
	cut     int               // their attempts that ended for a reason not theirs
	turn    bool              // the good ones are tried next
	suspect *Explained        // why the newer ones did not get through, it seems
	trouble *Explained        // why they are not in use, now that the good ones are
}

// pick gives the credentials for the next attempt: the files as they were last
// read, or else the last good ones.
func (k *keyring) pick() (*credentials, error) {
	fresh, problems := k.files.latest()
	switch {
	case len(problems) > 0 && k.good == nil:
		return nil, unusable(problems)
	case len(problems) > 0:
		k.suspect = unusable(problems)
		return k.good, nil
	case k.good == nil || fresh.sum == k.good.sum:
		k.suspect, k.turn = nil, false
		return fresh, nil
	case fresh.sum != k.failing:
		k.failing, k.cut, k.turn, k.suspect = fresh.sum, 0, false, nil
	case k.turn:
		k.turn = false
		return k.good, nil
	}
	return fresh, nil
}

// reached says that a connection with these credentials got its CONNACK.
func (k *keyring) reached(c *credentials) {
	if k.good == nil || c.sum != k.good.sum {
		k.suspect = nil
	}
	k.good, k.trouble = c, k.suspect
}

// failed says that an attempt with these credentials did not get that far, but
// to the TLS handshake at least.
func (k *keyring) failed(c *credentials, why *Explained) {
	if k.good == nil || c.sum == k.good.sum {
		return
	}
	code := why.Code
	if !blamesCredentials(code) {
		if k.cut++; k.cut < cutOffs {
			return
		}
		code = string(health.CertificateRejected)
	}
	k.cut, k.turn = 0, true
	k.suspect = &Explained{Code: code, What: "the new certificate does not work, so the one before is still in use: " + why.What, Hint: why.Hint, Err: why.Err}
}

// recheck looks at what was read of the files while the good credentials are in use in spite of
// newer ones, and reports whether what is to be said about that has changed.
// Those that were mended are tried at the next connection.
func (k *keyring) recheck() (changed bool) {
	if k.trouble == nil {
		return false
	}
	before := k.trouble
	fresh, problems := k.files.latest()
	switch {
	case len(problems) > 0:
		k.trouble = unusable(problems)
	case fresh.sum != k.failing:
		k.trouble = nil
	default:
		k.trouble = k.suspect
	}
	return k.trouble == nil || k.trouble.Error() != before.Error()
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
