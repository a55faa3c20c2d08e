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
	"fieldpost/daemon/config"
	"fieldpost/daemon/local"
	"fieldpost/daemon/message"
	"fieldpost/daemon/systemd"
	"fieldpost/daemon/uplink"
	"fieldpost/sensors"
)

// withSocket starts a daemon with a socket and gives its path.
func (s *site) withSocket(cfg *config.Config) (r *running, socket string) {
	s.t.Helper()
	dir, err := os.MkdirTemp("", "fieldpost") // short, as a socket's path must be
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { os.RemoveAll(dir) })
	socket = filepath.Join(dir, "fieldpost.sock")
	r = &running{taken: make(chan message.Record, 4096), acked: make(chan message.Record, 4096), linked: make(chan uplink.Status, 256)}
	r.stop = s.launch(daemon.Options{
		Config: cfg, Socket: socket, Log: slog.New(systemd.NewLogger(testWriter{s.t}, slog.LevelInfo).Handler()),
		Taken: func(rec message.Record) { r.taken <- rec }, Acked: func(rec message.Record) { r.acked <- rec }, Linked: changes(r.linked),
	})
	return r, socket
}

// told asks for the status until it is as ok wants it.
func told(t *testing.T, socket string, what string, ok func(api.Status) bool) api.Status {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	again := time.NewTicker(10 * time.Millisecond)
	defer again.Stop()
	for {
		r, err := client.AskStatus(ctx, socket)
		switch {
		case err == nil && ok(r):
			return r
		case ctx.Err() != nil:
			t.Fatalf("no %s: %+v, %v", what, r, err)
		case err != nil && !errors.Is(err, local.ErrNotRunning):
			t.Fatal(err)
		}
		<-again.C
	}
}

