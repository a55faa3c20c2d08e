// Package controltest is a stand-in for the control plane of AWS IoT Core, for tests: an HTTP
// server that keeps things, policies, certificates and what is attached to what, as far as
// fieldpost-provision uses them, and answers as AWS does.
//
// The requests, answers, error types and statuses are those of the service model of the AWS CLI
// (botocore, iot/2015-05-28); the rules are those of the AWS IoT API Reference: five versions
// of a policy, a default version cannot be deleted, a policy that is attached or has several
// versions cannot, nor a certificate that is active or attached, nor a thing with a principal.
// The same request creates a second certificate each time. Every request must be signed with
// [AccessKey] and [SecretKey]. It answers sts:GetCallerIdentity as well.
//
// What it does not do: permissions (see [Server.Fault]), tags, quotas besides those, and the
// delay after which AWS shows a change to everybody.
package controltest

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"maps"
	"math/big"
	"net/http"
	"net/http/httptest"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"fieldpost/daemon/awsiot"
)

// The credentials that requests must be signed with.
const (
	AccessKey = "AKIDEXAMPLE"
	SecretKey = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"
)

// Error is an answer of the control plane that is an error.
type Error struct {
	Type    string // "ResourceNotFoundException"
	Status  int
	Message string
}

// Policy is one that is kept.
type Policy struct {
	Versions map[int]string // the documents
	Default  int
	last     int
}

// Certificate is one that is kept.
type Certificate struct {
	ID, ARN, PEM, Status string
	Policies             []string // that are attached
	Things               []string
	made                 time.Time
}

// Thing is one that is kept.
type Thing struct {
	Type       string
	Attributes map[string]string
	Version    int
	id         string
}

// Server is the stand-in. Its fields up to Now may be set before the first request; the others
// may be read and changed under Mu.
type Server struct {
	URL     string
	Account string // 123456789012 unless set
	Region  string // ap-south-1 unless set
	Now     func() time.Time
	// Fault is asked before each action, by its name ("CreateThing"), and after it was done, by
	// its name and "+", without Mu. An error is answered instead; [Hangup] closes the connection without an
	// answer.
	Fault func(action string) *Error

	Mu           sync.Mutex
	Things       map[string]*Thing
	Policies     map[string]*Policy
	Certificates map[string]*Certificate
	Calls        []string // the actions that were asked for, in order

	ca    *x509.Certificate
	caKey *ecdsa.PrivateKey
	http  *httptest.Server
}

// Hangup is for [Server.Fault].
var Hangup = &Error{Type: "hangup"}

// New starts a stand-in that ends with the test.
func New(t testing.TB) *Server {
	t.Helper()
	s := &Server{
		Account: "123456789012", Region: "ap-south-1", Now: time.Now,
		Things: map[string]*Thing{}, Policies: map[string]*Policy{}, Certificates: map[string]*Certificate{},
	}
	var err error
	if s.caKey, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader); err != nil {
		t.Fatal(err)
	}
	s.ca = &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{Organization: []string{"Amazon.com Inc."}, CommonName: "stand-in"},
		NotBefore: time.Date(1999, 1, 1, 0, 0, 0, 0, time.UTC), NotAfter: time.Date(2049, 12, 31, 23, 59, 59, 0, time.UTC),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	s.http = httptest.NewServer(s.handler())
	t.Cleanup(s.http.Close)
	s.URL = s.http.URL
	return s
}

// ARN is the Amazon Resource Name of what is of a kind in this account and region.
func (s *Server) ARN(kind, name string) string {
	return fmt.Sprintf("arn:aws:iot:%s:%s:%s/%s", s.Region, s.Account, kind, name)
}

// Endpoint is what DescribeEndpoint answers.
func (s *Server) Endpoint() string {
	return "a1b2c3d4e5-ats.iot." + s.Region + ".amazonaws.com"
}

