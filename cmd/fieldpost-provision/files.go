package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"fieldpost/daemon/config"
	"fieldpost/daemon/durable"
	"fieldpost/daemon/endpoint"
	"fieldpost/daemon/identity"
	"fieldpost/daemon/regular"
	"fieldpost/daemon/visible"

	"github.com/aws/aws-sdk-go-v2/aws"
)

// filesOf are the device's files that the configuration names.
func filesOf(cfg *config.Config) identity.Files {
	return identity.Files{
		Key: cfg.Broker.Key, Certificate: cfg.Broker.Certificate,
		Request: filepath.Join(filepath.Dir(cfg.Broker.Key), "certificate.pem.csr"),
	}
}

// The files that may be made, by their role, as the state names them.
const (
	roleKey         = "key"
	roleRequest     = "request"
	roleCertificate = "certificate"
	roleCA          = "ca"
)

func pathOf(cfg *config.Config, role string) string {
	f := filesOf(cfg)
	return map[string]string{roleKey: f.Key, roleRequest: f.Request, roleCertificate: f.Certificate, roleCA: cfg.Broker.CA}[role]
}

var fileNames = map[string]string{roleKey: "private key", roleRequest: "request", roleCertificate: "certificate file", roleCA: "root certificates"}

// intendFile records that a file with this content is about to be made.
func (p *provisioner) intendFile(role string, data []byte) error {
	m := p.store.find(madeFile, role)
	if m == nil {
		return p.store.intend(&made{What: madeFile, Name: role, Sum: sumOf(data)})
	}
	m.Sum, m.Sure = sumOf(data), false // it was removed meanwhile
	return p.store.save()
}

// settleFile finds out whether a file that is there was made by this, now or in a run that was
// killed.
func (p *provisioner) settleFile(role string) error {
	m, path := p.store.find(madeFile, role), pathOf(p.cfg, role)
	if m != nil && m.Sure {
		p.said("kept", fileNames[role], path)
		return nil
	}
	data, err := regular.Read(path, stateMax)
	switch {
	case err != nil:
		return err
	case m == nil:
		p.said("found", fileNames[role], path)
		return nil
	case sumOf(data) != m.Sum:
		p.said("found", fileNames[role], path)
		return p.store.drop(m) // somebody else was faster
	}
	p.said("made", fileNames[role], path)
	return p.sure(m)
}

// writeFiles writes the certificate and the root certificates, where there are none.
func (p *provisioner) writeFiles(context.Context) error {
	text := []byte(aws.ToString(p.certificate.CertificatePem)) // checkCertificate has read it
	if err := p.writeFile(roleCertificate, p.cfg.Broker.Certificate, text); err != nil {
		return err
	}
	c, err := identity.ReadCertificate(p.cfg.Broker.Certificate)
	if err != nil {
		return err
	}
	if id := aws.ToString(p.certificate.CertificateId); identity.ID(c) != id {
		return advise("move it away, and run this again", "the certificate %q is not the one of this board, %s", p.cfg.Broker.Certificate, id)
	}
	return p.writeFile(roleCA, p.cfg.Broker.CA, roots)
}

func (p *provisioner) writeFile(role, path string, data []byte) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return fmt.Errorf("create directory: %w", err)
	}
	if _, err := os.Lstat(path); err == nil {
		return p.settleFile(role)
	}
	if err := p.intendFile(role, data); err != nil {
		return err
	}
	if err := durable.CreateFile(path, data, 0o644); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	return p.settleFile(role)
}

// tellEndpoint prints the endpoint, or writes it into the configuration.
func (p *provisioner) tellEndpoint(context.Context) error {
	p.said("endpoint", "", p.host)
	e, err := endpoint.Parse(p.cfg.Broker.Endpoint)
	switch {
	case err == nil && e.Host == p.host:
		return nil
	case !p.o.writeEndpoint:
		fmt.Fprintf(p.out, "\nbroker.endpoint in %s is %s; put the endpoint there, or run this again with --write-endpoint\n", visible.Text(p.cfg.File), visible.Text(p.cfg.Broker.Endpoint))
		return nil
	}
	to := p.host
	if _, port, ok := strings.Cut(p.cfg.Broker.Endpoint, ":"); ok && err == nil && !strings.Contains(port, ":") {
		to += ":" + port // as it was
	}
	m := p.store.find(madeEndpoint, to)
	if m == nil {
		m = &made{What: madeEndpoint, Name: to, Was: p.cfg.Broker.Endpoint}
		if err := p.store.intend(m); err != nil {
			return err
		}
	}
	if err := setEndpoint(p.cfg.File, to); err != nil {
		return errors.Join(err, p.store.drop(m))
	}
	p.said("written", "broker.endpoint", p.cfg.File)
	return p.sure(m)
}

// configMax is the largest configuration that is read, in bytes.
const configMax = 128 << 10

// setEndpoint writes another endpoint into a configuration file, and keeps its mode and owner:
// the daemon must still be able to read it.
func setEndpoint(path, to string) error {
	path, err := filepath.EvalSymlinks(path)
	if err != nil {
		return err
	}
	data, err := regular.Read(path, configMax)
	if err != nil {
		return err
	}
	info, err := os.Stat(path)
	if err != nil {
		return err
	}
	changed, err := config.SetEndpoint(path, data, to)
	if err != nil {
		return err
	}
	dir, name := durable.OSDir{Path: filepath.Dir(path), Mode: info.Mode().Perm()}, filepath.Base(path)
	if err := durable.WriteNew(dir, name+durable.TmpExt, changed); err != nil {
		return err
	}
	if err = keepOwner(path+durable.TmpExt, info); err == nil {
		err = os.Chmod(path+durable.TmpExt, info.Mode().Perm()) // whatever the umask is
	}
	if err == nil {
		err = dir.Rename(name+durable.TmpExt, name)
	}
	if err != nil {
		return errors.Join(fmt.Errorf("write %q: %w", path, err), dir.Remove(name+durable.TmpExt))
	}
	return dir.Sync()
}
