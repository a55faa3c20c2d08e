package config

import (
	"strings"
	"testing"
)

// A user name may take the place of the certificate, or come beside it.
func TestLogin(t *testing.T) {
	c := good(t, "thing: a\nreadings: {topic: t}\nbroker: {endpoint: b, certificate: none, username: u, password_file: certs/private.pem.key, proxy: 'http://me:secret@proxy:3128', alpn: mqtt}\n")
	b := c.Broker
	if b.Certificate != "" || b.Key != "" || b.Username != "u" || !strings.HasSuffix(b.PasswordFile, "/certs/private.pem.key") || b.Proxy != "http://me:secret@proxy:3128" || b.ALPN != "mqtt" {
		t.Errorf("got %+v", b)
	}
	c = good(t, "thing: a\nreadings: {topic: t}\nbroker: {endpoint: b, username: u, proxy: none}\n")
	if b := c.Broker; b.Certificate == "" || b.Key == "" || b.Username != "u" || b.PasswordFile != "" {
		t.Errorf("got %+v", b)
	}
	for broker, want := range map[string]string{
		"certificate: none":                      "fieldpost.yaml:3: broker.username: is missing, and broker.certificate is none: the broker could not tell who this board is",
		"certificate: none, username: u, key: k": "fieldpost.yaml:3: broker.key: cannot be used with broker.certificate: none; leave it out",
		"password_file: pw":                      "fieldpost.yaml:3: broker.username: is missing; a password needs it",
		`username: "a\tb"`:                       "fieldpost.yaml:3: broker.username: must not contain control characters",
		"proxy: 'socks5://secret@x'":             "fieldpost.yaml:3: broker.proxy: want http://host:port, http://user:password@host:port or none",
		"proxy: proxy.example":                   "fieldpost.yaml:3: broker.proxy: want http://host:port, http://user:password@host:port or none",
	} {
		_, err := Parse("fieldpost.yaml", []byte("thing: a\nreadings: {topic: t}\nbroker: {endpoint: b, "+broker+"}\n"))
		if err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "secret") {
			t.Errorf("%s: got %v, want %s", broker, err, want)
		}
	}
}
