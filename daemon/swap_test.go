package daemon_test

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"runtime/pprof"
	"strings"
	"sync"
	"testing"
	"time"

	"fieldpost/daemon"
	"fieldpost/daemon/api"
	"fieldpost/daemon/config"
	"fieldpost/daemon/daemontest"
	"fieldpost/daemon/message"
	"fieldpost/sensors/sim"
)

// swap has a daemon go by another configuration, and fails the test where it refuses.
func swap(t *testing.T, r *daemontest.Running, cfg *config.Config) daemon.Changes {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), daemontest.Patience)
	defer cancel()
	c, err := r.Daemon.Swap(ctx, cfg)
	if err != nil || c.Slow != nil {
		t.Errorf("swap: %+v, %v", c, err)
	}
	return c
}

// numbers sees to it that each sensor's numbers come one after another.
type numbers struct {
	t    *testing.T
	last map[string]uint64
}

func (n *numbers) take(r message.Record) {
	if r.Seq == 0 {
		return
	}
	if n.last == nil {
		n.last = map[string]uint64{}
	}
	if want := n.last[r.Sensor] + 1; r.Seq != want {
		n.t.Errorf("%s: number %d came, want %d", r.Sensor, r.Seq, want)
	}
	n.last[r.Sensor] = r.Seq
}

// until takes records until a sensor has this number.
func (n *numbers) until(from <-chan message.Record, sensor string, seq uint64) {
	n.t.Helper()
	daemontest.Await(n.t, fmt.Sprint(sensor, " ", seq), from, func(r message.Record) bool {
		n.take(r)
		return n.last[sensor] >= seq
	})
}

// edges counts the changes of a line.
func edges(l *sim.Line) int { return len(l.History()) }

const (
	door = "  - {name: door, chip: gpio, pin: GPIO17, pull: up}"
	soil = "  - {name: soil, chip: tmp102, bus: i2c-1, address: 0x48, every: 100ms}"
	fan  = "  - {name: fan, pin: GPIO5}"
)

// Nothing that has not changed is touched: the pump that is on stays on, without an
// edge on its line, the door's edges come through, numbers go on, the link stands; and
// what has changed holds.
func TestSwap(t *testing.T) {
	s := daemontest.NewSite(t, nil)
	s.Bus.AddTMP102(0x48)
	heard, say := s.Listen("test-ear"), s.Publisher("test-mouth")
	r := s.Start(s.Config(door, fan)).AwaitLink(t)
	say(daemontest.Order("c-1", "on", time.Hour))
	answered(t, heard, "c-1")
	taken := &numbers{t: t}
	taken.until(r.Taken, "air", 3)
	pump, gate := s.Board.Line("GPIO27"), s.Board.Line("GPIO17")
	before, fanEdges := edges(pump), edges(s.Board.Line("GPIO5"))

	c := swap(t, r, s.Config(door+"\n"+soil, fan+"\n  - {name: lamp, pin: GPIO6, max_on: 1h}"))
	gate.Drive(false)
	if fmt.Sprint(c.Sensors) != fmt.Sprint(daemon.SensorChanges{Kept: []string{"air", "door"}, Added: []string{"soil"}}) ||
		fmt.Sprint(c.Outputs.Kept, c.Outputs.Added) != "[pump fan] [lamp]" || c.Outputs.Removed != nil || c.Connect != nil {
		t.Errorf("changed: %+v", c)
	}
	taken.until(r.Taken, "soil", 2)
	taken.until(r.Taken, "door", 2)
	if high, driven := s.Board.Line("GPIO6").Level(); high || !driven {
		t.Error("the lamp is not ours")
	}
	c = swap(t, r, s.Config("  - {name: door, chip: gpio, pin: GPIO17, pull: up, debounce: 1ms}", "  - {name: lamp, pin: GPIO6, max_on: 2h}"))
	if fmt.Sprint(c.Sensors) != fmt.Sprint(daemon.SensorChanges{Kept: []string{"air"}, Changed: []string{"door"}, Removed: []string{"soil"}}) ||
		fmt.Sprint(c.Outputs.Kept, c.Outputs.Adjusted, c.Outputs.Removed) != "[pump] [lamp] [fan]" {
		t.Errorf("changed: %+v", c)
	}
	taken.until(r.Taken, "door", 3)
	taken.until(r.Taken, "air", taken.last["air"]+3)
	if edges(pump) != before {
		t.Errorf("the pump's line: %v", pump.History())
	}
	if h := s.Board.Line("GPIO5").History(); h[len(h)-1].Driven {
		t.Errorf("the fan's line is still ours: %v, %d changes before", h, fanEdges)
	}
	say(daemontest.Order("c-2", "off", time.Hour))
	if a := answered(t, heard, "c-2"); a["status"] != "done" || edges(pump) != before+1 {
		t.Errorf("answer %v, line %v", a, pump.History())
	}
	select {
	case st := <-r.Linked:
		t.Errorf("the link has changed: %+v", st)
	default:
	}
	if err := r.Stop(); err != nil {
		t.Error(err)
	}
	acked := &numbers{t: t}
	close(r.Acked)
	for rec := range r.Acked {
		acked.take(rec)
	}
	if acked.last["air"] == 0 || acked.last["soil"] == 0 || acked.last["door"] < 3 {
		t.Errorf("acknowledged: %v", acked.last)
	}
}

