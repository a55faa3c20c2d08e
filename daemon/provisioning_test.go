package daemon_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"fieldpost/daemon/api"
	"fieldpost/daemon/awsiot"
	"fieldpost/daemon/awsiot/need"
	"fieldpost/daemon/broker"
	"fieldpost/daemon/client"
	"fieldpost/daemon/config"
	"fieldpost/daemon/daemontest"
	"fieldpost/daemon/health"
	"fieldpost/daemon/identity"
	"fieldpost/daemon/message"
)

// fleetTemplate makes the thing that the parameter names. policy is for its certificates.
func fleetTemplate(t *testing.T, name, policy string) *broker.Template {
	t.Helper()
	document := ""
	if policy != "" {
		document = `, "policy": {"Type": "AWS::IoT::Policy", "Properties": {"PolicyDocument": ` + policy + `}}`
	}
	p, err := broker.ParseTemplate(name, []byte(`{"Parameters": {"Name": {"Type": "String"}}, "Resources": {
		"thing": {"Type": "AWS::IoT::Thing", "Properties": {"ThingName": {"Ref": "Name"}}}, "certificate": {"Type": "AWS::IoT::Certificate"}`+document+`}}`))
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// fleetSite is a site whose broker provisions, and whose board has only a claim.
func fleetSite(t *testing.T, p *broker.Provisioning) (*daemontest.Site, *broker.Broker) {
	t.Helper()
	s := daemontest.EmptySite(t, t.TempDir())
	b, err := broker.New(broker.Options{Dir: filepath.Join(s.Dir, "certs"), Provisioning: p})
	if err != nil {
		t.Fatal(err)
	}
	s.Addr, s.Files = b.Addr(), b.Files()
	daemontest.Background(t, b.Run)
	return s, b
}

const fleetConfig = `thing: thing-greenhouse
broker:
  endpoint: %s
  provisioning:
    template: first
    renew_template: later
    parameters: {Name: %q}
readings: {topic: test/topic}
commands: {topic: test/topic}
spool: {dir: spool}
sensors:
  - {name: air, chip: bme280, bus: i2c-1, address: 0x76, every: 100ms}
outputs:
  - {name: pump, pin: GPIO27, active_low: true, initial: off, safe: off}
`

// fleetFile writes the configuration, and loads it.
func fleetFile(s *daemontest.Site, thing string) *config.Config {
	s.T.Helper()
	path := filepath.Join(s.Dir, "fieldpost.yaml")
	if err := os.WriteFile(path, fmt.Appendf(nil, fleetConfig, s.Addr, thing), 0o600); err != nil {
		s.T.Fatal(err)
	}
	cfg, err := config.Load(path)
	if err != nil {
		s.T.Fatal(err)
	}
	return cfg
}

// certificateID is the id of the certificate in a file.
func certificateID(t *testing.T, path string) string {
	t.Helper()
	c, err := identity.ReadCertificate(path)
	if err != nil {
		t.Fatal(err)
	}
	return identity.ID(c)
}

// inPlace waits until the board has its first certificate on disk.
func inPlace(t *testing.T, socket string, cfg *config.Config) {
	t.Helper()
	daemontest.AwaitStatus(t, socket, "first certificate", func(api.Status) bool {
		_, err := os.Stat(cfg.Broker.Certificate)
		return err == nil
	})
}

// raised waits for a fault about the broker.
func raised(t *testing.T, socket string, code health.Code) api.Fault {
	t.Helper()
	var found api.Fault
	daemontest.AwaitStatus(t, socket, string(code), func(s api.Status) bool {
		for _, f := range s.Faults {
			if f.Code == string(code) {
				found = f
				return true
			}
		}
		return false
	})
	return found
}

func cleared(codes ...health.Code) func(api.Status) bool {
	return func(s api.Status) bool {
		for _, f := range s.Faults {
			for _, c := range codes {
				if f.Code == string(c) {
					return false
				}
			}
		}
		return s.Link.Connected
	}
}

// The whole life of a board's certificate: the first start with a claim, a renewal on demand
// with an output on and readings under way, and a start with the board's own pair when the
// claim is gone. Nothing is lost on the way, and the key is for nobody else to read.
func TestProvisionedBoard(t *testing.T) {
	t.Parallel()
	s, b := fleetSite(t, &broker.Provisioning{Templates: []*broker.Template{fleetTemplate(t, "first", ""), fleetTemplate(t, "later", "")}})
	heard := s.Listen("test-ear")
	publish := s.Publisher("test-mouth")
	cfg := fleetFile(s, "thing-greenhouse")
	r, socket := s.StartWithSocket(cfg)
	r.AwaitLink(t)
	inPlace(t, socket, cfg)
	daemontest.AwaitStatus(t, socket, "faults to be gone", cleared(health.NotProvisioned, health.ProvisioningFailed))
	first := certificateID(t, cfg.Broker.Certificate)
	for path, want := range map[string]os.FileMode{cfg.Broker.Certificate: 0o600, filepath.Dir(cfg.Broker.Certificate): 0o700} {
		if info, err := os.Stat(path); err != nil || info.Mode().Perm() != want {
			t.Errorf("%s: %v, %v", path, info.Mode(), err)
		}
	}
	publish(daemontest.Order("c-1", "on", time.Minute))
	daemontest.Await(t, "answer", heard, func(m map[string]any) bool { return m["id"] == "c-1" && m["status"] == "done" })

	done := make(chan error, 1)
	go func() {
		_, err := client.AskRenew(context.Background(), socket, "thing-greenhouse")
		done <- err
	}()
	var err error
	n := 1
	for renewed := false; !renewed; { // orders keep coming meanwhile
		select {
		case err = <-done:
			renewed = true
		default:
		}
		n++
		publish(daemontest.Order(fmt.Sprint("c-", n), "on", time.Minute))
		daemontest.Await(t, "answer", heard, func(m map[string]any) bool {
			if m["kind"] == "event" && m["state"] == "off" {
				t.Errorf("the output went off: %v", m)
			}
			return m["id"] == fmt.Sprint("c-", n) && m["status"] == "done"
		})
	}
	if err != nil {
		t.Fatal(err)
	}
	second := certificateID(t, cfg.Broker.Certificate)
	if second == first || certificateID(t, filepath.Join(filepath.Dir(cfg.Broker.Certificate), "previous.pem")) != first {
		t.Error("the certificate is the old one, or the old one is gone")
	}
	st := daemontest.AwaitStatus(t, socket, "status", cleared(health.RenewalFailed))
	if st.Outputs[0].State != "on" {
		t.Errorf("%+v", st.Outputs)
	}
	old, err := identity.ReadCertificate(filepath.Join(filepath.Dir(cfg.Broker.Certificate), "previous.pem"))
	if err != nil {
		t.Fatal(err)
	}
	b.Deactivate(old)
	if err := r.Stop(); err != nil {
		t.Fatal(err)
	}
	claimCert, claimKey := broker.ClaimFiles(filepath.Join(s.Dir, "certs"))
	if err := errors.Join(os.Remove(claimCert), os.Remove(claimKey)); err != nil {
		t.Fatal(err)
	}
	s.Start(fleetFile(s, "thing-greenhouse")).AwaitLink(t)
	daemontest.Await(t, "reading of the second run", heard, func(m map[string]any) bool { return m["run"] == 2.0 && m["sensor"] == "air" })
	if certificateID(t, cfg.Broker.Certificate) != second {
		t.Error("another certificate after the restart")
	}
}

// fleetPolicies are the policies that are generated from the configuration: for the claim
// certificate, and for the board's own.
func fleetPolicies(t *testing.T) (claim *awsiot.Policy, own string) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "fieldpost.yaml")
	if err := os.WriteFile(path, fmt.Appendf(nil, fleetConfig, "broker.example", "thing-greenhouse"), 0o600); err != nil {
		t.Fatal(err)
	}
	cfg, err := config.LoadWithoutFiles(path)
	if err != nil {
		t.Fatal(err)
	}
	const prefix = "arn:aws:iot:eu-west-1:123456789012:"
	text, err := need.GenerateClaim(cfg, prefix)
	if err != nil {
		t.Fatal(err)
	}
	if claim, err = awsiot.Parse(text); err != nil {
		t.Fatal(err)
	}
	docs, err := need.Generate(cfg, need.Options{Prefix: prefix})
	if err != nil || len(docs) != 1 {
		t.Fatalf("%d policies, %v", len(docs), err)
	}
	return claim, string(docs[0])
}

