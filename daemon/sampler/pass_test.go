package sampler

import (
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"fieldpost/daemon/clock"
	"fieldpost/daemon/message"
	"fieldpost/sensors"
	"fieldpost/sensors/board"
)

// converting is a chip whose conversion takes so long.
func converting(long time.Duration) *fake {
	f := &fake{}
	f.sense = func(n int) ([]sensors.Field, error) {
		f.board.Pause(long)
		f.step("value", new(int))
		return degrees(float64(n))
	}
	return f
}

// last returns the last n elements.
func last[T any](list []T, n int) []T { return list[max(0, len(list)-n):] }

// The conversions of a tick are all begun before the first is waited for, and those that end at
// about the same time wake the bus up once. All of the tick is emitted at once.
func TestConversionsOverlap(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fast, slow, other := converting(17*time.Millisecond), converting(26*time.Millisecond), converting(20*time.Millisecond)
		r := runWith(t, Options{Board: &fakeBoard{}, Run: 7, Linger: 50 * time.Millisecond}, map[string]*fake{"fast": fast, "slow": slow, "other": other, "at once": {}},
			at("a", "fast", "i2c-1", 1), at("b", "slow", "i2c-1", 2), at("c", "at once", "i2c-1", 3), at("d", "other", "i2c-3", 4), at("e", "at once", "", 0))
		pass(2500 * time.Millisecond)
		for _, x := range []struct {
			chip *fake
			want []string
		}{{fast, []string{"2s sense", "2.026s value"}}, {slow, []string{"2s sense", "2.026s value"}}, {other, []string{"2s sense", "2.02s value"}}} {
			same(t, "steps", last(x.chip.taken(), 2), x.want)
		}
		same(t, "records", sorted(last(r.got(), 5)), []string{"2.026s a reading 3", "2.026s b reading 3", "2.02s d reading 3", "2s c reading 3", "2s e reading 3"})
		if n := r.emitted[len(r.emitted)-1]; n != 5 {
			t.Errorf("at once came %d records; all: %v", n, r.emitted)
		}
		r.stop()
	})
}

// at is a sensor at an address of a bus.
func at(name, chip, bus string, address uint16) sensors.Config {
	return sensors.Config{Name: name, Chip: chip, Every: time.Second, Options: sensors.I2C{Bus: bus, Address: address}}
}

// A conversion that takes far longer than the others delays none of them, and readings wait
// for it no longer than they may linger.
func TestLongConversionDelaysNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		short, long := converting(20*time.Millisecond), converting(200*time.Millisecond)
		r := runWith(t, Options{Board: &fakeBoard{}, Run: 7, Linger: 50 * time.Millisecond}, map[string]*fake{"short": short, "long": long},
			at("a", "long", "i2c-1", 1), at("b", "short", "i2c-1", 2))
		pass(2069 * time.Millisecond)
		if n := len(r.got()); n != 4 {
			t.Errorf("%d records before the time is over", n)
		}
		pass(2 * time.Millisecond)
		same(t, "records", last(r.got(), 1), []string{"2.02s b reading 3"})
		pass(time.Second / 2)
		same(t, "records", last(r.got(), 1), []string{"2.2s a reading 3"})
		r.stop()
	})
}

// The first reading of a run is emitted when it is made; those of later ticks wait for each other.
func TestFirstReadingDoesNotLinger(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := runWith(t, Options{Board: &fakeBoard{}, Run: 7, Linger: 50 * time.Millisecond}, map[string]*fake{"slow": converting(40 * time.Millisecond), "at once": {}},
			at("a", "at once", "i2c-1", 1), at("b", "slow", "i2c-3", 2))
		pass(time.Millisecond)
		same(t, "records", r.got(), []string{"0s a reading 1"})
		pass(time.Second)
		same(t, "records", sorted(r.got()), []string{"0s a reading 1", "40ms b reading 1"})
		pass(50 * time.Millisecond)
		same(t, "records", sorted(last(r.got(), 2)), []string{"1.04s b reading 2", "1s a reading 2"})
		r.stop()
	})
}

// Without a linger time each reading is emitted when it is made.
func TestNoLinger(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := run(t, map[string]*fake{"slow": converting(26 * time.Millisecond), "at once": {}}, at("a", "slow", "i2c-1", 1), at("b", "at once", "i2c-1", 2))
		pass(2010 * time.Millisecond)
		same(t, "records", last(r.got(), 1), []string{"2s b reading 3"})
		r.s.SetLinger(50 * time.Millisecond)
		pass(time.Second)
		same(t, "records", last(r.got(), 1), []string{"2.026s a reading 3"})
		r.s.SetLinger(0)
		same(t, "records", last(r.got(), 1), []string{"3s b reading 4"})
		r.stop()
	})
}

