package journal

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"syscall"
	"testing"

	"fieldpost/daemon/durable"
	"fieldpost/daemon/durable/durabletest"
)

// newFile is a file on a disk in memory.
func newFile(d *durabletest.Dir) *File { return NewFile(d, "orders", nil) }

func (j *File) all(t *testing.T) (out []string, damage Damage) {
	t.Helper()
	damage, err := j.Replay(func(b []byte) { out = append(out, string(b)) })
	if err != nil {
		t.Fatal(err)
	}
	return out, damage
}

func texts(of ...string) func(func([]byte) bool) {
	return func(yield func([]byte) bool) {
		for _, s := range of {
			if !yield([]byte(s)) {
				return
			}
		}
	}
}

func TestFile(t *testing.T) {
	d := durabletest.New()
	j := newFile(d)
	if got, damage := j.all(t); got != nil || damage != (Damage{}) {
		t.Errorf("a journal that is not there holds %q, %+v", got, damage)
	}
	if err := j.Append([]byte("early")); err == nil {
		t.Error("Append before Rewrite succeeded")
	}
	if err := errors.Join(j.Rewrite(texts("a", "b")), j.Append([]byte("c"))); err != nil {
		t.Fatal(err)
	}
	if got, damage := newFile(d).all(t); !slices.Equal(got, []string{"a", "b", "c"}) || damage != (Damage{}) {
		t.Errorf("holds %q, %+v", got, damage)
	}
	if n := int64(len(d.Data(j.name))); n != j.Size() {
		t.Errorf("size %d, want %d", j.Size(), n)
	}
	for _, b := range [][]byte{nil, make([]byte, durable.MaxPayload+1)} {
		if err := errors.Join(j.Append(b)); !errors.Is(err, errTooLong) {
			t.Errorf("Append of %d bytes: %v", len(b), err)
		}
		if err := newFile(d).Rewrite(texts(string(b))); !errors.Is(err, errTooLong) {
			t.Errorf("Rewrite of %d bytes: %v", len(b), err)
		}
	}
	if err := j.Append([]byte("d")); err != nil {
		t.Errorf("after an entry that no frame takes: %v", err)
	}
	d.Put(j.name, make([]byte, maxFile+1))
	if _, err := j.Replay(func([]byte) {}); err == nil || !strings.Contains(err.Error(), "larger") {
		t.Errorf("Replay of a huge file: %v", err)
	}
}

// Several entries go with one sync, and stand in the file in their order.
func TestFileTakesSeveralAtOnce(t *testing.T) {
	d := durabletest.New()
	j := newFile(d)
	if err := errors.Join(j.Rewrite(texts("a")), j.Append([]byte("b"), []byte("c")), j.Append([]byte("d"))); err != nil {
		t.Fatal(err)
	}
	if err := j.Append([]byte("e"), nil); !errors.Is(err, errTooLong) {
		t.Errorf("Append of an empty entry: %v", err)
	}
	if got, damage := newFile(d).all(t); !slices.Equal(got, []string{"a", "b", "c", "d"}) || damage != (Damage{}) {
		t.Errorf("holds %q, %+v", got, damage)
	}
	if n := int64(len(d.Data(j.name))); n != j.Size() {
		t.Errorf("size %d, want %d", j.Size(), n)
	}
}

// What Append has said to be on disk is there after a power cut, whatever
// failed before it.
func TestFileSurvivesPowerCuts(t *testing.T) {
	for seed := range uint64(300) {
		rnd := rand.New(rand.NewPCG(seed, 9))
		d := durabletest.New()
		var want []string
		j := newFile(d)
		if err := j.Rewrite(texts()); err != nil {
			t.Fatal(err)
		}
		for i := range 40 {
			fails := rnd.IntN(4) == 0
			d.Failing(func(op, _ string) error {
				if fails && rnd.IntN(3) == 0 {
					return syscall.EIO
				}
				return nil
			})
			text := fmt.Sprint("entry ", i)
			err := j.Append([]byte(text))
			if err != nil {
				err = j.Rewrite(texts(append(slices.Clone(want), text)...))
			}
			if err == nil {
				want = append(want, text)
			}
			left := d.Cut(rnd)
			got, _ := newFile(left).all(t)
			if err != nil && len(got) == len(want)+1 && got[len(want)] == text {
				got = got[:len(want)] // it may be there, or not
			}
			if !slices.Equal(got, want) {
				t.Fatalf("seed %d, entry %d (%v): left %q, want %q", seed, i, err, got, want)
			}
			for err != nil {
				fails = false
				err = j.Rewrite(texts(want...))
			}
		}
	}
}

