//go:build unix

package spool

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"fieldpost/daemon/durable"
	"fieldpost/daemon/message"

	"golang.org/x/sys/unix"
)

// Nobody else gets the directory when its lock file is removed, and the file
// comes back.
func TestTheLockOutlivesItsFile(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "spool")
	d := newDisk(dir)
	lock, err := d.Lock()
	if err != nil {
		t.Fatal(err)
	}
	defer lock.Close()
	for range 3 {
		if err := os.Remove(filepath.Join(dir, lockName)); err != nil {
			t.Fatal(err)
		}
		var locked *LockedError
		if _, err := (newDisk(dir)).Lock(); !errors.As(err, &locked) {
			t.Fatalf("a second process: %v", err)
		}
		if err := InUse(dir); !errors.As(err, &locked) {
			t.Errorf("in use: %v", err)
		}
		if err := d.Same(); err != nil {
			t.Errorf("the first: %v", err)
		}
		if _, err := (newDisk(dir)).Lock(); !errors.As(err, &locked) || locked.PID != os.Getpid() {
			t.Errorf("a second process, with the file back: %v", err)
		}
	}
}

// A daemon that starts in the moment in which somebody looks at its lock starts, and
// two that look do not take each other for a daemon.
func TestTheLockIsLookedAt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := filepath.Join(t.TempDir(), "spool")
		first, err := newDisk(dir).Lock()
		if err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(first.Close(), os.Chmod(dir, 0o750)); err != nil {
			t.Fatal(err)
		}
		for _, name := range []string{lockName, "."} {
			f, err := os.Open(filepath.Join(dir, name))
			if err != nil {
				t.Fatal(err)
			}
			if err := unix.Flock(int(f.Fd()), unix.LOCK_SH|unix.LOCK_NB); err != nil { // as InUse does
				t.Fatal(err)
			}
			if err := InUse(dir); err != nil {
				t.Errorf("%s: another looks: %v", name, err)
			}
			time.AfterFunc(time.Second/2, func() { _ = f.Close() })
			lock, err := newDisk(dir).Lock()
			if err != nil {
				t.Fatalf("%s: a daemon starts: %v", name, err)
			}
			if err := lock.Close(); err != nil {
				t.Fatal(err)
			}
		}
	})
}

