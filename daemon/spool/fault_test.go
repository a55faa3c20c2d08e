package spool

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"fieldpost/daemon/clock"
	"fieldpost/daemon/durable"
	"fieldpost/daemon/health"
	"fieldpost/daemon/message"
)

// only fails one kind of operation on files whose name begins so.
func only(op, prefix string, err error) func(string, string) error {
	return func(o, name string) error {
		if o == op && strings.HasPrefix(name, prefix) {
			return err
		}
		return nil
	}
}

func TestDiskFailsAndWorksAgain(t *testing.T) {
	for _, c := range []struct {
		name   string
		fail   func(op, name string) error
		detail string // of the fault
	}{
		{"full", full, "samples-1-1.seg: no space left on device"},
		{"write fails", only("write", "samples", syscall.EIO), "write samples-1-1.seg: input/output error"},
		{"create fails", only("create", "samples", syscall.EROFS), "create samples-1-2.seg: read-only file system"},
		{"fdatasync fails", only("datasync", "samples", syscall.EIO), "datasync samples-1-1.seg: input/output error"},
		{"fsync fails", only("sync", "samples", syscall.EIO), "sync samples-1-2.seg: input/output error"},
		{"fsync of the directory fails", only("syncdir", "", syscall.EIO), "syncdir : input/output error"},
		{"all fails", func(op, name string) error { return syscall.EIO }, "input/output error"},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newRig(t, newMemDisk(), Options{AtRisk: time.Second}).start()
				for range 5 {
					r.add(message.Reading, "air")
					wait(3 * time.Second)
				}
				r.d.Failing(c.fail)
				for range 6000 { // enough to need another file
					r.add(message.Reading, "air")
				}
				wait(10 * time.Minute)
				detail := r.detail
				if got := r.takeFaults(); !strings.HasPrefix(got, "spool_unavailable raised") || !strings.Contains(detail, c.detail) {
					t.Errorf("faults: %q, %q", got, detail)
				}
				if got := len(r.takeItems(all)); got != 6005 {
					t.Errorf("%d records can be sent, want all 6005", got)
				}
				r.d.Failing(nil)
				r.add(message.Reading, "air")
				wait(2 * time.Minute)
				if got := r.o.Health.Summary(); got != "all well" || !r.s.Stats().Disk {
					t.Errorf("after: %s", got)
				}
				left := r.d.Kill()
				for _, f := range left.Names {
					f.B = f.B[:f.Good]
				}
				r.crash(left)
				r = newRig(t, left, Options{AtRisk: time.Second})
				checkOnce(t, r.takeItems(all), 6006)
				if err := r.stopAndClose(); err != nil {
					t.Error(err)
				}
			})
		})
	}
}

// checkOnce checks that samples 1 to n have come, in order and each once.
func checkOnce(t *testing.T, items []itemRecord, n uint64) {
	t.Helper()
	want := uint64(1)
	for _, x := range items {
		if x.Record.Kind == message.Gap {
			continue
		}
		if x.Record.Seq != want {
			t.Fatalf("got %d, want %d", x.Record.Seq, want)
		}
		want++
	}
	if want != n+1 {
		t.Fatalf("got %d records, want %d", want-1, n)
	}
}

func TestFailedSyncIsNotTrusted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, newMemDisk(), Options{AtRisk: time.Second}).start()
		r.add(message.Reading, "air")
		wait(3 * time.Second)
		once := true
		r.d.Failing(func(op, name string) error {
			if op == "datasync" && strings.HasPrefix(name, "samples") && once {
				once = false // the kernel forgets, and says yes the next time
				return syscall.EIO
			}
			return nil
		})
		r.add(message.Reading, "air")
		wait(5 * time.Second)
		files := r.d.Files("samples", segmentExt)
		if len(files) != 2 {
			t.Fatalf("files: %q, want a new one", files)
		}
		if n := len(r.d.Data(files[0])); n != r.d.Names[files[0]].Good {
			t.Errorf("%q still ends with what was not synced", files[0])
		}
		if got := r.takeFaults(); got != "spool_unavailable raised, spool_unavailable cleared" {
			t.Errorf("faults: %q", got)
		}
		items := r.takeItems(all)
		r.want(items, "air:1, air:2")
		for _, x := range items {
			r.s.Ack(x.ID)
		}
		if err := r.stopAndClose(); err != nil {
			t.Error(err)
		}
		if left := r.d.Files("samples", ""); len(left) != 0 {
			t.Errorf("left: %q", left)
		}
	})
}

