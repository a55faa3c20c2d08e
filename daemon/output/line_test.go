package output

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
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
	"fieldpost/daemon/message"
	"fieldpost/sensors/board"
	"fieldpost/sensors/sim"
)

// A line that cannot be requested is a fault and is retried.
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
				b := newBoard()
				c.breakIt(b, true)
				on := pump
				on.Initial = InitialOn
				n := open(t, b, on, Config{Name: "fan", Pin: "GPIO5", Initial: InitialOn})
				defer n.run()()
				n.after(time.Minute)
				n.wantWire("GPIO5", On)
				n.wantFaults(fmt.Sprintf("pump %s raised", c.code))
				var failed *FailedError
				if s, err := n.bank.Do(Order{Output: "pump", Action: ActionOff}); !errors.As(err, &failed) || s.Err == nil {
					t.Errorf("order for a line that is not ours: %+v, %v", s, err)
				}
				c.breakIt(b, false)
				n.after(retryMost)
				n.wantWire("GPIO27", On)
				n.wantFaults(fmt.Sprintf("pump %s cleared", c.code))
				n.wantEvents()
				n.do("pump", ActionOff, 0)
			})
		})
	}
}

// If the link has been down for safe_after by then, the line is requested safe.
func TestLineComesAfterLinkLost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBoard()
		b.Line("GPIO27").Hold("gpio-keys")
		c := pump
		c.Initial, c.SafeAfter = InitialOn, time.Minute
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
		b := newBoard()
		b.Line("GPIO27").Hold("gpio-keys")
		n := open(t, b, pump)
		defer n.run()()
		b.Line("GPIO27").Fail(fs.ErrPermission)
		n.after(time.Minute)
		n.wantFaults("pump line_busy raised", "pump line_busy cleared", "pump denied raised")
	})
}

func TestRecordBeforeRequest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBoard()
		path := filepath.Join(t.TempDir(), "outputs")
		b.Line("GPIO5").Hold("gpio-keys")
		seen := &requestHook{Board: b, before: func() {
			if lines, err := Recorded(path); len(lines) != 2 || err != nil {
				t.Errorf("at a request the record holds %v, %v", lines, err)
			}
		}}
		n := openOn(t, b, seen, path, pump, Config{Name: "lock", Pin: "GPIO5", ActiveLow: true, Drive: board.OpenDrain, Safe: SafeOn})
		if seen.requests != 2 {
			t.Errorf("%d requests, want 2", seen.requests)
		}
		if err := n.bank.Close(); err != nil {
			t.Error(err)
		}
		lines, err := Recorded(path)
		want := []Line{
			{Output: "pump", Label: sim.Label, Chip: "gpiochip0", Offset: 27, Name: "GPIO27", Drive: board.PushPull},
			{Output: "lock", Label: sim.Label, Chip: "gpiochip0", Offset: 5, Name: "GPIO5", ActiveLow: true, Drive: board.OpenDrain, Safe: SafeOn},
		}
		if err != nil || !slices.Equal(lines, want) {
			t.Errorf("record after Close %+v (%v), want %+v", lines, err, want)
		}
	})
}

// requestHook is a board that calls a function for each request of an output.
type requestHook struct {
	*sim.Board
	before   func()
	requests int
}

func (w *requestHook) Output(c board.OutputConfig) (board.Output, error) {
	w.before()
	w.requests++
	return w.Board.Output(c)
}

// With initial: keep the line does not change, and the event has its level.
func TestInitialKeep(t *testing.T) {
	for _, c := range []struct{ high, activeLow bool }{{false, false}, {true, false}, {false, true}, {true, true}} {
		synctest.Test(t, func(t *testing.T) {
			s := newBoard()
			s.Line("GPIO6").Drive(c.high)
			before := len(s.Line("GPIO6").History())
			n := open(t, s, Config{Name: "lamp", Pin: "GPIO6", ActiveLow: c.activeLow, Initial: InitialKeep, Safe: SafeKeep, MaxOn: time.Minute})
			defer n.run()()
			want := LevelOf(c.high != c.activeLow)
			if h := s.Line("GPIO6").History()[before:]; len(h) != 1 || h[0].High != c.high || !h[0].Driven {
				t.Errorf("the lamp felt %+v", h)
			}
			n.wantAllEvents("output=lamp state=" + want.String() + " cause=initial")
			n.after(time.Minute)
			if want == On {
				n.wantAllEvents("output=lamp state=off cause=max_on")
			}
		})
	}
}

