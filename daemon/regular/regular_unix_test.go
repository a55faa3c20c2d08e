//go:build unix

package regular_test

import (
	"errors"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"fieldpost/daemon/regular"

	"golang.org/x/sys/unix"
)

// yard is a directory with one thing of each kind in it.
func yard(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	at := func(name string) string { return filepath.Join(dir, name) }
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: at("socket"), Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	for _, err := range []error{
		os.WriteFile(at("file"), []byte("12345"), 0o600),
		os.Symlink("file", at("link")),
		os.Symlink("nowhere", at("dangling")),
		os.Symlink("loop", at("loop")),
		os.Symlink("fifo", at("to-fifo")),
		os.Symlink("/dev/zero", at("to-device")),
		os.Mkdir(at("dir"), 0o700),
		unix.Mkfifo(at("fifo"), 0o600),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// Nothing but a regular file is opened, and nothing blocks.
func TestRead(t *testing.T) {
	dir := yard(t)
	tests := []struct {
		name           string
		read, unlinked error
		says           string // of both
	}{
		{"file", nil, nil, ""},
		{"link", nil, regular.ErrKind, ""},
		{"dir", regular.ErrKind, regular.ErrKind, "not a directory"},
		{"fifo", regular.ErrKind, regular.ErrKind, "not a FIFO"},
		{"socket", regular.ErrKind, regular.ErrKind, "not a socket"},
		{"to-fifo", regular.ErrKind, regular.ErrKind, ""},
		{"to-device", regular.ErrKind, regular.ErrKind, ""},
		{"dangling", fs.ErrNotExist, regular.ErrKind, ""},
		{"loop", unix.ELOOP, regular.ErrKind, ""},
		{"absent", fs.ErrNotExist, fs.ErrNotExist, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if err := regular.Check(filepath.Join(dir, tt.name)); !errors.Is(err, tt.read) {
				t.Errorf("Check: %v, want %v", err, tt.read)
			}
			for how, got := range map[string]func(string, int64) ([]byte, error){"Read": regular.Read, "ReadUnlinked": regular.ReadUnlinked} {
				want := tt.read
				if how == "ReadUnlinked" {
					want = tt.unlinked
				}
				data, err := got(filepath.Join(dir, tt.name), 5)
				var p *fs.PathError
				switch {
				case want == nil && (err != nil || string(data) != "12345"):
					t.Errorf("%s: %q, %v", how, data, err)
				case want != nil && (!errors.Is(err, want) || !errors.As(err, &p) || data != nil || !strings.Contains(err.Error(), tt.says)):
					t.Errorf("%s: %q, %v, want %v", how, data, err, want)
				}
			}
		})
	}
	if _, err := regular.Read(filepath.Join(dir, "file"), 4); !errors.Is(err, regular.ErrLarge) {
		t.Errorf("of five bytes four may be read: %v", err)
	}
}

// What is written through a link changes nothing that it leads to, and makes
// nothing where it leads to nothing.
func TestOpenUnlinkedWrites(t *testing.T) {
	dir := yard(t)
	const flag = os.O_WRONLY | os.O_CREATE | os.O_TRUNC
	for _, name := range []string{"link", "dangling", "loop", "fifo", "to-fifo", "to-device", "dir", "socket"} {
		if f, err := regular.OpenUnlinked(filepath.Join(dir, name), flag, 0o600); !errors.Is(err, regular.ErrKind) {
			t.Errorf("%s: %v, %v", name, f, err)
		}
	}
	if b, err := os.ReadFile(filepath.Join(dir, "file")); err != nil || string(b) != "12345" {
		t.Errorf("the file holds %q, %v", b, err)
	}
	if _, err := os.Lstat(filepath.Join(dir, "nowhere")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("made through a link: %v", err)
	}
	for _, name := range []string{"file", "fresh"} {
		f, err := regular.OpenUnlinked(filepath.Join(dir, name), flag, 0o600)
		if err != nil {
			t.Fatal(err)
		}
		if info, err := f.Stat(); err != nil || info.Size() != 0 {
			t.Errorf("%s was not emptied: %v, %v", name, info, err)
		}
		if err := f.Close(); err != nil {
			t.Error(err)
		}
	}
}
