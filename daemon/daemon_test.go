package daemon_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"fieldpost/daemon"
	"fieldpost/daemon/awsiot"
	"fieldpost/daemon/broker"
	"fieldpost/daemon/clock"
	"fieldpost/daemon/config"
	"fieldpost/daemon/message"
	"fieldpost/daemon/spool"
	"fieldpost/daemon/systemd"
	"fieldpost/daemon/uplink"
	"fieldpost/sensors/board"
	"fieldpost/sensors/sim"

	"go.uber.org/goleak"
)

// patience bounds every wait; no test asserts on how long one took.
const patience = 60 * time.Second

func TestMain(m *testing.M) {
	if path := os.Getenv(childConfig); path != "" {
		os.Exit(child(path)) // of BenchmarkFootprint
	}
	goleak.VerifyTestMain(m)
}

// site is one board, one broker and what is needed to run a daemon between
// them, with real TLS on loopback.
type site struct {
	t     testing.TB
	dir   string
	board *sim.Board
	air   *sim.BME280
	bus   *sim.Bus
	addr  string
	files broker.Files
}

// newSite makes a board with a BME280 at 0x76 and a broker with the tutorial's
// policy, or the given one.
func newSite(t testing.TB, policy *awsiot.Policy) *site {
	t.Helper()
	s := emptySite(t, t.TempDir())
	b, err := broker.New(broker.Options{Dir: filepath.Join(s.dir, "certs"), Policy: policy})
	if err != nil {
		t.Fatal(err)
	}
	s.addr, s.files = b.Addr(), b.Files()
	background(t, b.Run)
	return s
}

// emptySite is a site whose broker is yet to come.
func emptySite(t testing.TB, dir string) *site {
	s := &site{t: t, dir: dir, board: sim.New()}
	s.bus = s.board.AddBus("i2c-1")
	s.air = s.bus.AddBME280(0x76)
	s.air.SetTemperature(21.5)
	return s
}

// background runs f until the test ends.
func background(t testing.TB, f func(context.Context) error) (stop func() error) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- f(ctx) }()
	stop = sync.OnceValue(func() error {
		cancel()
		select {
		case err := <-done:
			return err
		case <-time.After(patience):
			return errors.New("did not end")
		}
	})
	t.Cleanup(func() {
		if err := stop(); err != nil && !errors.Is(err, context.Canceled) {
			t.Errorf("background: %v", err)
		}
	})
	return stop
}

// sites' configuration: all on one topic.
const siteConfig = `thing: thing-greenhouse
broker:
  endpoint: %s
readings:
  topic: test/topic
commands:
  topic: test/topic
  answers: test/topic
spool:
  dir: spool
sensors:
  - {name: air, chip: bme280, bus: i2c-1, address: 0x76, every: 100ms}
%s
outputs:
  - {name: pump, pin: GPIO27, active_low: true, initial: off, safe: off}
%s`

func (s *site) config(moreSensors, moreOutputs string) *config.Config {
	s.t.Helper()
	path := filepath.Join(s.dir, "fieldpost.yaml")
	if err := os.WriteFile(path, fmt.Appendf(nil, siteConfig, s.addr, moreSensors, moreOutputs), 0o600); err != nil {
		s.t.Fatal(err)
	}
	cfg, err := config.Load(path)
	if err != nil {
		s.t.Fatal(err)
	}
	return cfg
}

// running is a daemon under test and what it has told.
type running struct {
	stop   func() error
	taken  chan message.Record
	acked  chan message.Record
	linked chan uplink.Status
}

func (s *site) start(cfg *config.Config) *running {
	s.t.Helper()
	r := &running{taken: make(chan message.Record, 4096), acked: make(chan message.Record, 4096), linked: make(chan uplink.Status, 256)}
	r.stop = s.launch(daemon.Options{
		Config: cfg, Log: slog.New(systemd.NewLogger(testWriter{s.t}, slog.LevelInfo).Handler()),
		Taken: func(rec message.Record) { r.taken <- rec }, Acked: func(rec message.Record) { r.acked <- rec }, Linked: changes(r.linked),
	})
	return r
}

// launch runs a daemon until it is stopped, on the site's board unless it has
// another.
func (s *site) launch(o daemon.Options) (stop func() error) {
	s.t.Helper()
	now := s.clock()
	s.board.SetMono(func() time.Duration { return now.Now().Mono })
	if o.Board == nil {
		o.Board = s.board
	}
	o.Clock, o.Runtime, o.Version = now, s.dir, "test"
	if o.Notify == nil {
		o.Notify = &systemd.Notifier{Send: func(string) error { return nil }}
	}
	d, err := daemon.New(o)
	if err != nil {
		s.t.Fatal(err)
	}
	return background(s.t, d.Run)
}

