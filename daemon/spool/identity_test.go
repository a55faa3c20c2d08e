package spool

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"fieldpost/daemon/clock"
	"fieldpost/daemon/durable"
	"fieldpost/daemon/durable/durabletest"
	"fieldpost/daemon/message"
	"fieldpost/sensors"
)

// sent is what a receiver gets of a record: what it sorts and de-duplicates by,
// and how it takes it.
type sent struct {
	Thing, Spool, Sensor, Kind string
	Run, Seq                   uint64
}

// receive gives what a receiver gets of everything that a spool gives.
func receive(t *testing.T, r *rig) (out []sent) {
	t.Helper()
	for _, x := range r.takeItems(all) {
		var m sent
		if err := json.Unmarshal(message.Encode("now", x.Record), &m); err != nil {
			t.Fatal(err)
		}
		out = append(out, m)
		r.s.Ack(x.ID)
	}
	return out
}

// left is a disk with what a run of that thing on that board has left on it.
func left(t *testing.T, d *memDisk, thing, board string, readings int) (after *memDisk, id string) {
	t.Helper()
	r := newRig(t, d, Options{AtRisk: time.Second, Thing: thing, Board: board}).start()
	for range readings {
		r.add(message.Reading, "air")
	}
	r.add(message.Edge, "door")
	r.appendRecord(message.Record{Kind: message.Answer, Fields: []sensors.Field{{Name: "id", Value: "c-1"}}})
	if err := r.stopAndClose(); err != nil {
		t.Error(err)
	}
	return d.Kill(), r.s.Source().Spool
}

// A spool makes its id once, and keeps it while it stays on its board. A copy
// on another board has its own from then on; so no two records have one name,
// though the runs have the same numbers.
func TestBoardsFromOneCardAreToldApart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		card, made := left(t, newMemDisk(), "east", "board 1", 2)
		if ok, _ := regexp.MatchString("^[0-9a-hjkmnp-tv-z]{6}$", made); !ok {
			t.Errorf("id %q", made)
		}
		seen := map[sent]bool{}
		for i, board := range []string{"board 1", "board 2", "board 3", ""} {
			r := newRig(t, card.Kill(), Options{AtRisk: time.Second, Thing: "east", Board: board}).start()
			id := r.s.Source().Spool
			if kept := board == "board 1" || board == ""; kept != (id == made) || r.s.RunNumber() != 2 {
				t.Errorf("on %q: id %q, made as %q, run %d", board, id, made, r.s.RunNumber())
			}
			r.add(message.Reading, "air")
			for _, m := range receive(t, r) {
				if m.Run == 2 && m.Spool != id || m.Run == 1 && m.Spool != made || m.Thing != "east" {
					t.Errorf("on %q: %+v", board, m)
				}
				if m.Run == 2 && board != "" && seen[m] {
					t.Errorf("on board %d again: %+v", i, m)
				}
				seen[m] = true
			}
			after := r.d
			if err := r.stopAndClose(); err != nil {
				t.Error(err)
			}
			again := newRig(t, after.Kill(), Options{AtRisk: time.Second, Thing: "east", Board: board})
			if again.s.Source().Spool != id || again.s.RunNumber() != 3 {
				t.Errorf("on %q the next run: %+v %d", board, again.s.Source(), again.s.RunNumber())
			}
			if err := again.stopAndClose(); err != nil {
				t.Error(err)
			}
		}
	})
}

// Fresh directories begin at run 1 each, under an id of their own.
func TestAFreshDirectoryHasANewID(t *testing.T) {
	ids := map[string]bool{}
	for range 100 {
		s, err := open(Options{Dir: "memory", Clock: clock.Fake()}, newMemDisk())
		if err != nil {
			t.Fatal(err)
		}
		if s.RunNumber() != 1 || ids[s.Source().Spool] {
			t.Errorf("run %d of %q again", s.RunNumber(), s.Source().Spool)
		}
		ids[s.Source().Spool] = true
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}
}

