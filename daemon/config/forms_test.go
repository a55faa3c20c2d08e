package config

import (
	"regexp"
	"slices"
	"strings"
	"testing"
)

// Values are checked without regular expressions, which would be compiled at every start. Here
// they are compared with them.
func TestValueForms(t *testing.T) {
	forms := map[string]struct {
		is      func(string) bool
		pattern string
	}{
		"name":       {isName, `^[A-Za-z0-9_-]{1,64}$`},
		"identifier": {func(s string) bool { return identifier(s) == "" }, `^[A-Za-z0-9:_.-]{1,128}$`},
		"octal":      {isOctal, `^[-+]?0[0-9_]+$`},
		"bare":       {isBare, `^[0-9]+(\.[0-9]+)?$`},
	}
	texts := stringsOf([]string{"a", "Z", "0", "7", ".", "-", "+", "_", ":", "\n", "\xff", "é"}, 4)
	for _, n := range []int{63, 64, 65, 127, 128, 129} {
		texts = append(texts, strings.Repeat("x", n), strings.Repeat("0", n), strings.Repeat("é", n/2))
	}
	for name, f := range forms {
		r := regexp.MustCompile(f.pattern)
		for _, s := range texts {
			if f.is(s) != r.MatchString(s) {
				t.Errorf("%s: %q is %v, want %v as of %s", name, s, f.is(s), r.MatchString(s), f.pattern)
			}
		}
	}
}

func TestPlaceholderForms(t *testing.T) {
	r := regexp.MustCompile(`\{[^{}]*\}`)
	for _, topic := range stringsOf([]string{"{", "}", "a", "é"}, 7) {
		found, rest := cutPlaceholders(topic)
		if want := r.FindAllString(topic, -1); !slices.Equal(found, want) {
			t.Errorf("placeholders of %q: %q, want %q", topic, found, want)
		}
		if want := r.ReplaceAllString(topic, ""); rest != want {
			t.Errorf("rest of %q: %q, want %q", topic, rest, want)
		}
	}
}

// stringsOf returns all strings of up to most of the parts.
func stringsOf(parts []string, most int) []string {
	texts := []string{""}
	for range most {
		next := []string{""}
		for _, text := range texts {
			for _, c := range parts {
				next = append(next, c+text)
			}
		}
		texts = next
	}
	return texts
}
