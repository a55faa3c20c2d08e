package spool

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"fieldpost/daemon/clock"
	"fieldpost/daemon/journal"
	"fieldpost/daemon/message"
	"fieldpost/sensors"
)

// removals is what people and their programs do to a directory in use.
var removals = map[string]func(dir string) error{
	"removed":          os.RemoveAll,
	"renamed":          func(dir string) error { return os.Rename(dir, dir+".old") },
	"replaced":         func(dir string) error { return errors.Join(os.Rename(dir, dir+".old"), os.Mkdir(dir, 0o750)) },
	"parent removed":   func(dir string) error { return os.RemoveAll(filepath.Dir(dir)) },
	"emptied":          func(dir string) error { return removeIn(dir, "*") },
	"acks removed":     func(dir string) error { return removeIn(dir, ackName) },
	"run removed":      func(dir string) error { return removeIn(dir, runName) },
	"identity removed": func(dir string) error { return removeIn(dir, identityName) },
	"lock removed":     func(dir string) error { return removeIn(dir, lockName) },
	"latest removed":   func(dir string) error { return removeIn(dir, "samples-*-%d.seg") },
	"journal removed":  func(dir string) error { return removeIn(dir, "orders.journal") },
	"copied": func(dir string) error {
		return errors.Join(os.Rename(dir, dir+".old"), os.CopyFS(dir, os.DirFS(dir+".old")))
	},
	"another's, of our number, empty": func(dir string) error {
		s, err := open(Options{Dir: dir + ".theirs", Clock: clock.Fake(), Thing: "other"}, newDisk(dir+".theirs"))
		if err != nil {
			return err
		}
		return errors.Join(s.Close(), os.Rename(dir, dir+".old"), os.Rename(dir+".theirs", dir))
	},
	"another's": func(dir string) error {
		return errors.Join(makeTheirs(dir+".theirs", 3), os.Rename(dir, dir+".old"), os.Rename(dir+".theirs", dir))
	},
}

// makeTheirs makes a directory of another board, with messages of its run of that number.
func makeTheirs(dir string, run uint64) error {
	for {
		s, err := open(Options{Dir: dir, Clock: clock.Fake(), Thing: "other"}, newDisk(dir))
		if err != nil {
			return err
		}
		last := s.RunNumber() == run
		if last {
			err = appendTo(s, message.Record{Kind: message.Reading, Sensor: "theirs", Run: run, Seq: 1})
		}
		if err = errors.Join(err, s.Close()); err != nil || last {
			return err
		}
	}
}

// removeIn removes the files of a pattern; %d stands for the greatest number
// there is.
func removeIn(dir, pattern string) error {
	names, err := filepath.Glob(filepath.Join(dir, strings.ReplaceAll(pattern, "%d", "*")))
	if strings.Contains(pattern, "%d") {
		slices.SortFunc(names, func(a, b string) int {
			x, _ := parseSegment(filepath.Base(a))
			y, _ := parseSegment(filepath.Base(b))
			return compareSegments(x, y)
		})
		names = names[len(names)-1:]
	}
	for _, name := range names {
		err = errors.Join(err, os.Remove(name))
	}
	return err
}

// lostWith is a spool in a directory of the operating system, with a backlog, whose directory
// comes to damage.
type lostWith struct {
	*rig
	dir, runtimeDir string
	edges           int
	readings        int
	journal         *journal.File
}

// newLost makes one below a directory.
func newLost(t *testing.T, below string, readings int) *lostWith {
	t.Helper()
	x := &lostWith{dir: filepath.Join(below, "lib", "spool"), runtimeDir: memoryDir(t)}
	x.open(t)
	x.journal = x.s.Journal("orders")
	if err := x.journal.Append([]byte("first")); err == nil {
		t.Fatal("a journal that was not written cannot be appended to")
	}
	if err := x.journal.Rewrite(slices.Values([][]byte{[]byte("first")})); err != nil {
		t.Fatal(err)
	}
	if err := x.journal.Append([]byte("second")); err != nil {
		t.Fatal(err)
	}
	for range readings / 100 {
		for range 100 {
			x.add(message.Reading, "air")
		}
		x.add(message.Edge, "door")
		wait(time.Second)
	}
	x.readings, x.edges = readings, readings/100
	x.appendRecord(message.Record{Kind: message.Answer, Fields: []sensors.Field{{Name: "id", Value: "c-1"}}})
	wait(10 * time.Second)
	if x.s.Backlog().AtRisk != 0 {
		t.Fatal("something is at risk")
	}
	return x
}

