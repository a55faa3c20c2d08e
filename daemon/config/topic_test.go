package config

import (
	"strings"
	"testing"
)

func TestCheckTopic(t *testing.T) {
	for _, tt := range []struct{ topic, want string }{
		{"a", ""},
		{"a/b/c/d/e/f/g/h", ""},
		{"/leading/and/trailing/", ""},
		{"$aws/things/a/shadow/update", ""},
		{strings.Repeat("x", 256), ""},
		{"$aws/rules/mine/" + strings.Repeat("x", 256), ""},
		{"$aws/rules/mine/1/2/3/4/5/6/7/8", ""},
		{"$aws/rules/mine/1/2/3/4/5/6/7/8/9", "has 8 slashes once filled in, want at most 7"},
		{"a/b/c/d/e/f/g/h/i", "has 8 slashes once filled in, want at most 7"},
		{strings.Repeat("x", 257), "is 257 bytes long once filled in, want at most 256"},
		{"a/#", "want one topic, without the wildcards + and #"},
		{"+", "want one topic, without the wildcards + and #"},
		{"$share/boards/orders", "want a topic, not a shared subscription: nothing is published to one, and its messages go to any one of its members"},
		{"a\x00", "may not hold control characters"},
		{"a\u0085", "may not hold control characters"},
	} {
		err := checkTopic(tt.topic)
		switch {
		case tt.want == "" && err != nil:
			t.Errorf("%q: %v", tt.topic, err)
		case tt.want != "" && (err == nil || err.Error() != tt.want):
			t.Errorf("%q: got %v, want %s", tt.topic, err, tt.want)
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
