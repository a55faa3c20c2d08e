package spool

import (
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"fieldpost/daemon/clock"
	"fieldpost/daemon/message"
)

// copyRuntimeDir returns a copy of the runtime directory as a kill at this moment would leave it.
func copyRuntimeDir(t *testing.T, o Options) string {
	t.Helper()
	if o.RuntimeDir == "" {
		return ""
	}
	dir := filepath.Join(memoryDir(t), "runtime")
	if err := os.CopyFS(dir, os.DirFS(o.RuntimeDir)); err != nil {
		t.Fatal(err)
	}
	return dir
}

// killed kills the process of r, has do change what it left, and opens the next run.
func (r *rig) killed(do func(d *memDisk, o *Options)) *rig {
	r.t.Helper()
	left, o := r.d.Kill(), r.o
	o.RuntimeDir = copyRuntimeDir(r.t, r.o)
	r.crash(left)
	if do != nil {
		do(left, &o)
	}
	return newRig(r.t, left, o)
}

// withRiskFile is a spool that runs and notes what is at risk.
func withRiskFile(t *testing.T, sensors ...string) *rig {
	t.Helper()
	return newRig(t, newMemDisk(), Options{AtRisk: 4 * time.Second, RuntimeDir: memoryDir(t), Sensors: sensors, Thing: "thing", Board: "board"}).start()
}

func (r *rig) addAll(kind message.Kind, sensor string, n int) {
	for range n {
		r.add(kind, sensor)
	}
}

func (r *rig) ackAll(items []itemRecord) {
	for _, x := range items {
		r.s.Ack(x.ID)
	}
}

// A kill says nothing of what was acknowledged or written, and nothing of a sensor that took
// nothing.
func TestAKillThatLostNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := withRiskFile(t, "air", "soil", "never")
		r.addAll(message.Reading, "air", 5)
		r.ackAll(r.takeItems(all)) // never on disk
		r.addAll(message.Reading, "soil", 3)
		wait(2 * time.Second) // written, not synced
		r.addAll(message.Reading, "air", 2)
		r.takeItems(all)
		wait(10 * time.Second) // synced
		r = r.killed(nil)
		r.want(r.takeItems(all), "air:6, soil:1, soil:2, air:7, soil:3")
	})
}

// A kill says exactly what was lost, and keeps apart what may have been sent.
func TestAKillSaysWhatItLost(t *testing.T) {
	for name, x := range map[string]struct {
		do   func(r *rig)
		want string
	}{
		"sent": {func(r *rig) {
			r.addAll(message.Reading, "air", 5)
			items := r.takeItems(all)
			r.ackAll(items[:2])
			r.add(message.Reading, "soil") // so that the acknowledgements are noted
			r.ackAll(r.takeItems(all))
		}, "gap air 1 after_seq=2 to_seq=5 reason=crash certain=false, gap soil 1 after_seq=0 to_seq=1 reason=crash certain=false"},
		"sent, a moment after some were acknowledged": {func(r *rig) {
			r.addAll(message.Reading, "air", 5)
			r.ackAll(r.takeItems(all)[:2])
		}, "gap air 1 after_seq=0 to_seq=5 reason=crash certain=false"},
		"some sent": {func(r *rig) {
			r.addAll(message.Reading, "air", 2)
			r.takeItems(all)
			r.addAll(message.Reading, "air", 4) // the first of them counts as sent: it would have been, a moment later
		}, "gap air 1 after_seq=0 to_seq=3 reason=crash certain=false, gap air 1 after_seq=3 to_seq=6 reason=crash"},
		"sent after it was noted as waiting": {func(r *rig) {
			r.addAll(message.Reading, "air", 4)
			r.takeItems(3)
		}, "gap air 1 after_seq=0 to_seq=4 reason=crash certain=false"},
		"rest of a written one": {func(r *rig) {
			r.addAll(message.Reading, "air", 4)
			wait(2 * time.Second)
			r.addAll(message.Reading, "air", 4)
		}, "gap air 1 after_seq=4 to_seq=8 reason=crash, air:1, air:2, air:3, air:4"},
		"edges between": {func(r *rig) {
			r.add(message.Reading, "air")
			r.add(message.Edge, "air")
			r.add(message.Reading, "air")
			for _, x := range r.takeItems(all) {
				if x.Record.Kind == message.Reading {
					r.s.Ack(x.ID)
				}
			}
			r.add(message.Reading, "air") // so that the acknowledgements are noted
		}, "gap air 1 after_seq=1 to_seq=4 reason=crash certain=false"},
		"two sensors, one new": {func(r *rig) {
			r.addAll(message.Reading, "air", 2)
			r.ackAll(r.takeItems(all))
			r.addAll(message.Reading, "new", 3)
		}, "gap new 1 after_seq=0 to_seq=1 reason=crash certain=false, gap new 1 after_seq=1 to_seq=3 reason=crash"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := withRiskFile(t, "air", "soil")
				x.do(r)
				next := r.killed(nil)
				next.want(next.takeItems(all), x.want)
			})
		})
	}
}

