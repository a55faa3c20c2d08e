package sampler

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"fieldpost/sensors"
)

func TestOnce(t *testing.T) {
	for _, tt := range []struct {
		name, want string // "" is a reading
		fake       *fake
		closed     int
	}{
		{"good", "", &fake{}, 1},
		{"does not open", `read sensor "a": wire fell off`, &fake{open: func(int) error { return errWire }}, 0},
		{"does not sense", `read sensor "a": wire fell off`, &fake{sense: func(int) ([]sensors.Field, error) { return nil, errWire }}, 1},
		{"senses the impossible", `read sensor "a": answered wrongly: temperature of 200 °C is outside -40 to 85`, &fake{sense: func(int) ([]sensors.Field, error) { return degrees(200) }}, 1},
		{"does not close", `read sensor "a": wire fell off`, &fake{shut: func(int) error { return errWire }}, 1},
		{"panics", `read sensor "a": driver panicked: boom`, &fake{sense: func(int) ([]sensors.Field, error) { panic("boom") }}, 1},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := tt.fake
				fields, err := once(context.Background(), &fakeBoard{}, sensors.Config{Name: "a"}, f.chip("chip"))
				switch {
				case tt.want == "" && (err != nil || len(fields) != 1 || fields[0].Value != 20.0):
					t.Errorf("got %+v, %v", fields, err)
				case tt.want != "" && (err == nil || fields != nil || !strings.HasPrefix(err.Error(), tt.want)):
					t.Errorf("got %+v, %v, want %s", fields, err, tt.want)
				}
				if f.opened != 1 || f.closed != tt.closed {
					t.Errorf("opened %d and closed %d times", f.opened, f.closed)
				}
			})
		})
	}
}

func TestOnceOfAnUnknownChip(t *testing.T) {
	_, err := Once(context.Background(), &fakeBoard{}, sensors.Config{Name: "a", Chip: "nonesuch"})
	if want := `read sensor "a": unknown chip "nonesuch"`; err == nil || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
}

// A chip of the catalog whose bus has nothing on it is absent.
func TestOnceOfTheCatalog(t *testing.T) {
	_, err := Once(context.Background(), &fakeBoard{}, sensors.Config{Name: "a", Chip: "tmp102", Options: sensors.I2C{Bus: "i2c-1", Address: 0x48}})
	if !errors.Is(err, sensors.ErrAbsent) {
		t.Errorf("got %v, want it absent", err)
	}
}

func TestOnceGivesUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		release := make(chan struct{})
		f := &fake{worst: time.Second, open: func(int) error {
			<-release
			return nil
		}}
		before := time.Now()
		_, err := once(context.Background(), &fakeBoard{}, sensors.Config{Name: "a"}, f.chip("chip"))
		if !errors.Is(err, context.DeadlineExceeded) || time.Since(before) != 3*time.Second {
			t.Errorf("got %v after %v", err, time.Since(before))
		}
		ctx, cancel := context.WithCancel(context.Background())
		cancel()
		if _, err := once(ctx, &fakeBoard{}, sensors.Config{Name: "a"}, f.chip("chip")); !errors.Is(err, context.Canceled) {
			t.Errorf("got %v", err)
		}
		close(release)
	})
}