// If a line and an interlocked one are both found away from safe, it is made safe.
func TestInitialKeepAgainstAnInterlock(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newBoard()
		up, down := upAndDown()
		up.Initial, down.Initial = InitialOff, InitialKeep
		s.Line("GPIO6").Drive(true)
		s.Line("GPIO5").Hold("gpio-keys") // its level is not known
		n := open(t, s, up, down)
		n.wantAllEvents("output=down state=on cause=initial", "output=down state=off cause=interlock")
		n.wantWire("GPIO6", Off)
	})
}

// A compressor with initial: on waits for its min_off, because it may just have been
// switched off. An order, a stop or a lost link takes precedence.
func TestInitialLevelWaitsForMinOff(t *testing.T) {
	for _, c := range []struct {
		what  string
		first func(n *harness)
		want  Level
	}{
		{"nothing else", func(*harness) {}, On},
		{"an order to safe", func(n *harness) { n.do("pump", ActionOff, 0) }, Off},
		{"a stop", func(n *harness) { _ = n.bank.Safe(CauseStop) }, Off},
		{"a lost link", func(n *harness) { n.bank.Link(false) }, Off},
		{"a link", func(n *harness) { n.bank.Link(true) }, On},
	} {
		t.Run(c.what, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				pump := compressor
				pump.Initial = InitialOn
				if c.what == "a lost link" {
					pump.SafeAfter = time.Minute
				}
				n := open(t, newBoard(), pump)
				defer n.run()()
				n.after(time.Second)
				c.first(n)
				n.after(3*time.Minute - time.Second - 1)
				n.wantWire("GPIO27", Off)
				n.after(2)
				n.wantWire("GPIO27", c.want)
			})
		})
	}
}

// It does not start if an interlocked output is on by then.
func TestInitialLevelGivesWayToAnInterlock(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		up, down := upAndDown()
		up.Initial, up.MinOff = InitialOn, time.Minute
		n := open(t, newBoard(), up, down)
		defer n.run()()
		n.do("down", ActionOn, 0)
		n.after(time.Hour)
		n.wantWire("GPIO5", Off)
		n.do("down", ActionOff, 0)
		n.do("up", ActionOn, 0)
	})
}

// With safe: keep and min_off a line that is on stays on, and one that is off waits.
func TestInitialOnWithSafeKeep(t *testing.T) {
	for _, high := range []bool{true, false} {
		synctest.Test(t, func(t *testing.T) {
			s := newBoard()
			s.Line("GPIO27").Drive(high)
			pump := compressor
			pump.Initial, pump.Safe = InitialOn, SafeKeep
			n := open(t, s, pump)
			defer n.run()()
			n.after(3*time.Minute - 1)
			n.wantWire("GPIO27", LevelOf(high))
			n.after(1)
			n.wantWire("GPIO27", On)
		})
	}
}

// Pins can be written in every way that the board knows.
func TestPinNames(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newBoard()
		var outputs []Config
		for name, pin := range map[string]string{"kernel": "GPIO5", "number": "6", "header": "P1_13", "label": sim.Label + ":22", "device": "gpiochip0:23"} {
			outputs = append(outputs, Config{Name: name, Pin: pin, ActiveLow: true, Drive: board.OpenSource})
		}
		for _, line := range []string{"GPIO5", "GPIO6", "GPIO27", "GPIO22", "GPIO23"} {
			s.Line(line).SetPull(board.PullDown)
		}
		n := open(t, s, outputs...)
		n.wantFaults()
		for name, line := range map[string]string{"kernel": "GPIO5", "number": "GPIO6", "header": "GPIO27", "label": "GPIO22", "device": "GPIO23"} {
			if high, driven := s.Line(line).Level(); !high || !driven {
				t.Errorf("%s: high %v, driven %v; want it off, which is high", name, high, driven)
			}
			n.do(name, ActionOn, 0)
			if high, driven := s.Line(line).Level(); high || driven {
				t.Errorf("%s: high %v, driven %v; want it on, which an open source leaves to the pull", name, high, driven)
			}
		}
	})
}

