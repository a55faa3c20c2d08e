package durable

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
)

// names lists a directory.
func names(t *testing.T, dir string) (all []string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		all = append(all, e.Name())
	}
	return all
}

// A file is created whole, with its mode, and what is there is never replaced.
func TestCreateFile(t *testing.T) {
	for name, create := range map[string]func(string, []byte, fs.FileMode) error{"as here": CreateFile, "linked": createLinked, "without links": createUnlinked} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			path := filepath.Join(dir, "key")
			if err := create(path, []byte("one"), 0o600); err != nil {
				t.Fatal(err)
			}
			if err := create(path, []byte("two"), 0o644); !errors.Is(err, fs.ErrExist) {
				t.Errorf("a second time: %v", err)
			}
			if err := os.Symlink(filepath.Join(dir, "nowhere"), filepath.Join(dir, "link")); err != nil {
				t.Fatal(err)
			}
			if err := create(filepath.Join(dir, "link"), []byte("three"), 0o644); !errors.Is(err, fs.ErrExist) {
				t.Errorf("where a link is: %v", err)
			}
			data, err := os.ReadFile(path)
			info, _ := os.Stat(path)
			if err != nil || string(data) != "one" || info.Mode().Perm() != 0o600 {
				t.Errorf("holds %q, mode %v, %v", data, info.Mode(), err)
			}
			if got := names(t, dir); strings.Join(got, " ") != "key link" {
				t.Errorf("left %q", got)
			}
			if err := create(filepath.Join(dir, "none", "key"), nil, 0o600); !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("without a directory: %v", err)
			}
		})
	}
}

// Of many at once one creates the file, and nobody sees a part of it.
func TestCreateFileAtOnce(t *testing.T) {
	path := filepath.Join(t.TempDir(), "key")
	var wait sync.WaitGroup
	made := make(chan int, 16)
	for i := range 16 {
		wait.Go(func() {
			want := strings.Repeat(string(rune('a'+i)), 1<<16)
			err := CreateFile(path, []byte(want), 0o600)
			if err == nil {
				made <- i
			} else if !errors.Is(err, fs.ErrExist) {
				t.Error(err)
			}
			if data, err := os.ReadFile(path); err != nil || len(data) != 1<<16 {
				t.Errorf("read %d bytes, %v", len(data), err)
			}
		})
	}
	wait.Wait()
	if len(made) != 1 {
		t.Errorf("%d have created it", len(made))
	}
}

// On Linux, a file without a name is used wherever that is possible: a crash leaves nothing.
func TestCreateFileWithoutAName(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("only Linux has files without a name")
	}
	path := filepath.Join(t.TempDir(), "key")
	tried, err := createUnnamed(path, []byte("one"), 0o640)
	if err != nil || !tried {
		t.Fatalf("tried %v, %v", tried, err) // the file systems of tests have them
	}
	if info, err := os.Stat(path); err != nil || info.Mode() != 0o640 || info.Size() != 3 {
		t.Errorf("%v, %v", info, err)
	}
	if tried, err := createUnnamed(path, []byte("two"), 0o640); !tried || !errors.Is(err, fs.ErrExist) {
		t.Errorf("a second time: tried %v, %v", tried, err)
	}
	if tried, err := createUnnamed(filepath.Join(path, "x"), nil, 0o640); tried || err != nil {
		t.Errorf("no directory: tried %v, %v", tried, err)
	}
}
