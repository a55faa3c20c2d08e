package doctor_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"fieldpost/daemon/awsiot"
	"fieldpost/daemon/awsiot/need"
	"fieldpost/daemon/broker"
	"fieldpost/daemon/config"
	"fieldpost/daemon/doctor"
)

// guidePolicy is what AWS's developer guide prints for claim certificates, for the template
// "first".
const guidePolicy = `{"Version": "2012-10-17", "Statement": [
	{"Effect": "Allow", "Action": ["iot:Connect"], "Resource": "*"},
	{"Effect": "Allow", "Action": ["iot:Publish", "iot:Receive"], "Resource": ["arn:aws:iot:x:1:topic/$aws/certificates/create/*", "arn:aws:iot:x:1:topic/$aws/provisioning-templates/first/provision/*"]},
	{"Effect": "Allow", "Action": ["iot:Subscribe"], "Resource": ["arn:aws:iot:x:1:topicfilter/$aws/certificates/create/*", "arn:aws:iot:x:1:topicfilter/$aws/provisioning-templates/first/provision/*"]}]}`

// fleetMachine is a board with nothing but a claim, and a broker that provisions it.
func fleetMachine(t *testing.T, claim *awsiot.Policy) *config.Config {
	t.Helper()
	dir := t.TempDir()
	first, err := broker.ParseTemplate("first", []byte(`{"Resources": {"c": {"Type": "AWS::IoT::Certificate"}}}`))
	if err != nil {
		t.Fatal(err)
	}
	b, err := broker.New(broker.Options{Dir: filepath.Join(dir, "certs"), Provisioning: &broker.Provisioning{ClaimPolicy: claim, Templates: []*broker.Template{first}}})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- b.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	path := filepath.Join(dir, "fieldpost.yaml")
	text := fmt.Sprintf("thing: thing-7\nbroker:\n  endpoint: %s\n  provisioning: {template: first}\nreadings: {topic: t}\nspool: {dir: spool}\n", b.Addr())
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	cfg, err := config.Load(path)
	if err != nil {
		t.Fatal(err)
	}
	return cfg
}

// As long as the board has no certificate the claim is examined: that the policy of AWS's
// guide does not let it ask is said as such, and with the generated one all is well.
func TestExamineClaim(t *testing.T) {
	guide, err := awsiot.Parse([]byte(guidePolicy))
	if err != nil {
		t.Fatal(err)
	}
	cfg := fleetMachine(t, guide)
	r, err := doctor.Examine(t.Context(), doctor.Options{Config: cfg, Now: time.Now()})
	if err != nil {
		t.Fatal(err)
	}
	denied := 0
	for _, s := range r.Steps {
		if s.Name == "subscribe" && s.Outcome == doctor.Failed {
			denied++
			if s.Code != "subscribe_denied" || !s.Inferred || !strings.Contains(s.Cure, "allows only $aws/certificates/create/*") || !strings.Contains(s.Cure, "policy generate --claim") {
				t.Errorf("%+v", s)
			}
		}
	}
	if denied != 2 || r.ClientID != "thing-7-provision" || r.Steps[0].Name != "provisioning" || r.Steps[0].Outcome != doctor.Noted {
		t.Errorf("%d denied, %+v", denied, r)
	}

	text, err := need.GenerateClaim(cfg, "arn:aws:iot:eu-west-1:123456789012:")
	if err != nil {
		t.Fatal(err)
	}
	good, err := awsiot.Parse(text)
	if err != nil {
		t.Fatal(err)
	}
	if r, err = doctor.Examine(t.Context(), doctor.Options{Config: fleetMachine(t, good), Now: time.Now()}); err != nil || r.Failed != 0 {
		t.Errorf("%+v, %v", r, err)
	}
}

// A board that has its certificate is asked whether it may renew it.
func TestExamineRenewal(t *testing.T) {
	cfg := fleetMachine(t, nil)
	b := cfg.Broker
	cert, err := os.ReadFile(filepath.Join(filepath.Dir(b.CA), "certificate.pem.crt"))
	if err != nil {
		t.Fatal(err)
	}
	key, err := os.ReadFile(filepath.Join(filepath.Dir(b.CA), "private.pem.key"))
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(os.MkdirAll(filepath.Dir(b.Certificate), 0o700), os.WriteFile(b.Certificate, append(key, cert...), 0o600)); err != nil {
		t.Fatal(err)
	}
	renewal := func(cfg *config.Config) doctor.Step {
		t.Helper()
		r, err := doctor.Examine(t.Context(), doctor.Options{Config: cfg, Now: time.Now()})
		if err != nil || r.Failed > 0 {
			t.Fatalf("%+v, %v", r, err)
		}
		for _, s := range r.Steps {
			if s.Name == "renewal" {
				return s
			}
		}
		t.Fatalf("%+v", r.Steps)
		return doctor.Step{}
	}
	if s := renewal(cfg); s.Outcome != doctor.Passed || !strings.Contains(s.Found, "thing-7-provision") {
		t.Errorf("%+v", s)
	}
	policy, err := awsiot.Parse([]byte(`{"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "iot:*", "Resource": "*"}, {"Effect": "Deny", "Action": "iot:Subscribe", "Resource": "arn:aws:iot:x:1:topicfilter/$aws/*"}]}`))
	if err != nil {
		t.Fatal(err)
	}
	other, err := broker.New(broker.Options{Dir: filepath.Dir(b.CA), Policy: policy})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- other.Run(ctx) }()
	defer func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	}()
	denied := *cfg
	denied.Broker.Endpoint = other.Addr()
	if s := renewal(&denied); s.Outcome != doctor.Noted || !strings.Contains(s.Found, "policy of this board's certificate must allow a renewal") {
		t.Errorf("%+v", s)
	}
}

// Check looks at the claim, and at the policy of the claim.
func TestCheckClaim(t *testing.T) {
	cfg := fleetMachine(t, nil)
	write := func(name string, text []byte) string {
		path := filepath.Join(filepath.Dir(cfg.File), name)
		if err := os.WriteFile(path, text, 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	good, err := need.GenerateClaim(cfg, "arn:aws:iot:eu-west-1:123456789012:")
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	if err := doctor.Check(cfg, doctor.Machine{}, time.Now(), &out, write("good.json", good)); err != nil || !strings.HasPrefix(out.String(), "note: this board has no certificate of its own yet") {
		t.Errorf("%v\n%s", err, out.String())
	}
	out.Reset()
	err = doctor.Check(cfg, doctor.Machine{}, time.Now(), &out, write("guide.json", []byte(guidePolicy)))
	if !errors.Is(err, config.ErrUnusable) || strings.Count(out.String(), "error: policy: ") != 5 || !strings.Contains(out.String(), "create-from-csr/json (provisioning by claim)") {
		t.Errorf("%v\n%s", err, out.String())
	}
	if err := os.Truncate(cfg.Broker.Provisioning.ClaimKey, 0); err != nil {
		t.Fatal(err)
	}
	out.Reset()
	if err := doctor.Check(cfg, doctor.Machine{}, time.Now(), &out); !errors.Is(err, config.ErrUnusable) || !strings.Contains(out.String(), "claim.pem.key: it is empty") {
		t.Errorf("%v\n%s", err, out.String())
	}
}