// Empty reports whether nothing is kept.
func (s *Server) Empty() bool {
	s.Mu.Lock()
	defer s.Mu.Unlock()
	return len(s.Things)+len(s.Policies)+len(s.Certificates) == 0
}

// Asked returns how often an action was asked for.
func (s *Server) Asked(action string) (n int) {
	s.Mu.Lock()
	defer s.Mu.Unlock()
	for _, c := range s.Calls {
		if c == action {
			n++
		}
	}
	return n
}

// action carries out a request with s.Mu held. The answer is written as JSON.
type action func(r *http.Request, body map[string]any) (any, *Error)

func (s *Server) handler() http.Handler {
	mux := http.NewServeMux()
	for pattern, a := range map[string]struct {
		name string
		do   action
	}{
		"POST /things/{name}":                       {"CreateThing", s.createThing},
		"GET /things/{name}":                        {"DescribeThing", s.describeThing},
		"DELETE /things/{name}":                     {"DeleteThing", s.deleteThing},
		"PUT /things/{name}/principals":             {"AttachThingPrincipal", s.attachThing},
		"DELETE /things/{name}/principals":          {"DetachThingPrincipal", s.detachThing},
		"GET /things/{name}/principals":             {"ListThingPrincipals", s.thingPrincipals},
		"POST /policies/{name}":                     {"CreatePolicy", s.createPolicy},
		"GET /policies/{name}":                      {"GetPolicy", s.getPolicy},
		"DELETE /policies/{name}":                   {"DeletePolicy", s.deletePolicy},
		"POST /policies/{name}/version":             {"CreatePolicyVersion", s.createVersion},
		"GET /policies/{name}/version":              {"ListPolicyVersions", s.listVersions},
		"DELETE /policies/{name}/version/{version}": {"DeletePolicyVersion", s.deleteVersion},
		"PUT /target-policies/{name}":               {"AttachPolicy", s.attachPolicy},
		"POST /target-policies/{name}":              {"DetachPolicy", s.detachPolicy},
		"POST /attached-policies/{target}":          {"ListAttachedPolicies", s.attachedPolicies},
		"POST /policy-targets/{name}":               {"ListTargetsForPolicy", s.policyTargets},
		"POST /certificates":                        {"CreateCertificateFromCsr", s.createCertificate},
		"GET /certificates":                         {"ListCertificates", s.listCertificates},
		"GET /certificates/{id}":                    {"DescribeCertificate", s.describeCertificate},
		"PUT /certificates/{id}":                    {"UpdateCertificate", s.updateCertificate},
		"DELETE /certificates/{id}":                 {"DeleteCertificate", s.deleteCertificate},
		"GET /endpoint":                             {"DescribeEndpoint", s.describeEndpoint},
		"POST /{$}":                                 {"GetCallerIdentity", nil},
	} {
		mux.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) { s.serve(w, r, a.name, a.do) })
	}
	return mux
}

// serve verifies a request, carries it out and answers.
func (s *Server) serve(w http.ResponseWriter, r *http.Request, name string, do action) {
	service, fail := s.verify(r)
	if want := map[bool][]string{true: {"sts"}, false: {"iot", "execute-api"}}[do == nil]; fail == nil && !slices.Contains(want, service) {
		fail = &Error{"InvalidSignatureException", http.StatusForbidden, fmt.Sprintf("Credential should be scoped to correct service: %q.", want[0])}
	}
	var body map[string]any
	if text, err := io.ReadAll(r.Body); fail == nil && do != nil && len(text) > 0 {
		if err != nil || json.Unmarshal(text, &body) != nil {
			fail = &Error{"SerializationException", http.StatusBadRequest, "not JSON"}
		}
	}
	var answer any
	if fail == nil {
		answer, fail = s.carryOut(r, name, body, do)
	}
	switch {
	case fail == Hangup:
		panic(http.ErrAbortHandler)
	case do == nil:
		s.answerIdentity(w, fail)
	case fail != nil:
		w.Header().Set("X-Amzn-Errortype", fail.Type)
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(fail.Status)
		_ = json.NewEncoder(w).Encode(map[string]string{"message": fail.Message})
	default:
		w.Header().Set("Content-Type", "application/json")
		if answer == nil {
			answer = struct{}{}
		}
		_ = json.NewEncoder(w).Encode(answer)
	}
}