// A transaction that never ends delays nothing of what was read before it, on whatever bus,
// for longer than readings may linger.
func TestStuckInAPass(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		release := make(chan struct{})
		stuck := &fake{}
		stuck.sense = func(n int) ([]sensors.Field, error) {
			stuck.board.Pause(10 * time.Millisecond)
			if n == 3 {
				<-release
			}
			return degrees(20)
		}
		r := runWith(t, Options{Board: &fakeBoard{}, Run: 7, Linger: 50 * time.Millisecond}, map[string]*fake{"stuck": stuck, "slow": converting(40 * time.Millisecond), "other": converting(40 * time.Millisecond), "at once": {}},
			at("a", "slow", "i2c-1", 1), at("b", "stuck", "i2c-1", 2), at("c", "at once", "i2c-1", 3), at("d", "other", "i2c-3", 4))
		pass(2060 * time.Millisecond)
		same(t, "records", sorted(last(r.got(), 2)), []string{"2.04s d reading 3", "2s c reading 3"})
		pass(7 * time.Second) // patience is 4 x 1 s
		same(t, "faults", sorted(changed(r)), []string{"a read_failed raised", "b read_failed raised", "c read_failed raised", "i2c-1 bus_stuck raised"})
		for _, c := range r.s.o.Health.Current() {
			if want := "i2c-1 did not answer within 3s"; c.Subject == "a" && c.Detail != want {
				t.Errorf("detail is %q, want %q", c.Detail, want)
			}
			if c.Subject == "i2c-1" && !strings.Contains(c.Detail, `for sensor "b"`) {
				t.Errorf("detail is %q", c.Detail)
			}
		}
		close(release)
		pass(5 * time.Second)
		if now := r.s.o.Health.Current(); len(now) != 0 {
			t.Errorf("still wrong: %+v", now)
		}
		seqs := map[string]uint64{}
		for _, rec := range r.records {
			if seqs[rec.Sensor]++; seqs[rec.Sensor] != rec.Seq {
				t.Errorf("%s has %d after %d", rec.Sensor, rec.Seq, seqs[rec.Sensor]-1)
			}
		}
		r.stop()
	})
}

// What a pass has begun when it is given up ends, and is not published; nothing more is begun.
func TestLatePass(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		slow, later := converting(26*time.Millisecond), &fake{}
		slow.sense = func(n int) ([]sensors.Field, error) {
			if n == 2 {
				slow.board.Pause(26 * time.Millisecond)
				<-time.After(3 * time.Second)
			}
			slow.board.Pause(26 * time.Millisecond)
			return degrees(float64(n))
		}
		a, b := at("a", "slow", "i2c-1", 1), at("b", "later", "i2c-1", 1) // at one place, so one after the other
		a.Every, b.Every = time.Minute, time.Minute
		r := run(t, map[string]*fake{"slow": slow, "later": later}, a, b)
		pass(70 * time.Second)
		faults := sorted(r.faults())
		if i := slices.Index(faults, "1m3.052s b read_failed cleared"); i >= 0 {
			faults[i] = "1m3.078s b read_failed cleared" // it went before a, which is as good: both wait for the worker
		}
		same(t, "faults", sorted(faults), []string{"1m2s a read_failed raised", "1m2s b read_failed raised", "1m3.078s a read_failed cleared", "1m3.078s b read_failed cleared"})
		if slow.sensed != 3 || later.sensed != 2 {
			t.Errorf("read %d and %d times", slow.sensed, later.sensed)
		}
		for _, rec := range r.records {
			if rec.Sensor == "a" && rec.Fields[0].Value == 2.0 {
				t.Errorf("published: %+v", rec)
			}
		}
		r.stop()
	})
}

// Chips at one place are never read at once.
func TestOnePlaceAtATime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		one, two := converting(26*time.Millisecond), converting(26*time.Millisecond)
		r := run(t, map[string]*fake{"one": one, "two": two}, at("a", "one", "i2c-1", 1), at("b", "two", "i2c-1", 1))
		pass(1900 * time.Millisecond)
		same(t, "steps", last(one.taken(), 2), []string{"1s sense", "1.026s value"})
		same(t, "steps", last(two.taken(), 2), []string{"1.026s sense", "1.052s value"})
		r.stop()
	})
}

// A read that fails in a pass is repeated once, at once; a driver that panics there is its
// sensor's fault, and opened again.
func TestFailureInAPass(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fails, panics := &fake{}, &fake{}
		fails.sense = func(n int) ([]sensors.Field, error) {
			fails.board.Pause(5 * time.Millisecond)
			if n == 3 {
				return nil, sensors.ErrFault
			}
			return degrees(20)
		}
		panics.sense = func(n int) ([]sensors.Field, error) {
			panics.board.Pause(5 * time.Millisecond)
			if n == 3 {
				panic("boom")
			}
			return degrees(20)
		}
		r := run(t, map[string]*fake{"fails": fails, "panics": panics, "at once": {}}, at("a", "fails", "i2c-1", 1), at("b", "panics", "i2c-3", 2), at("c", "at once", "i2c-1", 3))
		pass(3500 * time.Millisecond)
		same(t, "faults", r.faults(), nil)
		same(t, "steps", fails.taken()[3:], []string{"2s sense", "2.006s close", "2.006s open", "2.006s sense", "3s sense"})
		if n := len(r.got()); n != 12 {
			t.Errorf("%d records, want 3 x 4: %q", n, r.got())
		}
		r.stop()
	})
}