// Every step that can fail does, and is the reason that is given; then only
// Rewrite helps.
func TestFileOnABrokenDisk(t *testing.T) {
	for _, op := range []string{"add", "write", "datasync", "size"} {
		d := durabletest.New()
		j := newFile(d)
		if err := j.Rewrite(texts("a")); err != nil {
			t.Fatal(err)
		}
		d.Failing(func(o, _ string) error {
			if o == op {
				return syscall.EROFS
			}
			return nil
		})
		if err := j.Append([]byte("b")); !errors.Is(err, syscall.EROFS) {
			t.Errorf("%s fails: Append says %v", op, err)
		}
		d.Failing(nil)
		if err := j.Append([]byte("b")); err == nil {
			t.Errorf("%s has failed, and the file is trusted", op)
		}
		if err := errors.Join(j.Rewrite(texts("a")), j.Append([]byte("c"))); err != nil {
			t.Error(err)
		}
		if got, damage := j.all(t); !slices.Equal(got, []string{"a", "c"}) || damage != (Damage{}) {
			t.Errorf("%s failed: holds %q, %+v", op, got, damage)
		}
	}
	for _, op := range []string{"remove", "create", "write", "sync", "rename", "syncdir"} {
		d := durabletest.New()
		j := newFile(d)
		if err := j.Rewrite(texts("old")); err != nil {
			t.Fatal(err)
		}
		d.Failing(func(o, _ string) error {
			if o == op {
				return syscall.ENOSPC
			}
			return nil
		})
		if err := j.Rewrite(texts("new")); !errors.Is(err, syscall.ENOSPC) {
			t.Errorf("%s fails: Rewrite says %v", op, err)
		}
		d.Failing(nil)
		want := "old"
		if op == "syncdir" {
			want = "new"
		}
		if got, _ := j.all(t); !slices.Equal(got, []string{want}) {
			t.Errorf("%s failed: holds %q, want %q", op, got, want)
		}
		if err := j.Append([]byte("x")); err == nil {
			t.Errorf("%s has failed, and the file is trusted", op)
		}
	}
}

// Somebody tidies up while we run, or another has the directory.
func TestFileThatIsNotOurs(t *testing.T) {
	d := durabletest.New()
	j := newFile(d)
	if err := j.Rewrite(texts("a")); err != nil {
		t.Fatal(err)
	}
	if err := d.Remove(j.name); err != nil {
		t.Fatal(err)
	}
	if err := j.Append([]byte("b")); err == nil {
		t.Error("Append to a file that was removed succeeded")
	}
	d.Put(j.name, []byte("something else"))
	if err := j.Append([]byte("b")); err == nil {
		t.Error("Append to a file that was replaced succeeded")
	}
	if err := errors.Join(j.Rewrite(texts("a")), j.Append([]byte("b"))); err != nil {
		t.Error(err)
	}
	no := errors.New("not ours")
	j.usable = func() error { return no }
	_, err := j.Replay(func([]byte) {})
	for what, err := range map[string]error{"Replay": err, "Append": j.Append([]byte("c")), "Rewrite": j.Rewrite(texts())} {
		if !errors.Is(err, no) {
			t.Errorf("%s without the directory: %v", what, err)
		}
	}
}

// Wherever a journal is cut off, zeroed or has a bit flipped, that costs the
// entries that were hit, and it is told.
func TestDamagedFile(t *testing.T) {
	d := durabletest.New()
	j := newFile(d)
	want := []string{"first", "second", "third"}
	if err := j.Rewrite(texts(want...)); err != nil {
		t.Fatal(err)
	}
	whole := d.Data(j.name)
	for at := range whole {
		for what, hit := range map[string]func(b []byte) []byte{
			"cut":    func(b []byte) []byte { return b[:at] },
			"zeroed": func(b []byte) []byte { return append(b[:at], make([]byte, len(b)-at)...) },
			"flip":   func(b []byte) []byte { b[at] ^= 16; return b },
		} {
			d.Put(j.name, hit(bytes.Clone(whole)))
			got, damage := j.all(t)
			n, end := 0, int64(0)
			for i, s := range want {
				start := end
				end += durable.FrameLen([]byte(s))
				hurt := int64(at) < end && (what != "flip" || int64(at) >= start)
				if hurt {
					continue
				}
				if n >= len(got) || got[n] != want[i] {
					t.Fatalf("%s at %d: left %q, lacks %q", what, at, got, s)
				}
				n++
			}
			clean := damage == (Damage{})
			if boundary := what == "cut" && (at == 0 || int64(at) == durable.FrameLen([]byte("first")) || int64(at) == durable.FrameLen([]byte("first"))+durable.FrameLen([]byte("second"))); clean != boundary || len(got) != n {
				t.Errorf("%s at %d: left %q, %+v", what, at, got, damage)
			}
		}
	}
}

