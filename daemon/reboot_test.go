package daemon_test

import (
	"context"
	"sync/atomic"
	"testing"
	"time"

	"fieldpost/daemon"
	"fieldpost/daemon/clock"
	"fieldpost/daemon/daemontest"
	"fieldpost/daemon/message"
	"fieldpost/daemon/systemd"
	"fieldpost/daemon/uplink"
)

// A board starts in the past, takes readings, learns the time, and reboots
// before it has reached the broker: the readings come with their true time.
func TestTimeOutlivesAReboot(t *testing.T) {
	s := daemontest.NewSite(t, nil)
	heard := s.Listen("test-ear")
	began := time.Now()
	// boot runs a daemon in a boot of its own.
	boot := func(id string, synced *atomic.Bool) (taken chan message.Record, linked chan uplink.Status, stop func() error) {
		now := clock.Func(func() clock.Stamp {
			since := time.Since(began)
			c := clock.Stamp{Boot: id, Mono: since, Wall: began.Add(since).UTC(), Synced: synced.Load()}
			if !c.Synced {
				c.Wall = time.Unix(0, 0).UTC().Add(since)
			}
			return c
		})
		taken, linked = make(chan message.Record, 4096), make(chan uplink.Status, 256)
		d, err := daemon.New(daemon.Options{
			Config: s.Config("", ""), Board: s.Board, Clock: now, Runtime: s.Dir, Version: "test",
			Log:    daemontest.Log(t),
			Notify: &systemd.Notifier{Send: func(string) error { return nil }},
			Taken:  func(r message.Record) { taken <- r }, Linked: daemontest.ConnectionChanges(linked),
		})
		if err != nil {
			t.Fatal(err)
		}
		return taken, linked, daemontest.Background(t, func(ctx context.Context) error { return d.Run(ctx) })
	}
	broker := s.Addr
	s.Addr = "127.0.0.1:1" // nobody is there
	var synced atomic.Bool
	taken, _, stop := boot("first", &synced)
	first := daemontest.Await(t, "reading", taken, func(r message.Record) bool { return r.Kind == message.Reading })
	synced.Store(true)
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	if first.Stamp.Synced || first.Seq != 1 {
		t.Fatalf("the first reading is %+v", first)
	}

	s.Addr = broker
	_, linked, _ := boot("second", new(atomic.Bool))
	daemontest.Await(t, "link", linked, func(st uplink.Status) bool { return st.Connected })
	m := daemontest.Await(t, "the first reading", heard, func(m map[string]any) bool {
		return m["sensor"] == "air" && m["run"] == float64(first.Run) && m["seq"] == 1.0
	})
	at, err := time.Parse(time.RFC3339, m["time"].(string))
	if want := began.Add(first.Stamp.Mono); err != nil || at.Sub(want).Abs() > 2*time.Millisecond || m["clock"] != nil {
		t.Errorf("it came as %v, want it to have been at %v; %v", m, want, err)
	}
	daemontest.Await(t, "a reading of now", heard, func(m map[string]any) bool {
		return m["sensor"] == "air" && m["run"] == float64(first.Run+1) && m["clock"] == "unsynced"
	})
}
