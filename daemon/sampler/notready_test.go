package sampler

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"fieldpost/sensors"
)

// A sensor that has no value yet has no fault and stays open; it is asked again each
// second, and one that never has a value has a fault in the end.
func TestNotReady(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fake{every: 30 * time.Second, warmUp: 5 * time.Second, sense: func(n int) ([]sensors.Field, error) {
			if n < 4 {
				return nil, fmt.Errorf("read it: %w", sensors.ErrNotReady)
			}
			return degrees(20)
		}}
		r := run(t, map[string]*fake{"chip": f}, sensors.Config{Name: "a", Chip: "chip"})
		<-time.After(10 * time.Second)
		r.stop()
		want := "[0s open 0s sense 1s sense 2s sense 3s sense 10s close]"
		if got := fmt.Sprint(f.taken()); got != want {
			t.Errorf("%s, want %s", got, want)
		}
		if faults := r.faults(); len(faults) > 0 || len(r.got()) != 1 {
			t.Errorf("faults %v, readings %v", faults, r.got())
		}
	})
}

func TestNeverReady(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fake{every: 30 * time.Second, warmUp: 5 * time.Second, sense: func(int) ([]sensors.Field, error) { return nil, sensors.ErrNotReady }}
		r := run(t, map[string]*fake{"chip": f}, sensors.Config{Name: "a", Chip: "chip"})
		<-time.After(8 * time.Second)
		r.stop()
		if faults := fmt.Sprint(r.faults()); !strings.Contains(faults, "wrong_answer") {
			t.Errorf("faults %v", faults)
		}
	})
}

func TestOnceWaitsUntilReady(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fake{worst: time.Second, warmUp: 5 * time.Second, sense: func(n int) ([]sensors.Field, error) {
			if n < 6 {
				return nil, sensors.ErrNotReady
			}
			return degrees(20)
		}}
		before := time.Now()
		if fields, err := once(context.Background(), &fakeBoard{}, sensors.Config{Name: "a"}, f.chip("chip")); err != nil || len(fields) != 1 || time.Since(before) != 5*time.Second {
			t.Errorf("%v, %v after %v", fields, err, time.Since(before))
		}
		f = &fake{worst: time.Second, warmUp: 5 * time.Second, sense: func(int) ([]sensors.Field, error) { return nil, sensors.ErrNotReady }}
		if fields, err := once(context.Background(), &fakeBoard{}, sensors.Config{Name: "a"}, f.chip("chip")); fields != nil || err == nil || f.closed != 1 {
			t.Errorf("never: %v, %v, closed %d", fields, err, f.closed)
		}
	})
}

// One that was too long without a value recovers, also where its breaker is open.
func TestReadyInTheEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var opened time.Time
		f := &fake{every: 30 * time.Second, warmUp: 5 * time.Second}
		start := time.Now()
		f.open = func(int) error { opened = time.Now(); return nil }
		f.sense = func(int) ([]sensors.Field, error) {
			if time.Since(opened) < 5*time.Second || time.Since(start) < time.Minute {
				return nil, sensors.ErrNotReady
			}
			return degrees(20)
		}
		r := run(t, map[string]*fake{"chip": f}, sensors.Config{Name: "a", Chip: "chip"})
		<-time.After(3 * time.Minute)
		r.stop()
		if len(r.got()) == 0 || !strings.Contains(fmt.Sprint(r.faults()), "cleared") {
			t.Errorf("readings %v, faults %v", r.got(), r.faults())
		}
	})
}
