package durable_test

import (
	"bytes"
	"errors"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"testing"

	"fieldpost/daemon/durable"
	"fieldpost/daemon/durable/durabletest"
)

// Whatever fails while a file is replaced, and whenever the power is cut, the file
// holds what it did or what it was to hold, and nothing is left beside it.
func TestReplace(t *testing.T) {
	for _, op := range []string{"", "remove", "create", "write", "sync", "rename", "syncdir"} {
		d := durabletest.New()
		d.Put("file", []byte("old"))
		d.Put("file.tmp", []byte("of a crash"))
		rnd := rand.New(rand.NewPCG(1, 2))
		var cuts []*durabletest.Dir
		d.Failing(func(o, _ string) error {
			cuts = append(cuts, d.CutNow(rnd), d.CutNow(rnd))
			if o == op {
				return syscall.EIO
			}
			return nil
		})
		err := durable.Replace(d, "file", []byte("the new one"))
		d.Failing(nil)
		want := "old"
		if op == "" || op == "syncdir" {
			want = "the new one"
		}
		if got := string(d.Data("file")); got != want || (err != nil) != (op != "") || op != "" && !errors.Is(err, syscall.EIO) {
			t.Errorf("%q fails: %v, and the file holds %q, want %q", op, err, got, want)
		}
		if names, _ := d.List(); op != "remove" && !slices.Equal(names, []string{"file"}) {
			t.Errorf("%q fails: there are %q", op, names)
		}
		for _, c := range cuts {
			if got := string(c.Data("file")); got != "old" && got != "the new one" {
				t.Errorf("%q fails: a power cut leaves %q", op, got)
			}
		}
	}
}

// The operating system's directory gives what the one in memory does.
func TestOSDir(t *testing.T) {
	path := t.TempDir()
	d := durable.OSDir{Path: path, Mode: 0o640}
	if err := os.Mkdir(filepath.Join(path, "directory"), 0o700); err != nil {
		t.Fatal(err)
	}
	for _, data := range []string{"first", "second"} {
		if err := durable.ReplaceBy(d, "file", "fresh", []byte(data)); err != nil {
			t.Fatal(err)
		}
		if b, err := d.Read("file", 100); err != nil || string(b) != data {
			t.Errorf("it holds %q, %v", b, err)
		}
	}
	f, err := d.Append("file")
	if err != nil {
		t.Fatal(err)
	}
	_, err = f.Write([]byte(" and more"))
	if err := errors.Join(err, f.Datasync(), f.There(), d.Same()); err != nil {
		t.Error(err)
	}
	if err := d.Truncate("file", 10); err != nil {
		t.Error(err)
	}
	if n, err := d.Size("file"); n != 10 || err != nil {
		t.Errorf("size %d, %v", n, err)
	}
	if names, err := d.List(); err != nil || !slices.Equal(names, []string{"file"}) {
		t.Errorf("there are %q, %v", names, err)
	}
	if _, err := d.Create("file"); !errors.Is(err, os.ErrExist) {
		t.Errorf("made once more: %v", err)
	}
	if err := errors.Join(d.Remove("file"), d.Remove("file")); err != nil {
		t.Error(err)
	}
	if err := f.There(); !errors.Is(err, durable.ErrGone) {
		t.Errorf("of a file that was removed: %v", err)
	}
	if err := f.Close(); err != nil {
		t.Error(err)
	}
}

// The form on disk is that of all versions.
func TestFrames(t *testing.T) {
	b := durable.AppendFrame(durable.AppendFrame(nil, 1, []byte("a")), 2, []byte("bc"))
	if want := []byte("\xa8\x5b\x1a\xeb\x01\x00\x00\x00\x01\x00\x00\x00\x00\x00\x00\x00a" +
		"\xb8\x69\x6a\x98\x02\x00\x00\x00\x02\x00\x00\x00\x00\x00\x00\x00bc"); !bytes.Equal(b, want) {
		t.Errorf("got %q, want %q", b, want)
	}
	var got []string
	at := durable.Scan(append(append([]byte("??"), b...), "!"...), 0)
	for at.Next() {
		got = append(got, string(at.Payload))
	}
	if !slices.Equal(got, []string{"a", "bc"}) || at.Holes != 1 || at.Tail != 1 || at.Seq != 2 {
		t.Errorf("read %q: %d holes, %d at the end, seq %d", got, at.Holes, at.Tail, at.Seq)
	}
}

// Somebody removes the new file before it gets its name. It is written once more.
func TestReplaceOfARemovedFile(t *testing.T) {
	d := durabletest.New()
	d.Put("file", []byte("old"))
	removed := 0
	d.Failing(func(op, name string) error {
		if op == "rename" && removed == 0 {
			delete(d.Names, name)
			removed++
		}
		return nil
	})
	if err := durable.Replace(d, "file", []byte("new")); err != nil || string(d.Data("file")) != "new" || removed != 1 {
		t.Errorf("%v, removed %d times, the file holds %q", err, removed, d.Data("file"))
	}
	d.Failing(func(op, name string) error {
		if op == "rename" {
			delete(d.Names, name)
		}
		return nil
	})
	if err := durable.Replace(d, "file", []byte("newer")); !errors.Is(err, fs.ErrNotExist) || string(d.Data("file")) != "new" {
		t.Errorf("%v, the file holds %q", err, d.Data("file"))
	}
}