func (s *Server) carryOut(r *http.Request, name string, body map[string]any, do action) (answer any, fail *Error) {
	s.Mu.Lock()
	s.Calls = append(s.Calls, name)
	fault := s.Fault
	s.Mu.Unlock()
	if fault != nil {
		if fail := fault(name); fail != nil {
			return nil, fail
		}
	}
	if do != nil {
		s.Mu.Lock()
		answer, fail = do(r, body)
		s.Mu.Unlock()
	}
	if fail == nil && fault != nil {
		fail = fault(name + "+")
	}
	return answer, fail
}

// answerIdentity answers in the form of the query protocol.
func (s *Server) answerIdentity(w http.ResponseWriter, fail *Error) {
	w.Header().Set("Content-Type", "text/xml")
	if fail != nil {
		kind := map[string]string{"UnrecognizedClientException": "InvalidClientTokenId", "InvalidSignatureException": "SignatureDoesNotMatch", "AccessDeniedException": "AccessDenied", "ThrottlingException": "Throttling"}[fail.Type]
		if kind == "" {
			kind = fail.Type
		}
		w.WriteHeader(fail.Status)
		fmt.Fprintf(w, `<ErrorResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><Error><Type>Sender</Type><Code>%s</Code><Message>%s</Message></Error><RequestId>1</RequestId></ErrorResponse>`, kind, fail.Message)
		return
	}
	fmt.Fprintf(w, `<GetCallerIdentityResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><GetCallerIdentityResult><Arn>arn:aws:iam::%s:user/test</Arn><UserId>AIDA</UserId><Account>%[1]s</Account></GetCallerIdentityResult><ResponseMetadata><RequestId>1</RequestId></ResponseMetadata></GetCallerIdentityResponse>`, s.Account)
}

func notFound(format string, args ...any) *Error {
	return &Error{"ResourceNotFoundException", http.StatusNotFound, fmt.Sprintf(format, args...)}
}

func badRequest(format string, args ...any) *Error {
	return &Error{"InvalidRequestException", http.StatusBadRequest, fmt.Sprintf(format, args...)}
}

func conflict(format string, args ...any) *Error {
	return &Error{"DeleteConflictException", http.StatusConflict, fmt.Sprintf(format, args...)}
}

func exists(format string, args ...any) *Error {
	return &Error{"ResourceAlreadyExistsException", http.StatusConflict, fmt.Sprintf(format, args...)}
}

var (
	thingNames  = regexp.MustCompile(`^[a-zA-Z0-9:_-]{1,128}$`)
	policyNames = regexp.MustCompile(`^[\w+=,.@-]{1,128}$`)
)

func text(body map[string]any, name string) string {
	t, _ := body[name].(string)
	return t
}

func (s *Server) createThing(r *http.Request, body map[string]any) (any, *Error) {
	name := r.PathValue("name")
	if !thingNames.MatchString(name) {
		return nil, badRequest("thing name %q", name)
	}
	t := &Thing{Type: text(body, "thingTypeName"), Attributes: map[string]string{}, Version: 1, id: "thing-id-" + name}
	if payload, ok := body["attributePayload"].(map[string]any); ok {
		attributes, _ := payload["attributes"].(map[string]any)
		for k, v := range attributes {
			t.Attributes[k] = fmt.Sprint(v)
		}
	}
	if there := s.Things[name]; there != nil {
		if there.Type != t.Type || !maps.Equal(there.Attributes, t.Attributes) {
			return nil, exists("Thing %s already exists in account with different attributes", name)
		}
		t = there
	}
	s.Things[name] = t
	return map[string]any{"thingName": name, "thingArn": s.ARN("thing", name), "thingId": t.id}, nil
}

