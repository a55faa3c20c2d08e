package daemon_test

import (
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"syscall"
	"testing"
	"time"

	"fieldpost/daemon"
	"fieldpost/daemon/awsiot"
	"fieldpost/daemon/clock"
	"fieldpost/daemon/daemontest"
	"fieldpost/daemon/message"
	"fieldpost/daemon/spool"
	"fieldpost/daemon/systemd"
	"fieldpost/daemon/uplink"
	"fieldpost/sensors/board"
	"fieldpost/sensors/sim"
)

// The main job: what the chip's registers say reaches the broker, with run and
// seq, in order; an order moves the line and is answered.
func TestReadingsReachTheBrokerAndOrdersThePins(t *testing.T) {
	s := daemontest.NewSite(t, awsiot.Tutorial())
	heard := s.Listen("test-ear")
	r := s.Start(s.Config("  - {name: door, chip: gpio, pin: GPIO17, pull: up, active_low: true}", ""))

	first := daemontest.Await(t, "reading", heard, daemontest.Has("sensor", "air"))
	if first["temperature"] != 21.5 || first["thing"] != "thing-greenhouse" || first["seq"] != 1.0 || first["run"] == 0.0 || first["kind"] != nil {
		t.Errorf("first reading %v", first)
	}
	s.Air.SetTemperature(30.25)
	daemontest.Await(t, "the new temperature", heard, daemontest.Has("temperature", 30.25))

	s.Board.Line("GPIO17").Drive(false)
	daemontest.Await(t, "the door's edge", heard, func(m map[string]any) bool { return m["sensor"] == "door" && m["active"] == true })

	say := s.Publisher("test-mouth")
	say(daemontest.Order("c-1", "on", time.Minute))
	a := daemontest.Await(t, "answer", heard, daemontest.Has("kind", "answer"))
	if a["id"] != "c-1" || a["status"] != "done" || a["state"] != "on" || a["output"] != "pump" {
		t.Errorf("answer %v", a)
	}
	if high, driven := s.Board.Line("GPIO27").Level(); high || !driven {
		t.Errorf("line is high %v, driven %v; want it driven low: the pump is active low and on", high, driven)
	}
	if err := r.Stop(); err != nil {
		t.Fatal(err)
	}
	off := daemontest.Await(t, "farewell", heard, daemontest.Has("kind", "status"))
	for off["state"] == "online" {
		off = daemontest.Await(t, "farewell", heard, daemontest.Has("kind", "status"))
	}
	if off["state"] != "offline" || off["reason"] != "stop" {
		t.Errorf("farewell %v", off)
	}
	// Safe before it was released, and never a level that nobody asked for.
	var levels []string
	for _, c := range s.Board.Line("GPIO27").History() {
		levels = append(levels, fmt.Sprintf("%v/%v", c.High, c.Driven))
	}
	got := strings.Join(levels, " ")
	if !strings.HasPrefix(got, "true/true false/true true/true") && !strings.Contains(got, "true/true false/true true/true") {
		t.Errorf("history of the line (high/driven): %s; want driven high, low, high, then released", got)
	}
}

// Our own answers come back on the one topic: N orders give N answers, then
// silence, whatever else is said there.
func TestAnswersDoNotAnswerThemselves(t *testing.T) {
	s := daemontest.NewSite(t, awsiot.Tutorial())
	heard := s.Listen("test-ear")
	s.Start(s.Config("", "")).AwaitLink(t)
	say := s.Publisher("test-mouth")
	noise := []string{"not JSON", `[1,2]`, `{"message":"Hello from fieldpost [1]"}`, `{"kind":"answer","id":"not-ours","status":"done"}`, `{"action":"on","thing":"thing-other","id":"x","output":"pump"}`}
	const n = 5
	for i := range n {
		say(daemontest.Order(fmt.Sprintf("c-%d", i), "toggle", time.Minute))
		say(noise[i%len(noise)])
	}
	say(`{"id":"last","output":"nothing","action":"on","expires":"2099-01-01T00:00:00Z"}`)
	answers := map[any]int{}
	for len(answers) < n+1 {
		a := daemontest.Await(t, "answer", heard, daemontest.Has("kind", "answer"))
		if a["thing"] != nil {
			answers[a["id"]]++
		}
	}
	for id, times := range answers {
		if times != 1 {
			t.Errorf("order %v was answered %d times", id, times)
		}
	}
	// What our answers set off would be here before two more readings are.
	for range 2 {
		daemontest.Await(t, "reading", heard, func(m map[string]any) bool {
			if m["kind"] == "answer" {
				t.Errorf("another answer: %v", m)
			}
			return m["sensor"] == "air" && m["kind"] == nil
		})
	}
}

