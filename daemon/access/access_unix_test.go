//go:build unix

package access_test

import (
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"fieldpost/daemon/access"
)

// place makes a file with that mode in a directory with that one.
func place(t *testing.T, dirMode, mode fs.FileMode) (dir, file string) {
	t.Helper()
	dir = filepath.Join(t.TempDir(), "in")
	file = filepath.Join(dir, "file")
	for _, err := range []error{
		os.Mkdir(dir, 0o700), os.WriteFile(file, nil, 0o600), os.Chmod(file, mode), os.Chmod(dir, dirMode),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	return dir, file
}

// says reports whether there is one finding for each word, which it holds.
func says(found []access.Open, words ...string) bool {
	if len(found) != len(words) {
		return false
	}
	for i, w := range words {
		if !strings.Contains(found[i].String(), w) || found[i].Do == "" || found[i].Path == "" {
			return false
		}
	}
	return true
}

func TestOpenToOthers(t *testing.T) {
	const replace, put, write, read = "replace what is in it", "put files there", "may write it", "may read it"
	tests := []struct {
		dir, mode               fs.FileMode
		secret, file, directory []string
	}{
		{0o750, 0o600, nil, nil, nil},
		{0o755, 0o640, nil, nil, nil}, // the group is ours
		{0o755, 0o644, []string{read}, nil, nil},
		{0o755, 0o601, []string{"write or execute"}, nil, nil},
		{0o755, 0o666, []string{read}, []string{write}, nil},
		{0o777, 0o600, []string{replace}, []string{replace}, []string{put}},
		{0o777 | fs.ModeSticky, 0o600, nil, nil, []string{put}},
		{0o777, 0o666, []string{read, replace}, []string{write, replace}, []string{put}},
	}
	for _, tt := range tests {
		dir, file := place(t, tt.dir, tt.mode)
		link := filepath.Join(t.TempDir(), "link")
		if err := os.Symlink(file, link); err != nil {
			t.Fatal(err)
		}
		for _, path := range []string{file, link} {
			if got := access.Secret(path); !says(got, tt.secret...) {
				t.Errorf("%v in %v: secret: %v, want %q", tt.mode, tt.dir, got, tt.secret)
			}
			if got := access.File(path); !says(got, tt.file...) {
				t.Errorf("%v in %v: file: %v, want %q", tt.mode, tt.dir, got, tt.file)
			}
		}
		if got := access.Directory(dir); !says(got, tt.directory...) {
			t.Errorf("%v: directory: %v, want %q", tt.dir, got, tt.directory)
		}
	}
}

// A directory far above that every user may write is as bad.
func TestOpenFarAbove(t *testing.T) {
	dir, _ := place(t, 0o755, 0o600)
	below := filepath.Join(dir, "a", "b")
	for _, err := range []error{os.MkdirAll(below, 0o700), os.Chmod(dir, 0o777)} {
		if err != nil {
			t.Fatal(err)
		}
	}
	if got := access.Directory(below); !says(got, "replace what is in it") || got[0].Path != dir {
		t.Errorf("%v", got)
	}
}

// The group of a secret may be root's and our own; any other is named.
func TestSecretOfGroup(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("only root may give a file to any group")
	}
	_, file := place(t, 0o755, 0o640)
	for gid, want := range map[int][]string{0: nil, os.Getegid(): nil, 44: {"may read it"}, 64321: {"group 64321 may read it"}} {
		if err := os.Chown(file, 0, gid); err != nil {
			t.Fatal(err)
		}
		if got := access.Secret(file); !says(got, want...) {
			t.Errorf("group %d: %v, want %q", gid, got, want)
		}
	}
	if err := os.Chmod(file, 0o600); err != nil {
		t.Fatal(err)
	}
	if got := access.Secret(file); got != nil {
		t.Errorf("its group may do nothing: %v", got)
	}
}

func TestNothingToLookAt(t *testing.T) {
	path := filepath.Join(t.TempDir(), "absent")
	if got := append(append(access.Secret(path), access.File(path)...), access.Directory(path)...); got != nil {
		t.Errorf("%v", got)
	}
}

// The token of the page is a secret: who has it moves pins.
func TestTokenOpenToOthers(t *testing.T) {
	_, file := place(t, 0o750, 0o644)
	if found := access.Look(access.Places{Token: file})["configuration"]; len(found) != 1 {
		t.Errorf("found %v", found)
	}
	_, file = place(t, 0o750, 0o640)
	if found := access.Look(access.Places{Token: file}); len(found) != 0 {
		t.Errorf("found %v", found)
	}
}
