package daemon_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"testing"

	"fieldpost/daemon"
	"fieldpost/daemon/api"
	"fieldpost/daemon/client"
	"fieldpost/daemon/daemontest"
	"fieldpost/daemon/local"
	"fieldpost/daemon/message"
)

// The status tells the truth about a board of which some things work.
func TestStatus(t *testing.T) {
	s := daemontest.NewSite(t, nil)
	s.Board.Line("GPIO5").Hold("gpio-keys")
	cfg := s.Config("  - {name: gone, chip: lm75, bus: i2c-1, address: 0x49, every: 1s}", "  - {name: fan, pin: GPIO5}")
	_, socket := s.StartWithSocket(cfg)
	r := daemontest.AwaitStatus(t, socket, "readings and faults", func(r api.Status) bool {
		return r.Link.Connected && len(r.Sensors[0].Values) == 3 && len(r.Faults) == 2 && r.Spool.Waiting == 0
	})
	if r.Thing != "thing-greenhouse" || r.Version != "test" || r.Run == 0 || r.PID != os.Getpid() || !r.ClockSynced || r.Started.After(r.Time) {
		t.Errorf("itself: %+v", r)
	}
	if l := r.Link; l.Endpoint != s.Addr || l.ClientID != "thing-greenhouse" || l.LastError != nil || l.Acknowledged == 0 || l.Connects != 1 || l.Attempts != 0 || !l.Next.IsZero() || l.Since.Before(r.Started) {
		t.Errorf("link: %+v", l)
	}
	if c := r.Certificate; c.File != cfg.Broker.Certificate || c.Error != "" || c.Expires.Before(r.Time) {
		t.Errorf("certificate: %+v", c)
	}
	if sp := r.Spool; !sp.Writable || sp.MaxBytes != cfg.Spool.MaxBytes || sp.Dropped != 0 {
		t.Errorf("spool: %+v", sp)
	}
	air, gone := r.Sensors[0], r.Sensors[1]
	if air.Name != "air" || air.Chip != "bme280" || air.Values[0].Name != "temperature" || air.Values[0].Value != 21.5 || air.Seq == 0 || air.Time.IsZero() || air.Faults != nil || air.FailedReads != 0 {
		t.Errorf("air: %+v", air)
	}
	if gone.Name != "gone" || gone.Values != nil || !gone.Time.IsZero() || strings.Join(gone.Faults, " ") != "no_answer" || gone.FailedReads == 0 {
		t.Errorf("gone: %+v", gone)
	}
	pump, fan := r.Outputs[0], r.Outputs[1]
	if pump.Name != "pump" || pump.State != "off" || pump.Cause != "initial" || pump.Since.IsZero() || pump.Error != "" {
		t.Errorf("pump: %+v", pump)
	}
	if fan.Name != "fan" || fan.State != "" || !strings.Contains(fan.Error, "gpio-keys") || strings.Join(fan.Faults, " ") != "line_busy" {
		t.Errorf("fan: %+v", fan)
	}
	if f := r.Faults[0]; f.Subject != "fan" || f.Code != "line_busy" || f.Title == "" || f.Detail == "" || f.Hint == "" || !f.Error || f.Since.IsZero() {
		t.Errorf("fault: %+v", f)
	}
}