func (x *lostWith) open(t *testing.T) {
	x.rig = newRigOn(t, newMemDisk(), newDisk(x.dir), Options{AtRisk: time.Second, Thing: "thing", RuntimeDir: x.runtimeDir, Sensors: []string{"air"}})
	x.s.writer.o.Dir = x.dir
	x.start()
}

// check takes everything and finds each reading, each edge and the answer, or a
// gap that tells of it.
func (x *lostWith) check(what string, mayLose bool) {
	x.t.Helper()
	got, told := map[string]int{}, map[string]ids{}
	gaps := 0
	for _, i := range x.takeItems(all) {
		r := i.Record
		if r.Kind == message.Gap {
			gaps++
			c := claim(r)
			if c.open {
				c.hi = 1 << 20
			}
			if n, some := r.Field("count").(int64); some {
				got["lost answers"] += int(n)
			} else {
				spans := told[r.Sensor]
				spans.add(c.lo, c.hi+1)
				told[r.Sensor] = spans
			}
			if said, _ := r.Field("certain").(bool); r.Field("certain") == nil || said {
				x.t.Errorf("%s: a gap is certain: %+v", what, r)
			}
			continue
		}
		got[fmt.Sprint(r.Kind, r.Sensor, r.Seq)]++
		if r.Sensor != "theirs" && r.Source.Thing != "thing" {
			x.t.Errorf("%s: under another name: %+v", what, r)
		}
		x.s.Ack(i.ID)
	}
	missing := 0
	for kind, n := range map[string]int{"readingair": x.readings, "edgedoor": x.edges} {
		lost := told[kind[len(kind)-3:]]
		if kind == "edgedoor" {
			lost = told["door"]
		}
		for seq := range n {
			if got[fmt.Sprint(kind, seq+1)] == 0 && !lost.has(uint64(seq+1)) {
				missing++
			}
		}
	}
	if missing > 0 || got["answer0"] == 0 && got["lost answers"] == 0 {
		x.t.Errorf("%s: %d readings and edges are neither here nor told; answer %d", what, missing, got["answer0"])
	}
	if !mayLose && gaps > 0 {
		x.t.Errorf("%s: %d gaps although all was at hand", what, gaps)
	}
}

// entries gives what a journal holds.
func (x *lostWith) entries() (out []string) {
	if _, err := x.s.Journal("orders").Replay(func(b []byte) { out = append(out, string(b)) }); err != nil {
		x.t.Error(err)
	}
	return out
}

// Whatever becomes of the directory, or of a file in it, while it is in use, is found out
// with the next sync, with the look that is due when nothing is written, or at the stop.
// What is at hand is rewritten, and a gap reports the rest. The journals come along.
func TestTheDirectoryIsGone(t *testing.T) {
	for name, damage := range removals {
		for n, hows := range map[int][]string{
			300:  {"at a sync", "at a look", "at the stop", "after both"},
			4000: {"at the stop", "after both"}, // more than a file, and than memory keeps
		} {
			for _, how := range hows {
				t.Run(fmt.Sprint(name, " ", n, " ", how), func(t *testing.T) {
					synctest.Test(t, func(t *testing.T) {
						below := memoryDir
						if n == 300 && how == "after both" { // which all file systems are to show once
							below = testing.TB.TempDir
						}
						x := newLost(t, below(t), n)
						x.takeFaults()
						if err := damage(x.dir); err != nil {
							t.Fatal(err)
						}
						if how == "at a sync" || how == "after both" {
							x.add(message.Reading, "air")
							x.readings++
							wait(5 * time.Second)
						}
						if how == "at a look" || how == "after both" {
							x.s.Verify()
							wait(time.Second)
							x.s.Verify()
							wait(3 * time.Second)
						}
						if st := x.s.Stats(); how != "at the stop" && !st.Disk {
							t.Errorf("the disk cannot be written: %s", x.detail)
						}
						if err := x.stopAndClose(); err != nil {
							t.Errorf("stop: %v", err)
						}
						x.open(t)
						if got := fmt.Sprint(x.entries()); got != "[first second]" && how != "at a sync" || !strings.Contains(got, "second") {
							t.Errorf("the journal holds %s", got)
						}
						x.check(name, n > 300 || name == "another's") // of which a run may have crashed, for all we know
						if err := x.stopAndClose(); err != nil {
							t.Error(err)
						}
					})
				})
			}
		}
	}
}

