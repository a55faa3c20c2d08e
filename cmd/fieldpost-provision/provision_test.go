package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"fieldpost/cmd/fieldpost-provision/controltest"
	"fieldpost/daemon/identity"

	"github.com/aws/smithy-go"
)

// child in the environment has the test binary run the real main.
const child = "FIELDPOST_PROVISION_CHILD"

func TestMain(m *testing.M) {
	if os.Getenv(child) != "" {
		os.Exit(Main())
	}
	os.Exit(m.Run())
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

const configuration = `thing: thing-greenhouse   # é
broker:
  endpoint: a1b2c3d4e5-ats.iot.ap-south-1.amazonaws.com:443   # here
readings: {topic: test/topic}
commands: {topic: test/orders, answers: test/answers}
sensors:
  - {name: cpu, chip: thermal}
outputs:
  - {name: led, pin: GPIO27}
`

// site is a directory with a configuration, and a control plane.
type site struct {
	*controltest.Server
	t   *testing.T
	dir string
}

// newSite makes one, and an environment with credentials for it.
func newSite(t *testing.T) *site {
	t.Helper()
	s := &site{Server: controltest.New(t), t: t, dir: t.TempDir()}
	s.configure(configuration)
	for name, value := range map[string]string{
		"AWS_ACCESS_KEY_ID": controltest.AccessKey, "AWS_SECRET_ACCESS_KEY": controltest.SecretKey, "AWS_SESSION_TOKEN": "",
		"AWS_CONFIG_FILE": filepath.Join(t.TempDir(), "config"), "AWS_SHARED_CREDENTIALS_FILE": filepath.Join(t.TempDir(), "credentials"),
		"AWS_EC2_METADATA_DISABLED": "true", "AWS_PROFILE": "", "AWS_REGION": "", "AWS_DEFAULT_REGION": "", "AWS_MAX_ATTEMPTS": "1",
		"AWS_ENDPOINT_URL": "", "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI": "", "AWS_CONTAINER_CREDENTIALS_FULL_URI": "", "AWS_WEB_IDENTITY_TOKEN_FILE": "",
	} {
		t.Setenv(name, value)
		if value == "" {
			must(t, os.Unsetenv(name)) // the end of the test sets it as it was
		}
	}
	return s
}

// setFault sets what the control plane does wrong from now on.
func (s *site) setFault(f func(action string) *controltest.Error) {
	s.Mu.Lock()
	defer s.Mu.Unlock()
	s.Fault = f
}

func (s *site) path(name string) string { return filepath.Join(s.dir, name) }

func (s *site) configure(text string) {
	s.t.Helper()
	must(s.t, os.WriteFile(s.path("fieldpost.yaml"), []byte(text), 0o640))
}

// read gives a file's content, "" if there is none.
func (s *site) read(name string) string {
	data, err := os.ReadFile(s.path(name))
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		s.t.Error(err)
	}
	return string(data)
}

// args are those of a run against the control plane.
func (s *site) args(more ...string) []string {
	return append([]string{"-c", s.path("fieldpost.yaml"), "--endpoint-url", s.URL}, more...)
}

// run runs the command line here. What it prints is out, what it says of an error is said.
func (s *site) run(more ...string) (out, said string, status int) {
	s.t.Helper()
	root := newRoot()
	var o, e bytes.Buffer
	root.SetOut(&o)
	root.SetErr(&e)
	root.SetArgs(s.args(more...))
	status = report(&e, root.ExecuteContext(context.Background()))
	return o.String(), e.String(), status
}

// ok runs the command line and wants success.
func (s *site) ok(more ...string) string {
	s.t.Helper()
	out, said, status := s.run(more...)
	if status != 0 {
		s.t.Fatalf("%q: status %d\n%s%s", more, status, out, said)
	}
	return out
}

// fails runs the command line and wants a failure that says all of this.
func (s *site) fails(status int, words []string, more ...string) {
	s.t.Helper()
	out, said, got := s.run(more...)
	if got != status {
		s.t.Errorf("%q: status %d, want %d\n%s%s", more, got, status, out, said)
	}
	for _, w := range words {
		if !strings.Contains(said, w) {
			s.t.Errorf("%q says\n%swant %q", more, said, w)
		}
	}
}

// complete checks that all is there, once.
func (s *site) complete() *controltest.Certificate {
	s.t.Helper()
	s.Mu.Lock()
	defer s.Mu.Unlock()
	if len(s.Things) != 1 || len(s.Policies) != 1 || len(s.Certificates) != 1 {
		s.t.Fatalf("%d things, %d policies, %d certificates", len(s.Things), len(s.Policies), len(s.Certificates))
	}
	for _, c := range s.Certificates {
		if c.Status != "ACTIVE" || !slices.Equal(c.Policies, []string{"fieldpost-thing-greenhouse"}) || !slices.Equal(c.Things, []string{"thing-greenhouse"}) {
			s.t.Errorf("certificate %s with policies %q and things %q", c.Status, c.Policies, c.Things)
		}
		if s.read("certs/certificate.pem.crt") != c.PEM {
			s.t.Error("the file holds another certificate")
		}
		if r := identity.Inspect(s.Now(), s.path("certs/AmazonRootCA1.pem"), s.path("certs/certificate.pem.crt"), s.path("certs/private.pem.key"), s.path("certs/certificate.pem.csr")); r.Problems != 0 {
			s.t.Errorf("the files: %+v", r)
		}
		if info, err := os.Stat(s.path("certs/private.pem.key")); err != nil || info.Mode().Perm() != 0o600 {
			s.t.Errorf("the key: %v, %v", info.Mode(), err)
		}
		return c
	}
	return nil
}

