package sampler

import (
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"fieldpost/daemon/clock"
	"fieldpost/daemon/health"
	"fieldpost/daemon/message"
	"fieldpost/sensors"
	"fieldpost/sensors/board"
)

var errWire = errors.New("wire fell off")

func TestFirstAtOnceThenEvery(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fake{}
		r := run(t, map[string]*fake{"chip": f}, sensors.Config{Name: "air", Chip: "chip", Every: 10 * time.Second, Options: sensors.I2C{Bus: "i2c-1"}})
		pass(35 * time.Second)
		same(t, "records", r.got(), []string{"0s air reading 1", "10s air reading 2", "20s air reading 3", "30s air reading 4"})
		r.stop()
		same(t, "steps", f.taken(), []string{"0s open", "0s sense", "10s sense", "20s sense", "30s sense", "35s close"})
		same(t, "faults", r.faults(), nil)
		want := message.Record{
			Kind: message.Reading, Sensor: "air", Run: 7, Seq: 1,
			Stamp:  clock.Stamp{Boot: "test", Wall: r.start.UTC(), Synced: true},
			Fields: []sensors.Field{{Name: "temperature", Value: 20.0}},
		}
		if !r.records[0].Stamp.Wall.Equal(want.Stamp.Wall) {
			t.Errorf("wall clock is %v, want %v", r.records[0].Stamp.Wall, want.Stamp.Wall)
		}
		want.Stamp.Wall = r.records[0].Stamp.Wall
		if !reflect.DeepEqual(r.records[0], want) {
			t.Errorf("got  %+v\nwant %+v", r.records[0], want)
		}
	})
}

// The chip's own period is used where the configuration gives none.
func TestEveryOfTheChip(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := run(t, map[string]*fake{"chip": {every: time.Minute}, "once": {}},
			sensors.Config{Name: "a", Chip: "chip"}, sensors.Config{Name: "b", Chip: "once"})
		pass(61 * time.Second)
		got := r.got()
		if n := len(got); n != 3 || !strings.HasPrefix(got[2], "1m0s a") {
			t.Errorf("records are %q, want two of a and, as it has no period, one of b", got)
		}
		r.stop()
	})
}

// When the last read of those that are due together has ended, Rest is told, once and after
// all are emitted; also after one that fails, and after sensors are gone.
func TestRest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var rests []string
		var now atomic.Pointer[rig]
		slow := &fake{every: time.Minute, sense: func(int) ([]sensors.Field, error) {
			<-time.After(30 * time.Millisecond)
			return []sensors.Field{{Name: "temperature", Value: 20.0}}, nil
		}}
		fails := &fake{every: time.Minute, sense: func(int) ([]sensors.Field, error) { return nil, sensors.ErrFault }}
		start := time.Now()
		o := Options{Board: &fakeBoard{}, Run: 7, Rest: func() {
			n := 0
			if r := now.Load(); r != nil {
				n = len(r.got())
			}
			rests = append(rests, fmt.Sprint(time.Since(start), " ", n))
		}}
		a, b, c := sensors.Config{Name: "a", Chip: "chip"}, sensors.Config{Name: "b", Chip: "slow"}, sensors.Config{Name: "c", Chip: "fails"}
		r := runWith(t, o, map[string]*fake{"chip": {every: time.Minute}, "slow": slow, "fails": fails}, a, b, c)
		now.Store(r)
		pass(500 * time.Millisecond)
		same(t, "rests", rests, []string{"30ms 2"})
		if err := r.s.Reconfigure(t.Context(), []sensors.Config{a, b}); err != nil {
			t.Fatal(err)
		}
		pass(time.Minute)
		same(t, "rests", rests, []string{"30ms 2", "1m0.03s 4"})
		r.stop()
	})
}

// Other loops wait for the seconds at which sensors are read, and the scheduler itself for every
// second one where nothing is due.
func TestSchedulerSetsThePace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := run(t, map[string]*fake{"chip": {every: time.Minute}}, sensors.Config{Name: "a", Chip: "chip"})
		pass(300 * time.Millisecond)
		other := r.beats.Register("other")
		if d := other.Wait(time.Now(), time.Second); d != 700*time.Millisecond {
			t.Errorf("another loop waits for %v", d)
		}
		if err := r.s.Reconfigure(t.Context(), nil); err != nil { // wakes it between two seconds
			t.Fatal(err)
		}
		other.End()
		pass(2*health.IdleEvery - 300*time.Millisecond)
		if _, age := r.beats.Slowest(); age != 0 {
			t.Errorf("the scheduler woke up %v before", age)
		}
		r.stop()
	})
}

