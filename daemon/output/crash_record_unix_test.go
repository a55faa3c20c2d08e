//go:build unix

package output

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"fieldpost/daemon/regular"
	"fieldpost/sensors/board"

	"golang.org/x/sys/unix"
)

// Links and special files in the place of the crash record, its temporary file or its
// lock are neither followed nor waited for, and a record can replace them.
func TestRecordIsNoFile(t *testing.T) {
	for name, put := range map[string]func(path, target string) error{
		"FIFO":     func(path, _ string) error { return unix.Mkfifo(path, 0o600) },
		"link":     func(path, target string) error { return os.Symlink(target, path) },
		"dangling": func(path, target string) error { return os.Symlink(target+"/none", path) },
	} {
		dir := t.TempDir()
		path, target := filepath.Join(dir, "outputs"), filepath.Join(t.TempDir(), "target")
		theirs := `{"output":"pump","label":"x","offset":1,"safe":"on"}`
		if err := os.WriteFile(target, []byte(theirs), 0o600); err != nil {
			t.Fatal(err)
		}
		for _, at := range []string{path, path + ".new", path + ".lock"} {
			if err := put(at, target); err != nil {
				t.Fatal(err)
			}
		}
		if lines, err := Recorded(path); !errors.Is(err, regular.ErrKind) || lines != nil {
			t.Errorf("%s: read %v, %v", name, lines, err)
		}
		if _, err := Own(path); !errors.Is(err, regular.ErrKind) {
			t.Errorf("%s: own: %v", name, err)
		}
		line := Line{Output: "pump", Label: "chip", Offset: 3, Drive: board.PushPull, Safe: SafeOff}
		if err := writeRecord(path, []Line{line}); err != nil {
			t.Errorf("%s: write: %v", name, err)
		}
		if lines, err := Recorded(path); err != nil || len(lines) != 1 || lines[0].Label != "chip" {
			t.Errorf("%s: read back %v, %v", name, lines, err)
		}
		if b, err := os.ReadFile(target); err != nil || string(b) != theirs {
			t.Errorf("%s: the target holds %q, %v", name, b, err)
		}
	}
}
