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
	"fieldpost/daemon/config"
	"fieldpost/daemon/durable"
	"fieldpost/daemon/endpoint"
	"fieldpost/daemon/regular"
	"fieldpost/daemon/visible"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/iot"
	"github.com/aws/aws-sdk-go-v2/service/iot/types"
)

// undoOrder returns what was made in the order in which it is removed: the last first,
// and files at the end, for a certificate that has to stay is worth nothing without its
// key.
func (s *state) undoOrder() []*made {
	all := slices.Clone(s.Made)
	slices.Reverse(all)
	isFile := func(m *made) int {
		if m.What == madeFile {
			return 1
		}
		return 0
	}
	slices.SortStableFunc(all, func(a, b *made) int { return isFile(a) - isFile(b) })
	return all
}

// listUndo prints what an undo would remove, in that order.
func listUndo(out io.Writer, cfg *config.Config, s *store) {
	fmt.Fprintf(out, "in account %s, region %s, for thing %s:\n", visible.Text(s.Account), visible.Text(s.Region), visible.Text(s.Thing))
	for _, m := range s.undoOrder() {
		name := m.Name
		if m.What == madeFile {
			name = pathOf(cfg, m.Name)
		}
		if m.Version != "" {
			name += " " + m.Version
		}
		if !m.Sure {
			name = strings.TrimSpace(name + " (asked for; if it was made)")
		}
		fmt.Fprintf(out, "  %-18s %s\n", m.What, visible.Text(name))
	}
}

// undoer removes what a provisioner has made.
type undoer struct{ *provisioner }

// undo removes what the state lists, the last first.
func (u undoer) undo(ctx context.Context) error {
	if err := u.identify(ctx); err != nil {
		return err
	}
	u.store.Undoing = true
	if err := u.store.save(); err != nil {
		return err
	}
	if err := u.findCertificate(ctx); err != nil {
		return err
	}
	var left []error
	for _, m := range u.store.undoOrder() {
		if m.What == madePolicyVersion {
			continue // goes with its policy
		}
		err := u.undoOne(ctx, m)
		var stays stays
		switch {
		case errors.As(err, &stays):
			u.said("left", m.What, m.Name+": "+stays.Error())
			left = append(left, err)
			continue
		case err != nil:
			return err
		}
		if err := u.store.drop(m); err != nil {
			return err
		}
		u.said("removed", m.What, m.Name)
	}
	u.store.Undoing = false
	u.store.Made = slices.DeleteFunc(u.store.Made, func(m *made) bool {
		return m.What == madePolicyVersion && u.store.find(madePolicy, m.Name) == nil
	})
	if len(left) > 0 {
		return errors.Join(u.store.save(), fmt.Errorf("%d of what was made is left, for others use it or have changed it; %q has it", len(left), u.store.path))
	}
	return nil
}

// stays is the reason why something is not removed.
type stays struct{ error }

func left(format string, args ...any) error { return stays{fmt.Errorf(format, args...)} }

// findCertificate finds the certificate of a request whose answer never came.
func (u undoer) findCertificate(ctx context.Context) error {
	m := u.store.certificate()
	if m != nil && !m.Sure {
		pair, err := readPair(u.cfg)
		if err != nil {
			return advise("put the key back: only with it can the certificate that was made for it be found", "a certificate was asked for, and the key %q cannot be read: %w", u.cfg.Broker.Key, err)
		}
		u.pair = pair
		found, err := u.search(ctx, m)
		if err != nil && !found {
			return err // one that is inactive is found all the same
		}
		if !found {
			return u.store.drop(m)
		}
		return nil
	}
	return nil
}

func (u undoer) undoOne(ctx context.Context, m *made) error {
	switch m.What {
	case madeThingAttach:
		return u.detachThing(ctx, m)
	case madePolicyAttach:
		return u.detachPolicy(ctx, m)
	case madeCertificate:
		return u.deleteCertificate(ctx, m.Name)
	case madePolicy:
		return u.deletePolicy(ctx, m)
	case madeThing:
		return u.deleteThing(ctx, m)
	case madeFile:
		return u.removeFile(m)
	case madeEndpoint:
		return u.restoreEndpoint(m)
	}
	return fmt.Errorf("%q names %q, which this version of fieldpost-provision does not know", u.store.path, visible.Text(m.What))
}

// arnOf returns the ARN of a certificate.
func (u undoer) arnOf(id string) (*string, error) {
	prefix, err := need.Prefix(u.cfg, u.region, u.account)
	return aws.String(prefix + "cert/" + id), err
}

func (u undoer) detachThing(ctx context.Context, m *made) error {
	arn, err := u.arnOf(m.Certificate)
	if err != nil {
		return err
	}
	_, err = u.iot.DetachThingPrincipal(ctx, &iot.DetachThingPrincipalInput{ThingName: &m.Name, Principal: arn})
	return unless(notFound, "iot:DetachThingPrincipal", err)
}

