package config

import (
	"errors"

	"fieldpost/daemon/access"
)

// ErrUnusable is the error when the configuration, or a file that it names, is wrong. The
// exit status is 78.
var ErrUnusable = errors.New("configuration is not usable")

// Places returns the files and directories that a daemon with this configuration relies on.
// runtime is the directory of the crash record, "" for none.
func (c *Config) Places(runtime string) access.Places {
	return access.Places{
		Configuration: c.File, CA: c.Broker.CA, Certificate: c.Broker.Certificate, Key: c.Broker.Key, Password: c.Broker.PasswordFile, Runtime: runtime, Spool: c.Spool.Dir,
		Token:            c.Local.TokenFile,
		ClaimCertificate: c.claim(c.Broker.Provisioning.ClaimCertificate), ClaimKey: c.claim(c.Broker.Provisioning.ClaimKey),
	}
}

// claim returns the path of a file of the claim, or "" without provisioning.
func (c *Config) claim(path string) string {
	if !c.Broker.Provisioning.Enabled() {
		return ""
	}
	return path
}
