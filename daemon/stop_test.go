package daemon_test

import (
	"context"
	"fmt"
	"log/slog"
	"sync/atomic"
	"testing"
	"time"

	"fieldpost/daemon"
	"fieldpost/daemon/daemontest"
	"fieldpost/daemon/message"
	"fieldpost/daemon/systemd"
	"fieldpost/sensors/board"
	"fieldpost/sensors/sim"
)

// A stop ends the wait of an order for its min_on: the line is safe, the order
// is answered, and nothing takes long.
func TestStopEndsTheWaitForMinOn(t *testing.T) {
	s := daemontest.NewSite(t, nil)
	heard, say := s.Listen("test-ear"), s.Publisher("test-mouth")
	r := s.Start(s.Config("", "  - {name: fan, pin: GPIO5, min_on: 1h}")).AwaitLink(t)
	fan := func(id, action string) {
		say(fmt.Sprintf(`{"id":%q,"output":"fan","action":%q,"expires":%q}`, id, action, time.Now().Add(time.Minute).Format(time.RFC3339)))
	}
	answer := func(id string) map[string]any {
		t.Helper()
		return daemontest.Await(t, "answer "+id, heard, func(m map[string]any) bool { return m["kind"] == "answer" && m["id"] == id })
	}
	fan("c-1", "on")
	if a := answer("c-1"); a["status"] != "done" {
		t.Fatalf("answer %v", a)
	}
	fan("c-2", "off")
	fan("c-3", "on")
	if a := answer("c-3"); a["reason"] != "too_soon" {
		t.Errorf("answer %v, want it refused while the order to safe waits", a)
	}
	if high, _ := s.Board.Line("GPIO5").Level(); !high {
		t.Error("the fan is off before its min_on is over")
	}
	if err := r.Stop(); err != nil {
		t.Errorf("the stop: %v", err)
	}
	if high, _ := s.Board.Line("GPIO5").Level(); high {
		t.Error("the fan is on after the stop")
	}
	if a := answer("c-2"); a["status"] != "done" || a["state"] != "off" {
		t.Errorf("answer %v", a)
	}
}

// telling is a board that tells when a line is switched off.
type telling struct {
	*sim.Board
	off chan string
}

type tellingOutput struct {
	board.Output
	b telling
}

func (b telling) Output(c board.OutputConfig) (board.Output, error) {
	o, err := b.Board.Output(c)
	if err != nil {
		return nil, err
	}
	return tellingOutput{o, b}, nil
}

func (o tellingOutput) Set(active bool) error {
	err := o.Output.Set(active)
	if err == nil && !active {
		o.b.off <- o.ID().Name
	}
	return err
}

// stopped is a log that stands still once it is shut, until it is opened.
type stopped struct {
	shut atomic.Bool
	open chan struct{}
}

func (s *stopped) Write(p []byte) (int, error) {
	if s.shut.Load() {
		<-s.open
	}
	return len(p), nil
}

// A log that blocks keeps no line from being made safe at a stop.
func TestBlockedLogDoesNotKeepPinsFromSafe(t *testing.T) {
	s := daemontest.NewSite(t, nil)
	log := &stopped{open: make(chan struct{})}
	acked := make(chan message.Record, 4096)
	b := telling{s.Board, make(chan string, 64)}
	d, err := daemon.New(daemon.Options{
		Config: s.Config("", "  - {name: fan, pin: GPIO5, initial: on, safe: off}\n  - {name: lamp, pin: GPIO6, initial: on, safe: off}"),
		Board:  b, Clock: s.Clock(), Log: slog.New(slog.NewTextHandler(log, nil)),
		Notify: &systemd.Notifier{Send: func(string) error { return nil }}, Acked: func(r message.Record) { acked <- r },
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	ended := make(chan error, 1)
	go func() { ended <- d.Run(ctx) }()
	daemontest.Await(t, "acknowledged reading", acked, func(r message.Record) bool { return r.Kind == message.Reading })
	log.shut.Store(true)
	cancel()
	left := map[string]bool{"GPIO5": true, "GPIO6": true}
	daemontest.Await(t, "both lines off", b.off, func(line string) bool {
		delete(left, line)
		return len(left) == 0
	})
	close(log.open)
	daemontest.Await(t, "end", ended, func(err error) bool {
		if err != nil {
			t.Error(err)
		}
		return true
	})
}

// What an output was outlives a stop, in the journal beside the spool: it is
// safe between the runs, and then what it was.
func TestLastLevelOutlivesAStop(t *testing.T) {
	s := daemontest.NewSite(t, nil)
	heard, say := s.Listen("test-ear"), s.Publisher("test-mouth")
	cfg := s.Config("", "  - {name: fan, pin: GPIO5, initial: last}")
	r := s.Start(cfg).AwaitLink(t)
	say(fmt.Sprintf(`{"id":"c-1","output":"fan","action":"on","expires":%q}`, time.Now().Add(time.Minute).Format(time.RFC3339)))
	changed := daemontest.Await(t, "event", heard, func(m map[string]any) bool { return m["kind"] == "event" && m["id"] == "c-1" })
	if changed["output"] != "fan" || changed["state"] != "on" || changed["cause"] != "mqtt" {
		t.Errorf("event %v", changed)
	}
	if err := r.Stop(); err != nil {
		t.Error(err)
	}
	if high, _ := s.Board.Line("GPIO5").Level(); high {
		t.Error("the fan is on after the stop")
	}
	s.Start(cfg).AwaitLink(t)
	if high, driven := s.Board.Line("GPIO5").Level(); !high || !driven {
		t.Errorf("the fan is not on after the start: high %v, driven %v", high, driven)
	}
	daemontest.Await(t, "event of the start", heard, func(m map[string]any) bool {
		return m["kind"] == "event" && m["output"] == "fan" && m["cause"] == "initial" && m["state"] == "on"
	})
}

// With at_risk: 0 a message is only sent from the disk. What comes at the very
// end, such as the last level of an input that chatters and the outputs' way to
// safe, is sent all the same.
func TestStopSendsWhatIsNotYetOnDisk(t *testing.T) {
	s := daemontest.NewSite(t, nil)
	cfg := s.Config("  - {name: door, chip: gpio, pin: GPIO17, max_edges: 1/s}", "  - {name: fan, pin: GPIO5, initial: on}")
	cfg.Spool.AtRisk = 0
	r := s.Start(cfg).AwaitLink(t)
	door := s.Board.Line("GPIO17")
	daemontest.Await(t, "reading of the door", r.Acked, func(r message.Record) bool { return r.Sensor == "door" })
	for i := range 31 {
		door.Drive(i%2 == 0)
	}
	if err := r.Stop(); err != nil {
		t.Errorf("the stop: %v", err)
	}
	close(r.Acked)
	changes, stopped := int64(0), false
	for rec := range r.Acked {
		switch {
		case rec.Sensor == "door" && rec.Kind == message.Edge:
			changes += rec.Fields[1].Value.(int64)
		case rec.Kind == message.Event && rec.Fields[0].Value == "fan" && rec.Fields[2].Value == "stop":
			stopped = true
		}
	}
	if changes != 31 || !stopped {
		t.Errorf("acknowledged: %d of 31 changes; the output's event: %v", changes, stopped)
	}
}
