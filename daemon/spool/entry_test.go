package spool

import (
	"bytes"
	"fmt"
	"math"
	"reflect"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"fieldpost/daemon/clock"
	"fieldpost/daemon/durable"
	"fieldpost/daemon/message"
)

// sampleEntry is an entry that has all there can be.
func sampleEntry() Entry {
	return Entry{
		Class: Samples, Sensor: "air", Run: 7, Seq: 41, Body: []byte("body"),
		Stamp: clock.Stamp{
			Boot: "3a1f6c9e-0000-4b7d-9c1d-0123456789ab", Mono: 90 * time.Second,
			Wall: time.Date(2026, 11, 21, 19, 2, 11, 123_456_789, time.UTC), Synced: true,
		},
	}
}

func TestEntryRoundTrip(t *testing.T) {
	with := func(f func(*Entry)) Entry {
		e := sampleEntry()
		f(&e)
		return e
	}
	for name, e := range map[string]Entry{
		"all":           sampleEntry(),
		"no body":       with(func(e *Entry) { e.Body = []byte{} }),
		"no stamp":      with(func(e *Entry) { e.Stamp = clock.Stamp{} }),
		"odd boot":      with(func(e *Entry) { e.Stamp.Boot = "test" }),
		"upper boot":    with(func(e *Entry) { e.Stamp.Boot = strings.ToUpper(e.Stamp.Boot) }),
		"long ago":      with(func(e *Entry) { e.Stamp.Wall = time.Unix(-1, 999_999_999).UTC() }),
		"far ahead":     with(func(e *Entry) { e.Stamp.Wall = time.Date(292277026, 1, 1, 0, 0, 0, 0, time.UTC) }),
		"negative mono": with(func(e *Entry) { e.Stamp.Mono = math.MinInt64 }),
		"greatest":      with(func(e *Entry) { e.Run, e.Seq = math.MaxUint64, math.MaxUint64 }),
	} {
		t.Run(name, func(t *testing.T) {
			b := appendEntry(nil, e)
			got, gap, err := decodeEntry(e.Class, b)
			if err != nil || gap != nil || !reflect.DeepEqual(got, e) {
				t.Errorf("got  %+v, %v, %v\nwant %+v", got, gap, err, e)
			}
			h, ok := peek(b)
			if !ok || h.gap() || string(h.sensor) != e.Sensor || h.run != e.Run || h.seq != e.Seq {
				t.Errorf("peek gave %+v, %v", h, ok)
			}
			if s, ok := stampOf(b); !ok || s != e.Stamp {
				t.Errorf("stamp %+v, %v", s, ok)
			}
		})
	}
}

func TestGapRoundTrip(t *testing.T) {
	e := sampleEntry()
	e.Class, e.Seq, e.Body = Events, 0, nil
	for _, g := range []Gap{
		{Reason: reasonFull, First: 1, Last: math.MaxUint64}, {Reason: reasonCrash, First: 9, Uncertain: true},
		{Reason: "", Count: math.MaxInt64}, {Reason: reasonOld, Count: 1, Uncertain: true},
	} {
		b := appendGap(nil, e, g)
		got, back, err := decodeEntry(Events, b)
		if err != nil || back == nil || *back != g || !reflect.DeepEqual(got, e) {
			t.Errorf("got %+v, %+v, %v; want %+v", got, back, err, g)
		}
		if h, ok := peek(b); !ok || !h.gap() {
			t.Errorf("peek gave %+v, %v", h, ok)
		}
		for n := range b {
			if _, _, err := decodeEntry(Events, b[:n]); err == nil {
				t.Errorf("%d of %d bytes were read", n, len(b))
			}
		}
		if _, _, err := decodeEntry(Events, append(b, 0)); err == nil {
			t.Error("a byte too many went unseen")
		}
	}
}

// The form on disk is that of all versions: what an older one has written is read,
// and an older one reads what this one writes.
func TestEntryFormOnDisk(t *testing.T) {
	const want = "83036169720729" + "3a1f6c9e00004b7d9c1d0123456789ab" + "8090d8c69e05" + "e6aa8fb00d" + "959aef3a" + "626f6479"
	if b := appendEntry(nil, sampleEntry()); fmt.Sprintf("%x", b) != want {
		t.Errorf("got %x", b)
	}
}