// Every reading that was taken before there was a certificate, and during a renewal,
// arrives; and both need no more than the policies that are generated.
func TestNoReadingIsLostByProvisioning(t *testing.T) {
	t.Parallel()
	claim, own := fleetPolicies(t)
	s, _ := fleetSite(t, &broker.Provisioning{ClaimPolicy: claim, Templates: []*broker.Template{fleetTemplate(t, "first", own), fleetTemplate(t, "later", own)}})
	cfg := fleetFile(s, "thing-greenhouse")
	r, socket := s.StartWithSocket(cfg)
	daemontest.Await(t, "reading", r.Taken, func(m message.Record) bool { return m.Kind == message.Reading })
	r.AwaitLink(t)
	if _, err := client.AskRenew(context.Background(), socket, ""); err != nil {
		t.Fatal(err)
	}
	seen := map[uint64]bool{}
	last := uint64(0)
	daemontest.Await(t, "readings to the end", r.Acked, func(m message.Record) bool {
		if m.Kind == message.Reading {
			seen[m.Seq] = true
			last = max(last, m.Seq)
		}
		return last > 20 && len(seen) == int(last)
	})
}

// A renewal whose certificate may not do what the board does is refused: the board goes on
// with the old one, the fault says why, and the caller is told.
func TestRenewalIsRefused(t *testing.T) {
	t.Parallel()
	for name, policy := range map[string]string{
		"connect": `{"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "iot:*", "Resource": "*"}, {"Effect": "Deny", "Action": "iot:Connect", "Resource": "*"}]}`,
		"publish": `{"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "iot:*", "Resource": "*"}, {"Effect": "Deny", "Action": "iot:Publish", "Resource": "*"}]}`,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s, _ := fleetSite(t, &broker.Provisioning{Templates: []*broker.Template{fleetTemplate(t, "first", ""), fleetTemplate(t, "later", policy)}})
			cfg := fleetFile(s, "thing-greenhouse")
			r, socket := s.StartWithSocket(cfg)
			r.AwaitLink(t)
			inPlace(t, socket, cfg)
			before := certificateID(t, cfg.Broker.Certificate)
			_, err := client.AskRenew(context.Background(), socket, "")
			var said *api.Error
			if !errors.As(err, &said) || said.Code != string(health.RenewalFailed) || said.Hint == "" || !strings.Contains(said.Text, "connect with the new certificate") {
				t.Fatalf("got %v", err)
			}
			raised(t, socket, health.RenewalFailed)
			daemontest.AwaitStatus(t, socket, "connection", cleared(health.ConnectRefused, health.CertificateRejected, health.PublishDenied))
			if certificateID(t, cfg.Broker.Certificate) != before {
				t.Error("the new certificate is in the place of the old one")
			}
			for len(r.Acked) > 0 {
				<-r.Acked
			}
			daemontest.Await(t, "acknowledgement", r.Acked, func(m message.Record) bool { return m.Kind == message.Reading })
		})
	}
}

