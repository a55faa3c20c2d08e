package daemon_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"fieldpost/daemon"
	"fieldpost/daemon/api"
	"fieldpost/daemon/client"
	"fieldpost/daemon/daemontest"
	"fieldpost/daemon/local"
	"fieldpost/daemon/message"
	"fieldpost/daemon/systemd"
	"fieldpost/sensors"
)

// An order through the socket goes through the same gate, moves the line, and
// its cause says who gave it. Its answer is not for the broker.
func TestLocalOrder(t *testing.T) {
	s := daemontest.NewSite(t, nil)
	heard := s.Listen("test-ear")
	r, socket := s.StartWithSocket(s.Config("", ""))
	r.AwaitLink(t)
	daemontest.AwaitStatus(t, socket, "answer", func(api.Status) bool { return true })
	ctx := context.Background()
	a, err := client.AskOrder(ctx, socket, "thing-greenhouse", client.OrderRequest{Output: "pump", Action: "on", For: time.Minute, Life: time.Minute})
	if err != nil || a.Status != "done" || a.Output != "pump" || a.State != "on" || !strings.HasPrefix(a.ID, "c-") {
		t.Errorf("on: %+v, %v", a, err)
	}
	if high, driven := s.Board.Line("GPIO27").Level(); high || !driven {
		t.Errorf("line is high %v, driven %v; want it driven low: the pump is active low and on", high, driven)
	}
	st := daemontest.AwaitStatus(t, socket, "pump on", func(r api.Status) bool { return r.Outputs[0].State == "on" })
	pump := st.Outputs[0]
	if who := fmt.Sprintf("local uid=%d", os.Getuid()); !strings.HasPrefix(pump.Cause, who) || !strings.HasSuffix(pump.Cause, fmt.Sprintf(" pid=%d", os.Getpid())) || pump.Order != a.ID {
		t.Errorf("cause %q of order %q, want %s", pump.Cause, pump.Order, who)
	}
	daemontest.Await(t, "event with that cause", heard, func(m map[string]any) bool {
		return m["kind"] == "event" && m["output"] == "pump" && m["state"] == "on" && m["cause"] == pump.Cause
	})
	for want, o := range map[string]client.OrderRequest{
		"unknown_output": {Output: "heater", Action: "on", Life: time.Minute},
		"unknown_action": {Output: "pump", Action: "explode", Life: time.Minute},
		"expired":        {Output: "pump", Action: "on", Life: -time.Minute},
		"too_far_ahead":  {Output: "pump", Action: "on", Life: 48 * time.Hour},
	} {
		if a, err := client.AskOrder(ctx, socket, "", o); err != nil || a.Status != "refused" || a.Reason != want || a.Hint == "" {
			t.Errorf("%s: %+v, %v", want, a, err)
		}
	}
	if a, err := client.AskOrder(ctx, socket, "thing-other", client.OrderRequest{Output: "pump", Action: "off", Life: time.Minute}); !errors.Is(err, client.ErrNotOurs) || a.Status != "" {
		t.Errorf("another board's: %+v, %v", a, err)
	}
	// The answer to an order of the broker's comes after all that has gone there.
	s.Publisher("test-mouth")(daemontest.Order("c-broker", "off", time.Minute))
	daemontest.Await(t, "answer to the broker's order", heard, func(m map[string]any) bool {
		if m["kind"] == "answer" && m["id"] != "c-broker" {
			t.Errorf("heard %v", m)
		}
		return m["id"] == "c-broker" && m["kind"] == "answer"
	})
}