// clock is this machine's, held to be true.
func (s *site) clock() clock.Clock {
	s.t.Helper()
	now, err := clock.System()
	if err != nil {
		s.t.Fatal(err)
	}
	return clock.Trusted(now)
}

// linkedUp waits until the daemon has subscribed.
func (r *running) linkedUp(t testing.TB) *running {
	t.Helper()
	until(t, "link", r.linked, func(st uplink.Status) bool { return st.Connected })
	return r
}

// changes gives an observer that passes on only what a test waits for, so
// that a channel nobody reads any more never fills.
func changes(to chan<- uplink.Status) func(uplink.Status) {
	var last uplink.Status
	return func(st uplink.Status) {
		if st.Connected != last.Connected || len(st.Denied) != len(last.Denied) {
			to <- st
		}
		last = st
	}
}

type testWriter struct{ t testing.TB }

func (w testWriter) Write(p []byte) (int, error) {
	w.t.Logf("%s", strings.TrimSpace(string(p)))
	return len(p), nil
}

// until receives from ch until ok says so.
func until[T any](t testing.TB, what string, ch <-chan T, ok func(T) bool) T {
	t.Helper()
	end := time.After(patience)
	for {
		select {
		case v := <-ch:
			if ok(v) {
				return v
			}
		case <-end:
			t.Fatalf("no %s", what)
		}
	}
}

// ear is an independent subscriber to the site's topic.
func (s *site) ear(id string) <-chan map[string]any {
	s.t.Helper()
	up := make(chan uplink.Status, 256)
	l, err := uplink.New(uplink.Config{
		Endpoint: s.addr, ClientID: id, CA: s.files.CA, Certificate: s.files.Certificate, Key: s.files.Key,
		Subscriptions: []uplink.Subscription{{Filter: "test/topic", QoS: 1}}, Outbox: uplink.NewQueue(),
		Observe: changes(up),
	})
	if err != nil {
		s.t.Fatal(err)
	}
	background(s.t, l.Run)
	heard := make(chan map[string]any, 4096)
	background(s.t, func(ctx context.Context) error {
		for {
			select {
			case <-ctx.Done():
				return nil
			case m := <-l.Messages():
				var v map[string]any
				if err := json.Unmarshal(m.Payload, &v); err != nil {
					v = map[string]any{"unreadable": string(m.Payload)}
				}
				heard <- v
				m.Ack()
			}
		}
	})
	until(s.t, "connection of "+id, up, func(st uplink.Status) bool { return st.Connected })
	return heard
}

// mouth gives a function that publishes to the site's topic.
func (s *site) mouth(id string) func(payload string) {
	s.t.Helper()
	q := uplink.NewQueue()
	l, err := uplink.New(uplink.Config{
		Endpoint: s.addr, ClientID: id, CA: s.files.CA, Certificate: s.files.Certificate, Key: s.files.Key, Outbox: q,
	})
	if err != nil {
		s.t.Fatal(err)
	}
	background(s.t, l.Run)
	return func(payload string) {
		s.t.Helper()
		select {
		case err := <-q.Publish("test/topic", []byte(payload)):
			if err != nil {
				s.t.Fatal(err)
			}
		case <-time.After(patience):
			s.t.Fatal("no acknowledgement")
		}
	}
}

func is(key string, want any) func(map[string]any) bool {
	return func(m map[string]any) bool { return m[key] == want }
}

// The main job: what the chip's registers say reaches the broker, with run and
// seq, in order; an order moves the line and is answered.
func TestReadingsReachTheBrokerAndOrdersThePins(t *testing.T) {
	s := newSite(t, awsiot.Tutorial())
	heard := s.ear("test-ear")
	r := s.start(s.config("  - {name: door, chip: gpio, pin: GPIO17, pull: up, active_low: true}", ""))

	first := until(t, "reading", heard, is("sensor", "air"))
	if first["temperature"] != 21.5 || first["thing"] != "thing-greenhouse" || first["seq"] != 1.0 || first["run"] == 0.0 || first["kind"] != nil {
		t.Errorf("first reading %v", first)
	}
	s.air.SetTemperature(30.25)
	until(t, "the new temperature", heard, is("temperature", 30.25))

	s.board.Line("GPIO17").Drive(false)
	until(t, "the door's edge", heard, func(m map[string]any) bool { return m["sensor"] == "door" && m["active"] == true })

	say := s.mouth("test-mouth")
	say(order("c-1", "on", time.Minute))
	a := until(t, "answer", heard, is("kind", "answer"))
	if a["id"] != "c-1" || a["status"] != "done" || a["state"] != "on" || a["output"] != "pump" {
		t.Errorf("answer %v", a)
	}
	if high, driven := s.board.Line("GPIO27").Level(); high || !driven {
		t.Errorf("line is high %v, driven %v; want it driven low: the pump is active low and on", high, driven)
	}
	if err := r.stop(); err != nil {
		t.Fatal(err)
	}
	off := until(t, "farewell", heard, is("kind", "status"))
	for off["state"] == "online" {
		off = until(t, "farewell", heard, is("kind", "status"))
	}
	if off["state"] != "offline" || off["reason"] != "stop" {
		t.Errorf("farewell %v", off)
	}
	// Safe before it was released, and never a level that nobody asked for.
	var levels []string
	for _, c := range s.board.Line("GPIO27").History() {
		levels = append(levels, fmt.Sprintf("%v/%v", c.High, c.Driven))
	}
	got := strings.Join(levels, " ")
	if !strings.HasPrefix(got, "true/true false/true true/true") && !strings.Contains(got, "true/true false/true true/true") {
		t.Errorf("history of the line (high/driven): %s; want driven high, low, high, then released", got)
	}
}

