package sampler

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"fieldpost/daemon/clock"
	"fieldpost/daemon/health"
	"fieldpost/daemon/message"
	"fieldpost/sensors"
	"fieldpost/sensors/board"
	"fieldpost/sensors/sim"
)

// meter is an input whose level is that of its wire.
func meter(maxEdges int) sensors.Config {
	return sensors.Config{Name: "meter", Chip: "gpio", Every: time.Hour, Options: sensors.GPIO{Pin: "GPIO17", MaxEdges: maxEdges}}
}

// chatter has a line chatter for so long, and gives how often it changed.
func chatter(l *sim.Line, changes float64, d time.Duration) int {
	ctx, cancel := context.WithTimeout(context.Background(), d)
	defer cancel()
	defer synctest.Wait()
	return l.Chatter(ctx, changes)
}

// told is what a receiver knows of a sensor's line by its edges.
type told struct {
	singles, summaries int
	changes            int64
	level              any
	at                 time.Duration // of the last
}

// heard sums up the edges of a sensor, and checks that its records are numbered.
func heard(r *rig, sensor string) (sum told) {
	r.t.Helper()
	r.mu.Lock()
	defer r.mu.Unlock()
	seq := uint64(0)
	for _, rec := range r.records {
		if rec.Sensor != sensor {
			continue
		}
		if seq++; rec.Seq != seq {
			r.t.Errorf("record %d has the number %d", seq, rec.Seq)
		}
		sum.level, sum.at = rec.Fields[0].Value, rec.Stamp.Mono
		if rec.Kind != message.Edge {
			continue
		}
		changes := rec.Fields[1].Value.(int64)
		sum.changes += changes
		if changes == 1 {
			sum.singles++
		} else {
			sum.summaries++
		}
	}
	return sum
}

// Hum on an open wire is told change by change for a moment, then once a second
// with their count; the fault ends ten calm seconds later. No change is lost and
// the level is true.
func TestChatter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := sim.New()
		l := b.Line("GPIO17")
		r := onBoard(t, b, meter(0))
		pass(10 * time.Second)
		made := chatter(l, 100, 30*time.Second)
		pass(20 * time.Second)
		got := heard(r, "meter")
		if got.changes != int64(made) || made < 2990 {
			t.Errorf("told %d changes of %d", got.changes, made)
		}
		// 80 tokens, and 40 more in the second that they last.
		if got.singles < 80 || got.singles > 135 || got.summaries < 28 || got.summaries > 30 {
			t.Errorf("told %d changes alone and %d summaries", got.singles, got.summaries)
		}
		if high, _ := l.Level(); got.level != high {
			t.Errorf("level %v was told last, and it is %v", got.level, high)
		}
		faults := r.faults()
		if len(faults) != 2 || !strings.HasPrefix(faults[0], "11.3") || !strings.Contains(faults[0], "meter chatters raised") ||
			!strings.HasPrefix(faults[1], "50.3") || !strings.Contains(faults[1], "meter chatters cleared") {
			t.Errorf("faults are %q", faults)
		}
		for range 3 { // and then each change is told by itself again
			l.Drive(true)
			l.Drive(false)
			pass(time.Second)
		}
		if again := heard(r, "meter"); again.singles < got.singles+6 {
			t.Errorf("%d changes were told alone after the end, want 6", again.singles-got.singles)
		}
		r.stop()
	})
}

// The detail of the fault says how often the line changes.
func TestChatterDetail(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := sim.New()
		r := onBoard(t, b, meter(0))
		chatter(b.Line("GPIO17"), 1000, 5*time.Second)
		now := r.s.o.Health.Current()
		if len(now) != 1 || !strings.HasPrefix(now[0].Detail, "999 ") && !strings.HasPrefix(now[0].Detail, "1000 ") || !strings.HasSuffix(now[0].Detail, " changes/s; max_edges allows 40/s") {
			t.Errorf("faults are %+v", now)
		}
		r.stop()
	})
}

// A meter's fastest pulses are told one by one: 30 ms on, 30 ms off.
func TestMeterDoesNotChatter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := sim.New()
		r := onBoard(t, b, meter(0))
		made := chatter(b.Line("GPIO17"), 1000.0/30, time.Minute)
		if got := heard(r, "meter"); got.singles != made || got.summaries > 0 || len(r.faults()) > 0 {
			t.Errorf("told %+v of %d changes, faults %q", got, made, r.faults())
		}
		r.stop()
	})
}