// What goes wrong is a fault that says what to do: the claim policy of AWS's guide, and a
// template that registers another thing.
func TestProvisioningFails(t *testing.T) {
	t.Parallel()
	guide, err := awsiot.Parse([]byte(`{"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "iot:Connect", "Resource": "*"},
		{"Effect": "Allow", "Action": ["iot:Publish", "iot:Receive", "iot:Subscribe"], "Resource": ["arn:aws:iot:x:1:topic/$aws/certificates/create/*", "arn:aws:iot:x:1:topicfilter/$aws/certificates/create/*",
		"arn:aws:iot:x:1:topic/$aws/provisioning-templates/*", "arn:aws:iot:x:1:topicfilter/$aws/provisioning-templates/*"]}]}`))
	if err != nil {
		t.Fatal(err)
	}
	for name, tc := range map[string]struct {
		claim *awsiot.Policy
		thing string
		code  health.Code
		says  string
	}{
		"guide":         {guide, "thing-greenhouse", health.ProvisioningFailed, "create-from-csr/*. The one that AWS's developer guide prints allows only"},
		"another thing": {nil, "thing-barn", health.ThingMismatch, "Make the two agree"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s, _ := fleetSite(t, &broker.Provisioning{ClaimPolicy: tc.claim, Templates: []*broker.Template{fleetTemplate(t, "first", ""), fleetTemplate(t, "later", "")}})
			_, socket := s.StartWithSocket(fleetFile(s, tc.thing))
			if f := raised(t, socket, tc.code); !strings.Contains(f.Hint, tc.says) {
				t.Errorf("%+v", f)
			}
			raised(t, socket, health.NotProvisioned)
		})
	}
}

// A reload follows to other parameters, and refuses to take the certificate from elsewhere.
func TestReloadWithProvisioning(t *testing.T) {
	t.Parallel()
	s, _ := fleetSite(t, &broker.Provisioning{Templates: []*broker.Template{fleetTemplate(t, "first", ""), fleetTemplate(t, "later", "")}})
	_, socket := s.StartWithSocket(fleetFile(s, "thing-barn"))
	raised(t, socket, health.ThingMismatch)
	fleetFile(s, "thing-greenhouse")
	if _, err := client.AskReload(context.Background(), socket); err != nil {
		t.Fatal(err)
	}
	if a, err := client.AskRenew(context.Background(), socket, ""); err != nil || a.Expires.IsZero() {
		t.Fatalf("%+v, %v", a, err)
	}
	daemontest.AwaitStatus(t, socket, "connection", cleared(health.ThingMismatch, health.NotProvisioned))
	text := strings.Replace(fmt.Sprintf(fleetConfig, s.Addr, "x"), "  provisioning:\n    template: first\n    renew_template: later\n    parameters: {Name: \"x\"}\n", "", 1)
	if err := os.WriteFile(filepath.Join(s.Dir, "fieldpost.yaml"), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := client.AskReload(context.Background(), socket); err == nil || !strings.Contains(err.Error(), "broker.provisioning: cannot change from on") {
		t.Errorf("got %v", err)
	}
}

// Without broker.provisioning there is nothing to renew.
func TestRenewWithoutProvisioning(t *testing.T) {
	t.Parallel()
	s := daemontest.NewSite(t, nil)
	_, socket := s.StartWithSocket(s.Config("", ""))
	daemontest.AwaitStatus(t, socket, "status", func(api.Status) bool { return true })
	var said *api.Error
	if _, err := client.AskRenew(context.Background(), socket, ""); !errors.As(err, &said) || said.Code != api.NotProvisioning {
		t.Errorf("got %v", err)
	}
	if _, err := client.AskRenew(context.Background(), socket, "another"); !errors.Is(err, client.ErrNotOurs) {
		t.Errorf("got %v", err)
	}
}