// A directory that knows a run of our number, and which is another's, is left
// alone until the next start, when our run has a number of its own.
func TestADirectoryWithOurNumber(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		x := newLost(t, t.TempDir(), 300)
		if err := errors.Join(os.RemoveAll(x.dir), makeTheirs(x.dir, 1)); err != nil {
			t.Fatal(err)
		}
		x.s.Verify()
		wait(time.Minute)
		if now := x.s.writer.o.Health.Current(); x.s.Stats().Disk || len(now) != 1 || !strings.Contains(now[0].Detail, "holds messages of another run 1") {
			t.Errorf("disk %v: %+v", x.s.Stats().Disk, now)
		}
		if err := x.stopAndClose(); err == nil {
			t.Error("a good stop")
		}
		x.open(t)
		theirs := 0
		for _, i := range x.takeItems(all) {
			if r := i.Record; r.Sensor == "theirs" && r.Kind == message.Reading && r.Source.Thing == "other" {
				theirs++
			}
		}
		if x.s.RunNumber() != 2 || theirs != 1 {
			t.Errorf("run %d, %d of theirs", x.s.RunNumber(), theirs)
		}
		if err := x.stopAndClose(); err != nil {
			t.Error(err)
		}
	})
}

// A daemon that is killed while its directory is gone has left a note in the
// runtime directory, so that the next start tells of it; also where that begins
// with a fresh directory. Its number is higher all the same.
func TestKilledWhileTheDirectoryIsGone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		x := newLost(t, t.TempDir(), 300)
		if err := errors.Join(os.RemoveAll(x.dir), os.WriteFile(x.dir, nil, 0o600)); err != nil {
			t.Fatal(err)
		}
		x.add(message.Reading, "air")
		x.readings++
		wait(3 * time.Second)
		if x.s.Stats().Disk {
			t.Error("the disk can be written")
		}
		dead, own, run := x.rig, x.s.Source(), x.s.RunNumber()
		dead.s.writer.runtime.dir = nil // killed here: it removes nothing there
		if err := os.Remove(x.dir); err != nil {
			t.Fatal(err)
		}
		x.dir += "2"
		x.open(t)
		told := 0
		for _, i := range x.takeItems(all) {
			if r := i.Record; r.Kind == message.Gap && r.Sensor == "air" && r.Run == run && r.Source == message.Source(own) && reasonOf(r) == reasonCrash {
				told++
			}
		}
		if told != 1 || x.s.RunNumber() != run+1 || x.s.Source().Spool == own.Spool {
			t.Errorf("told %d times, run %d of %v", told, x.s.RunNumber(), x.s.Source())
		}
		if err := x.stopAndClose(); err != nil {
			t.Error(err)
		}
		_ = dead.stopAndClose()
	})
}

// A directory that is taken away and later put back in the place of the one that
// was made meanwhile still has what was given up, of this run and of the one
// before, and gives it; and nothing that is done comes again.
func TestTheDirectoryComesBack(t *testing.T) {
	for _, n := range []int{300, 5000} {
		synctest.Test(t, func(t *testing.T) {
			x := newLost(t, memoryDir(t), n)
			if err := x.stopAndClose(); err != nil { // so it is the mail of an earlier run
				t.Fatal(err)
			}
			seq := x.rig.seq
			x.open(t)
			x.rig.seq = seq
			for range n {
				x.add(message.Reading, "air")
			}
			x.readings += n
			wait(10 * time.Second)
			got := map[string]int{}
			receive := func(most int) {
				for _, i := range x.takeItems(most) {
					if r := i.Record; r.Kind == message.Gap && r.Sensor != "" && !claim(r).uncertain {
						t.Errorf("certain: %+v", r)
					} else if r.Kind != message.Gap {
						got[fmt.Sprint(r.Kind, r.Sensor, r.Seq)]++
					}
					x.s.Ack(i.ID)
				}
			}
			receive(100)
			if err := os.Rename(x.dir, x.dir+".old"); err != nil {
				t.Fatal(err)
			}
			x.s.Verify()
			wait(5 * time.Second)
			for range 100 {
				x.add(message.Reading, "air")
			}
			x.readings += 100
			wait(5 * time.Second)
			receive(200)
			wait(5 * time.Second)
			if err := errors.Join(os.RemoveAll(x.dir), os.Rename(x.dir+".old", x.dir)); err != nil {
				t.Fatal(err)
			}
			x.s.Verify()
			wait(5 * time.Second)
			if !x.s.Stats().Disk {
				t.Error(x.detail)
			}
			receive(all)
			for seq := range x.readings {
				if k := fmt.Sprint("readingair", seq+1); got[k] != 1 {
					t.Errorf("%d: %s came %d times", n, k, got[k])
					break
				}
			}
			if err := x.stopAndClose(); err != nil {
				t.Error(err)
			}
			x.open(t)
			if left := x.takeItems(all); len(left) > 0 {
				t.Errorf("come again: %d, such as %s", len(left), brief(left[:1]))
			}
			if err := x.stopAndClose(); err != nil {
				t.Error(err)
			}
		})
	}
}

