package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"fieldpost/daemon/awsiot/need"
	"fieldpost/daemon/durable"
	"fieldpost/daemon/endpoint"
	"fieldpost/daemon/regular"
	"fieldpost/daemon/visible"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/iot"
	"github.com/aws/aws-sdk-go-v2/service/iot/types"
)

// listUndo prints what an undo would take back, in that order.
func listUndo(out io.Writer, s *store) {
	fmt.Fprintf(out, "in account %s, region %s, for thing %s:\n", visible.Text(s.Account), visible.Text(s.Region), visible.Text(s.Thing))
	for _, m := range slices.Backward(s.Made) {
		name := m.Name
		if m.Version != "" {
			name += " " + m.Version
		}
		if !m.Sure {
			name = strings.TrimSpace(name + " (asked for; if it was made)")
		}
		fmt.Fprintf(out, "  %-18s %s\n", m.What, visible.Text(name))
	}
}

// undo takes back what the state names, the last first.
func (p *provisioner) undo(ctx context.Context) error {
	if err := p.identify(ctx); err != nil {
		return err
	}
	p.store.Undoing = true
	if err := p.store.save(); err != nil {
		return err
	}
	if err := p.findCertificate(ctx); err != nil {
		return err
	}
	var left []error
	for _, m := range slices.Backward(slices.Clone(p.store.Made)) {
		if m.What == madePolicyVersion {
			continue // goes with its policy
		}
		err := p.undoOne(ctx, m)
		var stays stays
		switch {
		case errors.As(err, &stays):
			p.said("left", m.What, m.Name+": "+stays.Error())
			left = append(left, err)
			continue
		case err != nil:
			return err
		}
		if err := p.store.drop(m); err != nil {
			return err
		}
		p.said("removed", m.What, m.Name)
	}
	p.store.Undoing = false
	p.store.Made = slices.DeleteFunc(p.store.Made, func(m *made) bool {
		return m.What == madePolicyVersion && p.store.find(madePolicy, m.Name) == nil
	})
	if len(left) > 0 {
		return errors.Join(p.store.save(), fmt.Errorf("%d of what was made is left, for others use it or have changed it; %q has it", len(left), p.store.path))
	}
	return nil
}

// stays is the reason why something is not taken back.
type stays struct{ error }

func left(format string, args ...any) error { return stays{fmt.Errorf(format, args...)} }

// findCertificate finds the certificate of a request whose answer never came.
func (p *provisioner) findCertificate(ctx context.Context) error {
	m := p.store.certificate()
	if m != nil && !m.Sure {
		pair, err := readPair(p.cfg)
		if err != nil {
			return advise("put the key back: only it tells which certificate was made for it", "a certificate was asked for, and the key %q cannot be read: %w", p.cfg.Broker.Key, err)
		}
		p.pair = pair
		found, err := p.search(ctx, m)
		if err != nil && !found {
			return err // one that is inactive is found all the same
		}
		if !found {
			return p.store.drop(m)
		}
		return nil
	}
	return nil
}

func (p *provisioner) undoOne(ctx context.Context, m *made) error {
	switch m.What {
	case madeThingAttach:
		return p.detachThing(ctx, m)
	case madePolicyAttach:
		return p.detachPolicy(ctx, m)
	case madeCertificate:
		return p.deleteCertificate(ctx, m.Name)
	case madePolicy:
		return p.deletePolicy(ctx, m)
	case madeThing:
		return p.deleteThing(ctx, m)
	case madeFile:
		return p.removeFile(m)
	case madeEndpoint:
		return p.restoreEndpoint(m)
	}
	return fmt.Errorf("%q names %q, which this version of fieldpost-provision does not know", p.store.path, visible.Text(m.What))
}

// arnOf returns the ARN of a certificate.
func (p *provisioner) arnOf(id string) (*string, error) {
	prefix, err := need.Prefix(p.cfg, p.region, p.account)
	return aws.String(prefix + "cert/" + id), err
}

func (p *provisioner) detachThing(ctx context.Context, m *made) error {
	arn, err := p.arnOf(m.Certificate)
	if err != nil {
		return err
	}
	_, err = p.iot.DetachThingPrincipal(ctx, &iot.DetachThingPrincipalInput{ThingName: &m.Name, Principal: arn})
	return unless(notFound, "iot:DetachThingPrincipal", err)
}

func (p *provisioner) detachPolicy(ctx context.Context, m *made) error {
	arn, err := p.arnOf(m.Certificate)
	if err != nil {
		return err
	}
	_, err = p.iot.DetachPolicy(ctx, &iot.DetachPolicyInput{PolicyName: &m.Name, Target: arn})
	return unless(notFound, "iot:DetachPolicy", err)
}

// unless explains an error, unless it is of a type that means that there is nothing to do.
func unless(code, action string, err error) error {
	if is(err, code) {
		return nil
	}
	return explain(action, err)
}