// What a program sends that speaks the protocol badly is refused, not misread.
func TestLocalOrderOfAStranger(t *testing.T) {
	s := daemontest.NewSite(t, nil)
	_, socket := s.StartWithSocket(s.Config("", ""))
	daemontest.AwaitStatus(t, socket, "answer", func(api.Status) bool { return true })
	life := time.Now().Add(time.Minute).UTC().Format(time.RFC3339)
	for text, want := range map[string]string{
		`{"id":"c-1","id":"c-2","output":"pump","action":"on","expires":"` + life + `"}`: "malformed",
		`{"id":"c-3","output":"pump","action":"on"}`:                                     "unstamped",
		`{"output":"pump","action":"on","expires":"` + life + `"}`:                       "unstamped",
		`{"id":"c-4","output":"pump","action":"on","relay":1,"expires":"` + life + `"}`:  "malformed",
	} {
		var a api.OrderAnswer
		if err := local.Do(context.Background(), socket, api.PostOrder, json.RawMessage(text), &a); err != nil || a.Status != "refused" || a.Reason != want {
			t.Errorf("%s: %+v, %v", text, a, err)
		}
	}
	for _, text := range []string{`null`, `[]`, `{}`, `{"kind":"answer","action":"on"}`, `"on"`} {
		var said *api.Error
		if err := local.Do(context.Background(), socket, api.PostOrder, json.RawMessage(text), new(any)); !errors.As(err, &said) || said.Code != "not_ours" {
			t.Errorf("%s: %v", text, err)
		}
	}
	if timesOn(s) > 0 {
		t.Error("the pump went on")
	}
}

