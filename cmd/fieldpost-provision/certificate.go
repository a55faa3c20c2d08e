package main

import (
	"context"
	"crypto"
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"time"

	"fieldpost/daemon/config"
	"fieldpost/daemon/identity"
	"fieldpost/daemon/visible"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/iot"
	"github.com/aws/aws-sdk-go-v2/service/iot/types"
)

// makeKey makes the private key and the certificate signing request, here.
func (p *provisioner) makeKey(context.Context) error {
	files := filesOf(p.cfg)
	pair, err := identity.Make(files, p.o.keyType, p.cfg.Thing, func(path string, data []byte) error {
		if path == files.Key {
			return p.intendFile(roleKey, data)
		}
		return p.intendFile(roleRequest, data)
	})
	if err != nil {
		return fmt.Errorf("make key and request: %w", err)
	}
	if err := errors.Join(p.settleFile(roleKey), p.settleFile(roleRequest)); err != nil {
		return err
	}
	p.pair = pair
	if is := identity.DescribeKey(pair.Key.Public()); !strings.HasPrefix(is, "EC P-") && !strings.HasPrefix(is, "RSA ") {
		return advise("move it away to have another made", "the key %q is %s, and AWS IoT Core makes certificates for EC and RSA keys", files.Key, is)
	}
	return nil
}

// makeCertificate finds the certificate for our key, or has one made.
func (p *provisioner) makeCertificate(ctx context.Context) error {
	m := p.store.certificate()
	switch {
	case m != nil && m.Sure:
		if err := p.describe(ctx, m.Name); err != nil {
			if is(err, notFound) {
				return advise("run --undo --yes, and then this again", "certificate %s, which was made by this, is not there any more", m.Name)
			}
			return explain("iot:DescribeCertificate", err)
		}
		p.said("kept", "certificate", m.Name)
		return p.checkCertificate()
	case m == nil:
		if found, err := p.certificateOfFile(ctx); found || err != nil {
			return err
		}
	default:
		if found, err := p.search(ctx, m); found || err != nil {
			return err
		}
	}
	return p.requestCertificate(ctx, m)
}

func (p *provisioner) describe(ctx context.Context, id string) error {
	found, err := p.iot.DescribeCertificate(ctx, &iot.DescribeCertificateInput{CertificateId: &id})
	if err != nil {
		return err
	}
	if found.CertificateDescription == nil {
		return fmt.Errorf("certificate %s: AWS describes nothing", id)
	}
	p.certificate = *found.CertificateDescription
	return nil
}

// readPair reads the key that is there.
func readPair(cfg *config.Config) (*identity.Pair, error) {
	key, err := identity.ReadKey(cfg.Broker.Key)
	if err != nil {
		return nil, err
	}
	return &identity.Pair{Key: key}, nil
}

// checkCertificate checks that the certificate is for our key and can be used.
func (p *provisioner) checkCertificate() error {
	id := aws.ToString(p.certificate.CertificateId)
	all, _, err := identity.ParseCertificates([]byte(aws.ToString(p.certificate.CertificatePem)))
	if err != nil || identity.ID(all[0]) != id {
		return fmt.Errorf("AWS answered with a certificate that is not %s", visible.Text(id))
	}
	if !isFor(p.certificate, p.pair.Key.Public()) {
		return advise("put the key of that certificate back, or run --undo --yes and then this again",
			"the private key %q does not belong to certificate %s", p.cfg.Broker.Key, id)
	}
	if s := p.certificate.Status; s != types.CertificateStatusActive {
		return advise("`aws iot update-certificate --new-status ACTIVE --certificate-id "+id+"`, if it was deactivated by mistake",
			"certificate %s is %s: no device can connect with it", id, s)
	}
	return nil
}

// isFor reports whether a certificate is for a key.
func isFor(c types.CertificateDescription, key crypto.PublicKey) bool {
	all, bad, err := identity.ParseCertificates([]byte(aws.ToString(c.CertificatePem)))
	return err == nil && len(bad) == 0 && identity.SameKey(all[0].PublicKey, key)
}

// certificateOfFile uses a certificate that the user has put there.
func (p *provisioner) certificateOfFile(ctx context.Context) (found bool, err error) {
	c, err := identity.ReadCertificate(p.cfg.Broker.Certificate)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	id := identity.ID(c)
	if !identity.SameKey(c.PublicKey, p.pair.Key.Public()) {
		return false, advise("move it away to have one made", "the certificate %q does not belong to the private key %q", p.cfg.Broker.Certificate, p.cfg.Broker.Key)
	}
	if err := p.describe(ctx, id); err != nil {
		if is(err, notFound) {
			return false, advise("move it away to have one made, or use the account and region that it is from",
				"the certificate %q (%s) is not registered in account %s, region %s", p.cfg.Broker.Certificate, id, p.account, p.region)
		}
		return false, explain("iot:DescribeCertificate", err)
	}
	p.said("found", "certificate", id)
	return true, p.checkCertificate()
}

// searchMargin is how much older than the request a certificate may be that is searched: AWS's
// machines have not all the same time.
const searchMargin = 15 * time.Minute

// search looks for the certificate of a request whose answer never came.
func (p *provisioner) search(ctx context.Context, m *made) (found bool, err error) {
	pages := iot.NewListCertificatesPaginator(p.iot, &iot.ListCertificatesInput{PageSize: aws.Int32(100)})
	for pages.HasMorePages() {
		page, err := pages.NextPage(ctx)
		if err != nil {
			return false, explain("iot:ListCertificates", err)
		}
		for _, c := range page.Certificates {
			if c.CreationDate != nil && c.CreationDate.Before(m.Asked.Add(-searchMargin)) {
				continue
			}
			if err := p.describe(ctx, aws.ToString(c.CertificateId)); err != nil {
				if is(err, notFound) {
					continue
				}
				return false, explain("iot:DescribeCertificate", err)
			}
			if isFor(p.certificate, p.pair.Key.Public()) {
				m.Name = aws.ToString(p.certificate.CertificateId)
				p.said("made", "certificate", m.Name)
				return true, errors.Join(p.sure(m), p.checkCertificate())
			}
		}
	}
	return false, nil
}

// requestCertificate has AWS make one from our request. m is the entry of an earlier request
// that came to nothing, or nil.
func (p *provisioner) requestCertificate(ctx context.Context, m *made) error {
	if m == nil {
		m = &made{What: madeCertificate, Asked: p.began}
		if err := p.store.intend(m); err != nil {
			return err
		}
	}
	got, err := p.iot.CreateCertificateFromCsr(ctx, &iot.CreateCertificateFromCsrInput{CertificateSigningRequest: aws.String(string(p.pair.Request)), SetAsActive: true}, once)
	if err != nil && refused(err) {
		return errors.Join(explain("iot:CreateCertificateFromCsr", err), p.store.drop(m))
	}
	if err != nil {
		return explain("iot:CreateCertificateFromCsr", err)
	}
	m.Name = aws.ToString(got.CertificateId)
	if err := p.sure(m); err != nil {
		return err
	}
	p.said("made", "certificate", m.Name)
	p.certificate = types.CertificateDescription{CertificateId: got.CertificateId, CertificateArn: got.CertificateArn, CertificatePem: got.CertificatePem, Status: types.CertificateStatusActive}
	return p.checkCertificate()
}