// The answer to an order goes ahead of the event of its output, unless the disk is slow.
func TestAnswerAheadOfItsEvent(t *testing.T) {
	s := daemontest.NewSite(t, nil)
	heard := s.Listen("test-ear")
	s.Start(s.Config("", "")).AwaitLink(t)
	say := s.Publisher("test-mouth")
	ahead := 0
	for i := range 10 {
		id := fmt.Sprintf("c-%d", i)
		say(daemontest.Order(id, "toggle", time.Minute))
		var kinds []any
		for len(kinds) < 2 {
			m := daemontest.Await(t, "message about the order", heard, daemontest.Has("id", id))
			if kind := m["kind"]; kind == "answer" || kind == "event" {
				kinds = append(kinds, kind)
			}
		}
		if kinds[0] == "answer" {
			ahead++
		}
	}
	if t.Logf("%d of 10 answers came first", ahead); ahead == 0 {
		t.Error("no answer came ahead of its event")
	}
}

// Malformed orders are refused with a sentence, and stop nothing.
func TestMalformedOrdersAreRefused(t *testing.T) {
	s := daemontest.NewSite(t, nil)
	heard := s.Listen("test-ear")
	s.Start(s.Config("", "")).AwaitLink(t)
	say := s.Publisher("test-mouth")
	expires := time.Now().Add(time.Minute).UTC().Format(time.RFC3339)
	for id, payload := range map[string]string{
		"unknown output": `{"id":"unknown output","output":"heater","action":"on","expires":"` + expires + `"}`,
		"unknown action": `{"id":"unknown action","output":"pump","action":"explode","expires":"` + expires + `"}`,
		"wrong type":     `{"id":"wrong type","output":"pump","action":"on","for":30,"expires":"` + expires + `"}`,
		"unknown field":  `{"id":"unknown field","output":"pump","action":"on","fro":"30s","expires":"` + expires + `"}`,
		"expired":        daemontest.Order("expired", "on", -time.Minute),
		"too far":        daemontest.Order("too far", "on", 48*time.Hour),
	} {
		say(payload)
		a := daemontest.Await(t, "answer", heard, daemontest.Has("kind", "answer"))
		if a["id"] != id || a["status"] != "refused" || a["reason"] == "" || a["hint"] == "" {
			t.Errorf("%s: answer %v, want refused with reason and hint", id, a)
		}
	}
	say(`{"action":"on","output":"pump","id":"` + strings.Repeat("x", 100_000) + `"}`)
	say(daemontest.Order("good", "on", time.Minute))
	daemontest.Await(t, "answer to a good order", heard, func(m map[string]any) bool { return m["id"] == "good" && m["status"] == "done" })
}

// One dead chip is named, and the rest goes on; when it answers again that is
// told too.
func TestDeadChipStopsNothingElse(t *testing.T) {
	s := daemontest.NewSite(t, awsiot.Tutorial())
	heard := s.Listen("test-ear")
	s.Start(s.Config("  - {name: gone, chip: lm75, bus: i2c-1, address: 0x49, every: 100ms}\n  - {name: nobus, chip: tmp102, bus: i2c-7, every: 1s}",
		"  - {name: fan, pin: no-such-line}"))
	faults := map[string]any{}
	for len(faults) < 3 {
		m := daemontest.Await(t, "fault", heard, func(m map[string]any) bool { return m["kind"] == "fault" && m["state"] == "raised" })
		name, _ := m["sensor"].(string)
		if name == "" {
			name, _ = m["output"].(string)
		}
		faults[name] = m["code"]
		for _, key := range []string{"detail", "meaning", "hint", "severity"} {
			if text, _ := m[key].(string); text == "" {
				t.Errorf("fault without %s: %v", key, m)
			}
		}
	}
	if faults["gone"] != "no_answer" || faults["nobus"] != "absent" || faults["fan"] == nil {
		t.Errorf("faults %v", faults)
	}
	s.Bus.AddLM75(0x49, 11).SetTemperature(19)
	daemontest.Await(t, "reading of the chip that came back", heard, func(m map[string]any) bool { return m["sensor"] == "gone" && m["temperature"] == 19.0 })
	daemontest.Await(t, "air's reading", heard, daemontest.Has("sensor", "air"))
}