// gone checks that an undo has left nothing.
func (s *site) gone() {
	s.t.Helper()
	if !s.Empty() {
		s.t.Errorf("left at AWS: %d things, %d policies, %d certificates", len(s.Things), len(s.Policies), len(s.Certificates))
	}
	files, err := filepath.Glob(s.path("certs/*"))
	must(s.t, err)
	if len(files) > 0 {
		s.t.Errorf("left here: %q", files)
	}
	if s.read("fieldpost.yaml") != configuration {
		s.t.Errorf("the configuration was changed:\n%s", s.read("fieldpost.yaml"))
	}
}

// Everything is made once, found the second time, and removed by undo.
func TestProvision(t *testing.T) {
	s := newSite(t)
	out := s.ok()
	for _, line := range []string{
		"made     private key        " + s.path("certs/private.pem.key"),
		"made     thing              thing-greenhouse",
		"made     policy             fieldpost-thing-greenhouse",
		"made     policy attachment  fieldpost-thing-greenhouse",
		"made     thing attachment   thing-greenhouse",
		"endpoint                    a1b2c3d4e5-ats.iot.ap-south-1.amazonaws.com",
	} {
		if !strings.Contains(out, line+"\n") {
			t.Errorf("no %q in\n%s", line, out)
		}
	}
	c := s.complete()
	if doc := s.Policies["fieldpost-thing-greenhouse"].Versions[1]; !strings.Contains(doc, "arn:aws:iot:ap-south-1:123456789012:topicfilter/test/orders") {
		t.Errorf("policy %s", doc)
	}
	key := s.read("certs/private.pem.key")
	calls := len(s.Calls)

	again := s.ok()
	if strings.Contains(again, "made ") || !strings.Contains(again, "kept     certificate        "+c.ID) {
		t.Errorf("the second run says\n%s", again)
	}
	for _, call := range s.Calls[calls:] {
		if strings.HasPrefix(call, "Create") || strings.HasPrefix(call, "Attach") || strings.HasPrefix(call, "Update") || strings.HasPrefix(call, "Delete") {
			t.Errorf("the second run has asked for %s", call)
		}
	}
	if s.complete().ID != c.ID || s.read("certs/private.pem.key") != key {
		t.Error("the second run has changed the pair")
	}

	s.fails(1, []string{"nothing was done", "hint: add --yes"}, "--undo")
	s.complete()
	s.ok("--undo", "--yes")
	s.gone()
	s.fails(1, []string{"nothing to undo"}, "--undo", "--yes")
	s.ok()
	s.complete()
}

// The endpoint is written if asked for, with the port that was there, and put back.
func TestWriteEndpoint(t *testing.T) {
	s := newSite(t)
	s.configure(strings.Replace(configuration, "a1b2c3d4e5-ats.iot.ap-south-1.amazonaws.com", "other-ats.iot.eu-west-1.amazonaws.com", 1))
	before := s.read("fieldpost.yaml")
	s.fails(1, []string{`wrong region: broker.endpoint in`, "is in eu-west-1, and this would be made in ap-south-1", "--region eu-west-1"}, "--region", "ap-south-1")
	if len(s.Things) > 0 || s.read("certs/private.pem.key") != "" {
		t.Error("something was made all the same")
	}
	s.ok("--region", "ap-south-1", "--write-endpoint")
	if got := s.read("fieldpost.yaml"); got != configuration {
		t.Errorf("got\n%s", got)
	}
	if info, err := os.Stat(s.path("fieldpost.yaml")); err != nil || info.Mode().Perm() != 0o640 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
	s.ok("--undo", "--yes")
	if got := s.read("fieldpost.yaml"); got != before {
		t.Errorf("after the undo\n%s", got)
	}
	if !s.Empty() {
		t.Error("something is left")
	}
}