// An edge goes at once, and takes along the readings that wait.
func TestEdgeTakesAlong(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		door := &fake{edges: true}
		r := runWith(t, Options{Board: &fakeBoard{}, Run: 7, Linger: 50 * time.Millisecond}, map[string]*fake{"door": door, "slow": converting(40 * time.Millisecond)},
			sensors.Config{Name: "door", Chip: "door", Every: time.Second}, at("a", "slow", "i2c-1", 1))
		pass(2010 * time.Millisecond)
		n := len(r.got())
		door.tell(board.Edge{Active: true, Mono: 2010 * time.Millisecond})
		synctest.Wait()
		same(t, "records", r.got()[n:], []string{"2s door reading 3", "2.01s door edge 4"})
		r.stop()
	})
}

// What is held at the end, or of a sensor that goes, is emitted before.
func TestEndEmitsWhatIsHeld(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := runWith(t, Options{Board: &fakeBoard{}, Run: 7, Linger: 400 * time.Millisecond}, map[string]*fake{"slow": converting(300 * time.Millisecond), "at once": {}},
			at("a", "at once", "i2c-1", 1), at("b", "slow", "i2c-3", 2), at("c", "at once", "i2c-1", 3))
		pass(2100 * time.Millisecond)
		n := len(r.got())
		r.reconfigure(at("b", "slow", "i2c-3", 2), at("c", "at once", "i2c-1", 3))
		same(t, "records", r.got()[n:], []string{"2s a reading 3", "2s c reading 3"})
		pass(900 * time.Millisecond)
		n = len(r.got())
		pass(100 * time.Millisecond)
		r.stop()
		same(t, "records", r.got()[n:], []string{"3s c reading 4", "3.3s b reading 4"})
	})
}

// The clock's state is asked for once in a pass.
func TestClockOncePerPass(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var asked atomic.Int64
		now := clock.Fake()
		o := Options{Board: &fakeBoard{}, Run: 7, Clock: clock.Func(func() clock.Stamp {
			asked.Add(1)
			return now.Now()
		})}
		r := runWith(t, o, map[string]*fake{"a": {}, "b": converting(26 * time.Millisecond), "c": converting(26 * time.Millisecond)}, at("a", "a", "i2c-1", 1), at("b", "b", "i2c-1", 2), at("c", "c", "i2c-1", 3))
		pass(900 * time.Millisecond)
		before := asked.Load()
		pass(time.Second)
		if n := asked.Load() - before; n != 1 {
			t.Errorf("asked %d times", n)
		}
		same(t, "records", sorted(last(r.got(), 3)), []string{"1.026s b reading 2", "1.026s c reading 2", "1s a reading 2"})
		r.stop()
	})
}

// After a change of the sensors there are no more coroutines than are needed.
func TestReconfigureEndsCoroutines(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fakes, configs := map[string]*fake{}, []sensors.Config{}
		for n := range uint16(8) {
			name := fmt.Sprint("s", n)
			fakes[name] = converting(26 * time.Millisecond)
			configs = append(configs, at(name, name, "i2c-1", n+1))
		}
		r := run(t, fakes, configs...)
		pass(2500 * time.Millisecond)
		bus := r.s.sensors.Load().buses[0]
		if n := len(bus.idle); n != 8 {
			t.Errorf("%d coroutines for 8 sensors", n)
		}
		r.reconfigure(configs[:2]...)
		pass(2 * time.Second)
		if n := len(bus.idle); n != 2 {
			t.Errorf("%d coroutines for 2 sensors", n)
		}
		r.stop()
		if n := len(bus.idle); n != 0 {
			t.Errorf("%d coroutines after the end", n)
		}
	})
}

// The scheduler, which begins reads and leaves some, does not wait for whoever takes the records.
func TestSchedulerDoesNotWaitForEmit(t *testing.T) {
	taking, release := make(chan struct{}), make(chan struct{})
	c := &collector{o: &Options{Counts: new(Counts), Emit: func([]message.Record) {
		close(taking)
		<-release
	}}}
	added := make(chan struct{})
	go func() {
		defer close(added)
		c.add(message.Record{Sensor: "a"})
	}()
	<-taking
	r := &runner{}
	c.beginRead(r)
	if !c.countEnded(r) || c.countEnded(r) {
		t.Error("the only read was not the last one, or was it twice")
	}
	close(release)
	<-added
}