// What waits keeps the name under which it was taken: readings, edges, answers,
// and gaps of what that run lost; also those that are told two runs later.
func TestMailKeepsItsName(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d, id := left(t, newMemDisk(), "east", "", 2)
		r := newRig(t, d, Options{AtRisk: time.Second, Thing: "west", Sensors: []string{"soil"}}).start()
		r.add(message.Reading, "air")
		wait(3 * time.Second)
		d = r.crash(r.d.Kill()) // run 2, as west
		r = newRig(t, d, Options{AtRisk: time.Second, Thing: "north"}).start()
		r.add(message.Reading, "air")
		if err := r.stopAndClose(); err != nil {
			t.Fatal(err)
		}
		r = newRig(t, r.d, Options{AtRisk: time.Second, Thing: "south"}).start()
		var got []string
		for _, m := range receive(t, r) {
			if m.Spool != id && m.Run != 0 || m.Spool != "" && m.Run == 0 {
				t.Errorf("%+v, spool %q", m, id)
			}
			got = append(got, fmt.Sprint(m.Thing, m.Kind, m.Sensor, m.Run))
		}
		want := "eastanswer0 westgapair2 westgapsoil2 eastdoor1 eastair1 eastair1 westair2 northair3"
		if s := strings.Join(got, " "); s != want {
			t.Errorf("got  %s\nwant %s", s, want)
		}
		if err := r.stopAndClose(); err != nil {
			t.Error(err)
		}
	})
}

// withoutSources takes out of a disk what versions before wrote nothing of.
func withoutSources(d *memDisk) *memDisk {
	delete(d.Names, identityName)
	var f ackEncoder
	for s := durable.Scan(d.Names[ackName].B, 0); s.Next(); {
		if s.Payload[0] != 'w' {
			f.appendFrame(bytes.Clone(s.Payload))
		}
	}
	d.Names[ackName] = &durabletest.Content{B: f.b, Good: len(f.b)}
	return d.Kill()
}

// The spool of a version that knew no ids loses nothing: what it has goes out
// under the present name and without an id, as it would have then.
func TestASpoolWithoutAnID(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d, _ := left(t, newMemDisk(), "east", "", 2)
		r := newRig(t, withoutSources(d), Options{AtRisk: time.Second, Thing: "west"}).start()
		r.add(message.Reading, "air")
		if told := r.takeFaults(); told != "" {
			t.Errorf("told %q", told)
		}
		id := r.s.Source().Spool
		want := []sent{
			{"west", "", "", "answer", 0, 0}, {"west", "", "door", "", 1, 1},
			{"west", "", "air", "", 1, 1}, {"west", "", "air", "", 1, 2}, {"west", id, "air", "", 2, 1},
		}
		if got := receive(t, r); fmt.Sprint(got) != fmt.Sprint(want) {
			t.Errorf("got  %v\nwant %v", got, want)
		}
		if err := r.stopAndClose(); err != nil {
			t.Error(err)
		}
	})
}

// Whatever happens to one of the two files that say who took what, the other one
// says it; and a directory whose own id cannot be read gets a new one.
func TestSourcesOutliveDamage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d, id := left(t, newMemDisk(), "east", "", 2)
		for _, name := range []string{identityName, ackName} {
			b := d.Data(name)
			for at := -1; at < len(b); at++ {
				damagedSpool := d.Kill()
				if x := damagedSpool.Names[name]; at < 0 {
					delete(damagedSpool.Names, name)
				} else {
					x.B[at] ^= 0x20
				}
				r := newRig(t, damagedSpool, Options{AtRisk: time.Second, Thing: "west"})
				own := r.s.Source().Spool
				if kept := name != identityName; kept != (own == id) {
					t.Errorf("%s at %d: id %q, was %q", name, at, own, id)
				}
				for _, m := range receive(t, r) {
					who := m.Thing + " " + m.Spool
					if m.Run == 1 && who != "east "+id || m.Kind == "answer" && m.Thing != "east" {
						t.Errorf("%s at %d: %+v", name, at, m)
					}
				}
				if err := r.stopAndClose(); err != nil {
					t.Error(err)
				}
			}
		}
	})
}

// A run without a disk has an id of its own. It keeps it when the disk comes, and
// the directory keeps its own for the next run.
func TestAnIDWithoutADisk(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d, id := left(t, newMemDisk(), "east", "", 1)
		d.Failing(func(string, string) error { return syscall.EIO })
		r := newRig(t, d, Options{AtRisk: time.Second, Thing: "west"}).start()
		own := r.s.Source().Spool
		if own == id || len(own) != 6 {
			t.Errorf("id %q, the disk's is %q", own, id)
		}
		r.add(message.Reading, "air")
		d.Failing(nil)
		wait(2 * time.Second)
		if r.s.Source().Spool != own {
			t.Errorf("the run became %q", r.s.Source().Spool)
		}
		if err := r.stopAndClose(); err != nil {
			t.Fatal(err)
		}
		r = newRig(t, d, Options{AtRisk: time.Second, Thing: "north"}).start()
		if r.s.Source().Spool != id {
			t.Errorf("the next run has %q, want %q", r.s.Source().Spool, id)
		}
		for _, m := range receive(t, r) {
			if want := map[bool]string{true: "east " + id, false: "west " + own}[m.Run <= 1]; m.Run > 0 && m.Thing+" "+m.Spool != want {
				t.Errorf("%+v, want %s", m, want)
			}
		}
		if err := r.stopAndClose(); err != nil {
			t.Error(err)
		}
	})
}

