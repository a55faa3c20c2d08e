package spool

import (
	"bytes"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"fieldpost/daemon/durable"
	"fieldpost/daemon/message"
)

func TestDamagedSegments(t *testing.T) {
	const middle = "samples-1-2.seg"
	for _, c := range []struct {
		name   string
		damage func(d *memDisk)
		lost   int    // at most
		why    string // in the fault
	}{
		{"bit in a record", func(d *memDisk) { b := d.Data(middle); b[1000] ^= 4; d.Put(middle, b) }, 1, "samples-1-2.seg: the bytes from 948 to 1005 are no frame"},
		{"bit in the header", func(d *memDisk) { b := d.Data(middle); b[9] ^= 4; d.Put(middle, b) }, 0, "samples-1-2.seg: the header is damaged"},
		{"cut short", func(d *memDisk) { b := d.Data(middle); d.Put(middle, b[:len(b)/2]) }, 2300, "samples-1-2.seg: the bytes from 131013 to the end are no frame"},
		{"cut between records", func(d *memDisk) { d.Put(middle, d.Data(middle)[:948]) }, 4600, "samples-1-2.seg: ends with frame 0x4"},
		{"zeroed page", func(d *memDisk) { b := d.Data(middle); clear(b[4096:8192]); d.Put(middle, b) }, 80, "samples-1-2.seg: the bytes from 40"},
		{"all zeros", func(d *memDisk) { b := d.Data(middle); clear(b); d.Put(middle, b) }, 4600, "samples-1-2.seg: the header is damaged"},
		{"empty", func(d *memDisk) { d.Put(middle, nil) }, 4600, "samples-1-2.seg: the header is damaged"},
		{"another file", func(d *memDisk) { d.Put(middle, []byte("#!/bin/sh\necho hello, I am no segment\n")) }, 4600, "samples-1-2.seg: the header is damaged"},
		{"another segment", func(d *memDisk) { d.Put(middle, d.Data("edges-1-1.seg")) }, 4600, "samples-1-2.seg: has the header of another segment"},
		{"a segment behind it", func(d *memDisk) { d.Put(middle, append(d.Data(middle), d.Data("edges-1-1.seg")...)) }, 0, "samples-1-2.seg: the bytes from 262"},
		{"a huge one", func(d *memDisk) { d.Put(middle, append(d.Data(middle), make([]byte, 4<<20)...)) }, 0, "samples-1-2.seg: the bytes from 262"},
		{"run file", func(d *memDisk) { d.Put(runName, []byte("run 1")) }, 0, "run: run file is damaged"},
		{"no run file", func(d *memDisk) { _ = d.Remove(runName) }, 0, "run: run file is damaged"},
		{"acks", func(d *memDisk) { d.Put(ackName, []byte(strings.Repeat("acks", 999))) }, 0, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				d := backlog(t, true)
				c.damage(d)
				r := newRig(t, d, Options{AtRisk: time.Second})
				if missing := checkAllTold(t, r.takeItems(all)); missing > c.lost {
					t.Errorf("%d lost, want at most %d", missing, c.lost)
				}
				damaged := c.name != "acks"
				if got := r.takeFaults(); (got == "spool_damaged raised") != damaged {
					t.Errorf("faults: %q", got)
				}
				if !strings.HasPrefix(r.detail, c.why) {
					t.Errorf("the fault says %q, want %q", r.detail, c.why)
				}
				if got := len(d.Files("samples", damagedExt)); (got == 1) != (damaged && !strings.Contains(c.name, "run file")) {
					t.Errorf("%d files set aside", got)
				}
				if err := r.stopAndClose(); err != nil {
					t.Error(err)
				}
				r = newRig(t, d, Options{AtRisk: time.Second}) // told once, and nothing more is lost
				if missing := checkAllTold(t, r.takeItems(all)); missing > c.lost || r.takeFaults() != "" {
					t.Errorf("again: %d lost", missing)
				}
			})
		})
	}
}

// A sensor may have all it ever had in the one file that is damaged. It is told
// of too, also where the damage comes some runs later.
func TestDamageToAllOfASensor(t *testing.T) {
	for _, good := range []bool{true, false} {
		for runs := range 3 {
			t.Run(fmt.Sprintf("good stop %v, %d runs later", good, runs), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					d := backlog(t, good)
					for range runs {
						if err := newRig(t, d, Options{AtRisk: time.Second}).stopAndClose(); err != nil {
							t.Fatal(err)
						}
					}
					b := d.Data("edges-1-1.seg")
					b[headerSize+durable.FrameSize+2] ^= 4
					d.Put("edges-1-1.seg", b)
					r := newRig(t, d, Options{AtRisk: time.Second})
					got := brief(r.takeItems(10))
					want := "gap door 1 after_seq=0 to_seq=1 reason=damaged certain=false"
					if !good && runs == 0 {
						want = "gap door 1 after_seq=0 reason=crash certain=false" // a file that was being written
					}
					if !strings.Contains(got, want) || strings.Contains(got, "door:1") {
						t.Errorf("got  %s\nwant %s in it", got, want)
					}
				})
			})
		}
	}
}

