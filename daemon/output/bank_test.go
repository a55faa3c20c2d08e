package output

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"fieldpost/daemon/clock"
	"fieldpost/daemon/health"
	"fieldpost/daemon/message"
	"fieldpost/sensors/board"
	"fieldpost/sensors/sim"
)

// harness is a bank on a simulated board that records all events and faults.
type harness struct {
	t      *testing.T
	board  *sim.Board
	bank   *Bank
	health *health.Health

	mu     sync.Mutex // events come from Run and from callers of Do and Safe
	events []string
	faults []string
}

// open makes a bank and runs it until the end of the synctest bubble.
func open(t *testing.T, b *sim.Board, outputs ...Config) *harness {
	return openOn(t, b, b, "", outputs...)
}

func openOn(t *testing.T, s *sim.Board, b board.Board, record string, outputs ...Config) *harness {
	t.Helper()
	return openWith(t, s, Options{Board: b, Outputs: outputs, Record: record})
}

// openWith makes a bank with these options, and adds what a harness needs.
func openWith(t *testing.T, s *sim.Board, o Options) *harness {
	t.Helper()
	n := &harness{t: t, board: s}
	n.health = health.New(func(c health.Change) {
		n.mu.Lock()
		defer n.mu.Unlock()
		n.faults = append(n.faults, fmt.Sprintf("%s %s %s", c.Subject, c.Fault.Code, c.State()))
	})
	o.Health = n.health
	if o.Clock == nil {
		o.Clock = clock.Fake()
	}
	if o.Event == nil {
		o.Event = func(r message.Record) {
			if r.Kind != message.Event || r.Stamp.Wall.IsZero() {
				t.Errorf("not an event with a time: %+v", r)
			}
			var words []string
			for _, f := range r.Fields {
				words = append(words, fmt.Sprint(f.Name, "=", f.Value))
			}
			n.mu.Lock()
			defer n.mu.Unlock()
			n.events = append(n.events, strings.Join(words, " "))
		}
	}
	n.bank = Open(o)
	return n
}

// run runs the bank. The returned function ends it and waits.
func (n *harness) run() (stop func()) {
	ctx, cancel := context.WithCancel(n.t.Context())
	done := make(chan error)
	go func() { done <- n.bank.Run(ctx) }()
	return func() {
		n.t.Helper()
		cancel()
		if err := <-done; !errors.Is(err, context.Canceled) {
			n.t.Errorf("Run ended with %v", err)
		}
	}
}

// after lets time pass, and everything that is due happen.
func (n *harness) after(d time.Duration) {
	<-time.After(d)
	synctest.Wait()
}

func (n *harness) do(name string, a Action, d time.Duration) {
	n.t.Helper()
	if _, err := n.bank.Do(Order{Output: name, Action: a, For: d, Cause: "test"}); err != nil {
		n.t.Errorf("%s %s: %v", name, a, err)
	}
}

// wantWire checks the level of the line and of the state.
func (n *harness) wantWire(line string, want Level) {
	n.t.Helper()
	if high, _ := n.board.Line(line).Level(); LevelOf(high) != want {
		n.t.Errorf("%s is %s on the wire, want %s", line, LevelOf(high), want)
	}
}

// wantEvents checks the events since its last call, without those of requests and of the
// test's own orders.
func (n *harness) wantEvents(want ...string) {
	n.t.Helper()
	synctest.Wait() // Run's goroutine reports them
	n.mu.Lock()
	defer n.mu.Unlock()
	n.events = slices.DeleteFunc(n.events, func(e string) bool {
		return strings.HasSuffix(e, "cause=initial") || strings.HasSuffix(e, "cause=test") || strings.HasSuffix(e, "cause=order")
	})
	if !slices.Equal(n.events, want) {
		n.t.Errorf("events %q, want %q", n.events, want)
	}
	n.events = nil
}

