package main

import (
	"bytes"
	"context"
	"crypto"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"fieldpost/daemon/awsiot/need"
	"fieldpost/daemon/config"
	"fieldpost/daemon/durable"
	"fieldpost/daemon/endpoint"
	"fieldpost/daemon/identity"
	"fieldpost/daemon/regular"
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

// policy is one that the board needs.
type policy struct {
	name     string
	document string
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

// makeKey makes the private key and the certificate signing request, here.
func (p *provisioner) makeKey(context.Context) error {
	files := filesOf(p.cfg)
	pair, err := identity.Make(files, p.o.keyType, p.cfg.Thing)
	for _, path := range pair.Made {
		role := roleKey
		if path == files.Request {
			role = roleRequest
		}
		err = errors.Join(err, p.madeFile(role, path))
	}
	if err != nil {
		return fmt.Errorf("make key and request: %w", err)
	}
	p.pair = pair
	if is := identity.DescribeKey(pair.Key.Public()); !strings.HasPrefix(is, "EC P-") && !strings.HasPrefix(is, "RSA ") {
		return advise("move it away to have another made", "the key %q is %s, and AWS IoT Core makes certificates for EC and RSA keys", files.Key, is)
	}
	if len(pair.Made) == 0 {
		p.said("found", "private key", files.Key)
	}
	return nil
}

// madeFile records a file that was made.
func (p *provisioner) madeFile(role, path string) error {
	data, err := regular.Read(path, stateMax)
	if err != nil {
		return err
	}
	what := map[string]string{roleKey: "private key", roleRequest: "request", roleCertificate: "certificate file", roleCA: "root certificates"}[role]
	p.said("made", what, path)
	if old := p.store.find(madeFile, role); old != nil { // it was removed meanwhile
		old.Sum = sumOf(data)
		return p.store.save()
	}
	return p.store.intend(&made{What: madeFile, Name: role, Sum: sumOf(data), Sure: true})
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
			return advise("choose another name with --policy-name; `fieldpost policy simulate` tells what the one that is there allows",
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
	switch err := durable.CreateFile(path, data, 0o644); {
	case errors.Is(err, fs.ErrExist):
		// A run may have been killed before its entry was made.
		there, err := regular.Read(path, stateMax)
		if role == roleCertificate && p.store.certificate() != nil && p.store.find(madeFile, role) == nil && err == nil && bytes.Equal(there, data) {
			return p.madeFile(role, path)
		}
		return nil
	case err != nil:
		return err
	}
	return p.madeFile(role, path)
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
		err = dir.Rename(name+durable.TmpExt, name)
	}
	if err != nil {
		return errors.Join(fmt.Errorf("write %q: %w", path, err), dir.Remove(name+durable.TmpExt))
	}
	return dir.Sync()
}
