package history

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"fieldpost/daemon/clock"
	"fieldpost/daemon/durable/durabletest"
	"fieldpost/daemon/health"
	"fieldpost/daemon/journal"
	"fieldpost/daemon/message"
	"fieldpost/sensors"
)

// machine is a board with a disk. Its sensor "air" has the quantity x, which is the true time
// in seconds since start, so that every point shows whether it has the right time.
type machine struct {
	t      *testing.T
	disk   *durabletest.Dir
	health *health.Health
	told   []string // faults

	boot   string
	booted time.Time // the true time of the boot
	now    time.Time // the true time
	wrong  time.Duration
	synced bool
	most   int
	extra  int // further quantities
	h      *Store
}

func newMachine(t *testing.T) *machine {
	return &machine{t: t, disk: durabletest.New(), boot: "a", booted: start, now: start, synced: true, most: 64}
}

// Now is the board's clock.
func (m *machine) Now() clock.Stamp {
	return clock.Stamp{Boot: m.boot, Mono: m.now.Sub(m.booted), Wall: m.now.Add(m.wrong), Synced: m.synced}
}

func (m *machine) settings() Settings {
	return Settings{Keep: OnDisk, Most: m.most, Sensors: []Sensor{{"air", time.Minute}}}
}

// start starts the daemon.
func (m *machine) start() {
	m.health = health.New(func(c health.Change) { m.told = append(m.told, fmt.Sprint(c.Fault.Code, " ", c.Raised)) })
	m.h = New(Options{
		Settings: m.settings(), Clock: m, Health: m.health,
		Files: Files{journal.NewFile(m.disk, "history-1", nil), journal.NewFile(m.disk, "history-2", nil)},
	})
}

// stop ends it in order.
func (m *machine) stop() {
	m.t.Helper()
	if _, err := m.h.save(true); err != nil {
		m.t.Fatal(err)
	}
}

// reboot boots the machine after a pause.
func (m *machine) reboot(pause time.Duration) {
	m.now = m.now.Add(pause)
	m.boot, m.booted = m.boot+"'", m.now
	m.start()
}

// run takes readings for a time, one a minute, and saves once an hour.
func (m *machine) run(long time.Duration) (err error) {
	for end := m.now.Add(long); m.now.Before(end); m.now = m.now.Add(time.Minute) {
		x := m.now.Sub(start).Seconds()
		fields := []sensors.Field{{Name: "x", Value: x}}
		for i := range m.extra {
			fields = append(fields, sensors.Field{Name: fmt.Sprint("y", i), Value: x})
		}
		m.h.Record(message.Record{Kind: message.Reading, Sensor: "air", Stamp: m.Now(), Fields: fields})
		if m.now.Sub(m.booted)%time.Hour == 59*time.Minute {
			if _, e := m.h.save(false); e != nil && err == nil {
				err = e
			}
		}
	}
	return err
}

// points returns all points of x since a time ago, and fails the test if one is not true.
func (m *machine) points(age time.Duration) (all []Point) {
	m.t.Helper()
	now := m.Now()
	found, known := m.h.Find(Query{Sensor: "air", Quantity: "x", Since: now.Wall.Add(-age).Unix(), Until: now.Wall.Unix(), Points: 1000}, now)
	if !known {
		return nil
	}
	before := int64(0)
	for _, p := range found[0].Points {
		x := float64(p.At - start.Unix() - int64(m.wrong/time.Second))
		if !p.Gap && (p.Min < x-1 || p.Max > x+2401 || p.Mean < p.Min || p.Mean > p.Max) || p.At <= before {
			m.t.Fatalf("at %v s: %+v", x, p)
		}
		before = p.At
		if !p.Gap {
			all = append(all, p)
		}
	}
	return all
}

// has reports whether there is a point not long before a true time.
func has(points []Point, t time.Time) bool {
	for _, p := range points {
		if late := t.Unix() - p.At; late >= 0 && late <= 1800+600 {
			return true
		}
	}
	return false
}