// Whatever stands in the file, reading it ends, and what is read can be written.
func FuzzFile(f *testing.F) {
	f.Add([]byte(nil))
	f.Add(durable.AppendFrame(durable.AppendFrame(nil, 1, []byte("a")), 2, []byte("b")))
	f.Add(append(make([]byte, 40), durable.AppendFrame(nil, 1<<40, []byte("a"))...))
	f.Fuzz(func(t *testing.T, data []byte) {
		d := durabletest.New()
		j := newFile(d)
		d.Put(j.name, data)
		got, _ := j.all(t)
		if err := j.Rewrite(texts(got...)); err != nil {
			t.Fatal(err)
		}
		if again, damage := j.all(t); !slices.Equal(again, got) || damage != (Damage{}) {
			t.Errorf("read %q, %+v, want %q", again, damage, got)
		}
	})
}

// A journal in a directory that has no spool is appended to as any other.
func TestFileWithoutASpool(t *testing.T) {
	j := FileAt(t.TempDir(), "refusals")
	if _, err := j.Replay(func([]byte) {}); err != nil {
		t.Fatal(err)
	}
	if err := j.Rewrite(slices.Values([][]byte{[]byte("a")})); err != nil {
		t.Fatal(err)
	}
	for range 3 {
		if err := j.Append([]byte("b")); err != nil {
			t.Fatal(err)
		}
	}
	var got []byte
	if damage, err := j.Replay(func(b []byte) { got = append(got, b...) }); err != nil || damage != (Damage{}) || string(got) != "abbb" {
		t.Errorf("got %q, %v, %v", got, damage, err)
	}
	j.Close()
}

// Resume lets Append continue after the entries of an earlier run, if all of them could be
// read.
func TestResume(t *testing.T) {
	d := durabletest.New()
	if j := newFile(d); j.Resume() {
		t.Error("before Replay")
	}
	j := newFile(d)
	j.all(t)
	if j.Resume() {
		t.Error("without a file")
	}
	if err := j.Rewrite(texts("a", "b")); err != nil {
		t.Fatal(err)
	}
	j = newFile(d)
	j.all(t)
	if err := j.Append([]byte("x")); err == nil {
		t.Error("Append without Resume succeeded")
	}
	j.all(t)
	if !j.Resume() {
		t.Fatal("does not resume")
	}
	if err := j.Append([]byte("c"), []byte("d")); err != nil {
		t.Fatal(err)
	}
	if got, damage := newFile(d).all(t); !slices.Equal(got, []string{"a", "b", "c", "d"}) || damage.Any() {
		t.Errorf("holds %q, %+v", got, damage)
	}
	whole := d.Data(j.name)
	for what, b := range map[string][]byte{"a tail": whole[:len(whole)-1], "a hole": append([]byte("x"), whole...)} {
		d.Put(j.name, b)
		j = newFile(d)
		j.all(t)
		if j.Resume() {
			t.Errorf("resumes with %s", what)
		}
	}
	d.Put(j.name, whole)
	j = newFile(d)
	j.all(t)
	if !j.Resume() {
		t.Fatal("does not resume")
	}
	d.Put(j.name, whole[:20]) // somebody's
	if err := j.Append([]byte("e")); err == nil || j.Resume() && j.Append([]byte("e")) == nil {
		t.Errorf("appended to a file that has changed: %v", err)
	}
}

// Somebody removes the file between two steps of Append. The entry is not reported as being on
// disk with those before it, which are gone.
func TestFileRemovedWhileItIsAppendedTo(t *testing.T) {
	d := durabletest.New()
	j := newFile(d)
	if err := j.Rewrite(texts("a", "b")); err != nil {
		t.Fatal(err)
	}
	d.Failing(func(op, name string) error {
		if op == "add" {
			delete(d.Names, name)
		}
		return nil
	})
	if err := j.Append([]byte("c")); err == nil || !strings.Contains(err.Error(), "bytes, and") {
		t.Errorf("got %v", err)
	}
	d.Failing(nil)
	if err := j.Rewrite(texts("a", "b", "c")); err != nil {
		t.Error(err)
	}
	if got, damage := newFile(d).all(t); len(got) != 3 || damage != (Damage{}) {
		t.Errorf("holds %q, %+v", got, damage)
	}
}
