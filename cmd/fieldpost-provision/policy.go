package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	"fieldpost/daemon/awsiot/need"
	"fieldpost/daemon/config"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/iot"
	"github.com/aws/aws-sdk-go-v2/service/iot/types"
)

// policy is one that the board needs.
type policy struct {
	name     string
	document string
}

// needPolicies makes the documents that this configuration needs.
func (p *provisioner) needPolicies(context.Context) (err error) {
	p.policies, err = policiesOf(p.cfg, p.o, p.region, p.account)
	return err
}

func policiesOf(cfg *config.Config, o options, region, account string) (all []policy, err error) {
	prefix, err := need.Prefix(cfg, region, account)
	if err != nil {
		return nil, err
	}
	docs, err := need.Generate(cfg, need.Options{Prefix: prefix, ThingVariables: o.thingVariables, Sender: o.sender})
	if err != nil {
		return nil, fmt.Errorf("generate policy: %w", err)
	}
	for i, doc := range docs {
		name := o.policyName
		if i > 0 {
			name = fmt.Sprintf("%s-%d", name, i+1)
		}
		all = append(all, policy{name, string(bytes.TrimSpace(doc))})
	}
	return all, nil
}

func (p *provisioner) makePolicies(ctx context.Context) error {
	for _, want := range p.policies {
		if err := p.makePolicy(ctx, want); err != nil {
			return err
		}
	}
	for _, m := range p.store.Made {
		if m.What == madePolicy && !slices.ContainsFunc(p.policies, func(want policy) bool { return want.name == m.Name }) {
			p.said("unneeded", "policy", m.Name+" (made before, and still attached: --undo removes it)")
		}
	}
	return nil
}

func (p *provisioner) makePolicy(ctx context.Context, want policy) error {
	m := p.store.find(madePolicy, want.name)
	there, err := p.iot.GetPolicy(ctx, &iot.GetPolicyInput{PolicyName: &want.name})
	if err != nil && !is(err, notFound) {
		return explain("iot:GetPolicy", err)
	}
	if err == nil {
		if sameJSON(aws.ToString(there.PolicyDocument), want.document) {
			if v := p.openVersion(want.name); v != nil {
				v.Version = aws.ToString(there.DefaultVersionId)
				return p.settle(v, "policy version", want.name)
			}
			return p.settle(m, "policy", want.name)
		}
		if m == nil || !m.Sure && sumOf([]byte(aws.ToString(there.PolicyDocument))) != m.Sum {
			return advise("choose another name with --policy-name; `fieldpost policy simulate` shows what the existing one allows",
				"policy %q exists, is not what this configuration needs, and was not made by this", want.name)
		}
		m.Sure = true
		return p.makeVersion(ctx, want)
	}
	if m == nil {
		m = &made{What: madePolicy, Name: want.name}
	}
	m.Sum = sumOf([]byte(want.document))
	if err := p.create("iot:CreatePolicy", m, func() error {
		_, err := p.iot.CreatePolicy(ctx, &iot.CreatePolicyInput{PolicyName: &want.name, PolicyDocument: &want.document}, once)
		return err
	}); err != nil {
		return err
	}
	p.said("made", "policy", want.name)
	return nil
}

// makeVersion gives a policy of ours another document, for a configuration that has changed. A
// policy has at most five versions: the oldest that was made here makes room.
func (p *provisioner) makeVersion(ctx context.Context, want policy) error {
	all, err := p.iot.ListPolicyVersions(ctx, &iot.ListPolicyVersionsInput{PolicyName: &want.name})
	if err != nil {
		return explain("iot:ListPolicyVersions", err)
	}
	if len(all.PolicyVersions) >= versionsMax {
		if err := p.dropOldest(ctx, want.name, all.PolicyVersions); err != nil {
			return err
		}
	}
	m := p.openVersion(want.name)
	if m == nil {
		m = &made{What: madePolicyVersion, Name: want.name}
		if err := p.store.intend(m); err != nil {
			return err
		}
	}
	got, err := p.iot.CreatePolicyVersion(ctx, &iot.CreatePolicyVersionInput{PolicyName: &want.name, PolicyDocument: &want.document, SetAsDefault: true}, once)
	if err != nil && refused(err) {
		return errors.Join(explain("iot:CreatePolicyVersion", err), p.store.drop(m))
	}
	if err != nil {
		return explain("iot:CreatePolicyVersion", err)
	}
	m.Version = aws.ToString(got.PolicyVersionId)
	p.said("made", "policy version", want.name+" "+m.Version)
	return p.sure(m)
}

