package sampler

import (
	"context"
	"fmt"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"fieldpost/daemon/health"
	"fieldpost/daemon/journal/journaltest"
	"fieldpost/daemon/task"
	"fieldpost/daemon/totals"
	"fieldpost/sensors"
	"fieldpost/sensors/sim"
)

// waterMeter is a counter of 10 litres a pulse.
func waterMeter(name string) sensors.Config {
	return sensors.Config{Name: name, Chip: "counter", Every: time.Minute, Options: sensors.CounterOptions{
		PulseLine: sensors.PulseLine{Pin: "GPIO17"}, Measures: "water", PerPulse: 10, MaxRate: 10, Idle: time.Hour,
	}}
}

// metered runs a Sampler with totals in a storage.
func metered(t *testing.T, b *sim.Board, disk *journaltest.Storage, configs ...sensors.Config) (r *rig, store *totals.Store, stop func()) {
	t.Helper()
	store = totals.New(totals.Options{Storage: appending{disk}})
	for _, c := range configs {
		store.Configure([]string{c.Name})
	}
	writing := task.Start("totals", make(chan error, 1), store.Run)
	r = runCatalog(t, Options{Board: b, Totals: store}, sensors.Lookup, configs...)
	return r, store, func() {
		t.Helper()
		r.stop()
		if err := writing.Stop(time.Minute); err != nil {
			t.Error(err)
		}
	}
}

// appending is a storage that can be appended to.
type appending struct{ *journaltest.Storage }

// Append keeps what is there.
func (s appending) Append(entries ...[]byte) error {
	var all [][]byte
	if _, err := s.Replay(func(e []byte) { all = append(all, append([]byte(nil), e...)) }); err != nil {
		return err
	}
	all = append(all, entries...)
	return s.Rewrite(func(yield func([]byte) bool) {
		for _, e := range all {
			if !yield(e) {
				return
			}
		}
	})
}

// pulse makes pulses of a second, and then waits until d is over.
func pulse(l *sim.Line, n int, d time.Duration) {
	for range n {
		l.Drive(true)
		<-time.After(time.Second / 2)
		l.Drive(false)
		<-time.After(time.Second / 2)
	}
	pass(d - time.Duration(n)*time.Second)
}

// wantLast checks the last reading of a sensor.
func wantLast(t *testing.T, r *rig, what, sensor string, want map[string]any) {
	t.Helper()
	_, last := fieldsOf(r, sensor)
	for name, v := range want {
		if fmt.Sprint(last[name]) != fmt.Sprint(v) {
			t.Errorf("%s: %s of %s is %v, want %v", what, name, sensor, last[name], v)
		}
	}
}

// A counter counts exactly over a stop, a failing line and another configuration, and its
// readings say where pulses may have been missed.
func TestCounter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, disk := sim.New(), &journaltest.Storage{}
		l := b.Line("GPIO17")
		r, _, stop := metered(t, b, disk, waterMeter("water"))
		wantLast(t, r, "at the start", "water", map[string]any{"count": 0, "volume": 0, "gaps": 0, "flow": nil, "active": false})
		pulse(l, 7, time.Minute)
		wantLast(t, r, "seven pulses", "water", map[string]any{"count": 7, "volume": 70, "gaps": 0, "flow": 600})
		pulse(l, 3, 30*time.Second)
		stop() // three are not in a reading

		r, store, stop := metered(t, b, disk, waterMeter("water"))
		wantLast(t, r, "after a stop", "water", map[string]any{"count": 10, "volume": 100, "gaps": 1})
		// The line fails once: it stays requested, and keeps its edges.
		pulse(l, 2, 59*time.Second)
		l.Fail(syscall.EIO)
		pass(2 * time.Second)
		l.Fail(nil)
		pass(2 * time.Minute)
		wantLast(t, r, "a failed read", "water", map[string]any{"count": 12, "gaps": 1})
		// Another name: the line is opened again.
		pulse(l, 1, 10*time.Second)
		store.Configure([]string{"mains"})
		if err := r.s.Reconfigure(context.Background(), []sensors.Config{waterMeter("mains")}); err != nil {
			t.Fatal(err)
		}
		pass(2 * time.Minute)
		wantLast(t, r, "renamed", "mains", map[string]any{"count": 13, "volume": 130, "gaps": 2})
		// The same configuration: nothing is touched.
		pulse(l, 4, 10*time.Second)
		if err := r.s.Reconfigure(context.Background(), []sensors.Config{waterMeter("mains")}); err != nil {
			t.Fatal(err)
		}
		pass(2 * time.Minute)
		wantLast(t, r, "not changed", "mains", map[string]any{"count": 17, "gaps": 2})
		stop()
	})
}

// Without a disk that can be read a counter has no total, and when the disk is there it has
// all that was counted.
func TestCounterWithoutADisk(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, disk := sim.New(), &journaltest.Storage{}
		disk.Fail(syscall.EIO, syscall.EIO)
		r, _, stop := metered(t, b, disk, waterMeter("water"))
		pulse(b.Line("GPIO17"), 5, time.Minute)
		wantLast(t, r, "no disk", "water", map[string]any{"count": nil, "volume": nil, "gaps": nil, "flow": 600, "active": false})
		disk.Fail(nil, nil)
		pass(time.Minute)
		wantLast(t, r, "a disk", "water", map[string]any{"count": 5, "volume": 50, "gaps": 0})
		stop()
	})
}

// Hum raises a fault, and is not counted beyond what is possible. The fault is cleared when
// it is over; the gap stays.
func TestCounterOnAHummingLine(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, disk := sim.New(), &journaltest.Storage{}
		r, _, stop := metered(t, b, disk, waterMeter("water"))
		ctx, cancel := context.WithTimeout(context.Background(), 59*time.Second)
		defer cancel()
		b.Line("GPIO17").Chatter(ctx, 5000) // 2500 pulses a second
		pass(time.Minute)
		wantLast(t, r, "hum", "water", map[string]any{"count": 610, "gaps": 1, "flow": nil})
		same(t, "faults", changed(r), []string{"water " + string(health.Chatters) + " raised"})
		pass(2 * time.Minute)
		wantLast(t, r, "over", "water", map[string]any{"count": 610, "gaps": 1})
		same(t, "faults", changed(r), []string{"water " + string(health.Chatters) + " raised", "water " + string(health.Chatters) + " cleared"})
		stop()
	})
}

// A request for a reading takes no pulse away from the next one.
func TestCounterReadOnRequest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, disk := sim.New(), &journaltest.Storage{}
		r, _, stop := metered(t, b, disk, waterMeter("water"))
		pulse(b.Line("GPIO17"), 5, 30*time.Second)
		if _, _, err := r.s.Read(context.Background(), "water"); err != nil {
			t.Fatal(err)
		}
		pass(time.Minute)
		wantLast(t, r, "read", "water", map[string]any{"count": 5})
		stop()
	})
}

// Without a daemon the total is not known.
func TestCounterOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := sim.New()
		b.Line("GPIO17").Drive(true)
		fields, err := Once(context.Background(), b, waterMeter("water"))
		if err != nil || fmt.Sprint(fields) != "[{active true}]" {
			t.Errorf("%v, %v", fields, err)
		}
	})
}