// What others have made is used and not removed.
func TestKeepsWhatIsOthers(t *testing.T) {
	s := newSite(t)
	pair, err := identity.Make(identity.FilesIn(s.path("certs")), "", "x", nil)
	must(t, err)
	s.ok()
	id := s.complete().ID
	for _, made := range []string{"provision.json"} { // whoever made it has taken the record along
		must(t, os.Remove(s.path("certs/"+made)))
	}
	out := s.ok()
	for _, what := range []string{"private key", "thing ", "policy ", "certificate ", "policy attachment", "thing attachment"} {
		if !strings.Contains(out, "found    "+what) {
			t.Errorf("no %q found in\n%s", what, out)
		}
	}
	s.fails(1, []string{"nothing to undo"}, "--undo", "--yes")
	key, err := identity.ReadKey(s.path("certs/private.pem.key"))
	must(t, err)
	if s.complete().ID != id || !identity.SameKey(pair.Key.Public(), key.Public()) {
		t.Error("the pair was changed")
	}
	// Only what this has attached is detached.
	s.Mu.Lock()
	s.Certificates[id].Policies = nil
	s.Mu.Unlock()
	if out := s.ok(); !strings.Contains(out, "made     policy attachment") {
		t.Errorf("got\n%s", out)
	}
	s.ok("--undo", "--yes")
	if c := s.Certificates[id]; c == nil || c.Status != "ACTIVE" || len(c.Policies) != 0 || len(c.Things) != 1 || len(s.Policies) != 1 || len(s.Things) != 1 {
		t.Errorf("after the undo: %+v", c)
	}
}

// A policy of ours follows the configuration; when AWS keeps five versions, the oldest goes.
func TestPolicyVersions(t *testing.T) {
	s := newSite(t)
	s.ok()
	for i := range 7 {
		s.configure(strings.Replace(configuration, "test/orders", fmt.Sprintf("test/orders%d", i), 1))
		s.ok()
		p := s.Policies["fieldpost-thing-greenhouse"]
		if doc := p.Versions[p.Default]; !strings.Contains(doc, fmt.Sprintf("test/orders%d\"", i)) || len(p.Versions) != min(i+2, 5) {
			t.Fatalf("change %d: %d versions, the default %s", i, len(p.Versions), doc)
		}
	}
	s.configure(configuration)
	s.ok()
	s.ok("--undo", "--yes")
	s.gone()
}

// A policy of the same name that was not made here is left alone, with or without our record.
func TestForeignPolicy(t *testing.T) {
	s := newSite(t)
	s.Policies["fieldpost-thing-greenhouse"] = &controltest.Policy{Versions: map[int]string{1: `{"Version":"2012-10-17","Statement":[]}`}, Default: 1}
	s.fails(1, []string{`policy "fieldpost-thing-greenhouse" exists, is not what this configuration needs, and was not made by this`, "--policy-name"})
	s.ok("--policy-name", "other")
	s.ok("--undo", "--yes")
	if len(s.Policies) != 1 || len(s.Things) != 0 {
		t.Error("the undo has taken what is not ours, or left what is")
	}
}

// What others use meanwhile stays, and so does its entry.
func TestUndoLeavesWhatIsInUse(t *testing.T) {
	s := newSite(t)
	s.ok()
	id := s.complete().ID
	other := &controltest.Certificate{ID: "f00", ARN: s.ARN("cert", "f00"), Status: "ACTIVE", Policies: []string{"fieldpost-thing-greenhouse"}, Things: []string{"thing-greenhouse"}}
	s.Certificates["f00"] = other
	must(t, os.WriteFile(s.path("certs/AmazonRootCA1.pem"), []byte("mine"), 0o600))
	out, said, status := s.run("--undo", "--yes")
	if status != 1 || !strings.Contains(out, "left     policy             fieldpost-thing-greenhouse: it is attached to "+other.ARN) || !strings.Contains(out, "left     thing              thing-greenhouse: Cannot delete") || !strings.Contains(out, "was changed since") || !strings.Contains(said, "3 of what was made is left") {
		t.Errorf("status %d\n%s%s", status, out, said)
	}
	if s.Certificates[id] != nil || len(other.Policies) != 1 || s.Policies["fieldpost-thing-greenhouse"] == nil || s.Things["thing-greenhouse"] == nil || s.read("certs/AmazonRootCA1.pem") != "mine" {
		t.Error("it has taken what others use")
	}
	delete(s.Certificates, "f00")
	must(t, os.Remove(s.path("certs/AmazonRootCA1.pem")))
	s.ok("--undo", "--yes")
	s.gone()
}

// Each answer that is an error is told as what it is, and the next run goes on.
func TestErrors(t *testing.T) {
	for _, action := range []string{"GetCallerIdentity", "DescribeEndpoint", "DescribeThing", "CreateThing", "GetPolicy", "CreatePolicy", "CreateCertificateFromCsr", "ListAttachedPolicies", "AttachPolicy", "ListThingPrincipals", "AttachThingPrincipal"} {
		for code, tc := range map[string]struct {
			status int
			want   []string
		}{
			"AccessDeniedException":       {http.StatusForbidden, []string{":" + action + ": access denied: not so", "hint: allow"}},
			"ThrottlingException":         {http.StatusBadRequest, []string{":" + action + ": AWS answers that there are too many requests", "run this again in a minute"}},
			"InternalFailureException":    {http.StatusInternalServerError, []string{":" + action + ": AWS failed with InternalFailureException: not so", "run this again"}},
			"UnrecognizedClientException": {http.StatusForbidden, []string{"AWS does not know these credentials"}},
		} {
			t.Run(action+" "+code, func(t *testing.T) {
				s := newSite(t)
				s.setFault(func(a string) *controltest.Error {
					if a == action {
						return &controltest.Error{Type: code, Status: tc.status, Message: "not so"}
					}
					return nil
				})
				s.fails(1, tc.want)
				s.setFault(nil)
				s.ok()
				s.complete()
				s.ok("--undo", "--yes")
				s.gone()
			})
		}
	}
}