// Where the risk file is not of this spool, run and boot, or not whole, or where files have
// been changed since, everything is claimed that may be lost, and the log says why.
func TestARiskFileThatIsNotTrusted(t *testing.T) {
	const open = "gap air 1 after_seq=3 reason=crash certain=false, gap soil 1 after_seq=0 reason=crash certain=false, air:1, air:2, air:3"
	riskPath := func(o *Options) string { return filepath.Join(o.RuntimeDir, riskName(1)) }
	rewrite := func(change func(n *riskNote)) func(*memDisk, *Options) {
		return func(_ *memDisk, o *Options) {
			b, err := os.ReadFile(riskPath(o))
			n, ok := decodeRiskNote(b)
			if err != nil || !ok {
				panic(err)
			}
			change(n)
			if err := os.WriteFile(riskPath(o), n.appendTo(nil), 0o600); err != nil {
				panic(err)
			}
		}
	}
	instead := func(put func(path string) error) func(*memDisk, *Options) {
		return func(_ *memDisk, o *Options) {
			if err := os.Rename(riskPath(o), filepath.Join(o.RuntimeDir, "elsewhere")); err != nil {
				panic(err)
			}
			if err := put(riskPath(o)); err != nil {
				panic(err)
			}
		}
	}
	for name, x := range map[string]struct {
		do     func(*memDisk, *Options)
		want   string
		reason string // in the log
	}{
		"trusted":   {func(*memDisk, *Options) {}, "gap air 1 after_seq=3 to_seq=4 reason=crash, air:1, air:2, air:3", ""},
		"rewritten": {rewrite(func(*riskNote) {}), "gap air 1 after_seq=3 to_seq=4 reason=crash, air:1, air:2, air:3", ""},
		"another boot": {func(_ *memDisk, o *Options) {
			o.Clock = clock.Func(func() clock.Stamp { return clock.Stamp{Boot: "next"} })
		}, open, riskOtherBoot},
		"no boot":             {func(_ *memDisk, o *Options) { o.Clock = clock.Func(func() clock.Stamp { return clock.Stamp{} }) }, open, riskNoBoot},
		"another spool":       {rewrite(func(n *riskNote) { n.spool = "qqqqqq" }), open, riskOtherSpool},
		"another run":         {rewrite(func(n *riskNote) { n.run = 2 }), open, riskDamaged},
		"another place":       {rewrite(func(n *riskNote) { n.place += "x" }), open, riskOtherSpool},
		"none":                {instead(func(string) error { return nil }), open, riskNone},
		"empty":               {instead(func(p string) error { return os.WriteFile(p, nil, 0o600) }), open, riskDamaged},
		"too large":           {instead(func(p string) error { return os.WriteFile(p, make([]byte, maxRiskFile+1), 0o600) }), open, "large"},
		"a link":              {instead(func(p string) error { return os.Symlink("elsewhere", p) }), open, "link"},
		"a directory":         {instead(func(p string) error { return os.MkdirAll(filepath.Join(p, "x"), 0o700) }), open, "directory"},
		"no directory":        {func(_ *memDisk, o *Options) { o.RuntimeDir = filepath.Join(o.RuntimeDir, "none") }, open, riskNone},
		"a file as directory": {func(_ *memDisk, o *Options) { o.RuntimeDir = riskPath(o) }, open, riskNone},
		"none given":          {func(_ *memDisk, o *Options) { o.RuntimeDir = "" }, open, riskNoDir},
		"a segment cut": {func(d *memDisk, _ *Options) {
			b := d.Data("samples-1-1.seg")
			d.Put("samples-1-1.seg", b[:len(b)-1])
		}, "gap air 1 after_seq=2 reason=crash certain=false, gap soil 1 after_seq=0 reason=crash certain=false, air:1, air:2", "samples-1-1.seg does not have what was on disk"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := withRiskFile(t, "air", "soil")
				r.addAll(message.Reading, "air", 3)
				wait(10 * time.Second)
				r.add(message.Reading, "air")
				var log strings.Builder
				next := r.killed(func(d *memDisk, o *Options) {
					x.do(d, o)
					o.Log = slog.New(slog.NewTextHandler(&log, nil))
				})
				next.want(next.takeItems(all), x.want)
				said := "its risk file says what that cost"
				if x.reason != "" {
					said = "so gaps report all that may be missing"
				}
				if got := log.String(); strings.Count(got, "did not stop in order") != 1 || !strings.Contains(got, said) || !strings.Contains(got, "run=1") || !strings.Contains(got, x.reason) {
					t.Errorf("the log says %s", got)
				}
				if err := next.stopAndClose(); err != nil {
					t.Error(err)
				}
			})
		})
	}
}

