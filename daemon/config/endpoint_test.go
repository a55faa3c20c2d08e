package config

import (
	"os"
	"strings"
	"testing"
)

// The endpoint is replaced in place; comments, order and line ends stay.
func TestSetEndpoint(t *testing.T) {
	const old, other = "a1b2c3d4e5-ats.iot.ap-south-1.amazonaws.com", "x-ats.iot.eu-west-1.amazonaws.com"
	for _, name := range []string{"tutorial.yaml", "fieldpost.yaml"} {
		data, err := os.ReadFile("../../configs/" + name)
		if err != nil {
			t.Fatal(err)
		}
		got, err := SetEndpoint(name, data, other)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if want := strings.Replace(string(data), old, other, 1); string(got) != want || want == string(data) {
			t.Errorf("%s: got\n%s", name, got)
		}
	}
	text := func(broker string) string {
		return "thing: e\nbroker: " + broker + "\nreadings: {topic: t}\n"
	}
	for broker, want := range map[string]string{
		"{endpoint: " + old + ", ca: x}":             "{endpoint: " + other + ", ca: x}",
		"{ca: é, endpoint: '" + old + "'}  # " + old: "{ca: é, endpoint: '" + other + "'}  # " + old,
		"\r\n  endpoint: \"" + old + "\"   # é\r\n":  "\r\n  endpoint: \"" + other + "\"   # é\r\n",
	} {
		got, err := SetEndpoint("x.yaml", []byte(text(broker)), other)
		if err != nil || string(got) != text(want) {
			t.Errorf("%q: got %q, %v", broker, got, err)
		}
	}
	for broker, want := range map[string]string{
		"{endpoint: \"\\x61\"}":               "escapes, an anchor or a tag",
		"{endpoint: &e " + old + "}":          "x.yaml:2",
		"\n  endpoint: >-\n    " + old + "\n": "one line",
		"{}":                                  "broker.endpoint",
	} {
		if got, err := SetEndpoint("x.yaml", []byte(text(broker)), other); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: got %q, %v, want %q", broker, got, err, want)
		}
	}
	if got, err := SetEndpoint("x.yaml", []byte(text("{endpoint: "+old+"}")), "not a host"); err == nil {
		t.Errorf("no address: %s", got)
	}
}
