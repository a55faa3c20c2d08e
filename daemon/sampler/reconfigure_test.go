package sampler

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"fieldpost/sensors"
	"fieldpost/sensors/board"
)

// onBus is a sensor on a bus that is read every so often.
func onBus(name, chip, bus string, every time.Duration) sensors.Config {
	return sensors.Config{Name: name, Chip: chip, Every: every, Options: sensors.I2C{Bus: bus}}
}

// reconfigure makes the Sampler read other sensors, and returns how long that took.
func (r *rig) reconfigure(configs ...sensors.Config) time.Duration {
	r.t.Helper()
	before := time.Now()
	if err := r.s.Reconfigure(context.Background(), configs); err != nil {
		r.t.Errorf("reconfigure: %v", err)
	}
	took := time.Since(before)
	synctest.Wait()
	return took
}

// A sensor that stays is not touched and keeps its schedule; one that has changed is
// let go of before it is opened again, and keeps its numbers; one that is new is read
// at once and then in the rhythm of the others; one that is gone is gone, with what
// was wrong with it.
func TestReconfigure(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		stays, changes, goes, comes := &fake{}, &fake{}, &fake{sense: func(int) ([]sensors.Field, error) { return nil, errWire }}, &fake{}
		r := run(t, map[string]*fake{"stays": stays, "changes": changes, "goes": goes, "comes": comes},
			onBus("a", "stays", "i2c-1", 10*time.Second), onBus("b", "changes", "i2c-1", 10*time.Second), onBus("c", "goes", "i2c-7", time.Minute))
		comes.start = time.Now()
		pass(14 * time.Second)
		if took := r.reconfigure(onBus("b", "changes", "i2c-1", 20*time.Second), onBus("a", "stays", "i2c-1", 10*time.Second), onBus("d", "comes", "i2c-2", 5*time.Second)); took != 0 {
			t.Errorf("took %v", took)
		}
		pass(7 * time.Second)
		same(t, "stays", stays.taken(), []string{"0s open", "0s sense", "10s sense", "20s sense"})
		same(t, "changes", changes.taken(), []string{"0s open", "0s sense", "10s sense", "14s close", "14s open", "14s sense", "20s sense"})
		same(t, "comes", comes.taken(), []string{"14s open", "14s sense", "15s sense", "20s sense"})
		if steps := goes.taken(); steps[len(steps)-1] == "21s sense" || goes.opened != goes.closed {
			t.Errorf("goes: %q", steps)
		}
		same(t, "records", sorted(r.got()), sorted([]string{
			"0s a reading 1", "10s a reading 2", "20s a reading 3",
			"0s b reading 1", "10s b reading 2", "14s b reading 3", "20s b reading 4",
			"14s d reading 1", "15s d reading 2", "20s d reading 3",
		}))
		if now := r.s.o.Health.Current(); len(now) != 0 {
			t.Errorf("still wrong: %+v", now)
		}
		if _, _, err := r.s.Read(t.Context(), "c"); !errors.Is(err, ErrUnknown) {
			t.Errorf("read what is gone: %v", err)
		}
		if _, _, err := r.s.Read(t.Context(), "d"); err != nil {
			t.Errorf("read what is new: %v", err)
		}
		if took := r.stop(); took != 0 {
			t.Errorf("the end took %v", took)
		}
		for name, f := range map[string]*fake{"stays": stays, "changes": changes, "comes": comes} {
			if f.opened != f.closed {
				t.Errorf("%s: opened %d times, closed %d times", name, f.opened, f.closed)
			}
		}
	})
}

