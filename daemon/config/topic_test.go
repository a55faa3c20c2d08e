package config

import (
	"testing"
)

// Package topic has the rules; here it is told which topic is meant.
func TestCheckTopic(t *testing.T) {
	for _, tt := range []struct{ filled, written, want string }{
		{"", "", ""},
		{"a", "a", ""},
		{"a/b", "a/{thing}", ""},
		{"+", "+", "has a wildcard, want one topic without + and #"},
		{"a/b/c/d/e/f/g/h/i", "a/{thing}/c/d/e/f/g/h/i", "once filled in, has 8 slashes, want at most 7"},
	} {
		err := checkTopic(tt.filled, tt.written)
		switch {
		case tt.want == "" && err != nil:
			t.Errorf("%q: %v", tt.written, err)
		case tt.want != "" && (err == nil || err.Error() != tt.want):
			t.Errorf("%q: got %v, want %s", tt.written, err, tt.want)
		}
	}
}

func TestCheckPlaceholders(t *testing.T) {
	both := []string{"{thing}", "{sensor}"}
	for _, tt := range []struct{ topic, want string }{
		{"plain", ""},
		{"{thing}", ""},
		{"{sensor}/{thing}/{sensor}", ""},
		{"{Thing}", "unknown placeholder {Thing}, want {thing} or {sensor}"},
		{"{}", "unknown placeholder {}, want {thing} or {sensor}"},
		{"a/{", errUnpaired.Error()},
		{"}a{", errUnpaired.Error()},
		{"{{thing}}", errUnpaired.Error()},
	} {
		err := checkPlaceholders(tt.topic, both)
		switch {
		case tt.want == "" && err != nil:
			t.Errorf("%q: %v", tt.topic, err)
		case tt.want != "" && (err == nil || err.Error() != tt.want):
			t.Errorf("%q: got %v, want %s", tt.topic, err, tt.want)
		}
	}
}

// What is filled in is not looked through again for placeholders.
func TestFill(t *testing.T) {
	if got := fill("{thing}/{sensor}/{thing}", "{sensor}", "air"); got != "{sensor}/air/{sensor}" {
		t.Errorf("got %q", got)
	}
	if got := fill("", "a", "b"); got != "" {
		t.Errorf("no topic became %q", got)
	}
}
