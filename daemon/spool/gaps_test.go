package spool

import (
	"fmt"
	"slices"
	"testing"

	"fieldpost/daemon/message"
)

// bookWith returns a gap book with gaps under the ids from 10 on.
func bookWith(run uint64, o origin, gaps ...Gap) *gapBook {
	b := newGapBook()
	b.run = run
	for i, g := range gaps {
		id := uint64(10 + i)
		b.latest[o] = id
		b.add(id, g, appendGap(nil, Entry{Sensor: o.sensor, Run: o.run}, g))
	}
	return &b
}

// A gap is owed until it is removed; then the ack file is to hear of it, if it knows
// it, and nothing extends it any more.
func TestGapBookForgetsWhatIsRemoved(t *testing.T) {
	o := origin{"air", 3}
	b := bookWith(7, o, Gap{Reason: reasonFull, First: 1, Last: 4}, Gap{Reason: reasonDamaged, First: 9, Uncertain: true})
	if !slices.Equal(b.sorted(), []uint64{10, 11}) || !slices.Equal(b.unrecorded, []uint64{10, 11}) || b.damage != 1 {
		t.Errorf("owed %v, unrecorded %v, %d of damage", b.sorted(), b.unrecorded, b.damage)
	}
	b.owed[11].recorded = true
	if b.remove(10) == nil || b.remove(10) != nil || b.remove(99) != nil {
		t.Error("what is owed is removed once, and nothing else")
	}
	if len(b.settled) != 0 || b.latest[o] != 11 {
		t.Errorf("settled %v, latest %v", b.settled, b.latest)
	}
	b.remove(11)
	if want := []frameKey{{7, 11}}; !slices.Equal(b.settled, want) || b.damage != 0 || len(b.latest) != 0 {
		t.Errorf("settled %v, want %v; %d of damage, latest %v", b.settled, want, b.damage, b.latest)
	}
}

// A gap that an earlier run left keeps the name of its frame; one of this run has this
// run's number, also when that was found out late.
func TestGapBookKeys(t *testing.T) {
	b := bookWith(0, origin{"air", 3}, Gap{Reason: reasonCrash, First: 1, Uncertain: true})
	b.owed[5] = &owedGap{run: 2, seq: 77, form: b.owed[10].form, recorded: true}
	b.run = 8
	if got := fmt.Sprint(b.key(b.owed[10]), b.key(b.owed[5])); got != "{8 10} {2 77}" {
		t.Errorf("keys %s", got)
	}
	b.forgetFiles()
	if got := fmt.Sprint(b.key(b.owed[10]), b.key(b.owed[5]), b.unrecorded); got != "{8 10} {8 5} [5 10]" || b.owed[5].recorded {
		t.Errorf("without files: %s", got)
	}
}

// One drop that goes on is told in one gap, while that waits; all else in its own.
func TestGapBookExtends(t *testing.T) {
	o := origin{"air", 3}
	full := func(first, last uint64, uncertain bool) Gap {
		return Gap{Reason: reasonFull, First: first, Last: last, Uncertain: uncertain}
	}
	for name, c := range map[string]struct {
		before, next Gap
		cursor       uint64
		want         Gap
		extends      bool
	}{
		"goes on":             {full(1, 4, false), full(5, 9, false), 0, full(1, 9, false), true},
		"was sent":            {full(1, 4, false), full(5, 9, false), 11, full(5, 9, false), false},
		"others lie between":  {full(1, 4, false), full(6, 9, false), 0, full(6, 9, false), false},
		"both uncertain":      {full(1, 4, true), full(6, 9, true), 0, full(1, 9, true), true},
		"one uncertain":       {full(1, 4, true), full(5, 9, false), 0, full(1, 9, true), true},
		"another reason":      {full(1, 4, false), Gap{Reason: reasonOld, First: 5, Last: 9}, 0, Gap{Reason: reasonOld, First: 5, Last: 9}, false},
		"too old goes on":     {Gap{Reason: reasonOld, First: 1, Last: 4}, Gap{Reason: reasonOld, First: 5, Last: 9}, 0, Gap{Reason: reasonOld, First: 1, Last: 9}, true},
		"of damage":           {Gap{Reason: reasonDamaged, First: 1, Last: 4}, Gap{Reason: reasonDamaged, First: 5, Last: 9}, 0, Gap{Reason: reasonDamaged, First: 5, Last: 9}, false},
		"open":                {full(1, 0, true), full(5, 9, true), 0, full(5, 9, true), false},
		"of what has no seqs": {Gap{Reason: reasonFull, Count: 3}, Gap{Reason: reasonFull, Count: 2}, 0, Gap{Reason: reasonFull, Count: 2}, false},
	} {
		b := bookWith(7, o, c.before)
		got, before, ok := b.extended(o, c.next, b.latest, c.cursor)
		if got != c.want || ok != c.extends || ok && before != 10 {
			t.Errorf("%s: %+v in the place of %d, %v; want %+v", name, got, before, ok, c.want)
		}
		if _, _, ok := b.extended(origin{"air", 4}, c.next, b.latest, c.cursor); ok {
			t.Errorf("%s: another run's gap is extended", name)
		}
	}
}

