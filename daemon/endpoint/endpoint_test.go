package endpoint

import (
	"strings"
	"testing"
)

func TestParse(t *testing.T) {
	for in, want := range map[string]struct{ text, server string }{
		"broker.example":          {"broker.example:8883", "broker.example"},
		"Broker.EXAMPLE":          {"broker.example:8883", "broker.example"},
		"broker.example.":         {"broker.example.:8883", "broker.example"},
		"broker.example:443":      {"broker.example:443", "broker.example"},
		"my_broker":               {"my_broker:8883", "my_broker"},
		"3com":                    {"3com:8883", "3com"},
		"192.168.1.2":             {"192.168.1.2:8883", "192.168.1.2"},
		"192.168.1.2:1":           {"192.168.1.2:1", "192.168.1.2"},
		"::1":                     {"[::1]:8883", "::1"},
		"[::1]":                   {"[::1]:8883", "::1"},
		"[::1]:1883":              {"[::1]:1883", "::1"},
		"FE80::1%eth0":            {"[fe80::1%eth0]:8883", "fe80::1"},
		"[2001:DB8:0:0::1]:65535": {"[2001:db8::1]:65535", "2001:db8::1"},
	} {
		got, err := Parse(in)
		if err != nil || got.String() != want.text || got.ServerName() != want.server {
			t.Errorf("%q: %v as %q, %v; want %v as %q", in, got, got.ServerName(), err, want.text, want.server)
		}
		if again, err := Parse(got.String()); again != got || err != nil {
			t.Errorf("%q again: %v, %v", got, again, err)
		}
	}
	for in, want := range map[string]string{
		"mqtts://b.example":       `without the scheme "mqtts://"`,
		"MQTTS://b.example":       `without the scheme "MQTTS://"`,
		"ssl://b.example:8883/":   `without the scheme "ssl://"`,
		"b.example/mqtt":          "nothing after it",
		"b.example:":              "want a port",
		"b.example:0":             "want a port",
		"b.example:65536":         "want a port",
		"b.example:08883":         "want a port",
		"b.example:mqtt":          "want a port",
		"a:b:c":                   "want host or host:port",
		"[::1":                    "want host or host:port",
		"[127.0.0.1]":             "want a host's name or address",
		"":                        "want a host's name or address",
		":8883":                   "want a host's name or address",
		"my broker":               "want a host's name or address",
		" b.example":              "want a host's name or address",
		"user@b.example":          "want a host's name or address",
		"bücher.example":          "want a host's name or address",
		"b.example\u200b":         "want a host's name or address",
		"8883":                    "four numbers from 0 to 255",
		"10.0.0.256":              "four numbers from 0 to 255",
		"10.0.0":                  "four numbers from 0 to 255",
		"010.0.0.1:8883":          "four numbers from 0 to 255",
		strings.Repeat("a.", 130): "want a host's name or address",
	} {
		if got, err := Parse(in); err == nil || !strings.Contains(err.Error(), want) || got != (Endpoint{}) {
			t.Errorf("%q: %v, %v; want %q", in, got, err, want)
		}
	}
}
