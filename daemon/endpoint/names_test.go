package endpoint

import (
	"regexp"
	"strings"
	"testing"
)

// Hosts are checked without regular expressions, which would be compiled at every start. Here
// they are compared with them.
func TestHostForms(t *testing.T) {
	host := regexp.MustCompile(`^[A-Za-z0-9_]([A-Za-z0-9_-]{0,62})(\.[A-Za-z0-9_]([A-Za-z0-9_-]{0,62}))*\.?$`)
	number := regexp.MustCompile(`(^|\.)[0-9]+\.?$`)
	texts := []string{}
	for range 6 {
		next := []string{""}
		for _, text := range texts {
			for _, c := range []string{"a", "Z", "1", ".", "-", "_", "\xff"} {
				next = append(next, c+text)
			}
		}
		texts = next
	}
	for _, n := range []int{62, 63, 64} {
		label := strings.Repeat("x", n)
		texts = append(texts, label, label+".", label+".a", "a."+label, "a."+label+".b", label+".7", "é."+label)
	}
	for _, text := range texts {
		if isHost(text) != host.MatchString(text) {
			t.Errorf("%q is a host: %v, want %v", text, isHost(text), host.MatchString(text))
		}
		if endsInNumber(text) != number.MatchString(text) {
			t.Errorf("%q ends in a number: %v, want %v", text, endsInNumber(text), number.MatchString(text))
		}
	}
}
