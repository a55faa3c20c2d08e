package spool

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"fieldpost/daemon/message"
)

// noDisk opens a spool whose disk cannot be used from the start.
func noDisk(t *testing.T, o Options) *rig {
	t.Helper()
	d := newMemDisk()
	d.Failing(func(string, string) error { return syscall.EROFS })
	return newRig(t, d, o).start()
}

// disklessRuns returns the files of the runtime directory that stand for runs without a disk.
func disklessRuns(t *testing.T, o Options) (names []string) {
	t.Helper()
	left, err := os.ReadDir(o.RuntimeDir)
	if err != nil {
		t.Fatal(err)
	}
	for _, x := range left {
		if strings.HasPrefix(x.Name(), runtimePrefix) {
			names = append(names, x.Name())
		}
	}
	return names
}

// The loss of a sensor that a run without a disk did not know of when it began is told too.
func TestSensorThatComesLaterToARunWithoutADisk(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := Options{AtRisk: time.Second, RuntimeDir: memoryDir(t), Sensors: []string{"air"}}
		r := noDisk(t, o)
		run := r.s.RunNumber()
		wait(5 * time.Second)
		r.add(message.Edge, "door")
		wait(0)
		r.crash(nil)
		r = newRig(t, newMemDisk(), o)
		r.want(r.takeItems(all), fmt.Sprintf("gap air %d after_seq=0 reason=crash certain=false, gap door %d after_seq=0 reason=crash certain=false", run, run))
		if err := r.stopAndClose(); err != nil {
			t.Error(err)
		}
	})
}

// A run that never has a disk and is killed is told by the next, or the one
// after that, until it is sure that nobody need be told again.
func TestTheCrashOfARunWithoutADiskIsTold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := Options{AtRisk: time.Second, RuntimeDir: memoryDir(t), Sensors: []string{"air", "door"}}
		var runs []uint64
		for range 2 {
			r := noDisk(t, o)
			for range 5 {
				r.add(message.Reading, "air")
			}
			wait(5 * time.Second)
			runs = append(runs, r.s.RunNumber())
			r.crash(nil)
		}
		want := func(r *rig, n int) {
			t.Helper()
			items := r.takeItems(all)
			told := map[origin]int{}
			for _, x := range items {
				if c := claim(x.Record); x.Record.Kind == message.Gap && c.lo == 1 && c.open && c.uncertain && reasonOf(x.Record) == reasonCrash {
					told[origin{x.Record.Sensor, x.Record.Run}]++
				}
			}
			for _, run := range runs {
				for _, sensor := range o.Sensors {
					if got := told[origin{sensor, run}]; got != n {
						t.Errorf("run %d, %s: told %d times, want %d: %s", run, sensor, got, n, brief(items))
					}
				}
			}
		}
		r := newRig(t, newMemDisk(), o).start()
		wait(5 * time.Second)
		want(r, 1)
		if left := disklessRuns(t, o); len(left) != 0 {
			t.Errorf("the disk has the gaps, and the runtime directory still has %v", left)
		}
		r = newRig(t, r.crash(r.d.Kill()), o)
		want(r, 1)
		if err := r.stopAndClose(); err != nil {
			t.Error(err)
		}
	})
}

// A daemon that crashes again and again without a disk and without a broker does not fill the
// runtime directory. Each run still tells of all whose records it finds.
func TestRunsWithoutADiskAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := Options{AtRisk: time.Second, RuntimeDir: memoryDir(t), Sensors: []string{"air"}}
		const n = maxDiskless + 40
		for run := range uint64(n) {
			x := runFile{run: 7 + run, sensors: map[string][classes]bool{"air": {}}}
			if err := os.WriteFile(filepath.Join(o.RuntimeDir, runtimeName(x.run)), x.encode(), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		r := noDisk(t, o)
		if left := disklessRuns(t, o); len(left) != maxDiskless+1 || slices.Contains(left, runtimeName(46)) || !slices.Contains(left, runtimeName(47)) {
			t.Errorf("%d records are left, want %d and that of this run, without the oldest", len(left), maxDiskless)
		}
		items := r.takeItems(all)
		for _, x := range items {
			r.s.Ack(x.ID)
		}
		wait(2 * time.Minute)
		if left := disklessRuns(t, o); len(items) != n || len(left) != 1 {
			t.Errorf("%d gaps were given, want %d; then %d records are left", len(items), n, len(left))
		}
		r.crash(nil)
	})
}

// Where the disk never works, a note goes when the broker has the gaps.
func TestTheNoteOfARunWithoutADiskGoes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := Options{AtRisk: time.Second, RuntimeDir: memoryDir(t), Sensors: []string{"air"}}
		recorded := func(want int, when string) {
			t.Helper()
			if left := disklessRuns(t, o); len(left) != want {
				t.Errorf("%s: %v, want %d", when, left, want)
			}
		}
		r := noDisk(t, o)
		r.add(message.Reading, "air")
		r.crash(nil)
		recorded(1, "killed")
		if err := os.WriteFile(filepath.Join(o.RuntimeDir, runtimeName(7)), []byte("fieldpost spool 1 run 7 run"), 0o600); err != nil {
			t.Fatal(err)
		}
		r = noDisk(t, o)
		recorded(2, "next run") // what is cut short is gone
		for _, x := range r.takeItems(all) {
			r.s.Ack(x.ID)
		}
		r.add(message.Reading, "air")
		wait(2 * time.Minute)
		recorded(1, "acknowledged")
		for _, x := range r.takeItems(all) {
			r.s.Ack(x.ID)
		}
		if err := r.stopAndClose(); err == nil {
			t.Error("the end is good without a disk")
		}
		recorded(0, "ended and owing nothing")
		r = newRig(t, newMemDisk(), o)
		recorded(0, "with a disk")
		if got := r.takeItems(all); len(got) != 0 {
			t.Errorf("nothing was lost, and told is %s", brief(got))
		}
		if err := r.stopAndClose(); err != nil {
			t.Error(err)
		}
	})
}