// The status speaks of what is configured now, and what was wrong with what is gone is
// over; what is wrong with what is new is told.
func TestSwapOfFaults(t *testing.T) {
	s := daemontest.NewSite(t, nil)
	s.Board.Line("GPIO5").Hold("gpio-keys")
	r, socket := s.StartWithSocket(s.Config("  - {name: gone, chip: lm75, bus: i2c-1, address: 0x49, every: 100ms}", fan))
	daemontest.AwaitStatus(t, socket, "two faults", func(st api.Status) bool { return len(st.Faults) == 2 })
	swap(t, r, s.Config("  - {name: lost, chip: lm75, bus: i2c-1, address: 0x4a, every: 100ms}", ""))
	st := daemontest.AwaitStatus(t, socket, "the other fault", func(st api.Status) bool {
		return len(st.Faults) == 1 && st.Faults[0].Subject == "lost"
	})
	daemontest.Await(t, "the fault as that of a sensor", r.Taken, func(rec message.Record) bool {
		return rec.Kind == message.Fault && rec.Sensor == "lost"
	})
	if len(st.Sensors) != 2 || st.Sensors[1].Name != "lost" || len(st.Outputs) != 1 {
		t.Errorf("sensors %+v, outputs %+v", st.Sensors, st.Outputs)
	}
	swap(t, r, s.Config("", ""))
	daemontest.AwaitStatus(t, socket, "no fault", func(st api.Status) bool { return len(st.Faults) == 0 })
}

// A line goes from a sensor to an output and back: whoever had it lets go of it first,
// and nothing is wrong at any time.
func TestSwapMovesALine(t *testing.T) {
	s := daemontest.NewSite(t, nil)
	sensor, out := s.Config(door, ""), s.Config("", "  - {name: lock, pin: GPIO17}")
	r, socket := s.StartWithSocket(sensor)
	taken := &numbers{t: t}
	for i := range 5 {
		taken.until(r.Taken, "door", uint64(i+1))
		swap(t, r, out)
		daemontest.AwaitStatus(t, socket, "the lock", func(st api.Status) bool {
			if len(st.Faults) > 0 {
				t.Errorf("wrong: %+v", st.Faults)
			}
			return len(st.Outputs) == 2 && st.Outputs[1].State == "off"
		})
		swap(t, r, sensor)
	}
}

// What cannot change while the daemon runs is refused by name, all of it at once, and
// nothing else of that configuration holds.
func TestSwapIsRefusedWhole(t *testing.T) {
	s := daemontest.NewSite(t, nil)
	cfg := s.Config("", "")
	r := s.Start(cfg)
	next := *s.Config(soil, fan)
	next.Thing, next.Spool.Dir, next.Spool.AtRisk, next.Spool.MaxBytes, next.Spool.MaxAge = "other", next.Spool.Dir+"2", time.Hour, 1<<20, time.Hour
	_, err := r.Daemon.Swap(t.Context(), &next)
	var problems config.Errors
	if !errors.As(err, &problems) || len(problems) != 5 {
		t.Fatalf("got %v", err)
	}
	for i, path := range []string{"thing", "spool.dir", "spool.at_risk", "spool.max_bytes", "spool.max_age"} {
		if p := problems[i]; p.Path != path || p.File != next.File || !strings.Contains(p.Error(), "cannot change from ") || !strings.Contains(p.Error(), "restart the daemon") {
			t.Errorf("got %v", p)
		}
	}
	if !strings.HasSuffix(problems[0].Error(), `(got "other")`) && !strings.HasSuffix(problems[0].Error(), `(got other)`) {
		t.Errorf("got %v", problems[0])
	}
	if _, driven := s.Board.Line("GPIO5").Level(); driven {
		t.Error("an output of what was refused is ours")
	}
	if c := swap(t, r, cfg); c.Sensors.Any() || c.Outputs.Any() {
		t.Errorf("back to what it was changes %+v", c)
	}
}

