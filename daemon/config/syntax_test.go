package config

import (
	"errors"
	"fmt"
	"strings"
	"testing"
)

func TestLineEnds(t *testing.T) {
	for in, want := range map[string]string{
		"":          "[]",
		"a":         "[1]",
		"a\n":       "[2]",
		"a\nb":      "[2 3]",
		"\n\n":      "[1 2]",
		"a\r\nbc\n": "[3 6]",
	} {
		if got := fmt.Sprint(lineEnds([]byte(in))); got != want {
			t.Errorf("%q ends at %s, want %s", in, got, want)
		}
	}
}

func TestLineOf(t *testing.T) {
	data := []byte("one\ntwo\nthree")
	for n, want := range map[int]string{0: "", 1: "one\n", 2: "two\n", 3: "three", 4: ""} {
		if got := lineOf(data, n); got != want {
			t.Errorf("line %d is %q, want %q", n, got, want)
		}
	}
}

func TestFirstInvalid(t *testing.T) {
	for in, want := range map[string]int{
		"":              0,
		"é\n日\n":        0,
		"\ufffd":        0, // the replacement character itself is good text
		"a\nb\xff\n":    2,
		"\xc3":          1,
		"a\n\n\xe2\x82": 3,
	} {
		if got := firstInvalid([]byte(in)); got != want {
			t.Errorf("%q is invalid on line %d, want %d", in, got, want)
		}
	}
}

// The error is found at its own line, wherever the YAML reader puts it, also
// behind values of several lines.
func TestErrorLine(t *testing.T) {
	for _, tt := range []struct {
		text string
		want int
	}{
		{"a: [1,\n  2,\n  3]\nb: 'x'y\nc: 1\n", 4},
		{"a: |\n  long\n  text\nb: {c: 1\nd: 2\n", 4},
		{"a: \"x\n  y\"\n\tb: 1\n", 3},
		{"a: b: c\n", 1},
		{"# comment\n\na:\n  - b\n c\n", 5},
	} {
		_, err := documents([]byte(tt.text))
		if err == nil {
			t.Fatalf("%q is YAML", tt.text)
		}
		if got := errorLine([]byte(tt.text), err); got != tt.want {
			t.Errorf("%q: line %d, want %d (%v)", tt.text, got, tt.want, err)
		}
	}
}

// Of a long file, the line is what the YAML reader says, kept within the file.
func TestErrorLineBeyondTheSearch(t *testing.T) {
	const last = 13001
	data := []byte("[\n" + strings.Repeat("# comment\n", last-1)) // which no beginning of makes YAML
	for said, want := range map[string]int{
		"yaml: line 17: bad":     17,
		"yaml: line 99999: bad":  last,
		"yaml: bad without line": 1,
	} {
		if got := errorLine(data, errors.New(said)); got != want {
			t.Errorf("%q: line %d, want %d", said, got, want)
		}
	}
}

// Words of the YAML reader that are not known here are passed on.
func TestSyntaxReason(t *testing.T) {
	if got, want := syntaxReason(errors.New("yaml: line 3: something new"), "a: b\n"), "is not YAML: something new"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	if got := syntaxReason(errors.New("yaml: line 3: something new"), "  \ta: b\n"); got != tabReason {
		t.Errorf("got %q, want it to be about the tab", got)
	}
}
