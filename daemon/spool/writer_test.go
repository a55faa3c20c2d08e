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

func TestWhatIsAcknowledgedSoonNeverTouchesTheDisk(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, newMemDisk(), Options{AtRisk: 5 * time.Second, MaxAge: time.Hour}).start()
		r.add(message.Reading, "air") // the first writes down that there is such a sensor
		r.s.Ack(r.takeItems(1)[0].ID)
		wait(2 * time.Second)
		syncs, written := r.d.SyncCount(), r.d.Written
		for range 1000 {
			r.add(message.Reading, "air")
			wait(500 * time.Millisecond)
			r.s.Ack(r.takeItems(1)[0].ID)
		}
		wait(time.Minute)
		if n := r.d.SyncCount() - syncs; n != 0 || r.d.Written != written {
			t.Errorf("%d syncs and %d bytes", n, r.d.Written-written)
		}
		if files := r.d.Files("samples", ""); len(files) != 0 {
			t.Errorf("files: %q", files)
		}
		if err := r.stopAndClose(); err != nil {
			t.Error(err)
		}
	})
}

func TestWrittenWithinASecondSyncedWithinAtRisk(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, newMemDisk(), Options{AtRisk: 10 * time.Second}).start()
		r.add(message.Reading, "air")
		wait(12 * time.Second) // the first sync makes the file's name durable too
		const name = "samples-1-1.seg"
		before, syncs := len(r.d.Data(name)), r.d.SyncCount()
		r.add(message.Reading, "air")
		wait(900 * time.Millisecond)
		r.add(message.Reading, "air")
		wait(100 * time.Millisecond)
		after := len(r.d.Data(name))
		if after <= before {
			t.Errorf("not written after a second")
		}
		if r.d.SyncCount() != syncs {
			t.Error("synced before its time")
		}
		wait(8 * time.Second)
		if r.d.SyncCount() != syncs+1 {
			t.Errorf("%d syncs after AtRisk, want one for both", r.d.SyncCount()-syncs)
		}
		if err := r.stopAndClose(); err != nil {
			t.Error(err)
		}
	})
}

func TestAckBeforeTheSyncSavesTheSync(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, newMemDisk(), Options{AtRisk: 10 * time.Second}).start()
		r.add(message.Reading, "air")
		wait(2 * time.Second)
		syncs := r.d.SyncCount()
		r.add(message.Reading, "air")
		wait(3 * time.Second)
		for _, x := range r.takeItems(all) {
			r.s.Ack(x.ID)
		}
		wait(time.Minute)
		if n := r.d.SyncCount() - syncs; n != 0 {
			t.Errorf("%d syncs for what was acknowledged", n)
		}
		if err := r.stopAndClose(); err != nil {
			t.Error(err)
		}
		if files := r.d.Files("samples", ""); len(files) != 0 {
			t.Errorf("nothing is owed, but there are %q", files)
		}
	})
}

func TestNothingAtRiskIsOnDiskBeforeItIsSent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, newMemDisk(), Options{})
		seq := r.add(message.Reading, "air")
		if got := r.takeItems(1); len(got) != 0 {
			t.Fatal("sent before it was on disk")
		}
		for range 3 {
			select {
			case <-r.s.Ready():
			default:
			}
		}
		r.start()
		<-r.s.Ready()
		r.want(r.takeItems(all), "air:1")
		left := r.d.Kill()
		left.Durable = nil
		for _, f := range left.Names {
			f.B = f.B[:f.Good] // only what is synced
		}
		r = newRig(t, r.crash(left), Options{})
		r.start()
		if got := r.takeItems(1); len(got) == 0 {
			t.Fatalf("record %d is not there after a power cut", seq)
		}
		wait(time.Second)
		r.s.Rewind()
		r.want(r.takeItems(all), "gap air 1 after_seq=1 reason=crash certain=false, air:1")
		if err := r.stopAndClose(); err != nil {
			t.Error(err)
		}
	})
}

func TestGoodStopWritesAll(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newMemDisk()
		r := newRig(t, d, Options{AtRisk: time.Hour}).start()
		for range 10 {
			r.add(message.Reading, "air")
		}
		r.add(message.Edge, "door")
		items := r.takeItems(all)
		r.s.Ack(items[3].ID) // out of order
		if err := r.stopAndClose(); err != nil {
			t.Fatal(err)
		}
		if got := string(d.Data(runName)); !strings.Contains(got, "run 1 stopped") {
			t.Errorf("run file: %q", got)
		}
		r = newRig(t, d.Cut(newRand(1)), Options{AtRisk: time.Hour})
		r.want(r.takeItems(all), "door:1, air:1, air:2, air:4, air:5, air:6, air:7, air:8, air:9, air:10")
		if told := r.takeFaults(); told != "" || r.s.RunNumber() != 2 {
			t.Errorf("run %d, faults %q", r.s.RunNumber(), told)
		}
		if err := r.stopAndClose(); err != nil {
			t.Error(err)
		}
	})
}

