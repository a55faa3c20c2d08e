package broker

import (
	"crypto/tls"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/mochi-mqtt/server/v2/packets"
)

// openDevices runs a broker whose devices are described by text.
func openDevices(t *testing.T, text string) *Broker {
	t.Helper()
	dir := t.TempDir()
	write(t, dir, "own.json", `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"*","Resource":[
		"arn:aws:iot:*:*:client/${iot:Connection.Thing.ThingName}",
		"arn:aws:iot:*:*:topic/${iot:Connection.Thing.Attributes[room]}/*"]}]}`)
	write(t, dir, "laptop.json", `{"Version":"2012-10-17","Statement":[
		{"Effect":"Allow","Action":"iot:Connect","Resource":"arn:aws:iot:*:*:client/laptop-*"},
		{"Effect":"Allow","Action":["iot:Publish","iot:Subscribe","iot:Receive"],"Resource":"*"}]}`)
	write(t, dir, "devices.json", text)
	b, err := New(Options{Dir: filepath.Join(dir, "certs"), Devices: filepath.Join(dir, "devices.json"), Policy: policy(t, `{"Effect":"Allow","Action":"iot:Connect","Resource":"arn:aws:iot:*:*:client/guest"}`)})
	if err != nil {
		t.Fatal(err)
	}
	start(t, b)
	return b
}

// as connects with the certificate of a device, and reports whether it was let in.
func as(t *testing.T, b *Broker, device, id string) (c *client, in bool) {
	t.Helper()
	files := b.Files()
	for _, d := range b.Devices() {
		if d.Name == device {
			files.Certificate, files.Key = d.Certificate, d.Key
		}
	}
	conn, err := tls.Dial("tcp", b.Addr(), clientTLS(t, files))
	if err != nil {
		t.Fatal(err)
	}
	c = speak(t, conn)
	c.send(hello(id, true))
	ack, err := c.read()
	return c, err == nil && ack.FixedHeader.Type == packets.Connack && ack.ReasonCode == 0
}

// Each certificate has the policies that are attached to it, and the variables of its own thing.
func TestPoliciesByCertificate(t *testing.T) {
	b := openDevices(t, `{
		"thing-1": {"policies": ["own.json"], "attributes": {"room": "cellar"}},
		"thing-2": {"policies": ["own.json"], "attributes": {"room": "attic"}},
		"bound": {"policies": ["own.json"], "thing": "thing-9", "exclusive": true},
		"old": {"policies": ["own.json"], "active": false},
		"bare": {"policies": []},
		"laptop": {"policies": ["laptop.json"], "thing": ""}}`)
	for _, c := range []struct {
		device, id string
		want       bool
	}{
		{"thing-1", "thing-1", true},
		{"thing-1", "thing-3", false}, // no such thing
		{"thing-2", "thing-2", true},
		{"bound", "thing-9", true},
		{"bound", "anything", false}, // its thing is thing-9 whatever the client id is
		{"old", "old", false},
		{"bare", "bare", false},
		{"laptop", "laptop-7", true},
		{"laptop", "thing-1", false},
		{"", "guest", true}, // the certificate of every client
		{"", "thing-1", false},
	} {
		if _, in := as(t, b, c.device, c.id); in != c.want {
			t.Errorf("%s as %s: let in %v, want %v", c.device, c.id, in, c.want)
		}
	}
	one, _ := as(t, b, "thing-1", "thing-1")
	one.publish(1, "cellar/air", "x")
	one.send(publication(2, "attic/air", "x"))
	one.wantClosed()
}

// A certificate is made once.
func TestDevicesAreKept(t *testing.T) {
	b := openDevices(t, `{"thing-1": {"policies": ["own.json"]}}`)
	before, err := os.ReadFile(b.Devices()[0].Certificate)
	if err != nil {
		t.Fatal(err)
	}
	dir := filepath.Dir(filepath.Dir(b.Devices()[0].Certificate))
	again, err := readDevices(filepath.Join(dir, "devices.json"), b.Files())
	if err != nil {
		t.Fatal(err)
	}
	after, err := os.ReadFile(again[0].Certificate)
	if err != nil || string(before) != string(after) || again[0].fingerprint != b.Devices()[0].fingerprint {
		t.Errorf("another certificate than before (%v)", err)
	}
	info, err := os.Stat(again[0].Key)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the key has the mode %v, %v", info.Mode(), err)
	}
}

func TestDevicesRefused(t *testing.T) {
	dir := t.TempDir()
	files := make6(t, filepath.Join(dir, "certs"))
	write(t, dir, "bad.json", `{"Version":"2012-10-17","Statement":[{"Effect":"Maybe"}]}`)
	write(t, dir, "good.json", `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"*","Resource":"*"}]}`)
	for text, want := range map[string]string{
		"{\n\"a\": {\n\"policy\": 1}}":       `devices.json:3: json: unknown field "policy"`,
		"{\n\"a\": {\"policies\": \"x\"}}":   `devices.json:2: json: cannot unmarshal string`,
		"{\n":                                `devices.json:2: unexpected EOF`,
		"{}\n{}":                             `devices.json:2: something follows`,
		"{\"a\": {},\n\"a\": {}}":            `devices.json:2: "a" comes twice`,
		"":                                   `devices.json:1: unexpected EOF`,
		"[]":                                 `devices.json:1: want a JSON object`,
		`{"a/b": {}}`:                        `"a/b": want 1 to 128 letters`,
		`{"a": {"thing": "b c"}}`:            `"a": thing: want 1 to 128 letters`,
		`{"a": {"thing": "", "type": "T"}}`:  `and thing is empty`,
		`{"a": {"policies": ["none.json"]}}`: `none.json`,
		`{"a": {"policies": ["bad.json"]}}`:  `bad.json:1`,
		`{"a": {"certificate": "certs/server.pem.key"}}`:                                                         `want a PEM CERTIFICATE`,
		`{"a": {"certificate": "certs/certificate.pem.crt"}, "b": {"certificate": "certs/certificate.pem.crt"}}`: `"b": its certificate is also that of "a"`,
	} {
		write(t, dir, "devices.json", text)
		if _, err := readDevices(filepath.Join(dir, "devices.json"), files); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v, want %s", text, err, want)
		}
	}
	if _, err := New(Options{Dir: t.TempDir(), Devices: filepath.Join(dir, "none")}); err == nil || !strings.HasPrefix(err.Error(), "start broker: read devices: ") {
		t.Errorf("without the file: %v", err)
	}
	// A certificate without its key is left alone.
	write(t, filepath.Join(dir, "certs"), "a.certificate.pem.crt", "precious")
	write(t, dir, "devices.json", `{"a": {"policies": ["good.json"]}}`)
	if _, err := readDevices(filepath.Join(dir, "devices.json"), files); err == nil || !strings.Contains(err.Error(), "exists without a.private.pem.key") {
		t.Errorf("got %v", err)
	}
}