// A segment that is removed after the kill is not taken for one that held nothing.
func TestASegmentRemovedAfterAKill(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := withRiskFile(t, "air")
		r.addAll(message.Reading, "air", 3)
		wait(10 * time.Second)
		next := r.killed(func(d *memDisk, _ *Options) {
			if err := d.Remove("samples-1-1.seg"); err != nil {
				t.Error(err)
			}
		})
		var gaps []loss
		for _, x := range next.takeItems(all) {
			gaps = append(gaps, claim(x.Record))
		}
		for seq := uint64(1); seq <= 3; seq++ {
			if !told(gaps, seq) {
				t.Errorf("%d is neither here nor told: %+v", seq, gaps)
			}
		}
	})
}

// A file that was cut short or damaged by a byte is not trusted.
func TestEveryByteOfARiskFile(t *testing.T) {
	n := riskNote{
		run: 7, spool: "k7m2qx", boot: "boot", place: "1:2", segments: map[segmentKey]uint64{{logRun{Samples, 7}, 3}: 900, {logRun{Edges, 7}, 1}: 2},
		risks: []risk{{sensor: "air", lo: 1 << 40, hi: 1<<40 + 5, sent: true}, {sensor: "soil", lo: 1, hi: 1}},
	}
	whole := n.appendTo(nil)
	if got, ok := decodeRiskNote(append(whole[:len(whole):len(whole)], "rest"...)); !ok || fmt.Sprint(*got) != fmt.Sprint(n) {
		t.Fatalf("got %+v", got)
	}
	for k := range whole {
		if _, ok := decodeRiskNote(whole[:k]); ok {
			t.Errorf("cut at %d: trusted", k)
		}
		b := append([]byte(nil), whole...)
		b[k] ^= 0x10
		if _, ok := decodeRiskNote(b); ok {
			t.Errorf("byte %d: trusted", k)
		}
	}
}

