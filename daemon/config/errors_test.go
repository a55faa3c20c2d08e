package config

import (
	"io/fs"
	"strings"
	"testing"
	"unicode/utf8"
)

func TestErrorInOneLine(t *testing.T) {
	for _, tt := range []struct {
		e    Error
		want string
	}{
		{
			e:    Error{File: "fieldpost.yaml", Line: 14, Path: "sensors[2].address", Reason: "want 0x03 to 0x77", Value: "0x90"},
			want: "fieldpost.yaml:14: sensors[2].address: want 0x03 to 0x77 (got 0x90)",
		},
		{
			e:    Error{File: "fieldpost.yaml", Line: 1, Reason: "is empty"},
			want: "fieldpost.yaml:1: is empty",
		},
		{
			e:    Error{File: "a.yaml", Reason: "there is no such file", Err: fs.ErrNotExist},
			want: "a.yaml: there is no such file",
		},
		{
			e:    Error{File: "a.yaml", Line: 2, Path: "thing", Reason: "want a name", Value: "two\nlines"},
			want: `a.yaml:2: thing: want a name (got "two\nlines")`,
		},
	} {
		if got := tt.e.Error(); got != tt.want {
			t.Errorf("got  %s\nwant %s", got, tt.want)
		}
	}
}

// What is shown of a value is short, whole characters, and to be seen.
func TestPrintable(t *testing.T) {
	for in, want := range map[string]string{
		"pump":                   "pump",
		"water pump":             "water pump",
		" pump":                  `" pump"`,
		"a\x1b[31m":              `"a\x1b[31m"`,
		"right\u202eleft":        `"right\u202eleft"`,
		strings.Repeat("x", 60):  strings.Repeat("x", 60),
		strings.Repeat("x", 61):  strings.Repeat("x", 60) + "...",
		strings.Repeat("日", 100): strings.Repeat("日", 20) + "...",
	} {
		got := printable(in)
		if got != want || !utf8.ValidString(got) {
			t.Errorf("%q is shown as %s, want %s", in, got, want)
		}
	}
	if got := printable("x" + strings.Repeat("日", 100)); !utf8.ValidString(got) {
		t.Errorf("a character was cut: %q", got)
	}
}

func TestErrorsByLine(t *testing.T) {
	all := Errors{
		{File: "f", Line: 3, Reason: "third"},
		{File: "f", Line: 1, Reason: "first"},
		{File: "f", Line: 3, Reason: "fourth"},
		{File: "f", Line: 2, Reason: "second"},
	}
	all.sort()
	if got, want := all.Error(), "f:1: first\nf:2: second\nf:3: third\nf:3: fourth"; got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	if n := len(all.Unwrap()); n != 4 {
		t.Errorf("unwraps to %d errors, want 4", n)
	}
}