// A run that never had a disk and was killed is told of under its own name.
func TestADisklessRunKeepsItsName(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		runtimeDir := memoryDir(t)
		d := newMemDisk()
		d.Failing(func(string, string) error { return syscall.EIO })
		dead := newRig(t, d, Options{AtRisk: time.Second, Thing: "east", RuntimeDir: runtimeDir, Sensors: []string{"air"}})
		own, run := dead.s.Source().Spool, dead.s.RunNumber()
		dead.s.writer.runtime.dir = nil // and it is killed
		d.Failing(nil)
		for range 2 { // it waits over a restart too
			r := newRig(t, d, Options{AtRisk: time.Second, Thing: "west", RuntimeDir: runtimeDir}).start()
			got := r.takeItems(all)
			if len(got) != 1 || got[0].Record.Source != (message.Source{Thing: "east", Spool: own}) || got[0].Record.Run != run {
				t.Errorf("got %+v", got)
			}
			if err := r.stopAndClose(); err != nil {
				t.Error(err)
			}
		}
		_ = dead.stopAndClose() // its disk is another's by now
	})
}

// Runs that follow each other take one line, however many there are, and what no
// longer waits is forgotten.
func TestTenuresAreFew(t *testing.T) {
	east, west := Source{Thing: "east", Spool: "aaaaaa"}, Source{Thing: "west", Spool: "bbbbbb"}
	var all runSources
	runs := map[uint64]bool{}
	for run := uint64(1); run <= 30; run++ {
		who := east
		if run%10 == 0 {
			who = west
		}
		all = append(all, runSource{run, run, who})
	}
	for _, run := range []uint64{3, 4, 9, 10, 20, 21, 25, 77} {
		runs[run] = true
	}
	few := all.only(runs)
	if want := "[{3 9 {east aaaaaa}} {10 20 {west bbbbbb}} {21 25 {east aaaaaa}}]"; fmt.Sprint(few) != want {
		t.Errorf("got %v, want %s", few, want)
	}
	for run := range runs {
		a, ok := all.of(run)
		b, known := few.of(run)
		if a != b || ok != known {
			t.Errorf("run %d: %v, was %v", run, b, a)
		}
	}
	x := identity{"aaaaaa", "board \"1\"\n", "7", few}
	if back, err := decodeIdentity(x.encode()); err != nil || fmt.Sprint(back) != fmt.Sprint(x) {
		t.Errorf("read back as %v, %v", back, err)
	}
}

// What the id costs: nothing on disk for a message, and 17 bytes on its way.
func TestBytesOfASource(t *testing.T) {
	r := message.Record{Kind: message.Reading, Sensor: "air", Run: 7, Seq: 41}
	with := r
	with.Source = message.Source{Thing: "thing", Spool: "k7m2qx"}
	if a, b := formOf(t, r), formOf(t, with); !bytes.Equal(a, b) {
		t.Errorf("on disk %d and %d bytes", len(a), len(b))
	}
	if n := len(message.Encode("thing", with)) - len(message.Encode("thing", r)); n != 17 {
		t.Errorf("on its way %d bytes more", n)
	}
}

func FuzzIdentity(f *testing.F) {
	f.Add(identity{"k7m2qx", "9b1c", "131074", runSources{{1, 7, Source{Thing: "a", Spool: "b"}}}}.encode())
	f.Add([]byte("fieldpost identity 1\nspool \"\"\nboard \"\"\nplace \"\"\nsum 00000000\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		if x, err := decodeIdentity(b); err == nil && !bytes.Equal(x.encode(), b) {
			t.Errorf("%q was read as %v", b, x)
		}
	})
}

// A spool that was restored from a copy on the same board gets a new id too: since
// the copy was made the numbers of its next runs may have been used.
func TestARestoredSpool(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "spool")
	ids := map[string]bool{}
	start := func() Source {
		t.Helper()
		s, err := Open(Options{Dir: dir, Board: "this", Clock: clock.Fake()})
		if err != nil {
			t.Fatal(err)
		}
		defer func() {
			if err := s.Close(); err != nil {
				t.Error(err)
			}
		}()
		return s.Source()
	}
	for range 3 {
		id := start().Spool
		if start().Spool != id || ids[id] {
			t.Errorf("%q, had %v", id, ids)
		}
		ids[id] = true
		if err := errors.Join(os.Rename(dir, dir+".was"), os.CopyFS(dir, os.DirFS(dir+".was")), os.RemoveAll(dir+".was")); err != nil {
			t.Fatal(err)
		}
	}
}
