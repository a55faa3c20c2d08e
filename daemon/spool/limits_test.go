package spool

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"fieldpost/daemon/clock"
	"fieldpost/daemon/message"
)

// diskUse is what the spool's directory holds.
func diskUse(d *memDisk) (n int64) {
	for _, name := range d.Files("", "") {
		n += int64(len(d.Data(name)))
	}
	return n
}

func TestOldestSamplesGoWhenFull(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, newMemDisk(), Options{AtRisk: time.Second, MaxBytes: 1 << 20}).start()
		r.appendRecord(message.Record{Kind: message.Answer})
		inFlight := r.takeItems(all)
		const n = 30000
		for i := range n / 2 {
			r.add(message.Reading, "air")
			r.add(message.Reading, "soil")
			if i == 10 {
				inFlight = append(inFlight, r.takeItems(all)...)
			}
			if i%500 == 0 {
				wait(time.Second)
				if use := diskUse(r.d); use > 1<<20 {
					t.Fatalf("%d bytes on disk", use)
				}
			}
		}
		wait(3 * time.Second)
		if got := r.takeFaults(); got != "spool_full raised" {
			t.Errorf("faults: %q", got)
		}
		acked := r.s.Stats().Acked
		for _, x := range inFlight[1:] {
			r.s.Ack(x.ID) // their segment is gone
		}
		if got := r.s.Stats().Acked; got != acked {
			t.Errorf("%d acks counted of what was dropped", got-acked)
		}
		r.s.Rewind()
		items := r.takeItems(all)
		got, lost := map[string]map[uint64]bool{"air": {}, "soil": {}}, map[string][]loss{}
		for _, x := range items {
			switch rec := x.Record; rec.Kind {
			case message.Reading:
				got[rec.Sensor][rec.Seq] = true
			case message.Gap:
				lost[rec.Sensor] = append(lost[rec.Sensor], claim(rec))
				if b := brief([]itemRecord{x}); !strings.Contains(b, " reason=spool_full") {
					t.Errorf("gap: %s", b)
				}
			}
		}
		missing := uint64(0)
		for sensor := range got {
			for seq := uint64(1); seq <= n/2; seq++ {
				if !got[sensor][seq] {
					missing++
				}
				if got[sensor][seq] == told(lost[sensor], seq) {
					t.Fatalf("%s %d: there %v, told as lost %v", sensor, seq, got[sensor][seq], told(lost[sensor], seq))
				}
			}
		}
		st := r.s.Stats()
		if missing != st.Dropped || missing == 0 || st.Bytes < 1<<19 {
			t.Errorf("%d missing, %d counted, %d bytes kept", missing, st.Dropped, st.Bytes)
		}
		if items[0].Record.Kind != message.Answer {
			t.Error("the answer is gone before the samples")
		}
		for _, x := range items {
			r.s.Ack(x.ID)
		}
		wait(calm + time.Second)
		if got := r.takeFaults(); got != "spool_full cleared" {
			t.Errorf("faults: %q", got)
		}
		if err := r.stopAndClose(); err != nil {
			t.Error(err)
		}
	})
}

func TestEventsAloneAreBoundedToo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, newMemDisk(), Options{AtRisk: time.Second, MaxBytes: 1 << 20}).start()
		r.add(message.Edge, "door")
		r.add(message.Reading, "air")
		for i := range 40000 {
			r.appendRecord(message.Record{Kind: message.Answer})
			if i%500 == 0 {
				wait(time.Second)
				if use := diskUse(r.d); use > 1<<20 {
					t.Fatalf("%d bytes on disk", use)
				}
			}
		}
		wait(3 * time.Second)
		var answers, lost int64
		var sensors []string
		for _, x := range r.takeItems(all) {
			switch rec := x.Record; {
			case rec.Kind == message.Answer:
				answers++
			case rec.Sensor == "":
				lost += rec.Field("count").(int64)
			default:
				sensors = append(sensors, brief([]itemRecord{x}))
			}
		}
		if answers+lost != 40000 || lost == 0 {
			t.Errorf("%d answers kept, %d lost", answers, lost)
		}
		slices.Sort(sensors)
		if got := strings.Join(sensors, ", "); got != "gap air 1 after_seq=0 to_seq=1 reason=spool_full, gap door 1 after_seq=0 to_seq=1 reason=spool_full" {
			t.Errorf("besides: %s", got)
		}
		if err := r.stopAndClose(); err != nil {
			t.Error(err)
		}
	})
}

