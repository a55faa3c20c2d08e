package command

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"fieldpost/daemon/goldentest"
)

var tag = regexp.MustCompile(`\[CMD-[0-9]+\]`)

// tagged returns the tags of rules in the matching Go files, without doc.go.
func tagged(t *testing.T, pattern string, tests bool) map[string]bool {
	t.Helper()
	files, err := filepath.Glob(pattern)
	if err != nil || len(files) == 0 {
		t.Fatalf("files %s: %v", pattern, err)
	}
	found := map[string]bool{}
	for _, f := range files {
		if filepath.Base(f) == "doc.go" || strings.HasSuffix(f, "_test.go") != tests {
			continue
		}
		text, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		for _, s := range tag.FindAllString(string(text), -1) {
			found[s] = true
		}
	}
	return found
}

// Every documented rule of the gate is tagged in the code and in a test, and there are no
// other tags.
func TestRulesAreTagged(t *testing.T) {
	text, err := os.ReadFile("doc.go")
	if err != nil {
		t.Fatal(err)
	}
	rules := regexp.MustCompile(`(?m)^//   - (\[CMD-[0-9]+\]) `).FindAllStringSubmatch(string(text), -1)
	documented := map[string]bool{}
	for i, m := range rules {
		documented[m[1]] = true
		if want := fmt.Sprintf("[CMD-%d]", i+1); m[1] != want {
			t.Errorf("rule %s stands where %s is due", m[1], want)
		}
	}
	coded, tested := tagged(t, "*.go", false), tagged(t, "*.go", true)
	for rule := range tagged(t, "../output/*.go", true) { // the bank's rules are also tested there
		tested[rule] = true
	}
	if len(documented) < 16 {
		t.Errorf("only %d rules are documented", len(documented))
	}
	for rule := range documented {
		if !coded[rule] || !tested[rule] {
			t.Errorf("rule %s: coded %v, tested %v", rule, coded[rule], tested[rule])
		}
	}
	for _, found := range []map[string]bool{coded, tested} {
		for rule := range found {
			if !documented[rule] {
				t.Errorf("rule %s is not documented", rule)
			}
		}
	}
}

// reasonTable returns the table of reasons in daemon/README.md.
func reasonTable() string {
	var b strings.Builder
	b.WriteString("| `reason` | `status` | it means | what to do |\n|---|---|---|---|\n")
	for _, r := range Reasons {
		fmt.Fprintf(&b, "| `%s` | %s | %s | %s |\n", r.Code, r.Status, r.Means, r.Do)
	}
	return b.String()
}

// daemon/README.md has the table of reasons; `make docs` writes it.
func TestDocsReasons(t *testing.T) {
	goldentest.Section(t, filepath.Join("..", "README.md"), "reasons", "\n"+reasonTable()+"\n")
	if slices.ContainsFunc(Reasons, func(r Reason) bool { return strings.ContainsAny(r.Means+r.Do, "|\n") }) {
		t.Error("a reason breaks the table")
	}
}