// A kill at any moment while all is written to a directory that is made again
// loses nothing that is not told.
func TestKilledWhileItIsWrittenAnew(t *testing.T) {
	const n = 3000 // some of them are no longer in memory
	for k, whole := 0, false; !whole; k++ {
		synctest.Test(t, func(t *testing.T) {
			d, o := newMemDisk(), Options{AtRisk: time.Second, RuntimeDir: memoryDir(t), Sensors: []string{"air"}}
			r := newRig(t, d, o).start()
			for range n {
				r.add(message.Reading, "air")
			}
			wait(10 * time.Second)
			d.Vanish()
			left, runtimeDir, ops := (*memDisk)(nil), filepath.Join(memoryDir(t), "runtime"), 0
			d.Failing(func(string, string) error {
				if ops++; ops <= k {
					return nil
				}
				if left == nil {
					left = d.KillNow()
					if err := os.CopyFS(runtimeDir, os.DirFS(o.RuntimeDir)); err != nil {
						t.Error(err)
					}
				}
				return syscall.EIO
			})
			r.s.Verify()
			wait(5 * time.Second)
			r.s.writer.runtime.dir = nil
			_ = r.crash(nil)
			if whole = left == nil; whole {
				return
			}
			o.RuntimeDir = runtimeDir
			next := newRig(t, left, o).start()
			if next.s.RunNumber() < 2 {
				t.Errorf("killed at %d: run %d again", k, next.s.RunNumber())
			}
			var there ids
			for _, i := range next.takeItems(all) {
				if x := i.Record; x.Kind == message.Reading && x.Run == 1 {
					there.add(x.Seq, x.Seq+1)
				} else if c := claim(x); x.Kind == message.Gap && x.Run == 1 && x.Sensor == "air" && c.uncertain {
					if c.open {
						c.hi = n
					}
					there.add(c.lo, c.hi+1)
				}
			}
			if missing := there.free(1); missing <= n {
				t.Errorf("killed at %d: %d is neither here nor told", k, missing)
			}
			if err := next.stopAndClose(); err != nil {
				t.Error(err)
			}
		})
		if t.Failed() {
			break
		}
	}
}

// A directory that cannot be looked at, as its rights or its parent's were taken
// away, is no other directory: nothing is given up, and all goes on when it can.
func TestTheDirectoryCannotBeSeen(t *testing.T) {
	for _, atRisk := range []time.Duration{0, time.Second} {
		synctest.Test(t, func(t *testing.T) {
			d := newMemDisk()
			r := newRig(t, d, Options{AtRisk: atRisk}).start()
			for range 3000 {
				r.add(message.Reading, "air")
			}
			wait(10 * time.Second)
			d.Mu.Lock()
			d.Away = syscall.EACCES
			d.Mu.Unlock()
			r.s.Verify()
			wait(time.Minute)
			r.add(message.Reading, "air")
			if told := r.takeFaults(); told != "spool_unavailable raised" || r.detail != syscall.EACCES.Error() {
				t.Errorf("told %s: %s", told, r.detail)
			}
			d.Mu.Lock()
			d.Away = nil
			d.Mu.Unlock()
			wait(2 * time.Minute)
			if told := r.takeFaults(); told != "spool_unavailable cleared" {
				t.Errorf("told %s", told)
			}
			if err := r.stopAndClose(); err != nil {
				t.Fatal(err)
			}
			r = newRig(t, d, Options{AtRisk: atRisk}).start()
			for n, i := range r.takeItems(all) {
				if x := i.Record; x.Kind != message.Reading || x.Seq != uint64(n+1) {
					t.Fatalf("%d: %+v", n, x)
				}
			}
			if err := r.stopAndClose(); err != nil {
				t.Error(err)
			}
		})
	}
}

