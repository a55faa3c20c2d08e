package spool

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"testing"
)

func TestReplaceLeavesTheOldOrTheNew(t *testing.T) {
	boom := errors.New("boom")
	for _, op := range []string{"", "remove", "create", "write", "sync", "rename"} {
		d := newMemDisk()
		d.put("x", []byte("old"))
		d.fail = func(o, _ string) error {
			if o == op {
				return boom
			}
			return nil
		}
		err := replace(d, "x", []byte("new"))
		want := "old"
		if op == "" {
			want = "new"
		}
		if got := string(d.data("x")); got != want || (err == nil) != (op == "") {
			t.Errorf("%q fails: file is %q, want %q; error %v", op, got, want, err)
		}
	}
}

func TestOSDisk(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "a", "b")
	d := &osDisk{dir: dir}
	lock, err := d.lock()
	if err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(dir)
	if err != nil || info.Mode().Perm() != 0o750 {
		t.Errorf("directory: %v, %v, want 0750", info, err)
	}
	_, err = d.lock()
	var locked *LockedError
	if !errors.As(err, &locked) || locked.PID != os.Getpid() || locked.Dir != dir {
		t.Errorf("second lock: %v, want a LockedError with our pid and %q", err, dir)
	}
	if err := lock.Close(); err != nil {
		t.Fatal(err)
	}
	if lock, err = d.lock(); err != nil {
		t.Fatalf("lock after close: %v", err)
	}
	defer lock.Close()
	if err := replace(d, "f", []byte("hello")); err != nil {
		t.Fatal(err)
	}
	if _, err := d.create("f"); !errors.Is(err, fs.ErrExist) {
		t.Errorf("create over a file: %v", err)
	}
	f, err := d.add("f")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.Write([]byte(" world")); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(f.datasync(), f.sync(), f.Close()); err != nil {
		t.Fatal(err)
	}
	if b, err := d.read("f", 7); err != nil || string(b) != "hello w" {
		t.Errorf("read 7: %q, %v", b, err)
	}
	if err := errors.Join(d.truncate("f", 4), d.rename("f", "g"), d.remove("f")); err != nil {
		t.Fatal(err)
	}
	if n, err := d.size("g"); err != nil || n != 4 {
		t.Errorf("size: %d, %v", n, err)
	}
	if names, err := d.list(); err != nil || !slices.Equal(names, []string{"g", "lock"}) {
		t.Errorf("list: %q, %v", names, err)
	}
}
