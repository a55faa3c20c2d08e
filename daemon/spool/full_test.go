package spool

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"fieldpost/daemon/message"
	"fieldpost/sensors"
)

// fillUntil appends readings of two sensors and an edge now and then until a
// segment was dropped.
func (r *rig) fillUntil(dropped uint64) {
	for r.s.Stats().Dropped < dropped {
		for range 50 {
			r.add(message.Reading, "air")
			r.add(message.Reading, "soil")
		}
		wait(2 * time.Second)
	}
}

func TestTheOldestSegmentGoesWholeWithOneGapForEachSensor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, newMemDisk(), Options{AtRisk: time.Second, MaxBytes: 1 << 20}).start()
		r.add(message.Edge, "door")
		r.fillUntil(1)
		first := r.s.Stats().Dropped
		if n := r.s.Stats().Gaps; n != 2 {
			t.Errorf("%d gaps recorded, want one of each sensor", n)
		}
		if _, there := r.d.Names["samples-1-1.seg"]; there {
			t.Error("the oldest segment is still there")
		}
		items := r.takeItems(3) // and no reading: one that may have come has a gap of its own
		r.want(items, fmt.Sprintf("gap air 1 after_seq=0 to_seq=%d reason=spool_full, gap soil 1 after_seq=0 to_seq=%d reason=spool_full, door:1",
			(first+1)/2, first/2))
		if use := diskUse(r.d); use > 1<<20 || use < 1<<19 {
			t.Errorf("%d bytes on disk", use)
		}
		r.s.Rewind()
		r.fillUntil(first + 1) // nobody has had the gaps: they grow
		both := r.s.Stats().Dropped
		items = r.takeItems(3)
		r.want(items, fmt.Sprintf("gap air 1 after_seq=0 to_seq=%d reason=spool_full, gap soil 1 after_seq=0 to_seq=%d reason=spool_full, door:1",
			(both+1)/2, both/2))
		r.fillUntil(both + 1) // these are under way, so there are new ones
		items = append(items, r.takeItems(3)...)
		if got := brief(items[3:]); !strings.Contains(got, fmt.Sprintf("gap air 1 after_seq=%d to_seq=", (both+1)/2)) {
			t.Errorf("got %s", got)
		}
		if x := items[5].Record; x.Sensor != []string{"air", "soil"}[r.s.Stats().Dropped%2] || x.Seq != r.s.Stats().Dropped/2+1 {
			t.Errorf("the first that is left is %+v", x)
		}
		r = newRig(t, r.crash(r.d.Kill()), Options{AtRisk: time.Second, MaxBytes: 1 << 20})
		again := brief(r.takeItems(8))
		for _, x := range slices.Concat(items[:2], items[3:5]) {
			if !strings.Contains(again, brief([]itemRecord{x})) {
				t.Errorf("after a crash %s is not among %s", brief([]itemRecord{x}), again)
			}
		}
	})
}

// An outage that drops the same readings a hundred times over leaves one gap a
// sensor, and not so many that the gaps fill the spool.
func TestALongOutageLeavesFewGaps(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, newMemDisk(), Options{AtRisk: time.Second, MaxBytes: 1 << 20}).start()
		note := strings.Repeat("x", 5000)
		for range 200 {
			for i := range 20 {
				sensor := fmt.Sprintf("s%d", i)
				r.seq[sensor]++
				r.appendRecord(message.Record{Kind: message.Reading, Sensor: sensor, Run: 1, Seq: r.seq[sensor], Fields: []sensors.Field{{Name: "v", Value: note}}})
				r.add(message.Edge, sensor)
				if i%10 == 0 {
					wait(2 * time.Second)
				}
			}
		}
		st := r.s.Stats()
		if st.Dropped < 3000 {
			t.Fatalf("%+v", st)
		}
		gaps := 0
		for _, x := range r.takeItems(all) {
			if x.Record.Kind == message.Gap {
				gaps++
			}
		}
		if gaps > 40 || len(r.d.Data(ackName)) > 2<<16 {
			t.Errorf("%d gaps, %d bytes of the ack file", gaps, len(r.d.Data(ackName)))
		}
		if err := r.stopAndClose(); err != nil {
			t.Error(err)
		}
	})
}

func TestDamageIsAFaultUntilTheBrokerKnows(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := backlog(t, true)
		b := d.Data("samples-1-2.seg")
		b[1000] ^= 4
		d.Put("samples-1-2.seg", b)
		r := newRig(t, d, Options{AtRisk: time.Second}).start()
		wait(time.Hour)
		if got := r.takeFaults(); got != "spool_damaged raised" {
			t.Errorf("faults: %q", got)
		}
		for _, x := range r.takeItems(2) { // the gap, which goes first, and the edge
			r.s.Ack(x.ID)
		}
		synctest.Wait()
		if got := r.takeFaults(); got != "spool_damaged cleared" {
			t.Errorf("faults: %q", got)
		}
		if err := r.stopAndClose(); err != nil {
			t.Error(err)
		}
		if got := r.o.Health.Summary(); got != "all well" {
			t.Errorf("after: %s", got)
		}
	})
}

func TestDamageThatCostsNothingIsNoLastingFault(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := backlog(t, true)
		b := d.Data("samples-1-2.seg")
		b[9] ^= 4 // in the header
		d.Put("samples-1-2.seg", b)
		r := newRig(t, d, Options{AtRisk: time.Second}).start()
		if got := r.takeFaults(); got != "spool_damaged raised, spool_damaged cleared" {
			t.Errorf("faults: %q", got)
		}
		if err := r.stopAndClose(); err != nil {
			t.Error(err)
		}
	})
}
