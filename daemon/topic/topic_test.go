package topic

import (
	"strings"
	"testing"
)

func TestCheck(t *testing.T) {
	for _, tt := range []struct{ topic, want string }{
		{"a", ""},
		{"test/topic", ""},
		{"a/b/c/d/e/f/g/h", ""},
		{"/leading/and/trailing/", ""},
		{"$aws/things/a/shadow/update", ""},
		{strings.Repeat("x", 256), ""},
		{"$aws/rules/mine/" + strings.Repeat("x", 256), ""},
		{"$aws/rules/mine/1/2/3/4/5/6/7/8", ""},
		{"$aws/rules/mine/1/2/3/4/5/6/7/8/9", "has 8 slashes, want at most 7"},
		{"$aws/rules/mine/" + strings.Repeat("x", 257), "is 257 bytes long, want at most 256"},
		{"a/b/c/d/e/f/g/h/i", "has 8 slashes, want at most 7"},
		{strings.Repeat("x", 257), "is 257 bytes long, want at most 256"},
		{strings.Repeat("é", 130), "is 260 bytes long, want at most 256"},
		{"", "is empty"},
		{"a/#", "has a wildcard, want one topic without + and #"},
		{"a/+/b", "has a wildcard, want one topic without + and #"},
		{"+", "has a wildcard, want one topic without + and #"},
		{"$share/boards/orders", "is a shared subscription, want a topic: nothing can be published to one, and its messages go to any one of its members"},
		{"a\x00", "has control characters"},
		{"a\u0085", "has control characters"},
		{"\xff", "is not valid UTF-8"},
	} {
		err := Check(tt.topic)
		switch {
		case tt.want == "" && err != nil:
			t.Errorf("%q: %v", tt.topic, err)
		case tt.want != "" && (err == nil || err.Error() != tt.want):
			t.Errorf("%q: got %v, want %s", tt.topic, err, tt.want)
		}
	}
}

func TestCheckFilter(t *testing.T) {
	for filter, good := range map[string]bool{
		"a": true, "#": true, "+": true, "a/#": true, "+/a/+": true, "/": true, "$share/g/a": true,
		"": false, "a#": false, "#/a": false, "a+": false, "a/+b/c": false, "a/#/b": false, "\xff": false, "a\x00": false,
		strings.Repeat("x", 65535): true, strings.Repeat("x", 65536): false,
	} {
		if err := CheckFilter(filter); (err == nil) != good {
			t.Errorf("filter %.20q: %v", filter, err)
		}
	}
}
