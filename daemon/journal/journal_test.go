package journal

import (
	"context"
	"errors"
	"slices"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"fieldpost/daemon/durable/durabletest"
)

// notes is what a journal's user has in memory, and writes.
type notes struct {
	j     *Journal
	known []string
}

func (n *notes) add(large int64, s string) error {
	n.known = append(n.known, s)
	return n.j.Write(large, texts(n.known...), []byte(s))
}

// What an earlier run has left is read, and rewritten before anything is put behind it.
func TestJournal(t *testing.T) {
	d := durabletest.New()
	if err := newFile(d).Rewrite(texts("a", "what?", "b")); err != nil {
		t.Fatal(err)
	}
	whole := d.Data("orders.journal")
	d.Put("orders.journal", whole[:len(whole)-1])
	n := notes{j: New(newFile(d))}
	read := func() (Damage, error) {
		return n.j.Read(func(b []byte) bool {
			if string(b) == "what?" {
				return false
			}
			n.known = append(n.known, string(b))
			return true
		})
	}
	d.Failing(func(op, _ string) error {
		if op == "read" {
			return syscall.EIO
		}
		return nil
	})
	if damage, err := read(); !errors.Is(err, syscall.EIO) || damage.Any() || n.j.WasRead() {
		t.Errorf("from a disk that fails: %+v, %v", damage, err)
	}
	d.Failing(nil)
	damage, err := read()
	if err != nil || damage.Holes != 1 || damage.Tail == 0 || !damage.Any() || !n.j.WasRead() {
		t.Errorf("read with %+v, %v", damage, err)
	}
	if damage, err := read(); err != nil || damage.Any() || !slices.Equal(n.known, []string{"a"}) {
		t.Errorf("read once more: %q, %+v, %v", n.known, damage, err)
	}
	if err := n.j.Append([]byte("c")); !errors.Is(err, errUnsound) || n.j.Sound() {
		t.Errorf("appended to what a run before has left: %v", err)
	}
	for _, s := range []string{"c", "d"} {
		if err := n.add(1<<10, s); err != nil || !n.j.Sound() {
			t.Error(s, err)
		}
	}
	if got, damage := newFile(d).all(t); !slices.Equal(got, []string{"a", "c", "d"}) || damage.Any() {
		t.Errorf("it holds %q, %+v", got, damage)
	}
}

// An entry goes to the end, unless the file is large or an earlier write failed.
func TestJournalWrite(t *testing.T) {
	d := durabletest.New()
	n := notes{j: New(newFile(d))}
	var ops []string
	fails := ""
	d.Failing(func(op, _ string) error {
		if op == "rename" || op == "datasync" {
			ops = append(ops, op)
		}
		if op == fails {
			return syscall.ENOSPC
		}
		return nil
	})
	for i, c := range []struct {
		large int64
		fails string
		ops   []string // rename: all was rewritten; datasync: one entry was put at the end
	}{
		{1 << 10, "", []string{"rename"}},
		{1 << 10, "", []string{"datasync"}},
		{1, "", []string{"rename"}},
		{1 << 10, "datasync", []string{"datasync"}},
		{1 << 10, "rename", []string{"rename"}},
		{1 << 10, "", []string{"rename"}},
		{1 << 10, "", []string{"datasync"}},
	} {
		ops, fails = nil, c.fails
		err := n.add(c.large, string(rune('a'+i)))
		if (err != nil) != (c.fails != "") || n.j.Sound() != (err == nil) || !slices.Equal(ops, c.ops) {
			t.Errorf("write %d: %q, %v", i, ops, err)
		}
	}
	fails = ""
	if got, damage := newFile(d).all(t); !slices.Equal(got, n.known) || damage.Any() {
		t.Errorf("it holds %q, %+v, want %q", got, damage, n.known)
	}
}

// The forms on disk are those of all versions: what an older one has written is
// read, and an older one reads what this one writes.
func TestFormOnDisk(t *testing.T) {
	d := durabletest.New()
	f := newFile(d)
	if err := errors.Join(f.Rewrite(texts("a")), f.Append([]byte("bc"))); err != nil {
		t.Fatal(err)
	}
	want := "\xa8\x5b\x1a\xeb\x01\x00\x00\x00\x01\x00\x00\x00\x00\x00\x00\x00" + "a" +
		"\xb8\x69\x6a\x98\x02\x00\x00\x00\x02\x00\x00\x00\x00\x00\x00\x00" + "bc"
	if got := string(d.Data("orders.journal")); got != want {
		t.Errorf("it is %q, want %q", got, want)
	}
}

// Keep writes at once, when it is woken, when the time has come, and at the end.
func TestKeep(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		start, wake, calls := time.Now(), make(chan struct{}, 1), 0
		var at []time.Duration
		ctx, stop := context.WithCancel(t.Context())
		done := make(chan bool)
		go func() {
			defer close(done)
			Keep(ctx, wake, func(last bool) time.Duration {
				calls++
				at = append(at, time.Since(start))
				if last != (ctx.Err() != nil) {
					t.Errorf("call %d: last %v", calls, last)
				}
				if calls < 3 {
					return time.Minute
				}
				return 0
			})
		}()
		<-time.After(2 * time.Hour) // at 0, 1 m and 2 m; then it waits to be woken
		wake <- struct{}{}
		<-time.After(time.Hour)
		stop()
		<-done
		if want := []time.Duration{0, time.Minute, 2 * time.Minute, 2 * time.Hour, 3 * time.Hour}; !slices.Equal(at, want) {
			t.Errorf("written at %v, want %v", at, want)
		}
	})
}
