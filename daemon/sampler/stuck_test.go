package sampler

import (
	"context"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"fieldpost/daemon/health"
	"fieldpost/sensors"
)

// A transaction that never ends stops its own bus and nothing else: it is
// named, the scheduler turns, and when it ends all goes on at once.
func TestStuckBus(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		release := make(chan struct{})
		stuck := &fake{sense: func(n int) ([]sensors.Field, error) {
			if n == 2 {
				<-release
			}
			return degrees(20)
		}}
		r := run(t, map[string]*fake{"stuck": stuck, "live": {}},
			sensors.Config{Name: "a", Chip: "stuck", Every: 10 * time.Second, Options: sensors.I2C{Bus: "i2c-1"}},
			sensors.Config{Name: "b", Chip: "live", Every: 20 * time.Second, Options: sensors.I2C{Bus: "i2c-1"}},
			sensors.Config{Name: "c", Chip: "live", Every: 30 * time.Second, Options: sensors.I2C{Bus: "i2c-0"}})
		pass(9 * time.Second)
		for range 51 {
			pass(time.Second)
			if name, ok := r.beats.Check(); !ok {
				t.Fatalf("%s does not turn", name)
			}
		}
		same(t, "faults", r.faults(), []string{
			"12s a read_failed raised", "16s i2c-1 bus_stuck raised", "22s b read_failed raised"})
		for _, c := range r.s.o.Health.Current() {
			switch c.Subject {
			case "i2c-1":
				if want := `one transaction for sensor "a" has been under way for `; !strings.HasPrefix(c.Detail, want) {
					t.Errorf("detail is %q, want %q", c.Detail, want)
				}
			case "a":
				if want := "i2c-1 did not answer within 2s"; c.Detail != want {
					t.Errorf("detail is %q, want %q", c.Detail, want)
				}
			}
		}
		if n := stuck.sensed; n != 2 {
			t.Errorf("the stuck sensor was asked %d times; want no queue behind it", n)
		}
		before := r.got()
		if last := before[len(before)-1]; !strings.Contains(last, "c reading 3") {
			t.Errorf("the other bus is at %q", last)
		}
		close(release)
		pass(2 * time.Second)
		if now := r.s.o.Health.Current(); len(now) != 0 {
			t.Errorf("still wrong: %+v", now)
		}
		after := strings.Join(r.got()[len(before):], ", ")
		if !strings.Contains(after, "a reading 2") || !strings.Contains(after, "b reading 2") {
			t.Errorf("after it moved: %s", after)
		}
		r.stop()
	})
}

// Of a bus that is stuck the bus is told of, and not each sensor on it. Which of them
// fails of itself comes out as soon as the bus moves again.
func TestStuckBusIsOneFault(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		release := make(chan struct{})
		stuck := &fake{sense: func(n int) ([]sensors.Field, error) {
			if n == 2 {
				<-release
			}
			return degrees(20)
		}}
		dead := &fake{sense: func(n int) ([]sensors.Field, error) {
			if n == 1 {
				return degrees(20)
			}
			return nil, sensors.ErrFault
		}}
		r := run(t, map[string]*fake{"stuck": stuck, "live": {}, "dead": dead},
			sensors.Config{Name: "a", Chip: "stuck", Every: 10 * time.Second, Options: sensors.I2C{Bus: "i2c-1"}},
			sensors.Config{Name: "b", Chip: "live", Every: 20 * time.Second, Options: sensors.I2C{Bus: "i2c-1"}},
			sensors.Config{Name: "d", Chip: "dead", Every: 20 * time.Second, Options: sensors.I2C{Bus: "i2c-1"}})
		var known []health.Subject
		for _, c := range r.s.o.Sensors {
			known = append(known, health.Subject{Name: c.Name, Kind: health.Sensor, On: c.Place().Bus})
		}
		r.s.o.Health.Know(known)
		pass(time.Minute)
		same(t, "faults", changed(r), []string{"a read_failed raised", "i2c-1 bus_stuck raised"})
		if now := r.s.o.Health.Current(); len(now) != 4 {
			t.Errorf("wrong now, told or not: %+v", now)
		}
		close(release)
		pass(2 * time.Second)
		same(t, "faults", sorted(changed(r)), []string{
			"a read_failed cleared", "a read_failed raised", "d wrong_answer raised", "i2c-1 bus_stuck cleared", "i2c-1 bus_stuck raised"})
		r.stop()
	})
}