func (p *provisioner) deleteCertificate(ctx context.Context, id string) error {
	if _, err := p.iot.UpdateCertificate(ctx, &iot.UpdateCertificateInput{CertificateId: &id, NewStatus: types.CertificateStatusInactive}); err != nil {
		return unless(notFound, "iot:UpdateCertificate", err)
	}
	_, err := p.iot.DeleteCertificate(ctx, &iot.DeleteCertificateInput{CertificateId: &id})
	if is(err, inUse) {
		return left("it is inactive now, and attached to what was not attached by this: %s", visible.Text(saidBy(err)))
	}
	return unless(notFound, "iot:DeleteCertificate", err)
}

// saidBy returns AWS's own words.
func saidBy(err error) string {
	var conflict *types.DeleteConflictException
	var invalid *types.InvalidRequestException
	switch {
	case errors.As(err, &conflict):
		return conflict.ErrorMessage()
	case errors.As(err, &invalid):
		return invalid.ErrorMessage()
	}
	return err.Error()
}

// deletePolicy deletes a policy with the versions that were made here. It stays if it is
// attached to something, or has versions from elsewhere.
func (p *provisioner) deletePolicy(ctx context.Context, m *made) error {
	there, err := p.iot.GetPolicy(ctx, &iot.GetPolicyInput{PolicyName: &m.Name})
	if is(err, notFound) {
		return nil
	} else if err != nil {
		return explain("iot:GetPolicy", err)
	}
	if !m.Sure && sumOf([]byte(aws.ToString(there.PolicyDocument))) != m.Sum {
		return left("it was asked for, and is not as it would have been made")
	}
	targets, err := p.iot.ListTargetsForPolicy(ctx, &iot.ListTargetsForPolicyInput{PolicyName: &m.Name})
	if err != nil {
		return unless(notFound, "iot:ListTargetsForPolicy", err)
	}
	if len(targets.Targets) > 0 {
		return left("it is attached to %s, which this has not done", visible.Text(targets.Targets[0]))
	}
	all, err := p.iot.ListPolicyVersions(ctx, &iot.ListPolicyVersionsInput{PolicyName: &m.Name})
	if err != nil {
		return unless(notFound, "iot:ListPolicyVersions", err)
	}
	p.adoptVersion(m.Name, aws.ToString(there.DefaultVersionId))
	for _, v := range all.PolicyVersions {
		if id := aws.ToString(v.VersionId); !p.ours(m.Name, id) {
			return left("its version %s was not made by this", visible.Text(id))
		}
	}
	for _, v := range all.PolicyVersions {
		if v.IsDefaultVersion {
			continue
		}
		if err := p.deleteVersion(ctx, m.Name, aws.ToString(v.VersionId)); err != nil {
			return err
		}
	}
	_, err = p.iot.DeletePolicy(ctx, &iot.DeletePolicyInput{PolicyName: &m.Name})
	if is(err, inUse) {
		return left("%s", visible.Text(saidBy(err)))
	}
	return unless(notFound, "iot:DeletePolicy", err)
}

// adoptVersion takes the default version for the one whose answer never came.
func (p *provisioner) adoptVersion(name, version string) {
	for _, m := range p.store.Made {
		if m.What == madePolicyVersion && m.Name == name && !m.Sure && !p.ours(name, version) {
			m.Version = version
		}
	}
}

func (p *provisioner) deleteThing(ctx context.Context, m *made) error {
	there, err := p.iot.DescribeThing(ctx, &iot.DescribeThingInput{ThingName: &m.Name})
	if is(err, notFound) {
		return nil
	} else if err != nil {
		return explain("iot:DescribeThing", err)
	}
	if !m.Sure && there.Version > 1 {
		return left("it was asked for, and is not as it would have been made")
	}
	_, err = p.iot.DeleteThing(ctx, &iot.DeleteThingInput{ThingName: &m.Name})
	if is(err, "InvalidRequestException") {
		return left("%s", visible.Text(saidBy(err)))
	}
	return unless(notFound, "iot:DeleteThing", err)
}

// removeFile removes a file that is as it was made.
func (p *provisioner) removeFile(m *made) error {
	path := pathOf(p.cfg, m.Name)
	if path == "" {
		return left("no file has this role")
	}
	data, err := regular.ReadUnlinked(path, stateMax)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return left("%w", err)
	}
	if sumOf(data) != m.Sum {
		return left("%q was changed since", path)
	}
	if err := os.Remove(path); err != nil {
		return fmt.Errorf("remove file: %w", err)
	}
	return durable.SyncDir(filepath.Dir(path))
}

// restoreEndpoint puts back the endpoint that was in the configuration, if ours is there.
func (p *provisioner) restoreEndpoint(m *made) error {
	if p.cfg.Broker.Endpoint != m.Name {
		return nil
	}
	if _, err := endpoint.Parse(m.Was); err != nil {
		return left("%w", err)
	}
	if err := setEndpoint(p.cfg.File, m.Was); err != nil {
		return left("%w", err)
	}
	return nil
}
