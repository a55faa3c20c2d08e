package totals

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"fieldpost/daemon/durable/durabletest"
	"fieldpost/daemon/health"
	"fieldpost/daemon/journal"
	"fieldpost/daemon/task"
	"fieldpost/sensors"
)

// rig is a store on a disk in memory.
type rig struct {
	*Store
	t      *testing.T
	disk   *durabletest.Dir
	health *health.Health
	task   *task.Task
}

// start starts a run of the store with these sensors configured.
func start(t *testing.T, disk *durabletest.Dir, names ...string) *rig {
	t.Helper()
	r := &rig{t: t, disk: disk, health: health.New(func(health.Change) {})}
	r.health.Know(subjects(names))
	r.Store = New(Options{Storage: journal.NewFile(disk, "totals", nil), Health: r.health})
	r.Configure(names)
	r.task = task.Start("totals", make(chan error, 1), r.Run)
	return r
}

func subjects(names []string) (all []health.Subject) {
	for _, n := range names {
		all = append(all, health.Subject{Name: n, Kind: health.Sensor})
	}
	return all
}

// stop ends a run in order.
func (r *rig) stop() {
	r.t.Helper()
	if err := r.task.Stop(time.Minute); err != nil {
		r.t.Error(err)
	}
}

// kill ends a run after which nothing can be written.
func (r *rig) kill() {
	r.t.Helper()
	r.disk.Failing(func(string, string) error { return syscall.EIO })
	r.stop()
	r.disk.Failing(nil)
}

// want checks a total.
func (r *rig) want(what, name string, want string) {
	r.t.Helper()
	got := "unknown"
	if total, known := r.Saved(name); known {
		got = fmt.Sprintf("%d %v %d", total.Count, total.Amount, total.Gaps)
	}
	if got != want {
		r.t.Errorf("%s: %s is %s, want %s", what, name, got, want)
	}
}

// faults lists the codes that are raised.
func (r *rig) faults() (codes []string) {
	for _, f := range r.health.Current() {
		codes = append(codes, string(f.Fault.Code)+" "+f.Subject)
	}
	slices.Sort(codes)
	return codes
}

func (r *rig) wantFaults(what string, want ...string) {
	r.t.Helper()
	if got := r.faults(); !slices.Equal(got, want) {
		r.t.Errorf("%s: faults %v, want %v", what, got, want)
	}
}

func water(start float64) Meter {
	return Meter{Name: "water", Line: "sim:17", Measures: "water", PerPulse: 10, Start: start}
}

// A total goes on over stops and kills, and the reading says that pulses may have been
// missed between.
func TestTotalsGoOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		disk := durabletest.New()
		r := start(t, disk, "water")
		r.want("before it has begun", "water", "unknown")
		r.Begin(water(1000))
		r.want("begun", "water", "0 1000 0")
		r.Add("water", 5, false)
		<-time.After(time.Minute)
		r.want("counted", "water", "5 1050 0")
		r.Add("water", 2, true)
		r.stop()

		r = start(t, disk, "water")
		r.Begin(water(1000))
		r.want("after a stop", "water", "7 1070 2") // those at the end, and the stop
		<-time.After(time.Minute)
		r.Add("water", 1, false)
		r.want("counted", "water", "8 1080 2")
		r.Add("water", 100, false)
		r.kill()

		r = start(t, disk, "water")
		r.Begin(water(1000))
		r.want("after a kill", "water", "8 1080 3")
		r.wantFaults("after a kill")
		r.Begin(water(1000)) // its line was opened again
		r.stop()
		r = start(t, disk, "water")
		r.Begin(water(1000))
		r.want("opened again", "water", "8 1080 5")
		r.stop()
	})
}

