package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"fieldpost/daemon/awsiot/need"
	"fieldpost/daemon/config"
	"fieldpost/daemon/endpoint"
	"fieldpost/daemon/identity"
	"fieldpost/daemon/visible"

	"github.com/aws/aws-sdk-go-v2/aws"
	awsmiddleware "github.com/aws/aws-sdk-go-v2/aws/middleware"
	"github.com/aws/aws-sdk-go-v2/aws/retry"
	"github.com/aws/aws-sdk-go-v2/service/iot"
	"github.com/aws/aws-sdk-go-v2/service/iot/types"
	"github.com/aws/aws-sdk-go-v2/service/sts"
)

// options are what the command line asks for.
type options struct {
	policyName     string
	thingVariables bool
	sender         bool
	thingType      string
	attributes     map[string]string
	keyType        string // "" is P-256, or whatever is there
	writeEndpoint  bool
	statePath      string
	account        string // "" is that of the credentials
}

// The names that AWS IoT takes, from its API reference.
var (
	thingNames      = regexp.MustCompile(`^[a-zA-Z0-9:_-]{1,128}$`)
	policyNames     = regexp.MustCompile(`^[\w+=,.@-]{1,128}$`)
	attributeNames  = regexp.MustCompile(`^[a-zA-Z0-9_.,@/:#-]{1,128}$`)
	attributeValues = regexp.MustCompile(`^[a-zA-Z0-9_.,@/:#-]{0,800}$`)
)

// attributesMax is how many attributes a thing without a type may have.
const attributesMax = 3

// usageProblem is a mistake in the options: exit status 2.
type usageProblem struct{ error }

// check looks at what AWS would refuse, before anything is asked of it.
func (o *options) check(cfg *config.Config) error {
	bad := func(format string, args ...any) error { return usageProblem{fmt.Errorf(format, args...)} }
	if !thingNames.MatchString(cfg.Thing) {
		return config.Errors{{File: cfg.File, Path: "thing", Reason: "is no name for a thing in AWS IoT: want 1 to 128 letters, digits, : _ and -", Value: cfg.Thing}}
	}
	if cfg.Broker.Certificate == "" {
		return config.Errors{{File: cfg.File, Line: cfg.Line("broker.certificate"), Path: "broker.certificate", Reason: "is none, and AWS IoT knows a board by its certificate; leave the key out"}}
	}
	if o.policyName == "" {
		o.policyName = "fieldpost-" + strings.ReplaceAll(cfg.Thing, ":", "-")
		if o.thingVariables {
			o.policyName = "fieldpost" // it fits all boards
		}
	}
	if !policyNames.MatchString(o.policyName) {
		return bad("--policy-name %q: want 1 to 128 letters, digits and _ + = , . @ -", o.policyName)
	}
	if o.thingType != "" && !thingNames.MatchString(o.thingType) {
		return bad("--thing-type %q: want 1 to 128 letters, digits, : _ and -", o.thingType)
	}
	if o.thingType == "" && len(o.attributes) > attributesMax {
		return bad("%d attributes: a thing without --thing-type may have %d", len(o.attributes), attributesMax)
	}
	for _, name := range slices.Sorted(maps.Keys(o.attributes)) {
		if !attributeNames.MatchString(name) || !attributeValues.MatchString(o.attributes[name]) {
			return bad("--attribute %s=%s: want letters, digits and _ . , @ / : # -", visible.Text(name), visible.Text(o.attributes[name]))
		}
	}
	if o.keyType != "" && o.keyType != identity.P256 && o.keyType != identity.RSA2048 {
		return bad("--key-type %q: want %s or %s", o.keyType, identity.P256, identity.RSA2048)
	}
	if o.statePath == "" {
		o.statePath = filepath.Join(filepath.Dir(cfg.Broker.Key), "provision.json")
	}
	return nil
}

// provisioner is one run.
type provisioner struct {
	cfg   *config.Config
	o     options
	aws   aws.Config
	iot   *iot.Client
	store *store
	out   io.Writer

	account, region, host string
	began                 time.Time // by AWS's clock: this machine's may be years off
	policies              []policy
	pair                  *identity.Pair
	certificate           types.CertificateDescription
}

