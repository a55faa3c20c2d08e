package rehearse

import (
	"context"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"fieldpost/daemon/config"
	"fieldpost/daemon/message"
	"fieldpost/sensors"
)

// configOf loads a configuration without the files that it names.
func configOf(t *testing.T, text string) *config.Config {
	t.Helper()
	path := filepath.Join(t.TempDir(), "fieldpost.yaml")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	cfg, err := config.LoadWithoutFiles(path)
	if err != nil {
		t.Fatal(err)
	}
	return cfg
}

const small = `thing: thing-greenhouse
broker: {endpoint: ENDPOINT}
readings: {topic: test/topic}
commands: {topic: test/topic/commands, answers: test/topic/answers}
local: {metrics: "127.0.0.1:1"}
sensors:
  - {name: air, chip: bme280, bus: i2c-1, address: 0x76, every: 10s}
  - {name: soil, chip: max31855, device: spidev0.0, every: 10s}
  - {name: door, chip: gpio, pin: GPIO17, every: 10s}
outputs:
  - {name: pump, pin: GPIO27, safe: off, safe_after: 5m}
`

func scenario(t *testing.T, cfg *config.Config, text string) Scenario {
	t.Helper()
	all, err := parseScenario("scenario.yaml", []byte(text), cfg)
	if err != nil {
		t.Fatal(err)
	}
	return all
}

func outcomeOf(r Report, fault string, promise int) Outcome {
	for _, o := range r.Outcomes {
		if o.Fault == fault && o.Promise == promise {
			return o
		}
	}
	return Outcome{}
}

// A rehearsal tries what it says, never connects to the broker of the configuration, and leaves
// nothing behind.
func TestRehearsal(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var dialled atomic.Int32
	accepting := make(chan struct{})
	go func() {
		defer close(accepting)
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			dialled.Add(1)
			c.Close()
		}
	}()
	t.Setenv("TMPDIR", t.TempDir())
	t.Setenv("HTTPS_PROXY", "http://"+l.Addr().String())
	cfg := configOf(t, strings.Replace(small, "ENDPOINT", l.Addr().String(), 1))
	r, err := Run(t.Context(), RunOptions{Config: cfg, Version: "test", Scenario: scenario(t, cfg, `faults:
  - {fault: sensor_gone, sensor: soil}
  - {fault: broker_gone, for: 1h}
  - {fault: order_storm, orders: 20}
  - {fault: clock_wrong}
  - {fault: power_cut}
  - {fault: certificate_expired}
  - {fault: stop}
`)})
	if err != nil || r.Err() != nil || r.Interrupted {
		t.Errorf("%v, %v: %+v", err, r.Err(), r.Outcomes)
	}
	for fault, promises := range map[string][]int{"sensor_gone": {1, 4}, "broker_gone": {1, 3}, "order_storm": {1, 2}, "clock_wrong": {1, 2}, "certificate_expired": {1, 5}, "stop": {1, 3}} {
		for _, p := range promises {
			if o := outcomeOf(r, fault, p); o.Verdict != Held {
				t.Errorf("%s, promise %d: %+v", fault, p, o)
			}
		}
	}
	if o := outcomeOf(r, "power_cut", 0); o.Verdict != NotTried || o.Why == "" {
		t.Errorf("a power cut without a process to kill: %+v", o)
	}
	if o := outcomeOf(r, "broker_gone", 1); !strings.Contains(o.Happened, "the 1080 readings of 1h0m0s were put into the spool at once:") {
		t.Errorf("the backlog: %q", o.Happened)
	}
	if len(r.SpedUp) < 3 || !slices.Contains(r.SpedUp, "the page and the metrics are not served") {
		t.Errorf("said of what is faster: %q", r.SpedUp)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	<-accepting
	if n := dialled.Load(); n > 0 {
		t.Errorf("the configured broker or the proxy was dialled %d times", n)
	}
	if left, err := os.ReadDir(os.Getenv("TMPDIR")); err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}