func TestTooOld(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, newMemDisk(), Options{AtRisk: time.Second, MaxAge: 8 * time.Hour}).start()
		for range 24 * 60 {
			r.add(message.Reading, "air")
			wait(time.Minute)
		}
		items := r.takeItems(all)
		if len(items) == 0 {
			t.Fatal("nothing is left")
		}
		var oldest time.Duration
		last := uint64(0)
		for _, x := range items {
			if x.Record.Kind == message.Reading {
				if last == 0 {
					oldest = r.o.Clock.Now().Mono - x.Record.Stamp.Mono
				}
				last = x.Record.Seq
			} else if !strings.HasSuffix(brief([]itemRecord{x}), "reason=too_old") {
				t.Errorf("event: %s", brief([]itemRecord{x}))
			}
		}
		if oldest < 7*time.Hour || oldest > 9*time.Hour+5*time.Minute || last != 24*60 {
			t.Errorf("the oldest is %v old, the last is %d", oldest, last)
		}
		if got := r.takeFaults(); got != "spool_full raised" {
			t.Errorf("faults: %q", got)
		}
		if err := r.stopAndClose(); err != nil {
			t.Error(err)
		}
	})
}

func TestAge(t *testing.T) {
	wall := time.Unix(1e9, 0)
	now := clock.Stamp{Boot: "b", Mono: time.Hour, Wall: wall, Synced: true}
	for _, c := range []struct {
		then clock.Stamp
		want string
	}{
		{clock.Stamp{Boot: "b", Mono: time.Minute, Wall: wall.Add(time.Hour)}, "59m0s true"}, // the clock was set meanwhile
		{clock.Stamp{Boot: "a", Mono: time.Minute, Wall: wall.Add(-48 * time.Hour), Synced: true}, "48h0m0s true"},
		{clock.Stamp{Boot: "a", Wall: time.Unix(0, 0)}, "0s false"},
		{clock.Stamp{}, "0s false"},
	} {
		a, ok := ageOf(now, c.then)
		if got := fmt.Sprint(a, ok); got != c.want {
			t.Errorf("%+v: %s, want %s", c.then, got, c.want)
		}
	}
	now.Synced = false
	if _, ok := ageOf(now, clock.Stamp{Boot: "a", Synced: true}); ok {
		t.Error("an age from a clock that is not true")
	}
}

func TestWrongClockDropsNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := backlog(t, true)
		wait(1000 * time.Hour)
		other := clock.Func(func() clock.Stamp { // another boot, its clock not yet set
			return clock.Stamp{Boot: "other", Mono: time.Minute, Wall: time.Now().Add(1e6 * time.Hour)}
		})
		r := newRig(t, d, Options{AtRisk: time.Second, MaxAge: time.Hour, Clock: other}).start()
		wait(5 * time.Minute)
		if st := r.s.Stats(); st.Dropped != 0 || st.Samples.Pending != 10000 {
			t.Errorf("stats: %+v", st)
		}
		if err := r.stopAndClose(); err != nil {
			t.Error(err)
		}
	})
}

func TestDamagedFilesAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newMemDisk()
		for i := range 50 {
			g := &segment{class: Samples, run: 1, number: uint32(i)}
			d.Put(g.file(), make([]byte, 50_000))
		}
		d.Put(runName, runFile{run: 1, stopped: true}.encode())
		r := newRig(t, d, Options{AtRisk: time.Second, MaxBytes: 1 << 20})
		left := d.Files("samples", damagedExt)
		if len(left) == 0 || len(left) > 2 || left[len(left)-1] != "samples-1-49.seg.damaged" {
			t.Errorf("left: %q", left)
		}
		if err := r.stopAndClose(); err != nil {
			t.Error(err)
		}
	})
}