// openVersion returns the entry of a version that was asked for without an answer; nil if there
// is none.
func (p *provisioner) openVersion(name string) *made {
	i := slices.IndexFunc(p.store.Made, func(m *made) bool { return m.What == madePolicyVersion && m.Name == name && !m.Sure })
	if i < 0 {
		return nil
	}
	return p.store.Made[i]
}

// versionsMax is how many versions AWS IoT keeps of a policy.
const versionsMax = 5

// firstVersion is the version that CreatePolicy makes.
const firstVersion = "1"

// ours reports whether a version of a policy was made here.
func (p *provisioner) ours(name, version string) bool {
	return version == firstVersion && p.store.find(madePolicy, name) != nil ||
		slices.ContainsFunc(p.store.Made, func(m *made) bool {
			return m.What == madePolicyVersion && m.Name == name && m.Version == version
		})
}

func (p *provisioner) dropOldest(ctx context.Context, name string, all []types.PolicyVersion) error {
	for _, v := range slices.Backward(all) { // the newest is first
		id := aws.ToString(v.VersionId)
		if v.IsDefaultVersion || !p.ours(name, id) {
			continue
		}
		if err := p.deleteVersion(ctx, name, id); err != nil {
			return err
		}
		p.said("removed", "policy version", name+" "+id)
		return nil
	}
	return advise("delete one: `aws iot delete-policy-version`", "policy %q has %d versions, as many as AWS IoT keeps, and none that could go was made by this", name, len(all))
}

func (p *provisioner) deleteVersion(ctx context.Context, name, version string) error {
	_, err := p.iot.DeletePolicyVersion(ctx, &iot.DeletePolicyVersionInput{PolicyName: &name, PolicyVersionId: &version})
	if err != nil && !is(err, notFound) {
		return explain("iot:DeletePolicyVersion", err)
	}
	p.store.Made = slices.DeleteFunc(p.store.Made, func(m *made) bool {
		return m.What == madePolicyVersion && m.Name == name && m.Version == version
	})
	return p.store.save()
}

// sameJSON reports whether two documents differ in white space only.
func sameJSON(a, b string) bool {
	var x, y bytes.Buffer
	return json.Compact(&x, []byte(a)) == nil && json.Compact(&y, []byte(b)) == nil && bytes.Equal(x.Bytes(), y.Bytes())
}

func (p *provisioner) attachPolicies(ctx context.Context) error {
	attached := map[string]bool{}
	pages := iot.NewListAttachedPoliciesPaginator(p.iot, &iot.ListAttachedPoliciesInput{Target: p.certificate.CertificateArn})
	for pages.HasMorePages() {
		page, err := pages.NextPage(ctx)
		if err != nil {
			return explain("iot:ListAttachedPolicies", err)
		}
		for _, there := range page.Policies {
			attached[aws.ToString(there.PolicyName)] = true
		}
	}
	for _, want := range p.policies {
		m := p.store.findAttached(madePolicyAttach, want.name, aws.ToString(p.certificate.CertificateId))
		if attached[want.name] {
			if err := p.settle(m, "policy attachment", want.name); err != nil {
				return err
			}
			continue
		}
		if m == nil {
			m = &made{What: madePolicyAttach, Name: want.name, Certificate: aws.ToString(p.certificate.CertificateId)}
		}
		if err := p.create("iot:AttachPolicy", m, func() error {
			_, err := p.iot.AttachPolicy(ctx, &iot.AttachPolicyInput{PolicyName: &want.name, Target: p.certificate.CertificateArn})
			return err
		}); err != nil {
			return err
		}
		p.said("made", "policy attachment", want.name)
	}
	return nil
}