// A total is written about once a minute at most, and until then the one before is given.
func TestWriteBudget(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		disk := durabletest.New()
		writes := 0
		disk.Failing(func(op, _ string) error {
			if op == "write" {
				writes++
			}
			return nil
		})
		r := start(t, disk, "a", "b")
		for _, name := range []string{"a", "b"} {
			r.Begin(Meter{Name: name, Line: name, Measures: "water", PerPulse: 1})
		}
		last := sensors.Total{}
		for range 6000 { // an hour of ten readings a minute
			for _, name := range []string{"a", "b"} {
				r.Add(name, 1, false)
				total, known := r.Saved(name)
				if !known || total.Count < last.Count && name == "a" {
					t.Fatalf("%s has %v, %v after %v", name, total, known, last)
				}
				if name == "a" {
					last = total
				}
			}
			<-time.After(600 * time.Millisecond)
		}
		if last.Count < 5900 || writes > 2*73 {
			t.Errorf("an hour of pulses took %d writes, and the total is %d of 6000", writes, last.Count)
		}
		before := writes
		for range 100 {
			<-time.After(time.Minute)
			r.want("nothing more is counted", "a", "6000 6000 0")
		}
		if writes > before+2 {
			t.Errorf("%d writes of what did not change", writes-before)
		}
		r.stop()
	})
}

// A disk that takes nothing: the total stays what it is on disk, the pulses are kept, and a
// fault says so.
func TestFullDisk(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		disk := durabletest.New()
		r := start(t, disk, "water", "new")
		r.Begin(water(0))
		r.want("begun", "water", "0 0 0")
		disk.Failing(func(op, _ string) error {
			if op == "write" {
				return syscall.ENOSPC
			}
			return nil
		})
		r.Begin(Meter{Name: "new", Line: "sim:18", Measures: "gas", PerPulse: 0.01})
		for range 10 {
			<-time.After(time.Minute)
			r.Add("water", 1, false)
			r.Add("new", 1, false)
			r.want("full", "water", "0 0 0")
			r.want("full", "new", "unknown")
		}
		r.wantFaults("full", "total_unsaved new", "total_unsaved water")
		disk.Failing(nil)
		r.want("not full", "water", "10 100 0")
		r.want("not full", "new", "10 0.1 0")
		r.wantFaults("not full")
		r.stop()
	})
}

// A disk that hangs delays a reading for half a second at most.
func TestHungDisk(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		disk := durabletest.New()
		r := start(t, disk, "water")
		r.Begin(water(0))
		r.want("begun", "water", "0 0 0")
		hung := make(chan struct{})
		disk.Failing(func(op, _ string) error {
			if op == "write" {
				<-hung
			}
			return nil
		})
		for range 3 {
			<-time.After(time.Minute)
			r.Add("water", 1, false)
			began := time.Now()
			r.want("hung", "water", "0 0 0")
			if took := time.Since(began); took != patience {
				t.Errorf("waited for %v", took)
			}
		}
		close(hung)
		synctest.Wait()
		r.want("no longer", "water", "3 30 0")
		r.stop()
	})
}

// What cannot be read at the start is not overwritten, and its total is not known. Pulses
// that were counted meanwhile are added when it can be read.
func TestUnreadableAtTheStart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		disk := durabletest.New()
		r := start(t, disk, "water")
		r.Begin(water(0))
		r.Add("water", 100, false)
		r.stop()
		disk.Failing(func(op, _ string) error {
			if op == "read" {
				return syscall.EIO
			}
			return nil
		})
		r = start(t, disk, "water")
		r.Begin(water(0))
		r.Add("water", 3, false)
		r.want("unread", "water", "unknown")
		r.Begin(water(0)) // opened again
		r.Add("water", 4, true)
		r.want("unread", "water", "unknown")
		r.wantFaults("unread", "total_unsaved water")
		disk.Failing(nil)
		r.want("read", "water", "107 1070 3")
		r.wantFaults("read")
		r.stop()
	})
}