func (s *Server) describeThing(r *http.Request, _ map[string]any) (any, *Error) {
	name := r.PathValue("name")
	t := s.Things[name]
	if t == nil {
		return nil, notFound("Thing %s is not found", name)
	}
	answer := map[string]any{"thingName": name, "thingArn": s.ARN("thing", name), "thingId": t.id, "defaultClientId": name, "attributes": t.Attributes, "version": t.Version}
	if t.Type != "" {
		answer["thingTypeName"] = t.Type
	}
	return answer, nil
}

func (s *Server) deleteThing(r *http.Request, _ map[string]any) (any, *Error) {
	name := r.PathValue("name")
	for _, c := range s.Certificates {
		if slices.Contains(c.Things, name) {
			return nil, badRequest("Cannot delete. Thing %s is still attached to one or more principals", name)
		}
	}
	if t := s.Things[name]; t != nil {
		if v := r.URL.Query().Get("expectedVersion"); v != "" && v != strconv.Itoa(t.Version) {
			return nil, &Error{"VersionConflictException", http.StatusConflict, "The version of the thing is " + strconv.Itoa(t.Version)}
		}
	}
	delete(s.Things, name)
	return nil, nil
}

// principal is the certificate that a request is about, by its ARN.
func (s *Server) principal(arn string) (*Certificate, *Error) {
	for _, c := range s.Certificates {
		if c.ARN == arn {
			return c, nil
		}
	}
	if !strings.HasPrefix(arn, s.ARN("cert", "")) {
		return nil, badRequest("Invalid principal %q", arn)
	}
	return nil, notFound("Certificate %s does not exist", arn)
}

func (s *Server) attachThing(r *http.Request, _ map[string]any) (any, *Error) {
	name := r.PathValue("name")
	c, fail := s.principal(r.Header.Get("X-Amzn-Principal"))
	switch {
	case fail != nil:
		return nil, fail
	case s.Things[name] == nil:
		return nil, notFound("Thing %s is not found", name)
	case !slices.Contains(c.Things, name):
		c.Things = append(c.Things, name)
	}
	return nil, nil
}

func (s *Server) detachThing(r *http.Request, _ map[string]any) (any, *Error) {
	name := r.PathValue("name")
	c, fail := s.principal(r.Header.Get("X-Amzn-Principal"))
	switch {
	case fail != nil:
		return nil, fail
	case s.Things[name] == nil:
		return nil, notFound("Thing %s is not found", name)
	}
	c.Things = slices.DeleteFunc(c.Things, func(t string) bool { return t == name })
	return nil, nil
}

func (s *Server) thingPrincipals(r *http.Request, _ map[string]any) (any, *Error) {
	name := r.PathValue("name")
	if s.Things[name] == nil {
		return nil, notFound("Thing %s is not found", name)
	}
	all := []string{}
	for _, c := range s.Certificates {
		if slices.Contains(c.Things, name) {
			all = append(all, c.ARN)
		}
	}
	slices.Sort(all)
	page, next, fail := paged(all, r.URL.Query().Get("nextToken"))
	return map[string]any{"principals": page, "nextToken": next}, fail
}

// pageSize is small, so that every list has pages.
const pageSize = 2

func paged[T any](all []T, token string) (page []T, next *string, fail *Error) {
	from := 0
	if token != "" {
		n, err := strconv.Atoi(token)
		if err != nil || n < 0 || n > len(all) {
			return nil, nil, badRequest("token %q", token)
		}
		from = n
	}
	if page = all[from:]; len(page) > pageSize {
		n := strconv.Itoa(from + pageSize)
		page, next = page[:pageSize], &n
	}
	return page, next, nil
}

// malformed checks a policy's document.
func malformed(document string) *Error {
	if _, err := awsiot.Parse([]byte(document)); err != nil {
		return &Error{"MalformedPolicyException", http.StatusBadRequest, fmt.Sprintf("Policy document is malformed: %v", err)}
	}
	return nil
}

