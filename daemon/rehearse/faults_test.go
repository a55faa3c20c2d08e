package rehearse

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"testing"

	"fieldpost/daemon/clock"
	"fieldpost/daemon/message"
	"fieldpost/daemon/task"
	"fieldpost/sensors"
)

// wide has two buses, an input and an output.
const wide = `thing: thing-greenhouse
broker: {endpoint: broker.example}
readings: {topic: test/topic}
commands: {topic: test/topic/commands, answers: test/topic/answers}
sensors:
  - {name: air, chip: bme280, bus: i2c-1, address: 0x76, every: 10s}
  - {name: soil, chip: tmp102, bus: i2c-1, address: 0x49, every: 10s}
  - {name: far, chip: bh1750, bus: i2c-3, every: 10s}
  - {name: door, chip: gpio, pin: GPIO17, every: 10s}
outputs:
  - {name: pump, pin: GPIO27, safe: off, safe_after: 5m}
`

// rehearsed opens a stage, lets sabotage change it, runs one fault on it, and returns the
// outcomes. sensor is the fault's; "" is the usual one.
func rehearsed(t *testing.T, text, fault, sensor string, sabotage func(*stage)) Report {
	t.Helper()
	cfg, _ := hasten(configOf(t, text))
	s, err := openStage(t.Context(), RunOptions{Config: cfg, Version: "test"}, fault, t.TempDir(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	s.gaveUp = make(chan struct{})
	sabotage(s)
	f := usual(fault)
	f.Sensor = sensor
	var r Report
	for _, k := range Faults() {
		if k.Name == fault {
			r.Outcomes = k.run(s, f)
		}
	}
	for i := range r.Outcomes {
		r.Outcomes[i].Fault = fault
	}
	_ = s.close() // what is sabotaged may not end in order
	return r
}

// together runs subtests at once, however few processors the tests are to use: they wait more than
// they work.
func together[C any](t *testing.T, cases map[string]C, run func(t *testing.T, name string, c C)) {
	var all sync.WaitGroup
	for name, c := range cases {
		all.Go(func() { t.Run(name, func(t *testing.T) { run(t, name, c) }) })
	}
	all.Wait()
}

// upon makes a stage do something once when a record is taken that begins a fault or an answer,
// and give up waiting when the sensor called witness was read sixteen times more.
func upon(s *stage, begins func(message.Record) bool, witness string, do func()) {
	var mu sync.Mutex
	begun, left := false, 16
	s.watch = func(m message.Record) {
		mu.Lock()
		defer mu.Unlock()
		switch {
		case !begun && begins(m):
			begun = true
			do()
		case begun && m.Kind == message.Reading && m.Sensor == witness:
			if left--; left == 0 {
				close(s.gaveUp)
			}
		}
	}
}

// raised reports whether a record raises a fault with one of these codes.
func raised(codes ...string) func(message.Record) bool {
	return func(m message.Record) bool {
		code, _ := m.Field("code").(string)
		return m.Kind == message.Fault && slices.Contains(codes, code) && m.Field("state") == "raised"
	}
}

// done reports whether a record answers that an order was carried out.
func done(m message.Record) bool { return m.Kind == message.Answer && m.Field("status") == "done" }

// synced is a clock that always says that it is synchronised.
type synced struct{ clock.Clock }

func (c synced) Now() clock.Stamp {
	now := c.Clock.Now()
	now.Synced = true
	return now
}

var errBroken = errors.New("broken by the test")

// Each promise that is broken while a fault lasts is found, and said of the right promise.
func TestBrokenPromiseOfEachFaultIsFound(t *testing.T) {
	type sabotaged struct {
		fault    string
		sensor   string
		promise  int
		why      string
		sabotage func(*stage)
	}
	together(t, map[string]sabotaged{
		"cut wire stops another sensor": {"sensor_gone", "", 4, "was not read meanwhile", func(s *stage) {
			upon(s, raised("no_answer"), "door", func() { s.part("far").Cut(true) })
		}},
		"connected sensor stays away": {"sensor_gone", "far", 4, "was not read again after it was connected", func(s *stage) {
			upon(s, raised("no_answer"), "door", func() { s.sim.Board.I2C("i2c-3").Fault(errBroken) })
		}},
		"stuck bus stops another bus": {"bus_stuck", "", 4, "which is not on it, was not read meanwhile", func(s *stage) {
			upon(s, raised("read_failed", "bus_stuck"), "door", func() { s.part("far").Cut(true) })
		}},
		"released bus stays dead": {"bus_stuck", "", 4, "was not read again after the bus was released", func(s *stage) {
			upon(s, raised("read_failed", "bus_stuck"), "door", func() { s.sim.Board.I2C("i2c-1").Fault(errBroken) })
		}},
		"chattering input stops a sensor": {"chattering_input", "", 4, "was not read meanwhile", func(s *stage) {
			upon(s, raised("chatters"), "far", func() { s.part("air").Cut(true) })
		}},
		"more changes than there were": {"chattering_input", "", 4, "changes were reported", func(s *stage) {
			upon(s, raised("chatters"), "nobody", func() {
				s.rec.mu.Lock()
				defer s.rec.mu.Unlock()
				s.rec.changes["door"] += 10000
			})
		}},
		"last change is not told": {"chattering_input", "", 4, "the last change that was reported did not lead to the level that it has", func(s *stage) {
			after := 12 // readings of another sensor, when the input is calm
			s.watch = func(m message.Record) {
				s.rec.mu.Lock()
				defer s.rec.mu.Unlock()
				switch {
				case m.Kind == message.Edge: // as if one more change had been the last
					m.Fields = []sensors.Field{{Name: "active", Value: m.Field("active") != true}}
					s.rec.edge["door"] = m
				case m.Sensor == "far" && s.rec.ever["door chatters"]:
					if after--; after == 0 {
						close(s.gaveUp)
					}
				}
			}
		}},
		"changes are not told": {"chattering_input", "", 4, "changes were reported", func(s *stage) {
			upon(s, raised("chatters"), "far", func() {
				s.rec.mu.Lock()
				defer s.rec.mu.Unlock()
				s.rec.changes["door"] -= 10000
			})
		}},
		"chattering input sends each change": {"chattering_input", "", 4, "max_edges 40/s allows", func(s *stage) {
			upon(s, raised("chatters"), "nobody", func() {
				s.rec.mu.Lock()
				defer s.rec.mu.Unlock()
				s.rec.edges["door"] += 100000
			})
		}},
		"pin stays when the link is lost": {"broker_gone", "", 3, "it did not become safe (off)", func(s *stage) {
			upon(s, done, "air", func() { s.sim.Board.Line("GPIO27").Fail(errBroken) })
		}},
		"pin stays at a stop": {"stop", "", 3, "it is not at its safe level, off", func(s *stage) {
			upon(s, done, "nobody", func() { s.sim.Board.Line("GPIO27").Fail(errBroken) })
		}},
		"refusal is not explained": {"certificate_expired", "", 5, "nothing said that the broker refuses the certificate", func(s *stage) {
			if err := s.stopBroker(); err != nil { // so it refuses nothing
				t.Error(err)
			}
			first := func(m message.Record) bool { return m.Kind == message.Reading }
			upon(s, first, "air", func() {})
		}},
		"order is carried out with a wrong clock": {"clock_wrong", "", 2, `the answer was "done"`, func(s *stage) {
			s.sim.Clock = synced{s.clock}
		}},
	}, func(t *testing.T, _ string, c sabotaged) {
		r := rehearsed(t, wide, c.fault, c.sensor, c.sabotage)
		if o := outcomeOf(r, c.fault, c.promise); o.Verdict != Broken || !strings.Contains(o.Why, c.why) || r.Err() == nil {
			t.Errorf("want broken: %s; got %+v", c.why, r.Outcomes)
		}
	})
}

// An output with safe: keep has to keep its level at a stop. Here another one is found on the line.
func TestKeptOutputThatChanges(t *testing.T) {
	text := strings.Replace(wide, "safe: off, safe_after: 5m", "initial: off, safe: keep", 1)
	r := rehearsed(t, text, "stop", "", func(s *stage) {
		s.sim.Board.KeepOnRelease(false) // the line falls back to its pull
	})
	if o := outcomeOf(r, "stop", 3); o.Verdict != Broken || o.Why != "it did not stay on, although it has safe: keep" || r.Err() == nil {
		t.Errorf("%+v", r.Outcomes)
	}
	// one that max_on may have switched off before proves nothing
	r = rehearsed(t, strings.Replace(text, "safe: keep", "safe: keep, max_on: 5m", 1), "stop", "", func(s *stage) { s.sim.Board.KeepOnRelease(false) })
	if o := outcomeOf(r, "stop", 3); o.Verdict != NotTried || o.Why != "max_on may have switched it off before" {
		t.Errorf("%+v", r.Outcomes)
	}
}

// An output that drives only one of its levels has the resistor that it needs for the other.
func TestOpenDrainOutputs(t *testing.T) {
	head, _, _ := strings.Cut(wide, "sensors:\n")
	r := rehearsed(t, head+`outputs:
  - {name: drain, pin: GPIO22, drive: open-drain}
  - {name: drain-low, pin: GPIO23, drive: open-drain, active_low: true}
  - {name: source, pin: GPIO24, drive: open-source}
  - {name: source-low, pin: "pcf8574:2", drive: open-drain, active_low: true}
`, "stop", "", func(*stage) {})
	held := 0
	for _, o := range r.Outcomes {
		if o.Promise == 3 && o.Verdict == Held {
			held++
		}
	}
	if held != 4 {
		t.Errorf("%+v", r.Outcomes)
	}
}

// A daemon that ends by itself is found, although another one can go on after it. One that needs
// too long to stop breaks nothing.
func TestDaemonThatEnds(t *testing.T) {
	for name, c := range map[string]struct {
		died bool
		want Verdict
	}{"by itself": {true, Broken}, "late": {false, Held}} {
		t.Run(name, func(t *testing.T) {
			cfg, _ := hasten(configOf(t, wide))
			s, err := openStage(t.Context(), RunOptions{Config: cfg, Version: "test"}, "stop", t.TempDir(), cfg)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := s.begin(); err != nil {
				t.Fatal(err)
			}
			first := s.running
			s.running = task.Start("daemon", s.failed, func(ctx context.Context) error {
				if !c.died {
					<-ctx.Done()
				}
				return errors.Join(first.Stop(patience), errBroken)
			})
			if c.died {
				s.rec.await(t.Context(), patience, nil, s.running.Ended)
			}
			if o := s.settle(); o.Verdict != c.want || !strings.Contains(o.Why, errBroken.Error()) {
				t.Errorf("want %s: %+v", c.want, o)
			}
			if err := s.close(); err != nil {
				t.Error(err)
			}
		})
	}
}

// Each fault is seen to happen: the report has what the daemon itself said of it.
func TestFaultHappens(t *testing.T) {
	together(t, map[string]string{
		"sensor_gone":         "air was cut off: fault no_answer; 3 other sensors went on; connected again, it was read",
		"bus_stuck":           "i2c-1 hung with 2 sensors; transactions that hung: ",
		"chattering_input":    "in 2s, fault chatters: ",
		"certificate_expired": "certificate_rejected",
		"clock_wrong":         "on for pump, from that time: refused, clock_unsynced",
	}, func(t *testing.T, fault, want string) {
		r := rehearsed(t, wide, fault, "", func(*stage) {})
		promise := map[string]int{"clock_wrong": 2, "certificate_expired": 5}[fault]
		if o := outcomeOf(r, fault, cmp.Or(promise, 4)); o.Verdict != Held || !strings.Contains(o.Happened, want) {
			t.Errorf("want held: %s; got %+v", want, r.Outcomes)
		}
		if o := outcomeOf(r, fault, 1); o.Verdict != Held {
			t.Errorf("delivery: %+v", o)
		}
	})
}

// Chips that are not on a bus can be cut off too.
func TestSensorsOfOtherKindsGone(t *testing.T) {
	more := `  - {name: meter, chip: counter, pin: GPIO22}
  - {name: oven, chip: max31855, device: spidev0.0}
  - {name: probe, chip: ds18b20, device: 28-00000a1b2c3d, every: 10s}
  - {name: room, chip: iio, device: bme280}
  - {name: power, chip: sdm120, device: ttyUSB0}
  - {name: dust, chip: pms5003, device: ttyUSB1}
  - {name: level, chip: ultrasonic, trigger: GPIO23, echo: GPIO24}
  - {name: board, chip: thermal}
outputs:`
	kinds := map[string]bool{"meter": true, "oven": true, "probe": true, "room": true, "power": true, "dust": true, "level": true, "board": true}
	together(t, kinds, func(t *testing.T, sensor string, _ bool) {
		r := rehearsed(t, strings.Replace(wide, "outputs:", more, 1), "sensor_gone", sensor, func(*stage) {})
		if o := outcomeOf(r, "sensor_gone", 4); o.Verdict != Held || !strings.HasPrefix(o.Happened, sensor+" was cut off: fault ") {
			t.Errorf("%+v", r.Outcomes)
		}
	})
}

// A process that ends by itself was not cut off from its power.
func TestPowerCutOfAProcessThatEnds(t *testing.T) {
	cfg := configOf(t, wide)
	ends := func(string, string, string) *exec.Cmd {
		return exec.Command(os.Args[0], "-no-such-flag")
	}
	r, err := Run(t.Context(), RunOptions{Config: cfg, Scenario: Scenario{usual("power_cut")}, Child: ends})
	if err != nil || r.Err() == nil || !strings.Contains(fmt.Sprint(r.Outcomes), "it had ended by itself: exit status 2: flag provided but not defined") {
		t.Errorf("%v: %+v", err, r.Outcomes)
	}
}

// A spool that begins anew gives numbers for the second time, which a receiver drops.
func TestNumbersGivenTwice(t *testing.T) {
	r := newRecorder()
	m := message.Record{Kind: message.Reading, Sensor: "air", Run: 1, Seq: 1}
	r.take(m)
	r.ack(m)
	r.take(m)
	if o := r.delivered(1); o.Verdict != Broken || !strings.Contains(o.Why, "number 1 of air in run 1") {
		t.Errorf("%+v", o)
	}
}

// Configurations without sensors, without outputs, and without either of what a fault needs are
// rehearsed as far as they go.
func TestRehearsalOfLittle(t *testing.T) {
	head, body, _ := strings.Cut(wide, "sensors:\n")
	_, outputs, _ := strings.Cut(body, "outputs:\n")
	type little struct {
		text string
		held map[string]int // promises by fault
	}
	together(t, map[string]little{
		"outputs only":  {head + "outputs:\n" + outputs, map[string]int{"order_storm": 2, "clock_wrong": 2, "stop": 3, "certificate_expired": 5}},
		"one sensor":    {head + "sensors:\n  - {name: air, chip: bme280, bus: i2c-1, address: 0x76}\n", map[string]int{"sensor_gone": 4, "bus_stuck": 4, "clock_wrong": 4}},
		"pulses only":   {head + "sensors:\n  - {name: meter, chip: counter, pin: GPIO22}\n", map[string]int{"clock_wrong": 4}},
		"slow one only": {head + "sensors:\n  - {name: dust, chip: sps30, bus: i2c-1}\n", nil},
	}, func(t *testing.T, _ string, c little) {
		cfg := configOf(t, c.text)
		var all Scenario
		for _, fault := range []string{"sensor_gone", "bus_stuck", "chattering_input", "order_storm", "clock_wrong", "stop", "certificate_expired"} {
			if c.held != nil || fault != "certificate_expired" && fault != "clock_wrong" {
				all = append(all, usual(fault))
			}
		}
		r, err := Run(t.Context(), RunOptions{Config: cfg, Scenario: all})
		if err != nil || r.Err() != nil {
			t.Errorf("%v, %v: %+v", err, r.Err(), r.Outcomes)
		}
		for fault, promise := range c.held {
			if o := outcomeOf(r, fault, promise); o.Verdict != Held {
				t.Errorf("%s, promise %d: %+v", fault, promise, o)
			}
		}
		for _, o := range r.Outcomes {
			if o.Verdict == NotTried && o.Why == "" {
				t.Errorf("not tried for no reason: %+v", o)
			}
		}
	})
}
