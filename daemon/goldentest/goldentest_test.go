package goldentest

import (
	"os"
	"path/filepath"
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
