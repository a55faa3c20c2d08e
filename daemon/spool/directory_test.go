package spool

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"fieldpost/daemon/clock"
	"fieldpost/daemon/durable"
	"fieldpost/daemon/journal"
	"fieldpost/daemon/message"
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

func TestInUse(t *testing.T) {
	dir := t.TempDir()
	if err := InUse(filepath.Join(dir, "none")); err != nil {
		t.Errorf("no such directory: %v", err)
	}
	if err := InUse(dir); err != nil {
		t.Errorf("an empty directory: %v", err)
	}
	s, err := Open(Options{Dir: dir, AtRisk: time.Second, Clock: clock.Fake()})
	if err != nil {
		t.Fatal(err)
	}
	var locked *LockedError
	for range 2 {
		if err := InUse(dir); !errors.As(err, &locked) || locked.Dir != dir || locked.PID != os.Getpid() {
			t.Errorf("in use: %v", err)
		}
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := InUse(dir); err != nil {
			t.Errorf("after its end: %v", err)
		}
	}
}

// entries gives what a journal's file holds.
func entries(t *testing.T, j *journal.File) (out []string) {
	t.Helper()
	if _, err := j.Replay(func(b []byte) { out = append(out, string(b)) }); err != nil {
		t.Fatal(err)
	}
	return out
}

// The spool's own work leaves a journal alone, and Close ends it.
func TestJournalInTheSpool(t *testing.T) {
	r := newRig(t, newMemDisk(), Options{})
	j := r.s.Journal("orders")
	if err := errors.Join(j.Rewrite(slices.Values([][]byte{[]byte("a")})), j.Append([]byte("b"))); err != nil {
		t.Fatal(err)
	}
	r.add(message.Reading, "air")
	if err := r.stopAndClose(); err != nil {
		t.Fatal(err)
	}
	if err := j.Append([]byte("c")); !errors.Is(err, errNotHeld) {
		t.Errorf("Append after Close: %v", err)
	}
	r = newRig(t, r.d, Options{})
	if got := entries(t, r.s.Journal("orders")); !slices.Equal(got, []string{"a", "b"}) {
		t.Errorf("after a restart it holds %q", got)
	}
	if r.takeFaults() != "" {
		t.Error("the spool takes a journal for damage")
	}
	if err := r.stopAndClose(); err != nil {
		t.Fatal(err)
	}
}
