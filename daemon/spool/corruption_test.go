package spool

import (
	"bytes"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"fieldpost/daemon/message"
)

// ledger is what a test knows of the records it put in.
type ledger struct {
	mu      sync.Mutex
	taken   map[name]bool
	acked   map[name]bool
	refused map[name]bool     // they are missing, and may come again nevertheless
	told    map[origin][]loss // gaps acknowledged
}

func newLedger() *ledger {
	return &ledger{taken: map[name]bool{}, acked: map[name]bool{}, refused: map[name]bool{}, told: map[origin][]loss{}}
}

func (l *ledger) add(r *rig, kind message.Kind, sensor string) {
	n := name{sensor, r.s.RunNumber(), r.add(kind, sensor)}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.taken[n] = true
}

// copy gives what is known now.
func (l *ledger) copy() *ledger {
	l.mu.Lock()
	defer l.mu.Unlock()
	return &ledger{taken: maps.Clone(l.taken), acked: maps.Clone(l.acked), refused: maps.Clone(l.refused), told: maps.Clone(l.told)}
}

func (l *ledger) ack(r *rig, items []itemRecord) {
	for _, x := range items {
		l.mu.Lock()
		if x.Record.Kind == message.Gap {
			o := origin{x.Record.Sensor, x.Record.Run}
			l.told[o] = append(l.told[o], claim(x.Record))
		} else {
			l.acked[name{x.Record.Sensor, x.Record.Run, x.Record.Seq}] = true
		}
		l.mu.Unlock()
		r.s.Ack(x.ID)
	}
}

func (l *ledger) refuse(r *rig, x itemRecord) {
	l.mu.Lock()
	l.refused[name{x.Record.Sensor, x.Record.Run, x.Record.Seq}] = true
	l.mu.Unlock()
	r.s.Refuse(x.ID, "no")
}

// check says what is wrong with what a spool gives: a record is in no gap
// although it is not there, or a certain gap claims what is not missing.
func (l *ledger) check(items []itemRecord) error {
	there, gaps := map[name]bool{}, map[origin][]loss{}
	for _, x := range items {
		r := x.Record
		o := origin{r.Sensor, r.Run}
		if r.Kind == message.Gap {
			gaps[o] = append(gaps[o], claim(r))
		} else {
			there[name{r.Sensor, r.Run, r.Seq}] = true
		}
	}
	for n := range l.taken {
		o := origin{n.sensor, n.run}
		if !there[n] && !l.acked[n] && !told(gaps[o], n.seq) && !told(l.told[o], n.seq) {
			return fmt.Errorf("%+v is missing and in no gap", n)
		}
		certain := slices.DeleteFunc(slices.Clone(gaps[o]), func(x loss) bool { return x.uncertain })
		if (there[n] || l.acked[n]) && !l.refused[n] && told(certain, n.seq) {
			return fmt.Errorf("%+v is in a certain gap and not missing", n)
		}
	}
	return nil
}

// damagedSpool makes a small spool with all that one may hold: segments of two runs
// of both logs, with acks in between, gaps of a crash, of a refusal and of
// damage that nobody knows of yet, and sensors of which nothing is on disk.
func damagedSpool(t *testing.T, good bool) (*memDisk, *ledger) {
	t.Helper()
	l, o := newLedger(), Options{AtRisk: 2 * time.Second, Sensors: []string{"air", "soil", "door", "late"}}
	r := newRig(t, newMemDisk(), o).start()
	for range 3 {
		l.add(r, message.Reading, "air")
		l.add(r, message.Edge, "door")
		l.add(r, message.Reading, "door")
	}
	l.add(r, message.Reading, "soil")
	for _, x := range r.takeItems(all) {
		if x.Record.Sensor == "soil" { // it never touches the disk
			l.ack(r, []itemRecord{x})
		}
	}
	wait(5 * time.Second)
	l.add(r, message.Reading, "soil") // lost, as are these
	l.add(r, message.Reading, "late")
	l.add(r, message.Edge, "door")
	r = newRig(t, r.crash(r.d.Kill()), o).start()
	for range 2 {
		l.add(r, message.Reading, "air")
		l.add(r, message.Edge, "door")
		r.appendRecord(message.Record{Kind: message.Answer})
		l.add(r, message.Reading, "late")
	}
	wait(5 * time.Second)
	for i, x := range r.takeItems(all) {
		if x.Record.Kind == message.Reading && x.Record.Seq == 2 && x.Record.Run == 1 {
			l.refuse(r, x)
		} else if x.Record.Kind != message.Gap && i%3 == 0 {
			l.ack(r, []itemRecord{x})
		}
	}
	wait(5 * time.Second)
	if good {
		if err := r.stopAndClose(); err != nil {
			t.Fatal(err)
		}
		return r.d, l
	}
	l.add(r, message.Reading, "air")
	l.add(r, message.Edge, "soil")
	return r.crash(r.d.Kill()), l
}

