package board

import (
	"regexp"
	"testing"
)

// The forms of a line's name are checked without regular expressions, which would be compiled
// at every start. Here they are compared with them.
func TestNameForms(t *testing.T) {
	forms := map[string]struct {
		is      func(string) bool
		pattern string
	}{
		"number":     {isNumber, `^[0-9]+$`},
		"GPIO":       {isGPIO, `^GPIO(0|[1-9][0-9]?)$`},
		"header pin": {isHeaderPin, `^P1_([0-9]+)$`},
		"signed":     {isSigned, `^[-+][0-9]+$`},
	}
	var tails []string
	for range 4 {
		next := []string{""}
		for _, tail := range tails {
			for _, c := range []string{"0", "1", "9", "-", "+", "_", "a", " ", "\n", "\xff", "\u0661"} {
				next = append(next, c+tail)
			}
		}
		tails = next
	}
	for name, f := range forms {
		r := regexp.MustCompile(f.pattern)
		for _, head := range []string{"", "GPIO", "gpio", "GPIO1", "P1_", "P1", "P2_", "-", "+"} {
			for _, tail := range tails {
				if s := head + tail; f.is(s) != r.MatchString(s) {
					t.Errorf("%s: %q is %v, want %v as of %s", name, s, f.is(s), r.MatchString(s), f.pattern)
				}
			}
		}
	}
}