// A restart loses nothing that is older than an hour, and a stop nothing; the step in which
// it was goes on, with the weight that its values have.
func TestRestart(t *testing.T) {
	m := newMachine(t)
	m.start()
	if err := m.run(10*time.Hour + 4*time.Minute); err != nil {
		t.Fatal(err)
	}
	m.stop()
	m.start()
	got := m.points(24 * time.Hour)
	if len(got) != 61 || got[60].Mean != 36000+90 {
		t.Fatalf("after a stop: %d points, the last %+v", len(got), got[len(got)-1])
	}
	if err := m.run(16 * time.Minute); err != nil { // until 10:20
		t.Fatal(err)
	}
	m.stop()
	m.start()
	got = m.points(24 * time.Hour)
	if len(got) != 62 || got[60] != (Point{At: start.Unix() + 36000, Mean: 36000 + 270, Min: 36000, Max: 36000 + 540}) {
		t.Fatalf("%d points, %+v", len(got), got[60])
	}
	coarse := m.points(7 * 24 * time.Hour)
	if len(coarse) != 21 || coarse[20] != (Point{At: start.Unix() + 36000, Mean: 36000 + 570, Min: 36000, Max: 36000 + 1140}) || coarse[3].Mean != 3*1800+870 {
		t.Fatalf("of a week: %d points, %+v", len(coarse), coarse)
	}
	if err := m.run(56 * time.Minute); err != nil { // with a save at 10:59
		t.Fatal(err)
	}
	m.start() // killed at 11:16
	if got = m.points(24 * time.Hour); !has(got, start.Add(10*time.Hour+50*time.Minute)) || len(got) != 65 {
		t.Errorf("after a kill: %d points", len(got))
	}
	if len(m.told) != 0 {
		t.Errorf("told %q", m.told)
	}
}

// What was taken before the clock was right has its right time after a reboot too, if the
// clock was right in the end; otherwise it is left out, and not put at a wrong time.
func TestClockOverReboots(t *testing.T) {
	m := newMachine(t)
	m.start()
	if err := m.run(2 * time.Hour); err != nil {
		t.Fatal(err)
	}
	m.stop()
	m.wrong, m.synced = -30*365*24*time.Hour, false
	m.reboot(time.Hour)
	if err := m.run(2 * time.Hour); err != nil {
		t.Fatal(err)
	}
	m.start() // killed, in the same boot
	m.wrong, m.synced = 0, true
	if got := m.points(24 * time.Hour); !has(got, start.Add(4*time.Hour)) || !has(got, start.Add(time.Hour)) {
		t.Fatalf("synchronised: %+v", got)
	}
	if err := m.run(time.Hour); err != nil {
		t.Fatal(err)
	}
	m.stop()
	m.reboot(time.Hour)
	if got := m.points(24 * time.Hour); !has(got, start.Add(4*time.Hour)) || !has(got, start.Add(6*time.Hour)) {
		t.Fatalf("rebooted: %+v", got)
	}
	m.wrong, m.synced = 5*365*24*time.Hour, false
	m.reboot(0)
	if err := m.run(2 * time.Hour); err != nil {
		t.Fatal(err)
	}
	m.stop()
	m.wrong, m.synced = 0, true
	m.reboot(time.Hour)
	if got := m.points(24 * time.Hour); has(got, start.Add(9*time.Hour)) || !has(got, start.Add(6*time.Hour)) {
		t.Fatalf("never synchronised: %+v", got)
	}
}

// A boot whose clock claimed to be right and was years ahead does not spoil what follows.
func TestFutureIsNoPoison(t *testing.T) {
	m := newMachine(t)
	m.start()
	m.wrong = 5 * 365 * 24 * time.Hour
	if err := m.run(3 * time.Hour); err != nil {
		t.Fatal(err)
	}
	m.stop()
	m.reboot(time.Minute)
	m.wrong = 0
	if err := m.run(8 * time.Hour); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		for _, age := range []time.Duration{24 * time.Hour, 7 * 24 * time.Hour} {
			if got := m.points(age); !has(got, m.now) || has(got, start.Add(2*time.Hour)) || len(got) < 15 {
				t.Errorf("%v: %+v", age, got)
			}
		}
		m.stop()
		m.reboot(time.Minute)
	}
}