func FuzzDecodeEntry(f *testing.F) {
	f.Add(appendEntry(nil, sampleEntry()))
	f.Add(appendGap(nil, sampleEntry(), Gap{Reason: reasonFull, First: 3, Last: 4}))
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, b []byte) {
		e, gap, err := decodeEntry(Edges, b)
		if _, ok := peek(b); err == nil && !ok {
			t.Error("an entry without a head")
		}
		if err != nil {
			return
		}
		var again []byte
		if gap == nil {
			again = appendEntry(nil, e)
		} else {
			again = appendGap(nil, e, *gap)
		}
		back, gapBack, err := decodeEntry(Edges, again)
		if err != nil || !reflect.DeepEqual(back, e) || !reflect.DeepEqual(gapBack, gap) {
			t.Errorf("%x gave %+v %+v, which gave %+v %+v, %v", b, e, gap, back, gapBack, err)
		}
	})
}

// A sound frame that holds no entry, as the one of a version that was never
// released, is damage: it is set aside and told, and the rest is given.
func TestAFrameThatIsNoEntryIsDamage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, newMemDisk(), Options{AtRisk: time.Second}).start()
		for range 3 {
			r.add(message.Reading, "air")
		}
		if err := r.stopAndClose(); err != nil {
			t.Fatal(err)
		}
		const name = "samples-1-1.seg"
		g, _ := parseSegment(name)
		b := g.header()
		for s := durable.Scan(r.d.Data(name), headerSize); s.Next(); {
			payload := bytes.Clone(s.Payload)
			if s.Seq == firstLive+1 {
				payload = append([]byte("\x01\x07reading"), payload[1:]...)
			}
			b = durable.AppendFrame(b, s.Seq, payload)
		}
		r.d.Put(name, b)
		r = newRig(t, r.d, Options{AtRisk: time.Second}).start()
		r.want(r.takeItems(all), "gap air 1 after_seq=1 to_seq=2 reason=damaged certain=false, air:1, air:3")
		if told := r.takeFaults(); told != "spool_damaged raised" {
			t.Errorf("told %q", told)
		}
		if err := r.stopAndClose(); err != nil {
			t.Error(err)
		}
		if n := len(r.d.Files(name, damagedExt)); n != 1 {
			t.Errorf("%d files set aside", n)
		}
	})
}

// A body that the caller cannot read is damage, too: in a file it is read again, and
// given up with what tells of it; the rest is given.
func TestACorruptBodyIsDamage(t *testing.T) {
	for _, from := range []string{"memory", "file"} {
		synctest.Test(t, func(t *testing.T) {
			r := newRig(t, newMemDisk(), Options{AtRisk: time.Second}).start()
			for range 4 {
				r.add(message.Reading, "air")
			}
			if from == "file" {
				if err := r.stopAndClose(); err != nil {
					t.Fatal(err)
				}
				r = newRig(t, r.d, Options{AtRisk: time.Second}).start()
			}
			first := r.takeItems(1)
			x, ok := r.s.Next()
			if !ok {
				synctest.Wait()
				x, ok = r.s.Next()
			}
			if !ok {
				t.Fatal("there is but one")
			}
			r.s.Corrupt(x.ID)
			r.s.Corrupt(x.ID + 3000) // nobody's
			wait(time.Second)
			rest := r.takeItems(all)
			got := brief(append(first, rest...))
			if !strings.Contains(got, "reason=damaged certain=false") || !strings.Contains(got, "air:1") || strings.Contains(got, "air:2") || !strings.HasSuffix(got, "air:3, air:4") {
				t.Errorf("from %s: %s", from, got)
			}
			for _, x := range append(first, rest...) {
				r.s.Ack(x.ID)
			}
			if n := r.s.Backlog().Records; n != 0 {
				t.Errorf("%s: %d are still owed", from, n)
			}
			if err := r.stopAndClose(); err != nil {
				t.Error(err)
			}
		})
	}
}
