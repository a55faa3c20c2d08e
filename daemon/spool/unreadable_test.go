package spool

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"fieldpost/daemon/clock"
	"fieldpost/daemon/message"
)

// spoiled are ways in which a file that is not being written comes to harm.
var spoiled = map[string]func(d *memDisk, name string){
	"removed":    func(d *memDisk, name string) { _ = d.Remove(name) },
	"unreadable": func(d *memDisk, name string) { d.Failing(only("read", name, errIO)) },
	"emptied":    func(d *memDisk, name string) { _ = d.Truncate(name, 0) },
	"cut":        func(d *memDisk, name string) { _ = d.Truncate(name, int64(len(d.Data(name))/2)) },
	"begun late": func(d *memDisk, name string) { d.Put(name, d.Data(name)[segmentSize/2:]) },
	"overwritten": func(d *memDisk, name string) {
		b := d.Data(name)
		clear(b[segmentSize/4 : segmentSize/2])
		d.Put(name, b)
	},
}

// In an outage the spool is full and rewrites its segments, to keep what the sensors below
// their share have. One of these files was removed or cannot be read. The rest still goes to
// the disk, and each entry comes, or a gap tells of it: of this run, and after a kill.
func TestSegmentThatCannotBeRewritten(t *testing.T) {
	for what, spoil := range spoiled {
		for _, number := range []int{1, 2} {
			for _, kills := range []bool{false, true} {
				t.Run(fmt.Sprintf("%s, %d, killed %v", what, number, kills), func(t *testing.T) {
					synctest.Test(t, func(t *testing.T) { rewriteSpoiled(t, spoil, number, kills) })
				})
			}
		}
	}
}

func rewriteSpoiled(t *testing.T, spoil func(*memDisk, string), number int, kills bool) {
	r := newRig(t, newMemDisk(), Options{AtRisk: time.Second, MaxBytes: 1 << 20, RuntimeDir: memoryDir(t), Sensors: []string{"door", "gate"}}).start()
	add := func(rounds int) {
		for range rounds {
			r.add(message.Edge, "door")
			r.addAll(message.Edge, "gate", 200)
			wait(2 * time.Second)
		}
	}
	add(55)
	name := fmt.Sprintf("edges-1-%d.seg", number)
	if len(r.d.Files("edges-1-", segmentExt)) <= number || r.d.Data(name) == nil {
		t.Fatalf("files: %q", r.d.Files("", ""))
	}
	acked := map[string]*ids{"door": {}, "gate": {}}
	given := r.takeItems(all)
	for k, x := range given {
		if k%3 != 0 { // so that it is worth while to rewrite each file
			r.s.Ack(x.ID)
			acked[x.Record.Sensor].add(x.Record.Seq, x.Record.Seq+1)
		}
	}
	r.s.Rewind()
	wait(2 * time.Second)
	spoil(r.d, name)
	add(45)
	wait(3 * time.Second)
	if st := r.s.Backlog(); st.AtRisk != 0 || !r.s.Stats().Disk {
		t.Errorf("%d are at risk, disk %v", st.AtRisk, r.s.Stats().Disk)
	}
	for range 10 { // of what is only on disk the last stays in memory
		r.add(message.Edge, "door")
	}
	wait(3 * time.Second)
	if kills {
		r = r.killed(nil)
	}
	r.checkDoorAndGate(acked, 110, 20000)
	if err := r.stopAndClose(); err != nil {
		t.Error(err)
	}
}

// checkDoorAndGate takes everything that is left, and acknowledges it. It finds all edges of
// both sensors that were not acknowledged before once, or in a gap.
func (r *rig) checkDoorAndGate(acked map[string]*ids, door, gate uint64) {
	r.t.Helper()
	there, told := map[string]*ids{"door": {}, "gate": {}}, map[string]*ids{"door": {}, "gate": {}}
	for range 10 { // an unreadable file is tried again before it is given up
		for _, x := range r.takeItems(all) {
			r.s.Ack(x.ID)
			n := x.Record
			switch c := claim(n); {
			case n.Kind == message.Gap && n.Sensor != "" && c.open:
				told[n.Sensor].add(c.lo, 1<<20)
			case n.Kind == message.Gap && n.Sensor != "":
				told[n.Sensor].add(c.lo, c.hi+1)
			case n.Kind == message.Edge && there[n.Sensor].has(n.Seq):
				r.t.Errorf("%s:%d comes twice", n.Sensor, n.Seq)
			case n.Kind == message.Edge:
				there[n.Sensor].add(n.Seq, n.Seq+1)
			}
		}
		if r.stop != nil {
			wait(time.Second)
		}
	}
	for sensor, until := range map[string]uint64{"door": door, "gate": gate} {
		missing := 0
		for n := uint64(1); n <= until; n++ {
			if !acked[sensor].has(n) && !there[sensor].has(n) && !told[sensor].has(n) {
				missing++
			}
		}
		if missing > 0 {
			r.t.Errorf("%d of %s are missing without a gap", missing, sensor)
		}
	}
}

