package spool

import (
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"fieldpost/daemon/message"
)

func TestRefuse(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, newMemDisk(), Options{AtRisk: time.Second}).start()
		for range 3 {
			r.add(message.Reading, "air")
		}
		r.appendRecord(message.Record{Kind: message.Answer})
		wait(3 * time.Second)
		items := r.takeItems(all)
		r.d.Failing(only("write", "refused", syscall.ENOSPC))
		r.s.Refuse(items[0].ID, "payload too large")
		r.s.Refuse(items[2].ID, "denied")
		r.s.Refuse(items[2].ID, "denied")
		wait(3 * time.Second)
		if got := r.takeFaults(); got != "spool_unavailable raised" {
			t.Errorf("faults: %q", got)
		}
		left := r.d.Kill() // killed before they are set aside, they come again
		again := newRig(t, left, Options{AtRisk: time.Second})
		if got := brief(again.takeItems(all)); !strings.Contains(got, "air:2") || !strings.Contains(got, ":0") {
			t.Errorf("after a crash: %s", got)
		}
		r.d.Failing(nil)
		wait(time.Minute)
		if b := string(r.d.Data(refusedName)); strings.Count(b, "\n") < 2 || !strings.Contains(b, `"refused":"denied"`) || !strings.Contains(b, `"seq":2`) {
			t.Errorf("refused.jsonl: %s", b)
		}
		r.s.Rewind()
		r.want(r.takeItems(all), "gap air 1 after_seq=1 to_seq=2 reason=refused, air:1, air:3")
		if st := r.s.Stats(); st.Refused != 2 {
			t.Errorf("stats: %+v", st)
		}
		r = newRig(t, r.crash(r.d.Kill()), Options{AtRisk: time.Second})
		if got := brief(r.takeItems(all)); strings.Contains(got, "air:2,") || !strings.Contains(got, "reason=refused") {
			t.Errorf("after a crash: %s", got)
		}
	})
}

func TestRefusedFileIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, newMemDisk(), Options{AtRisk: time.Second, MaxBytes: 1 << 20}).start()
		for range 2000 {
			r.appendRecord(message.Record{Kind: message.Answer})
			x, _ := nextOf(r.s)
			r.s.Refuse(x.ID, "no")
			synctest.Wait()
		}
		n := len(r.d.Data(refusedName)) + len(r.d.Data(refusedOld))
		if n == 0 || n > 1<<20/16+8192 {
			t.Errorf("%d bytes", n)
		}
		if err := r.stopAndClose(); err != nil {
			t.Error(err)
		}
	})
}

func TestWhatIsRefusedDoesNotComeAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, newMemDisk(), Options{AtRisk: time.Second}).start()
		for range 3 {
			r.add(message.Reading, "air")
		}
		wait(3 * time.Second)
		for _, x := range r.takeItems(2) {
			r.s.Refuse(x.ID, "no")
		}
		wait(3 * time.Second)
		r = newRig(t, r.crash(r.d.Kill()), Options{AtRisk: time.Second}).start()
		items := r.takeItems(all)
		r.want(items, "gap air 1 after_seq=0 to_seq=1 reason=refused, gap air 1 after_seq=1 to_seq=2 reason=refused, "+
			"gap air 1 after_seq=3 reason=crash certain=false, air:3")
		r.s.Refuse(items[3].ID, "no")
		wait(3 * time.Second)
		if files := r.d.Files("samples", ""); len(files) != 0 {
			t.Errorf("all is refused, but there are %q", files)
		}
		if err := r.stopAndClose(); err != nil {
			t.Error(err)
		}
	})
}
