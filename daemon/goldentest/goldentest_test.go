package goldentest

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// With -update a file and a section become what was made, and nothing else
// changes.
func TestUpdate(t *testing.T) {
	defer func(before bool) { *Update = before }(*Update)
	path := filepath.Join(t.TempDir(), "x.md")
	*Update = true
	File(t, path, []byte("a\n<!-- b -->\nold\n<!-- end of b -->\nc\n"))
	Section(t, path, "b", "new\n")
	*Update = false
	const want = "a\n<!-- b -->\nnew\n<!-- end of b -->\nc\n"
	if got, err := os.ReadFile(path); err != nil || string(got) != want {
		t.Errorf("%q, %v", got, err)
	}
	File(t, path, []byte(want))
	Section(t, path, "b", "new\n")
}

// Comments of types and fields are found, above and beside them.
func TestComments(t *testing.T) {
	dir := t.TempDir()
	const source = "package x\n\n// T is\n// a type.\ntype T struct {\n\t// A is above.\n\tA int\n\tB int // beside\n}\n"
	if err := os.WriteFile(filepath.Join(dir, "x.go"), []byte(source), 0o644); err != nil {
		t.Fatal(err)
	}
	got := Comments(t, dir)
	if got["T"] != "T is a type." || got["T.A"] != "A is above." || got["T.B"] != "beside" {
		t.Errorf("%q", got)
	}
}

// `make docs` finds every test that makes a file outside testdata by its name.
func TestDocsAreNamed(t *testing.T) {
	found := 0
	err := filepath.WalkDir("../..", func(p string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || !strings.HasSuffix(p, "_test.go") || filepath.Base(filepath.Dir(p)) == "goldentest" {
			return err
		}
		file, err := parser.ParseFile(token.NewFileSet(), p, nil, parser.SkipObjectResolution)
		if err != nil {
			return err
		}
		for _, decl := range file.Decls {
			f, ok := decl.(*ast.FuncDecl)
			if !ok || !makesDocument(f) {
				continue
			}
			if found++; !strings.HasPrefix(f.Name.Name, "TestDocs") {
				t.Errorf("%s: %s makes a document, so its name has to begin with TestDocs", p, f.Name.Name)
			}
		}
		return nil
	})
	if err != nil || found < 5 {
		t.Errorf("%d tests make documents: %v", found, err)
	}
}

// makesDocument reports whether a function compares a file outside testdata with what it made.
func makesDocument(f *ast.FuncDecl) (makes bool) {
	ast.Inspect(f, func(n ast.Node) bool {
		call, ok := n.(*ast.CallExpr)
		if !ok {
			return true
		}
		fun, ok := call.Fun.(*ast.SelectorExpr)
		if !ok {
			return true
		}
		if from, ok := fun.X.(*ast.Ident); !ok || from.Name != "goldentest" || fun.Sel.Name != "File" && fun.Sel.Name != "Section" {
			return true
		}
		path, ok := call.Args[1].(*ast.BasicLit)
		if !ok || !strings.HasPrefix(path.Value, `"testdata/`) {
			makes = true
		}
		return true
	})
	return makes
}
