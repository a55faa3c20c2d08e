package client

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"fieldpost/daemon/api"
	"fieldpost/daemon/health"
	"fieldpost/sensors"
)

// A watched sensor is read at each interval until the context ends, also while it fails,
// and the remedy is written once.
func TestWatch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		good := api.Reading{Sensor: "air", Chip: "lm75", Values: api.Values{sensors.Field{Name: "temperature", Value: 21.5}}}
		loose := &api.Error{Code: string(health.NoAnswer), Text: "nothing answers\x1b[2J", Hint: "Check its wiring."}
		answers := []error{nil, loose, loose, nil, loose}
		begin, n := time.Now(), 0
		var out strings.Builder
		err := Watch(ctx, &out, 2*time.Second, func(context.Context) (api.Reading, error) {
			if want := time.Duration(n) * 2 * time.Second; time.Since(begin) != want {
				t.Errorf("reading %d after %v", n, time.Since(begin))
			}
			if n == len(answers) {
				cancel()
				return api.Reading{}, ctx.Err()
			}
			n++
			return good, answers[n-1]
		})
		if err != nil {
			t.Error(err)
		}
		zero := begin.Format(time.TimeOnly)
		at := func(s int) string { return begin.Add(time.Duration(s) * time.Second).Format(time.TimeOnly) }
		want := zero + "  temperature 21.5 °C\n" +
			at(2) + "  \"nothing answers\\x1b[2J\"\n          hint: Check its wiring.\n" +
			at(4) + "  \"nothing answers\\x1b[2J\"\n" +
			at(6) + "  temperature 21.5 °C\n" +
			at(8) + "  \"nothing answers\\x1b[2J\"\n          hint: Check its wiring.\n"
		if out.String() != want {
			t.Errorf("wrote\n%swant\n%s", out.String(), want)
		}
	})
}

// What is wrong with more than the sensor ends it.
func TestWatchEnds(t *testing.T) {
	for _, want := range []error{errors.New("no daemon"), &api.Error{Code: api.UnknownSensor, Text: "the daemon has no sensor"}} {
		var out strings.Builder
		err := Watch(t.Context(), &out, time.Hour, func(context.Context) (api.Reading, error) { return api.Reading{}, want })
		if !errors.Is(err, want) || out.Len() > 0 {
			t.Errorf("%v, wrote %q", err, out.String())
		}
	}
	if err := Watch(t.Context(), failingWriter{}, time.Hour, func(context.Context) (api.Reading, error) { return api.Reading{}, nil }); !errors.Is(err, errClosed) {
		t.Error(err)
	}
}

var errClosed = errors.New("closed")

type failingWriter struct{}

func (failingWriter) Write([]byte) (int, error) { return 0, errClosed }