// The machine wakes up once for all that is due in one moment.
func TestReadsFallTogether(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := run(t, map[string]*fake{"chip": {}},
			sensors.Config{Name: "a", Chip: "chip", Every: 8 * time.Second}, sensors.Config{Name: "b", Chip: "chip", Every: 8 * time.Second, Options: sensors.I2C{Bus: "i2c-1"}},
			sensors.Config{Name: "c", Chip: "chip", Every: 8 * time.Second, Options: sensors.I2C{Bus: "i2c-1"}}, sensors.Config{Name: "d", Chip: "chip", Every: 16 * time.Second})
		pass(17 * time.Second)
		got := r.got()
		slices.SortStableFunc(got, func(a, b string) int { return strings.Compare(strings.Fields(a)[1], strings.Fields(b)[1]) })
		same(t, "records", got, []string{
			"0s a reading 1", "8s a reading 2", "16s a reading 3", "0s b reading 1", "8s b reading 2", "16s b reading 3",
			"0s c reading 1", "8s c reading 2", "16s c reading 3", "0s d reading 1", "16s d reading 2"})
		r.stop()
	})
}

// A read that falls due while the one before is under way is left out, and
// none is made up for later.
func TestSlowReadIsNotQueued(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fake{worst: time.Minute, sense: func(int) ([]sensors.Field, error) {
			<-time.After(25 * time.Second)
			return degrees(20)
		}}
		r := run(t, map[string]*fake{"chip": f}, sensors.Config{Name: "a", Chip: "chip", Every: 10 * time.Second})
		pass(89 * time.Second)
		same(t, "steps", f.taken(), []string{"0s open", "0s sense", "30s sense", "1m0s sense"})
		same(t, "records", r.got(), []string{"25s a reading 1", "55s a reading 2", "1m25s a reading 3"})
		r.stop()
	})
}

// One failure is tried again at once, opened again, and nobody hears of it.
func TestOneRetry(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fake{
			open: func(n int) error {
				if n == 1 {
					return errWire
				}
				return nil
			},
			sense: func(n int) ([]sensors.Field, error) {
				if n == 2 {
					return nil, errWire
				}
				return degrees(20)
			},
		}
		r := run(t, map[string]*fake{"chip": f}, sensors.Config{Name: "a", Chip: "chip", Every: 10 * time.Second})
		pass(15 * time.Second)
		same(t, "steps", f.taken(), []string{"0s open", "0s open", "0s sense", "10s sense", "10s close", "10s open", "10s sense"})
		same(t, "records", r.got(), []string{"0s a reading 1", "10s a reading 2"})
		same(t, "faults", r.faults(), nil)
		r.stop()
	})
}

// The breaker opens after three failures: the tries come apart, each with a
// new driver, up to a minute; the first success ends it.
func TestBreaker(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var healed atomic.Bool
		f := &fake{open: func(int) error {
			if healed.Load() {
				return nil
			}
			return board.ErrAbsent
		}}
		r := run(t, map[string]*fake{"chip": f}, sensors.Config{Name: "a", Chip: "chip", Every: 10 * time.Second, Options: sensors.I2C{Bus: "i2c-1"}})
		pass(200 * time.Second)
		var want []string
		for _, at := range []time.Duration{0, 1, 2, 3, 5, 9, 17, 33, 65, 125, 185} {
			want = append(want, fmt.Sprint(at*time.Second, " open"), fmt.Sprint(at*time.Second, " open"))
		}
		same(t, "steps", f.taken(), want)
		same(t, "faults", r.faults(), []string{"0s a no_answer raised"})
		same(t, "records", r.got(), nil)
		if n := r.s.FailedReads()["a"]; n != 11 {
			t.Errorf("%d failed reads, want 11: an attempt and the second one are one read", n)
		}
		healed.Store(true)
		pass(65 * time.Second)
		same(t, "faults", r.faults(), []string{"0s a no_answer raised", "4m5s a no_answer cleared"})
		same(t, "records", r.got(), []string{"4m5s a reading 1", "4m10s a reading 2", "4m20s a reading 3"})
		r.stop()
	})
}

// A failing driver is closed before it is constructed again. A line is so after
// three failures only: it would lose edges.
func TestReopenClosesTheOldOneFirst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fake{edges: true, sense: func(n int) ([]sensors.Field, error) {
			if n <= 7 {
				return nil, errWire
			}
			return degrees(20)
		}, shut: func(int) error { return errWire }}
		r := run(t, map[string]*fake{"chip": f}, sensors.Config{Name: "a", Chip: "chip", Every: 10 * time.Second})
		pass(12 * time.Second)
		same(t, "steps", f.taken(), []string{
			"0s open", "0s sense", "0s sense", "1s sense", "1s sense", "2s sense", "2s sense",
			"3s close", "3s open", "3s sense", "3s close", "3s open", "3s sense",
			"10s sense"})
		same(t, "faults", r.faults(), []string{"0s a read_failed raised", "3s a read_failed cleared"})
		r.stop()
		if !strings.Contains(r.logged(), `msg="sensor not closed" sensor=a error="wire fell off"`) {
			t.Errorf("log is %s", r.logged())
		}
	})
}

