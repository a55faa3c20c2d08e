package sampler

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"fieldpost/daemon/health"
	"fieldpost/sensors"
)

// A reading that is asked for comes at once, is nobody else's, and leaves the
// schedule as it is.
func TestRead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fake{sense: func(n int) ([]sensors.Field, error) { return degrees(float64(n)) }}
		r := run(t, map[string]*fake{"chip": f}, sensors.Config{Name: "air", Chip: "chip", Every: 10 * time.Second, Options: sensors.I2C{Bus: "i2c-1"}})
		pass(3 * time.Second)
		stamp, fields, err := r.s.Read(t.Context(), "air")
		if err != nil || len(fields) != 1 || fields[0].Value != 2.0 || stamp.Mono != 3*time.Second {
			t.Errorf("got %v at %v, %v", fields, stamp.Mono, err)
		}
		if _, _, err := r.s.Read(t.Context(), "soil"); !errors.Is(err, ErrUnknown) || err.Error() != `unknown sensor "soil"` {
			t.Errorf("got %v", err)
		}
		pass(18 * time.Second)
		same(t, "records", r.got(), []string{"0s air reading 1", "10s air reading 2", "20s air reading 3"})
		same(t, "steps", f.taken(), []string{"0s open", "0s sense", "3s sense", "10s sense", "20s sense"})
		r.stop()
	})
}

// A sensor that fails is tried all the same, opened again; whether that works is
// for who asked, and the schedule finds it out by itself.
func TestReadOfAFailingSensor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		works := false
		f := &fake{sense: func(int) ([]sensors.Field, error) {
			if works {
				return degrees(20)
			}
			return nil, errWire
		}}
		r := run(t, map[string]*fake{"chip": f}, sensors.Config{Name: "air", Chip: "chip", Every: time.Minute, Options: sensors.I2C{Bus: "i2c-1"}})
		_, _, err := r.s.Read(t.Context(), "air")
		var failed *ReadError
		if !errors.As(err, &failed) || failed.Code != health.ReadFailed || !errors.Is(err, errWire) || err.Error() != "wire fell off; it failed before, 1 in a row" {
			t.Errorf("after one failure: %v", err)
		}
		pass(40 * time.Second)
		n := len(f.taken())
		_, _, err = r.s.Read(t.Context(), "air")
		if !errors.As(err, &failed) || failed.Failures < maxFailures || !strings.Contains(err.Error(), "in a row and is tried about once a minute") {
			t.Errorf("with the breaker open: %v", err)
		}
		works = true
		if _, fields, err := r.s.Read(t.Context(), "air"); err != nil || len(fields) != 1 {
			t.Errorf("when it works: %v, %v", fields, err)
		}
		same(t, "steps", f.taken()[n:], []string{"40s open", "40s sense", "40s close", "40s open", "40s sense"})
		same(t, "faults", r.faults(), []string{"0s air read_failed raised"})
		same(t, "records", r.got(), nil)
		pass(time.Minute)
		if got := changed(r); len(got) != 2 || got[1] != "air read_failed cleared" {
			t.Errorf("faults %q", got)
		}
		r.stop()
	})
}

// A bus that hangs is named, with whom it is busy, and nobody waits longer than
// he wants to.
func TestReadOnAStuckBus(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		release := make(chan struct{})
		stuck := &fake{sense: func(int) ([]sensors.Field, error) {
			<-release
			return degrees(20)
		}}
		r := run(t, map[string]*fake{"stuck": stuck, "live": {}},
			sensors.Config{Name: "a", Chip: "stuck", Every: time.Hour, Options: sensors.I2C{Bus: "i2c-1"}},
			sensors.Config{Name: "b", Chip: "live", Every: time.Hour, Options: sensors.I2C{Bus: "i2c-1"}},
			sensors.Config{Name: "c", Chip: "live", Every: time.Hour, Options: sensors.I2C{Bus: "i2c-0"}})
		pass(10 * time.Second)
		for _, wait := range []time.Duration{time.Second, 30 * time.Second} {
			ctx, cancel := context.WithTimeout(t.Context(), wait)
			before := time.Now()
			_, _, err := r.s.Read(ctx, "b")
			cancel()
			if took := time.Since(before); took > wait || !errors.Is(err, errLate) || !strings.Contains(err.Error(), `it has been busy with sensor "a" for 1`) {
				t.Errorf("within %v: %v after %v", wait, err, took)
			}
		}
		if _, fields, err := r.s.Read(t.Context(), "c"); err != nil || len(fields) != 1 {
			t.Errorf("another bus: %v, %v", fields, err)
		}
		// Who has gone before his turn came keeps the runner from nothing.
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if _, _, err := r.s.Read(ctx, "b"); !errors.Is(err, context.Canceled) {
			t.Errorf("gone: %v", err)
		}
		close(release)
		pass(time.Second)
		if _, fields, err := r.s.Read(t.Context(), "b"); err != nil || len(fields) != 1 {
			t.Errorf("when it moves again: %v, %v", fields, err)
		}
		r.stop()
	})
}

// What is under way when the sampler ends is cut short.
func TestReadAtTheEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		release := make(chan struct{})
		f := &fake{sense: func(n int) ([]sensors.Field, error) {
			if n == 2 {
				<-release
			}
			return degrees(20)
		}}
		r := run(t, map[string]*fake{"chip": f}, sensors.Config{Name: "air", Chip: "chip", Every: time.Hour, Options: sensors.I2C{Bus: "i2c-1"}})
		got := make(chan error, 1)
		go func() {
			_, _, err := r.s.Read(t.Context(), "air")
			got <- err
		}()
		synctest.Wait()
		go func() { <-time.After(time.Second); close(release) }()
		r.stop()
		var failed *ReadError
		if err := <-got; !errors.As(err, &failed) || !errors.Is(err, context.Canceled) {
			t.Errorf("got %v", err)
		}
	})
}
