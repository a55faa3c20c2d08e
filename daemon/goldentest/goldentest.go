// Package goldentest compares files, and sections of documents, with what tests make from
// the code. With the flag -update it writes them instead.
//
// A test that makes a file or a section of a document for people has a name that begins with
// TestDocs: `make docs` runs all of those with -update.
package goldentest

import (
	"bytes"
	"flag"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// Update is the flag -update of every test that imports this package.
var Update = flag.Bool("update", false, "write the files and sections that are made from the code")

// File fails the test unless the file is what was made.
func File(t *testing.T, path string, made []byte) {
	t.Helper()
	got, err := os.ReadFile(path)
	switch {
	case err == nil && bytes.Equal(got, made):
	case *Update:
		write(t, path, made)
	default:
		t.Errorf("%s is not what the code makes (%v); if the code is right: `make docs`, or go test . -run '^%s$' -update. It makes\n%s", path, err, t.Name(), made)
	}
}

// Section fails the test unless a document has what was made between the lines
// <!-- name --> and <!-- end of name -->.
func Section(t *testing.T, path, name, made string) {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	begin, end := "<!-- "+name+" -->\n", "<!-- end of "+name+" -->\n"
	head, rest, begun := strings.Cut(string(text), begin)
	section, tail, ended := strings.Cut(rest, end)
	if !begun || !ended {
		t.Fatalf("%s has no lines %q and %q", path, begin, end)
	}
	switch {
	case section == made:
	case *Update:
		write(t, path, []byte(head+begin+made+end+tail))
	default:
		t.Errorf("section %s of %s is not what the code makes; if the code is right: `make docs`, or go test . -run '^%s$' -update", name, path, t.Name())
	}
}

func write(t *testing.T, path string, text []byte) {
	t.Helper()
	if err := os.WriteFile(path, text, 0o644); err != nil {
		t.Fatal(err)
	}
}

// Comments returns the comments of the types of the package in a directory and of their
// fields, each paragraph as one line: by "Type", and by "Type.Field". Files for tests do not count. What
// `make docs` writes has its words from there.
func Comments(t testing.TB, dir string) map[string]string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, "*.go"))
	if err != nil || len(files) == 0 {
		t.Fatalf("no Go files in %s: %v", dir, err)
	}
	comments := map[string]string{}
	for _, name := range files {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		file, err := parser.ParseFile(token.NewFileSet(), name, nil, parser.ParseComments|parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		for _, decl := range file.Decls {
			if g, ok := decl.(*ast.GenDecl); ok {
				readComments(comments, g)
			}
		}
	}
	return comments
}

// readComments adds the comments of the types of one declaration.
func readComments(comments map[string]string, g *ast.GenDecl) {
	for _, spec := range g.Specs {
		s, ok := spec.(*ast.TypeSpec)
		if !ok {
			continue
		}
		comments[s.Name.Name] = oneLine(g.Doc.Text() + s.Doc.Text())
		fields, ok := s.Type.(*ast.StructType)
		if !ok {
			continue
		}
		for _, f := range fields.Fields.List {
			for _, n := range f.Names {
				comments[s.Name.Name+"."+n.Name] = oneLine(f.Doc.Text() + " " + f.Comment.Text())
			}
		}
	}
}

// oneLine makes each paragraph of a comment one line.
func oneLine(text string) string {
	var paragraphs []string
	for p := range strings.SplitSeq(text, "\n\n") {
		if line := strings.Join(strings.Fields(p), " "); line != "" {
			paragraphs = append(paragraphs, line)
		}
	}
	return strings.Join(paragraphs, "\n")
}
