package output

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"fieldpost/daemon/clock"
	"fieldpost/daemon/health"
	"fieldpost/daemon/spool"
	"fieldpost/sensors/board"
	"fieldpost/sensors/sim"
)

// bench is a bank on a simulated board, with everything it tells written down.
type bench struct {
	t      *testing.T
	board  *sim.Board
	bank   *Bank
	health *health.Health

	mu     sync.Mutex // events come from Run and from whoever calls Do or Safe
	events []string
	faults []string
}

// open makes a bank and runs it for as long as the bubble lives.
func open(t *testing.T, b *sim.Board, outputs ...Config) *bench {
	return openOn(t, b, b, "", outputs...)
}

func openOn(t *testing.T, s *sim.Board, b board.Board, record string, outputs ...Config) *bench {
	t.Helper()
	n := &bench{t: t, board: s}
	n.health = health.New(func(c health.Change) {
		n.mu.Lock()
		defer n.mu.Unlock()
		n.faults = append(n.faults, fmt.Sprintf("%s %s %s", c.Subject, c.Fault.Code, c.State()))
	})
	n.bank = Open(Options{
		Board: b, Outputs: outputs, Record: record, Clock: clock.Fake(), Health: n.health,
		Event: func(r spool.Record) {
			if r.Kind != spool.Event || r.Stamp.Wall.IsZero() {
				t.Errorf("not an event with a time: %+v", r)
			}
			var words []string
			for _, f := range r.Fields {
				words = append(words, fmt.Sprint(f.Name, "=", f.Value))
			}
			n.mu.Lock()
			defer n.mu.Unlock()
			n.events = append(n.events, strings.Join(words, " "))
		},
	})
	return n
}

// run runs the bank; the function returned ends it and waits.
func (n *bench) run() (stop func()) {
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

// after lets time pass and all that is due in it happen.
func (n *bench) after(d time.Duration) {
	<-time.After(d)
	synctest.Wait()
}

func (n *bench) do(name string, a Action, d time.Duration) {
	n.t.Helper()
	if _, err := n.bank.Do(name, a, d, "test"); err != nil {
		n.t.Errorf("%s %s: %v", name, a, err)
	}
}

// is checks the level on the wire and in the state.
func (n *bench) is(line string, want Level) {
	n.t.Helper()
	if high, _ := n.board.Line(line).Level(); Level(high) != want {
		n.t.Errorf("%s is %s on the wire, want %s", line, Level(high), want)
	}
}

// told checks the events since it was last called.
func (n *bench) told(want ...string) {
	n.t.Helper()
	n.mu.Lock()
	defer n.mu.Unlock()
	if !slices.Equal(n.events, want) {
		n.t.Errorf("events %q, want %q", n.events, want)
	}
	n.events = nil
}

func (n *bench) faulted(want ...string) {
	n.t.Helper()
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
			n := open(t, sim.New(), Config{Name: "pump", Pin: "GPIO27", Initial: c.from, Safe: c.safe})
			s, err := n.bank.Do("pump", c.a, 0, "order c-81")
			if err != nil || s.Level != c.want || s.Cause != "order c-81" {
				t.Errorf("%s from %s: %+v, %v; want %s", c.a, c.from, s, err, c.want)
			}
			n.is("GPIO27", c.want)
			n.told()
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
		if got := [2]bool{a.Energises(Off), a.Energises(On)}; got != want {
			t.Errorf("%s energises %v, want %v", a, got, want)
		}
	}
}

// The relay must feel one change at the request, or none.
func TestInitialLevelWithoutAClick(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := sim.New()
		b.Line("GPIO22").SetPull(board.PullUp)
		n := open(t, b, Config{Name: "fan", Pin: "GPIO22", ActiveLow: true}, Config{Name: "lamp", Pin: "GPIO23", Initial: On})
		for _, line := range []string{"GPIO22", "GPIO23"} {
			n.is(line, On) // high: off for fan, on for lamp
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
		n := open(t, sim.New(), pump, Config{Name: "lock", Pin: "GPIO5", Initial: On, Safe: On})
		defer n.run()()
		n.do("pump", ActionOn, 30*time.Second)
		n.do("lock", ActionOff, 10*time.Second)
		n.after(9 * time.Second)
		n.told()
		n.after(time.Second)
		n.told("output=lock state=on cause=for_ended")
		n.do("pump", ActionOn, 30*time.Second) // replaces the first end, 20 s away
		n.after(29 * time.Second)
		n.is("GPIO27", On)
		n.after(time.Second)
		n.is("GPIO27", Off)
		n.told("output=pump state=off cause=for_ended")
		if s := n.bank.States()[0]; s.Cause != CauseForEnded || time.Since(s.Since) != 0 {
			t.Errorf("state %+v", s)
		}
		n.do("pump", ActionOn, 5*time.Second)
		n.do("pump", ActionOn, 0) // for ever from now on
		n.after(time.Hour)
		n.is("GPIO27", On)
		n.do("pump", ActionOff, time.Second) // safe already: nothing to end
		n.after(time.Hour)
		n.is("GPIO27", Off)
		n.told()
	})
}

