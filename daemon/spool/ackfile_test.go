package spool

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"fieldpost/daemon/durable"
)

// What is recorded as done is read as done, in whatever order it comes and whatever
// comes between.
func TestDoneIsReadAsItWasNoted(t *testing.T) {
	rnd := newRand(1)
	for range 300 {
		var f ackEncoder
		want := map[logRun]*ids{}
		note := func() {
			k := logRun{Class(rnd.IntN(int(classes))), 1 + rnd.Uint64N(2)}
			lo := []uint64{0, firstLive}[rnd.IntN(2)] + rnd.Uint64N(200)
			x := span{lo, lo + 1 + rnd.Uint64N(9)}
			if want[k] == nil {
				want[k] = &ids{}
			}
			want[k].add(x.lo, x.hi)
			for ; rnd.IntN(4) > 0; x.lo, x.hi = x.hi, x.hi+rnd.Uint64N(9) {
				want[k].add(x.lo, x.hi)
				f.addDone(k, x)
				if rnd.IntN(3) == 0 {
					x.hi += 2 // so that a gap lies between
				}
			}
			f.addDone(k, x)
			want[k].add(x.lo, x.hi)
		}
		for range rnd.IntN(40) {
			switch rnd.IntN(10) {
			case 0:
				f.addSafe(logRun{Events, 8}, "door", 12)
			case 1:
				f.together(func() { note(); note() })
			default:
				note()
			}
		}
		f.flush()
		got := readAcks(f.b).done
		if len(got) != len(want) {
			t.Fatalf("%d runs, want %d", len(got), len(want))
		}
		for k, x := range want {
			if got[k] == nil || !slices.Equal(got[k].spans, x.spans) {
				t.Fatalf("%+v: got %+v, want %+v", k, got[k], x)
			}
		}
	}
}

// One record holds no more than damage to it may cost, and what is together stays
// together.
func TestDoneIsNotedInPieces(t *testing.T) {
	var f ackEncoder
	f.addDone(logRun{Samples, 1}, span{1, 2})
	f.together(func() {
		f.addGap(frameKey{1, 5}, []byte("gap"))
		for seq := uint64(10); seq < 10000; seq += 2 {
			f.addDone(logRun{Samples, 1}, span{seq, seq + 1})
		}
	})
	f.addDone(logRun{Samples, 1}, span{10000, 10001})
	f.flush()
	var kinds string
	for s := durable.Scan(f.b, 0); s.Next(); {
		kinds += string(s.Payload[0])
		if s.Payload[0] != 't' {
			continue
		}
		for d := (durable.Decoder{B: s.Payload[3:]}); len(d.B) > 0; {
			inner := d.Bytes()
			if kinds += string(inner[0]); len(inner) > maxDoneSpans+30 {
				t.Errorf("a record of %d bytes", len(inner))
			}
		}
	}
	if kinds != "dtgdddd" {
		t.Errorf("records: %q", kinds)
	}
	if n := len(readAcks(f.b).done[logRun{Samples, 1}].spans); n != 4997 {
		t.Errorf("%d spans", n)
	}
}

// alternate gives a spool that owes every second one of n samples in files of
// 2000, one gap, and nothing else.
func alternate(t *testing.T, n uint64) *rig {
	r := newRig(t, newMemDisk(), Options{AtRisk: time.Second, MaxBytes: 256 << 20})
	tally := newTally()
	tally.addLoss(origin{"air", 1}, loss{lo: 1, hi: 5})
	r.s.st.appendGapsLocked(tally, reasonFull)
	l := r.s.st.logs[Samples]
	for k := uint64(0); k*2000 < n; k++ {
		lo := firstLive + k*2000
		l.segs = append(l.segs, &segment{class: Samples, run: 1, number: uint32(k), lo: lo, hi: lo + 2000, syncedUntil: lo + 2000, sums: []summary{{"air", 7, 1, 9, 9}}})
	}
	l.next = firstLive + n
	for id := uint64(firstLive); id < l.next; id += 2 {
		l.done.add(id, id+1)
	}
	l.flow("air").give(l.next - 1)
	return r
}