// A refusal that says "too many requests" is asked again; what may have been done is not.
func TestRetries(t *testing.T) {
	s := newSite(t)
	t.Setenv("AWS_MAX_ATTEMPTS", "2")
	refusals := map[string]int{}
	s.setFault(func(a string) *controltest.Error {
		if refusals[a]++; a == "CreateCertificateFromCsr" && refusals[a] == 1 {
			return &controltest.Error{Type: "ThrottlingException", Status: http.StatusBadRequest, Message: "Rate exceeded"}
		}
		return nil
	})
	s.ok()
	s.complete()
	if n := s.Asked("CreateCertificateFromCsr"); n != 2 {
		t.Errorf("asked %d times", n)
	}
	s.ok("--undo", "--yes")
	s.setFault(func(a string) *controltest.Error {
		if a == "CreateCertificateFromCsr+" {
			return controltest.Hangup
		}
		return nil
	})
	s.fails(1, []string{"iot:CreateCertificateFromCsr", "run this again; it continues where it stopped"})
	if n := s.Asked("CreateCertificateFromCsr"); n != 3 || len(s.Certificates) != 1 {
		t.Errorf("asked %d times, %d certificates", n, len(s.Certificates))
	}
	s.setFault(nil)
	s.ok()
	s.complete()
}

// The certificate of a request without an answer is found among many, and not mistaken.
func TestFindsItsCertificate(t *testing.T) {
	s := newSite(t)
	lose := func(action string) {
		s.setFault(func(a string) *controltest.Error {
			if a == action {
				return controltest.Hangup
			}
			return nil
		})
	}
	lose("CreateCertificateFromCsr+")
	s.fails(1, []string{"no answer"})
	s.setFault(nil)
	other := newSite(t) // with keys of its own, in the same account
	other.Server = s.Server
	for i := range 7 {
		other.configure(strings.Replace(configuration, "thing-greenhouse", fmt.Sprintf("thing-%d", i), 1))
		must(t, os.RemoveAll(other.path("certs")))
		other.ok()
	}
	out := s.ok()
	if !strings.Contains(out, "made     certificate") || len(s.Certificates) != 8 {
		t.Errorf("%d certificates\n%s", len(s.Certificates), out)
	}
	s.ok("--undo", "--yes")
	if len(s.Certificates) != 7 || len(s.Things) != 7 {
		t.Errorf("%d certificates, %d things", len(s.Certificates), len(s.Things))
	}
	// An undo finds it too.
	lose("CreateCertificateFromCsr+")
	s.fails(1, []string{"no answer"})
	s.setFault(nil)
	if len(s.Certificates) != 8 {
		t.Fatal("there is no eighth certificate")
	}
	s.ok("--undo", "--yes")
	if len(s.Certificates) != 7 || len(s.Things) != 7 {
		t.Errorf("%d certificates, %d things", len(s.Certificates), len(s.Things))
	}
}

// What cannot be right is refused before anything is made.
func TestRefuses(t *testing.T) {
	s := newSite(t)
	for _, tc := range []struct {
		args   []string
		status int
		want   string
	}{
		{[]string{"--yes"}, 2, "--yes goes with --undo"},
		{[]string{"extra"}, 2, `unknown argument "extra"`},
		{[]string{"--nonsense"}, 2, "unknown flag"},
		{[]string{"--policy-name", "a/b"}, 2, `--policy-name "a/b"`},
		{[]string{"--attribute", "a b=c"}, 2, "--attribute a b=c: want"},
		{[]string{"--attribute", "a=1,b=2,c=3,d=4"}, 2, "4 attributes"},
		{[]string{"--thing-type", "a b"}, 2, "--thing-type"},
		{[]string{"--key-type", "dsa"}, 2, "--key-type"},
		{[]string{"--region", "Mumbai"}, 2, `--region "Mumbai"`},
		{[]string{"--endpoint-url", "localhost"}, 2, "--endpoint-url"},
		{[]string{"--print"}, 2, "give its twelve digits with --account"},
		{[]string{"--account", "210987654321"}, 1, "the credentials are those of account 123456789012"},
		{[]string{"--profile", "none"}, 1, "read the AWS CLI's configuration"},
		{[]string{"-c", s.path("none.yaml")}, 78, "none.yaml"},
		{[]string{"--thing-variables", "--send"}, 1, "is no thing's name"},
	} {
		s.fails(tc.status, []string{tc.want}, tc.args...)
	}
	s.configure(strings.Replace(configuration, "thing: thing-greenhouse", "thing: a.b", 1))
	s.fails(78, []string{"thing: is no name for a thing in AWS IoT", "a.b"})
	s.configure(strings.Replace(configuration, "readings:", "  certificate: none\n  username: u\nreadings:", 1))
	s.fails(78, []string{"broker.certificate: is none"})
	s.configure(strings.Replace(configuration, "a1b2c3d4e5-ats.iot.ap-south-1.amazonaws.com", "broker.lan", 1))
	s.fails(2, []string{"no region"})
	s.configure(configuration)
	t.Setenv("AWS_ACCESS_KEY_ID", "")
	t.Setenv("AWS_SECRET_ACCESS_KEY", "")
	s.fails(1, []string{"no AWS credentials", "hint: run `aws configure`"})
	t.Setenv("AWS_ACCESS_KEY_ID", controltest.AccessKey)
	t.Setenv("AWS_SECRET_ACCESS_KEY", "wrong")
	s.fails(1, []string{"AWS does not take the signature", "check the secret key, this machine's clock"})
	t.Setenv("AWS_ACCESS_KEY_ID", "AKIAOTHER")
	s.fails(1, []string{"AWS does not know these credentials"})
	if !s.Empty() || s.read("certs/private.pem.key") != "" {
		t.Error("something was made")
	}
}

