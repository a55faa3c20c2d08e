package config

import (
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// provisioned is a configuration with these lines in broker.provisioning, from line 5 on.
func provisioned(lines string) string {
	return "thing: pump-{serial}\nbroker:\n  endpoint: a\n  provisioning:\n" + lines + "readings: {topic: t}\nspool: {dir: spool}\n"
}

// withSerial gives this machine a serial number.
func withSerial(t *testing.T, serial string) {
	before := boardSerial
	boardSerial = func() string { return serial }
	t.Cleanup(func() { boardSerial = before })
}

// With broker.provisioning the certificate is a file of the daemon's own, which need not
// exist yet; what is left out has a default.
func TestProvisioning(t *testing.T) {
	withSerial(t, "100000001a2b")
	file := place(t)
	dir := filepath.Dir(file)
	for _, name := range []string{"certificate.pem.crt", "private.pem.key"} {
		if err := os.Remove(filepath.Join(dir, "certs", name)); err != nil {
			t.Fatal(err)
		}
	}
	c, err := Parse(file, []byte(provisioned("    template: pumps\n    parameters: {SerialNumber: \"{serial}\", Name: \"{thing}\", Place: barn}\n")))
	if err != nil {
		t.Fatal(err)
	}
	p, current := c.Broker.Provisioning, filepath.Join(dir, "spool", "certs", "current.pem")
	if c.Thing != "pump-100000001a2b" || c.Broker.ClientID != c.Thing || c.Broker.Certificate != current || c.Broker.Key != current {
		t.Errorf("%q, %+v", c.Thing, c.Broker)
	}
	if !p.Enabled() || p.RenewTemplate != "pumps" || p.ClientID != c.Thing+"-provision" || p.RenewBefore != 45*24*time.Hour || p.ClaimKey != filepath.Join(dir, "certs", "claim.pem.key") {
		t.Errorf("%+v", p)
	}
	if want := map[string]string{"SerialNumber": "100000001a2b", "Name": c.Thing, "Place": "barn"}; !maps.Equal(p.Parameters, want) {
		t.Errorf("parameters %q", p.Parameters)
	}
	if at := c.Places(""); at.Key != current || at.ClaimKey != p.ClaimKey || at.ClaimCertificate != p.ClaimCertificate {
		t.Errorf("%+v", at)
	}
	if at := good(t, base+"local: {listen: \"127.0.0.1:8080\", token_file: page.token}\n").Places(""); !filepath.IsAbs(at.Token) || filepath.Base(at.Token) != "page.token" {
		t.Errorf("the page's token: %+v", at)
	}
	if good(t, base).Places("").ClaimKey != "" {
		t.Error("a claim without provisioning")
	}
	if got := defaults.Broker.Provisioning.Parameters; got != nil {
		t.Errorf("the defaults have %q", got)
	}
}

// The claim's files may be missing only where the board has its certificate.
func TestClaimFiles(t *testing.T) {
	withSerial(t, "7")
	file := place(t)
	for _, name := range []string{"claim.pem.crt", "claim.pem.key"} {
		if err := os.Remove(filepath.Join(filepath.Dir(file), "certs", name)); err != nil {
			t.Fatal(err)
		}
	}
	text := []byte(provisioned("    template: pumps\n"))
	_, err := Parse(file, text)
	if err == nil || strings.Count(err.Error(), "there is no such file") != 2 || !strings.Contains(err.Error(), "fieldpost.yaml:5: broker.provisioning.claim_key: file ") {
		t.Errorf("got %v", err)
	}
	own := filepath.Join(filepath.Dir(file), "spool", "certs")
	if err := os.MkdirAll(own, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(own, "current.pem"), []byte("pem\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Parse(file, text); err != nil {
		t.Errorf("with a certificate: %v", err)
	}
}

func TestProvisioningRefusals(t *testing.T) {
	withSerial(t, "77")
	long := strings.Repeat("x", 129)
	for _, tt := range []struct{ name, text, want string }{
		{"no template", provisioned("    parameters: {a: b}\n"), "fieldpost.yaml:5: broker.provisioning.template: is missing"},
		{"template", provisioned("    template: a/b\n"), "fieldpost.yaml:5: broker.provisioning.template: want 1 to 36 of the characters A-Z a-z 0-9 _ - (got a/b)"},
		{"another template", provisioned("    template: a\n    renew_template: \"{thing}\"\n"), "fieldpost.yaml:6: broker.provisioning.renew_template: want 1 to 36 of the characters A-Z a-z 0-9 _ - (got {thing})"},
		{"client id", provisioned("    template: a\n    client_id: $a\n"), "fieldpost.yaml:6: broker.provisioning.client_id: must not begin with $ (got $a)"},
		{"the daemon's client id", provisioned("    template: a\n    client_id: pump-77\n"), "fieldpost.yaml:6: broker.provisioning.client_id: is the client id of the daemon, whose connection would end at each renewal; choose another (got pump-77)"},
		{"too late", provisioned("    template: a\n    renew_before: 1m\n"), "fieldpost.yaml:6: broker.provisioning.renew_before: want 1h to 87600h (got 1m)"},
		{"a key pasted", provisioned("    template: a\n    claim_key: \"-----BEGIN\"\n"), "fieldpost.yaml:6: broker.provisioning.claim_key: want the name of a file, not its content"},
		{"parameters in a list", provisioned("    template: a\n    parameters: [b]\n"), "fieldpost.yaml:6: broker.provisioning.parameters: want keys with values, not a list"},
		{"a parameter in a list", provisioned("    template: a\n    parameters:\n      b: [c]\n"), "fieldpost.yaml:7: broker.provisioning.parameters.b: want text, not a list"},
		{"a parameter twice", provisioned("    template: a\n    parameters:\n      b: c\n      b: d\n"), "fieldpost.yaml:8: broker.provisioning.parameters: duplicate key \"b\""},
		{"a parameter without a value", provisioned("    template: a\n    parameters:\n      b:\n"), "fieldpost.yaml:7: broker.provisioning.parameters.b: has no value; give one or leave the key out"},
		{"a parameter with a leading zero", provisioned("    template: a\n    parameters:\n      b: 007\n"), "fieldpost.yaml:7: broker.provisioning.parameters.b: has a leading zero, which other programs read as octal; put it in quotes (got 007)"},
		{"both", "thing: a\nbroker:\n  endpoint: a\n  key: certs/private.pem.key\n  provisioning: {template: a}\nreadings: {topic: t}\n", "fieldpost.yaml:4: broker.key: cannot be used with broker.provisioning, which makes the certificate and the key itself; leave it out"},
		{"unknown key", provisioned("    template: a\n    csr: x\n"), "fieldpost.yaml:6: broker.provisioning: unknown key \"csr\", want one of template, claim_certificate, claim_key, client_id, renew_template, renew_before, parameters"},
		{"long default", strings.Replace(provisioned("    template: a\n"), "pump-{serial}", long[:120], 1), "fieldpost.yaml:5: broker.provisioning.client_id: is missing: the default, thing and -provision, is longer than the 128 bytes of a client id"},
		{"long with the serial number", strings.Replace(provisioned("    template: a\n    client_id: x\n"), "pump-", long[:127], 1), "fieldpost.yaml:1: thing: want 1 to 128 of the characters A-Z a-z 0-9 : _ . -, with the serial number in it (got " + long[:60] + "...)"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			file := place(t)
			_, err := Parse(file, []byte(tt.text))
			if err == nil {
				t.Fatal("accepted")
			}
			if got := strings.ReplaceAll(err.Error(), filepath.Dir(file)+string(filepath.Separator), ""); got != tt.want {
				t.Errorf("got  %s\nwant %s", got, tt.want)
			}
		})
	}
	withSerial(t, "")
	_, err := Parse(place(t), []byte(provisioned("    template: a\n")))
	if want := "thing: contains {serial}, and this machine has no serial number"; err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("got %v", err)
	}
}