// Killed or cut at any touch of the disk, again and again: every point that is there is true,
// and all are there that a save has written.
func TestKilledAnywhere(t *testing.T) {
	for seed := range uint64(60) {
		rnd := rand.New(rand.NewPCG(seed, 1))
		m := newMachine(t)
		m.extra = rnd.IntN(2) * 40 // then points of half an hour are written
		var written []time.Time
		for range 12 {
			m.start()
			got := m.points(7 * 24 * time.Hour)
			for _, w := range written {
				if !has(got, w) {
					t.Fatalf("seed %d: nothing at %v, which was written; %d points", seed, w.Sub(start), len(got))
				}
			}
			touches := rnd.IntN(40)
			var left *durabletest.Dir
			cut := rnd.IntN(2) == 0
			m.disk.Failing(func(string, string) error {
				if touches--; touches >= 0 {
					return nil
				}
				if left == nil && cut {
					left = m.disk.CutNow(rnd)
				} else if left == nil {
					left = m.disk.KillNow()
				}
				return syscall.EIO
			})
			for left == nil {
				began := m.now
				if err := m.run(time.Duration(1+rnd.IntN(5)) * time.Hour); err == nil && left == nil && m.h.series > 0 && m.now.Sub(began) > time.Hour {
					last := m.now.Add(-time.Minute - m.now.Sub(m.booted)%time.Hour) // the save
					open := 10 * time.Minute                                        // the step that was not over
					if m.extra > 0 {
						open = 30 * time.Minute
					}
					written = append(written, last.Add(-open))
				}
				if rnd.IntN(6) == 0 {
					_, _ = m.h.save(true)
					break
				}
			}
			if left == nil {
				left = m.disk.KillNow()
			}
			m.disk = left
			if cut {
				m.now = m.now.Add(time.Duration(rnd.IntN(100)) * time.Minute)
				m.boot, m.booted = m.boot+"'", m.now
			}
			for len(written) > 0 && m.now.Sub(written[0]) > 6*24*time.Hour {
				written = written[1:]
			}
		}
	}
}

// A disk that is full or read-only costs nothing but the disk's copy, is told once, and is
// told to be over. Where only part of the work fails, the other way to write is taken.
func TestDiskFull(t *testing.T) {
	for _, op := range []string{"write", "add", "datasync", "syncdir", "rename", "create", ""} {
		m := newMachine(t)
		m.start()
		if err := m.run(3 * time.Hour); err != nil {
			t.Fatal(err)
		}
		m.disk.Failing(func(o, _ string) error {
			if o == op || op == "" && o != "read" {
				return syscall.ENOSPC
			}
			return nil
		})
		err := m.run(4 * time.Hour)
		where, unsaved := m.h.Kept()
		if fails := op == "write" || op == ""; where != OnDisk || fails && err == nil || fails != (unsaved != "") || fails && !errors.Is(err, syscall.ENOSPC) {
			t.Errorf("%q: %v, %q", op, err, unsaved)
		} else if fails && strings.Join(m.told, ",") != "history_unsaved true" {
			t.Errorf("%q: told %q", op, m.told)
		}
		if got := m.points(24 * time.Hour); len(got) != 42 {
			t.Errorf("%q: %d points", op, len(got))
		}
		m.disk.Failing(nil)
		if err := m.run(time.Hour); err != nil {
			t.Errorf("%q: free again: %v", op, err)
		}
		if _, unsaved := m.h.Kept(); unsaved != "" || len(m.health.Current()) != 0 {
			t.Errorf("%q: free again: %q", op, unsaved)
		}
		m.stop()
		m.start()
		if got := m.points(24 * time.Hour); len(got) != 48 {
			t.Errorf("%q: restored %d points", op, len(got))
		}
	}
}

