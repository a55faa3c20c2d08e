package daemon_test

import (
	"fmt"
	"testing"

	"fieldpost/daemon/daemontest"
	"fieldpost/daemon/message"
	"fieldpost/sensors/sim"
)

// meter is the configuration of a water meter of 10 litres a pulse.
func meter(name string) string {
	return fmt.Sprintf("  - {name: %s, chip: counter, pin: GPIO17, debounce: 0, measures: water, per_pulse: 10, start: 100, every: 50ms}", name)
}

// turns makes pulses on a line.
func turns(l *sim.Line, n int) {
	for range n {
		l.Drive(true)
		l.Drive(false)
	}
}

// A counter's total goes on over a restart, another name and a reload of the rest, and is
// what was counted.
func TestCounterOverRestarts(t *testing.T) {
	s := daemontest.NewSite(t, nil)
	l := s.Board.Line("GPIO17")
	await := func(r *daemontest.Running, name string, count, volume, gaps float64) {
		t.Helper()
		want := fmt.Sprint(count, volume, gaps)
		daemontest.Await(t, want, r.Taken, func(m message.Record) bool {
			return m.Sensor == name && m.Kind == message.Reading && fmt.Sprint(m.Field("count"), m.Field("volume"), m.Field("gaps")) == want
		})
	}
	r := s.Start(s.Config(meter("water"), ""))
	await(r, "water", 0, 100, 0)
	turns(l, 7) // more than this is not on disk for a minute, or until the daemon stops
	if err := r.Stop(); err != nil {
		t.Fatal(err)
	}
	turns(l, 2) // nobody counts these
	r = s.Start(s.Config(meter("water"), ""))
	await(r, "water", 7, 170, 1)
	turns(l, 5)
	swap(t, r, s.Config(meter("water")+"\n"+soil, ""))
	turns(l, 5)
	swap(t, r, s.Config(meter("mains"), ""))
	await(r, "mains", 7, 170, 1) // on disk there is no more yet, and that goes by the name
	turns(l, 1)
	if err := r.Stop(); err != nil {
		t.Fatal(err)
	}
	r = s.Start(s.Config(meter("mains"), ""))
	await(r, "mains", 18, 280, 3)
	if err := r.Stop(); err != nil {
		t.Fatal(err)
	}
}
