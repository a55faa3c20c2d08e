package clock_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"fieldpost/daemon/clock"
	"fieldpost/daemon/clock/clocktest"
	"fieldpost/daemon/journal"
	"fieldpost/daemon/journal/journaltest"
	"fieldpost/daemon/task"
)

// fills returns by how much the time is wrong that is known from the journal of a
// moment of a boot, in a later boot; false where none is.
func fills(p *journaltest.Storage, d *clocktest.Clock, mono time.Duration) (wrong time.Duration, known bool) {
	got := clock.NewBootLog(d, p, slog.New(slog.DiscardHandler)).Boots().Fill(clock.Stamp{Boot: d.Boot, Mono: mono}, clock.Stamp{Boot: "later", Synced: true})
	return got.Wall.Sub(d.Began.Add(mono)), got.Synced
}

// keep runs a boot log in a bubble; end ends it and counts its lines in the log.
func keep(t *testing.T, d *clocktest.Clock, p *journaltest.Storage) (end func() (lines int)) {
	t.Helper()
	var log strings.Builder
	running := task.Start("clock", make(chan error, 1), clock.NewBootLog(d, p, slog.New(slog.NewTextHandler(&log, nil))).Run)
	synctest.Wait()
	return func() int {
		t.Helper()
		if err := running.Stop(time.Minute); err != nil {
			t.Error(err)
		}
		return strings.Count(log.String(), "\n")
	}
}

// wantWrites waits, and says how often has been written by then.
func wantWrites(t *testing.T, p *journaltest.Storage, after time.Duration, when string, n int) {
	t.Helper()
	<-time.After(after)
	synctest.Wait()
	if p.Written() != n {
		t.Errorf("%s: written %d times, want %d", when, p.Written(), n)
	}
}

// A boot whose time stays true costs one write, soon after it became true, and
// none at its end.
func TestTimesAreWrittenOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d, p := &clocktest.Clock{Boot: "b", Began: time.Now(), Off: -time.Hour}, &journaltest.Storage{}
		end := keep(t, d, p)
		wantWrites(t, p, time.Hour, "unknown", 0)
		d.Set(0, true)
		wantWrites(t, p, 10*time.Second, "known", 1)
		d.Set(time.Second/2, true)
		wantWrites(t, p, 100*time.Hour, "a small correction", 1)
		if lines := end(); lines != 0 || p.Written() != 1 {
			t.Errorf("at the end: written %d times, %d lines in the log", p.Written(), lines)
		}
		if wrong, known := fills(p, d, time.Minute); wrong != 0 || !known {
			t.Errorf("kept: wrong by %v, known %v", wrong, known)
		}
		if _, known := fills(p, d, 3*time.Hour); known {
			t.Error("of what came later it is known too")
		}
	})
}

// A clock that is set while it is held to be true, or is lost and found again, is
// news; but not more often than once an hour, but for the end.
func TestTimesThatAreNews(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d, p := &clocktest.Clock{Boot: "b", Began: time.Now(), Off: -time.Hour, Synced: true}, &journaltest.Storage{}
		end := keep(t, d, p)
		wantWrites(t, p, time.Minute, "wrong", 1)
		d.Set(0, true)
		wantWrites(t, p, time.Hour-2*time.Minute, "set right", 1)
		wantWrites(t, p, 2*time.Minute, "set right, after an hour", 2)
		if wrong, known := fills(p, d, time.Minute); wrong != 0 || !known {
			t.Errorf("kept: wrong by %v, known %v", wrong, known)
		}
		d.Set(0, false)
		wantWrites(t, p, 9*time.Hour, "lost", 2)
		d.Set(0, true)
		wantWrites(t, p, 10*time.Second, "found again", 3)
		if _, known := fills(p, d, 8*time.Hour); !known {
			t.Error("what was taken while it was lost is not known")
		}
		for range 50 {
			d.Set(0, false)
			<-time.After(30 * time.Second)
			d.Set(0, true)
			<-time.After(30 * time.Second)
		}
		wantWrites(t, p, 0, "lost and found again and again", 3)
		d.Set(time.Hour, true)
		end()
		if wrong, _ := fills(p, d, time.Minute); wrong != time.Hour || p.Written() != 4 {
			t.Errorf("at the end: written %d times, wrong by %v", p.Written(), wrong)
		}
	})
}

// A disk that takes nothing is tried again every minute and once at the end, and
// named once.
func TestTimesOnAFullDisk(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d, p := &clocktest.Clock{Boot: "b", Began: time.Now(), Synced: true}, &journaltest.Storage{}
		p.Fail(nil, errors.New("full"))
		end := keep(t, d, p)
		wantWrites(t, p, time.Hour, "full", 0)
		p.Fail(nil, nil)
		wantWrites(t, p, time.Minute, "not full", 1)
		p.Fail(nil, errors.New("full again"))
		d.Set(time.Hour, true)
		<-time.After(2 * time.Hour)
		p.Fail(nil, nil)
		if lines := end(); lines != 2 || p.Written() != 2 {
			t.Errorf("at the end: written %d times, %d lines in the log", p.Written(), lines)
		}
	})
}

