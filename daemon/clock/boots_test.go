package clock

import (
	"fmt"
	"testing"
	"time"
)

// truth is the wall time at the start of a boot in these tests.
var truth = time.Date(2026, 11, 21, 19, 0, 0, 0, time.UTC)

func at(boot string, mono time.Duration) Stamp {
	return Stamp{Boot: boot, Mono: mono, Wall: truth.Add(mono), Synced: true}
}

// dark is a moment of which the wall time is not known.
func dark(boot string, mono time.Duration) Stamp {
	return Stamp{Boot: boot, Mono: mono, Wall: time.Unix(0, 0).UTC().Add(mono)}
}

func TestBootsFill(t *testing.T) {
	var b Boots
	b.Learn(at("a", time.Minute))
	b.Learn(dark("c", time.Minute))
	b.Learn(Stamp{Mono: time.Hour, Wall: truth, Synced: true})
	stepped := at("b", 2*time.Minute)
	stepped.Wall = stepped.Wall.Add(-time.Hour)
	b.Learn(stepped)
	b.Learn(at("b", 3*time.Minute)) // the clock was stepped right
	for name, c := range map[string]struct{ s, now, want Stamp }{
		"an earlier boot, before it knew": {dark("a", time.Second), at("z", 5), at("a", time.Second)},
		"at that very moment":             {dark("a", time.Minute), at("z", 5), at("a", time.Minute)},
		"after it had lost the time":      {dark("a", time.Hour), at("z", 5), dark("a", time.Hour)},
		"while this one does not know":    {dark("a", time.Second), dark("z", 5), at("a", time.Second)},
		"the latest moment counts":        {dark("b", time.Second), at("z", 5), at("b", time.Second)},
		"a boot that never knew":          {dark("c", time.Second), at("z", 5), dark("c", time.Second)},
		"no boot":                         {dark("", time.Second), at("z", 5), dark("", time.Second)},
		"this boot knows now":             {dark("z", 3), at("z", 5), at("z", 3)},
		"this boot knew once":             {dark("b", time.Second), dark("b", time.Hour), at("b", time.Second)},
		"known when it was made":          {at("a", 7), stepped, at("a", 7)},
	} {
		if got := b.Fill(c.s, c.now); got != c.want {
			t.Errorf("%s: got %+v, want %+v", name, got, c.want)
		}
	}
	var none *Boots
	if got := none.Fill(dark("z", 3), at("z", 5)); got != at("z", 3) {
		t.Errorf("without a memory: %+v", got)
	}
	if got := none.Fill(dark("a", 3), at("z", 5)); got != dark("a", 3) {
		t.Errorf("without a memory, of an earlier boot: %+v", got)
	}
}

// What is written and read again is the same, and the oldest is what goes.
func TestBootsAreBounded(t *testing.T) {
	var b, again Boots
	for i := range 2 * maxBoots {
		b.Learn(at(fmt.Sprint("boot", i), time.Hour))
		b.Learn(at("boot0", time.Hour)) // one that goes on is not the oldest
	}
	entries := b.Entries()
	if len(entries) != maxBoots {
		t.Fatalf("%d entries", len(entries))
	}
	again.Learn(at("now", time.Hour))
	for _, e := range entries[1:] {
		if !again.Read(e) {
			t.Errorf("%q is not taken", e)
		}
	}
	for boot, known := range map[string]bool{
		"boot0": true, "now": true, fmt.Sprint("boot", maxBoots): false,
		fmt.Sprint("boot", maxBoots+1): false, fmt.Sprint("boot", maxBoots+2): true, fmt.Sprint("boot", 2*maxBoots-1): true,
	} {
		if got := again.Fill(dark(boot, time.Minute), dark("x", 1)); got.Synced != known || known && got != at(boot, time.Minute) {
			t.Errorf("%s: %+v, want known %v", boot, got, known)
		}
	}
}

// What was learnt is newer than the file.
func TestBootsReadDoesNotReplace(t *testing.T) {
	var old, b Boots
	wrong := at("a", time.Minute)
	wrong.Wall = wrong.Wall.Add(time.Hour)
	old.Learn(wrong)
	b.Learn(at("a", 2*time.Minute))
	if !b.Read(old.Entries()[0]) || len(b.Entries()) != 1 {
		t.Errorf("entries %q", b.Entries())
	}
	if got := b.Fill(dark("a", 3), dark("z", 5)); got != at("a", 3) {
		t.Errorf("got %+v", got)
	}
}

func FuzzBootsRead(f *testing.F) {
	for _, s := range []string{
		``, `{}`, `[]`, `{"boot":"a","mono":60000000,"wall":1795287600000000}`, `{"boot":"","mono":1,"wall":1}`,
		`{"boot":"a","mono":-1,"wall":1}`, `{"boot":"a","mono":9223372036854775807,"wall":9223372036854775807}`, `{"boot":1}`, `{"boot":"a","mono":1.5}`,
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, entry []byte) {
		var b, again Boots
		taken := b.Read(entry)
		entries := b.Entries()
		if taken != (len(entries) == 1) {
			t.Fatalf("taken %v, %d entries", taken, len(entries))
		}
		if taken && (!again.Read(entries[0]) || string(again.Entries()[0]) != string(entries[0])) {
			t.Errorf("%q is not read as it is written", entries[0])
		}
	})
}