// Starts that cannot write down their number have different ones, also when all
// know of a run whose clock was years ahead.
func TestRunsThatCannotBeCounted(t *testing.T) {
	ahead := makeRunNumber(clock.Stamp{Wall: time.Now().AddDate(10, 0, 0)}, 0)
	seen := map[uint64]bool{ahead: true}
	for range 20 {
		run := makeRunNumber(clock.Fake().Now(), ahead)
		if run <= ahead || run >= 1<<53 || seen[run] {
			t.Errorf("run %d after %d; seen %v", run, ahead, seen[run])
		}
		seen[run] = true
	}
}

func TestDiskThatComesLater(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := backlog(t, false)
		d.Held = false
		d.Failing(func(string, string) error { return syscall.EIO })
		r := newRig(t, d, Options{AtRisk: time.Second}).start()
		run := r.s.RunNumber()
		if run < 1<<50 || run >= 1<<53 {
			t.Errorf("run %d", run)
		}
		r.add(message.Reading, "air")
		r.want(r.takeItems(all), "air:1")
		wait(time.Minute)
		if got := r.takeFaults(); got != "spool_unavailable raised" {
			t.Errorf("faults: %q", got)
		}
		d.Failing(nil)
		wait(2 * time.Minute)
		if got := r.takeFaults(); got != "spool_unavailable cleared" || r.s.RunNumber() != run {
			t.Errorf("faults: %q, run %d", got, r.s.RunNumber())
		}
		items := r.takeItems(all) // but for the one that is under way
		if missing := checkAllTold(t, items); missing != 0 || len(items) != 10004 {
			t.Errorf("%d missing of %d", missing, len(items))
		}
		r.s.Rewind()
		if items = r.takeItems(all); len(items) != 10005 {
			t.Errorf("%d after a rewind", len(items))
		}
		air := slices.DeleteFunc(items, func(x itemRecord) bool { return x.Record.Kind != message.Reading || x.Record.Sensor != "air" })
		if last := air[len(air)-1].Record; last.Run != run {
			t.Errorf("the newest is not last: %+v", last)
		}
		if err := r.stopAndClose(); err != nil {
			t.Fatal(err)
		}
		r = newRig(t, d, Options{AtRisk: time.Second})
		if r.s.RunNumber() != run+1 || len(r.takeItems(all)) != 10005 {
			t.Errorf("run %d after %d", r.s.RunNumber(), run)
		}
	})
}

func TestReadOnlyDiskStillSends(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := backlog(t, true)
		d.Failing(func(op, _ string) error {
			if op == "lock" || op == "list" || op == "read" {
				return nil
			}
			return syscall.EROFS
		})
		r := newRig(t, d, Options{}).start() // with no time at risk, too
		items := r.takeItems(all)
		if missing := checkAllTold(t, items); missing != 0 {
			t.Errorf("%d missing", missing)
		}
		for _, x := range items {
			r.s.Ack(x.ID)
		}
		r.add(message.Reading, "air")
		r.want(r.takeItems(all), "air:1")
		wait(time.Minute)
		if st := r.s.Stats(); st.Disk || st.Run < 1<<50 || r.takeFaults() != "spool_unavailable raised" {
			t.Errorf("stats: %+v", st)
		}
		if err := r.stopAndClose(); !errors.Is(err, syscall.EROFS) {
			t.Errorf("end: %v", err)
		}
	})
}