// A part of a segment is lost while the disk is full, so that the gap about it cannot be
// written. The reader does not read that file again and again meanwhile, and what comes after
// it is sent.
func TestSegmentIsLostWhileTheDiskIsFull(t *testing.T) {
	for what, spoil := range spoiled {
		for _, class := range []string{"samples", "edges", "events"} {
			t.Run(class+" "+what, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) { loseWhileFull(t, spoil, class+"-1-1.seg") })
			})
		}
	}
}

func loseWhileFull(t *testing.T, spoil func(*memDisk, string), name string) {
	o := Options{AtRisk: time.Second}
	r := newRig(t, newMemDisk(), o).start()
	for range 5000 {
		r.add(message.Reading, "air")
		r.add(message.Edge, "door")
		r.appendRecord(message.Record{Kind: message.Answer})
	}
	wait(3 * time.Second)
	r = newRig(t, r.crash(r.d.Kill()), o).start()
	wait(3 * time.Second)
	if len(r.d.Data(name)) < segmentSize/4*3 {
		t.Fatalf("files: %q", r.d.Files("", ""))
	}
	spoil(r.d, name)
	unreadable := r.d.Fail
	r.d.Failing(func(op, name string) error {
		if unreadable != nil && unreadable(op, name) != nil {
			return errIO
		}
		return full(op, name)
	})
	reads, items := r.d.Reads, r.takeItems(all)
	for range 20 {
		wait(time.Second)
		items = append(items, r.takeItems(all)...)
	}
	if n := r.d.Reads - reads; n > 60 {
		t.Errorf("%d reads", n)
	}
	r.d.Failing(unreadable)
	wait(2 * time.Minute)
	checkFiveThousand(t, append(items, r.takeItems(all)...))
	if err := r.stopAndClose(); err != nil {
		t.Error(err)
	}
}

// checkFiveThousand finds 5000 readings of air, edges of the door and answers, each once or in
// a gap.
func checkFiveThousand(t *testing.T, items []itemRecord) {
	t.Helper()
	there, gaps := map[string]*ids{"air": {}, "door": {}}, map[string][]loss{}
	answers, lost := 0, int64(0)
	for _, x := range items {
		n := x.Record
		switch {
		case n.Kind == message.Answer:
			answers++
		case n.Kind == message.Gap && n.Sensor == "":
			count, _ := n.Field("count").(int64)
			lost += count
		case n.Kind == message.Gap:
			gaps[n.Sensor] = append(gaps[n.Sensor], claim(n))
		case there[n.Sensor].has(n.Seq):
			t.Errorf("%s:%d comes twice", n.Sensor, n.Seq)
		default:
			there[n.Sensor].add(n.Seq, n.Seq+1)
		}
	}
	for sensor, have := range there {
		for n := have.free(1); n <= 5000; n = have.free(n + 1) {
			if !told(gaps[sensor], n) {
				t.Fatalf("%s:%d is missing, gaps %+v", sensor, n, gaps[sensor])
			}
		}
	}
	if answers+int(lost) < 5000 {
		t.Errorf("%d answers, and %d lost", answers, lost)
	}
}

// A killed run leaves a segment whose end was not synced. It is removed while the disk does
// not let the next run begin. Once the disk works, all else is written.
func TestTornSegmentIsRemoved(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := Options{AtRisk: time.Minute, Clock: clock.Fake()}
		r := newRig(t, newMemDisk(), o).start()
		for range 30 {
			r.add(message.Reading, "air")
			wait(200 * time.Millisecond)
		}
		wait(2 * time.Second)
		left := r.crash(r.d.Kill())
		torn := left.Files("samples-1-", segmentExt)
		if len(torn) != 1 {
			t.Fatalf("files: %q", left.Files("", ""))
		}
		left.Failing(only("sync", torn[0], errIO))
		r = newRig(t, left, o).start()
		wait(2 * time.Second)
		_ = left.Remove(torn[0])
		left.Failing(nil)
		r.add(message.Reading, "air")
		wait(2 * time.Minute)
		if st := r.s.Backlog(); st.AtRisk != 0 || !r.s.Stats().Disk {
			t.Errorf("%d are at risk, disk %v; %s", st.AtRisk, r.s.Stats().Disk, r.detail)
		}
		if err := r.stopAndClose(); err != nil {
			t.Error(err)
		}
	})
}

// A segment is damaged, and cannot be repaired because the disk is full, or is in use when a
// part of it is lost. Then the rest of it is removed. The next run notices that.
func TestDamagedSegmentIsRemoved(t *testing.T) {
	for _, running := range []bool{false, true} {
		for _, kills := range []bool{false, true} {
			synctest.Test(t, func(t *testing.T) {
				const name = "samples-1-1.seg"
				d, o := backlog(t, true), Options{AtRisk: time.Second}
				if !running {
					flip(d, name, segmentSize/2)
					d.Failing(full)
				}
				r := newRig(t, d, o).start()
				if running {
					flip(d, name, segmentSize/2)
				}
				items := r.takeItems(all)
				d.Failing(nil)
				if !running {
					_ = d.Remove(name)
				}
				wait(2 * time.Minute)
				_ = d.Remove(name)
				if kills {
					d = r.crash(d.Kill())
				} else if err := r.stopAndClose(); err != nil {
					t.Error(err)
				}
				if missing := checkAllTold(t, items); missing == 0 || missing > 10 {
					t.Errorf("%d are missing at first", missing)
				}
				r = newRig(t, d, o).start()
				if missing := checkAllTold(t, r.takeItems(all)); missing < 1000 {
					t.Errorf("%d are missing", missing)
				}
				if err := r.stopAndClose(); err != nil {
					t.Error(err)
				}
			})
		}
	}
}

