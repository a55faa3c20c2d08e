package config

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// base is the least a configuration may say. Line 5 is the first free one.
const base = `thing: greenhouse
broker:
  endpoint: broker.example
readings: {topic: field/readings}
`

// place makes a directory with the certificate files in it and gives
// the path of a configuration beside them.
func place(t testing.TB) string {
	t.Helper()
	dir := t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, "certs"), 0o755); err != nil {
		t.Fatal(err)
	}
	p := defaults.Broker.Provisioning
	for _, name := range []string{defaults.Broker.CA, defaults.Broker.Certificate, defaults.Broker.Key, p.ClaimCertificate, p.ClaimKey} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte("pem\n"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return filepath.Join(dir, "fieldpost.yaml")
}

// good parses a text that must be accepted.
func good(t *testing.T, text string) *Config {
	t.Helper()
	c, err := Parse(place(t), []byte(text))
	if err != nil {
		t.Fatalf("parse:\n%s\n%v", text, err)
	}
	return c
}

// refused parses a text that must be refused and gives the message, with the
// directory of the file taken out.
func refused(t *testing.T, text string) string {
	t.Helper()
	file := place(t)
	c, err := Parse(file, []byte(text))
	if err == nil {
		t.Fatalf("accepted:\n%s", text)
	}
	if c != nil {
		t.Error("gave a configuration along with an error")
	}
	return strings.ReplaceAll(err.Error(), filepath.Dir(file)+string(filepath.Separator), "")
}