// The end of a file that was being written when the process was killed may be
// damaged, and not just unfinished: what had been synced is told of.
func TestDamageToTheEndOfTheLastSegment(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, newMemDisk(), Options{AtRisk: time.Second}).start()
		for range 5 {
			r.add(message.Reading, "air")
		}
		wait(5 * time.Second)
		r.add(message.Reading, "soil") // a new sensor: how far the others are is recorded
		wait(5 * time.Second)
		r.add(message.Reading, "well")
		wait(5 * time.Second)
		d := r.crash(r.d.Kill())
		b := d.Data("samples-1-1.seg")
		end := bytes.LastIndex(b, []byte("soil"))
		b[end+8] ^= 4
		d.Put("samples-1-1.seg", b[:bytes.LastIndex(b, []byte("well"))-durable.FrameSize-4]) // and more is missing
		r = newRig(t, d, Options{AtRisk: time.Second})
		got := r.takeItems(all)
		for _, want := range []string{"gap soil 1 after_seq=0", "gap well 1 after_seq=0", "air:5"} {
			if !strings.Contains(brief(got), want) {
				t.Errorf("got  %s\nwant %s in it", brief(got), want)
			}
		}
		if told := r.takeFaults(); told != "spool_damaged raised" {
			t.Errorf("faults: %q", told)
		}
	})
}

func TestDamageFoundWhileReadingBack(t *testing.T) {
	for _, c := range []struct {
		name   string
		damage func(d *memDisk, name string)
	}{
		{"bit", func(d *memDisk, name string) { b := d.Data(name); b[70_000] ^= 1; d.Put(name, b) }},
		{"gone", func(d *memDisk, name string) { _ = d.Remove(name) }},
		{"unreadable", func(d *memDisk, name string) {
			d.Failing(func(op, n string) error {
				if op == "read" && n == name {
					return errIO
				}
				return nil
			})
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				d := backlog(t, true)
				r := newRig(t, d, Options{AtRisk: time.Second}).start()
				c.damage(d, "samples-1-2.seg")
				items := r.takeItems(all)
				for range 10 { // an unreadable file is tried again before it is given up
					wait(time.Second)
					items = append(items, r.takeItems(all)...)
				}
				if missing := checkAllTold(t, items); missing == 0 || missing > 4600 {
					t.Errorf("%d lost", missing)
				}
				for _, x := range items {
					r.s.Ack(x.ID)
				}
				wait(3 * time.Second)
				d.Failing(nil)
				if got := r.takeFaults(); !strings.HasPrefix(got, "spool_damaged raised") {
					t.Errorf("faults: %q", got)
				}
				if st := r.s.Stats(); st.Samples.Pending != 0 || st.Damaged != 1 {
					t.Errorf("stats: %+v", st)
				}
				if err := r.stopAndClose(); err != nil {
					t.Error(err)
				}
			})
		})
	}
}

func TestRepairCutShortByACrash(t *testing.T) {
	for _, op := range []string{"create", "write", "sync", "rename", "syncdir"} {
		for nth := range 3 {
			t.Run(fmt.Sprint(op, nth), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					d := backlog(t, true)
					b := d.Data("samples-1-2.seg")
					b[1000] ^= 4
					d.Put("samples-1-2.seg", b)
					n := 0
					d.Failing(func(o, name string) error {
						if o == op {
							n++
						}
						if n > nth {
							if o == "read" || o == "list" {
								return nil
							}
							return errIO
						}
						return nil
					})
					r := newRig(t, d, Options{AtRisk: time.Second})
					left := d.Kill()
					_ = r.stopAndClose()
					r = newRig(t, left, Options{AtRisk: time.Second})
					if missing := checkAllTold(t, r.takeItems(all)); missing > 1 {
						t.Errorf("%d lost", missing)
					}
				})
			})
		}
	}
}

