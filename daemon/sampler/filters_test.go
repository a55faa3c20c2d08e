package sampler

import (
	"context"
	"math"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"fieldpost/daemon/health"
	"fieldpost/sensors"
	"fieldpost/sensors/filter"
)

// filtered is a sensor with filters that is read every ten seconds.
func filtered(name string, set ...func(f *sensors.Filter)) sensors.Config {
	c := onBus(name, "chip", "i2c-1", 10*time.Second)
	for _, s := range set {
		f := filter.Default
		s(&f)
		c.Filters = append(c.Filters, f)
	}
	return c
}

func mean(n int) func(f *sensors.Filter) {
	return func(f *sensors.Filter) { f.Filter, f.Window = "mean", n }
}

func delta(by float64) func(f *sensors.Filter) {
	return func(f *sensors.Filter) { f.Filter, f.By, f.Heartbeat = "delta", by, time.Minute }
}

// delta keeps readings back without a gap in their numbers. A sensor that dies meanwhile has its
// fault at once, and the first reading after it is sent although nothing has changed.
func TestDeltaLeavesNoGapAndHidesNoFault(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fake{sense: func(n int) ([]sensors.Field, error) {
			if n == 11 || n == 12 { // both attempts at 100 s
				return nil, errWire
			}
			return degrees(20)
		}}
		r := run(t, map[string]*fake{"chip": f}, filtered("air", delta(0.5)))
		pass(125 * time.Second)
		all := strings.Join(r.got(), ", ")
		if !strings.HasPrefix(all, "0s air reading 1, 1m0s air reading 2, 1m4") && !strings.HasPrefix(all, "0s air reading 1, 1m0s air reading 2, 1m5") || len(r.got()) != 3 || !strings.HasSuffix(all, "reading 3") {
			t.Errorf("records %s", all)
		}
		changes := r.faults()
		if len(changes) != 2 || changes[0] != "1m40s air read_failed raised" || !strings.HasSuffix(changes[1], "air read_failed cleared") {
			t.Errorf("faults %q", changes)
		}
		r.stop()
	})
}

// A reading that is asked for is filtered, and leaves the windows and delta alone.
func TestReadLeavesFiltersAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fake{sense: func(n int) ([]sensors.Field, error) { return degrees(10 * float64(n)) }}
		r := run(t, map[string]*fake{"chip": f}, filtered("air", mean(3), delta(0.1)))
		for i := range 2 { // the second and third read
			_, fields, err := r.s.Read(t.Context(), "air")
			if want := 5 * float64(i+3); err != nil || len(fields) != 1 || fields[0].Value != want {
				t.Errorf("got %v, %v, want %v", fields, err, want)
			}
		}
		pass(11 * time.Second)
		if _, last := fieldsOf(r, "air"); last["temperature"] != 25.0 || len(r.got()) != 2 {
			t.Errorf("got %v, records %q; want the mean of 10 and 40", last, r.got())
		}
		r.stop()
	})
}

// A configuration that leaves a sensor as it is leaves its windows too; other filters begin
// with empty ones.
func TestReconfigureKeepsFilters(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fake{sense: func(n int) ([]sensors.Field, error) { return degrees(10 * float64(n)) }}
		r := run(t, map[string]*fake{"chip": f}, filtered("air", mean(4)))
		pass(11 * time.Second)
		r.reconfigure(filtered("air", mean(4)))
		pass(10 * time.Second)
		if _, last := fieldsOf(r, "air"); last["temperature"] != 20.0 {
			t.Errorf("unchanged: got %v, want the mean of 10, 20, 30", last)
		}
		r.reconfigure(filtered("air", mean(3)))
		if _, last := fieldsOf(r, "air"); last["temperature"] != 40.0 {
			t.Errorf("changed: got %v, want 40", last)
		}
		r.stop()
	})
}

// A value out of range raises wrong_answer when it comes twice, and is never sent. A filter for a
// quantity that the device does not have is a fault that says so. Both by both ways to read.
func TestFiltersRefuse(t *testing.T) {
	reject := func(f *sensors.Filter) { f.Filter, f.Min, f.Max = "reject", 0, 50 }
	for name, tt := range map[string]struct {
		set   func(f *sensors.Filter)
		code  health.Code
		want  string
		sends int
		once  float64
	}{
		"outlier":    {reject, health.WrongAnswer, "answered wrongly: filters[0], reject: temperature of 60 is outside 0 to 50", 2, 60},
		"no channel": {func(f *sensors.Filter) { mean(2)(f); f.Quantity = "temperature_9" }, health.ReadFailed, "filters[0], mean: the sensor has no temperature_9; it has temperature", 0, 20},
		"too large":  {func(f *sensors.Filter) { f.Filter, f.By = "scale", math.MaxFloat64 }, health.WrongAnswer, "answered wrongly: filters[0], scale: temperature of 20 becomes too large a number", 0, 20},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := &fake{sense: func(n int) ([]sensors.Field, error) {
					switch n {
					case 2, 4, 5: // once at 10 s, twice at 20 s
						return degrees(60)
					}
					return degrees(20)
				}}
				r := run(t, map[string]*fake{"chip": f}, filtered("air", tt.set))
				pass(20500 * time.Millisecond)
				if now := r.s.o.Health.Current(); len(now) != 1 || now[0].Fault.Code != tt.code || now[0].Detail != tt.want {
					t.Errorf("faults %+v", now)
				}
				if _, last := fieldsOf(r, "air"); len(r.got()) != tt.sends || tt.sends > 0 && last["temperature"] != 20.0 {
					t.Errorf("records %q, last %v", r.got(), last)
				}
				r.stop()
				one := &fake{sense: func(int) ([]sensors.Field, error) { return degrees(tt.once) }}
				_, err := once(context.Background(), &fakeBoard{}, filtered("air", tt.set), one.chip("chip"))
				if err == nil || CodeOf(err) != tt.code || !strings.HasSuffix(err.Error(), tt.want) {
					t.Errorf("once: %v", err)
				}
			})
		})
	}
}

// A driver that panicked has failed too: the next reading is sent.
func TestDeltaAfterAPanic(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fake{sense: func(n int) ([]sensors.Field, error) {
			if n == 3 || n == 4 { // both attempts at 20 s
				panic("a driver's")
			}
			return degrees(20)
		}}
		r := run(t, map[string]*fake{"chip": f}, filtered("air", delta(0.5)))
		pass(25 * time.Second)
		if got := r.got(); len(got) != 2 || got[0] != "0s air reading 1" {
			t.Errorf("records %q", got)
		}
		r.stop()
	})
}