// Files that are damaged, of another version or not files of ours at all cost what was in
// them, and nothing else.
func TestDamage(t *testing.T) {
	fill := func() *machine {
		m := newMachine(t)
		m.start()
		if err := m.run(20 * time.Hour); err != nil {
			t.Fatal(err)
		}
		m.stop()
		return m
	}
	var file string
	for _, f := range fill().disk.Files("history-", ".journal") {
		file = f
	}
	if file == "" {
		t.Fatal("no file")
	}
	rnd := rand.New(rand.NewPCG(1, 1))
	for what, harm := range map[string]func(b []byte) []byte{
		"torn":  func(b []byte) []byte { return b[:len(b)-7] },
		"a bit": func(b []byte) []byte { b[len(b)/2] ^= 4; return b },
		"zeros": func(b []byte) []byte { clear(b[len(b)/3 : len(b)/2]); return b },
		"empty": func(b []byte) []byte { return nil },
		"noise": func(b []byte) []byte {
			for i := range b {
				b[i] = byte(rnd.Uint32())
			}
			return b
		},
		"another version": func([]byte) []byte {
			return frames([]byte{9, 1, 2, 3}, []byte{codecVersion}, []byte{codecVersion, 1, 1, 200})
		},
		"larger than any": func(b []byte) []byte { return make([]byte, 33<<20) },
		"no file":         nil,
	} {
		m := fill()
		if harm == nil {
			if err := m.disk.Remove(file); err != nil {
				t.Fatal(err)
			}
		} else {
			m.disk.Put(file, harm(m.disk.Data(file)))
		}
		m.reboot(time.Minute)
		before := len(m.points(24 * time.Hour))
		if err := m.run(2 * time.Hour); err != nil {
			t.Errorf("%s: %v", what, err)
		}
		m.stop()
		m.reboot(time.Minute)
		got := m.points(24 * time.Hour)
		if len(got) < before+11 || !has(got, m.now) {
			t.Errorf("%s: %d points, then %d", what, before, len(got))
		}
		if (what == "torn" || what == "a bit" || what == "zeros") && before < 60 {
			t.Errorf("%s: %d points are left", what, before)
		}
	}
}

// frames makes the content of a file.
func frames(entries ...[]byte) []byte {
	d := durabletest.New()
	f := journal.NewFile(d, "x", nil)
	_, _ = f.Replay(func([]byte) {})
	_ = f.Rewrite(func(yield func([]byte) bool) {
		for _, e := range entries {
			if !yield(e) {
				return
			}
		}
	})
	return d.Data("x.journal")
}

// The files hold a week and not much more, and what they hold is what memory has.
func TestFilesAreBounded(t *testing.T) {
	m := newMachine(t)
	m.extra = 30
	m.start()
	for range 30 {
		if err := m.run(24 * time.Hour); err != nil {
			t.Fatal(err)
		}
		size := 0
		for _, f := range m.disk.Files("", "") {
			size += len(m.disk.Data(f))
		}
		if size > 2*maxFile+64<<10 {
			t.Fatalf("%d bytes", size)
		}
	}
	before := m.points(7 * 24 * time.Hour)
	m.stop()
	m.start()
	after := m.points(7 * 24 * time.Hour)
	if len(before) < 334 || len(after) < len(before)-1 {
		t.Errorf("%d points, restored %d", len(before), len(after))
	}
}

// The files take turns, also where each day brings a restart, and the newer one is found.
func TestTurnsOverRestarts(t *testing.T) {
	m := newMachine(t)
	for day := range 40 {
		m.start()
		if got := m.points(7 * 24 * time.Hour); day > 0 && (!has(got, m.now) || !has(got, later(start, m.now.Add(-6*24*time.Hour)))) {
			t.Fatalf("day %d: %d points", day, len(got))
		}
		if err := m.run(24 * time.Hour); err != nil {
			t.Fatal(err)
		}
		m.stop()
	}
	if n := len(m.disk.Files("history-", ".journal")); n != 2 || m.h.disk.number < 40*24 {
		t.Errorf("%d files, entry %d", n, m.h.disk.number)
	}
}

func later(a, b time.Time) time.Time {
	if b.After(a) {
		return b
	}
	return a
}