func (s *Server) createPolicy(r *http.Request, body map[string]any) (any, *Error) {
	name, document := r.PathValue("name"), text(body, "policyDocument")
	if !policyNames.MatchString(name) {
		return nil, badRequest("policy name %q", name)
	}
	if fail := malformed(document); fail != nil {
		return nil, fail
	}
	if s.Policies[name] != nil {
		return nil, exists("Policy cannot be created - name already exists (name=%s)", name)
	}
	s.Policies[name] = &Policy{Versions: map[int]string{1: document}, Default: 1, last: 1}
	return map[string]any{"policyName": name, "policyArn": s.ARN("policy", name), "policyDocument": document, "policyVersionId": "1"}, nil
}

// policy finds one by the name in a request's path.
func (s *Server) policy(r *http.Request) (string, *Policy, *Error) {
	name := r.PathValue("name")
	if p := s.Policies[name]; p != nil {
		return name, p, nil
	}
	return name, nil, notFound("Policy not found (name=%s)", name)
}

func (s *Server) getPolicy(r *http.Request, _ map[string]any) (any, *Error) {
	name, p, fail := s.policy(r)
	if fail != nil {
		return nil, fail
	}
	return map[string]any{"policyName": name, "policyArn": s.ARN("policy", name), "policyDocument": p.Versions[p.Default], "defaultVersionId": strconv.Itoa(p.Default)}, nil
}

// attachedTo lists the certificates that a policy is attached to.
func (s *Server) attachedTo(policy string) (arns []string) {
	for _, c := range s.Certificates {
		if slices.Contains(c.Policies, policy) {
			arns = append(arns, c.ARN)
		}
	}
	slices.Sort(arns)
	return arns
}

func (s *Server) deletePolicy(r *http.Request, _ map[string]any) (any, *Error) {
	name, p, fail := s.policy(r)
	switch {
	case fail != nil:
		return nil, fail
	case len(s.attachedTo(name)) > 0:
		return nil, conflict("Cannot delete the policy because it is attached to one or more principals (name=%s)", name)
	case len(p.Versions) > 1:
		return nil, conflict("Cannot delete the policy because it has one or more policy versions attached to it (name=%s)", name)
	}
	delete(s.Policies, name)
	return nil, nil
}

func (s *Server) createVersion(r *http.Request, body map[string]any) (any, *Error) {
	_, p, fail := s.policy(r)
	if fail != nil {
		return nil, fail
	}
	document := text(body, "policyDocument")
	if fail := malformed(document); fail != nil {
		return nil, fail
	}
	if len(p.Versions) >= 5 {
		return nil, &Error{"VersionsLimitExceededException", http.StatusConflict, "The policy already has the maximum number of versions (5)"}
	}
	p.last++
	p.Versions[p.last] = document
	byDefault := r.URL.Query().Get("setAsDefault") == "true"
	if byDefault {
		p.Default = p.last
	}
	return map[string]any{"policyDocument": document, "policyVersionId": strconv.Itoa(p.last), "isDefaultVersion": byDefault}, nil
}

func (s *Server) listVersions(r *http.Request, _ map[string]any) (any, *Error) {
	_, p, fail := s.policy(r)
	if fail != nil {
		return nil, fail
	}
	all := []map[string]any{}
	for _, v := range slices.Backward(slices.Sorted(maps.Keys(p.Versions))) {
		all = append(all, map[string]any{"versionId": strconv.Itoa(v), "isDefaultVersion": v == p.Default, "createDate": float64(1700000000 + v)})
	}
	return map[string]any{"policyVersions": all}, nil
}