// More than the file can have is not noted, and the log of the next run says so; when it is less
// again, it is.
func TestMoreAtRiskThanFits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		add := func(r *rig) {
			for k := range 300 {
				r.add(message.Reading, fmt.Sprint(k, strings.Repeat("x", 250)))
			}
		}
		r := withRiskFile(t, "soil")
		add(r)
		var log strings.Builder
		next := r.killed(func(_ *memDisk, o *Options) { o.Log = slog.New(slog.NewTextHandler(&log, nil)) })
		if got := brief(next.takeItems(all)); !strings.Contains(got, "gap soil 1 after_seq=0 reason=crash certain=false") {
			t.Errorf("got %.300s", got)
		}
		if !strings.Contains(log.String(), riskTooMuch) {
			t.Errorf("the log says %s", log.String())
		}
		r = withRiskFile(t, "soil")
		add(r)
		r.ackAll(r.takeItems(all))
		r.add(message.Reading, "soil")
		next = r.killed(nil)
		next.want(next.takeItems(all), "gap soil 1 after_seq=0 to_seq=1 reason=crash certain=false")
	})
}

// A burst of any length is noted exactly, also one of a sensor whose entries are in two logs. If
// what is acknowledged leaves too many holes, the gap reaches over them and is uncertain.
func TestABurstAtRisk(t *testing.T) {
	const burst = 12000
	for name, x := range map[string]struct {
		do   func(r *rig)
		want string
	}{
		"of one input": {func(r *rig) { r.addAll(message.Edge, "air", burst) },
			"gap air 1 after_seq=0 to_seq=1 reason=crash certain=false, gap air 1 after_seq=1 to_seq=12000 reason=crash"},
		"of readings and edges": {func(r *rig) {
			for range burst / 2 {
				r.add(message.Reading, "air")
				r.add(message.Edge, "air")
			}
		}, "gap air 1 after_seq=0 to_seq=2 reason=crash certain=false, gap air 1 after_seq=2 to_seq=12000 reason=crash"},
		"of which every other is acknowledged": {func(r *rig) {
			r.addAll(message.Edge, "air", burst)
			for k, x := range r.takeItems(all) {
				if k%2 == 0 {
					r.s.Ack(x.ID)
				}
			}
			r.add(message.Edge, "soil")
		}, "gap air 1 after_seq=1 to_seq=12000 reason=crash certain=false, gap soil 1 after_seq=0 to_seq=1 reason=crash certain=false"},
		"of which the first are acknowledged": {func(r *rig) {
			r.addAll(message.Edge, "air", burst)
			r.ackAll(r.takeItems(burst - 10))
			r.add(message.Edge, "soil")
		}, "gap air 1 after_seq=11990 to_seq=12000 reason=crash certain=false, gap soil 1 after_seq=0 to_seq=1 reason=crash certain=false"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := withRiskFile(t, "soil")
				x.do(r)
				next := r.killed(nil)
				next.want(next.takeItems(all), x.want)
			})
		})
	}
}

// An Append writes the risk file at the same cost, however much is at risk: it looks at what is
// new, not at all of it.
func TestAppendDoesNotLookAtAllThatIsAtRisk(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := withRiskFile(t)
		r.addAll(message.Edge, "air", 1000)
		st := r.s.st
		st.mu.Lock()
		for _, e := range st.logs[Edges].mem {
			e.sensor = "looked at again"
		}
		st.mu.Unlock()
		r.add(message.Edge, "air")
		for _, x := range r.s.risks.note.risks {
			if x.sensor != "air" {
				t.Errorf("%+v", x)
			}
		}
		r.crash(nil)
	})
}