// While one topic is held and others flow, every second record of a spool of
// 256 MiB is done: two million of them at 96 bytes each. That is recorded in two
// bytes each.
func TestManyHolesTakeLittleRoom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const n = 2 << 20
		r := alternate(t, n)
		if err := r.s.writer.rewriteAcks(); err != nil {
			t.Fatal(err)
		}
		b := r.d.Data(ackName)
		const each = durable.FrameSize + 19 // bytes, if each span had a frame of its own
		t.Logf("%d bytes, %d if each had a frame", len(b), each*n/2)
		if len(b) > each*n/2/14 || len(b) > maxAckFile/16 {
			t.Errorf("%d bytes", len(b))
		}
		got := readAcks(b)
		if done := got.done[logRun{Samples, 1}]; !slices.Equal(done.spans, r.s.st.logs[Samples].done.within(firstLive, firstLive+n)) {
			t.Errorf("%d spans came back", len(done.spans))
		}
	})
}

// What no other file tells comes first, and is read whatever the room for the
// rest; what does not fit of that comes again and costs nothing.
func TestWhatMustNotBeLostIsNotedFirst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := alternate(t, 100000)
		if err := r.s.writer.rewriteAcks(); err != nil {
			t.Fatal(err)
		}
		b := r.d.Data(ackName)
		var last, kinds string
		end := 0
		for s := durable.Scan(b, 0); s.Next(); last = string(s.Payload[0]) {
			if kind := string(s.Payload[0]); kind != last {
				kinds += kind
			}
			if s.Payload[0] != 'd' {
				end = s.Pos()
			}
		}
		if kinds != "gwfhmfd" {
			t.Errorf("in the order %q", kinds)
		}
		if n := readAcks(b[:end]); len(n.gaps) != 1 || len(n.written) != 50 || n.given[givenKey{logRun{Samples, 1}, "air", false}] != firstLive+100000 || n.sensors[7]["air"].seq != 9 {
			t.Errorf("%d gaps, %d files, given %v, sensors %v", len(n.gaps), len(n.written), n.given, n.sensors)
		}
		var f ackEncoder
		f.addDoneLocked(r.s.st, 20000)
		f.flush()
		if len(f.b) < 20000 || len(f.b) > 30000 {
			t.Errorf("%d bytes where there is room for 20000", len(f.b))
		}
	})
}

// An ack file that was written up to its bound is rewritten before it grows beyond what
// is read.
func TestAckFileGrowsToWhatIsRead(t *testing.T) {
	for _, c := range []struct{ floor, most int64 }{
		{0, minAckRewrite}, {minAckRewrite, 2 * minAckRewrite}, {10 << 20, 20 << 20}, {maxAckDone, maxAckFile / 4 * 3},
	} {
		w := ackFile{least: minAckRewrite, floor: c.floor, size: c.most}
		if w.hasGrown() {
			t.Errorf("%+v: is rewritten already", c)
		}
		if w.size++; !w.hasGrown() {
			t.Errorf("%+v: grows on", c)
		}
	}
}

// FuzzNotes puts any bytes in the place of a record.
func FuzzAckFile(f *testing.F) {
	var all ackEncoder
	all.addDone(logRun{Samples, 7}, span{3, 9})
	all.addDone(logRun{Samples, 7}, span{firstLive, firstLive + 1})
	all.addSafe(logRun{Events, 8}, "door", 12)
	all.addSensor(8, "air")
	all.addWrittenUntil(&segment{run: 3, number: 9}, 6)
	all.addRemoved(&segment{run: 3, number: 9})
	all.addGiven(logRun{Samples, 7}, "air", 12)
	all.addJoined([]*segment{{run: 3, number: 9}, {run: 3, number: 12}}, 77)
	all.together(func() {
		all.addGap(frameKey{1, 5}, []byte("gap"))
		all.addDone(logRun{Events, 7}, span{0, 1})
	})
	for s := durable.Scan(all.b, 0); s.Next(); {
		f.Add(s.Payload)
	}
	f.Add([]byte{'a', byte(Samples), 7, 3, 9}) // of versions that were never released
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) == 0 || len(b) > durable.MaxPayload {
			return
		}
		n := readAcks(durable.AppendFrame(nil, 1, b))
		var again ackEncoder
		for k, done := range n.done {
			for _, x := range done.spans {
				again.addDone(k, x)
			}
		}
		again.flush()
		for k, back := range readAcks(again.b).done {
			if fmt.Sprint(back.spans) != fmt.Sprint(n.done[k].spans) {
				t.Errorf("%+v gave %+v, which gave %+v", k, n.done[k].spans, back.spans)
			}
			for i, x := range back.spans {
				if x.lo >= x.hi || i > 0 && back.spans[i-1].hi >= x.lo {
					t.Errorf("spans: %+v", back.spans)
				}
			}
		}
	})
}