// wantAllEvents checks all events since its last call.
func (n *harness) wantAllEvents(want ...string) {
	n.t.Helper()
	synctest.Wait()
	n.mu.Lock()
	defer n.mu.Unlock()
	if !slices.Equal(n.events, want) {
		n.t.Errorf("events %q, want %q", n.events, want)
	}
	n.events = nil
}

func (n *harness) wantFaults(want ...string) {
	n.t.Helper()
	synctest.Wait()
	n.mu.Lock()
	defer n.mu.Unlock()
	if !slices.Equal(n.faults, want) {
		n.t.Errorf("faults %q, want %q", n.faults, want)
	}
	n.faults = nil
}

var pump = Config{Name: "pump", Pin: "GPIO27"}

func TestActions(t *testing.T) {
	for _, c := range []struct {
		from, safe Level
		a          Action
		want       Level
	}{
		{Off, Off, ActionOn, On}, {On, Off, ActionOn, On}, {On, Off, ActionOff, Off}, {Off, Off, ActionOff, Off},
		{Off, Off, ActionToggle, On}, {On, Off, ActionToggle, Off}, {Off, On, ActionToggle, On},
		{Off, Off, ActionPulse, On}, {On, Off, ActionPulse, On}, {On, On, ActionPulse, Off}, {Off, On, ActionPulse, Off},
	} {
		synctest.Test(t, func(t *testing.T) {
			n := open(t, newBoard(), Config{Name: "pump", Pin: "GPIO27", Initial: initialAt(c.from), Safe: safeAt(c.safe)})
			s, err := n.bank.Do(Order{Output: "pump", Action: c.a, ID: "c-81", Cause: "mqtt"})
			if err != nil || s.Level != c.want || s.Cause != "mqtt" || s.Order != "c-81" {
				t.Errorf("%s from %s: %+v, %v; want %s", c.a, c.from, s, err, c.want)
			}
			n.wantWire("GPIO27", c.want)
			events := []string{fmt.Sprintf("output=pump state=%s cause=initial", c.from)}
			if c.want != c.from {
				events = append(events, fmt.Sprintf("output=pump state=%s cause=mqtt id=c-81", c.want))
			}
			n.wantAllEvents(events...)
		})
	}
}

func TestParseAction(t *testing.T) {
	for _, a := range []Action{ActionOn, ActionOff, ActionToggle, ActionPulse} {
		if got, err := ParseAction(string(a)); got != a || err != nil {
			t.Errorf("%s: %q, %v", a, got, err)
		}
	}
	for _, bad := range []string{"", "ON", "on ", "blink"} {
		if _, err := ParseAction(bad); !errors.Is(err, ErrAction) {
			t.Errorf("%q: %v", bad, err)
		}
	}
	for a, want := range map[Action][2]bool{ActionOn: {true, false}, ActionOff: {false, true}, ActionToggle: {true, true}, ActionPulse: {true, true}} {
		if got := [2]bool{a.Energises(SafeOff, Off), a.Energises(SafeOn, Off)}; got != want {
			t.Errorf("%s energises %v, want %v", a, got, want)
		}
	}
}

// The line changes at most once at the request.
func TestInitialLevelWithoutAClick(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBoard()
		b.Line("GPIO22").SetPull(board.PullUp)
		n := open(t, b, Config{Name: "fan", Pin: "GPIO22", ActiveLow: true}, Config{Name: "lamp", Pin: "GPIO23", Initial: InitialOn})
		for _, line := range []string{"GPIO22", "GPIO23"} {
			n.wantWire(line, On) // high: off for fan, on for lamp
		}
		if h := b.Line("GPIO22").History(); slices.ContainsFunc(h, func(c sim.Change) bool { return !c.High }) {
			t.Errorf("the relay clicked: %+v", h)
		}
		s := n.bank.States()
		if s[0].Name != "fan" || s[0].Level != Off || s[1].Level != On || s[1].Cause != CauseInitial || s[1].Err != nil {
			t.Errorf("states %+v", s)
		}
	})
}

func TestForEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := open(t, newBoard(), pump, Config{Name: "lock", Pin: "GPIO5", Initial: InitialOn, Safe: SafeOn})
		defer n.run()()
		n.do("pump", ActionOn, 30*time.Second)
		n.do("lock", ActionOff, 10*time.Second)
		n.after(9 * time.Second)
		n.wantEvents()
		n.after(time.Second)
		n.wantEvents("output=lock state=on cause=for_ended")
		n.do("pump", ActionOn, 30*time.Second) // replaces the first end, in 20 s
		n.after(29 * time.Second)
		n.wantWire("GPIO27", On)
		n.after(time.Second)
		n.wantWire("GPIO27", Off)
		n.wantEvents("output=pump state=off cause=for_ended")
		if s := n.bank.States()[0]; s.Cause != CauseForEnded || time.Since(s.Since) != 0 {
			t.Errorf("state %+v", s)
		}
		n.do("pump", ActionOn, 5*time.Second)
		n.do("pump", ActionOn, 0) // for ever from now on
		n.after(time.Hour)
		n.wantWire("GPIO27", On)
		n.do("pump", ActionOff, time.Second) // safe already: nothing to end
		n.after(time.Hour)
		n.wantWire("GPIO27", Off)
		n.wantEvents()
	})
}

func TestPulse(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := open(t, newBoard(), pump)
		defer n.run()()
		n.do("pump", ActionPulse, 0)
		n.after(DefaultPulse - time.Millisecond)
		n.wantWire("GPIO27", On)
		n.after(time.Millisecond)
		n.wantWire("GPIO27", Off)
		n.do("pump", ActionPulse, 3*time.Second)
		n.after(2 * time.Second)
		n.wantWire("GPIO27", On)
		n.after(time.Second)
		n.wantEvents("output=pump state=off cause=pulse_ended", "output=pump state=off cause=pulse_ended")
	})
}

func TestMaxOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := pump
		c.MaxOn, c.Initial = time.Minute, InitialOn
		n := open(t, newBoard(), c)
		defer n.run()()
		n.after(40 * time.Second)
		n.do("pump", ActionOn, time.Hour) // does not begin a new minute
		n.after(19 * time.Second)
		n.wantWire("GPIO27", On)
		n.after(time.Second)
		n.wantWire("GPIO27", Off)
		n.wantEvents("output=pump state=off cause=max_on")
		n.do("pump", ActionOn, 0)
		n.after(59 * time.Second)
		n.do("pump", ActionOff, 0)
		n.do("pump", ActionToggle, 0) // off in between: a new minute
		n.after(59 * time.Second)
		n.wantWire("GPIO27", On)
		n.after(time.Second)
		n.wantWire("GPIO27", Off)
		n.wantEvents("output=pump state=off cause=max_on")
		n.after(time.Hour)
		n.wantEvents()
	})
}

func TestLinkLost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := pump
		c.SafeAfter = 5 * time.Minute
		n := open(t, newBoard(), c, Config{Name: "fan", Pin: "GPIO5"})
		defer n.run()()
		n.bank.Link(true)
		n.do("pump", ActionOn, 0)
		n.do("fan", ActionOn, 0)
		n.after(time.Hour)
		n.bank.Link(false)
		n.after(4 * time.Minute)
		n.bank.Link(false) // again: the time continues
		n.after(30 * time.Second)
		n.bank.Link(true) // just in time
		n.after(time.Hour)
		n.wantWire("GPIO27", On)
		n.bank.Link(false)
		n.after(5*time.Minute - time.Second)
		n.wantWire("GPIO27", On)
		n.after(time.Second)
		n.wantWire("GPIO27", Off)
		n.wantWire("GPIO5", On) // has no safe_after
		n.wantEvents("output=pump state=off cause=link_lost")

		// An order during the outage comes from somebody on the spot.
		n.do("pump", ActionOn, 0)
		n.after(5*time.Minute - time.Second)
		n.wantWire("GPIO27", On)
		n.after(time.Second)
		n.wantEvents("output=pump state=off cause=link_lost")
	})
}

func TestLinkNeverUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := pump
		c.SafeAfter, c.Initial = time.Minute, InitialOn
		n := open(t, newBoard(), c)
		defer n.run()()
		n.after(59 * time.Second)
		n.wantWire("GPIO27", On)
		n.after(time.Second)
		n.wantWire("GPIO27", Off)
		n.wantEvents("output=pump state=off cause=link_lost")
	})
}

func safeAt(l Level) Safe { return Safe(l) }

func initialAt(l Level) Initial { return Initial(l) }

func TestRefusedOrders(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := open(t, newBoard(), pump)
		if _, err := n.bank.Do(Order{Output: "pumpe", Action: ActionOn}); !errors.Is(err, ErrUnknown) || !strings.Contains(err.Error(), `"pumpe"`) {
			t.Errorf("unknown output: %v", err)
		}
		if _, err := n.bank.Do(Order{Output: "pump", Action: "blink"}); !errors.Is(err, ErrAction) {
			t.Errorf("unknown action: %v", err)
		}
		if _, err := n.bank.Do(Order{Output: "pump", Action: ActionOn, For: -time.Second}); err == nil {
			t.Error("negative duration was accepted")
		}
		for a, want := range map[Action]bool{ActionOn: true, ActionOff: false, ActionToggle: true} {
			if e, ok := n.bank.Energises("pump", a, Off); e != want || !ok {
				t.Errorf("%s energises the pump: %v, %v", a, e, ok)
			}
		}
		if _, ok := n.bank.Energises("pumpe", ActionOff, 0); ok {
			t.Error("an output that is not there exists")
		}
		n.wantWire("GPIO27", Off)
	})
}

func TestSafeIsForGood(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBoard()
		b.KeepOnRelease(true)
		b.Line("GPIO6").Fail(nil)
		n := open(t, b, pump, Config{Name: "valve", Pin: "GPIO6"}, Config{Name: "lock", Pin: "GPIO5", Initial: InitialOn, Safe: SafeOn})
		stop := n.run()
		for _, name := range []string{"pump", "valve", "lock"} {
			n.do(name, ActionToggle, time.Minute)
		}
		b.Line("GPIO6").Fail(syscall.EIO)
		err := n.bank.Safe(CauseStop)
		var failed *FailedError
		if !errors.As(err, &failed) || failed.Output != "valve" || !errors.Is(err, syscall.EIO) {
			t.Errorf("Safe: %v, want the valve's failure", err)
		}
		n.wantWire("GPIO27", Off)
		n.wantWire("GPIO5", On)
		n.wantEvents("output=pump state=off cause=stop", "output=lock state=on cause=stop")
		for _, a := range []Action{ActionOn, ActionOff} {
			if _, err := n.bank.Do(Order{Output: "pump", Action: a}); !errors.Is(err, ErrStopped) {
				t.Errorf("%s after the stop: %v", a, err)
			}
		}
		b.Line("GPIO6").Fail(nil)
		n.after(2 * time.Second)
		n.wantEvents("output=valve state=off cause=stop")
		if err := n.bank.Safe(CauseStop); err != nil {
			t.Errorf("again: %v", err)
		}
		stop()
		if err := errors.Join(n.bank.Close(), n.bank.Close()); err != nil {
			t.Errorf("Close: %v", err)
		}
		n.wantWire("GPIO27", Off)
		n.wantWire("GPIO5", On)
		n.wantEvents()
		if high, driven := b.Line("GPIO5").Level(); !high || !driven {
			t.Error("the lock did not keep its level")
		}
	})
}

func TestCloseMakesSafe(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBoard()
		b.KeepOnRelease(true)
		n := open(t, b, pump)
		n.do("pump", ActionOn, 0)
		if err := n.bank.Close(); err != nil {
			t.Fatal(err)
		}
		n.wantWire("GPIO27", Off)
		n.wantEvents("output=pump state=off cause=stop")
		if s := n.bank.States()[0]; !errors.Is(s.Err, ErrStopped) {
			t.Errorf("state %+v", s)
		}
	})
}