// A failed order must not act when the line recovers.
func TestFailedOrderLeadsToSafe(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBoard()
		n := open(t, b, pump)
		defer n.run()()
		b.Line("GPIO27").Fail(syscall.EIO)
		var failed *FailedError
		s, err := n.bank.Do(Order{Output: "pump", Action: ActionOn, For: time.Hour})
		if !errors.As(err, &failed) || !errors.Is(err, syscall.EIO) || s.Err == nil {
			t.Errorf("%+v, %v", s, err)
		}
		n.wantFaults("pump output_failed raised")
		n.after(time.Minute)
		b.Line("GPIO27").Fail(nil)
		n.after(retryFirst)
		n.wantWire("GPIO27", Off)
		n.wantFaults("pump output_failed cleared")
		if s := n.bank.States()[0]; s.Err != nil || s.Level != Off {
			t.Errorf("state %+v", s)
		}
		n.after(2 * time.Hour)
		n.wantEvents()
	})
}

// A line that cannot be switched off is switched off as soon as it works, with an event.
func TestTimerThatFailsIsTriedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBoard()
		c := pump
		c.MaxOn = time.Minute
		n := open(t, b, c)
		defer n.run()()
		n.do("pump", ActionOn, 0)
		b.Line("GPIO27").Fail(syscall.EIO)
		n.after(10 * time.Minute)
		n.wantFaults("pump output_failed raised")
		n.wantEvents()
		b.Line("GPIO27").Fail(nil)
		n.after(retryFirst)
		n.wantWire("GPIO27", Off)
		n.wantEvents("output=pump state=off cause=max_on")
		n.wantFaults("pump output_failed cleared")
	})
}

// A wire that is shorted to ground: on reads back as off.
func TestLevelMismatch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBoard()
		c := pump
		c.Drive = board.OpenDrain // and nothing pulls it up
		n := open(t, b, c)
		defer n.run()()
		s, err := n.bank.Do(Order{Output: "pump", Action: ActionOn, Cause: "order"})
		if err == nil || !strings.Contains(err.Error(), "set to on, reads off") || s.Level != Off || s.Err == nil {
			t.Errorf("%+v, %v", s, err)
		}
		n.wantFaults("pump level_mismatch raised")
		b.Line("GPIO27").SetPull(board.PullUp)
		n.after(time.Hour)
		n.wantWire("GPIO27", Off)
		n.wantFaults() // off reads back right as before; on has not worked yet
		n.do("pump", ActionOn, 0)
		n.wantFaults("pump level_mismatch cleared")
		n.wantEvents()
	})
}

// An order that fails to extend a duration makes the output safe, with an event.
func TestFailedOrderEndsWhatWasOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBoard()
		b.Line("GPIO27").SetPull(board.PullUp)
		c := pump
		c.Drive = board.OpenDrain
		n := open(t, b, c)
		defer n.run()()
		n.do("pump", ActionOn, time.Hour)
		b.Line("GPIO27").SetPull(board.PullDown)
		if _, err := n.bank.Do(Order{Output: "pump", Action: ActionOn, For: time.Hour}); !errors.Is(err, errMismatch) {
			t.Errorf("error %v", err)
		}
		n.wantEvents("output=pump state=off cause=failed")
		b.Line("GPIO27").SetPull(board.PullUp)
		n.after(2 * time.Hour)
		n.wantWire("GPIO27", Off)
	})
}

func TestInitialMismatchLeadsToSafe(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBoard()
		c := pump
		c.Drive, c.Initial = board.OpenDrain, InitialOn
		n := open(t, b, c)
		n.wantFaults("pump level_mismatch raised")
		n.wantEvents("output=pump state=off cause=failed")
		b.Line("GPIO27").SetPull(board.PullUp)
		n.wantWire("GPIO27", Off)
	})
}

// A chip that is unplugged and comes back is requested again.
func TestChipVanishes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBoard()
		n := open(t, b, pump)
		defer n.run()()
		b.Line("GPIO27").Fail(syscall.ENODEV)
		if _, err := n.bank.Do(Order{Output: "pump", Action: ActionOn}); !errors.Is(err, syscall.ENODEV) {
			t.Errorf("error %v", err)
		}
		n.after(time.Minute)
		n.wantFaults("pump output_failed raised")
		b.Line("GPIO27").Fail(nil)
		n.after(retryMost)
		n.wantFaults("pump output_failed cleared")
		n.do("pump", ActionOn, 0)
		n.wantWire("GPIO27", On)
	})
}