// A rate of its own: what would chatter does not, and the other way round.
func TestMaxEdges(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := sim.New()
		slow := meter(1)
		slow.Name, slow.Options = "slow", sensors.GPIO{Pin: "GPIO22", MaxEdges: 1}
		r := onBoard(t, b, meter(300), slow)
		ended := make(chan int)
		go func() {
			within, cancel := context.WithTimeout(context.Background(), 20*time.Second)
			defer cancel()
			ended <- b.Line("GPIO22").Chatter(within, 3)
		}()
		made := chatter(b.Line("GPIO17"), 250, 20*time.Second)
		<-ended
		pass(time.Second)
		if got := heard(r, "meter"); got.singles != made {
			t.Errorf("meter told %+v of %d changes", got, made)
		}
		if got := heard(r, "slow"); got.summaries == 0 {
			t.Errorf("slow told %+v", got)
		}
		same(t, "faults", changed(r), []string{"slow chatters raised"})
		r.stop()
	})
}

// Chattering that ends within a second leaves the true level told, a second
// later at most; a stop tells it at once.
func TestChatterEndsTrue(t *testing.T) {
	for _, stop := range []bool{false, true} {
		for _, high := range []bool{false, true} {
			t.Run(fmt.Sprintf("stop %v, high %v", stop, high), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					b := sim.New()
					l := b.Line("GPIO17")
					r := onBoard(t, b, meter(0))
					made := chatter(l, 200, 5*time.Second+330*time.Millisecond)
					for is, _ := l.Level(); is != high; is, _ = l.Level() {
						l.Drive(!is)
						made++
					}
					synctest.Wait()
					if stop {
						r.stop()
					} else {
						pass(time.Second)
					}
					if got := heard(r, "meter"); got.level != high || got.changes != int64(made) {
						t.Errorf("told %+v of %d changes, the last to %v", got, made, high)
					}
					if !stop {
						r.stop()
					}
				})
			})
		}
	}
}

// A contact that is bad now and then stays one fault.
func TestChatterHysteresis(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := sim.New()
		r := onBoard(t, b, meter(0))
		for range 20 {
			chatter(b.Line("GPIO17"), 100, 4*time.Second)
			pass(6 * time.Second)
		}
		chatter(b.Line("GPIO17"), 30, time.Minute) // below the rate, but not calm
		same(t, "faults", changed(r), []string{"meter chatters raised"})
		chatter(b.Line("GPIO17"), 10, time.Minute)
		same(t, "faults", changed(r), []string{"meter chatters raised", "meter chatters cleared"})
		r.stop()
	})
}

// What the kernel dropped of a line that chatters is counted and no fault of its
// own. A line that does not chatter has lost changes because we were late: that
// is a fault, and the count of changes is right all the same.
func TestLostEdgesAreCounted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fake{}
		fakes, c := door(f)
		r := run(t, fakes, c)
		pass(10 * time.Second)
		f.tell(board.Edge{Active: true, Mono: time.Second})
		f.tell(board.Edge{Active: false, Mono: 10 * time.Second, Lost: 266}) // 30 a second, while we stood
		synctest.Wait()
		if got := heard(r, "door"); got.singles != 1 || got.summaries != 1 || got.changes != 268 {
			t.Errorf("told %+v", got)
		}
		same(t, "faults", changed(r), []string{"door edges_lost raised"})
		pass(2 * time.Minute)
		f.tell(board.Edge{Active: true, Mono: 130 * time.Second, Lost: 100000})
		f.tell(board.Edge{Active: false, Mono: 130 * time.Second, Lost: 10})
		pass(1500 * time.Millisecond)
		if got := heard(r, "door"); got.summaries != 2 || got.changes != 268+100001+11 {
			t.Errorf("told %+v", got)
		}
		same(t, "faults", changed(r), []string{"door edges_lost raised", "door edges_lost cleared", "door chatters raised"})
		r.stop()
	})
}

// A line that is opened again while it chatters: what it had to tell comes before
// what is read of the new one, so that the level told last is the present one.
func TestChatterOverReopen(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := sim.New()
		l := b.Line("GPIO17")
		c := meter(0)
		c.Every = time.Second
		r := onBoard(t, b, c)
		pass(100 * time.Millisecond)
		chatter(l, 500, 2*time.Second)
		l.Fail(errors.New("input/output error"))
		made := chatter(l, 500, 10*time.Second)
		l.Drive(true)
		pass(50 * time.Millisecond)
		l.Fail(nil)
		pass(2 * time.Minute)
		if got := heard(r, "meter"); made == 0 || got.level != true {
			t.Errorf("told %+v; the line is high", got)
		}
		if now := r.s.o.Health.Current(); len(now) > 0 {
			t.Errorf("still wrong: %+v", now)
		}
		r.stop()
	})
}