// What cannot be read when the daemon starts is read when it can be, and what
// never can be is written again.
func TestTimesThatCannotBeRead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		old, p := &clocktest.Clock{Boot: "old", Began: time.Now(), Synced: true}, &journaltest.Storage{}
		keep(t, old, p)()
		p.Fail(errors.New("unread"), errors.New("read-only"))
		d := &clocktest.Clock{Boot: "b", Began: time.Now(), Synced: true}
		end := keep(t, d, p)
		<-time.After(time.Minute)
		p.Fail(nil, nil)
		wantWrites(t, p, time.Hour, "mended", 2)
		end()
		for _, x := range []*clocktest.Clock{old, d} {
			if wrong, known := fills(p, x, 0); wrong != 0 || !known {
				t.Errorf("boot %s: wrong by %v, known %v", x.Boot, wrong, known)
			}
		}
		p.Fail(errors.New("unreadable for ever"), nil)
		end = keep(t, d, p)
		wantWrites(t, p, 0, "unreadable", 3)
		end()
		p.Fail(nil, nil)
		if _, known := fills(p, old, 0); known {
			t.Error("the earlier boot is known")
		}
		if wrong, known := fills(p, d, 0); wrong != 0 || !known {
			t.Errorf("this boot: wrong by %v, known %v", wrong, known)
		}
	})
}

// Any damage to the file loses only times, and the next
// write mends it.
func TestHarmedTimes(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "boots.journal")
	now := time.Date(2026, 11, 21, 19, 0, 0, 0, time.UTC)
	// kept gives how many of ten boots are known in another, which then writes.
	kept := func(boot string) (n, lines int) {
		t.Helper()
		at := clock.Stamp{Boot: boot, Mono: time.Hour, Wall: now, Synced: true}
		c := clock.Func(func() clock.Stamp { return at })
		s := journal.FileAt(dir, "boots")
		var log strings.Builder
		x := clock.NewBootLog(c, s, slog.New(slog.NewTextHandler(&log, nil)))
		for i := range 10 {
			r := x.Boots().Fill(clock.Stamp{Boot: fmt.Sprint("boot", i), Mono: time.Minute}, clock.Stamp{})
			if r.Synced {
				n++
				if wall := now.Add(-59 * time.Minute); r.Wall != wall {
					t.Errorf("boot %d: %v, want %v", i, r.Wall, wall)
				}
			}
		}
		ended, end := context.WithCancel(context.Background())
		end() // so that it looks at the clock once
		if err := x.Run(ended); err != nil {
			t.Error(err)
		}
		s.Close()
		return n, strings.Count(log.String(), "\n")
	}
	for i := range 10 {
		if n, lines := kept(fmt.Sprint("boot", i)); n != i || lines != 0 {
			t.Fatalf("in boot %d %d are known, %d lines in the log", i, n, lines)
		}
	}
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		harm  func(b []byte) []byte
		least int // boots that are known all the same
		lines int
	}{
		"nothing":         {func(b []byte) []byte { return b }, 10, 0},
		"a byte":          {func(b []byte) []byte { b[len(b)/2] ^= 1; return b }, 8, 1},
		"cut short":       {func(b []byte) []byte { return b[:len(b)-3] }, 9, 1},
		"zeroes":          {func(b []byte) []byte { clear(b); return b }, 0, 1},
		"zeroes at last":  {func(b []byte) []byte { clear(b[len(b)/2:]); return b }, 4, 1},
		"something else":  {func([]byte) []byte { return []byte("<html>") }, 0, 1},
		"empty":           {func([]byte) []byte { return nil }, 0, 0},
		"much too large":  {func([]byte) []byte { return make([]byte, 33<<20) }, 0, 0},
		"twice the whole": {func(b []byte) []byte { return append(b, b...) }, 10, 1},
	} {
		if err := os.WriteFile(path, c.harm(slices.Clone(whole)), 0o600); err != nil {
			t.Fatal(err)
		}
		n, lines := kept("after " + name)
		if n < c.least || lines != c.lines || n == 10 != (c.least == 10) {
			t.Errorf("%s: %d boots are known, want %d or more; %d lines in the log, want %d", name, n, c.least, lines, c.lines)
		}
		if again, lines := kept("later"); again != n || lines != 0 {
			t.Errorf("%s: %d boots are known, then %d, %d lines in the log", name, n, again, lines)
		}
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if n, lines := kept("gone"); n != 0 || lines != 0 {
		t.Errorf("removed: %d are known, %d lines in the log", n, lines)
	}
}