func newProvisioner(cfg *config.Config, o options, a aws.Config, s *store, out io.Writer) *provisioner {
	return &provisioner{cfg: cfg, o: o, aws: a, iot: iot.NewFromConfig(a), store: s, out: out}
}

// said prints one line about one thing.
func (p *provisioner) said(did, what, name string) {
	fmt.Fprintf(p.out, "%-8s %-18s %s\n", did, what, visible.Text(name))
}

// run makes what is missing.
func (p *provisioner) run(ctx context.Context) error {
	if len(p.store.Made) == 0 {
		p.store.Undoing = false // it was killed when all was done
	}
	if p.store.Undoing {
		return advise("end it with --undo --yes; then run this again", "an undo was begun and did not end")
	}
	for _, step := range []func(context.Context) error{
		p.identify, p.findEndpoint, p.needPolicies,
		p.makeKey, p.makeThing, p.makePolicies, p.makeCertificate, p.attachPolicies, p.attachThing, p.writeFiles, p.tellEndpoint,
	} {
		if err := step(ctx); err != nil {
			return err
		}
	}
	return nil
}

// identify finds out whose credentials these are, and compares that with the state.
func (p *provisioner) identify(ctx context.Context) error {
	p.region = p.aws.Region
	if _, err := p.aws.Credentials.Retrieve(ctx); err != nil {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		return noCredentials(err)
	}
	who, err := sts.NewFromConfig(p.aws).GetCallerIdentity(ctx, &sts.GetCallerIdentityInput{})
	if err != nil {
		return explain("sts:GetCallerIdentity", err)
	}
	p.account = aws.ToString(who.Account)
	if p.o.account != "" && p.o.account != p.account {
		return advise("use the credentials of that account, with --profile", "--account is %s, and the credentials are those of account %s", p.o.account, p.account)
	}
	s := &p.store.state
	if len(s.Made) > 0 && (s.Account != p.account || s.Region != p.region || s.Thing != p.cfg.Thing) {
		return advise("use the same --profile, --region and configuration, or name another state file with --state",
			"%q is about thing %q in account %s, region %s, and this is thing %q in account %s, region %s",
			p.store.path, s.Thing, s.Account, s.Region, p.cfg.Thing, p.account, p.region)
	}
	s.Account, s.Region, s.Thing = p.account, p.region, p.cfg.Thing
	return nil
}

// findEndpoint asks for the account's endpoint, and compares its region with the configuration's.
func (p *provisioner) findEndpoint(ctx context.Context) error {
	if there := need.Region(p.cfg); there != "" && there != p.region && !p.o.writeEndpoint {
		return advise("give --region "+there+", or --write-endpoint to have broker.endpoint replaced",
			"wrong region: broker.endpoint in %q is in %s, and this would be made in %s", p.cfg.File, there, p.region)
	}
	found, err := p.iot.DescribeEndpoint(ctx, &iot.DescribeEndpointInput{EndpointType: aws.String("iot:Data-ATS")})
	if err != nil {
		return explain("iot:DescribeEndpoint", err)
	}
	p.began = time.Now().UTC()
	if at, ok := awsmiddleware.GetServerTime(found.ResultMetadata); ok {
		p.began = at.UTC()
	}
	p.host = aws.ToString(found.EndpointAddress)
	if e, err := endpoint.Parse(p.host); err != nil || e.Host != p.host {
		return fmt.Errorf("iot:DescribeEndpoint: %s is no host name", visible.Text(p.host))
	}
	return nil
}

// once keeps the SDK from repeating a request that makes something: only those that AWS
// refused because there were too many.
func once(o *iot.Options) {
	o.Retryer = retry.NewStandard(func(s *retry.StandardOptions) {
		s.Retryables = []retry.IsErrorRetryable{retry.RetryableErrorCode{Codes: retry.DefaultThrottleErrorCodes}}
		if n := o.RetryMaxAttempts; n > 0 {
			s.MaxAttempts = n
		}
	})
}