func order(id, action string, life time.Duration) string {
	return fmt.Sprintf(`{"thing":"thing-greenhouse","id":%q,"output":"pump","action":%q,"expires":%q}`,
		id, action, time.Now().Add(life).UTC().Format(time.RFC3339))
}

// Our own answers come back on the one topic: N orders give N answers, then
// silence, whatever else is said there.
func TestAnswersDoNotAnswerThemselves(t *testing.T) {
	s := newSite(t, awsiot.Tutorial())
	heard := s.ear("test-ear")
	s.start(s.config("", "")).linkedUp(t)
	say := s.mouth("test-mouth")
	noise := []string{"not JSON", `[1,2]`, `{"message":"Hello from fieldpost [1]"}`, `{"kind":"answer","id":"not-ours","status":"done"}`, `{"action":"on","thing":"thing-other","id":"x","output":"pump"}`}
	const n = 5
	for i := range n {
		say(order(fmt.Sprintf("c-%d", i), "toggle", time.Minute))
		say(noise[i%len(noise)])
	}
	say(`{"id":"last","output":"nothing","action":"on","expires":"2099-01-01T00:00:00Z"}`)
	answers := map[any]int{}
	for len(answers) < n+1 {
		a := until(t, "answer", heard, is("kind", "answer"))
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
		until(t, "reading", heard, func(m map[string]any) bool {
			if m["kind"] == "answer" {
				t.Errorf("another answer: %v", m)
			}
			return m["sensor"] == "air" && m["kind"] == nil
		})
	}
}

// Malformed orders are refused with a sentence, and stop nothing.
func TestMalformedOrdersAreRefused(t *testing.T) {
	s := newSite(t, nil)
	heard := s.ear("test-ear")
	s.start(s.config("", "")).linkedUp(t)
	say := s.mouth("test-mouth")
	expires := time.Now().Add(time.Minute).UTC().Format(time.RFC3339)
	for id, payload := range map[string]string{
		"unknown output": `{"id":"unknown output","output":"heater","action":"on","expires":"` + expires + `"}`,
		"unknown action": `{"id":"unknown action","output":"pump","action":"explode","expires":"` + expires + `"}`,
		"wrong type":     `{"id":"wrong type","output":"pump","action":"on","for":30,"expires":"` + expires + `"}`,
		"unknown field":  `{"id":"unknown field","output":"pump","action":"on","fro":"30s","expires":"` + expires + `"}`,
		"expired":        order("expired", "on", -time.Minute),
		"too far":        order("too far", "on", 48*time.Hour),
	} {
		say(payload)
		a := until(t, "answer", heard, is("kind", "answer"))
		if a["id"] != id || a["status"] != "refused" || a["reason"] == "" || a["hint"] == "" {
			t.Errorf("%s: answer %v, want refused with reason and hint", id, a)
		}
	}
	say(`{"action":"on","output":"pump","id":"` + strings.Repeat("x", 100_000) + `"}`)
	say(order("good", "on", time.Minute))
	until(t, "answer to a good order", heard, func(m map[string]any) bool { return m["id"] == "good" && m["status"] == "done" })
}