// Before there is a board, the configuration can be read all the same.
func TestWithoutSerial(t *testing.T) {
	withSerial(t, "")
	file := place(t)
	if err := os.WriteFile(file, []byte(provisioned("    template: a\n")), 0o600); err != nil {
		t.Fatal(err)
	}
	if c, err := LoadWithoutFiles(file); err != nil || c.Thing != "pump-SERIAL" {
		t.Errorf("%+v, %v", c, err)
	}
}

// A changed parameter is a changed setting.
func TestChangedParameters(t *testing.T) {
	withSerial(t, "7")
	parse := func(parameters string) *Config {
		c, err := Parse(place(t), []byte(provisioned("    template: a\n    parameters: "+parameters+"\n")))
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	before, after := parse("{b: c, a: x}"), parse("{a: x}")
	after.Broker.CA, after.Broker.Certificate, after.Broker.Key, after.Spool = before.Broker.CA, before.Broker.Certificate, before.Broker.Key, before.Spool
	after.Broker.Provisioning.ClaimCertificate, after.Broker.Provisioning.ClaimKey = before.Broker.Provisioning.ClaimCertificate, before.Broker.Provisioning.ClaimKey
	got := ChangedSettings(before, after)
	if len(got) != 1 || got[0] != (Change{"broker.provisioning.parameters", "a: x, b: c", "a: x"}) {
		t.Errorf("%+v", got)
	}
	if got := ChangedSettings(before, before); got != nil {
		t.Errorf("%+v", got)
	}
}