func TestLockTakenByAnotherIsTheOnlyHardError(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newMemDisk()
		d.Held = true
		_, err := open(Options{Dir: "memory", Clock: clock.Fake()}, d)
		var locked *LockedError
		if !errors.As(err, &locked) {
			t.Errorf("got %v", err)
		}
	})
}

func TestANotificationMayAppend(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newMemDisk()
		var s *Spool
		h := health.New(func(c health.Change) {
			if err := appendTo(s, message.Record{Kind: message.Fault, Sensor: string(c.Fault.Code)}); err != nil {
				t.Error(err)
			}
		})
		s, err := open(Options{Dir: "memory", Clock: clock.Fake(), Health: h, AtRisk: time.Second}, d)
		if err != nil {
			t.Fatal(err)
		}
		r := &rig{t: t, d: d, s: s, seq: map[string]uint64{}, o: Options{Clock: clock.Fake()}}
		d.Failing(full)
		r.start()
		r.add(message.Reading, "air")
		wait(10 * time.Second)
		d.Failing(nil)
		wait(2 * time.Minute)
		r.want(r.takeItems(all), "spool_unavailable:0, spool_unavailable:0, air:1")
		if err := r.stopAndClose(); err != nil {
			t.Error(err)
		}
	})
}

// The files beside the segments are as necessary: without them a crash could
// not be told.
func TestTheOtherFilesCannotBeWritten(t *testing.T) {
	for _, file := range []string{ackName, runName + durable.TmpExt} {
		for _, op := range []string{"write", "sync", "rename"} {
			synctest.Test(t, func(t *testing.T) {
				d := newMemDisk()
				d.Failing(only(op, file, syscall.ENOSPC))
				o := Options{AtRisk: time.Second, Sensors: []string{"air", "soil"}}
				r := newRig(t, d, o).start()
				r.add(message.Reading, "air")
				r.want(r.takeItems(all), "air:1")
				wait(time.Minute)
				if got := r.takeFaults(); got != "spool_unavailable raised" || r.s.Stats().Disk {
					t.Errorf("%s %s: faults %q", op, file, got)
				}
				d.Failing(nil)
				wait(2 * time.Minute)
				if got := r.takeFaults(); got != "spool_unavailable cleared" || !r.s.Stats().Disk {
					t.Errorf("%s %s: faults %q", op, file, got)
				}
				run := r.s.RunNumber()
				r = newRig(t, r.crash(d.Kill()), o)
				want := fmt.Sprintf("gap air %d after_seq=1 reason=crash certain=false, gap soil %d after_seq=0 reason=crash certain=false, air:1", run, run)
				r.want(r.takeItems(all), want)
			})
		}
	}
}

// A disk that is full keeps what was written before: a kill costs that not, and
// nor does a power cut, for it is synced at once.
func TestAFullDiskKeepsWhatItHas(t *testing.T) {
	for _, power := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			o := Options{AtRisk: time.Minute}
			r := newRig(t, newMemDisk(), o).start()
			for range 30 {
				r.add(message.Reading, "air")
				wait(200 * time.Millisecond)
			}
			wait(2 * time.Second)
			r.d.Failing(full)
			for range 30 {
				r.add(message.Reading, "air")
				wait(200 * time.Millisecond)
			}
			left := r.d.Kill()
			if power {
				for _, f := range left.Names {
					f.B = f.B[:f.Good]
				}
			}
			r = newRig(t, r.crash(left), o)
			items := r.takeItems(all)
			checkOnce(t, items, 30)
			if _, unsure := claims(items); len(unsure) != 1 || unsure[0].lo != 31 || !unsure[0].open {
				t.Errorf("power %v: gaps %+v", power, unsure)
			}
			if err := r.stopAndClose(); err != nil {
				t.Error(err)
			}
		})
	}
}