func (s *Server) deleteVersion(r *http.Request, _ map[string]any) (any, *Error) {
	name, p, fail := s.policy(r)
	if fail != nil {
		return nil, fail
	}
	v, err := strconv.Atoi(r.PathValue("version"))
	switch {
	case err != nil || p.Versions[v] == "":
		return nil, notFound("Policy version not found (name=%s, version=%s)", name, r.PathValue("version"))
	case v == p.Default:
		return nil, conflict("Cannot delete the default version of a policy (name=%s)", name)
	}
	delete(p.Versions, v)
	return nil, nil
}

func (s *Server) attachPolicy(r *http.Request, body map[string]any) (any, *Error) {
	name, _, fail := s.policy(r)
	if fail != nil {
		return nil, fail
	}
	c, fail := s.principal(text(body, "target"))
	switch {
	case fail != nil:
		return nil, fail
	case slices.Contains(c.Policies, name):
	case len(c.Policies) >= 10:
		return nil, &Error{"LimitExceededException", http.StatusGone, "The maximum number of policies are attached"}
	default:
		c.Policies = append(c.Policies, name)
	}
	return nil, nil
}

func (s *Server) detachPolicy(r *http.Request, body map[string]any) (any, *Error) {
	name, _, fail := s.policy(r)
	if fail != nil {
		return nil, fail
	}
	c, fail := s.principal(text(body, "target"))
	if fail != nil {
		return nil, fail
	}
	c.Policies = slices.DeleteFunc(c.Policies, func(p string) bool { return p == name })
	return nil, nil
}

func (s *Server) attachedPolicies(r *http.Request, _ map[string]any) (any, *Error) {
	c, fail := s.principal(r.PathValue("target"))
	if fail != nil {
		return nil, fail
	}
	all := []map[string]string{}
	for _, name := range c.Policies {
		all = append(all, map[string]string{"policyName": name, "policyArn": s.ARN("policy", name)})
	}
	page, next, fail := paged(all, r.URL.Query().Get("marker"))
	return map[string]any{"policies": page, "nextMarker": next}, fail
}

func (s *Server) policyTargets(r *http.Request, _ map[string]any) (any, *Error) {
	name, _, fail := s.policy(r)
	if fail != nil {
		return nil, fail
	}
	page, next, fail := paged(s.attachedTo(name), r.URL.Query().Get("marker"))
	return map[string]any{"targets": page, "nextMarker": next}, fail
}

func (s *Server) createCertificate(r *http.Request, body map[string]any) (any, *Error) {
	block, _ := pem.Decode([]byte(text(body, "certificateSigningRequest")))
	if block == nil {
		return nil, badRequest("The certificate signing request is not PEM")
	}
	csr, err := x509.ParseCertificateRequest(block.Bytes)
	if err == nil {
		err = csr.CheckSignature()
	}
	if err != nil {
		return nil, badRequest("The certificate signing request is not valid: %v", err)
	}
	switch k := csr.PublicKey.(type) {
	case *rsa.PublicKey:
		if k.N.BitLen() < 2048 {
			return nil, badRequest("RSA keys have at least 2048 bits")
		}
	case *ecdsa.PublicKey:
		if k.Curve != elliptic.P256() && k.Curve != elliptic.P384() && k.Curve != elliptic.P521() {
			return nil, badRequest("ECC keys are on P-256, P-384 or P-521")
		}
	default:
		return nil, badRequest("The key is neither RSA nor ECC")
	}
	c, err := s.issue(csr)
	if err != nil {
		return nil, &Error{"InternalFailureException", http.StatusInternalServerError, err.Error()}
	}
	c.Status = "INACTIVE"
	if r.URL.Query().Get("setAsActive") == "true" {
		c.Status = "ACTIVE"
	}
	s.Certificates[c.ID] = c
	return map[string]any{"certificateArn": c.ARN, "certificateId": c.ID, "certificatePem": c.PEM}, nil
}

