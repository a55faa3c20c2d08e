package spool

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"fieldpost/daemon/durable"
	"fieldpost/daemon/message"
)

// life is what becomes of the first run's twenty records in one run.
type life struct {
	give int  // how many of them Next gives
	kill bool // the run does not stop in good order
	old  bool // the ack file it leaves is as an older version writes it
}

// live has a run end so, and opens the next.
func (r *rig) live(x life, kind message.Kind, acked int) *rig {
	r.t.Helper()
	for n := 0; n < x.give; {
		item, ok := r.next()
		if !ok {
			r.t.Fatalf("%d of %d", n, x.give)
		}
		if item.Record.Kind == kind && item.Record.Run == 1 {
			n++
			if n <= acked {
				r.s.Ack(item.ID)
			}
		}
	}
	wait(3 * time.Second)
	left := r.d
	if x.kill {
		left = r.crash(r.d.Kill())
	} else if err := r.stopAndClose(); err != nil {
		r.t.Fatal(err)
	}
	if x.old {
		var f ackEncoder
		for s := durable.Scan(left.Data(ackName), 0); s.Next(); {
			if s.Payload[0] != 'h' {
				f.add(s.Payload)
			}
		}
		left.Put(ackName, f.b)
	}
	return newRig(r.t, left, r.o).start()
}

// What any run has given out may be at the broker: when a later run drops it, it
// is not claimed for certain. What none has given is.
func TestWhatAnEarlierRunGaveIsNotClaimedForCertain(t *testing.T) {
	for _, c := range []struct {
		name   string
		lives  []life
		acked  int // in the first
		unsure string
		sure   string
	}{
		{"never given", []life{{}}, 0, "", "1-20"},
		{"all given", []life{{give: 20}}, 0, "1-20", ""},
		{"some given", []life{{give: 12}}, 0, "1-12", "13-20"},
		{"some acknowledged", []life{{give: 12}}, 3, "4-12", "13-20"},
		{"never given, and killed", []life{{kill: true}}, 0, "1-20", ""},
		{"given by a later run", []life{{give: 5}, {give: 12}}, 0, "1-12", "13-20"},
		{"a later run never came to it", []life{{give: 5}, {}, {}}, 0, "1-5", "6-20"},
		{"a later run came less far", []life{{give: 12}, {give: 5}, {}}, 0, "1-12", "13-20"},
		{"a later run was killed", []life{{give: 5}, {kill: true}}, 0, "1-20", ""},
		{"a later run was killed, and one stopped", []life{{give: 5}, {kill: true}, {}, {}}, 0, "1-20", ""},
		{"an older version stopped", []life{{give: 5, old: true}}, 0, "1-20", ""},
		{"an older version stopped, and a newer", []life{{give: 5, old: true}, {}}, 0, "1-20", ""},
	} {
		for kind, sensor := range map[message.Kind]string{message.Edge: "door", message.Reading: "air"} {
			t.Run(fmt.Sprint(c.name, " ", kind), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					r := newRig(t, newMemDisk(), Options{AtRisk: time.Second, MaxBytes: 1 << 20}).start()
					for range 20 {
						r.add(kind, sensor)
					}
					for i, x := range c.lives {
						if i > 0 {
							c.acked = 0
						}
						r = r.live(x, kind, c.acked)
					}
					r.flood(kind, sensor, 20000)
					unsure, sure := "", ""
					for _, x := range r.takeItems(all) {
						if g := claim(x.Record); x.Record.Kind != message.Gap || x.Record.Sensor != sensor || x.Record.Run != 1 || g.open {
							continue
						} else if text := fmt.Sprintf("%d-%d", g.lo, g.hi); g.uncertain {
							unsure += text
						} else {
							sure += text
						}
					}
					if unsure != c.unsure || sure != c.sure {
						t.Errorf("not certain %q, certain %q; want %q, %q", unsure, sure, c.unsure, c.sure)
					}
					if err := r.stopAndClose(); err != nil {
						t.Error(err)
					}
				})
			})
		}
	}
}

// What was recorded of a sensor, log and run, or as an older version does of a log
// and run, holds for the frames before it, wherever
// the segment lies among the ids.
func TestGivenOfASegment(t *testing.T) {
	for _, c := range []struct {
		lo, first, n uint64 // the first id, its frame's seq, and how many
		recorded     uint64
		want         uint64 // behind the last that was given
	}{
		{5, firstLive, 10, firstLive + 4, 9},
		{5, firstLive, 10, firstLive, 0},
		{5, firstLive, 10, 0, 0},
		{5, firstLive + 3, 10, firstLive + 2, 0},
		{5, firstLive, 10, 1 << 63, 15},
		{firstLive - 20, 7, 10, 9, firstLive - 18},
		{firstLive - 20, 7, 10, 0, 0},
	} {
		g := &segment{class: Samples, run: 3, off: c.lo - c.first, lo: c.lo, hi: c.lo + c.n}
		g.add("air", 3, 1, 1)
		for _, k := range []givenKey{{logRun{Samples, 3}, "air", false}, {logRun{Samples, 3}, "", true}} {
			l := loader{acks: readAcks(nil)}
			l.acks.given[k] = c.recorded
			l.acks.given[givenKey{logRun{Samples, 3}, "soil", false}] = 1 << 62
			l.markGiven(g)
			if got := l.f.logs[Samples].given["air"]; got != c.want {
				t.Errorf("%+v: before %d", c, got)
			}
			l.crashed = map[uint64]string{4: ""}
			l.markGiven(g)
			if got := l.f.logs[Samples].given["air"]; got != c.lo+c.n {
				t.Errorf("%+v, and then a run was killed: before %d", c, got)
			}
		}
	}
}

// When Run is to end Next gives nothing more: it would not be recorded.
func TestNothingIsGivenAfterTheEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, newMemDisk(), Options{AtRisk: time.Second}).start()
		r.add(message.Reading, "air")
		if err := r.stopAndClose(); err != nil {
			t.Fatal(err)
		}
		r.want(r.takeItems(all), "")
	})
}
