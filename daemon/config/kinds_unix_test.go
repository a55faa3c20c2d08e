//go:build unix

package config

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"fieldpost/daemon/regular"

	"golang.org/x/sys/unix"
)

// A configuration, and each file it names, may be a link to a regular file;
// anything else is refused at once, and nobody waits for a FIFO.
func TestOnlyRegularFiles(t *testing.T) {
	file := place(t)
	dir := filepath.Dir(file)
	at := func(name string) string { return filepath.Join(dir, name) }
	for _, err := range []error{
		os.WriteFile(at("real.yaml"), []byte(base), 0o644), os.Symlink("real.yaml", file),
		unix.Mkfifo(at("fifo"), 0o600), os.Symlink("fifo", at("to-fifo")), os.Symlink("/dev/zero", at("to-zero")),
		os.Symlink("private.pem.key", at("certs/link")),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	if c, err := Load(file); err != nil || c.Thing != "greenhouse" {
		t.Errorf("by a link: %v", err)
	}
	for name, what := range map[string]string{"fifo": "a FIFO", "to-fifo": "a FIFO", "to-zero": "a device"} {
		_, err := Load(at(name))
		if want := at(name) + ": want a regular file, not " + what; !errors.Is(err, regular.ErrKind) || err.Error() != want {
			t.Errorf("got %v, want %s", err, want)
		}
		for _, key := range []string{"ca", "certificate", "key"} {
			_, err := Parse(file, []byte(strings.Replace(base, "broker.example", "broker.example\n  "+key+": "+name, 1)))
			if want := file + ":4: broker." + key + ": file " + at(name) + ": want a regular file, not " + what + " (got " + name + ")"; err == nil || err.Error() != want {
				t.Errorf("got  %v\nwant %s", err, want)
			}
		}
	}
	if _, err := Parse(file, []byte(strings.Replace(base, "broker.example", "broker.example\n  key: certs/link", 1))); err != nil {
		t.Errorf("a key by a link: %v", err)
	}
}

// The name of a file is shown so that it does nothing to a terminal.
func TestNameOfFileIsShown(t *testing.T) {
	if _, err := Load("a\x1b[2J\u202e.yaml"); err == nil || !strings.HasPrefix(err.Error(), `"a\x1b[2J\u202e.yaml": there is no such file`) {
		t.Errorf("got %q", err)
	}
}