// An order that comes while the configuration is swapped, again and again, is answered
// once and acts once.
func TestOrdersWhileSwapping(t *testing.T) {
	s := daemontest.NewSite(t, nil)
	s.Bus.AddTMP102(0x48)
	heard, say := s.Listen("test-ear"), s.Publisher("test-mouth")
	one, two := s.Config("", ""), s.Config(soil, fan)
	one.Commands.MaxLife = 30 * time.Minute
	r := s.Start(one).AwaitLink(t)
	before := timesOn(s)
	stop := make(chan struct{})
	var swaps sync.WaitGroup
	swaps.Go(func() {
		for i := 0; ; i++ {
			select {
			case <-stop:
				return
			default:
				swap(t, r, []*config.Config{two, one}[i%2])
			}
		}
	})
	const orders = 40
	count := map[string]int{}
	for i := range orders {
		id := fmt.Sprint("c-", i)
		say(daemontest.Order(id, []string{"on", "off"}[i%2], 20*time.Minute))
		daemontest.Await(t, "answer to "+id, heard, func(m map[string]any) bool {
			if m["kind"] != "answer" {
				return false
			}
			count[fmt.Sprint(m["id"])]++
			if m["status"] != "done" {
				t.Errorf("answer %v", m)
			}
			return m["id"] == id
		})
	}
	close(stop)
	swaps.Wait()
	if err := r.Stop(); err != nil {
		t.Error(err)
	}
	for len(heard) > 0 {
		if m := <-heard; m["kind"] == "answer" {
			count[fmt.Sprint(m["id"])]++
		}
	}
	for id, n := range count {
		if n != 1 {
			t.Errorf("%s was answered %d times", id, n)
		}
	}
	if n := timesOn(s) - before; n != orders/2 {
		t.Errorf("the pump went on %d times", n)
	}
}

// Swaps that are asked for at once follow one another, each whole; fifty of them leave
// nothing running.
func TestSwapsAtOnce(t *testing.T) {
	s := daemontest.NewSite(t, nil)
	s.Bus.AddTMP102(0x48)
	configs := []*config.Config{s.Config("", ""), s.Config(door, fan), s.Config(soil, "  - {name: lamp, pin: GPIO6}"), s.Config(door+"\n"+soil, fan)}
	r := s.Start(configs[0]).AwaitLink(t)
	swap(t, r, configs[3])
	swap(t, r, configs[0])
	before := runtime.NumGoroutine()
	var all sync.WaitGroup
	for i := range 50 {
		all.Go(func() { swap(t, r, configs[i%len(configs)]) })
	}
	all.Wait()
	swap(t, r, configs[0])
	again := time.NewTicker(10 * time.Millisecond)
	defer again.Stop()
	for late := time.Now().Add(daemontest.Patience); runtime.NumGoroutine() > before; <-again.C { // those that end may take a moment
		if time.Now().After(late) {
			var now strings.Builder
			_ = pprof.Lookup("goroutine").WriteTo(&now, 1)
			t.Fatalf("%d goroutines, %d before:\n%s", runtime.NumGoroutine(), before, now.String())
		}
	}
	taken := &numbers{t: t}
	taken.until(r.Taken, "air", 3)
	for _, pin := range []string{"GPIO5", "GPIO6", "GPIO17"} {
		if name, held := s.Board.Holder(s.Board.Line(pin).ID()); held {
			t.Errorf("%s is held by %s", pin, name)
		}
	}
}

// A daemon that is about to run, that stops or has stopped takes no other
// configuration, and a stop waits for none.
func TestSwapAtTheEnds(t *testing.T) {
	s := daemontest.NewSite(t, nil)
	one, two := s.Config("", ""), s.Config(door, fan)
	r := s.Start(one).AwaitLink(t)
	ended, end := context.WithCancel(context.Background())
	end()
	if _, err := r.Daemon.Swap(ended, one); err != nil && !errors.Is(err, context.Canceled) {
		t.Errorf("nobody waits: %v", err)
	}
	done := make(chan error, 20)
	for i := range cap(done) {
		go func() {
			_, err := r.Daemon.Swap(context.Background(), []*config.Config{two, one}[i%2])
			done <- err
		}()
	}
	if err := r.Stop(); err != nil {
		t.Error(err)
	}
	for range cap(done) {
		if err := daemontest.Receive(t, "the end of a swap", done); err != nil && !errors.Is(err, daemon.ErrStopping) {
			t.Error(err)
		}
	}
	if _, err := r.Daemon.Swap(context.Background(), two); !errors.Is(err, daemon.ErrStopping) {
		t.Errorf("after the end: %v", err)
	}
	for _, pin := range []string{"GPIO27", "GPIO5", "GPIO17"} {
		if name, held := s.Board.Holder(s.Board.Line(pin).ID()); held {
			t.Errorf("%s is held by %s", pin, name)
		}
	}
}