// The meter is exchanged, or its settings were wrong.
func TestSettingsChange(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		disk := durabletest.New()
		r := start(t, disk, "water")
		step := func(what string, m Meter, want string) {
			t.Helper()
			r.Begin(m)
			<-time.After(time.Minute)
			r.want(what, "water", want)
			r.Add("water", 3, false)
		}
		m := water(100)
		step("new", m, "0 100 0")
		m.PerPulse = 0.1
		step("another per_pulse holds from then on", m, "3 130 1")
		step("the same", m, "6 130.3 2")
		m.Line = "sim:18"
		step("another pin", m, "9 130.6 3")
		m.Start = 5000
		step("another start begins again", m, "0 5000 0")
		step("and goes on", m, "3 5000.3 1")
		m.Measures = "gas"
		step("another unit begins again", m, "0 5000 0")
		r.stop()
		r = start(t, disk, "water")
		step("after a restart", m, "3 5000.3 1")
		r.stop()
	})
}

// A renamed counter keeps its total, also if it is named back, and a kill comes at any time.
func TestRename(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		disk := durabletest.New()
		m := water(0)
		r := start(t, disk, "water")
		r.Begin(m)
		r.Add("water", 1, false)
		r.want("new", "water", "1 10 0")
		names := []string{"main", "garden", "water", "main", "main", "water"}
		for i, name := range names {
			if i%2 == 0 { // in a run, or over a kill
				r.kill()
				r = start(t, disk, name)
			}
			r.Configure([]string{name})
			m.Name = name
			r.Begin(m)
			<-time.After(time.Minute)
			r.want("renamed", name, fmt.Sprintf("%d %d %d", i+1, 10*(i+1), i+1))
			<-time.After(time.Minute)
			r.Add(name, 1, false)
			r.want("counted", name, fmt.Sprintf("%d %d %d", i+2, 10*(i+2), i+1))
		}
		// Another counter on its line does not get it while it is configured.
		r.Configure([]string{"water", "other"})
		m.Name = "other"
		r.Begin(m)
		r.want("another", "other", "0 0 0")
		r.want("the first", "water", "7 70 6")
		// Of two that were on its line a new one continues the later.
		r.Add("other", 2, false)
		r.Configure([]string{"third"})
		m.Name = "third"
		r.Begin(m)
		<-time.After(time.Minute)
		r.want("a third", "third", "2 20 1")
		r.stop()
	})
}

// Of counters that nobody uses any more not all are kept.
func TestUnusedTotals(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		disk := durabletest.New()
		for i := range keptUnused + 10 {
			name := fmt.Sprint("c", i)
			r := start(t, disk, name)
			r.Begin(Meter{Name: name, Line: name, Measures: "water", PerPulse: 1})
			r.want("new", name, "0 0 0")
			r.stop()
		}
		r := start(t, disk, "c1", "c100")
		if n := len(r.counters); n > keptUnused+2 {
			t.Errorf("%d totals are kept", n)
		}
		for name, want := range map[string]string{"c1": "0 0 0", "c100": "0 0 1"} {
			r.Begin(Meter{Name: name, Line: name, Measures: "water", PerPulse: 1})
			r.want("an old one", name, want)
		}
		r.stop()
	})
}

// Power cuts and failing disks at random: a total is never lower than one that was given,
// and never higher than what was counted.
func TestTotalsOverPowerCuts(t *testing.T) {
	for seed := range uint64(200) {
		synctest.Test(t, func(t *testing.T) {
			rnd := rand.New(rand.NewPCG(seed, 13))
			disk := durabletest.New()
			var counted, given uint64
			for run := range 8 {
				r := start(t, disk, "water")
				r.Begin(water(0))
				for range 5 {
					switch rnd.IntN(4) {
					case 0:
						op := []string{"write", "datasync", "sync", "syncdir", "rename", "add", "read", "create"}[rnd.IntN(8)]
						disk.Failing(func(o, _ string) error {
							if o == op {
								return syscall.EIO
							}
							return nil
						})
					case 1:
						disk.Failing(nil)
					}
					n := rnd.Uint64N(50)
					counted += n
					r.Add("water", n, false)
					if total, known := r.Saved("water"); known {
						if total.Count < given || total.Count > counted {
							t.Fatalf("seed %d, run %d: total %d after %d was given and %d counted", seed, run, total.Count, given, counted)
						}
						given = total.Count
					}
					<-time.After(time.Duration(rnd.IntN(90)) * time.Second)
				}
				if rnd.IntN(2) == 0 {
					disk.Failing(nil)
					r.stop()
				} else {
					r.kill()
					disk = disk.Cut(rnd)
					counted = max(given, counted) // what was not saved is lost
				}
			}
		})
	}
}