// What is there and does not fit is left alone, and said.
func TestDoesNotFit(t *testing.T) {
	elsewhere := newSite(t)
	elsewhere.ok()
	for name, tc := range map[string]struct {
		prepare func(*site)
		args    []string
		want    string
	}{
		"a thing with other attributes": {func(s *site) {
			s.Things["thing-greenhouse"] = &controltest.Thing{Attributes: map[string]string{"site": "north"}}
		}, nil, `thing "thing-greenhouse" exists with other attributes: type none, site=north; wanted: type none`},
		"a thing of another type": {func(s *site) { s.Things["thing-greenhouse"] = &controltest.Thing{Type: "board"} },
			[]string{"--attribute", "site=north"}, "type board; wanted: type none, site=north"},
		"another account's certificate": {func(s *site) {
			must(t, os.CopyFS(s.path("certs"), os.DirFS(elsewhere.path("certs"))))
			must(t, os.Remove(s.path("certs/provision.json")))
		}, nil, "is not registered in account 123456789012, region ap-south-1"},
		"another account's state": {func(s *site) {
			must(t, os.CopyFS(s.path("certs"), os.DirFS(elsewhere.path("certs"))))
			s.Account = "210987654321"
		},
			nil, "is about thing \"thing-greenhouse\" in account 123456789012"},
		"a certificate that was deleted": {func(s *site) { s.ok(); clear(s.Certificates) }, nil, "is not there any more\nhint: run --undo --yes"},
		"a certificate that was deactivated": {func(s *site) {
			s.ok()
			for _, c := range s.Certificates {
				c.Status = "INACTIVE"
			}
		}, nil, "is INACTIVE: no device can connect with it"},
		"a key that was replaced": {func(s *site) {
			s.ok()
			must(t, os.Remove(s.path("certs/private.pem.key")))
			must(t, os.Remove(s.path("certs/certificate.pem.csr")))
			_, err := identity.Make(identity.Files{Key: s.path("certs/private.pem.key"), Request: s.path("certs/certificate.pem.csr"), Certificate: "none"}, "", "x", nil)
			must(t, err)
		}, nil, "does not belong to certificate"},
		"a certificate for another key": {func(s *site) {
			must(t, os.MkdirAll(s.path("certs"), 0o700))
			must(t, os.WriteFile(s.path("certs/certificate.pem.crt"), []byte(elsewhere.read("certs/certificate.pem.crt")), 0o600))
			_, err := identity.Make(identity.Files{Key: s.path("certs/private.pem.key"), Request: s.path("certs/certificate.pem.csr"), Certificate: "none"}, "", "x", nil)
			must(t, err)
		}, nil, "does not belong to the private key"},
		"a state of the future": {func(s *site) {
			must(t, os.MkdirAll(s.path("certs"), 0o700))
			must(t, os.WriteFile(s.path("certs/provision.json"), []byte(`{"format":2,"made":[]}`), 0o600))
		}, nil, "is not the state of this version"},
		"a state cut short": {func(s *site) {
			s.ok()
			must(t, os.WriteFile(s.path("certs/provision.json"), []byte(s.read("certs/provision.json")[:50]), 0o600))
		}, nil, "do not delete it unread"},
		"an undo that did not end": {func(s *site) {
			s.ok()
			s.setFault(func(a string) *controltest.Error {
				if a == "DeletePolicy" {
					return &controltest.Error{Type: "AccessDeniedException", Status: 403, Message: "no"}
				}
				return nil
			})
			s.fails(1, []string{"iot:DeletePolicy: access denied"}, "--undo", "--yes")
			s.setFault(nil)
		}, nil, "an undo was begun and did not end\nhint: end it with --undo --yes"},
	} {
		t.Run(name, func(t *testing.T) {
			s := newSite(t)
			tc.prepare(s)
			before := fmt.Sprint(len(s.Things), len(s.Policies), len(s.Certificates))
			s.fails(1, []string{tc.want}, tc.args...)
			if after := fmt.Sprint(len(s.Things), len(s.Policies), len(s.Certificates)); after[len(after)-1] != before[len(before)-1] {
				t.Errorf("had %s, has %s", before, after)
			}
		})
	}
}