// A new broker, or another name to it, takes a new connection; readings go on, each
// number once, first to the one and then to the other.
func TestSwapOfTheBroker(t *testing.T) {
	s, other := daemontest.NewSite(t, nil), daemontest.NewSite(t, nil)
	first := s.Config("", "")
	moved := *first
	moved.Broker.Endpoint = other.Addr
	moved.Broker.CA, moved.Broker.Certificate, moved.Broker.Key = other.Files.CA, other.Files.Certificate, other.Files.Key
	renamed := moved
	renamed.Broker.ClientID, renamed.Broker.KeepAlive, renamed.Broker.Will = "other-client", time.Minute, "none"
	heard := other.Listen("test-ear")
	r := s.Start(first).AwaitLink(t)
	acked := &numbers{t: t}
	acked.until(r.Acked, "air", 2)
	if c := swap(t, r, &moved); fmt.Sprint(c.Connect) != "[endpoint credentials]" || c.Sensors.Any() || c.Outputs.Any() {
		t.Errorf("moved: %+v", c)
	}
	r.AwaitLink(t)
	daemontest.Await(t, "reading at the other broker", heard, func(m map[string]any) bool { return m["sensor"] == "air" && m["seq"] != nil })
	acked.until(r.Acked, "air", acked.last["air"]+3)
	if c := swap(t, r, &renamed); fmt.Sprint(c.Connect) != "[client_id keep_alive will]" {
		t.Errorf("renamed: %+v", c)
	}
	r.AwaitLink(t)
	acked.until(r.Acked, "air", acked.last["air"]+3)
	if err := r.Stop(); err != nil {
		t.Error(err)
	}
	close(r.Acked)
	for rec := range r.Acked {
		acked.take(rec)
	}
	if waits := len(r.Taken); waits > 0 {
		taken := &numbers{t: t}
		close(r.Taken)
		for rec := range r.Taken {
			taken.take(rec)
		}
		if taken.last["air"] != acked.last["air"] {
			t.Errorf("taken %v, acknowledged %v", taken.last, acked.last)
		}
	}
}

// Orders come on another topic at once, on the connection that stands, and no more on
// the one before; readings go to theirs.
func TestSwapOfTheTopics(t *testing.T) {
	s := daemontest.NewSite(t, nil)
	first := s.Config("", "")
	first.Broker.Will = "none" // its topic is that of readings, and is told with the connection
	first.Commands.Topic = "test/elsewhere"
	next := *first
	next.Commands.Topic, next.Readings.Topic, next.Readings.Batch = "test/topic", "test/{sensor}", config.Batch{Max: 2, Within: 100 * time.Millisecond}
	heard, say := s.Listen("test-ear"), s.Publisher("test-mouth")
	r := s.Start(first).AwaitLink(t)
	acked := &numbers{t: t}
	acked.until(r.Acked, "air", 3)
	say(daemontest.Order("c-1", "on", time.Hour))
	if c := swap(t, r, &next); c.Connect != nil {
		t.Errorf("changed: %+v", c)
	}
	say(daemontest.Order("c-2", "on", time.Hour))
	if a := answered(t, heard, "c-2"); a["status"] != "done" || timesOn(s) != 1 {
		t.Errorf("answer %v, the pump went on %d times", a, timesOn(s))
	}
	acked.until(r.Acked, "air", acked.last["air"]+4)
	swap(t, r, first)
	say(daemontest.Order("c-3", "off", time.Hour))
	acked.until(r.Acked, "air", acked.last["air"]+4)
	if n := timesOn(s); n != 1 || len(s.Board.Line("GPIO27").History()) != 2 { // requested, on
		t.Errorf("the pump went on %d times: %v", n, s.Board.Line("GPIO27").History())
	}
	for len(heard) > 0 {
		if m := <-heard; m["kind"] == "answer" && m["id"] != "c-2" {
			t.Errorf("answer %v", m)
		}
	}
	select {
	case st := <-r.Linked:
		t.Errorf("the link has changed: %+v", st)
	default:
	}
}