func TestPulse(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := open(t, sim.New(), pump)
		defer n.run()()
		n.do("pump", ActionPulse, 0)
		n.after(DefaultPulse - time.Millisecond)
		n.is("GPIO27", On)
		n.after(time.Millisecond)
		n.is("GPIO27", Off)
		n.do("pump", ActionPulse, 3*time.Second)
		n.after(2 * time.Second)
		n.is("GPIO27", On)
		n.after(time.Second)
		n.told("output=pump state=off cause=pulse_ended", "output=pump state=off cause=pulse_ended")
	})
}

func TestMaxOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := pump
		c.MaxOn, c.Initial = time.Minute, On
		n := open(t, sim.New(), c)
		defer n.run()()
		n.after(40 * time.Second)
		n.do("pump", ActionOn, time.Hour) // does not begin a new minute
		n.after(19 * time.Second)
		n.is("GPIO27", On)
		n.after(time.Second)
		n.is("GPIO27", Off)
		n.told("output=pump state=off cause=max_on")
		n.do("pump", ActionOn, 0)
		n.after(59 * time.Second)
		n.do("pump", ActionOff, 0)
		n.do("pump", ActionToggle, 0) // off in between: a new minute
		n.after(59 * time.Second)
		n.is("GPIO27", On)
		n.after(time.Second)
		n.is("GPIO27", Off)
		n.told("output=pump state=off cause=max_on")
		n.after(time.Hour)
		n.told()
	})
}

func TestLinkLost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := pump
		c.SafeAfter = 5 * time.Minute
		n := open(t, sim.New(), c, Config{Name: "fan", Pin: "GPIO5"})
		defer n.run()()
		n.bank.Link(true)
		n.do("pump", ActionOn, 0)
		n.do("fan", ActionOn, 0)
		n.after(time.Hour)
		n.bank.Link(false)
		n.after(4 * time.Minute)
		n.bank.Link(false) // again: the count goes on
		n.after(30 * time.Second)
		n.bank.Link(true) // just in time
		n.after(time.Hour)
		n.is("GPIO27", On)
		n.bank.Link(false)
		n.after(5*time.Minute - time.Second)
		n.is("GPIO27", On)
		n.after(time.Second)
		n.is("GPIO27", Off)
		n.is("GPIO5", On) // has no safe_after
		n.told("output=pump state=off cause=link_lost")

		// An order now comes from somebody on the spot.
		n.do("pump", ActionOn, 0)
		n.after(5*time.Minute - time.Second)
		n.is("GPIO27", On)
		n.after(time.Second)
		n.told("output=pump state=off cause=link_lost")
	})
}

func TestLinkNeverUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := pump
		c.SafeAfter, c.Initial = time.Minute, On
		n := open(t, sim.New(), c)
		defer n.run()()
		n.after(59 * time.Second)
		n.is("GPIO27", On)
		n.after(time.Second)
		n.is("GPIO27", Off)
		n.told("output=pump state=off cause=link_lost")
	})
}

func TestRefusedOrders(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := open(t, sim.New(), pump)
		if _, err := n.bank.Do("pumpe", ActionOn, 0, ""); !errors.Is(err, ErrUnknown) || !strings.Contains(err.Error(), `"pumpe"`) {
			t.Errorf("unknown output: %v", err)
		}
		if _, err := n.bank.Do("pump", "blink", 0, ""); !errors.Is(err, ErrAction) {
			t.Errorf("unknown action: %v", err)
		}
		if _, err := n.bank.Do("pump", ActionOn, -time.Second, ""); err == nil {
			t.Error("negative duration was accepted")
		}
		if safe, ok := n.bank.SafeLevel("pump"); safe != Off || !ok {
			t.Errorf("safe level of pump: %s, %v", safe, ok)
		}
		if _, ok := n.bank.SafeLevel("pumpe"); ok {
			t.Error("an output that is not there has a safe level")
		}
		n.is("GPIO27", Off)
	})
}

func TestSafeIsForGood(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := sim.New()
		b.KeepOnRelease(true)
		b.Line("GPIO6").Fail(nil)
		n := open(t, b, pump, Config{Name: "valve", Pin: "GPIO6"}, Config{Name: "lock", Pin: "GPIO5", Initial: On, Safe: On})
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
		n.is("GPIO27", Off)
		n.is("GPIO5", On)
		n.told("output=pump state=off cause=stop", "output=lock state=on cause=stop")
		for _, a := range []Action{ActionOn, ActionOff} {
			if _, err := n.bank.Do("pump", a, 0, ""); !errors.Is(err, ErrStopped) {
				t.Errorf("%s after the stop: %v", a, err)
			}
		}
		b.Line("GPIO6").Fail(nil)
		n.after(2 * time.Second)
		n.told("output=valve state=off cause=stop")
		if err := n.bank.Safe(CauseStop); err != nil {
			t.Errorf("again: %v", err)
		}
		stop()
		if err := errors.Join(n.bank.Close(), n.bank.Close()); err != nil {
			t.Errorf("Close: %v", err)
		}
		n.is("GPIO27", Off)
		n.is("GPIO5", On)
		n.told()
		if high, driven := b.Line("GPIO5").Level(); !high || !driven {
			t.Error("the lock did not keep its level")
		}
	})
}

