package need

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"fieldpost/daemon/awsiot"
	"fieldpost/daemon/config"
)

func fleet(t *testing.T, more string) *config.Config {
	t.Helper()
	path := filepath.Join(t.TempDir(), "fieldpost.yaml")
	text := "thing: thing-7\nbroker:\n  endpoint: a\n  provisioning: {template: first, renew_template: later" + more + "}\nreadings: {topic: t}\n"
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	cfg, err := config.LoadWithoutFiles(path)
	if err != nil {
		t.Fatal(err)
	}
	return cfg
}

// What the claim certificate needs is for all boards of a fleet, unless its client id is
// given; and it is allowed no more than that.
func TestClaim(t *testing.T) {
	const prefix = "arn:aws:iot:x-y-1:123456789012:"
	for more, ids := range map[string]map[string]bool{
		"":                     {"thing-7-provision": true, "thing-8-provision": true, "thing-7": false},
		", client_id: claim-7": {"claim-7": true, "claim-8": false},
	} {
		text, err := GenerateClaim(fleet(t, more), prefix)
		if err != nil {
			t.Fatal(err)
		}
		p, err := awsiot.Parse(text)
		if err != nil {
			t.Fatal(err)
		}
		for id, want := range ids {
			if got := p.Connect(&awsiot.Connection{ClientID: id}).Allowed; got != want {
				t.Errorf("%q connects: %v", id, got)
			}
			if p.Connect(&awsiot.Connection{ClientID: id, ConnectAttributes: []string{awsiot.LastWill}}).Allowed {
				t.Errorf("%q connects with a will", id)
			}
		}
		for resource, want := range map[string]bool{
			"topic/$aws/certificates/create-from-csr/json":             true,
			"topic/$aws/provisioning-templates/first/provision/json":   true,
			"topic/$aws/provisioning-templates/later/provision/json":   true,
			"topic/$aws/provisioning-templates/another/provision/json": false,
			"topic/$aws/certificates/create/json":                      false,
			"topic/t":                                                  false,
		} {
			if got := p.Decide(awsiot.Request{Action: awsiot.ActionPublish, Resource: prefix + resource, By: &awsiot.Connection{ClientID: "x"}}).Allowed; got != want {
				t.Errorf("publish to %s: %v", resource, got)
			}
		}
	}
}

// A renewal is part of what the board's own policy has to allow, and is asked for under its
// own client id.
func TestRenewal(t *testing.T) {
	const prefix = "arn:aws:iot:x-y-1:123456789012:"
	cfg := fleet(t, "")
	docs, err := Generate(cfg, Options{Prefix: prefix})
	if err != nil {
		t.Fatal(err)
	}
	p, err := awsiot.Parse(docs[0])
	if err != nil {
		t.Fatal(err)
	}
	r := Simulate(cfg, p, Connection(cfg), prefix, false)
	if r.Denied != 0 || len(r.Beyond) != 0 {
		t.Errorf("%d denied, beyond %+v", r.Denied, r.Beyond)
	}
	asked := 0
	for _, a := range r.Needs {
		if a.For == "renewal of the certificate" {
			asked++
		}
	}
	if asked != 11 {
		t.Errorf("%d needs of a renewal", asked)
	}
	if r := Simulate(cfg, awsiot.Tutorial(), Connection(cfg), "", false); r.Denied < 11 {
		t.Errorf("the tutorial's policy denies %d", r.Denied)
	}
	plain := *cfg
	plain.Broker.Provisioning = config.Provisioning{}
	if Renewal(&plain) != nil || Claim(&plain) != nil {
		t.Error("needs without provisioning")
	}
	if _, err := GenerateClaim(&plain, prefix); err == nil || !strings.Contains(err.Error(), "has no broker.provisioning") {
		t.Errorf("got %v", err)
	}
	fitting, err := Generate(cfg, Options{Prefix: prefix, ThingVariables: true})
	if err != nil || !strings.Contains(string(fitting[0]), "client/*-provision") {
		t.Errorf("for a fleet: %s, %v", fitting, err)
	}
}