// Short periods are not made longer by a failure before the breaker opens.
func TestRetryOfFastSensor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fake{open: func(int) error { return errWire }}
		r := run(t, map[string]*fake{"chip": f}, sensors.Config{Name: "a", Chip: "chip", Every: 100 * time.Millisecond})
		pass(1500 * time.Millisecond)
		same(t, "steps", f.taken(), []string{"0s open", "0s open", "100ms open", "100ms open", "200ms open", "200ms open", "1.2s open", "1.2s open"})
		r.stop()
	})
}

// A dead sensor does not touch its neighbour on the same bus.
func TestTwoOnOneBusOneDead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dead := &fake{open: func(int) error { return board.ErrAbsent }}
		r := run(t, map[string]*fake{"dead": dead, "live": {}},
			sensors.Config{Name: "a", Chip: "live", Every: time.Second, Options: sensors.I2C{Bus: "i2c-1"}},
			sensors.Config{Name: "b", Chip: "dead", Every: time.Second, Options: sensors.I2C{Bus: "i2c-1"}})
		pass(4 * time.Second)
		same(t, "records", r.got(), []string{"0s a reading 1", "1s a reading 2", "2s a reading 3", "3s a reading 4", "4s a reading 5"})
		same(t, "faults", r.faults(), []string{"0s b no_answer raised"})
		if n := len(r.s.sensors.Load().buses); n != 1 {
			t.Errorf("one bus has %d workers", n)
		}
		r.stop()
	})
}

// What cannot be true is a fault, not a value.
func TestImpossibleValueIsNotPublished(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fake{sense: func(n int) ([]sensors.Field, error) {
			if n <= 2 {
				return degrees(-145.75)
			}
			return degrees(85)
		}}
		r := run(t, map[string]*fake{"chip": f}, sensors.Config{Name: "a", Chip: "chip", Every: 10 * time.Second, Options: sensors.I2C{Bus: "i2c-1"}})
		now := r.s.o.Health.Current()
		if want := "answered wrongly: temperature of -145.75 °C is outside -40 to 85"; len(now) != 1 || now[0].Detail != want {
			t.Errorf("faults are %+v, want %q", now, want)
		}
		pass(time.Second)
		same(t, "records", r.got(), []string{"1s a reading 1"})
		same(t, "faults", r.faults(), []string{"0s a wrong_answer raised", "1s a wrong_answer cleared"})
		r.stop()
	})
}

// A fault that becomes another one is not told as mended in between.
func TestFaultOfAnotherKind(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fake{sense: func(n int) ([]sensors.Field, error) {
			switch {
			case n <= 2:
				return nil, sensors.ErrAbsent
			case n <= 4:
				return nil, sensors.ErrFault
			}
			return degrees(20)
		}}
		r := run(t, map[string]*fake{"chip": f}, sensors.Config{Name: "a", Chip: "chip", Every: 10 * time.Second, Options: sensors.I2C{Bus: "i2c-1"}})
		pass(5 * time.Second)
		same(t, "faults", r.faults(), []string{
			"0s a no_answer raised", "1s a wrong_answer raised", "1s a no_answer cleared", "2s a wrong_answer cleared"})
		r.stop()
	})
}

// A chip that is not in the catalog is a fault of its sensor only.
func TestUnknownChip(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := run(t, map[string]*fake{"live": {}}, sensors.Config{Name: "a", Chip: "nonesuch"}, sensors.Config{Name: "b", Chip: "live", Every: time.Minute})
		now := r.s.o.Health.Current()
		if want := `open chip: "nonesuch" is not in the catalog`; len(now) != 1 || now[0].Subject != "a" || now[0].Detail != want {
			t.Errorf("faults are %+v", now)
		}
		same(t, "records", r.got(), []string{"0s b reading 1"})
		r.stop()
	})
}

// After a reload the next Sampler goes on counting where the last one ended.
func TestCountsGoOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := Options{Board: &fakeBoard{}, Run: 7, Counts: new(Counts)}
		a := sensors.Config{Name: "a", Chip: "chip", Every: time.Minute}
		runWith(t, o, map[string]*fake{"chip": {}}, a).stop()
		r := runWith(t, o, map[string]*fake{"chip": {}}, a, sensors.Config{Name: "b", Chip: "chip", Every: time.Minute})
		r.stop()
		got := strings.Join(r.got(), ", ")
		if !strings.Contains(got, "a reading 2") || !strings.Contains(got, "b reading 1") {
			t.Errorf("records are %s", got)
		}
	})
}

func TestNothingToRead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := run(t, nil)
		pass(time.Minute)
		if took := r.stop(); took != 0 {
			t.Errorf("the end took %v", took)
		}
	})
}