func TestCloseMakesSafe(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := sim.New()
		b.KeepOnRelease(true)
		n := open(t, b, pump)
		n.do("pump", ActionOn, 0)
		if err := n.bank.Close(); err != nil {
			t.Fatal(err)
		}
		n.is("GPIO27", Off)
		n.told("output=pump state=off cause=stop")
		if s := n.bank.States()[0]; !errors.Is(s.Err, ErrStopped) {
			t.Errorf("state %+v", s)
		}
	})
}

// A line that cannot be had is a fault of its own and is tried again.
func TestLineComesLater(t *testing.T) {
	busy := func(b *sim.Board, on bool) {
		b.Line("GPIO27").Hold(map[bool]string{true: "gpio-keys"}[on])
	}
	fails := func(err error) func(*sim.Board, bool) {
		return func(b *sim.Board, on bool) {
			b.Line("GPIO27").Fail(map[bool]error{true: err}[on])
		}
	}
	for _, c := range []struct {
		breakIt func(*sim.Board, bool)
		code    health.Code
	}{
		{busy, health.LineBusy},
		{fails(fs.ErrPermission), health.Denied},
		{fails(board.ErrAbsent), health.Absent},
		{fails(syscall.EIO), health.OutputFailed},
	} {
		t.Run(string(c.code), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := sim.New()
				c.breakIt(b, true)
				on := pump
				on.Initial = On
				n := open(t, b, on, Config{Name: "fan", Pin: "GPIO5", Initial: On})
				defer n.run()()
				n.after(time.Minute)
				n.is("GPIO5", On)
				n.faulted(fmt.Sprintf("pump %s raised", c.code))
				var failed *FailedError
				if s, err := n.bank.Do("pump", ActionOff, 0, ""); !errors.As(err, &failed) || s.Err == nil {
					t.Errorf("order for a line that is not ours: %+v, %v", s, err)
				}
				c.breakIt(b, false)
				n.after(retryMost)
				n.is("GPIO27", On)
				n.faulted(fmt.Sprintf("pump %s cleared", c.code))
				n.told()
				n.do("pump", ActionOff, 0)
			})
		})
	}
}

// When the link has been down for safe_after by then, the line comes up safe.
func TestLineComesAfterLinkLost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := sim.New()
		b.Line("GPIO27").Hold("gpio-keys")
		c := pump
		c.Initial, c.SafeAfter = On, time.Minute
		n := open(t, b, c)
		defer n.run()()
		n.after(2 * time.Minute)
		b.Line("GPIO27").Hold("")
		n.after(retryMost)
		if h := b.Line("GPIO27").History(); slices.ContainsFunc(h, func(c sim.Change) bool { return c.High }) {
			t.Errorf("the line was on: %+v", h)
		}
		if s := n.bank.States()[0]; s.Err != nil || s.Level != Off {
			t.Errorf("state %+v", s)
		}
	})
}

func TestFaultChangesItsKind(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := sim.New()
		b.Line("GPIO27").Hold("gpio-keys")
		n := open(t, b, pump)
		defer n.run()()
		b.Line("GPIO27").Fail(fs.ErrPermission)
		n.after(time.Minute)
		n.faulted("pump line_busy raised", "pump line_busy cleared", "pump denied raised")
	})
}

func TestRecordBeforeRequest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := sim.New()
		path := filepath.Join(t.TempDir(), "outputs")
		b.Line("GPIO5").Hold("gpio-keys")
		seen := &watching{Board: b, before: func() {
			if lines, err := Recorded(path); len(lines) != 2 || err != nil {
				t.Errorf("at a request the record holds %v, %v", lines, err)
			}
		}}
		n := openOn(t, b, seen, path, pump, Config{Name: "lock", Pin: "GPIO5", ActiveLow: true, Drive: board.OpenDrain, Safe: On})
		if seen.requests != 2 {
			t.Errorf("%d requests, want 2", seen.requests)
		}
		if err := n.bank.Close(); err != nil {
			t.Error(err)
		}
		lines, err := Recorded(path)
		want := []Line{
			{Output: "pump", Label: sim.Label, Chip: "gpiochip0", Offset: 27, Name: "GPIO27", Drive: board.PushPull},
			{Output: "lock", Label: sim.Label, Chip: "gpiochip0", Offset: 5, Name: "GPIO5", ActiveLow: true, Drive: board.OpenDrain, Safe: On},
		}
		if err != nil || !slices.Equal(lines, want) {
			t.Errorf("record after Close %+v (%v), want %+v", lines, err, want)
		}
	})
}

// watching is a board that tells of each request of an output.
type watching struct {
	*sim.Board
	before   func()
	requests int
}

func (w *watching) Output(c board.OutputConfig) (board.Output, error) {
	w.before()
	w.requests++
	return w.Board.Output(c)
}