// While no broker can be reached sensors and outputs change all the same, and the one
// that another configuration names is connected to at once.
func TestSwapWhileTheLinkIsDown(t *testing.T) {
	s := daemontest.NewSite(t, nil)
	up := s.Config(door, fan)
	down := *s.Config("", "")
	down.Broker.Endpoint = "127.0.0.1:1" // nothing listens there
	elsewhere := *s.Config(door, "")
	elsewhere.Broker.Endpoint = down.Broker.Endpoint
	r := s.Start(&down)
	taken := &numbers{t: t}
	taken.until(r.Taken, "air", 2)
	if c := swap(t, r, &elsewhere); fmt.Sprint(c.Sensors.Added) != "[door]" || c.Connect != nil {
		t.Errorf("changed: %+v", c)
	}
	taken.until(r.Taken, "door", 1)
	swap(t, r, up)
	r.AwaitLink(t)
	acked := &numbers{t: t}
	acked.until(r.Acked, "air", 3) // from the first
}

// Credentials that cannot be used are refused, and the link goes on with those that can.
func TestSwapRefusesCredentials(t *testing.T) {
	s, other := daemontest.NewSite(t, nil), daemontest.NewSite(t, nil)
	r := s.Start(s.Config("", "")).AwaitLink(t)
	bad := *s.Config(door, "")
	bad.Broker.Key = other.Files.Key
	if _, err := r.Daemon.Swap(t.Context(), &bad); err == nil || !strings.Contains(err.Error(), "does not belong") || !strings.Contains(err.Error(), other.Files.Key) {
		t.Errorf("another's key: %v", err)
	}
	bad.Broker.Key = s.Dir + "/none"
	if _, err := r.Daemon.Swap(t.Context(), &bad); err == nil || !strings.Contains(err.Error(), "none") {
		t.Errorf("no key: %v", err)
	}
	bad = *s.Config(door, "")
	bad.Broker.ClientID = strings.Repeat("x", 70000)
	if _, err := r.Daemon.Swap(t.Context(), &bad); err == nil || !strings.Contains(err.Error(), "client id") {
		t.Errorf("a client id that is too long: %v", err)
	}
	acked := &numbers{t: t}
	acked.until(r.Acked, "air", 5)
	if name, held := s.Board.Holder(s.Board.Line("GPIO17").ID()); held {
		t.Errorf("the door of what was refused is held by %s", name)
	}
}

// Orders without id and expiry are taken from when the link has a clean session, and
// refused again from when the configuration says so. [CMD-7]
func TestSwapOfUnstamped(t *testing.T) {
	s := daemontest.NewSite(t, nil)
	refuse, accept := s.Config("", ""), acceptingUnstamped(s)
	heard, say := s.Listen("test-ear"), s.Publisher("test-mouth")
	r := s.Start(refuse).AwaitLink(t)
	ask := func(status string) {
		t.Helper()
		say(`{"output":"pump","action":"on"}`)
		if a := daemontest.Await(t, "answer", heard, daemontest.Has("kind", "answer")); a["status"] != status {
			t.Errorf("answer %v, want %s", a, status)
		}
	}
	ask("refused")
	if c := swap(t, r, accept); fmt.Sprint(c.Connect) != "[clean session]" {
		t.Errorf("changed: %+v", c)
	}
	r.AwaitLink(t)
	ask("done")
	if c := swap(t, r, refuse); fmt.Sprint(c.Connect) != "[clean session]" {
		t.Errorf("changed back: %+v", c)
	}
	r.AwaitLink(t)
	ask("refused")
	if n := timesOn(s); n != 1 {
		t.Errorf("the pump went on %d times", n)
	}
}

// A daemon without outputs gets its first one, with a ledger: an order acts once, also
// after a restart. [CMD-4]
func TestSwapToTheFirstOutput(t *testing.T) {
	s := daemontest.NewSite(t, nil)
	full := s.Config("", "")
	none := *full
	none.Outputs = nil
	heard, say := s.Listen("test-ear"), s.Publisher("test-mouth")
	r := s.Start(&none).AwaitLink(t)
	if c := swap(t, r, full); c.Connect != nil || fmt.Sprint(c.Outputs.Added) != "[pump]" {
		t.Errorf("changed: %+v", c)
	}
	order := daemontest.Order("c-1", "on", time.Hour)
	say(order)
	if a := answered(t, heard, "c-1"); a["status"] != "done" {
		t.Errorf("answer %v", a)
	}
	if err := r.Stop(); err != nil {
		t.Fatal(err)
	}
	s.Start(full).AwaitLink(t)
	say(order)
	answered(t, heard, "c-1")
	if n := timesOn(s); n != 1 {
		t.Errorf("the pump went on %d times", n)
	}
}