func TestAckFileSurvivesHarm(t *testing.T) {
	f := ackEncoder{}
	f.addDone(logRun{Samples, 7}, span{3, 9})
	f.addSafe(logRun{Events, 8}, "door", 12)
	f.addDone(logRun{Samples, 7}, span{9, 11})
	f.addSafe(logRun{Samples, 8}, "door", 4)
	f.flush()
	n := readAcks(f.b)
	if got := n.done[logRun{Samples, 7}]; got == nil || len(got.spans) != 1 || got.spans[0] != (span{3, 11}) {
		t.Errorf("acks: %+v", got)
	}
	if got := n.sensors[8]["door"]; got != (sensorMark{in: [classes]bool{true, true}, seq: 12}) {
		t.Errorf("mark: %+v", got)
	}
	rnd := rand.New(rand.NewPCG(3, 4))
	for range 2000 {
		b := bytes.Clone(f.b)
		b[rnd.IntN(len(b))] ^= 1 << rnd.IntN(8)
		if got := readAcks(b).done[logRun{Samples, 7}]; got != nil && (got.has(2) || got.has(11)) {
			t.Fatalf("damage made acks: %+v", got)
		}
	}
}

// ackRecords returns the kinds of the records in the ack file.
func ackRecords(d *memDisk) (kinds string) {
	for s := durable.Scan(d.Data(ackName), 0); s.Next(); {
		kinds += string(s.Payload[0])
	}
	return kinds
}

// Records are appended to the file that was written last, and their frames go on
// counting.
func TestAckFileIsRewrittenAndAppendedTo(t *testing.T) {
	d := newMemDisk()
	w := newAckFile(d, 1<<20)
	if w.isOpen() || w.isThere() != nil {
		t.Error("it is open before it was written")
	}
	k := logRun{Samples, 1}
	if err := w.rewrite(func(f *ackEncoder) { f.addSafe(k, "air", 3); f.addDone(k, span{1, 2}) }); err != nil {
		t.Fatal(err)
	}
	syncs := d.SyncCount()
	for _, sync := range []bool{false, true} {
		if err := w.append(func(f *ackEncoder) { f.addDone(k, span{5, 6}) }, sync); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.append(func(*ackEncoder) {}, true); err != nil || d.SyncCount() != syncs+1 {
		t.Errorf("%v, %d syncs, want one: nothing is no write", err, d.SyncCount()-syncs)
	}
	if got := ackRecords(d); got != "mddd" || w.size != int64(len(d.Data(ackName))) || w.seq != 4 {
		t.Errorf("records %q, %d bytes, seq %d", got, w.size, w.seq)
	}
	if err := w.rewrite(func(f *ackEncoder) { f.addDone(k, span{1, 2}) }); err != nil || ackRecords(d) != "d" || w.size != w.floor {
		t.Errorf("%v: records %q", err, ackRecords(d))
	}
}

// After an error nothing of what was to be appended is found, and the file is not
// trusted any more; where it cannot be rewritten what it held stays.
func TestAckFileAfterAnError(t *testing.T) {
	for _, op := range []string{"write", "datasync", "gone"} {
		d := newMemDisk()
		w := newAckFile(d, 1<<20)
		k := logRun{Samples, 1}
		if err := w.rewrite(func(f *ackEncoder) { f.addSafe(k, "air", 3) }); err != nil {
			t.Fatal(err)
		}
		if op == "gone" {
			d.Put(ackName, d.Data(ackName)) // another file of that name
			if err := w.isThere(); !errors.Is(err, durable.ErrGone) {
				t.Errorf("it is there: %v", err)
			}
		}
		d.Failing(func(o, _ string) error {
			if o == op {
				return errIO
			}
			return nil
		})
		if err := w.append(func(f *ackEncoder) { f.addDone(k, span{5, 6}) }, true); err == nil || w.isOpen() {
			t.Errorf("%s fails: %v, open %v", op, err, w.isOpen())
		}
		if got := ackRecords(d); got != "m" {
			t.Errorf("%s fails: the file has %q", op, got)
		}
		d.Failing(func(o, _ string) error {
			if o == "rename" {
				return errIO
			}
			return nil
		})
		if err := w.rewrite(func(f *ackEncoder) { f.addDone(k, span{5, 6}) }); err == nil || w.isOpen() || ackRecords(d) != "m" {
			t.Errorf("%s fails, then the rewrite: %v, %q", op, err, ackRecords(d))
		}
		d.Failing(nil)
		if err := w.rewrite(func(f *ackEncoder) { f.addDone(k, span{5, 6}) }); err != nil || !w.isOpen() || ackRecords(d) != "d" {
			t.Errorf("%s fails, and the rewrite does not: %v, %q", op, err, ackRecords(d))
		}
	}
}
