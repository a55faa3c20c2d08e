package spool

import (
	"cmp"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"fieldpost/daemon/message"
)

// nearlyFull fills a spool until one segment more than it has does not fit.
func (r *rig) nearlyFull(kind message.Kind, sensor string) (n uint64) {
	for r.s.Stats().Bytes < 2*segmentSize {
		for range 100 {
			n = r.add(kind, sensor)
		}
		wait(2 * time.Second)
	}
	return n
}

// overfill is how many records are more than a nearly full spool takes.
const overfill = 5000

// overfill appends what does not fit into a spool that is nearly full.
func (r *rig) overfill(kind message.Kind, sensor string) (n uint64) {
	for range overfill {
		n = r.add(kind, sensor)
	}
	wait(3 * time.Second)
	return n
}

// While the disk does not take that a segment goes, it does not go: all that is
// in it is given, in its order and ahead of what came later, after a kill too.
func TestNothingIsGivenUpWhileTheDiskFails(t *testing.T) {
	for name, fail := range map[string]func(op, name string) error{
		"full": full,
		"only reading works": func(op, _ string) error {
			if op == "read" {
				return nil
			}
			return syscall.EIO
		},
		"acks are not taken": only("write", ackName, syscall.EIO),
		"acks do not sync": func(op, name string) error {
			return cmp.Or(only("datasync", ackName, syscall.EIO)(op, name), only("sync", ackName, syscall.EIO)(op, name))
		},
	} {
		for kind, sensor := range map[message.Kind]string{message.Edge: "door", message.Reading: "air"} {
			t.Run(name+", "+string(kind), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					o := Options{AtRisk: time.Second, MaxBytes: 1 << 20}
					r := newRig(t, newMemDisk(), o).start()
					on := r.nearlyFull(kind, sensor)
					r.d.Failing(fail)
					n := r.overfill(kind, sensor)
					wait(5 * time.Minute)
					if st := r.s.Stats(); st.Dropped != 0 || st.Disk {
						t.Errorf("while the disk fails: %+v", st)
					}
					items := r.takeItems(all)
					if sure, unsure := claims(items); sure != nil || unsure != nil {
						t.Errorf("gaps %+v, %+v", sure, unsure)
					}
					checkOnce(t, items, n)
					r = newRig(t, r.crash(r.d.Kill()), o)
					items = r.takeItems(all)
					if sure, unsure := claims(items); len(sure) > 0 || len(unsure) != 1 || !unsure[0].open || unsure[0].lo > on+overfill {
						t.Errorf("after a kill: gaps %+v, %+v", sure, unsure)
					}
					if got := uint64(len(items)) - 1; got < on {
						t.Errorf("after a kill %d are left, want at least %d", got, on)
					}
					checkOnce(t, items, uint64(len(items))-1)
				})
			})
		}
	}
}

// A gap that had grown when the disk failed tells again of what it told before,
// and of no more; when the disk works it grows.
func TestAGapThatWasToGrowIsTakenBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, newMemDisk(), Options{AtRisk: time.Second, MaxBytes: 1 << 20}).start()
		r.nearlyFull(message.Reading, "air")
		r.overfill(message.Reading, "air")
		before := r.s.Stats().Dropped
		r.d.Failing(full)
		r.overfill(message.Reading, "air")
		wait(time.Minute)
		first := r.takeItems(2)
		r.s.Rewind()
		if c := claim(first[0].Record); before == 0 || c.lo != 1 || c.hi != before || c.uncertain || first[1].Record.Seq != before+1 {
			t.Errorf("%d were dropped before the disk failed; got %s", before, brief(first))
		}
		r.d.Failing(nil)
		r.flood(message.Reading, "air", 1000)
		wait(2 * time.Minute)
		var told ids
		items := r.takeItems(all)
		for _, x := range items {
			if c := claim(x.Record); x.Record.Kind == message.Gap {
				told.add(c.lo, c.hi+1)
			} else {
				told.add(x.Record.Seq, x.Record.Seq+1)
			}
		}
		if st := r.s.Stats(); len(told.spans) != 1 || told.spans[0] != (span{1, r.seq["air"] + 1}) || st.Dropped <= before {
			t.Errorf("told or given: %+v of %d, %d dropped", told.spans, r.seq["air"], st.Dropped)
		}
		if err := r.stopAndClose(); err != nil {
			t.Error(err)
		}
	})
}

// Nothing is given out while the disk is to take that a segment goes; but not
// for longer than a disk may take.
func TestADiskThatHangsOverADropHoldsUpNobodyForLong(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newMemDisk()
		var until chan struct{}
		hangs := make(chan chan struct{}, 1)
		hangs <- nil
		r := newRigOn(t, d, &slowDisk{d, func(op, name string) {
			until := <-hangs
			hangs <- until
			if until != nil && op == "write" && name == ackName {
				<-until
			}
		}}, Options{AtRisk: time.Second, MaxBytes: 1 << 20}).start()
		r.nearlyFull(message.Reading, "air")
		<-hangs
		until = make(chan struct{})
		hangs <- until
		r.overfill(message.Reading, "air")
		prompt(t, "Append", func() { r.add(message.Reading, "air") })
		if items := r.takeItems(1); len(items) != 0 {
			t.Errorf("while it is not known whether they go: %s", brief(items))
		}
		wait(hangAfter)
		first := r.takeItems(2)
		lost := r.s.Stats().Dropped
		if c := claim(first[0].Record); lost == 0 || c.lo != 1 || c.hi != lost || first[1].Record.Seq != lost+1 {
			t.Errorf("%d dropped; got %s", lost, brief(first))
		}
		close(until)
		<-hangs
		hangs <- nil
		wait(2 * time.Minute)
		if st := r.s.Stats(); !st.Disk || st.Dropped != lost {
			t.Errorf("after that: %+v", st)
		}
		if err := r.stopAndClose(); err != nil {
			t.Error(err)
		}
	})
}