// A directory that every user may open is not locked itself, for then any of them
// could keep the daemon out. The first of two finds out that it has lost it.
func TestADirectoryOpenToAll(t *testing.T) {
	dir := t.TempDir()
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	open, err := os.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer open.Close()
	if err := unix.Flock(int(open.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil { // another user's
		t.Fatal(err)
	}
	first, second := newDisk(dir), newDisk(dir)
	lock, err := first.Lock()
	if err != nil {
		t.Fatalf("somebody has locked the directory: %v", err)
	}
	defer lock.Close()
	if err := os.Remove(filepath.Join(dir, lockName)); err != nil {
		t.Fatal(err)
	}
	if err := first.Same(); err != nil { // and it puts the file back
		t.Fatal(err)
	}
	var locked *LockedError
	if _, err := second.Lock(); !errors.As(err, &locked) {
		t.Errorf("the second: %v", err)
	}
	if err := os.Remove(filepath.Join(dir, lockName)); err != nil {
		t.Fatal(err)
	}
	other, err := second.Lock()
	if err != nil {
		t.Fatal(err)
	}
	if err := first.Same(); !errors.As(err, &locked) || !errors.Is(err, durable.ErrGone) {
		t.Errorf("the first, when the second has it: %v", err)
	}
	if err := first.Sync(); !errors.Is(err, durable.ErrGone) {
		t.Errorf("the first syncs: %v", err)
	}
	if err := other.Close(); err != nil {
		t.Fatal(err)
	}
	if err := first.Same(); err != nil {
		t.Errorf("the first, when the second has ended: %v", err)
	}
}

// A name that stands for another directory, or for nothing, is found out.
func TestTheDirectoryIsTheSame(t *testing.T) {
	for name, damage := range map[string]func(dir string) error{
		"removed":  os.RemoveAll,
		"renamed":  func(dir string) error { return os.Rename(dir, dir+".old") },
		"replaced": func(dir string) error { return errors.Join(os.Rename(dir, dir+".old"), os.Mkdir(dir, 0o750)) },
		"a link":   func(dir string) error { return errors.Join(os.RemoveAll(dir), os.Symlink(filepath.Dir(dir), dir)) },
		"a file":   func(dir string) error { return errors.Join(os.RemoveAll(dir), os.WriteFile(dir, nil, 0o600)) },
		"parent":   func(dir string) error { return os.RemoveAll(filepath.Dir(dir)) },
		"no parent": func(dir string) error {
			return errors.Join(os.RemoveAll(filepath.Dir(dir)), os.WriteFile(filepath.Dir(dir), nil, 0o600))
		},
	} {
		dir := filepath.Join(t.TempDir(), "lib", "spool")
		d := newDisk(dir)
		lock, err := d.Lock()
		if err != nil {
			t.Fatal(err)
		}
		f, err := d.Create("x")
		if err != nil || f.There() != nil || d.Same() != nil {
			t.Errorf("%s, before: %v", name, err)
		}
		if err := damage(dir); err != nil {
			t.Fatal(err)
		}
		if err := d.Same(); !errors.Is(err, durable.ErrGone) {
			t.Errorf("%s: %v", name, err)
		}
		if err := d.Sync(); !errors.Is(err, durable.ErrGone) {
			t.Errorf("%s: sync: %v", name, err)
		}
		_ = lock.Close()
		_ = f.Close()
	}
}

// What stands in the place of a file of the spool's and is none is not opened:
// nothing hangs, nothing is written where a link leads, and the fault says what
// to do. What is appended is kept and delivered meanwhile.
func TestFilesThatAreNone(t *testing.T) {
	for _, name := range []string{lockName, runName, ackName, identityName, "samples-1-1.seg", "orders.journal", refusedName} {
		for kind, put := range map[string]func(path, target string) error{
			"FIFO": func(path, _ string) error { return unix.Mkfifo(path, 0o600) },
			"link": func(path, target string) error { return os.Symlink(target, path) },
			"dir":  func(path, _ string) error { return os.Mkdir(path, 0o700) },
		} {
			t.Run(name+" "+kind, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					dir, target := t.TempDir(), filepath.Join(t.TempDir(), "target")
					if err := os.WriteFile(target, []byte("theirs"), 0o600); err != nil {
						t.Fatal(err)
					}
					o := Options{AtRisk: time.Second}
					r := newRigOn(t, newMemDisk(), newDisk(dir), o).start()
					r.add(message.Reading, "air")
					if err := r.stopAndClose(); err != nil {
						t.Fatal(err)
					}
					path := filepath.Join(dir, name)
					if err := errors.Join(os.RemoveAll(path), put(path, target)); err != nil {
						t.Fatal(err)
					}
					r = newRigOn(t, newMemDisk(), newDisk(dir), o).start()
					r.add(message.Reading, "air")
					r.appendRecord(message.Record{Kind: message.Answer})
					_, jerr := r.s.Journal("orders").Replay(func([]byte) {})
					if err := r.s.Journal("orders").Append([]byte("x")); name == "orders.journal" && (err == nil || jerr == nil) {
						t.Errorf("the journal: %v, %v", err, jerr)
					}
					items := r.takeItems(all)
					if len(items) < 2 {
						t.Errorf("given: %s", brief(items))
					}
					r.s.Refuse(items[len(items)-1].ID, "no reason")
					wait(time.Hour)
					told := r.takeFaults()
					if name == refusedName { // it is for people, so it makes room for a new one
						if b, err := os.ReadFile(path); told != "" || err != nil || !strings.Contains(string(b), "no reason") {
							t.Errorf("told %s; it holds %q, %v", told, b, err)
						}
					} else if told == "" && name != "orders.journal" {
						t.Errorf("nothing is told")
					} else if strings.Contains(told, "spool_unavailable") && !strings.Contains(r.detail, "want a regular file, not a") && name != "samples-1-1.seg" {
						t.Errorf("told %s: %s", told, r.detail)
					}
					if kind != "dir" && name != lockName && !r.s.Stats().Disk { // a new file can take its name
						t.Errorf("nothing is written: %s", r.detail)
					}
					if b, err := os.ReadFile(target); err != nil || string(b) != "theirs" {
						t.Errorf("the link's target holds %q, %v", b, err)
					}
					_ = r.stopAndClose()
				})
			})
		}
	}
}