// kill runs the real program in a process of its own and kills it at the n-th request of all,
// before it is carried out or after. It reports whether there was an n-th.
func (s *site) kill(n int, after bool, more ...string) (killed bool, out string) {
	s.t.Helper()
	cmd := exec.Command(os.Args[0], s.args(more...)...)
	cmd.Env = append(os.Environ(), child+"=1")
	var said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &said, &said
	count := 0
	process := make(chan *os.Process, 1)
	var mu sync.Mutex
	s.setFault(func(a string) *controltest.Error {
		mu.Lock()
		defer mu.Unlock()
		if strings.HasSuffix(a, "+") != after {
			return nil
		}
		if count++; count < n {
			return nil
		}
		if !killed {
			killed = true
			_ = (<-process).Kill()
		}
		return controltest.Hangup
	})
	must(s.t, cmd.Start())
	process <- cmd.Process
	err := cmd.Wait()
	s.setFault(nil)
	mu.Lock()
	defer mu.Unlock()
	if !killed && err != nil {
		s.t.Fatalf("%v: %s", err, said.String())
	}
	return killed, said.String()
}

// Killed at any request, before AWS has done it or before the answer came, the next run goes on
// without a second certificate, and an undo takes all of it back.
func TestKilledAtEachRequest(t *testing.T) {
	for _, after := range []bool{false, true} {
		for n := 1; ; n++ {
			s := newSite(t)
			killed, _ := s.kill(n, after)
			if killed {
				s.ok()
			}
			s.complete()
			if strings.Contains(s.read("certs/provision.json"), `"sure": false`) {
				t.Errorf("killed at %d: still unsure: %s", n, s.read("certs/provision.json"))
			}
			s.ok("--undo", "--yes")
			s.gone()
			if !killed {
				if n < 10 {
					t.Errorf("only %d requests", n-1)
				}
				break
			}
			// And an undo right after the kill.
			s.kill(n, after)
			if s.read("certs/provision.json") == "" || strings.Contains(s.read("certs/provision.json"), `"made": []`) {
				continue // nothing was made yet
			}
			s.ok("--undo", "--yes")
			s.gone()
		}
	}
}

// The same for an undo.
func TestUndoKilledAtEachRequest(t *testing.T) {
	for _, after := range []bool{false, true} {
		for n := 1; ; n++ {
			s := newSite(t)
			s.ok()
			s.configure(strings.Replace(configuration, "test/orders", "test/other", 1))
			s.ok() // a second version of the policy
			s.configure(configuration)
			killed, _ := s.kill(n, after, "--undo", "--yes")
			if killed && s.read("certs/provision.json") != "" {
				s.ok("--undo", "--yes")
			}
			s.gone()
			if !killed {
				if n < 8 {
					t.Errorf("only %d requests", n-1)
				}
				break
			}
		}
	}
}

// A file that is missing after a kill between two writes is written again.
func TestFileIsMissing(t *testing.T) {
	for _, name := range []string{"certificate.pem.crt", "AmazonRootCA1.pem", "certificate.pem.csr"} {
		s := newSite(t)
		s.ok()
		must(t, os.Remove(s.path("certs/"+name)))
		s.ok()
		s.complete()
		s.ok("--undo", "--yes")
		s.gone()
	}
}

// Two runs at once: one works, the other says so or finds all done.
func TestTwiceAtOnce(t *testing.T) {
	s := newSite(t)
	var wait sync.WaitGroup
	for range 6 {
		wait.Go(func() {
			cmd := exec.Command(os.Args[0], s.args()...)
			cmd.Env = append(os.Environ(), child+"=1")
			if out, err := cmd.CombinedOutput(); err != nil && !strings.Contains(string(out), "another fieldpost-provision works on") {
				t.Errorf("%v: %s", err, out)
			}
		})
	}
	wait.Wait()
	s.ok()
	s.complete()
	s.ok("--undo", "--yes")
	s.gone()
}

// A disk on which the state cannot be written stops a run before anything is made.
func TestStateCannotBeWritten(t *testing.T) {
	s := newSite(t)
	must(t, os.MkdirAll(s.path("state/provision.json"), 0o700)) // a directory has the name
	s.fails(1, []string{"provision.json"}, "--state", s.path("state/provision.json"))
	if !s.Empty() {
		t.Error("something was made")
	}
}

