package spool

import (
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"fieldpost/daemon/clock"
	"fieldpost/daemon/message"
)

func TestMemoryIsBoundedWhileTheDiskFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, newMemDisk(), Options{AtRisk: time.Second, Memory: 512 << 10}).start()
		r.add(message.Reading, "air")
		wait(2 * time.Second)
		r.d.Failing(full)
		const n = 20000
		for i := range n {
			r.add(message.Reading, "air")
			if st := r.s.Stats(); st.Memory > 512<<10+4096 {
				t.Fatalf("after %d: %d bytes", i, st.Memory)
			}
		}
		r.appendRecord(message.Record{Kind: message.Answer})
		wait(time.Minute)
		if got := r.takeFaults(); got != "spool_unavailable raised, spool_full raised" && got != "spool_full raised, spool_unavailable raised" {
			t.Errorf("faults: %q", got)
		}
		st := r.s.Stats()
		items := r.takeItems(all)
		got, lost := map[uint64]bool{}, []loss{}
		for _, x := range items {
			switch x.Record.Kind {
			case message.Gap:
				lost = append(lost, claim(x.Record))
			case message.Reading:
				got[x.Record.Seq] = true
			}
		}
		dropped := uint64(0)
		for seq := uint64(1); seq <= n+1; seq++ {
			if !got[seq] {
				dropped++
			}
			if got[seq] == told(lost, seq) {
				t.Fatalf("record %d: sent %v, told as lost %v", seq, got[seq], told(lost, seq))
			}
		}
		if dropped == 0 || dropped != st.Dropped {
			t.Errorf("%d are missing, %d counted", dropped, st.Dropped)
		}
		r.d.Failing(nil)
		wait(2 * time.Minute)
		if err := r.stopAndClose(); err != nil {
			t.Error(err)
		}
	})
}

func TestEventsAreGivenUpLast(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, newMemDisk(), Options{AtRisk: time.Second, Memory: 512 << 10})
		r.d.Failing(full)
		r.start()
		r.s.st.mu.Lock()
		r.s.st.appendGapLocked(clock.Stamp{}, originGap{origin{"old", 1}, Gap{Reason: reasonCrash, First: 5, Uncertain: true}}, r.s.st.gaps.latest)
		r.s.st.mu.Unlock()
		for range 3 {
			r.appendRecord(message.Record{Kind: message.Answer})
		}
		r.add(message.Edge, "door")
		for range 5000 {
			r.appendRecord(message.Record{Kind: message.Answer})
		}
		items := r.takeItems(4)
		if st := r.s.Stats(); st.Dropped == 0 || st.Memory > 512<<10 {
			t.Fatalf("stats: %+v", st)
		}
		var gaps []itemRecord
		for _, x := range append(items, r.takeItems(all)...) {
			if x.Record.Kind == message.Gap {
				gaps = append(gaps, x)
			}
		}
		got := brief(gaps)
		for _, want := range []string{
			"gap old 1 after_seq=4 reason=spool_full certain=false", "gap door 1 after_seq=0 to_seq=1 reason=spool_full", fmt.Sprintf("gap  %d reason=spool_full count=", r.s.RunNumber()),
		} {
			if !strings.Contains(got, want) {
				t.Errorf("gaps %s lack %q", got, want)
			}
		}
		r.d.Failing(nil)
		if err := r.stopAndClose(); err != nil {
			t.Error(err)
		}
	})
}

func TestGivenUpWhileItIsWritten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, newMemDisk(), Options{AtRisk: time.Second, Memory: 512 << 10}).start()
		r.add(message.Reading, "air")
		once := true
		r.d.Failing(func(op, name string) error {
			if op == "write" && strings.HasPrefix(name, "samples") && once {
				once = false
				for range 4000 { // more than memory holds
					r.add(message.Reading, "air")
				}
			}
			return nil
		})
		wait(10 * time.Second)
		items := r.takeItems(all)
		if !strings.HasPrefix(brief(items), "gap air 1 after_seq=0 to_seq=") {
			t.Errorf("got %.100s", brief(items))
		}
		for _, x := range items {
			r.s.Ack(x.ID)
		}
		if err := r.stopAndClose(); err != nil {
			t.Error(err)
		}
		if files := r.d.Files("", segmentExt); len(files) != 0 {
			t.Errorf("nothing is owed, but there are %q", files)
		}
	})
}
