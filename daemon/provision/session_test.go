package provision

import (
	"context"
	"encoding/json"
	"errors"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"fieldpost/daemon/awsiot"
	"fieldpost/daemon/broker"
	"fieldpost/daemon/health"
	"fieldpost/daemon/identity"
	"fieldpost/daemon/uplink"
)

const template = `{"Parameters": {"Serial": {"Type": "String"}}, "Resources": {
	"thing": {"Type": "AWS::IoT::Thing", "Properties": {"ThingName": {"Fn::Join": ["", ["thing-", {"Ref": "Serial"}]]}}},
	"certificate": {"Type": "AWS::IoT::Certificate"}}}`

// guidePolicy is what AWS's developer guide prints for claim certificates.
const guidePolicy = `{"Version": "2012-10-17", "Statement": [
	{"Effect": "Allow", "Action": ["iot:Connect"], "Resource": "*"},
	{"Effect": "Allow", "Action": ["iot:Publish", "iot:Receive"], "Resource": ["arn:aws:iot:x:1:topic/$aws/certificates/create/*", "arn:aws:iot:x:1:topic/$aws/provisioning-templates/first/provision/*"]},
	{"Effect": "Allow", "Action": ["iot:Subscribe"], "Resource": ["arn:aws:iot:x:1:topicfilter/$aws/certificates/create/*", "arn:aws:iot:x:1:topicfilter/$aws/provisioning-templates/first/provision/*"]}]}`

// serve runs a broker that provisions, and returns the account of the claim certificate.
func serve(t *testing.T, p *broker.Provisioning) (*broker.Broker, Account) {
	t.Helper()
	first, err := broker.ParseTemplate("first", []byte(template))
	if err != nil {
		t.Fatal(err)
	}
	p.Templates = []*broker.Template{first}
	dir := t.TempDir()
	b, err := broker.New(broker.Options{Dir: dir, Provisioning: p})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- b.Run(ctx) }()
	t.Cleanup(sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	}))
	a := Account{Endpoint: b.Addr(), ClientID: "thing-7-provision", CA: b.Files().CA, Template: "first"}
	a.Certificate, a.Key = broker.ClaimFiles(dir)
	return b, a
}

func policyOf(t *testing.T, text string) *awsiot.Policy {
	t.Helper()
	p, err := awsiot.Parse([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// csr is a request for a certificate.
func csr(t *testing.T) map[string]string {
	t.Helper()
	key, err := identity.NewKey(identity.P256)
	if err != nil {
		t.Fatal(err)
	}
	text, err := identity.NewRequest(key, "thing-7")
	if err != nil {
		t.Fatal(err)
	}
	return map[string]string{"certificateSigningRequest": string(text)}
}

// patient bounds what a broken session can cost a test.
func patient(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	t.Cleanup(cancel)
	return ctx
}

// Over real TLS: a certificate, a rejection, and a thing.
func TestSession(t *testing.T) {
	_, a := serve(t, &broker.Provisioning{})
	s, err := Open(patient(t), a)
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}()
	answer, err := s.Call(patient(t), createTopic, csr(t))
	if err != nil {
		t.Fatal(err)
	}
	var made map[string]string
	if err := json.Unmarshal(answer, &made); err != nil || made["certificateOwnershipToken"] == "" {
		t.Fatalf("%s, %v", answer, err)
	}
	request := map[string]any{"certificateOwnershipToken": made["certificateOwnershipToken"], "parameters": map[string]string{}}
	var rejected *Rejection
	if _, err := s.Call(patient(t), RegisterTopic("first"), request); !errors.As(err, &rejected) || rejected.Code != "InvalidParameters" || rejected.StatusCode != 400 {
		t.Errorf("got %v", err)
	}
	request["parameters"] = map[string]string{"Serial": "7"}
	if answer, err := s.Call(patient(t), RegisterTopic("first"), request); err != nil || !strings.Contains(string(answer), `"thingName":"thing-7"`) {
		t.Errorf("%s, %v", answer, err)
	}
	if _, err := s.Call(patient(t), RegisterTopic("first"), request); !errors.As(err, &rejected) || rejected.Code != invalidToken {
		t.Errorf("got %v", err)
	}
}

// A policy that denies a subscription, or a request, is told from a broker that is away, and
// the topic is named.
func TestSessionDenied(t *testing.T) {
	for name, tc := range map[string]struct{ policy, topic string }{
		"the guide's": {guidePolicy, createTopic + "/accepted"},
		"publishing": {`{"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "iot:*", "Resource": "*"},
			{"Effect": "Deny", "Action": "iot:Publish", "Resource": "arn:aws:iot:x:1:topic/` + createTopic + `"}]}`, createTopic},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, a := serve(t, &broker.Provisioning{ClaimPolicy: policyOf(t, tc.policy)})
			s, err := Open(patient(t), a)
			if err == nil {
				_, err = s.Call(patient(t), createTopic, csr(t))
				if e := s.Close(); e != nil {
					t.Error(e)
				}
			}
			var denied *DeniedError
			if !errors.As(err, &denied) || denied.Topic != tc.topic {
				t.Fatalf("got %v", err)
			}
			var f *Failure
			if err := requestFailure("connect", true, err); !errors.As(err, &f) || !strings.Contains(f.Hint, "allows only $aws/certificates/create/*") || !f.refused {
				t.Errorf("%+v", f)
			}
		})
	}
}

// A claim certificate that was revoked, or that the policy does not let connect, is known at
// the first connection.
func TestSessionRefused(t *testing.T) {
	b, a := serve(t, &broker.Provisioning{})
	claim, err := identity.ReadCertificate(a.Certificate)
	if err != nil {
		t.Fatal(err)
	}
	b.Deactivate(claim)
	refused := func(a Account, code health.Code) {
		t.Helper()
		_, err := Open(patient(t), a)
		var why *uplink.Explained
		if !errors.As(err, &why) || why.Code != string(code) {
			t.Errorf("got %v, want %s", err, code)
		}
	}
	refused(a, health.ConnectRefused)
	_, other := serve(t, &broker.Provisioning{ClaimPolicy: policyOf(t, `{"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "iot:Connect", "Resource": "arn:aws:iot:x:1:client/claim-*"}]}`)})
	refused(other, health.ConnectRefused)
	wrong := other
	wrong.CA = a.CA
	refused(wrong, health.ServerUntrusted)
	wrong = other
	wrong.Key = filepath.Join(t.TempDir(), "none")
	refused(wrong, health.CertificateUnusable)
}

// Nobody answers: the end of the caller's time ends the wait.
func TestSessionWithoutAnswer(t *testing.T) {
	called := make(chan struct{}, 10)
	_, a := serve(t, &broker.Provisioning{Intercept: func(string) broker.Fate {
		called <- struct{}{}
		return broker.Lost
	}})
	s, err := Open(patient(t), a)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		<-called
		cancel()
	}()
	if _, err := s.Call(ctx, createTopic, csr(t)); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	ctx, cancel = context.WithCancel(t.Context())
	cancel()
	if _, err := Open(ctx, a); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}

// The connection ends before the answer: the request is made again on the next one.
func TestSessionCutOff(t *testing.T) {
	fates := make(chan broker.Fate, 3)
	fates <- broker.CutOff
	fates <- broker.Answered
	_, a := serve(t, &broker.Provisioning{Intercept: func(string) broker.Fate { return <-fates }})
	s, err := Open(patient(t), a)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Call(patient(t), createTopic, csr(t)); err != nil {
		t.Error(err)
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
}