// One dead chip is named, and the rest goes on; when it answers again that is
// told too.
func TestDeadChipStopsNothingElse(t *testing.T) {
	s := newSite(t, awsiot.Tutorial())
	heard := s.ear("test-ear")
	s.start(s.config("  - {name: gone, chip: lm75, bus: i2c-1, address: 0x49, every: 100ms}\n  - {name: nobus, chip: tmp102, bus: i2c-7, every: 1s}",
		"  - {name: fan, pin: no-such-line}"))
	faults := map[string]any{}
	for len(faults) < 3 {
		m := until(t, "fault", heard, func(m map[string]any) bool { return m["kind"] == "fault" && m["state"] == "raised" })
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
	s.bus.AddLM75(0x49, 11).SetTemperature(19)
	until(t, "reading of the chip that came back", heard, func(m map[string]any) bool { return m["sensor"] == "gone" && m["temperature"] == 19.0 })
	until(t, "air's reading", heard, is("sensor", "air"))
}

// A subscription that is denied leaves the readings flowing.
func TestDeniedSubscriptionLeavesReadingsFlowing(t *testing.T) {
	p, err := awsiot.Parse([]byte(`{"Version":"2012-10-17","Statement":[
		{"Effect":"Allow","Action":"iot:Connect","Resource":"*"},
		{"Effect":"Allow","Action":"iot:Publish","Resource":"arn:aws:iot:eu-west-1:123456789012:topic/test/topic"}]}`))
	if err != nil {
		t.Fatal(err)
	}
	s := newSite(t, p)
	// Nobody can switch the fan off, so it counts as cut off.
	r := s.start(s.config("", "  - {name: fan, pin: GPIO5, initial: on, safe: off, safe_after: 1s}"))
	until(t, "denied subscription", r.linked, func(st uplink.Status) bool { return st.Connected && len(st.Denied) == 1 })
	// The fault goes ahead of the readings.
	until(t, "fault", r.acked, func(rec message.Record) bool {
		return rec.Kind == message.Fault && strings.Contains(fmt.Sprint(rec.Fields), "subscribe_denied")
	})
	until(t, "acknowledged reading", r.acked, func(rec message.Record) bool { return rec.Kind == message.Reading })
	until(t, "event of the fan", r.taken, func(rec message.Record) bool {
		return rec.Kind == message.Event && strings.Contains(fmt.Sprint(rec.Fields), "link_lost")
	})
}

// While a line is held by somebody else the output is named and the rest goes
// on; the holder's name is told.
func TestLineHeldByAnother(t *testing.T) {
	s := newSite(t, nil)
	s.board.Line("GPIO27").Hold("gpio-keys")
	r := s.start(s.config("", ""))
	f := until(t, "fault", r.acked, func(rec message.Record) bool { return rec.Kind == message.Fault })
	if text := fmt.Sprint(f.Fields); !strings.Contains(text, "line_busy") || !strings.Contains(text, "gpio-keys") {
		t.Errorf("fault %s, want line_busy and the holder", text)
	}
	until(t, "acknowledged reading", r.acked, func(rec message.Record) bool { return rec.Kind == message.Reading })
}

// A bus that sticks stops its own sensors only, and comes back.
func TestStuckBus(t *testing.T) {
	s := newSite(t, nil)
	s.board.AddBus("i2c-3").AddTMP102(0x48)
	r := s.start(s.config("  - {name: soil, chip: tmp102, bus: i2c-3, every: 100ms}", ""))
	from := func(name string) func(message.Record) bool {
		return func(rec message.Record) bool { return rec.Kind == message.Reading && rec.Sensor == name }
	}
	until(t, "soil", r.acked, from("soil"))
	s.bus.Fault(fmt.Errorf("i2c-1: %w", syscall.ETIMEDOUT))
	until(t, "fault", r.acked, func(rec message.Record) bool { return rec.Kind == message.Fault && rec.Sensor == "air" })
	for range 3 {
		until(t, "soil", r.acked, from("soil"))
	}
	s.bus.Fault(nil)
	until(t, "air again", r.acked, from("air"))
}

// Two daemons cannot share a spool.
func TestSecondDaemonIsRefused(t *testing.T) {
	s := newSite(t, nil)
	cfg := s.config("", "")
	s.start(cfg)
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
	s := newSite(t, nil)
	cfg := s.config("", "")
	away := *cfg
	away.Broker.Endpoint = "127.0.0.1:1" // nobody listens there
	taken := make(chan message.Record, 4096)
	now, err := clock.System()
	if err != nil {
		t.Fatal(err)
	}
	d, err := daemon.New(daemon.Options{
		Config: &away, Board: s.board, Clock: now, Log: slog.New(slog.DiscardHandler), Notify: &systemd.Notifier{Send: func(string) error { return nil }},
		Taken: func(r message.Record) { taken <- r },
	})
	if err != nil {
		t.Fatal(err)
	}
	stop := background(t, d.Run)
	var last message.Record
	for range 3 {
		last = until(t, "reading", taken, func(r message.Record) bool { return r.Kind == message.Reading })
	}
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	r := s.start(cfg)
	seq := uint64(0)
	for seq < last.Seq {
		rec := until(t, "old reading", r.acked, func(r message.Record) bool { return r.Kind == message.Reading && r.Run == last.Run })
		if rec.Seq != seq+1 {
			t.Fatalf("got seq %d after %d", rec.Seq, seq)
		}
		seq = rec.Seq
	}
	until(t, "reading of the new run", r.acked, func(r message.Record) bool { return r.Kind == message.Reading && r.Run > last.Run && r.Seq == 1 })
}

var _ board.Board = (*sim.Board)(nil)
