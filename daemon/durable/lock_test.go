package durable

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
)

func open(t *testing.T, path string) *os.File {
	t.Helper()
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = f.Close() }) // some are closed by then
	return f
}

// One has the lock, also against others of the same process, until the file is
// closed; and who is refused can read what the file says.
func TestLock(t *testing.T) {
	path := filepath.Join(t.TempDir(), "lock")
	first, second := open(t, path), open(t, path)
	if err := Lock(first); err != nil {
		t.Fatal(err)
	}
	if _, err := first.WriteString("7\n"); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := Lock(second); !errors.Is(err, ErrLocked) {
			t.Errorf("the second: %v, want ErrLocked", err)
		}
	}
	if b, err := os.ReadFile(path); err != nil || string(b) != "7\n" {
		t.Errorf("the file says %q, %v", b, err)
	}
	if err := Lock(open(t, path+"2")); err != nil {
		t.Errorf("another file: %v", err)
	}
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}
	if err := Lock(second); err != nil {
		t.Errorf("after the first is closed: %v", err)
	}
	if err := Lock(first); err == nil || errors.Is(err, ErrLocked) {
		t.Errorf("a closed file: %v, want another error", err)
	}
}

// A file that cannot be written can be locked: a card may have become read-only.
func TestLockReadOnly(t *testing.T) {
	path := filepath.Join(t.TempDir(), "lock")
	open(t, path)
	for i, want := range []error{nil, ErrLocked} {
		f, err := os.Open(path)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		if err := Lock(f); !errors.Is(err, want) {
			t.Errorf("opening %d: %v, want %v", i, err, want)
		}
	}
}