// Whatever happens to the file: the daemon goes on, and if a total may be wrong, that is
// said.
func TestDamagedFile(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		disk := durabletest.New()
		r := start(t, disk, "water", "gas")
		for _, name := range []string{"water", "gas"} {
			r.Begin(Meter{Name: name, Line: name, Measures: "water", PerPulse: 1})
			r.Add(name, 7, false)
			r.want("counted", name, "7 7 0")
		}
		r.stop()
		whole := slices.Clone(disk.Data("totals.journal"))
		for at := range whole {
			broken := slices.Clone(whole)
			broken[at] ^= 0x40
			disk.Put("totals.journal", broken)
			r := start(t, disk, "water", "gas")
			for _, name := range []string{"water", "gas"} {
				r.Begin(Meter{Name: name, Line: name, Measures: "water", PerPulse: 1})
				total, known := r.Saved(name)
				if !known || total.Count != 7 && total.Count != 0 {
					t.Fatalf("byte %d: %s has %v, %v", at, name, total, known)
				}
			}
			if at < len(whole)/2 && !slices.Equal(r.faults(), []string{"total_damaged gas", "total_damaged water"}) {
				t.Fatalf("byte %d: faults %v", at, r.faults())
			}
			r.stop()
		}
		for _, entry := range []string{"", "{", `{"count":1}`, `{"name":"water","from":2,"count":1}`, `{"name":"water","count":-1}`} {
			f := journal.NewFile(disk, "totals", nil)
			if err := f.Rewrite(slices.Values([][]byte{[]byte(entry + " ")})); err != nil {
				t.Fatal(err)
			}
			r := start(t, disk, "water")
			r.Begin(water(0))
			r.want("an entry "+entry, "water", "0 0 1")
			r.wantFaults("an entry "+entry, "total_damaged water")
			r.Begin(water(500))
			r.stop()
		}
	})
}

// Many counters at once, from goroutines of their own.
func TestManyCounters(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		disk := durabletest.New()
		var names []string
		for i := range 20 {
			names = append(names, fmt.Sprint("c", i))
		}
		r := start(t, disk, names...)
		var all sync.WaitGroup
		for _, name := range names {
			all.Go(func() {
				r.Begin(Meter{Name: name, Line: name, Measures: "water", PerPulse: 1})
				for range 100 {
					r.Add(name, 1, false)
					if _, known := r.Saved(name); !known {
						t.Error("not saved")
					}
				}
			})
		}
		all.Wait()
		r.stop()
		r = start(t, disk, names...)
		for _, name := range names {
			r.Begin(Meter{Name: name, Line: name, Measures: "water", PerPulse: 1})
			r.want("after a restart", name, "100 100 1")
		}
		r.stop()
	})
}

// A store that is told of a counter that has not begun does nothing, and one without
// counters touches no file.
func TestNothingToKeep(t *testing.T) {
	disk := durabletest.New()
	disk.Failing(func(op, _ string) error {
		if op != "read" && op != "add" {
			return errors.New(op)
		}
		return nil
	})
	r := start(t, disk, "door")
	r.Add("door", 1, true)
	r.want("no counter", "door", "unknown")
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if err := r.Run(ctx); err != nil && !strings.Contains(err.Error(), "canceled") {
		t.Error(err)
	}
	r.stop()
	if b := disk.Data("totals.journal"); len(b) != 0 {
		t.Errorf("wrote %d bytes", len(b))
	}
}
