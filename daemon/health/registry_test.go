package health

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"fieldpost/daemon/goldentest"
)

// Every code is registered once, and says in full what it is about, what it means
// and what to do.
func TestFaultsAreComplete(t *testing.T) {
	file, err := parser.ParseFile(token.NewFileSet(), "registry.go", nil, parser.SkipObjectResolution)
	if err != nil {
		t.Fatal(err)
	}
	var codes []string
	ast.Inspect(file, func(n ast.Node) bool {
		if c, ok := n.(*ast.ValueSpec); ok {
			if of, ok := c.Type.(*ast.Ident); ok && of.Name == "Code" {
				codes = append(codes, strings.Trim(c.Values[0].(*ast.BasicLit).Value, `"`))
			}
		}
		return true
	})
	seen := map[Code]bool{}
	for _, f := range Faults {
		if seen[f.Code] || !slices.Contains(codes, string(f.Code)) {
			t.Errorf("%s is registered twice, or is no code", f.Code)
		}
		for _, d := range f.DependsOn {
			if !seen[d] {
				t.Errorf("%s depends on %s, which does not stand before it", f.Code, d)
			}
		}
		seen[f.Code] = true
		if f.Severity != Warning && f.Severity != Error || len(f.Concerns) == 0 || f.Title == "" || !strings.HasSuffix(f.Meaning, ".") || !strings.HasSuffix(f.Cure, ".") {
			t.Errorf("%s is incomplete: %+v", f.Code, f)
		}
		if (f.Refusal || f.Credential) && !slices.Contains(f.Concerns, Link) {
			t.Errorf("%s is no fault of the link", f.Code)
		}
		for p, cure := range f.CureAt {
			if !slices.Contains(Places, p) || p.Title() == string(p) || !strings.HasSuffix(cure, ".") {
				t.Errorf("%s at %s: %q", f.Code, p, cure)
			}
		}
	}
	if len(seen) != len(codes) {
		t.Errorf("%d codes, of which %d are registered", len(codes), len(seen))
	}
	if got := Lookup("nonsense"); got.Code != "nonsense" || !strings.Contains(got.Meaning, "Unregistered") || got.Severity != Error {
		t.Errorf("lookup of an unregistered code gives %+v", got)
	}
}

// The lists that the rooms work by are these, whatever is registered besides.
func TestCodesOfAConcern(t *testing.T) {
	if got, want := Codes(Line), []Code{Absent, Denied, LineBusy, OutputFailed}; !slices.Equal(got, want) {
		t.Errorf("faults of a line: %q, want %q", got, want)
	}
	if got, want := Codes(Reading), []Code{NoAnswer, WrongAnswer, Absent, Denied, LineBusy, AddressOwned, ReadFailed}; !slices.Equal(got, want) {
		t.Errorf("faults of a reading: %q, want %q", got, want)
	}
	if got, want := Codes(Link), []Code{
		NotProvisioned, NetworkDown, IdleTimeout, TLSTooOld, ServerUntrusted, ClockWrong, CertificateRejected, CertificateUnusable, ConnectRefused, LoginRefused, ProxyRefused,
		WillRefused, SubscribeDenied, PublishDenied, NotDelivered, NoAcknowledgement, DuplicateClient,
	}; !slices.Equal(got, want) {
		t.Errorf("faults of the link: %q, want %q", got, want)
	}
	if got := Codes("nonsense"); got != nil {
		t.Errorf("faults of nothing: %q", got)
	}
}

// faultTable is the registry as deploy/README.md has it.
func faultTable() string {
	var b strings.Builder
	b.WriteString("| `code` | about | it means | what to do |\n|---|---|---|---|\n")
	for _, f := range Faults {
		about := make([]string, 0, len(f.Concerns))
		for _, c := range f.Concerns {
			about = append(about, string(c))
		}
		code, cure := "`"+string(f.Code)+"`", f.Cure
		if f.Severity == Error {
			code += " !"
		}
		if len(f.CureAt) > 0 {
			cure = ""
			for _, p := range Places {
				if at, ok := f.CureAt[p]; ok {
					cure += "*" + p.Title() + ":* " + at + " "
				}
			}
			cure += "*Otherwise:* " + f.Cure
		}
		fmt.Fprintf(&b, "| %s | %s | %s | %s |\n", code, strings.Join(about, ", "), f.Meaning, cure)
	}
	return b.String()
}

// deploy/README.md has the faults of the registry, word for word; `make docs` writes them.
func TestDocsFaults(t *testing.T) {
	goldentest.Section(t, filepath.Join("..", "..", "deploy", "README.md"), "faults", "\n"+faultTable()+"\n")
	for _, line := range strings.Split(strings.TrimSpace(faultTable()), "\n") {
		if strings.Count(line, "|") != 5 {
			t.Errorf("a fault breaks the table: %s", line)
		}
	}
}