// An order through the socket goes through the same gate, moves the line, and
// its cause says who gave it. Its answer is not for the broker.
func TestLocalOrder(t *testing.T) {
	s := newSite(t, nil)
	heard := s.ear("test-ear")
	r, socket := s.withSocket(s.config("", ""))
	r.linkedUp(t)
	told(t, socket, "answer", func(api.Status) bool { return true })
	ctx := context.Background()
	a, err := client.AskOrder(ctx, socket, "thing-greenhouse", client.OrderRequest{Output: "pump", Action: "on", For: time.Minute, Life: time.Minute})
	if err != nil || a.Status != "done" || a.Output != "pump" || a.State != "on" || !strings.HasPrefix(a.ID, "c-") {
		t.Errorf("on: %+v, %v", a, err)
	}
	if high, driven := s.board.Line("GPIO27").Level(); high || !driven {
		t.Errorf("line is high %v, driven %v; want it driven low: the pump is active low and on", high, driven)
	}
	st := told(t, socket, "pump on", func(r api.Status) bool { return r.Outputs[0].State == "on" })
	pump := st.Outputs[0]
	if who := fmt.Sprintf("local uid=%d", os.Getuid()); !strings.HasPrefix(pump.Cause, who) || !strings.HasSuffix(pump.Cause, fmt.Sprintf(" pid=%d", os.Getpid())) || pump.Order != a.ID {
		t.Errorf("cause %q of order %q, want %s", pump.Cause, pump.Order, who)
	}
	until(t, "event with that cause", heard, func(m map[string]any) bool {
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
	s.mouth("test-mouth")(order("c-broker", "off", time.Minute))
	until(t, "answer to the broker's order", heard, func(m map[string]any) bool {
		if m["kind"] == "answer" && m["id"] != "c-broker" {
			t.Errorf("heard %v", m)
		}
		return m["id"] == "c-broker" && m["kind"] == "answer"
	})
}

// What a program sends that speaks the protocol badly is refused, not misread.
func TestLocalOrderOfAStranger(t *testing.T) {
	s := newSite(t, nil)
	_, socket := s.withSocket(s.config("", ""))
	told(t, socket, "answer", func(api.Status) bool { return true })
	life := time.Now().Add(time.Minute).UTC().Format(time.RFC3339)
	for text, want := range map[string]string{
		`{"id":"c-1","id":"c-2","output":"pump","action":"on","expires":"` + life + `"}`: "malformed",
		`{"id":"c-3","output":"pump","action":"on"}`:                                     "unstamped",
		`{"output":"pump","action":"on","expires":"` + life + `"}`:                       "unstamped",
		`{"id":"c-4","output":"pump","action":"on","relay":1,"expires":"` + life + `"}`:  "malformed",
	} {
		var a api.OrderAnswer
		if err := local.Do(context.Background(), socket, "order", json.RawMessage(text), &a); err != nil || a.Status != "refused" || a.Reason != want {
			t.Errorf("%s: %+v, %v", text, a, err)
		}
	}
	for _, text := range []string{`null`, `[]`, `{}`, `{"kind":"answer","action":"on"}`, `"on"`} {
		var said *local.Error
		if err := local.Do(context.Background(), socket, "order", json.RawMessage(text), new(any)); !errors.As(err, &said) || said.Code != "not_ours" {
			t.Errorf("%s: %v", text, err)
		}
	}
	if s.ups() > 0 {
		t.Error("the pump went on")
	}
}

// An order whose line hangs is answered unknown when the daemon stops, and the
// stop does not wait for it.
func TestLocalOrderOnAHungLine(t *testing.T) {
	s := newSite(t, nil)
	b := &hanging{Board: s.board, free: make(chan struct{}), hung: make(chan struct{}, 1)}
	socket := filepath.Join(t.TempDir(), "s")
	acked := make(chan message.Record, 4096)
	d, err := daemon.New(daemon.Options{
		Config: s.config("", ""), Board: b, Clock: s.clock(), Socket: socket, Log: slog.New(slog.DiscardHandler),
		Notify: &systemd.Notifier{Send: func(string) error { return nil }}, Acked: func(r message.Record) { acked <- r },
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	ended := make(chan error, 1)
	go func() { ended <- d.Run(ctx) }()
	told(t, socket, "answer", func(api.Status) bool { return true })
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
	told(t, socket, "status", func(r api.Status) bool { return r.Outputs[0].Name == "pump" })
	cancel()
	a := until(t, "answer", answered, func(api.OrderAnswer) bool { return true })
	if a.Status != "unknown" || !strings.Contains(a.Hint, "still under way") {
		t.Errorf("answer %+v", a)
	}
	until(t, "end with the outputs named", ended, func(err error) bool {
		return err != nil && !strings.Contains(err.Error(), "local socket") && strings.Contains(err.Error(), "make outputs safe")
	})
	close(b.free)
}

// A reading that is asked for is true, and nobody else's: the broker's go on in
// their order, without a gap.
func TestLocalRead(t *testing.T) {
	s := newSite(t, nil)
	heard := s.ear("test-ear")
	_, socket := s.withSocket(s.config("  - {name: gone, chip: lm75, bus: i2c-1, address: 0x49, every: 1h}", ""))
	told(t, socket, "reading", func(r api.Status) bool { return r.Sensors[0].Values != nil && len(r.Faults) == 1 })
	ctx := context.Background()
	s.air.SetTemperature(30.25)
	for range 20 {
		r, err := client.AskRead(ctx, socket, "thing-greenhouse", "air")
		if err != nil || r.Sensor != "air" || r.Chip != "bme280" || !r.ClockSynced || r.Time.IsZero() || len(r.Values) != 3 || r.Values[0].Value != 30.25 {
			t.Fatalf("got %+v, %v", r, err)
		}
	}
	next := 1.0
	for next < 4 {
		m := until(t, "reading", heard, is("sensor", "air"))
		if m["seq"] != next {
			t.Errorf("reading %v, want number %v", m, next)
		}
		next++
	}
	var said *local.Error
	if _, err := client.AskRead(ctx, socket, "", "gone"); !errors.As(err, &said) || said.Code != "no_answer" || !strings.Contains(said.Text, `read "gone": `) || said.Hint == "" {
		t.Errorf("a chip that is not there: %+v", err)
	}
	if _, err := client.AskRead(ctx, socket, "", "moon"); !errors.As(err, &said) || said.Code != "unknown_sensor" {
		t.Errorf("a sensor that is not there: %+v", err)
	}
	if _, err := client.AskRead(ctx, socket, "thing-other", "air"); !errors.Is(err, client.ErrNotOurs) {
		t.Errorf("another board's: %v", err)
	}
	if err := local.Do(ctx, socket, "read", map[string]any{"sensor": 1}, new(any)); !errors.As(err, &said) || said.Code != "malformed" {
		t.Errorf("a number for a name: %v", err)
	}
}

// Where a daemon runs without this socket, its spool's lock tells of it.
func TestReadHere(t *testing.T) {
	s := newSite(t, nil)
	cfg := s.config("", "")
	r, err := client.ReadHere(context.Background(), cfg, s.board, cfg.Sensors[0])
	if err != nil || r.Values[0].Value != 21.5 {
		t.Errorf("without a daemon: %+v, %v", r, err)
	}
	d := s.start(cfg)
	until(t, "reading", d.taken, func(rec message.Record) bool { return rec.Kind == message.Reading })
	if _, err := client.ReadHere(context.Background(), cfg, s.board, cfg.Sensors[0]); err == nil || !strings.Contains(err.Error(), `read "air": a daemon has the hardware`) {
		t.Errorf("with one: %v", err)
	}
	missing := cfg.Sensors[0]
	missing.Options = sensors.I2C{Bus: "i2c-1", Address: 0x77}
	if err := d.stop(); err != nil {
		t.Fatal(err)
	}
	var said *local.Error
	if _, err := client.ReadHere(context.Background(), cfg, s.board, missing); !errors.As(err, &said) || !strings.Contains(err.Error(), `read sensor "air"`) ||
		said.Code != "no_answer" || !strings.Contains(said.Hint, "power and wiring") {
		t.Errorf("a chip that is not there: %+v", err)
	}
	s.board.AddBus("i2c-1").Own(0x76, "bmp280")
	if _, err := client.ReadHere(context.Background(), cfg, s.board, cfg.Sensors[0]); !errors.As(err, &said) ||
		said.Code != "address_owned" || !strings.Contains(said.Text, "driver bmp280") || !strings.Contains(said.Hint, "dtoverlay") {
		t.Errorf("a chip that the kernel has: %+v", err)
	}
}

// A member of the group who holds all connections that he can get keeps no order
// from getting through.
func TestOrderBesideSilentClients(t *testing.T) {
	s := newSite(t, nil)
	r, socket := s.withSocket(s.config("", ""))
	r.linkedUp(t)
	told(t, socket, "answer", func(api.Status) bool { return true })
	for i := range 40 {
		c, err := net.Dial("unix", socket)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		if _, err := io.WriteString(c, `{"v":1,`[:i%8]); err != nil {
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