func (u undoer) detachPolicy(ctx context.Context, m *made) error {
	arn, err := u.arnOf(m.Certificate)
	if err != nil {
		return err
	}
	_, err = u.iot.DetachPolicy(ctx, &iot.DetachPolicyInput{PolicyName: &m.Name, Target: arn})
	return unless(notFound, "iot:DetachPolicy", err)
}

// unless explains an error, unless it is of a type that means that there is nothing to do.
func unless(code, action string, err error) error {
	if is(err, code) {
		return nil
	}
	return explain(action, err)
}

func (u undoer) deleteCertificate(ctx context.Context, id string) error {
	if _, err := u.iot.UpdateCertificate(ctx, &iot.UpdateCertificateInput{CertificateId: &id, NewStatus: types.CertificateStatusInactive}); err != nil {
		return unless(notFound, "iot:UpdateCertificate", err)
	}
	_, err := u.iot.DeleteCertificate(ctx, &iot.DeleteCertificateInput{CertificateId: &id})
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
func (u undoer) deletePolicy(ctx context.Context, m *made) error {
	there, err := u.iot.GetPolicy(ctx, &iot.GetPolicyInput{PolicyName: &m.Name})
	if is(err, notFound) {
		return nil
	} else if err != nil {
		return explain("iot:GetPolicy", err)
	}
	if !m.Sure && sumOf([]byte(aws.ToString(there.PolicyDocument))) != m.Sum {
		return left("it was asked for, and is not as it would have been made")
	}
	targets, err := u.iot.ListTargetsForPolicy(ctx, &iot.ListTargetsForPolicyInput{PolicyName: &m.Name})
	if err != nil {
		return unless(notFound, "iot:ListTargetsForPolicy", err)
	}
	if len(targets.Targets) > 0 {
		return left("it is attached to %s, which this has not done", visible.Text(targets.Targets[0]))
	}
	all, err := u.iot.ListPolicyVersions(ctx, &iot.ListPolicyVersionsInput{PolicyName: &m.Name})
	if err != nil {
		return unless(notFound, "iot:ListPolicyVersions", err)
	}
	u.adoptVersion(m.Name, aws.ToString(there.DefaultVersionId))
	for _, v := range all.PolicyVersions {
		if id := aws.ToString(v.VersionId); !u.ours(m.Name, id) {
			return left("its version %s was not made by this", visible.Text(id))
		}
	}
	for _, v := range all.PolicyVersions {
		if v.IsDefaultVersion {
			continue
		}
		if err := u.deleteVersion(ctx, m.Name, aws.ToString(v.VersionId)); err != nil {
			return err
		}
	}
	_, err = u.iot.DeletePolicy(ctx, &iot.DeletePolicyInput{PolicyName: &m.Name})
	if is(err, inUse) {
		return left("%s", visible.Text(saidBy(err)))
	}
	return unless(notFound, "iot:DeletePolicy", err)
}

// adoptVersion takes the default version for the one whose answer never came.
func (u undoer) adoptVersion(name, version string) {
	for _, m := range u.store.Made {
		if m.What == madePolicyVersion && m.Name == name && !m.Sure && !u.ours(name, version) {
			m.Version = version
		}
	}
}

func (u undoer) deleteThing(ctx context.Context, m *made) error {
	there, err := u.iot.DescribeThing(ctx, &iot.DescribeThingInput{ThingName: &m.Name})
	if is(err, notFound) {
		return nil
	} else if err != nil {
		return explain("iot:DescribeThing", err)
	}
	if !m.Sure && there.Version > 1 {
		return left("it was asked for, and is not as it would have been made")
	}
	_, err = u.iot.DeleteThing(ctx, &iot.DeleteThingInput{ThingName: &m.Name})
	if is(err, "InvalidRequestException") {
		return left("%s", visible.Text(saidBy(err)))
	}
	return unless(notFound, "iot:DeleteThing", err)
}

// removeFile removes a file that is as it was made.
func (u undoer) removeFile(m *made) error {
	path := pathOf(u.cfg, m.Name)
	if path == "" {
		return left("no file has this role")
	}
	if m.Name != roleCA && u.store.certificate() != nil {
		return left("its certificate is left")
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
func (u undoer) restoreEndpoint(m *made) error {
	if u.cfg.Broker.Endpoint != m.Name {
		return nil
	}
	if _, err := endpoint.Parse(m.Was); err != nil {
		return left("%w", err)
	}
	if err := setEndpoint(u.cfg.File, m.Was); err != nil {
		return left("%w", err)
	}
	u.cfg.Broker.Endpoint = m.Was
	return nil
}