// damages are the ways in which a file of n bytes is damaged.
func damages(b []byte) map[string][]byte {
	out := map[string][]byte{"removed": nil, "zeroed": make([]byte, len(b))}
	for i := range b {
		flipped := bytes.Clone(b)
		flipped[i] ^= 1 << (i % 8)
		out[fmt.Sprintf("byte %d flipped", i)] = flipped
		if i%4 > 0 {
			continue
		}
		out[fmt.Sprintf("cut at %d", i)] = b[:i]
		zeroed := bytes.Clone(b)
		clear(zeroed[i:])
		out[fmt.Sprintf("zeroed from %d", i)] = zeroed
	}
	return out
}

// TestDamageIsNeverSilent damages each file of a spool in all ways, and
// checks that nothing is missing that no gap tells, then and after two more
// starts, of which the first ends in a crash.
func TestDamageIsNeverSilent(t *testing.T) {
	for _, good := range []bool{true, false} {
		t.Run(fmt.Sprintf("good stop %v", good), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				d, l := damagedSpool(t, good)
				files := d.Files("", "")
				for _, name := range files {
					if strings.HasPrefix(name, "refused") {
						continue
					}
					n := 0
					for what, b := range damages(d.Data(name)) {
						damage := d.Kill()
						damage.Put(name, b)
						if b == nil {
							_ = damage.Remove(name)
						}
						n++
						if err := l.endure(t, damage, n%8 == 0); err != nil {
							t.Fatalf("%s %s: %v", name, what, err)
						}
					}
				}
				if len(files) < 6 {
					t.Errorf("files: %q", files)
				}
			})
		})
	}
}

// The same holds of a spool that was killed and whose risk file is there: that knows what was not
// on disk, and nothing of damage to what was.
func TestDamageAfterAKillIsNeverSilent(t *testing.T) {
	for name, atRisk := range map[string]time.Duration{"synced": time.Second, "written": 20 * time.Second} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				l, o := newLedger(), Options{AtRisk: atRisk, Sensors: []string{"air", "soil", "door", "late"}, RuntimeDir: memoryDir(t)}
				r := newRig(t, newMemDisk(), o).start()
				for _, sensor := range []string{"air", "soil", "door"} {
					l.add(r, message.Reading, sensor)
					l.add(r, message.Edge, sensor)
				}
				wait(3 * time.Second)
				l.add(r, message.Reading, "air")
				l.add(r, message.Reading, "late")
				r.takeItems(3)
				d, risks := r.d.Kill(), filepath.Join(o.RuntimeDir, riskName(1))
				note, err := os.ReadFile(risks)
				if err != nil {
					t.Fatal(err)
				}
				r.crash(nil)
				if left := brief(newRig(t, d.Kill(), o).takeItems(all)); left == "" {
					t.Fatal("nothing is left")
				}
				n := 0
				for _, name := range d.Files("", "") {
					for what, b := range damages(d.Data(name)) {
						damaged := d.Kill()
						damaged.Put(name, b)
						if b == nil {
							_ = damaged.Remove(name)
						}
						if err := os.WriteFile(risks, note, 0o600); err != nil {
							t.Fatal(err)
						}
						x := newRig(t, damaged, o)
						if err := l.check(x.takeItems(all)); err != nil {
							t.Errorf("%s %s: %v", name, what, err)
						}
						x.crash(nil)
						n++
					}
				}
				if n < 500 {
					t.Errorf("%d ways", n)
				}
			})
		})
	}
}