// Entries without a count are told too where damage has hit them: as many as are missing and
// not known to be acknowledged, and no more than fit into the damage.
func TestDamageToEvents(t *testing.T) {
	const file = "events-1-1.seg"
	for name, c := range map[string]struct {
		damage func(d *memDisk, ends []int) // ends is where each frame ends
		count  int                          // 0 is no gap
		left   int
	}{
		"none":              {func(*memDisk, []int) {}, 0, 5},
		"a bit in one":      {func(d *memDisk, ends []int) { flip(d, file, ends[2]-1) }, 1, 4},
		"a bit in the last": {func(d *memDisk, ends []int) { flip(d, file, ends[5]-1) }, 1, 4},
		"the first":         {func(d *memDisk, ends []int) { flip(d, file, ends[0]-1) }, 1, 4},
		"an acknowledged":   {func(d *memDisk, ends []int) { flip(d, file, ends[1]-1) }, 0, 5},
		"the header":        {func(d *memDisk, _ []int) { flip(d, file, 9) }, 0, 5},
		"three together":    {func(d *memDisk, ends []int) { b := d.Data(file); clear(b[ends[1]:ends[4]]); d.Put(file, b) }, 3, 2},
		"two apart": {func(d *memDisk, ends []int) {
			flip(d, file, ends[2]-1)
			flip(d, file, ends[4]-1)
		}, 2, 3},
		"cut between records": {func(d *memDisk, ends []int) { d.Put(file, d.Data(file)[:ends[3]]) }, 2, 3},
		"cut in a record":     {func(d *memDisk, ends []int) { d.Put(file, d.Data(file)[:ends[3]+3]) }, 2, 3},
		"removed":             {func(d *memDisk, _ []int) { _ = d.Remove(file) }, 5, 0},
		"empty":               {func(d *memDisk, _ []int) { d.Put(file, nil) }, 5, 0},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newRig(t, newMemDisk(), Options{AtRisk: time.Second}).start()
				for range 6 {
					r.appendRecord(message.Record{Kind: message.Answer})
				}
				wait(3 * time.Second)
				r.s.Ack(r.takeItems(2)[1].ID)
				if err := r.stopAndClose(); err != nil {
					t.Fatal(err)
				}
				var ends []int
				for at := durable.Scan(r.d.Data(file), headerSize); at.Next(); {
					ends = append(ends, at.Pos())
				}
				if len(ends) != 6 {
					t.Fatalf("%d records", len(ends))
				}
				c.damage(r.d, ends)
				want := strings.Repeat(", :0", c.left)
				if c.count > 0 {
					want += fmt.Sprintf(", gap  1 reason=damaged count=%d certain=false", c.count)
				}
				r = newRig(t, r.d, Options{AtRisk: time.Second})
				r.want(r.takeItems(all), strings.TrimPrefix(want, ", "))
				if err := r.stopAndClose(); err != nil {
					t.Error(err)
				}
				r = newRig(t, r.d, Options{AtRisk: time.Second}) // told once
				r.want(r.takeItems(all), strings.TrimPrefix(want, ", "))
			})
		})
	}
}

// flip flips a bit of a file.
func flip(d *memDisk, file string, at int) {
	b := d.Data(file)
	b[at] ^= 4
	d.Put(file, b)
}

// A run that has lost its directory writes what it had of earlier runs to its own files. Damage
// there is told of these runs, too.
func TestDamageToWhatWasWrittenAgain(t *testing.T) {
	for name, c := range map[string]struct {
		damage func(d *memDisk, file string, ends []int)
		want   string
	}{
		"none": {func(*memDisk, string, []int) {}, "air:1, air:2, air:3, air:4, air:5, air:6, air:1, air:2"},
		"a bit in one of the earlier run": {func(d *memDisk, file string, ends []int) { flip(d, file, ends[2]-1) },
			"gap air 1 after_seq=2 to_seq=3 reason=damaged certain=false, air:1, air:2, air:4, air:5, air:6, air:1, air:2"},
		"a bit in its last": {func(d *memDisk, file string, ends []int) { flip(d, file, ends[5]-1) },
			"gap air 1 after_seq=5 to_seq=6 reason=damaged certain=false, air:1, air:2, air:3, air:4, air:5, air:1, air:2"},
		"all of the earlier run": {func(d *memDisk, file string, ends []int) {
			b := d.Data(file)
			clear(b[headerSize:ends[5]])
			d.Put(file, b)
		},
			"gap air 1 after_seq=0 to_seq=6 reason=damaged certain=false, air:1, air:2"},
		"its file": {func(d *memDisk, file string, _ []int) { _ = d.Remove(file) },
			"gap air 1 after_seq=0 to_seq=6 reason=damaged certain=false, air:1, air:2"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				o := Options{AtRisk: time.Second}
				r := newRig(t, newMemDisk(), o).start()
				r.addAll(message.Reading, "air", 6)
				wait(3 * time.Second)
				if err := r.stopAndClose(); err != nil {
					t.Fatal(err)
				}
				r = newRig(t, r.d, o).start()
				r.s.Next() // so that the rest is read ahead
				wait(3 * time.Second)
				r.d.Vanish()
				r.s.Verify()
				r.addAll(message.Reading, "air", 2)
				wait(9 * time.Second)
				if err := r.stopAndClose(); err != nil {
					t.Fatal(err)
				}
				files := r.d.Files("samples", segmentExt)
				if len(files) != 2 { // with the first what was written again
					t.Fatalf("files %q", files)
				}
				var ends []int
				for at := durable.Scan(r.d.Data(files[0]), headerSize); at.Next(); {
					ends = append(ends, at.Pos())
				}
				if len(ends) != 6 {
					t.Fatalf("%d records", len(ends))
				}
				c.damage(r.d, files[0], ends)
				r = newRig(t, r.d, o)
				r.want(r.takeItems(all), c.want)
				if err := r.stopAndClose(); err != nil {
					t.Error(err)
				}
			})
		})
	}
}