// What a driver returns after its caller has given up is not published: it is
// not known what it was measured for.
func TestLateAnswerIsDropped(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fake{sense: func(n int) ([]sensors.Field, error) {
			if n == 1 {
				<-time.After(2500 * time.Millisecond)
				return degrees(1)
			}
			return degrees(2)
		}}
		r := run(t, map[string]*fake{"chip": f}, sensors.Config{Name: "a", Chip: "chip", Every: time.Minute})
		pass(10 * time.Second)
		if len(r.records) != 1 || r.records[0].Fields[0].Value != 2.0 || r.records[0].Seq != 1 {
			t.Errorf("records are %+v", r.records)
		}
		same(t, "faults", r.faults(), []string{"1s a read_failed raised", "2.5s a read_failed cleared"})
		r.stop()
	})
}

// The end does not wait for ever for a transaction that does.
func TestEndWithAStuckRead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		release := make(chan struct{})
		stuck := &fake{sense: func(int) ([]sensors.Field, error) {
			<-release
			return degrees(20)
		}}
		live := &fake{}
		r := run(t, map[string]*fake{"stuck": stuck, "live": live},
			sensors.Config{Name: "a", Chip: "stuck", Every: 10 * time.Second, Options: sensors.I2C{Bus: "i2c-1"}},
			sensors.Config{Name: "b", Chip: "live", Every: 10 * time.Second, Options: sensors.I2C{Bus: "i2c-0"}})
		if took := r.stop(); took > 2*stopWait {
			t.Errorf("the end took %v", took)
		}
		if live.closed != 1 || stuck.closed != 0 {
			t.Errorf("closed %d and %d times, want the live one only", live.closed, stuck.closed)
		}
		for _, want := range []string{`msg="sensor not closed" sensor=a`, `msg="worker left behind" worker=i2c-1`, "sensor=a"} {
			if !strings.Contains(r.logged(), want) {
				t.Errorf("log lacks %s: %s", want, r.logged())
			}
		}
		same(t, "faults", r.faults(), nil) // an end is nobody's fault
		if _, ok := r.beats.Check(); !ok {
			t.Error("the loop is still waited for")
		}
		close(release) // and the worker ends by itself, or this bubble would not
	})
}

// The end comes at once when nothing is stuck, also in the middle of a read.
func TestEndInTheMiddleOfARead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fake{worst: time.Second, sense: func(int) ([]sensors.Field, error) {
			<-time.After(500 * time.Millisecond)
			return degrees(20)
		}}
		r := run(t, map[string]*fake{"chip": f}, sensors.Config{Name: "a", Chip: "chip", Every: 10 * time.Second})
		if took := r.stop(); took != 500*time.Millisecond {
			t.Errorf("the end took %v, want the read's 500ms", took)
		}
		same(t, "steps", f.taken(), []string{"0s open", "0s sense", "500ms close"})
		same(t, "faults", r.faults(), nil)
	})
}

// A context that has ended before the start reads nothing and leaves nothing.
func TestEndBeforeTheStart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fake{}
		r := run(t, map[string]*fake{"chip": f}, sensors.Config{Name: "a", Chip: "chip", Every: time.Minute})
		r.stop()
		ctx, cancel := context.WithCancel(context.Background())
		cancel()
		o := r.s.o
		n := len(r.got())
		s := build(o, func(string) (sensors.Chip, bool) { return f.chip("chip"), true })
		if err := s.Run(ctx); err != context.Canceled {
			t.Errorf("run ended with %v", err)
		}
		if len(r.got()) != n {
			t.Errorf("records are %q", r.got())
		}
	})
}