func TestAcksAreRecordedWithoutASync(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, newMemDisk(), Options{AtRisk: time.Second}).start()
		for range 20 {
			r.add(message.Reading, "air")
		}
		wait(2 * time.Second)
		items := r.takeItems(all)
		syncs := r.d.SyncCount()
		for _, i := range []int{0, 1, 2, 7, 19, 5} {
			r.s.Ack(items[i].ID)
		}
		wait(2 * time.Second)
		if n := r.d.SyncCount() - syncs; n != 0 {
			t.Errorf("%d syncs for acks", n)
		}
		r = newRig(t, r.crash(r.d.Kill()), Options{AtRisk: time.Second})
		r.want(r.takeItems(all), "gap air 1 after_seq=20 reason=crash certain=false, air:4, air:5, air:7, air:9, "+
			"air:10, air:11, air:12, air:13, air:14, air:15, air:16, air:17, air:18, air:19")
		if err := r.stopAndClose(); err != nil {
			t.Error(err)
		}
	})
}

func TestSegmentsRollAndGo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, newMemDisk(), Options{AtRisk: time.Second}).start()
		const n = 12000
		for i := range n {
			r.add(message.Reading, "air")
			if i%1000 == 0 {
				wait(time.Second)
			}
		}
		wait(2 * time.Second)
		st := r.s.Stats()
		if st.Samples.Segments < 3 || st.Memory > 2*maxCached {
			t.Errorf("with a backlog: %+v", st)
		}
		for _, name := range r.d.Files("samples", segmentExt) {
			if size := len(r.d.Data(name)); size > segmentSize {
				t.Errorf("%s has %d bytes", name, size)
			}
		}
		for want := uint64(1); want <= n; want++ {
			x, ok := r.next()
			if !ok || x.Record.Seq != want {
				t.Fatalf("got %v, %v, want %d", x.Record.Seq, ok, want)
			}
			r.s.Ack(x.ID)
		}
		wait(3 * time.Second)
		if files := r.d.Files("samples", ""); len(files) > 1 {
			t.Errorf("all is acknowledged, but there are %q", files)
		}
		if r.d.Reads > 12 {
			t.Errorf("%d reads for %d segments", r.d.Reads, st.Samples.Segments)
		}
		if err := r.stopAndClose(); err != nil {
			t.Error(err)
		}
	})
}

func TestRunTwice(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, newMemDisk(), Options{}).start()
		r.stop()
		if err := <-r.done; err != nil {
			t.Fatal(err)
		}
		if err := r.s.Run(t.Context()); err == nil {
			t.Error("a second Run was taken")
		}
		r.stop = nil
		if err := r.stopAndClose(); err != nil {
			t.Error(err)
		}
	})
}

func TestTheFileOfAcksDoesNotGrowForEver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, newMemDisk(), Options{AtRisk: time.Second}).start()
		r.appendRecord(message.Record{Kind: message.Answer}) // never acknowledged
		wait(2 * time.Second)
		r.takeItems(1)
		for range 20000 {
			r.appendRecord(message.Record{Kind: message.Event})
			wait(2 * time.Second)
			r.s.Ack(r.takeItems(1)[0].ID)
		}
		wait(2 * time.Second)
		if n := len(r.d.Data(ackName)); n > minAckRewrite+1024 {
			t.Errorf("%d bytes of acks", n)
		}
		st := r.s.Stats()
		if st.Events.Pending != 1 || st.Memory > 2*maxCached {
			t.Errorf("stats: %+v", st)
		}
		if err := r.stopAndClose(); err != nil {
			t.Error(err)
		}
	})
}