// An order whose line hangs is answered unknown when the daemon stops, and the
// stop does not wait for it.
func TestLocalOrderOnAHungLine(t *testing.T) {
	s := daemontest.NewSite(t, nil)
	b := newHanging(s.Board)
	socket := filepath.Join(t.TempDir(), "s")
	acked := make(chan message.Record, 4096)
	d, err := daemon.New(daemon.Options{
		Config: s.Config("", ""), Board: s.Board, Clock: s.Clock(), Socket: socket, Log: slog.New(slog.DiscardHandler),
		Notify: &systemd.Notifier{Send: func(string) error { return nil }}, Acked: func(r message.Record) { acked <- r },
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	ended := make(chan error, 1)
	go func() { ended <- d.Run(ctx) }()
	daemontest.AwaitStatus(t, socket, "answer", func(api.Status) bool { return true })
	b.hang.Store(true)
	answered := make(chan api.OrderAnswer, 1)
	go func() {
		a, err := client.AskOrder(context.Background(), socket, "", client.OrderRequest{Output: "pump", Action: "on", Life: time.Minute})
		if err != nil {
			t.Error(err)
		}
		answered <- a
	}()
	<-b.hung
	// The others are answered meanwhile.
	daemontest.AwaitStatus(t, socket, "status", func(r api.Status) bool { return r.Outputs[0].Name == "pump" })
	cancel()
	a := daemontest.Await(t, "answer", answered, func(api.OrderAnswer) bool { return true })
	if a.Status != "unknown" || !strings.Contains(a.Hint, "still under way") {
		t.Errorf("answer %+v", a)
	}
	daemontest.Await(t, "end with the outputs named", ended, func(err error) bool {
		return err != nil && !strings.Contains(err.Error(), "local socket") && strings.Contains(err.Error(), "make outputs safe")
	})
	close(b.free)
}

// A reading that is asked for is true, and nobody else's: the broker's go on in
// their order, without a gap.
func TestLocalRead(t *testing.T) {
	s := daemontest.NewSite(t, nil)
	heard := s.Listen("test-ear")
	_, socket := s.StartWithSocket(s.Config("  - {name: gone, chip: lm75, bus: i2c-1, address: 0x49, every: 1h}", ""))
	daemontest.AwaitStatus(t, socket, "reading", func(r api.Status) bool { return r.Sensors[0].Values != nil && len(r.Faults) == 1 })
	ctx := context.Background()
	s.Air.SetTemperature(30.25)
	for range 20 {
		r, err := client.AskRead(ctx, socket, "thing-greenhouse", "air")
		if err != nil || r.Sensor != "air" || r.Chip != "bme280" || !r.ClockSynced || r.Time.IsZero() || len(r.Values) != 3 || r.Values[0].Value != 30.25 {
			t.Fatalf("got %+v, %v", r, err)
		}
	}
	next := 1.0
	for next < 4 {
		m := daemontest.Await(t, "reading", heard, daemontest.Has("sensor", "air"))
		if m["seq"] != next {
			t.Errorf("reading %v, want number %v", m, next)
		}
		next++
	}
	var said *api.Error
	if _, err := client.AskRead(ctx, socket, "", "gone"); !errors.As(err, &said) || said.Code != "no_answer" || !strings.Contains(said.Text, `read "gone": `) || said.Hint == "" {
		t.Errorf("a chip that is not there: %+v", err)
	}
	if _, err := client.AskRead(ctx, socket, "", "moon"); !errors.As(err, &said) || said.Code != "unknown_sensor" {
		t.Errorf("a sensor that is not there: %+v", err)
	}
	if _, err := client.AskRead(ctx, socket, "thing-other", "air"); !errors.Is(err, client.ErrNotOurs) {
		t.Errorf("another board's: %v", err)
	}
	if err := local.Do(ctx, socket, api.PostRead, map[string]any{"sensor": 1}, new(any)); !errors.As(err, &said) || said.Code != "malformed" {
		t.Errorf("a number for a name: %v", err)
	}
}

// Where a daemon runs without this socket, its spool's lock tells of it.
func TestReadHere(t *testing.T) {
	s := daemontest.NewSite(t, nil)
	cfg := s.Config("", "")
	r, err := client.ReadHere(context.Background(), cfg, s.Board, cfg.Sensors[0])
	if err != nil || r.Values[0].Value != 21.5 {
		t.Errorf("without a daemon: %+v, %v", r, err)
	}
	d := s.Start(cfg)
	daemontest.Await(t, "reading", d.Taken, func(rec message.Record) bool { return rec.Kind == message.Reading })
	if _, err := client.ReadHere(context.Background(), cfg, s.Board, cfg.Sensors[0]); err == nil || !strings.Contains(err.Error(), `read "air": a daemon uses the hardware`) {
		t.Errorf("with one: %v", err)
	}
	missing := cfg.Sensors[0]
	missing.Options = sensors.I2C{Bus: "i2c-1", Address: 0x77}
	if err := d.Stop(); err != nil {
		t.Fatal(err)
	}
	var said *api.Error
	if _, err := client.ReadHere(context.Background(), cfg, s.Board, missing); !errors.As(err, &said) || !strings.Contains(err.Error(), `read sensor "air"`) ||
		said.Code != "no_answer" || !strings.Contains(said.Hint, "its power, its wiring") {
		t.Errorf("a chip that is not there: %+v", err)
	}
	s.Board.AddBus("i2c-1").Own(0x76, "bmp280")
	if _, err := client.ReadHere(context.Background(), cfg, s.Board, cfg.Sensors[0]); !errors.As(err, &said) ||
		said.Code != "address_owned" || !strings.Contains(said.Text, "driver bmp280") || !strings.Contains(said.Hint, "dtoverlay") {
		t.Errorf("a chip that the kernel has: %+v", err)
	}
}

// A member of the group who holds all connections that he can get keeps no order
// from getting through.
func TestOrderBesideSilentClients(t *testing.T) {
	s := daemontest.NewSite(t, nil)
	r, socket := s.StartWithSocket(s.Config("", ""))
	r.AwaitLink(t)
	daemontest.AwaitStatus(t, socket, "answer", func(api.Status) bool { return true })
	for i := range 40 {
		c, err := net.Dial("unix", socket)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		if _, err := io.WriteString(c, "POST /v1"[:i%8]); err != nil {
			t.Fatal(err)
		}
	}
	for _, action := range []string{"on", "off"} {
		a, err := client.AskOrder(context.Background(), socket, "", client.OrderRequest{Output: "pump", Action: action, Life: time.Minute})
		if err != nil || a.Status != "done" || a.State != action {
			t.Errorf("%s: %+v, %v", action, a, err)
		}
	}
}
