package sampler

import (
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"fieldpost/daemon/clock"
	"fieldpost/daemon/health"
	"fieldpost/daemon/message"
	"fieldpost/daemon/task"
	"fieldpost/sensors"
	"fieldpost/sensors/board"
	"fieldpost/sensors/sim"
)

// A driver that panics raises a fault of its sensor. The stack is logged once, and the chip
// is opened again.
func TestPanics(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fake{
			open: func(n int) error {
				if n == 1 {
					panic("open")
				}
				return nil
			},
			sense: func(n int) ([]sensors.Field, error) {
				if n < 4 {
					panic("sense")
				}
				return degrees(20)
			},
			shut: func(n int) error {
				if n == 1 {
					panic("close")
				}
				return nil
			},
		}
		r := run(t, map[string]*fake{"chip": f, "live": {}},
			sensors.Config{Name: "a", Chip: "chip", Every: time.Minute, Options: sensors.I2C{Bus: "i2c-1"}},
			sensors.Config{Name: "b", Chip: "live", Every: time.Minute, Options: sensors.I2C{Bus: "i2c-1"}})
		pass(10 * time.Second)
		same(t, "steps", f.taken(), []string{
			"0s open", "0s open", "0s sense", // panics: the constructor, then the reading
			"1s close", "1s open", "1s sense", // panics: closing, which the retry does not repeat; the reading
			"2s close", "2s open", "2s sense", "2s close", "2s open", "2s sense"})
		same(t, "faults", r.faults(), []string{"0s a read_failed raised", "2s a read_failed cleared"})
		if got := r.got(); len(got) != 2 {
			t.Errorf("records are %q, want one of each", got)
		}
		if n := strings.Count(r.logged(), "driver panicked: sense"); n != 1 || !strings.Contains(r.logged(), "goroutine") {
			t.Errorf("the stack is logged %d times: %s", n, r.logged())
		}
		r.stop()
	})
}

// A driver that panics again and again leaves no bus open: after some days of that, the
// process would have no descriptors left, and no other sensor could be opened.
func TestPanicsLeaveNoBusOpen(t *testing.T) {
	for what, opens := range map[string]bool{"open": false, "sense and close": true} {
		b := sim.New()
		bus := b.AddBus("i2c-1")
		chip := sensors.Chip{Name: "chip", Quantities: quantities, Open: func(b board.Board, c sensors.Config) (sensors.Sensor, error) {
			if _, err := b.Bus("i2c-1"); err != nil {
				return nil, err
			}
			if !opens {
				panic("open")
			}
			f := &fake{sense: func(int) ([]sensors.Field, error) { panic("sense") }, shut: func(int) error { panic("close") }}
			return &fakeSensor{f: f}, nil
		}}
		r := newRunner(&Options{Board: b}, nil, sensors.Config{Name: "a"}, chip, nil)
		for range 1000 {
			if _, err := r.driver.readGuarded(clock.Fake()); err == nil {
				t.Fatal("it did not panic")
			}
			if n := bus.Handles(); n > 1 { // one while the sensor that panicked is not closed yet
				t.Fatalf("panics in %s: %d handles are open", what, n)
			}
		}
	}
}

func TestPanicInDetail(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fake{sense: func(int) ([]sensors.Field, error) { panic("boom") }}
		r := run(t, map[string]*fake{"chip": f}, sensors.Config{Name: "a", Chip: "chip", Every: time.Minute})
		now := r.s.o.Health.Current()
		if len(now) != 1 || now[0].Detail != "driver panicked: boom" {
			t.Errorf("faults are %+v", now)
		}
		r.stop()
	})
}

// A panic of the scheduler is reported at once to whoever started the Sampler, who stops
// it. If nothing caught it, the process would end and the kernel would release every line.
func TestPanicOfTheScheduler(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		release := make(chan struct{})
		f := &fake{sense: func(int) ([]sensors.Field, error) {
			<-release
			return degrees(20)
		}}
		s := build(Options{
			Board: &fakeBoard{}, Clock: clock.Fake(), Emit: func([]message.Record) {},
			Sensors: []sensors.Config{{Name: "a", Chip: "chip", Every: time.Minute, Options: sensors.I2C{Bus: "i2c-1"}}},
			Health: health.New(func(c health.Change) {
				if c.Fault.Code == health.BusStuck {
					panic("the scheduler raises this")
				}
			}),
		}, func(string) (sensors.Chip, bool) { return f.chip("chip"), true })
		failed := make(chan error, 1)
		running := task.Start("sampler", failed, s.Run)
		pass(time.Minute)
		select {
		case err := <-failed:
			if !errors.Is(err, task.ErrPanicked) || !strings.Contains(err.Error(), ": the scheduler raises this\ngoroutine ") {
				t.Errorf("reported %v", err)
			}
		default:
			t.Error("the panic was not reported")
		}
		const limit = 2*stopWait + time.Second // the runner and its bus worker wait for stopWait each
		if err := running.Stop(limit); !errors.Is(err, task.ErrPanicked) || !running.Ended() {
			t.Errorf("ended with %v", err)
		}
		close(release)
		pass(2 * stopWait)
	})
}
