//go:build unix

package output

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// The second daemon with a record is told so, and the first one's end frees it.
func TestOwn(t *testing.T) {
	path := filepath.Join(t.TempDir(), "outputs")
	first, err := Own(path)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Own(path); !errors.Is(err, ErrOwned) || !strings.Contains(err.Error(), "RUNTIME_DIRECTORY") || !strings.Contains(err.Error(), filepath.Dir(path)) {
		t.Errorf("the second: %v", err)
	}
	if info, err := os.Stat(path + ".lock"); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the lock: %v, %v; want it closed to others", info, err)
	}
	if err := writeRecord(path, []Line{simLine("pump", 27, SafeOff)}); err != nil {
		t.Errorf("the owner cannot write: %v", err)
	}
	other, err := Own(filepath.Join(t.TempDir(), "outputs"))
	if err != nil {
		t.Errorf("another directory: %v", err)
	}
	if err := errors.Join(first.Close(), other.Close()); err != nil {
		t.Error(err)
	}
	again, err := Own(path)
	if err != nil {
		t.Fatalf("after its end: %v", err)
	}
	if err := again.Close(); err != nil {
		t.Error(err)
	}
	if _, err := Own(filepath.Join(t.TempDir(), "none", "outputs")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("no directory: %v", err)
	}
}