// Things with attributes and a shared policy.
func TestOptions(t *testing.T) {
	s := newSite(t)
	args := []string{"--attribute", "site=north", "--thing-type", "board", "--thing-variables", "--key-type", "rsa2048"}
	s.ok(args...)
	s.ok(args...)
	if th := s.Things["thing-greenhouse"]; th.Type != "board" || th.Attributes["site"] != "north" {
		t.Errorf("thing %+v", th)
	}
	if p := s.Policies["fieldpost"]; p == nil || !strings.Contains(p.Versions[1], "${iot:Connection.Thing.ThingName}") || strings.Contains(p.Versions[1], "thing-greenhouse") {
		t.Errorf("policies %v", s.Policies)
	}
	// A second board uses the policy of the first, whose undo leaves it.
	other := newSite(t)
	other.Server = s.Server
	other.configure(strings.Replace(configuration, "thing: thing-greenhouse", "thing: thing-2", 1))
	if out := other.ok("--thing-variables"); !strings.Contains(out, "found    policy             fieldpost\n") {
		t.Errorf("got\n%s", out)
	}
	s.fails(1, []string{"1 of what was made is left"}, "--undo", "--yes")
	if s.Policies["fieldpost"] == nil || len(s.Certificates) != 1 || len(s.Things) != 1 {
		t.Error("the first's undo has taken the second's")
	}
	other.ok("--undo", "--yes")
	s.ok("--undo", "--yes")
	if !s.Empty() {
		t.Error("something is left")
	}
}

// A control plane that never answers does not hold a run up for ever.
func TestNeverAnswered(t *testing.T) {
	s := newSite(t)
	defer func(was time.Duration) { requestTimeout = was }(requestTimeout)
	requestTimeout = 300 * time.Millisecond
	end := make(chan struct{})
	s.setFault(func(a string) *controltest.Error {
		if a == "CreateCertificateFromCsr+" {
			<-end
		}
		return nil
	})
	s.fails(1, []string{"iot:CreateCertificateFromCsr: no answer within 300ms", "it continues where it stopped"})
	close(end)
	s.setFault(nil)
	requestTimeout = time.Minute
	s.ok()
	s.complete()
}

// What AWS refused was not made, and nothing is searched for it.
func TestRefusedIsForgotten(t *testing.T) {
	s := newSite(t)
	s.setFault(func(a string) *controltest.Error {
		if a == "CreateCertificateFromCsr" || a == "ListCertificates" {
			return &controltest.Error{Type: "AccessDeniedException", Status: http.StatusForbidden, Message: "no"}
		}
		return nil
	})
	for range 2 {
		s.fails(1, []string{"iot:CreateCertificateFromCsr: access denied"})
	}
	if state := s.read("certs/provision.json"); strings.Contains(state, `"what": "certificate"`) || strings.Contains(state, `"sure": false`) {
		t.Errorf("state %s", state)
	}
}

// An undo that was killed when nothing was left does not stand in the way.
func TestUndoKilledAtItsEnd(t *testing.T) {
	s := newSite(t)
	must(t, os.MkdirAll(s.path("certs"), 0o700))
	must(t, os.WriteFile(s.path("certs/provision.json"), []byte(`{"format":1,"account":"1","undoing":true,"made":[]}`), 0o600))
	s.ok()
	s.complete()
}

// What was attached to a certificate of the user's is detached, though its file is gone.
func TestDetachesWithoutTheFile(t *testing.T) {
	s := newSite(t)
	s.ok()
	id := s.complete().ID
	must(t, os.Remove(s.path("certs/provision.json")))
	s.Certificates[id].Policies, s.Certificates[id].Things = nil, nil
	s.ok()
	must(t, os.Remove(s.path("certs/certificate.pem.crt")))
	s.ok("--undo", "--yes")
	if c := s.Certificates[id]; c == nil || len(c.Policies)+len(c.Things) != 0 {
		t.Errorf("after the undo: %+v", c)
	}
}

// A certificate that is not what its id says is not written.
func TestAnotherCertificateIsAnswered(t *testing.T) {
	s := newSite(t)
	s.ok()
	id := s.complete().ID
	must(t, os.Remove(s.path("certs/certificate.pem.crt")))
	other := newSite(t)
	must(t, os.CopyFS(other.path("certs"), os.DirFS(s.path("certs"))))
	must(t, os.Remove(other.path("certs/provision.json")))
	must(t, os.Chmod(other.path("certs/private.pem.key"), 0o600))
	other.ok()
	s.Certificates[id].PEM = other.complete().PEM // for the same key
	s.fails(1, []string{"AWS answered with a certificate that is not " + id})
	if s.read("certs/certificate.pem.crt") != "" {
		t.Error("it was written")
	}
}

// unsure has the state say that it does not know what became of the files, and gives one of
// them another content.
func (s *site) unsure(changed string) {
	s.t.Helper()
	var st state
	must(s.t, json.Unmarshal([]byte(s.read("certs/provision.json")), &st))
	for _, m := range st.Made {
		m.Sure = m.Sure && m.What != madeFile
		if m.Name == changed {
			m.Sum = sumOf([]byte("what was asked for"))
		}
	}
	data, err := json.Marshal(st)
	must(s.t, err)
	must(s.t, os.WriteFile(s.path("certs/provision.json"), data, 0o600))
}