// findHook is a board that finds its lines only when there is true.
type findHook struct {
	*sim.Board
	there bool
}

func (f *findHook) Find(line string) (board.LineID, error) {
	if !f.there {
		return board.LineID{}, board.ErrAbsent
	}
	return f.Board.Find(line)
}

func TestLineFoundLaterIsRecordedFirst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := &findHook{Board: newBoard()}
		path := filepath.Join(t.TempDir(), "outputs")
		n := openOn(t, b.Board, b, path, pump)
		if lines, err := Recorded(path); len(lines) != 0 || err != nil {
			t.Errorf("recorded %v, %v", lines, err)
		}
		b.there = true
		defer n.run()()
		n.after(retryMost)
		n.wantFaults("pump absent raised", "pump absent cleared")
		if lines, err := Recorded(path); len(lines) != 1 || err != nil {
			t.Errorf("recorded %v, %v", lines, err)
		}
	})
}

func TestUnwritableRecord(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBoard()
		dir := filepath.Join(t.TempDir(), "run")
		n := openOn(t, b, b, filepath.Join(dir, "outputs"), pump)
		defer n.run()()
		n.wantFaults("outputs safe_unrecorded raised")
		n.do("pump", ActionOn, 0)
		if err := os.Mkdir(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		n.after(retryMost)
		n.wantFaults("outputs safe_unrecorded cleared")
		if lines, err := Recorded(filepath.Join(dir, "outputs")); len(lines) != 1 || err != nil {
			t.Errorf("recorded %v, %v", lines, err)
		}
	})
}

// hangingBoard is a board on which setting one line may hang.
type hangingBoard struct {
	*sim.Board
	entered chan struct{}
	release chan struct{}
}

func newHangingBoard(line string) *hangingBoard {
	h := &hangingBoard{Board: newBoard(), entered: make(chan struct{}, 9), release: make(chan struct{})}
	h.BeforeSet(func(l string, _ bool) {
		if l == line {
			h.entered <- struct{}{}
			<-h.release
		}
	})
	return h
}

// A kernel call that hangs blocks only its own output. The timers of the others, the
// heartbeat, States and Safe continue.
func TestHungLine(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHangingBoard("GPIO27")
		var p health.Heartbeats
		loop := p.Register("outputs")
		offs := make(chan string, 9)
		bank := Open(Options{Board: h, Outputs: []Config{pump, {Name: "fan", Pin: "GPIO5"}, {Name: "lamp", Pin: "GPIO6"}}, Clock: clock.Fake(), Heartbeat: loop,
			Event: func(r message.Record) {
				if cause := r.Fields[2].Value.(string); cause != CauseInitial && cause != CauseOrder {
					offs <- r.Fields[0].Value.(string) + " " + cause
				}
			}})
		ctx, cancel := context.WithCancel(t.Context())
		done, ordered, safe := make(chan error), make(chan error), make(chan error)
		go func() { done <- bank.Run(ctx) }()
		go func() {
			_, err := bank.Do(Order{Output: "pump", Action: ActionOn, For: time.Minute})
			ordered <- err
		}()
		<-h.entered
		for _, name := range []string{"fan", "lamp"} {
			if _, err := bank.Do(Order{Output: name, Action: ActionOn, For: map[string]time.Duration{"fan": 10 * time.Second}[name]}); err != nil {
				t.Error(err)
			}
		}
		<-time.After(10 * time.Second)
		if got := <-offs; got != "fan for_ended" {
			t.Errorf("event %q", got)
		}
		for range 5 {
			<-time.After(time.Second)
			synctest.Wait()
			if stuck, ok := p.Check(); !ok {
				t.Errorf("%s did not beat", stuck)
			}
		}
		if s := bank.States(); s[1].Level != Off || s[2].Level != On {
			t.Errorf("states %+v", s)
		}
		go func() { safe <- bank.Safe(CauseStop) }()
		if got := <-offs; got != "lamp stop" {
			t.Errorf("event %q", got)
		}
		close(h.release)
		if err := <-ordered; err != nil {
			t.Errorf("the order that hung: %v", err)
		}
		if err := <-safe; err != nil {
			t.Errorf("Safe: %v", err)
		}
		if got := <-offs; got != "pump stop" {
			t.Errorf("event %q", got)
		}
		cancel()
		if err := <-done; !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
		if _, ok := p.Check(); !ok {
			t.Error("the loop did not end in good order")
		}
	})
}