// A day of ten sensors, each read every ten seconds, with a link whose acks come
// within a second: nothing is written but at the start, when the sensors are
// first seen, and at the stop.
func TestADayWithTheLinkUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := Options{AtRisk: 5 * time.Second, MaxAge: 7 * 24 * time.Hour}
		for i := range 10 {
			o.Sensors = append(o.Sensors, fmt.Sprintf("s%d", i))
		}
		d := newMemDisk()
		r := newRig(t, d, o).start()
		const every, day = 10 * time.Second, 24 * time.Hour
		began := int64(0)
		for at := time.Duration(0); at < day; at += every {
			for _, sensor := range o.Sensors {
				r.add(message.Reading, sensor)
			}
			wait(900 * time.Millisecond)
			for _, x := range r.takeItems(all) {
				r.s.Ack(x.ID)
			}
			wait(every - 900*time.Millisecond)
			if at == 0 {
				began = d.Written
			}
		}
		if d.Written != began {
			t.Errorf("%d bytes while the link was up", d.Written-began)
		}
		if err := r.stopAndClose(); err != nil {
			t.Error(err)
		}
		if d.Written > 4096 || d.SyncCount() > 16 {
			t.Errorf("%d bytes and %d syncs in all", d.Written, d.SyncCount())
		}
		if files := d.Files("", segmentExt); len(files) > 0 {
			t.Errorf("files: %q", files)
		}
	})
}

// However the wall clock is set, and whether it is held to be true or not, what
// is at risk is synced in time and not before, and what this boot took is
// dropped when it is too old and not before. `make clock-steps` shows it of the
// process's own clock.
func TestClockStepMovesNoAge(t *testing.T) {
	const year = 365 * 24 * time.Hour
	for _, step := range []time.Duration{-30 * year, -time.Hour, -time.Second, time.Second, time.Hour, 30 * year} {
		synctest.Test(t, func(t *testing.T) {
			fake, began := clock.Fake(), time.Now()
			set := clock.Func(func() clock.Stamp { // back, true, forward, for 7 s each
				s, by := fake.Now(), step*time.Duration(int(time.Since(began)/(7*time.Second))%3-1)
				s.Wall, s.Synced = s.Wall.Add(by), by == 0
				return s
			})
			r := newRig(t, newMemDisk(), Options{AtRisk: 10 * time.Second, MaxAge: time.Hour, Clock: set}).start()
			r.add(message.Reading, "air")
			wait(12 * time.Second) // the first sync makes the file's name durable too
			syncs := r.d.SyncCount()
			r.add(message.Reading, "air")
			wait(9*time.Second - 1)
			if n := r.d.SyncCount() - syncs; n != 0 {
				t.Errorf("step %v: %d syncs before the time", step, n)
			}
			wait(time.Second + 1)
			if n := r.d.SyncCount() - syncs; n != 1 {
				t.Errorf("step %v: %d syncs when a record is at risk no longer, want 1", step, n)
			}
			wait(time.Hour - 15*time.Second)
			if st := r.s.Stats(); st.Dropped != 0 || st.Samples.Pending != 2 {
				t.Errorf("step %v: before they are too old: %+v", step, st)
			}
			wait(2 * time.Minute)
			if st := r.s.Stats(); st.Dropped != 2 || st.Samples.Pending != 0 {
				t.Errorf("step %v: when they are too old: %+v", step, st)
			}
			wait(2 * time.Hour)
			r.s.Rewind()
			r.want(r.takeItems(all), "gap air 1 after_seq=0 to_seq=2 reason=too_old")
			if err := r.stopAndClose(); err != nil {
				t.Error(err)
			}
		})
	}
}

// The writer is woken for an entry when it must be written, and not at all if all are
// acknowledged before.
func TestWriterIsWokenWhenItMustWrite(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, newMemDisk(), Options{AtRisk: 5 * time.Second}).start()
		r.add(message.Reading, "air")
		<-time.After(5 * time.Second) // the sensor's name is recorded too
		r.ackAll(r.takeItems(all))
		<-time.After(5 * time.Second)
		r.add(message.Reading, "air")
		first := r.takeItems(all)
		<-time.After(400 * time.Millisecond)
		r.add(message.Reading, "air")
		armed := func() bool {
			r.s.st.mu.Lock()
			defer r.s.st.mu.Unlock()
			return !r.s.st.due.unwritten.IsZero()
		}
		if r.ackAll(first); !armed() {
			t.Error("nobody wakes the writer for the second entry")
		}
		if r.ackAll(r.takeItems(all)); armed() || r.s.st.due.alarm.Stop() {
			t.Error("the writer will be woken for nothing")
		}
		r.add(message.Reading, "air")
		<-time.After(999 * time.Millisecond)
		synctest.Wait()
		unwritten := func() int {
			r.s.st.mu.Lock()
			defer r.s.st.mu.Unlock()
			return len(r.s.st.logs[Samples].unwritten())
		}
		if n := unwritten(); n != 1 {
			t.Errorf("%d entries are not written before a second", n)
		}
		<-time.After(time.Millisecond)
		synctest.Wait()
		if n := unwritten(); n != 0 {
			t.Errorf("%d entries are not written after a second", n)
		}
		r.stopAndClose()
	})
}