// Edges that have arrived are told before their sensor is let go of, those of a
// sensor that stays all through, and numbers go on.
func TestReconfigureLosesNoEdge(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		stays, changes := &fake{edges: true}, &fake{edges: true}
		door, gate := sensors.Config{Name: "door", Chip: "stays", Options: sensors.GPIO{Pin: "GPIO17"}}, sensors.Config{Name: "gate", Chip: "changes", Options: sensors.GPIO{Pin: "GPIO27"}}
		r := run(t, map[string]*fake{"stays": stays, "changes": changes}, door, gate)
		pass(time.Second)
		for i := range 3 {
			mono := time.Duration(i+1) * time.Second
			stays.tell(board.Edge{Active: i%2 == 0, Mono: mono})
			changes.tell(board.Edge{Active: i%2 == 0, Mono: mono})
			gate.Options = sensors.GPIO{Pin: "GPIO27", MaxEdges: i + 20}
			r.reconfigure(door, gate)
			stays.tell(board.Edge{Active: i%2 == 1, Mono: mono})
			pass(time.Second)
		}
		count := map[string]int{}
		for _, rec := range r.got() {
			_, what, _ := strings.Cut(rec, " ")
			name, what, _ := strings.Cut(what, " ")
			kind, _, _ := strings.Cut(what, " ")
			count[name+" "+kind]++
			if n := count[name+" reading"] + count[name+" edge"]; !strings.HasSuffix(rec, fmt.Sprint(" ", n)) {
				t.Errorf("number %d is %q", n, rec)
			}
		}
		if count["door edge"] != 6 || count["gate edge"] != 3 || count["door reading"] != 1 || count["gate reading"] != 4 {
			t.Errorf("told: %v", count)
		}
		if stays.opened != 1 || changes.opened != 4 || changes.closed != 3 {
			t.Errorf("opened %d and %d times, closed %d", stays.opened, changes.opened, changes.closed)
		}
		r.stop()
	})
}

// A line that changes its sensor is let go of by the one before it is requested by
// the other.
func TestReconfigureMovesALine(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var held sync.Mutex
		f := &fake{
			edges: true,
			open: func(int) error {
				if !held.TryLock() {
					return errWire
				}
				return nil
			},
			shut: func(int) error { held.Unlock(); return nil },
		}
		r := run(t, map[string]*fake{"line": f}, sensors.Config{Name: "door", Chip: "line", Options: sensors.GPIO{Pin: "GPIO17"}})
		r.reconfigure(sensors.Config{Name: "gate", Chip: "line", Options: sensors.GPIO{Pin: "GPIO17"}})
		pass(time.Second)
		same(t, "records", r.got(), []string{"0s door reading 1", "0s gate reading 1"})
		same(t, "faults", r.faults(), nil)
		r.stop()
	})
}

// A bus that is stuck holds up a change of its sensors for some seconds, and the
// scheduler not at all; what was wrong with the bus ends with its last sensor.
func TestReconfigureWithAStuckBus(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		release := make(chan struct{})
		stuck := &fake{sense: func(n int) ([]sensors.Field, error) {
			if n > 1 {
				<-release
			}
			return degrees(20)
		}}
		live := onBus("live", "live", "i2c-0", time.Second)
		r := run(t, map[string]*fake{"stuck": stuck, "live": {}}, onBus("a", "stuck", "i2c-1", 10*time.Second), live)
		pass(20 * time.Second)
		if now := r.s.o.Health.Current(); len(now) != 2 {
			t.Fatalf("wrong: %+v", now)
		}
		if took := r.reconfigure(live); took > 2*stopWait {
			t.Errorf("took %v", took)
		}
		if name, ok := r.beats.Check(); !ok {
			t.Errorf("%s does not turn", name)
		}
		if now := r.s.o.Health.Current(); len(now) != 0 {
			t.Errorf("still wrong: %+v", now)
		}
		before := len(r.got())
		pass(10 * time.Second)
		if n := len(r.got()) - before; n != 10 {
			t.Errorf("the other bus gave %d readings in 10s", n)
		}
		close(release)
		pass(time.Second)
		if took := r.stop(); took != 0 {
			t.Errorf("the end took %v", took)
		}
	})
}

// More sensors on a bus may make one wait for longer.
func TestReconfigureMovesTheDeadline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		slow := func(int) ([]sensors.Field, error) {
			<-time.After(3 * time.Second)
			return degrees(20)
		}
		one, two := &fake{worst: 2 * time.Second, sense: slow}, &fake{worst: 2 * time.Second, sense: slow}
		a, b := onBus("a", "one", "i2c-1", 20*time.Second), onBus("b", "two", "i2c-1", 20*time.Second)
		r := run(t, map[string]*fake{"one": one, "two": two}, a)
		pass(10 * time.Second)
		r.reconfigure(a, b)
		pass(20 * time.Second) // at 20s both are due, and one waits for the other: 6s, where 5s was the limit for one
		same(t, "faults", r.faults(), nil)
		r.reconfigure(a)
		if p := time.Duration(r.s.sensors.Load().buses[0].patience.Load()); p != 5*time.Second {
			t.Errorf("alone again it waits for %v", p)
		}
		r.stop()
	})
}