// endure opens a spool, thrice where asked to, and checks what it gives each
// time.
func (l *ledger) endure(t *testing.T, d *memDisk, thrice bool) error {
	o := Options{AtRisk: time.Second, Sensors: []string{"air", "soil", "door", "late"}}
	r := newRig(t, d, o)
	if err := l.check(r.takeItems(all)); err != nil || !thrice {
		return err
	}
	r = newRig(t, r.crash(d.Kill()), o)
	if err := l.check(r.takeItems(all)); err != nil {
		return fmt.Errorf("after a crash: %w", err)
	}
	if told := r.takeFaults(); strings.Contains(told, "damaged") {
		return fmt.Errorf("after a crash: %s", told)
	}
	if err := r.stopAndClose(); err != nil {
		return err
	}
	r = newRig(t, r.d, o)
	if err := l.check(r.takeItems(all)); err != nil {
		return fmt.Errorf("after a good stop: %w", err)
	}
	if told := r.takeFaults(); told != "" {
		return fmt.Errorf("after a good stop: %s", told)
	}
	return r.stopAndClose()
}

// instant is what a crash leaves, and what was known when it came.
type instant struct {
	what string
	d    *memDisk
	l    *ledger
}

// TestCrashAtEveryTouchOfTheDisk kills a spool, or cuts its power, before each
// thing that it does to its disk in a life that has some of everything.
func TestCrashAtEveryTouchOfTheDisk(t *testing.T) {
	for _, atRisk := range []time.Duration{0, 2 * time.Second} {
		t.Run(fmt.Sprint(atRisk), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				o := Options{AtRisk: atRisk, MaxBytes: 1 << 20, Sensors: []string{"air", "soil", "door", "slow"}}
				l, rnd := newLedger(), newRand(uint64(atRisk))
				d, _ := damagedSpool(t, true)
				for _, run := range []string{"edges-1-1.seg", "samples-2-1.seg"} {
					b := d.Data(run)
					b[len(b)/2] ^= 8
					d.Put(run, b)
				}
				var crashes []instant
				d.Failing(func(op, file string) error {
					what := fmt.Sprintf("%d: %s %q", len(crashes), op, file)
					if rnd.IntN(2) == 0 {
						crashes = append(crashes, instant{"kill at " + what, d.KillNow(), l.copy()})
					} else {
						crashes = append(crashes, instant{"power cut at " + what, d.CutNow(rnd), l.copy()})
					}
					return nil
				})
				r := newRig(t, d, o).start()
				whole := len(crashes)
				live(t, r, l)
				rewritten := slices.ContainsFunc(crashes, func(c instant) bool { return strings.Contains(c.what, `rename "samples-3-`) })
				if st := r.s.Stats(); !rewritten || len(crashes) < 150 || st.Dropped == 0 || st.Refused == 0 {
					t.Errorf("only %d crashes: %+v", len(crashes), st)
				}
				t.Logf("%d crashes: %+v", len(crashes), r.s.Stats())
				for i, c := range crashes {
					r := newRig(t, c.d, o)
					if got := r.takeFaults(); i >= whole && got != "" {
						t.Errorf("%s: a crash is no damage: %s", c.what, got)
					}
					if err := c.l.check(r.takeItems(all)); err != nil {
						t.Fatalf("%s: %v", c.what, err)
					}
					_ = r.stopAndClose() // all that matters is in the next
				}
			})
		})
	}
}

// live has a spool take records in, fill up, be refused some, have others
// acknowledged, and stop.
func live(t *testing.T, r *rig, l *ledger) {
	r.pad = map[string]string{"air": strings.Repeat("x", 540)} // so that few fill it
	l.add(r, message.Reading, "air")
	wait(500 * time.Millisecond)
	l.add(r, message.Reading, "door")
	l.add(r, message.Edge, "door")
	wait(600 * time.Millisecond)
	for round := range 24 {
		for range 90 {
			l.add(r, message.Reading, "air")
		}
		l.add(r, message.Edge, "door")
		l.add(r, message.Reading, "soil")
		l.add(r, message.Reading, "slow")
		wait(3 * time.Second)
		if round%6 != 1 {
			continue
		}
		items := r.takeItems(40)
		last := len(items) - 1 // a reading: air has the most
		l.refuse(r, items[last])
		// What is slow stays, so that what is dropped is rewritten for it.
		l.ack(r, slices.DeleteFunc(items[:last:last], func(x itemRecord) bool { return x.Record.Sensor == "slow" }))
		wait(3 * time.Second)
		r.s.Rewind()
	}
	l.ack(r, r.takeItems(300))
	wait(2 * time.Second)
	if err := r.stopAndClose(); err != nil {
		t.Fatal(err)
	}
}