// What a configuration gives away is said and breaks no promise: an output that keeps its level, one
// that a lost link does not make safe, and a spool that is too small for a day.
func TestGivenAwayByTheConfiguration(t *testing.T) {
	t.Parallel()
	text := strings.NewReplacer("ENDPOINT", "broker.example", "safe: off, safe_after: 5m", "initial: off, safe: keep").Replace(small) + "  - {name: fan, pin: GPIO22}\n"
	cfg := configOf(t, text+"spool: {max_bytes: 1MiB}\n")
	r, err := Run(t.Context(), RunOptions{Config: cfg, Version: "test", Scenario: scenario(t, cfg, "faults:\n  - fault: stop\n  - {fault: broker_gone, for: 36h}\n")})
	if err != nil || r.Err() != nil {
		t.Fatalf("%v, %v: %+v", err, r.Err(), r.Outcomes)
	}
	if o := outcomeOf(r, "stop", 3); o.Verdict != Held || !strings.HasSuffix(o.Happened, "and stays on, because it has safe: keep") {
		t.Errorf("an output that stays on: %+v", o)
	}
	for name, want := range map[string]string{"pump": "it has safe: keep, so a lost link does not change it", "fan": "it has no safe_after, so a lost link does not make it safe"} {
		if !slices.ContainsFunc(r.Outcomes, func(o Outcome) bool {
			return o.Verdict == NotTried && o.Happened == "output "+name+" stays as ordered while the broker is away" && o.Why == want
		}) {
			t.Errorf("%s: want %q; %+v", name, want, r.Outcomes)
		}
	}
	if o := outcomeOf(r, "broker_gone", 1); o.Verdict != Held || !strings.Contains(o.Why, "spool_full") || strings.Contains(o.Happened, " 0 reported as lost") {
		t.Errorf("a spool that is too small: %+v", o)
	}
}

// The configurations that come with fieldpost keep their promises.
func TestShippedConfigurations(t *testing.T) {
	paths, err := filepath.Glob("../../configs/*.yaml")
	if err != nil || len(paths) < 4 {
		t.Fatal(paths, err)
	}
	files := map[string]string{}
	for _, path := range paths {
		files[filepath.Base(path)] = path
	}
	together(t, files, func(t *testing.T, _, path string) {
		cfg, err := config.LoadWithoutFiles(path)
		if err != nil {
			t.Fatal(err)
		}
		r, err := Run(t.Context(), RunOptions{Config: cfg, Version: "test", Scenario: Scenario{usual("sensor_gone"), usual("order_storm"), usual("stop")}})
		if err != nil || r.Err() != nil || len(r.NotSimulated) > 0 {
			t.Errorf("%v, %v, not simulated: %v: %+v", err, r.Err(), r.NotSimulated, r.Outcomes)
		}
	})
}

// An end by the user is reported, and what was interrupted is not judged.
func TestRehearsalInterrupted(t *testing.T) {
	cfg := configOf(t, strings.Replace(small, "ENDPOINT", "broker.example", 1))
	ctx, cancel := context.WithCancel(t.Context())
	t.Setenv("TMPDIR", t.TempDir())
	r, err := Run(ctx, RunOptions{Config: cfg, Scenario: Everything(), Progress: func(string, int, int, []Outcome) { cancel() }})
	if err != nil || !r.Interrupted || len(r.Outcomes) > 0 {
		t.Errorf("%v: %+v", err, r)
	}
	if left, err := os.ReadDir(os.Getenv("TMPDIR")); err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}

// A reading that neither arrived nor is in a gap was lost silently. One in a gap was not.
func TestDeliveredFindsWhatIsLost(t *testing.T) {
	r := newRecorder()
	if o := r.delivered(1); o.Verdict != NotTried {
		t.Errorf("nothing taken: %+v", o)
	}
	for seq := range uint64(4) {
		r.take(message.Record{Kind: message.Reading, Sensor: "air", Run: 1, Seq: seq + 1})
	}
	r.ack(message.Record{Kind: message.Reading, Sensor: "air", Run: 1, Seq: 1})
	gap := message.Record{Kind: message.Gap, Sensor: "air", Run: 1, Fields: []sensors.Field{{Name: "after_seq", Value: int64(1)}, {Name: "to_seq", Value: int64(3)}, {Name: "reason", Value: "spool_full"}}}
	r.ack(gap)
	if o := r.delivered(1); o.Verdict != Broken || !strings.Contains(o.Why, "1 readings were lost silently, such as number 4 of air") {
		t.Errorf("number 4 is nowhere: %+v", o)
	}
	gap.Run = 2 // of another run
	gap.Fields = []sensors.Field{{Name: "after_seq", Value: int64(3)}, {Name: "reason", Value: "crash"}}
	r.ack(gap)
	if o := r.delivered(1); o.Verdict != Broken {
		t.Errorf("a gap of another run: %+v", o)
	}
	gap.Run = 1 // with an open end
	r.ack(gap)
	if o := r.delivered(1); o.Verdict != Held || o.Happened != "4 readings taken, 1 acknowledged, 3 reported as lost" {
		t.Errorf("all accounted for: %+v", o)
	}
}