// Changes come one after another, whoever asks; each is carried out whole, nothing is
// left running, and one that comes too early, too late or is not waited for is told so.
func TestReconfigureAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fake{}
		r := run(t, map[string]*fake{"chip": f}, onBus("a", "chip", "i2c-1", time.Second))
		var all sync.WaitGroup
		for i := range 50 {
			all.Go(func() {
				if err := r.s.Reconfigure(t.Context(), []sensors.Config{onBus("a", "chip", "i2c-1", time.Second), onBus(fmt.Sprint("s", i), "chip", fmt.Sprint("i2c-", i%3), time.Second)}); err != nil {
					t.Error(err)
				}
			})
		}
		all.Wait()
		pass(time.Second)
		if set := r.s.sensors.Load(); len(set.runners) != 2 || len(set.buses) > 2 {
			t.Errorf("%d sensors, %d workers", len(set.runners), len(set.buses))
		}
		if n := f.opened - f.closed; n != 2 {
			t.Errorf("%d are open", n)
		}
		ended, end := context.WithCancel(context.Background())
		end()
		if err := r.s.Reconfigure(ended, nil); err != nil && !errors.Is(err, context.Canceled) {
			t.Errorf("not waited for: %v", err)
		}
		r.stop()
		if err := r.s.Reconfigure(t.Context(), nil); !errors.Is(err, ErrStopped) {
			t.Errorf("after the end: %v", err)
		}
	})
}

// The end may come at any moment of a change, and waits for no more than without.
func TestReconfigureAtTheEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		slow := &fake{shut: func(int) error { <-time.After(time.Second); return nil }}
		r := run(t, map[string]*fake{"slow": slow, "other": {}}, onBus("a", "slow", "i2c-1", time.Minute))
		done := make(chan error, 1)
		go func() {
			done <- r.s.Reconfigure(context.Background(), []sensors.Config{onBus("a", "other", "i2c-1", time.Minute)})
		}()
		pass(500 * time.Millisecond)
		if took := r.stop(); took > time.Second {
			t.Errorf("the end took %v", took)
		}
		if err := <-done; err != nil && !errors.Is(err, ErrStopped) {
			t.Error(err)
		}
		if slow.opened != slow.closed {
			t.Errorf("opened %d times, closed %d times", slow.opened, slow.closed)
		}
	})
}

// Somebody who waits for a reading of a sensor that is taken away is told so at once.
func TestReadOfASensorThatGoes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fake{sense: func(n int) ([]sensors.Field, error) {
			if n > 1 {
				<-time.After(time.Second)
			}
			return degrees(20)
		}}
		r := run(t, map[string]*fake{"chip": f}, onBus("a", "chip", "i2c-1", time.Minute))
		said := make(chan error, 2)
		for range 2 { // one is being read, the other waits
			go func() {
				_, _, err := r.s.Read(context.Background(), "a")
				said <- err
			}()
		}
		synctest.Wait()
		r.reconfigure()
		for range 2 {
			var failed *ReadError
			if err := <-said; !errors.As(err, &failed) {
				t.Errorf("got %v", err)
			}
		}
		r.stop()
	})
}

// A request that ends with the Sampler has nobody to tell, however many sensors there
// were at its start.
func TestReconfigureLeavesNobodyBehind(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fake{sense: func(n int) ([]sensors.Field, error) {
			if n > 2 {
				<-time.After(time.Second)
			}
			return nil, errWire
		}}
		r := run(t, map[string]*fake{"chip": f})
		r.reconfigure(onBus("a", "chip", "i2c-1", time.Minute), onBus("b", "chip", "i2c-2", time.Minute))
		pass(1500 * time.Millisecond) // each has failed, and is being read again
		if took := r.stop(); took > time.Second {
			t.Errorf("the end took %v", took)
		}
	})
}