// A kill between a file and the entry that it was made leaves nothing after an undo, with or
// without a run in between. A file that somebody else has put there meanwhile is left.
func TestKilledAfterAFile(t *testing.T) {
	for _, again := range []bool{true, false} {
		s := newSite(t)
		s.ok()
		s.unsure("")
		if again {
			s.ok()
		}
		s.ok("--undo", "--yes")
		s.gone()
	}
	s := newSite(t)
	s.ok()
	s.unsure(roleKey)
	if out := s.ok(); !strings.Contains(out, "found    private key") {
		t.Errorf("got\n%s", out)
	}
	s.ok("--undo", "--yes")
	if !s.Empty() || s.read("certs/private.pem.key") == "" || s.read("certs/certificate.pem.csr") != "" {
		t.Error("the key that was put there is gone, or something else is left")
	}
}

// Ctrl-C ends a run that waits, and the next one goes on.
func TestInterrupted(t *testing.T) {
	s := newSite(t)
	cmd := exec.Command(os.Args[0], s.args()...)
	cmd.Env = append(os.Environ(), child+"=1")
	var said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &said, &said
	ended, process := make(chan struct{}), make(chan *os.Process, 1)
	s.setFault(func(a string) *controltest.Error {
		if a != "CreateCertificateFromCsr+" {
			return nil
		}
		if err := (<-process).Signal(os.Interrupt); err != nil {
			t.Error(err)
		}
		<-ended
		return controltest.Hangup
	})
	must(t, cmd.Start())
	process <- cmd.Process
	err := cmd.Wait()
	close(ended)
	if err == nil || !strings.Contains(said.String(), "iot:CreateCertificateFromCsr: interrupted\nhint: run this again; it continues where it stopped") {
		t.Errorf("%v: %s", err, said.String())
	}
	s.setFault(nil)
	s.ok()
	s.complete()
}

// Of two boards that share a policy and are registered at once, the slower is told to try again.
func TestPolicyOfAnother(t *testing.T) {
	s := newSite(t)
	s.setFault(func(a string) *controltest.Error {
		if a == "CreatePolicy" {
			s.Mu.Lock()
			defer s.Mu.Unlock()
			s.Policies["fieldpost"] = &controltest.Policy{Versions: map[int]string{1: `{"Version":"2012-10-17","Statement":[]}`}, Default: 1}
		}
		return nil
	})
	s.fails(1, []string{"iot:CreatePolicy: somebody else has made it at the same moment", "run this again"}, "--thing-variables")
	s.setFault(nil)
	s.fails(1, []string{"was not made by this"}, "--thing-variables")
}

// What comes in the place of an answer is told as what it is.
func TestExplainNoAnswer(t *testing.T) {
	for want, err := range map[string]error{
		"iot:CreateThing: the host iot.xx-nowhere-1.amazonaws.com has no address; check the name of the region": &net.DNSError{Name: "iot.xx-nowhere-1.amazonaws.com", IsNotFound: true},
		"iot:CreateThing: interrupted; run this again":                                                          context.Canceled,
		"iot:CreateThing: dial tcp: refused; check this machine's network":                                      &net.OpError{Op: "dial", Net: "tcp", Err: errors.New("refused")},
		"iot:CreateThing: the credentials have expired: old; log in again":                                      &smithy.GenericAPIError{Code: "ExpiredTokenException", Message: "old"},
		"iot:CreateThing: AWS failed with Odd: \"a\\x1b[2J\"; run this again":                                   &smithy.GenericAPIError{Code: "Odd", Message: "a\x1b[2J"},
		"iot:CreateThing: no answer: unexpected EOF; run this again; it continues where it stopped":             io.ErrUnexpectedEOF,
	} {
		var e explained
		if got := explain("iot:CreateThing", fmt.Errorf("operation error IoT: %w", err)); !errors.As(got, &e) || !strings.HasPrefix(got.Error()+"; "+e.hint, strings.Replace(want, "no answer: unexpected EOF", "no answer: operation error IoT: unexpected EOF", 1)) {
			t.Errorf("got %v; %s\nwant %s", got, e.hint, want)
		}
	}
}

// A certificate that has to stay keeps its key.
func TestUndoLeavesTheKeyOfACertificate(t *testing.T) {
	s := newSite(t)
	s.ok()
	c := s.complete()
	c.Policies = append(c.Policies, "other")
	out, _, status := s.run("--undo", "--yes")
	if status != 1 || !strings.Contains(out, "left     certificate        "+c.ID+": it is inactive now, and attached to what was not attached by this") || !strings.Contains(out, "left     file               key: its certificate is left") {
		t.Errorf("status %d\n%s", status, out)
	}
	if c.Status != "INACTIVE" || s.read("certs/private.pem.key") == "" || s.read("certs/certificate.pem.crt") == "" || len(s.Things)+len(s.Policies) != 0 {
		t.Errorf("certificate %s, %d things, %d policies", c.Status, len(s.Things), len(s.Policies))
	}
	c.Policies = nil
	s.ok("--undo", "--yes")
	s.gone()
}