// Only the latest reading of each sensor may have been in hand when the process was killed.
func TestInHandAtTheCut(t *testing.T) {
	r := newRecorder()
	for seq := range uint64(3) {
		r.take(message.Record{Kind: message.Reading, Sensor: "air", Run: 1, Seq: seq + 1})
	}
	r.ack(message.Record{Kind: message.Reading, Sensor: "air", Run: 1, Seq: 1})
	if n := r.forgive(r.inHand()); n != 1 {
		t.Errorf("%d were in hand", n)
	}
	if o := r.delivered(1); o.Verdict != Broken || !strings.Contains(o.Why, "number 2 of air") {
		t.Errorf("number 2 was followed by another: %+v", o)
	}
}

// What a child says is what its parent records.
func TestChildLines(t *testing.T) {
	in := message.Record{Kind: message.Gap, Sensor: "air", Run: 3, Fields: []sensors.Field{{Name: "after_seq", Value: int64(1)}, {Name: "reason", Value: "crash"}}}
	out := sayRecord("acked", in).record()
	for _, f := range in.Fields {
		if out.Field(f.Name) != f.Value {
			t.Errorf("%s: %v", f.Name, out.Field(f.Name))
		}
	}
	if out.Kind != in.Kind || out.Sensor != in.Sensor || out.Run != in.Run {
		t.Errorf("%+v", out)
	}
}

// Each mistake of a scenario is named with its line, key, reason and value.
func TestScenarioRefused(t *testing.T) {
	cfg := configOf(t, strings.Replace(small, "ENDPOINT", "broker.example", 1))
	for text, want := range map[string]string{
		"":                           "s.yaml: is empty: want faults: and a list",
		"- fault: stop\n":            "s.yaml:1: want faults: and a list",
		"fault: stop\n":              "s.yaml:1: fault: is not a key of a scenario: want faults (got stop)",
		"faults: stop\n":             `s.yaml:1: faults: want a list of faults, each beginning with "- fault: " (got stop)`,
		"faults: [{sensor: air}]\n":  "s.yaml:1: faults[0].fault: is missing",
		"faults:\n  - fault: rain\n": "s.yaml:2: faults[0].fault: is not a fault; `fieldpost rehearse --list` lists them (got rain)",
		"faults:\n  - {fault: stop, sensor: air}\n":             "s.yaml:2: faults[0].sensor: is not a key of stop: it has none (got air)",
		"faults:\n  - fault: sensor_gone\n    sensor: attic\n":  "s.yaml:3: faults[0].sensor: the configuration has no sensor of that name (got attic)",
		"faults:\n  - fault: bus_stuck\n    bus: i2c-7\n":       "s.yaml:3: faults[0].bus: the configuration has no sensor on such a bus (got i2c-7)",
		"faults:\n  - fault: broker_gone\n    for: a day\n":     "s.yaml:3: faults[0].for: want a time from 1m to 720h (got a day)",
		"faults:\n  - fault: order_storm\n    orders: 100000\n": "s.yaml:3: faults[0].orders: want a number from 1 to 500 (got 100000)",
		"faults:\n  - fault: chattering_input\n    rate: [1]\n": "s.yaml:3: faults[0].rate: want one value",
		"faults:\n  - fault: stop\n    fault: stop\n":           "s.yaml:3: faults[0].fault: is given twice (got fault)",
		"faults:\n  - fault: stop\n---\nfaults: []\n":           "s.yaml: has a second document: want one",
		"faults: [\n": "did not find expected node content",
	} {
		if _, err := parseScenario("s.yaml", []byte(text), cfg); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %s", text, err, want)
		}
	}
	got := scenario(t, cfg, "faults:\n  - fault: broker_gone\n    for: 36h\n  - {fault: chattering_input, sensor: door, rate: 100}\n")
	if len(got) != 2 || got[0].For.Hours() != 36 || got[1].Rate != 100 || got[1].Sensor != "door" || !slices.Equal(Everything()[:1], Scenario{usual("sensor_gone")}) {
		t.Errorf("%+v", got)
	}
}

// Any bytes are a scenario within its bounds or mistakes.
func FuzzScenario(f *testing.F) {
	f.Add("faults:\n  - {fault: broker_gone, for: 36h}\n")
	f.Add("faults: [{fault: &a stop}, *a]\n")
	f.Fuzz(func(t *testing.T, text string) {
		all, err := parseScenario("s.yaml", []byte(text), &config.Config{})
		if err == nil && (len(all) == 0 || len(all) > mostFaults) {
			t.Errorf("%d faults", len(all))
		}
	})
}