// Concurrent orders while timers run: at the end the level is that of the last order or
// safe, without data races.
func TestOrdersAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := pump
		c.MaxOn, c.SafeAfter = 5*time.Second, 3*time.Second
		n := open(t, newBoard(), c, Config{Name: "fan", Pin: "GPIO5"})
		stop := n.run()
		done := make(chan struct{})
		for i := range 8 {
			go func() {
				for j := range 50 {
					name := []string{"pump", "fan"}[(i+j)%2]
					a := []Action{ActionOn, ActionOff, ActionToggle, ActionPulse}[(i*j)%4]
					if _, err := n.bank.Do(Order{Output: name, Action: a, For: time.Duration(j) * 100 * time.Millisecond}); err != nil {
						t.Error(err)
					}
					n.bank.Link(j%3 == 0)
					n.bank.States()
					<-time.After(time.Duration(i+1) * 37 * time.Millisecond)
				}
				done <- struct{}{}
			}()
		}
		for range 8 {
			<-done
		}
		n.bank.Link(false)
		n.after(10 * time.Second)
		n.wantWire("GPIO27", Off)
		stop()
		if err := n.bank.Close(); err != nil {
			t.Error(err)
		}
	})
}

// slowBoard is a board whose outputs wait for free in Set.
type slowBoard struct {
	*sim.Board
	free chan struct{} // nil: they do not wait
}

func newSlowBoard() *slowBoard {
	b := &slowBoard{Board: newBoard()}
	b.BeforeSet(func(string, bool) {
		if b.free != nil {
			<-b.free
		}
	})
	return b
}

// An order whose kernel call hangs is a fault, because its output's timers cannot act;
// also if it succeeds later.
func TestHungOrderIsAFault(t *testing.T) {
	for _, c := range []struct {
		what string
		end  error
		last []string
	}{
		{"and succeeds", nil, []string{"pump output_failed cleared"}},
		{"and fails", syscall.EIO, nil}, // it is still that fault
	} {
		t.Run(c.what, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := newSlowBoard()
				n := openOn(t, b.Board, b, "", pump)
				defer n.run()()
				b.free = make(chan struct{})
				ended := make(chan error)
				go func() {
					_, err := n.bank.Do(Order{Output: "pump", Action: ActionOn})
					ended <- err
				}()
				n.after(hungAfter - time.Second)
				n.wantFaults()
				n.after(3 * time.Second)
				n.wantFaults("pump output_failed raised")
				b.Line("GPIO27").Fail(c.end)
				close(b.free)
				if err := <-ended; (err == nil) != (c.end == nil) {
					t.Errorf("the order: %v", err)
				}
				n.after(2 * time.Second)
				n.wantFaults(c.last...)
				b.Line("GPIO27").Fail(nil)
			})
		})
	}
}

// A chip is unplugged during an order while the record is written: for the race detector.
func TestChipVanishesWhileRecording(t *testing.T) {
	b := newBoard()
	path := filepath.Join(t.TempDir(), "away", "outputs")
	n := openOn(t, b, b, path, pump, Config{Name: "fan", Pin: "GPIO5"})
	b.Line("GPIO27").Fail(syscall.ENODEV)
	if err := os.Mkdir(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	var both sync.WaitGroup
	both.Go(func() { n.bank.recorder.writeRecord(time.Now()) })
	both.Go(func() {
		if _, err := n.bank.Do(Order{Output: "pump", Action: ActionOn}); err == nil {
			t.Error("an order to a chip that is gone succeeded")
		}
	})
	both.Wait()
	lines, err := Recorded(path)
	if err != nil || len(lines) == 0 || lines[len(lines)-1].Output != "fan" {
		t.Errorf("recorded %+v, %v; want at least the fan", lines, err)
	}
}