// issue signs a certificate with a subject of its own, as AWS does.
func (s *Server) issue(csr *x509.CertificateRequest) (*Certificate, error) {
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 127))
	if err != nil {
		return nil, err
	}
	der, err := x509.CreateCertificate(rand.Reader, &x509.Certificate{
		SerialNumber: serial, Subject: pkix.Name{CommonName: "AWS IoT Certificate"},
		NotBefore: s.Now().Add(-2 * time.Minute), NotAfter: s.ca.NotAfter,
		KeyUsage: x509.KeyUsageDigitalSignature, BasicConstraintsValid: true,
	}, s.ca, csr.PublicKey, s.caKey)
	if err != nil {
		return nil, err
	}
	sum := sha256.Sum256(der)
	id := hex.EncodeToString(sum[:])
	var text bytes.Buffer
	if err := pem.Encode(&text, &pem.Block{Type: "CERTIFICATE", Bytes: der}); err != nil {
		return nil, err
	}
	return &Certificate{ID: id, ARN: s.ARN("cert", id), PEM: text.String(), made: s.Now()}, nil
}

func (s *Server) listCertificates(r *http.Request, _ map[string]any) (any, *Error) {
	sorted := slices.SortedFunc(maps.Values(s.Certificates), func(a, b *Certificate) int {
		if r.URL.Query().Get("isAscendingOrder") == "true" {
			a, b = b, a
		}
		return b.made.Compare(a.made)
	})
	all := []map[string]any{}
	for _, c := range sorted {
		all = append(all, map[string]any{"certificateArn": c.ARN, "certificateId": c.ID, "status": c.Status, "creationDate": float64(c.made.UnixMilli()) / 1000})
	}
	page, next, fail := paged(all, r.URL.Query().Get("marker"))
	return map[string]any{"certificates": page, "nextMarker": next}, fail
}

// certificate finds one by the id in a request's path.
func (s *Server) certificate(r *http.Request) (*Certificate, *Error) {
	if c := s.Certificates[r.PathValue("id")]; c != nil {
		return c, nil
	}
	return nil, notFound("Certificate %s does not exist", r.PathValue("id"))
}

func (s *Server) describeCertificate(r *http.Request, _ map[string]any) (any, *Error) {
	c, fail := s.certificate(r)
	if fail != nil {
		return nil, fail
	}
	return map[string]any{"certificateDescription": map[string]any{"certificateArn": c.ARN, "certificateId": c.ID, "status": c.Status, "certificatePem": c.PEM, "creationDate": float64(c.made.UnixMilli()) / 1000}}, nil
}

func (s *Server) updateCertificate(r *http.Request, _ map[string]any) (any, *Error) {
	c, fail := s.certificate(r)
	if fail != nil {
		return nil, fail
	}
	status := r.URL.Query().Get("newStatus")
	if status != "ACTIVE" && status != "INACTIVE" && status != "REVOKED" {
		return nil, badRequest("new status %q", status)
	}
	c.Status = status
	return nil, nil
}

func (s *Server) deleteCertificate(r *http.Request, _ map[string]any) (any, *Error) {
	c, fail := s.certificate(r)
	switch {
	case fail != nil:
		return nil, fail
	case c.Status == "ACTIVE":
		return nil, &Error{"CertificateStateException", http.StatusNotAcceptable, "Certificate must be deactivated (not ACTIVE) before deletion."}
	case len(c.Things) > 0:
		return nil, conflict("Things must be detached before deletion (arn: %s)", c.ARN)
	case len(c.Policies) > 0 && r.URL.Query().Get("forceDelete") != "true":
		return nil, conflict("Certificate policies must be detached before deletion (arn: %s)", c.ARN)
	}
	delete(s.Certificates, c.ID)
	return nil, nil
}

func (s *Server) describeEndpoint(r *http.Request, _ map[string]any) (any, *Error) {
	if r.URL.Query().Get("endpointType") != "iot:Data-ATS" {
		return nil, badRequest("endpoint type %q", r.URL.Query().Get("endpointType"))
	}
	return map[string]any{"endpointAddress": s.Endpoint()}, nil
}
