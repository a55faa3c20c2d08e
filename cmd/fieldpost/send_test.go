package main

import (
	"strings"
	"testing"
	"unicode/utf8"
)

// The sender's client id begins with the daemon's, differs from it, and is valid.
func TestSendID(t *testing.T) {
	for _, id := range []string{"a", strings.Repeat("t", 117), strings.Repeat("t", 118), strings.Repeat("t", 119), strings.Repeat("t", 128), strings.Repeat("ü", 64), "x" + strings.Repeat("日", 42)} {
		got := sendID(id)
		start, _, ok := strings.Cut(got, "-send-")
		if !ok || len(got) > 128 || !utf8.ValidString(got) || !strings.HasPrefix(id, start) || len(start) < min(len(id), 116) || sendID(id) == id {
			t.Errorf("%q of %d bytes: %q of %d", id, len(id), got, len(got))
		}
	}
}