// A file that cannot be written is removed: it would claim too little.
func TestARiskFileThatCannotBeWritten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := withRiskFile(t, "air")
		r.add(message.Reading, "air")
		_ = r.s.risks.file.Close() // as a device that fails
		r.add(message.Reading, "air")
		if left, err := os.ReadDir(r.o.RuntimeDir); err != nil || len(left) != 0 {
			t.Errorf("left: %v, %v", left, err)
		}
		next := r.killed(nil)
		next.want(next.takeItems(all), "gap air 1 after_seq=0 reason=crash certain=false")
	})
}

// Runs that are killed as soon as they have started lose nothing, and neither lose nor repeat
// what the first of them tells of the one before.
func TestKilledAgainAndAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := withRiskFile(t, "air", "soil")
		r.add(message.Reading, "air")
		for range 5 {
			r = r.killed(nil).start()
		}
		items := r.takeItems(all)
		r.want(items, "gap air 1 after_seq=0 to_seq=1 reason=crash certain=false")
		r.ackAll(items)
		wait(5 * time.Second)
		r = r.killed(nil)
		r.want(r.takeItems(all), "")
		if left, _ := os.ReadDir(r.o.RuntimeDir); len(left) != 1 || left[0].Name() != riskName(7) {
			t.Errorf("left: %v", left)
		}
		if err := r.stopAndClose(); err != nil {
			t.Error(err)
		}
		if left, _ := os.ReadDir(r.o.RuntimeDir); len(left) != 0 {
			t.Errorf("left after an orderly stop: %v", left)
		}
	})
}

// A kill before any operation of the disk at a start keeps what the run before has lost.
func TestKilledWhileItStarts(t *testing.T) {
	for k, whole := 0, false; !whole; k++ {
		synctest.Test(t, func(t *testing.T) {
			r := withRiskFile(t, "air")
			r.addAll(message.Reading, "air", 3)
			left := r.d.Kill()
			o := r.o
			o.RuntimeDir = copyRuntimeDir(t, r.o)
			r.crash(nil)
			var then *memDisk
			var dir string
			ops := 0
			left.Failing(func(string, string) error {
				if ops++; ops <= k {
					return nil
				}
				if then == nil {
					then, dir = left.KillNow(), copyRuntimeDir(t, o)
				}
				return syscall.EIO
			})
			second := newRig(t, left, o)
			if whole = then == nil; whole {
				second.crash(nil)
				return
			}
			second.crash(nil)
			o.RuntimeDir = dir
			third := newRig(t, then, o)
			var gaps []loss
			for _, x := range third.takeItems(all) {
				if x.Record.Run == 1 {
					gaps = append(gaps, claim(x.Record))
				}
			}
			for seq := uint64(1); seq <= 3; seq++ {
				if !told(gaps, seq) {
					t.Errorf("killed at %d: %d is not told: %+v", k, seq, gaps)
				}
			}
			if err := third.stopAndClose(); err != nil {
				t.Error(err)
			}
		})
		if t.Failed() {
			break
		}
	}
}

