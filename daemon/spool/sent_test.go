package spool

import (
	"testing"
	"testing/synctest"
	"time"

	"fieldpost/daemon/message"
)

// flood appends records until whole segments have been dropped.
func (r *rig) flood(kind message.Kind, sensor string, n int) {
	for i := range n {
		r.add(kind, sensor)
		if i%500 == 0 {
			wait(time.Second)
		}
	}
	wait(3 * time.Second)
}

// claims gives the gaps among items, by whether they are certain.
func claims(items []itemRecord) (sure, unsure []loss) {
	for _, x := range items {
		switch c := claim(x.Record); {
		case x.Record.Kind != message.Gap:
		case c.uncertain:
			unsure = append(unsure, c)
		default:
			sure = append(sure, c)
		}
	}
	return sure, unsure
}

// What is on its way to the broker when its segment is dropped may be
// acknowledged afterwards, so it is not claimed for certain. All else is.
func TestWhatIsUnderWayIsNotClaimedForCertain(t *testing.T) {
	for kind, sensor := range map[message.Kind]string{message.Edge: "door", message.Reading: "air"} {
		t.Run(string(kind), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newRig(t, newMemDisk(), Options{AtRisk: time.Second, MaxBytes: 1 << 20}).start()
				for range 349 {
					r.add(kind, sensor)
				}
				given := r.takeItems(348)
				for _, x := range given[:48] {
					r.s.Ack(x.ID)
				}
				r.flood(kind, sensor, 40000)
				for _, x := range given[48:] {
					r.s.Ack(x.ID) // late
				}
				items := r.takeItems(all)
				sure, unsure := claims(items)
				if len(unsure) != 1 || unsure[0].lo != 49 || unsure[0].hi != 348 {
					t.Errorf("not certain: %+v", unsure)
				}
				if len(sure) != 1 || sure[0].lo != 349 {
					t.Fatalf("certain: %+v", sure)
				}
				for _, x := range items {
					if x.Record.Kind == kind {
						if x.Record.Seq != sure[0].hi+1 {
							t.Errorf("certain up to %d, and %d comes next", sure[0].hi, x.Record.Seq)
						}
						break
					}
				}
				if err := r.stopAndClose(); err != nil {
					t.Error(err)
				}
			})
		})
	}
}

// The same where the disk fails and it is the memory that is full.
func TestWhatIsUnderWayIsNotClaimedForCertainWithoutDisk(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newMemDisk()
		r := newRig(t, d, Options{AtRisk: time.Second, MaxBytes: 1 << 20, Memory: 512 << 10}).start()
		d.Failing(full)
		for range 10 {
			r.add(message.Reading, "air")
		}
		given := r.takeItems(9)
		r.flood(message.Reading, "air", 10000)
		for _, x := range given {
			r.s.Ack(x.ID)
		}
		sure, unsure := claims(r.takeItems(all))
		if len(unsure) != 1 || unsure[0].lo != 1 || unsure[0].hi != 9 || len(sure) != 1 || sure[0].lo != 10 {
			t.Errorf("not certain: %+v, certain: %+v", unsure, sure)
		}
		d.Failing(nil)
		if err := r.stopAndClose(); err != nil {
			t.Error(err)
		}
	})
}

// A link that comes and goes, and never gets an acknowledgement through, adds
// one gap each time at most; and one tells of all that may have come.
func TestLinkThatComesAndGoesLeavesFewGaps(t *testing.T) {
	for _, kind := range []message.Kind{message.Edge, message.Reading} {
		t.Run(string(kind), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newRig(t, newMemDisk(), Options{AtRisk: time.Second, MaxBytes: 1 << 20}).start()
				const times = 5
				for range times {
					r.takeItems(100)
					r.s.Rewind()
					r.flood(kind, "door", 10000)
				}
				r.s.Rewind()
				items := r.takeItems(all)
				sure, unsure := claims(items)
				if n := len(sure) + len(unsure); n == 0 || n > times+1 {
					t.Errorf("certain: %+v, not certain: %+v", sure, unsure)
				}
				there := map[uint64]bool{}
				for _, x := range items {
					there[x.Record.Seq] = x.Record.Kind == kind
				}
				for seq := uint64(1); seq <= r.seq["door"]; seq++ {
					if there[seq] && told(sure, seq) || !there[seq] && !told(sure, seq) && !told(unsure, seq) {
						t.Fatalf("%d: there %v, certain %+v, not certain %+v", seq, there[seq], sure, unsure)
					}
				}
				if err := r.stopAndClose(); err != nil {
					t.Error(err)
				}
			})
		})
	}
}

// What was given of this run and of earlier ones is known apart, however it is
// given again.
func TestGivenIsKeptForEachRun(t *testing.T) {
	l := newLog(Samples, &keeping{})
	l.next = firstLive + 9
	f := l.flow("air")
	f.give(firstLive + 4)
	var done ids
	lo := idRange(0).lo
	done.add(lo, lo+2)
	done.add(lo+20, firstLive)
	g := &segment{class: Samples, lo: lo + 2, hi: lo + 20, live: 18}
	g.add("air", 1, 1, 1)
	l.insertFound(idRange(0), []*segment{g}, done, map[string]uint64{"air": lo + 7}, 18) // the disk starts late
	f.give(lo + 7)
	for id, want := range map[uint64]bool{lo + 3: true, lo + 7: true, lo + 8: false, lo + 12: false, firstLive - 1: false, firstLive: true, firstLive + 4: true, firstLive + 5: false} {
		if got := f.mayHaveCome(id); got != want {
			t.Errorf("%d: may have come %v, want %v", id, got, want)
		}
	}
	if f.cursor != lo+8 || l.pending != 18 || !f.onDisk {
		t.Errorf("given before %d, %d are owed", f.cursor, l.pending)
	}
	l.rewind()
	if f.give(lo + 2); !f.mayHaveCome(lo + 7) {
		t.Error("forgotten what was given before")
	}
}
