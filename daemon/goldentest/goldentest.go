// Package goldentest holds files, and sections of documents, against what tests
// make from the code. With the flag -update it writes them instead.
package goldentest

import (
	"bytes"
	"flag"
	"os"
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
		t.Errorf("%s is not what the code makes (%v); if the code is right: go test . -run '^%s$' -update. It makes\n%s", path, err, t.Name(), made)
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
		t.Errorf("section %s of %s is not what the code makes; if the code is right: go test . -run '^%s$' -update", name, path, t.Name())
	}
}

func write(t *testing.T, path string, text []byte) {
	t.Helper()
	if err := os.WriteFile(path, text, 0o644); err != nil {
		t.Fatal(err)
	}
}