// A subscription that is denied leaves the readings flowing.
func TestDeniedSubscriptionLeavesReadingsFlowing(t *testing.T) {
	p, err := awsiot.Parse([]byte(`{"Version":"2012-10-17","Statement":[
		{"Effect":"Allow","Action":"iot:Connect","Resource":"*"},
		{"Effect":"Allow","Action":"iot:Publish","Resource":"arn:aws:iot:eu-west-1:123456789012:topic/test/topic"}]}`))
	if err != nil {
		t.Fatal(err)
	}
	s := daemontest.NewSite(t, p)
	// Nobody can switch the fan off, so it counts as cut off.
	r := s.Start(s.Config("", "  - {name: fan, pin: GPIO5, initial: on, safe: off, safe_after: 1s}"))
	daemontest.Await(t, "denied subscription", r.Linked, func(st uplink.Status) bool { return st.Connected && len(st.Denied) == 1 })
	// The fault goes ahead of the readings.
	daemontest.Await(t, "fault", r.Acked, func(rec message.Record) bool {
		return rec.Kind == message.Fault && strings.Contains(fmt.Sprint(rec.Fields), "subscribe_denied")
	})
	daemontest.Await(t, "acknowledged reading", r.Acked, func(rec message.Record) bool { return rec.Kind == message.Reading })
	daemontest.Await(t, "event of the fan", r.Taken, func(rec message.Record) bool {
		return rec.Kind == message.Event && strings.Contains(fmt.Sprint(rec.Fields), "link_lost")
	})
}

// While a line is held by somebody else the output is named and the rest goes
// on; the holder's name is told.
func TestLineHeldByAnother(t *testing.T) {
	s := daemontest.NewSite(t, nil)
	s.Board.Line("GPIO27").Hold("gpio-keys")
	r := s.Start(s.Config("", ""))
	f := daemontest.Await(t, "fault", r.Acked, func(rec message.Record) bool { return rec.Kind == message.Fault })
	if text := fmt.Sprint(f.Fields); !strings.Contains(text, "line_busy") || !strings.Contains(text, "gpio-keys") {
		t.Errorf("fault %s, want line_busy and the holder", text)
	}
	daemontest.Await(t, "acknowledged reading", r.Acked, func(rec message.Record) bool { return rec.Kind == message.Reading })
}

// A bus that sticks stops its own sensors only, and comes back.
func TestStuckBus(t *testing.T) {
	s := daemontest.NewSite(t, nil)
	s.Board.AddBus("i2c-3").AddTMP102(0x48)
	r := s.Start(s.Config("  - {name: soil, chip: tmp102, bus: i2c-3, every: 100ms}", ""))
	from := func(name string) func(message.Record) bool {
		return func(rec message.Record) bool { return rec.Kind == message.Reading && rec.Sensor == name }
	}
	daemontest.Await(t, "soil", r.Acked, from("soil"))
	s.Bus.Fault(fmt.Errorf("i2c-1: %w", syscall.ETIMEDOUT))
	daemontest.Await(t, "fault", r.Acked, func(rec message.Record) bool { return rec.Kind == message.Fault && rec.Sensor == "air" })
	for range 3 {
		daemontest.Await(t, "soil", r.Acked, from("soil"))
	}
	s.Bus.Fault(nil)
	daemontest.Await(t, "air again", r.Acked, from("air"))
}

// Two daemons cannot share a spool.
func TestSecondDaemonIsRefused(t *testing.T) {
	s := daemontest.NewSite(t, nil)
	cfg := s.Config("", "")
	s.Start(cfg)
	now, err := clock.System()
	if err != nil {
		t.Fatal(err)
	}
	_, err = daemon.New(daemon.Options{Config: cfg, Board: sim.New(), Clock: now, Log: slog.New(slog.DiscardHandler), Notify: &systemd.Notifier{}})
	var locked *spool.LockedError
	if !errors.As(err, &locked) {
		t.Errorf("second daemon: %v, want a LockedError", err)
	}
}

// What one run could not deliver the next one does, with the old run's number.
func TestMailSurvivesARestart(t *testing.T) {
	s := daemontest.NewSite(t, nil)
	cfg := s.Config("", "")
	away := *cfg
	away.Broker.Endpoint = "127.0.0.1:1" // nobody listens there
	taken := make(chan message.Record, 4096)
	now, err := clock.System()
	if err != nil {
		t.Fatal(err)
	}
	d, err := daemon.New(daemon.Options{
		Config: &away, Board: s.Board, Clock: now, Log: slog.New(slog.DiscardHandler), Notify: &systemd.Notifier{Send: func(string) error { return nil }},
		Taken: func(r message.Record) { taken <- r },
	})
	if err != nil {
		t.Fatal(err)
	}
	stop := daemontest.Background(t, d.Run)
	var last message.Record
	for range 3 {
		last = daemontest.Await(t, "reading", taken, func(r message.Record) bool { return r.Kind == message.Reading })
	}
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	r := s.Start(cfg)
	seq := uint64(0)
	for seq < last.Seq {
		rec := daemontest.Await(t, "old reading", r.Acked, func(r message.Record) bool { return r.Kind == message.Reading && r.Run == last.Run })
		if rec.Seq != seq+1 {
			t.Fatalf("got seq %d after %d", rec.Seq, seq)
		}
		seq = rec.Seq
	}
	daemontest.Await(t, "reading of the new run", r.Acked, func(r message.Record) bool { return r.Kind == message.Reading && r.Run > last.Run && r.Seq == 1 })
}

var _ board.Board = (*sim.Board)(nil)
