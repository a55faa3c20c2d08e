package daemon

import (
	"errors"
	"fmt"
	"iter"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"fieldpost/daemon/clock"
	"fieldpost/daemon/journal"
	"fieldpost/daemon/spool"
	"fieldpost/daemon/task"
)

// paper is a journal in memory.
type paper struct {
	mu      sync.Mutex
	entries [][]byte
	written int
	unread  error // Replay's
	full    error // Rewrite's
}

// fail has Replay and Rewrite give errors from now on.
func (p *paper) fail(unread, full error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.unread, p.full = unread, full
}

func (p *paper) Replay(take func([]byte)) (journal.Damage, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.unread != nil {
		return journal.Damage{}, p.unread
	}
	for _, e := range p.entries {
		take(e)
	}
	return journal.Damage{}, nil
}

func (p *paper) Rewrite(entries iter.Seq[[]byte]) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.full != nil {
		return p.full
	}
	p.entries = slices.Collect(entries)
	p.written++
	return nil
}

func (p *paper) Append(...[]byte) error { panic("what is written here is written anew") }

func (p *paper) Size() int64 { return 0 }

// fills gives by how much the time is wrong that is known from the paper of a
// moment of a boot, in a later boot; false where none is.
func (p *paper) fills(d *dial, mono time.Duration) (wrong time.Duration, known bool) {
	got := newTimes(d, p, slog.New(slog.DiscardHandler)).boots.Fill(clock.Stamp{Boot: d.boot, Mono: mono}, clock.Stamp{Boot: "later", Synced: true})
	return got.Wall.Sub(d.began.Add(mono)), got.Synced
}

// keep runs times in a bubble; end ends it and counts its lines in the log.
func keep(t *testing.T, d *dial, p *paper) (end func() (lines int)) {
	t.Helper()
	var log strings.Builder
	running := task.Start("clock", make(chan error, 1), newTimes(d, p, slog.New(slog.NewTextHandler(&log, nil))).run)
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
func (p *paper) wantWrites(t *testing.T, after time.Duration, when string, n int) {
	t.Helper()
	<-time.After(after)
	synctest.Wait()
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.written != n {
		t.Errorf("%s: written %d times, want %d", when, p.written, n)
	}
}

// A boot whose time stays true costs one write, soon after it became true, and
// none at its end.
func TestTimesAreWrittenOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d, p := &dial{boot: "b", began: time.Now(), off: -time.Hour}, &paper{}
		end := keep(t, d, p)
		p.wantWrites(t, time.Hour, "unknown", 0)
		d.set(0, true)
		p.wantWrites(t, lookEvery, "known", 1)
		d.set(timesStep/2, true)
		p.wantWrites(t, 100*time.Hour, "a small correction", 1)
		if lines := end(); lines != 0 || p.written != 1 {
			t.Errorf("at the end: written %d times, %d lines in the log", p.written, lines)
		}
		if wrong, known := p.fills(d, time.Minute); wrong != 0 || !known {
			t.Errorf("kept: wrong by %v, known %v", wrong, known)
		}
		if _, known := p.fills(d, 3*time.Hour); known {
			t.Error("of what came later it is known too")
		}
	})
}

// A clock that is set while it is held to be true, or is lost and found again, is
// news; but not more often than once an hour, but for the end.
func TestTimesThatAreNews(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d, p := &dial{boot: "b", began: time.Now(), off: -time.Hour, synced: true}, &paper{}
		end := keep(t, d, p)
		p.wantWrites(t, time.Minute, "wrong", 1)
		d.set(0, true)
		p.wantWrites(t, timesEvery-2*time.Minute, "set right", 1)
		p.wantWrites(t, 2*time.Minute, "set right, after an hour", 2)
		if wrong, known := p.fills(d, time.Minute); wrong != 0 || !known {
			t.Errorf("kept: wrong by %v, known %v", wrong, known)
		}
		d.set(0, false)
		p.wantWrites(t, 9*time.Hour, "lost", 2)
		d.set(0, true)
		p.wantWrites(t, lookEvery, "found again", 3)
		if _, known := p.fills(d, 8*time.Hour); !known {
			t.Error("what was taken while it was lost is not known")
		}
		for range 50 {
			d.set(0, false)
			<-time.After(30 * time.Second)
			d.set(0, true)
			<-time.After(30 * time.Second)
		}
		p.wantWrites(t, 0, "lost and found again and again", 3)
		d.set(time.Hour, true)
		end()
		if wrong, _ := p.fills(d, time.Minute); wrong != time.Hour || p.written != 4 {
			t.Errorf("at the end: written %d times, wrong by %v", p.written, wrong)
		}
	})
}

// A disk that takes nothing is tried again every minute and once at the end, and
// named once.
func TestTimesOnAFullDisk(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d, p := &dial{boot: "b", began: time.Now(), synced: true}, &paper{full: errors.New("full")}
		end := keep(t, d, p)
		p.wantWrites(t, time.Hour, "full", 0)
		p.fail(nil, nil)
		p.wantWrites(t, timesRetry, "not full", 1)
		p.fail(nil, errors.New("full again"))
		d.set(time.Hour, true)
		<-time.After(2 * time.Hour)
		p.fail(nil, nil)
		if lines := end(); lines != 2 || p.written != 2 {
			t.Errorf("at the end: written %d times, %d lines in the log", p.written, lines)
		}
	})
}

// What cannot be read when the daemon starts is read when it can be, and what
// never can be is written anew.
func TestTimesThatCannotBeRead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		old, p := &dial{boot: "old", began: time.Now(), synced: true}, &paper{}
		keep(t, old, p)()
		p.fail(errors.New("unread"), errors.New("read-only"))
		d := &dial{boot: "b", began: time.Now(), synced: true}
		end := keep(t, d, p)
		<-time.After(time.Minute)
		p.fail(nil, nil)
		p.wantWrites(t, time.Hour, "mended", 2)
		end()
		for _, x := range []*dial{old, d} {
			if wrong, known := p.fills(x, 0); wrong != 0 || !known {
				t.Errorf("boot %s: wrong by %v, known %v", x.boot, wrong, known)
			}
		}
		p.fail(errors.New("unreadable for ever"), nil)
		end = keep(t, d, p)
		p.wantWrites(t, 0, "unreadable", 3)
		end()
		p.fail(nil, nil)
		if _, known := p.fills(old, 0); known {
			t.Error("the earlier boot is known")
		}
		if wrong, known := p.fills(d, 0); wrong != 0 || !known {
			t.Errorf("this boot: wrong by %v, known %v", wrong, known)
		}
	})
}

// However the file is harmed, that costs times and nothing else, and the next
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
		s, err := spool.Open(spool.Options{Dir: dir, AtRisk: time.Second, MaxBytes: 1 << 20, Clock: c})
		if err != nil {
			t.Fatal(err)
		}
		var log strings.Builder
		x := newTimes(c, s.Journal("boots"), slog.New(slog.NewTextHandler(&log, nil)))
		for i := range 10 {
			r := x.boots.Fill(clock.Stamp{Boot: fmt.Sprint("boot", i), Mono: time.Minute}, clock.Stamp{})
			if r.Synced {
				n++
				if wall := now.Add(-59 * time.Minute); r.Wall != wall {
					t.Errorf("boot %d: %v, want %v", i, r.Wall, wall)
				}
			}
		}
		x.look(false)
		if err := s.Close(); err != nil {
			t.Error(err)
		}
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
