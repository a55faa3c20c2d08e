package spool

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"fieldpost/daemon/durable"
)

func TestReplaceLeavesTheOldOrTheNew(t *testing.T) {
	boom := errors.New("boom")
	for _, op := range []string{"", "remove", "create", "write", "sync", "rename"} {
		d := newMemDisk()
		d.Put("x", []byte("old"))
		d.Fail = func(o, _ string) error {
			if o == op {
				return boom
			}
			return nil
		}
		err := durable.Replace(d, "x", []byte("new"))
		want := "old"
		if op == "" {
			want = "new"
		}
		if got := string(d.Data("x")); got != want || (err == nil) != (op == "") {
			t.Errorf("%q fails: file is %q, want %q; error %v", op, got, want, err)
		}
	}
}

func TestOSDisk(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "a", "b")
	d := newDisk(dir)
	lock, err := d.Lock()
	if err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(dir)
	if err != nil || info.Mode().Perm() != 0o750 {
		t.Errorf("directory: %v, %v, want 0750", info, err)
	}
	_, err = d.Lock()
	var locked *LockedError
	if !errors.As(err, &locked) || locked.PID != os.Getpid() || locked.Dir != dir {
		t.Errorf("second lock: %v, want a LockedError with our pid and %q", err, dir)
	}
	if err := lock.Close(); err != nil {
		t.Fatal(err)
	}
	if lock, err = d.Lock(); err != nil {
		t.Fatalf("lock after close: %v", err)
	}
	defer lock.Close()
	if err := durable.Replace(d, "f", []byte("hello")); err != nil {
		t.Fatal(err)
	}
	if _, err := d.Create("f"); !errors.Is(err, fs.ErrExist) {
		t.Errorf("create over a file: %v", err)
	}
	f, err := d.Append("f")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.Write([]byte(" world")); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(f.Datasync(), f.Sync(), f.Close()); err != nil {
		t.Fatal(err)
	}
	if b, err := d.Read("f", 7); err != nil || string(b) != "hello w" {
		t.Errorf("read 7: %q, %v", b, err)
	}
	if err := errors.Join(d.Truncate("f", 4), d.Rename("f", "g"), d.Remove("f")); err != nil {
		t.Fatal(err)
	}
	if n, err := d.Size("g"); err != nil || n != 4 {
		t.Errorf("size: %d, %v", n, err)
	}
	if names, err := d.List(); err != nil || !slices.Equal(names, []string{"g", "lock"}) {
		t.Errorf("list: %q, %v", names, err)
	}
}