// While the disk is full, what cannot be read is tried again as soon as otherwise, and what comes
// after it is sent.
func TestUnreadableWhileTheDiskIsFull(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, backlog(t, true), Options{AtRisk: time.Second}).start()
		r.add(message.Reading, "air")
		r.d.Failing(func(op, name string) error {
			if op == "read" && name == "samples-1-1.seg" {
				return errIO
			}
			return full(op, name)
		})
		wait(5 * time.Minute) // it is tried only once a minute
		items := r.takeItems(all)
		for range 5 {
			wait(time.Second)
			items = append(items, r.takeItems(all)...)
		}
		if n := len(items); n < 5000 {
			t.Errorf("%d items", n)
		}
		r.d.Failing(nil)
		if err := r.stopAndClose(); err != nil {
			t.Error(err)
		}
	})
}

// The end of a segment is in memory. The file cannot be read, so the beginning is lost, and the
// end is sent.
func TestSegmentIsLostWhoseEndIsInMemory(t *testing.T) {
	for what, spoil := range spoiled {
		t.Run(what, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newRig(t, newMemDisk(), Options{AtRisk: time.Second}).start()
				for range 25 {
					r.addAll(message.Reading, "air", 100)
					wait(2 * time.Second)
				}
				const name = "samples-1-1.seg"
				if n := len(r.d.Data(name)); n < segmentSize/2 || len(r.d.Files("samples-1-2", segmentExt)) > 0 {
					t.Fatalf("%d bytes, files %q", n, r.d.Files("", ""))
				}
				spoil(r.d, name)
				reads, items := r.d.Reads, r.takeItems(all)
				for range 10 {
					wait(time.Second)
					items = append(items, r.takeItems(all)...)
				}
				if n := r.d.Reads - reads; n > 30 {
					t.Errorf("%d reads", n)
				}
				there, gaps := &ids{}, []loss{}
				for _, x := range items {
					if x.Record.Kind == message.Gap {
						gaps = append(gaps, claim(x.Record))
					} else {
						there.add(x.Record.Seq, x.Record.Seq+1)
					}
				}
				if !there.has(2500) {
					t.Error("the last did not come")
				}
				for n := there.free(1); n <= 2500; n = there.free(n + 1) {
					if !told(gaps, n) {
						t.Fatalf("%d is missing, gaps %+v", n, gaps)
					}
				}
				if err := r.stopAndClose(); err != nil {
					t.Error(err)
				}
			})
		})
	}
}

// A damaged segment comes to harm once more, after it was loaded and before it is repaired. The
// repaired one must not hide what that cost: a gap tells of it, also if the daemon is killed
// before it needs the segment.
func TestDamagedSegmentIsCutBeforeItIsRepaired(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := Options{AtRisk: time.Second, Clock: clock.Fake()}
		r := newRig(t, newMemDisk(), o).start()
		for range 30 {
			r.add(message.Reading, "air")
			wait(time.Second)
		}
		if err := r.stopAndClose(); err != nil {
			t.Fatal(err)
		}
		const name = "samples-1-1.seg"
		b := r.d.Data(name)
		clear(b[len(b)/3 : len(b)/3+40])
		r.d.Put(name, b)
		reads := 0
		r.d.Failing(func(op, file string) error {
			if op == "read" && file == name {
				if reads++; reads == 2 {
					f := r.d.Names[name]
					f.B = f.B[:len(f.B)-10]
					f.Good = min(f.Good, len(f.B))
				}
			}
			return nil
		})
		r = newRig(t, r.d, o).start()
		wait(5 * time.Second)
		if reads < 2 {
			t.Fatalf("%d reads", reads)
		}
		left := r.d.Kill()
		r.crash(left)
		r = newRig(t, left, o).start()
		there, told := ids{}, ids{}
		for range 10 {
			for _, x := range r.takeItems(all) {
				n := x.Record
				switch c := claim(n); {
				case n.Kind == message.Gap && c.open:
					told.add(c.lo, 1<<20)
				case n.Kind == message.Gap:
					told.add(c.lo, c.hi+1)
				case n.Run == 1:
					there.add(n.Seq, n.Seq+1)
				}
			}
			wait(time.Second)
		}
		for n := uint64(1); n <= 30; n++ {
			if !there.has(n) && !told.has(n) {
				t.Errorf("air:%d is missing without a gap; there %v, told %v", n, there.spans, told.spans)
			}
		}
		if err := r.stopAndClose(); err != nil {
			t.Error(err)
		}
	})
}