// What a line had to tell when it was opened again comes before what is read of
// the new one, however long it takes to tell it: the level told last is the
// present one.
func TestReopenTellsTheOldLineFirst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fake{sense: func(n int) ([]sensors.Field, error) {
			if n > 1 && n <= 7 {
				return nil, errWire
			}
			return degrees(20)
		}}
		f.shut = func(n int) error {
			if n == 1 { // its line changes a last time, very often
				f.tell(board.Edge{Active: true, Mono: 10 * time.Second, Lost: 1000})
			}
			return nil
		}
		fakes, c := door(f)
		c.Every = 10 * time.Second
		steady := clock.Fake()
		r := runWith(t, Options{Board: &fakeBoard{}, Run: 7, Clock: clock.Func(func() clock.Stamp {
			<-time.After(10 * time.Millisecond)
			return steady.Now()
		})}, fakes, c)
		pass(30 * time.Second)
		kinds := []string{}
		for _, rec := range r.got() {
			kinds = append(kinds, strings.Join(strings.Fields(rec)[2:], " "))
		}
		same(t, "records", kinds[:3], []string{"reading 1", "edge 2", "reading 3"})
		r.stop()
	})
}

// Whatever a wire does: every change is counted, the level told last is the true
// one, and no second has more messages than the rate, its burst and a summary.
func TestChatterProperty(t *testing.T) {
	for seed := range uint64(60) {
		synctest.Test(t, func(t *testing.T) {
			rnd := rand.New(rand.NewPCG(seed, 9))
			b := sim.New()
			l := b.Line("GPIO17")
			c := meter(1 + rnd.IntN(60))
			r := onBoard(t, b, c)
			pass(time.Millisecond)
			made := 0
			for range 12 {
				switch d := time.Duration(1+rnd.IntN(8000)) * time.Millisecond; rnd.IntN(3) {
				case 0:
					pass(d)
				case 1:
					made += chatter(l, 0.2+10*rnd.Float64(), d)
				case 2:
					made += chatter(l, 2000*rnd.Float64(), d)
				}
			}
			r.stop()
			high, _ := l.Level()
			if got := heard(r, "meter"); got.changes != int64(made) || got.level != high {
				t.Errorf("seed %d: told %+v of %d changes, the level is %v", seed, got, made, high)
			}
			crowded(t, r, c.Options.(sensors.GPIO).MaxEdges)
			if chatters, raised := r.s.o.Health.Current(), changed(r); len(chatters) > 1 || len(raised) > 0 && !strings.Contains(raised[0], string(health.Chatters)) {
				t.Errorf("seed %d: faults %q", seed, raised)
			}
		})
	}
}

// crowded looks for a second with too many messages.
func crowded(t *testing.T, r *rig, rate int) {
	t.Helper()
	r.mu.Lock()
	defer r.mu.Unlock()
	most := int(newBucket(rate).size) + rate + 3
	for i := range r.records {
		if j := i + most; j < len(r.records) && r.records[j].Stamp.Mono-r.records[i].Stamp.Mono < time.Second {
			t.Errorf("more than %d messages in a second from %v on", most, r.records[i].Stamp.Mono)
			return
		}
	}
}

// BenchmarkChatteringEdge is what one change of a line that chatters costs, from
// the board's queue to the summary.
func BenchmarkChatteringEdge(b *testing.B) {
	o := Options{Clock: clock.Fake(), Health: health.New(func(health.Change) {}), Counts: new(Counts), Emit: func([]message.Record) {}}
	r := newRunner(&o, &collector{o: &o}, meter(0), sensors.Chip{}, &busWorker{})
	f := newFollower(r)
	lines := make(chan board.Edge, 1)
	b.ReportAllocs()
	for n := range b.N {
		lines <- board.Edge{Active: n%2 == 0, Mono: time.Duration(n) * time.Millisecond}
		f.handleEdge(<-lines)
		if n%1000 == 999 {
			f.summarise(f.since.Add(time.Second))
		}
	}
}
