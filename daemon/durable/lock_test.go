package durable

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"
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

// Locked sees a lock, and leaves none behind.
func TestLocked(t *testing.T) {
	path := filepath.Join(t.TempDir(), "lock")
	owner, looker := open(t, path), open(t, path)
	if locked, err := Locked(looker); locked || err != nil {
		t.Errorf("nobody has it: %v, %v", locked, err)
	}
	if err := Lock(owner); err != nil {
		t.Fatalf("after somebody has looked: %v", err)
	}
	for range 2 {
		if locked, err := Locked(looker); !locked || err != nil {
			t.Errorf("the owner has it: %v, %v", locked, err)
		}
	}
	if err := owner.Close(); err != nil {
		t.Fatal(err)
	}
	if locked, err := Locked(looker); locked || err != nil {
		t.Errorf("the owner has ended: %v, %v", locked, err)
	}
	if _, err := Locked(owner); err == nil {
		t.Error("a closed file: no error")
	}
}

// Who looks does not keep away who wants the file, nor another who looks.
func TestLockWaitsForWhoLooks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "lock")
		looker, owner := open(t, path), open(t, path)
		if err := tryLockShared(looker); err != nil {
			t.Fatal(err)
		}
		if locked, err := Locked(owner); locked || err != nil {
			t.Errorf("only looked at: %v, %v", locked, err)
		}
		time.AfterFunc(lockPause*lockTries/2, func() { _ = looker.Close() })
		if err := Lock(owner); err != nil {
			t.Errorf("after the look: %v", err)
		}
	})
}

// A shared lock that stays does not hold up a start for ever.
func TestLockGivesUpOnWhoStays(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "lock")
		other, owner := open(t, path), open(t, path)
		if err := tryLockShared(other); err != nil {
			t.Fatal(err)
		}
		began := time.Now()
		if err := Lock(owner); !errors.Is(err, ErrLocked) {
			t.Errorf("got %v, want ErrLocked", err)
		}
		if took := time.Since(began); took != lockPause*(lockTries-1) { // by the test's clock
			t.Errorf("gave up after %v", took)
		}
	})
}