// When the number of quantities passes fineMost, points of another ring are written from then
// on, and none twice.
func TestMoreQuantitiesThanFit(t *testing.T) {
	m := newMachine(t)
	m.start()
	if err := m.run(20 * time.Hour); err != nil {
		t.Fatal(err)
	}
	before := m.disk.Written
	m.extra = fineMost
	if err := m.run(time.Hour); err != nil {
		t.Fatal(err)
	}
	if n := m.disk.Written - before; n > 3000 {
		t.Errorf("%d bytes in an hour", n)
	}
	if err := m.run(10 * time.Hour); err != nil {
		t.Fatal(err)
	}
	m.stop()
	m.start()
	got := m.points(7 * 24 * time.Hour)
	for h := range 31 {
		if !has(got, start.Add(time.Duration(h)*time.Hour)) {
			t.Errorf("nothing at %d h", h)
		}
	}
}

// A week of readings writes less than the budget a day, in whole blocks, however many
// quantities there are. A reading wakes nothing: what is written comes by the hour.
func TestBytesOfAWeek(t *testing.T) {
	for _, quantities := range []int{1, 8, 30, 64, 96} {
		synctest.Test(t, func(t *testing.T) {
			d := durabletest.New()
			sizes := map[string]int64{}
			written, blocksWritten, saves := int64(0), int64(0), 0
			d.Failing(func(op, name string) error {
				if op == "datasync" || op == "sync" {
					n := int64(len(d.Names[name].B))
					written += n - sizes[name]
					blocksWritten += blocks(sizes[name], n-sizes[name])
					sizes[name] = n
					if op == "sync" { // it gets its name after it
						sizes[strings.TrimSuffix(name, ".tmp")] = n
						delete(sizes, name)
					}
					saves++
				}
				return nil
			})
			now := clock.Fake()
			h := New(Options{
				Settings: Settings{Keep: OnDisk, Most: 96, Sensors: []Sensor{{"greenhouse", 10 * time.Second}}}, Clock: now,
				Files: Files{journal.NewFile(d, "history-1", nil), journal.NewFile(d, "history-2", nil)},
			})
			ctx, cancel := context.WithCancel(t.Context())
			done := make(chan error)
			go func() { done <- h.Run(ctx) }()
			rnd := rand.New(rand.NewPCG(1, 2))
			r := message.Record{Kind: message.Reading, Sensor: "greenhouse"}
			for i := range quantities {
				r.Fields = append(r.Fields, sensors.Field{Name: fmt.Sprint("temperature_", i)})
			}
			tick := time.NewTicker(20 * time.Second)
			const week = 7 * 24 * time.Hour
			for range week / (20 * time.Second) {
				<-tick.C
				r.Stamp = now.Now()
				for i := range r.Fields {
					r.Fields[i].Value = 20 + rnd.Float64() // never the same
				}
				h.Record(r)
			}
			tick.Stop()
			t.Logf("%d quantities: %d bytes a day, %d in blocks of %d, %d saves in a week", quantities, written/7, blocksWritten/7, blockBytes, saves)
			if blocksWritten/7 > 100_000 || written == 0 || saves > 7*24+8 {
				t.Errorf("%d quantities: %d bytes a day in blocks, want 100000 at most; %d saves", quantities, blocksWritten/7, saves)
			}
			cancel()
			if err := <-done; err != nil {
				t.Error(err)
			}
		})
	}
}

// A disk that fails is tried again after an hour, two, four and eight, then twice a day: a
// write that fails may be that of the whole file.
func TestFailingDiskIsSpared(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := durabletest.New()
		var tries []time.Duration
		now := clock.Fake()
		d.Failing(func(op, _ string) error {
			if op == "create" {
				tries = append(tries, now.Now().Mono.Round(time.Minute))
				return syscall.EROFS
			}
			return nil
		})
		h := New(Options{
			Settings: Settings{Keep: OnDisk, Most: 1, Sensors: []Sensor{{"air", time.Minute}}}, Clock: now,
			Files: Files{journal.NewFile(d, "history-1", nil), journal.NewFile(d, "history-2", nil)},
		})
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- h.Run(ctx) }()
		tick := time.NewTicker(time.Minute)
		for range 40 * 60 {
			<-tick.C
			h.Record(reading(now.Now(), temperature(20.0)))
		}
		tick.Stop()
		want := []time.Duration{time.Hour, 3 * time.Hour, 7 * time.Hour, 15 * time.Hour, 27 * time.Hour, 39 * time.Hour}
		if !slices.Equal(tries, want) {
			t.Errorf("tried after %v, want %v", tries, want)
		}
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