// The runs and ids of gaps are found by what they tell of and by where they are.
func TestGapBookFinds(t *testing.T) {
	b := bookWith(7, origin{"air", 3}, Gap{Reason: reasonFull, First: 1, Last: 4}, Gap{Reason: reasonFull, First: 5, Last: 9})
	b.owed[11].recorded = true
	runs := map[uint64]bool{}
	if b.runs(runs, func(x *owedGap) bool { return !x.recorded }); len(runs) != 1 || !runs[3] {
		t.Errorf("runs %v", runs)
	}
	if got := b.within(&segment{class: Events, lo: 11, hi: 20}); !slices.Equal(got, []uint64{11}) {
		t.Errorf("within: %v", got)
	}
	if got := b.within(&segment{class: Samples, lo: 1, hi: 20}); len(got) != 0 {
		t.Errorf("within a segment of samples: %v", got)
	}
}

func TestTallyMerges(t *testing.T) {
	first := newTally()
	for _, r := range []message.Record{
		{Kind: message.Reading, Sensor: "air", Run: 7, Seq: 5}, {Kind: message.Edge, Sensor: "air", Run: 7, Seq: 3},
		{Kind: message.Reading, Sensor: "air", Run: 8, Seq: 1}, {Kind: message.Answer}, {Kind: message.Fault, Sensor: "air"},
	} {
		first.addEntry(8, formOf(t, r), false)
	}
	gaps := first.gaps(reasonFull)
	second := newTally()
	for _, x := range append(gaps, originGap{origin{"air", 7}, Gap{Reason: reasonCrash, First: 9, Uncertain: true}}) {
		second.addEntry(9, x.form(), false)
	}
	var items []itemRecord
	for _, x := range append(gaps, second.gaps(reasonOld)...) {
		items = append(items, x.itemRecord(t))
	}
	want := "gap air 7 after_seq=2 to_seq=5 reason=spool_full certain=false, gap air 8 after_seq=0 to_seq=1 reason=spool_full, gap  8 reason=spool_full count=2, " +
		"gap air 8 after_seq=0 to_seq=1 reason=too_old, gap air 7 after_seq=2 reason=too_old certain=false, gap  8 reason=too_old count=2"
	if got := brief(items); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

// What has no count of its own is counted, and the count is not certain where
// some of it was sent; also once the gap that tells so is dropped itself.
func TestTallyOfWhatMayHaveComeWithoutACount(t *testing.T) {
	want := "gap  8 reason=spool_full count=3 certain=false"
	var forms [][]byte
	for _, r := range []message.Record{{Kind: message.Answer}, {Kind: message.Fault, Sensor: "air"}, {Kind: message.Event}} {
		forms = append(forms, formOf(t, r))
	}
	for i := range 2 {
		tally := newTally()
		for k, form := range forms {
			tally.addEntry(uint64(8+i), form, i == 0 && k == 1)
		}
		gaps := tally.gaps(reasonFull)
		if got := brief([]itemRecord{gaps[0].itemRecord(t)}); len(gaps) != 1 || got != want {
			t.Errorf("%d gaps, got %s, want %s", len(gaps), got, want)
		}
		forms = [][]byte{gaps[0].form()}
	}
}

func (x originGap) entry() Entry { return Entry{Class: Events, Sensor: x.sensor, Run: x.run} }

func (x originGap) form() []byte { return appendGap(nil, x.entry(), x.Gap) }

func (x originGap) itemRecord(t *testing.T) itemRecord {
	t.Helper()
	m, err := recordOf(Item{Entry: x.entry(), Gap: &x.Gap})
	if err != nil {
		t.Fatal(err)
	}
	return m
}