// create records that something is asked for, asks for it, and records that it was made.
func (p *provisioner) create(action string, m *made, ask func() error) error {
	err := error(nil)
	if !slices.Contains(p.store.Made, m) {
		err = p.store.intend(m)
	} else {
		m.Sure = false // it was removed meanwhile
		err = p.store.save()
	}
	if err != nil {
		return err
	}
	err = ask()
	if err != nil && refused(err) {
		return errors.Join(explain(action, err), p.store.drop(m))
	}
	if err != nil {
		return explain(action, err)
	}
	return p.sure(m)
}

func (p *provisioner) sure(m *made) error {
	m.Sure = true
	return p.store.save()
}

func (p *provisioner) makeThing(ctx context.Context) error {
	name := p.cfg.Thing
	m := p.store.find(madeThing, name)
	there, err := p.iot.DescribeThing(ctx, &iot.DescribeThingInput{ThingName: &name})
	if err != nil && !is(err, notFound) {
		return explain("iot:DescribeThing", err)
	}
	if err == nil {
		if kind := aws.ToString(there.ThingTypeName); kind != p.o.thingType || !maps.Equal(there.Attributes, p.o.attributes) && len(there.Attributes)+len(p.o.attributes) > 0 {
			return advise("give the same --thing-type and --attribute, change the thing, or choose another name for it in the configuration",
				"thing %q exists with other attributes: %s; wanted: %s", name, describeThing(kind, there.Attributes), describeThing(p.o.thingType, p.o.attributes))
		}
		return p.settle(m, "thing", name)
	}
	if m == nil {
		m = &made{What: madeThing, Name: name}
	}
	in := &iot.CreateThingInput{ThingName: &name}
	if p.o.thingType != "" {
		in.ThingTypeName = &p.o.thingType
	}
	if len(p.o.attributes) > 0 {
		in.AttributePayload = &types.AttributePayload{Attributes: p.o.attributes}
	}
	if err := p.create("iot:CreateThing", m, func() error {
		_, err := p.iot.CreateThing(ctx, in, once)
		return err
	}); err != nil {
		return err
	}
	p.said("made", "thing", name)
	return nil
}

// settle is for what is there and as wanted. If it was asked for and the answer never came, it
// is ours.
func (p *provisioner) settle(m *made, what, name string) error {
	switch {
	case m == nil:
		p.said("found", what, name)
		return nil
	case m.Sure:
		p.said("kept", what, name)
		return nil
	}
	p.said("made", what, name)
	return p.sure(m)
}

func describeThing(kind string, attributes map[string]string) string {
	if kind == "" {
		kind = "none"
	}
	parts := []string{"type " + visible.Text(kind)}
	for _, k := range slices.Sorted(maps.Keys(attributes)) {
		parts = append(parts, visible.Text(k)+"="+visible.Text(attributes[k]))
	}
	return strings.Join(parts, ", ")
}

func (p *provisioner) attachThing(ctx context.Context) error {
	name := p.cfg.Thing
	m := p.store.findAttached(madeThingAttach, name, aws.ToString(p.certificate.CertificateId))
	pages := iot.NewListThingPrincipalsPaginator(p.iot, &iot.ListThingPrincipalsInput{ThingName: &name})
	for pages.HasMorePages() {
		page, err := pages.NextPage(ctx)
		if err != nil {
			return explain("iot:ListThingPrincipals", err)
		}
		if slices.Contains(page.Principals, aws.ToString(p.certificate.CertificateArn)) {
			return p.settle(m, "thing attachment", name)
		}
	}
	if m == nil {
		m = &made{What: madeThingAttach, Name: name, Certificate: aws.ToString(p.certificate.CertificateId)}
	}
	if err := p.create("iot:AttachThingPrincipal", m, func() error {
		_, err := p.iot.AttachThingPrincipal(ctx, &iot.AttachThingPrincipalInput{ThingName: &name, Principal: p.certificate.CertificateArn})
		return err
	}); err != nil {
		return err
	}
	p.said("made", "thing attachment", name)
	return nil
}