// History that is switched off takes nothing and writes nothing, and one in memory writes
// nothing; a reload decides.
func TestReload(t *testing.T) {
	m := newMachine(t)
	m.start()
	if err := m.run(3 * time.Hour); err != nil {
		t.Fatal(err)
	}
	size := func() (n int) {
		for _, f := range m.disk.Files("", "") {
			n += len(m.disk.Data(f))
		}
		return n
	}
	keep := func(where string) {
		c := m.settings()
		c.Keep = where
		m.h.Configure(c)
	}
	before := size()
	keep(InMemory)
	if err := m.run(3 * time.Hour); err != nil || size() != before || len(m.points(24*time.Hour)) != 36 {
		t.Errorf("in memory: %v, %d bytes, %d points", err, size()-before, len(m.points(24*time.Hour)))
	}
	keep(OnDisk)
	if err := m.run(time.Hour); err != nil || size() == before || len(m.points(24*time.Hour)) != 42 {
		t.Errorf("on disk again: %v, %d points", err, len(m.points(24*time.Hour)))
	}
	keep(Nowhere)
	before = size()
	if err := m.run(3 * time.Hour); err != nil || size() != before || m.points(24*time.Hour) != nil || len(m.h.List(m.Now())) != 0 {
		t.Errorf("nowhere: %v", err)
	}
	if n := testing.AllocsPerRun(100, func() { m.h.Record(reading(m.Now(), temperature(1.0))) }); n > 2 { // the record's own
		t.Errorf("%v allocations", n)
	}
	m.start()
	if got := m.points(24 * time.Hour); len(got) != 41 { // the seventh hour but its last step
		t.Errorf("restored %d points", len(got))
	}
}

// FuzzEntry reads any bytes as an entry: no panic, bounded memory, and only points that can
// be.
func FuzzEntry(f *testing.F) {
	m := newMachine(&testing.T{})
	m.start()
	_ = m.run(5 * time.Hour)
	entries, _ := m.h.encode(m.Now(), true)
	for _, e := range entries {
		f.Add(e)
	}
	f.Add([]byte{codecVersion})
	f.Fuzz(func(t *testing.T, entry []byte) {
		c := newMachine(t)
		h := New(Options{Settings: Settings{Keep: InMemory, Most: 4}, Clock: c})
		h.mu.Lock()
		l := newLoading(h, c.Now())
		if head, _, known := decodeHeader(entry); known {
			l.learn(head)
		}
		l.take(entry)
		l.take(entry)
		l.end()
		h.mu.Unlock()
		if h.series > 4 {
			t.Fatalf("%d series", h.series)
		}
		for _, s := range h.List(c.Now()) {
			found, _ := h.Find(Query{Sensor: s.Sensor, Quantity: s.Quantity, Until: 1 << 33, Points: 1000}, c.Now())
			for _, q := range found {
				for _, p := range q.Points {
					if !p.Gap && !(p.Min <= p.Mean && p.Mean <= p.Max) {
						t.Fatalf("%+v", p)
					}
				}
			}
		}
	})
}

// BenchmarkFind is what a plot of a week costs.
func BenchmarkFind(b *testing.B) {
	m := newMachine(nil)
	m.start()
	_ = m.run(7 * 24 * time.Hour)
	b.ReportAllocs()
	for b.Loop() {
		m.h.Find(Query{Sensor: "air", Quantity: "x", Since: m.now.Unix() - 7*86400, Until: m.now.Unix(), Points: 1000}, m.Now())
	}
}

// BenchmarkStart is what reading a week of 30 quantities adds to a start.
func BenchmarkStart(b *testing.B) {
	m := newMachine(nil)
	m.extra = 29
	m.start()
	_ = m.run(7 * 24 * time.Hour)
	if _, err := m.h.save(true); err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		m.start()
	}
}