// Whatever happens, the file covers what is at risk when a method returns, and says of what was
// given that it may have been sent.
func TestTheRiskFileIsAheadOfTheSender(t *testing.T) {
	for seed := range uint64(20) {
		synctest.Test(t, func(t *testing.T) {
			rnd := rand.New(rand.NewPCG(seed, 5))
			r := withRiskFile(t, "air", "soil")
			if seed%2 == 1 {
				r.s.risks.most = 4
			}
			given := map[name]itemRecord{}
			check := func(step string) {
				t.Helper()
				b, err := os.ReadFile(filepath.Join(r.o.RuntimeDir, riskName(1)))
				n, ok := decodeRiskNote(b)
				if err != nil || !ok {
					t.Fatalf("%s: %v", step, err)
				}
				st := r.s.st
				st.mu.Lock()
				defer st.mu.Unlock()
				for _, l := range st.logs {
					l.eachUnsynced(func(e *memEntry) {
						if e.done {
							return
						}
						_, wasGiven := given[name{e.sensor, 1, e.seq}]
						for _, x := range n.risks {
							if x.sensor == e.sensor && x.lo <= e.seq && e.seq <= x.hi && (x.sent || !wasGiven) {
								return
							}
						}
						t.Fatalf("%s: %s:%d (given %v) is not in %+v", step, e.sensor, e.seq, wasGiven, n.risks)
					})
				}
			}
			for range 200 {
				switch k := rnd.IntN(10); {
				case k < 5:
					sensor := []string{"air", "soil"}[rnd.IntN(2)]
					r.add([]message.Kind{message.Reading, message.Edge}[rnd.IntN(2)], sensor)
					check("append")
				case k < 7:
					if x, ok := nextOf(r.s); ok {
						given[name{x.Record.Sensor, 1, x.Record.Seq}] = x
						if y, ok := moreOf(r.s, x.ID); ok {
							given[name{y.Record.Sensor, 1, y.Record.Seq}] = y
						}
						check("next")
					}
				case k < 8:
					for _, x := range given {
						if rnd.IntN(2) == 0 {
							r.s.Ack(x.ID)
							check("ack")
						}
					}
				case k < 9:
					r.s.Rewind()
					check("rewind")
				default:
					wait(time.Duration(rnd.IntN(3000)) * time.Millisecond)
					check("wait")
				}
			}
			if err := r.stopAndClose(); err != nil {
				t.Error(err)
			}
		})
	}
}

// That holds as well while others append at the same time.
func TestTheRiskFileIsAheadOfTheSenderAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const sensors, each = 4, 300
		r := withRiskFile(t)
		var group sync.WaitGroup
		for k := range sensors {
			group.Go(func() {
				for seq := range uint64(each) {
					x := message.Record{Kind: message.Reading, Sensor: fmt.Sprint("s", k), Run: 1, Seq: seq + 1, Stamp: r.o.Clock.Now()}
					if err := appendTo(r.s, x); err != nil {
						t.Error(err)
					}
				}
			})
		}
		for n := 0; n < sensors*each; {
			x, ok := nextOf(r.s)
			if !ok {
				<-r.s.Ready()
				continue
			}
			n++
			b, err := os.ReadFile(filepath.Join(r.o.RuntimeDir, riskName(1)))
			if err != nil {
				t.Fatal(err)
			}
			// What is read while it is written is no note, as after a kill.
			note, ok := decodeRiskNote(b)
			if ok && !slices.ContainsFunc(note.risks, func(y risk) bool {
				return y.sensor == x.Record.Sensor && y.lo <= x.Record.Seq && x.Record.Seq <= y.hi && y.sent
			}) {
				t.Fatalf("%s:%d is given and not in %+v", x.Record.Sensor, x.Record.Seq, note.risks)
			}
			r.s.Ack(x.ID)
		}
		group.Wait()
		if err := r.stopAndClose(); err != nil {
			t.Error(err)
		}
	})
}

// A run that gets another number, as its first could not be recorded, notes under that one.
func TestARiskFileOfARunWithAnotherNumber(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newMemDisk()
		d.Failing(func(op, _ string) error {
			if op == "read" || op == "list" || op == "lock" {
				return nil
			}
			return syscall.EROFS
		})
		r := newRig(t, d, Options{AtRisk: 4 * time.Second, RuntimeDir: memoryDir(t), Sensors: []string{"air"}}).start()
		r.add(message.Reading, "air")
		d.Failing(nil)
		wait(2 * time.Minute)
		r.add(message.Reading, "air")
		left, err := os.ReadDir(r.o.RuntimeDir)
		if err != nil || len(left) != 1 || left[0].Name() != riskName(r.s.RunNumber()) {
			t.Errorf("left: %v, %v", left, err)
		}
		next := r.killed(nil)
		next.want(next.takeItems(all), fmt.Sprintf("gap air %d after_seq=1 to_seq=2 reason=crash, air:1", r.s.RunNumber()))
	})
}