// What is created first after the directory was replaced is in nobody's way: it
// is not taken for another run's, so that the new directory can be used.
func TestCreatedInAnotherDirectory(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		x := &lostWith{dir: filepath.Join(t.TempDir(), "lib", "spool"), runtimeDir: memoryDir(t)}
		x.rig = newRigOn(t, newMemDisk(), newDisk(x.dir), Options{AtRisk: time.Minute, Thing: "thing", RuntimeDir: x.runtimeDir, Sensors: []string{"air"}})
		x.start()
		x.add(message.Edge, "door")
		x.add(message.Reading, "air")
		wait(2 * time.Minute)
		for _, i := range x.takeItems(all) {
			x.s.Ack(i.ID)
		}
		x.s.Verify()
		err := removeIn(x.dir, "edges-*") // so that the next edge needs a file
		wait(10 * time.Second)
		if err = errors.Join(err, removals["replaced"](x.dir)); err != nil {
			t.Fatal(err)
		}
		x.add(message.Edge, "door")
		wait(10 * time.Second) // written, and not synced
		x.s.Verify()
		wait(time.Minute)
		if now := x.s.writer.o.Health.Current(); !x.s.Stats().Disk || len(now) != 0 {
			t.Errorf("the new directory is not used: %v", now)
		}
		x.want(x.takeItems(all), "door:2")
		if err := x.stopAndClose(); err != nil {
			t.Error(err)
		}
	})
}

// Answers that an earlier run left in a file that somebody removes have no count
// of their own; a gap says how many there were.
func TestAnswersInARemovedFileAreCounted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		x := &lostWith{dir: filepath.Join(t.TempDir(), "lib", "spool"), runtimeDir: memoryDir(t)}
		x.open(t)
		for range 3 {
			x.appendRecord(message.Record{Kind: message.Answer, Fields: []sensors.Field{{Name: "id", Value: "c-1"}}})
		}
		if err := x.stopAndClose(); err != nil {
			t.Fatal(err)
		}
		x.open(t)
		if err := removeIn(x.dir, "events-*"); err != nil {
			t.Fatal(err)
		}
		var counted int64
		for range 5 {
			for _, i := range x.takeItems(all) {
				if n, some := i.Record.Field("count").(int64); some && i.Record.Kind == message.Gap {
					counted += n
				}
			}
			wait(time.Minute)
		}
		if counted != 3 {
			t.Errorf("%d answers are told to be lost, want 3", counted)
		}
		if err := x.stopAndClose(); err != nil {
			t.Error(err)
		}
	})
}

// A directory on a stick that loses its contact once a week comes back more often, in the life
// of a process, than there are ranges of ids. What of an earlier time is still in memory is
// not taken for what is found then.
func TestTheDirectoryComesBackForYears(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		x := newLost(t, memoryDir(t), 5000)
		if err := x.stopAndClose(); err != nil { // so that all of it is found
			t.Fatal(err)
		}
		x.open(t)
		x.s.writer.dir.loads = idRanges - 1 // it has come back so often
		comeBack := func(taken int) {
			x.takeItems(taken) // others are read ahead, and so at hand
			wait(time.Second)
			if err := os.Rename(x.dir, x.dir+".old"); err != nil {
				t.Fatal(err)
			}
			x.s.Verify()
			wait(5 * time.Second)
			if err := errors.Join(os.RemoveAll(x.dir), os.Rename(x.dir+".old", x.dir)); err != nil {
				t.Fatal(err)
			}
			x.s.Verify()
			wait(2 * time.Minute)
			x.s.Rewind()
		}
		comeBack(200)
		got := map[uint64]bool{}
		receive := func(which func(message.Record) bool) {
			for _, i := range x.takeItems(all) {
				if r := i.Record; which(r) {
					got[r.Seq] = got[r.Seq] || r.Kind == message.Reading
					x.s.Ack(i.ID)
				}
			}
			wait(2 * time.Minute)
			x.s.Rewind()
		}
		receive(func(r message.Record) bool { return r.Kind != message.Reading || r.Seq > 140 })
		comeBack(20)
		for range 3 {
			receive(func(message.Record) bool { return true })
		}
		for seq := uint64(1); seq <= 140; seq++ {
			if !got[seq] {
				t.Fatalf("reading %d did not come", seq)
			}
		}
		if n := x.s.Backlog().Records; n != 0 {
			t.Errorf("%d records wait, and nothing is left to send", n)
		}
		if err := x.stopAndClose(); err != nil {
			t.Error(err)
		}
	})
}