// While the broker is away the status says why, when it is tried next, and what
// waits meanwhile.
func TestStatusWithoutBroker(t *testing.T) {
	s := daemontest.NewSite(t, nil)
	s.Addr = "127.0.0.1:1"
	cfg := s.Config("", "")
	_, socket := s.StartWithSocket(cfg)
	r := daemontest.AwaitStatus(t, socket, "error", func(r api.Status) bool {
		return r.Link.LastError != nil && !r.Link.Next.IsZero() && r.Spool.Waiting > 1
	})
	if l := r.Link; l.Connected || l.Connects != 0 || l.Attempts == 0 || l.LastError.Code != "network_down" || l.LastError.Over || l.LastError.Hint == "" || l.LastError.Time.Before(r.Started) || l.Next.Before(r.Started) {
		t.Errorf("link: %+v, %+v", l, l.LastError)
	}
	if r.Spool.Oldest == 0 || r.Spool.AtRisk > r.Spool.Waiting {
		t.Errorf("spool: %+v", r.Spool)
	}
	if err := os.Remove(cfg.Broker.Certificate); err != nil {
		t.Fatal(err)
	}
	daemontest.AwaitStatus(t, socket, "certificate that is gone", func(r api.Status) bool {
		return r.Certificate.Expires.IsZero() && strings.Contains(r.Certificate.Error, "no such file")
	})
}

// A socket that cannot be had is named, and costs nothing else. When the other
// daemon ends, its socket goes with it.
func TestSocketOfAnother(t *testing.T) {
	s := daemontest.NewSite(t, nil)
	r, socket := s.StartWithSocket(s.Config("", ""))
	daemontest.AwaitStatus(t, socket, "answer", func(api.Status) bool { return true })

	other := daemontest.NewSite(t, nil)
	acked := make(chan message.Record, 4096)
	other.Launch(daemon.Options{
		Config: other.Config("", ""), Socket: socket, Log: slog.New(slog.DiscardHandler),
		Acked: func(rec message.Record) { acked <- rec },
	})
	fault := daemontest.Await(t, "fault", acked, func(rec message.Record) bool { return rec.Kind == message.Fault })
	var detail string
	for _, f := range fault.Fields {
		if f.Name == "code" && f.Value != "local_unavailable" {
			t.Errorf("fault %v", fault.Fields)
		}
		if f.Name == "detail" {
			detail, _ = f.Value.(string)
		}
	}
	if !strings.Contains(detail, "another daemon answers at") {
		t.Errorf("detail: %s", detail)
	}
	daemontest.Await(t, "reading", acked, func(rec message.Record) bool { return rec.Kind == message.Reading })
	daemontest.AwaitStatus(t, socket, "first daemon", func(r api.Status) bool { return len(r.Faults) == 0 })
	if err := r.Stop(); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Lstat(socket); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the socket is still there: %v", err)
	}
	if _, err := client.AskStatus(context.Background(), socket); !errors.Is(err, local.ErrNotRunning) {
		t.Errorf("after its end: %v", err)
	}
}

// What to do about a line or a zone that is not there speaks of neither I2C nor
// of the other, in the status as in the message.
func TestHintOfPlace(t *testing.T) {
	s := daemontest.NewSite(t, nil)
	cfg := s.Config("  - {name: door, chip: gpio, pin: 'nochip:3'}\n  - {name: cpu, chip: thermal, zone: moon, every: 1s}\n  - {name: soil, chip: lm75, bus: i2c-9, every: 1s}", "  - {name: fan, pin: 'nochip:4'}")
	r, socket := s.StartWithSocket(cfg)
	now := daemontest.AwaitStatus(t, socket, "faults", func(r api.Status) bool { return len(r.Faults) == 4 })
	want := map[string]string{"door": "gpioinfo", "fan": "gpioinfo", "cpu": "/sys/class/thermal", "soil": "dtparam=i2c_arm=on"}
	for _, f := range now.Faults {
		if f.Code != "absent" || !strings.Contains(f.Hint, want[f.Subject]) {
			t.Errorf("%s: %s: %s", f.Subject, f.Code, f.Hint)
		}
	}
	daemontest.Await(t, "fault messages with these hints", r.Taken, func(rec message.Record) bool {
		for _, f := range now.Faults {
			if rec.Kind == message.Fault && strings.Contains(fmt.Sprint(rec.Sensor, rec.Fields), f.Subject) && strings.Contains(fmt.Sprint(rec.Fields), f.Hint) {
				delete(want, f.Subject)
			}
		}
		return len(want) == 0
	})
}