// A disk that comes later makes the note needless.
func TestADiskThatComesLaterNeedsNoNote(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := Options{AtRisk: time.Second, RuntimeDir: memoryDir(t), Sensors: []string{"air"}}
		r := noDisk(t, o)
		r.add(message.Reading, "air")
		r.d.Failing(nil)
		wait(2 * time.Minute)
		if left := disklessRuns(t, o); len(left) != 0 || !r.s.Stats().Disk {
			t.Errorf("left in the runtime directory: %v, %+v", left, r.s.Stats())
		}
		if err := r.stopAndClose(); err != nil {
			t.Error(err)
		}
	})
}

// What a run that could not write gave out of an earlier run's messages may be at the
// broker, however that run ended: the next does not claim it for certain, when ever its
// own disk comes.
func TestWhatARunWithoutADiskGaveIsNotClaimedForCertain(t *testing.T) {
	for name, c := range map[string]struct{ ack, crash, late bool }{
		"killed":             {crash: true},
		"killed, disk late":  {crash: true, late: true},
		"ended":              {},
		"all acknowledged":   {ack: true},
		"acked, disk late":   {ack: true, late: true},
		"acked, then killed": {ack: true, crash: true},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				o := Options{AtRisk: time.Second, MaxBytes: 1 << 20, RuntimeDir: memoryDir(t)}
				r := newRig(t, newMemDisk(), o).start()
				for range 20 {
					r.add(message.Reading, "air")
				}
				if err := r.stopAndClose(); err != nil {
					t.Fatal(err)
				}
				left := r.d.Kill()
				readOnly := func(op, _ string) error {
					if op == "read" || op == "list" || op == "lock" {
						return nil
					}
					return syscall.EROFS
				}
				r.d.Failing(readOnly)
				r = newRig(t, r.d, o).start()
				given := r.takeItems(all)
				r.want(given[:1], "air:1")
				for _, x := range given {
					if c.ack {
						r.s.Ack(x.ID)
					}
				}
				wait(2 * time.Second)
				if c.crash {
					r.crash(nil)
				} else if err := r.stopAndClose(); err == nil {
					t.Error("the end is good without a disk")
				}
				if c.late {
					left.Failing(func(string, string) error { return syscall.EIO })
				}
				r = newRig(t, left, o).start()
				if c.late {
					for _, x := range r.takeItems(all) {
						r.s.Ack(x.ID) // what tells of the run without a disk
					}
					left.Failing(nil)
					wait(2 * time.Minute)
				}
				r.flood(message.Reading, "air", 20000)
				var gaps []itemRecord
				for _, x := range r.takeItems(all) {
					if x.Record.Kind == message.Gap && x.Record.Sensor == "air" && x.Record.Run == 1 {
						gaps = append(gaps, x)
					}
				}
				r.want(gaps, "gap air 1 after_seq=0 to_seq=20 reason=spool_full certain=false")
				if err := r.stopAndClose(); err != nil {
					t.Error(err)
				}
			})
		})
	}
}

func TestStateFile(t *testing.T) {
	few := map[string][classes]bool{
		"air": {Samples: true}, "door": {true, true}, "": {}, "soil": {Events: true}, "a b\n\"\xff events": {}, "x samples": {Events: true},
	}
	for _, s := range []runFile{{}, {run: 7}, {run: 1<<63 + 5, stopped: true}, {run: 7, sensors: few}} {
		if s.sensors == nil {
			s.sensors = map[string][classes]bool{}
		}
		if got, err := decodeRunFile(s.encode()); err != nil || !reflect.DeepEqual(got, s) {
			t.Errorf("%+v became %+v, %v", s, got, err)
		}
	}
	b := runFile{run: 7, sensors: few}.encode()
	for i := range b {
		for _, x := range []byte{1, 0x20, 0x80} {
			damagedSpool := bytes.Clone(b)
			damagedSpool[i] ^= x
			if got, err := decodeRunFile(damagedSpool); err == nil {
				t.Errorf("%q was read as %+v", damagedSpool, got)
			}
		}
		if got, err := decodeRunFile(b[:i]); err == nil {
			t.Errorf("%q was read as %+v", b[:i], got)
		}
	}
}

// A run was killed. The next one had no disk, and sent what the first had written. Then its file is
// removed: what was lost with it may have arrived.
func TestWhatARunWithoutADiskGaveIsLostLater(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := Options{AtRisk: time.Minute, RuntimeDir: memoryDir(t)}
		r := newRig(t, newMemDisk(), o).start()
		wait(5 * time.Second)
		for range 3 {
			r.add(message.Reading, "air")
		}
		wait(2 * time.Second) // written, not synced
		r = r.killed(func(d *memDisk, _ *Options) { d.Failing(full) }).start()
		r.want(r.takeItems(all), "air:1, air:2, air:3")
		wait(2 * time.Second)
		r = r.killed(func(d *memDisk, _ *Options) {
			for _, name := range d.Files("samples-", segmentExt) {
				_ = d.Remove(name)
			}
		}).start()
		r.want(r.takeItems(all), "gap air 1 after_seq=0 to_seq=3 reason=crash certain=false")
		if err := r.stopAndClose(); err != nil {
			t.Error(err)
		}
	})
}
