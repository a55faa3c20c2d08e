package output

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
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

// An order that the line did not follow must not act when the line recovers.
func TestFailedOrderLeadsToSafe(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := sim.New()
		n := open(t, b, pump)
		defer n.run()()
		b.Line("GPIO27").Fail(syscall.EIO)
		var failed *FailedError
		s, err := n.bank.Do(Order{Output: "pump", Action: ActionOn, For: time.Hour})
		if !errors.As(err, &failed) || !errors.Is(err, syscall.EIO) || s.Err == nil {
			t.Errorf("%+v, %v", s, err)
		}
		n.faulted("pump output_failed raised")
		n.after(time.Minute)
		b.Line("GPIO27").Fail(nil)
		n.after(retryFirst)
		n.is("GPIO27", Off)
		n.faulted("pump output_failed cleared")
		if s := n.bank.States()[0]; s.Err != nil || s.Level != Off {
			t.Errorf("state %+v", s)
		}
		n.after(2 * time.Hour)
		n.told()
	})
}

// A line that was on and does not obey is switched off as soon as it does,
// and that is told.
func TestTimerThatFailsIsTriedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := sim.New()
		c := pump
		c.MaxOn = time.Minute
		n := open(t, b, c)
		defer n.run()()
		n.do("pump", ActionOn, 0)
		b.Line("GPIO27").Fail(syscall.EIO)
		n.after(10 * time.Minute)
		n.faulted("pump output_failed raised")
		n.told()
		b.Line("GPIO27").Fail(nil)
		n.after(retryFirst)
		n.is("GPIO27", Off)
		n.told("output=pump state=off cause=max_on")
		n.faulted("pump output_failed cleared")
	})
}

// A wire shorted to ground: on reads back as off.
func TestLevelMismatch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := sim.New()
		c := pump
		c.Drive = board.OpenDrain // and nothing that pulls it up
		n := open(t, b, c)
		defer n.run()()
		s, err := n.bank.Do(Order{Output: "pump", Action: ActionOn, Cause: "order"})
		if err == nil || !strings.Contains(err.Error(), "set to on, reads off") || s.Level != Off || s.Err == nil {
			t.Errorf("%+v, %v", s, err)
		}
		n.faulted("pump level_mismatch raised")
		b.Line("GPIO27").SetPull(board.PullUp)
		n.after(time.Hour)
		n.is("GPIO27", Off)
		n.faulted() // off is right, as it was: on has not been seen to work yet
		n.do("pump", ActionOn, 0)
		n.faulted("pump level_mismatch cleared")
		n.told()
	})
}

// An extension that fails makes safe what was on, and says so.
func TestFailedOrderEndsWhatWasOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := sim.New()
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
		n.told("output=pump state=off cause=failed")
		b.Line("GPIO27").SetPull(board.PullUp)
		n.after(2 * time.Hour)
		n.is("GPIO27", Off)
	})
}

func TestInitialMismatchLeadsToSafe(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := sim.New()
		c := pump
		c.Drive, c.Initial = board.OpenDrain, InitialOn
		n := open(t, b, c)
		n.faulted("pump level_mismatch raised")
		n.told("output=pump state=off cause=failed")
		b.Line("GPIO27").SetPull(board.PullUp)
		n.is("GPIO27", Off)
	})
}

// A chip that is unplugged and comes back is requested anew.
func TestChipVanishes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := sim.New()
		n := open(t, b, pump)
		defer n.run()()
		b.Line("GPIO27").Fail(syscall.ENODEV)
		if _, err := n.bank.Do(Order{Output: "pump", Action: ActionOn}); !errors.Is(err, syscall.ENODEV) {
			t.Errorf("error %v", err)
		}
		n.after(time.Minute)
		n.faulted("pump output_failed raised")
		b.Line("GPIO27").Fail(nil)
		n.after(retryMost)
		n.faulted("pump output_failed cleared")
		n.do("pump", ActionOn, 0)
		n.is("GPIO27", On)
	})
}

// finding is a board whose lines are found only once there is true.
type finding struct {
	*sim.Board
	there bool
}

func (f *finding) Find(line string) (board.LineID, error) {
	if !f.there {
		return board.LineID{}, board.ErrAbsent
	}
	return f.Board.Find(line)
}

func TestLineFoundLaterIsRecordedFirst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := &finding{Board: sim.New()}
		path := filepath.Join(t.TempDir(), "outputs")
		n := openOn(t, b.Board, b, path, pump)
		if lines, err := Recorded(path); len(lines) != 0 || err != nil {
			t.Errorf("recorded %v, %v", lines, err)
		}
		b.there = true
		defer n.run()()
		n.after(retryMost)
		n.faulted("pump absent raised", "pump absent cleared")
		if lines, err := Recorded(path); len(lines) != 1 || err != nil {
			t.Errorf("recorded %v, %v", lines, err)
		}
	})
}

func TestRecordThatCannotBeWritten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := sim.New()
		dir := filepath.Join(t.TempDir(), "run")
		n := openOn(t, b, b, filepath.Join(dir, "outputs"), pump)
		defer n.run()()
		n.faulted("outputs safe_unrecorded raised")
		n.do("pump", ActionOn, 0)
		if err := os.Mkdir(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		n.after(retryMost)
		n.faulted("outputs safe_unrecorded cleared")
		if lines, err := Recorded(filepath.Join(dir, "outputs")); len(lines) != 1 || err != nil {
			t.Errorf("recorded %v, %v", lines, err)
		}
	})
}

// hanging is a board on which setting one line may hang in the kernel.
type hanging struct {
	*sim.Board
	line    string
	entered chan struct{}
	release chan struct{}
}

type hangingOutput struct {
	board.Output
	h *hanging
}

func (h *hanging) Output(c board.OutputConfig) (board.Output, error) {
	o, err := h.Board.Output(c)
	if err == nil && c.Line == h.line {
		o = hangingOutput{o, h}
	}
	return o, err
}

func (o hangingOutput) Set(active bool) error {
	o.h.entered <- struct{}{}
	<-o.h.release
	return o.Output.Set(active)
}

// A call that hangs in the kernel hangs its own output only: timers of the
// others, the proof of progress, the states and the stop go on.
func TestHungLine(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := &hanging{Board: sim.New(), line: "GPIO27", entered: make(chan struct{}, 9), release: make(chan struct{})}
		var p health.Progress
		loop := p.Loop("outputs")
		offs := make(chan string, 9)
		bank := Open(Options{Board: h, Outputs: []Config{pump, {Name: "fan", Pin: "GPIO5"}, {Name: "lamp", Pin: "GPIO6"}}, Clock: clock.Fake(), Loop: loop,
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
			if stuck, ok := p.Take(); !ok {
				t.Errorf("%s made no progress", stuck)
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
		if _, ok := p.Take(); !ok {
			t.Error("the loop did not end in good order")
		}
	})
}

// Orders from several goroutines at once, with timers running: what is left
// is what the last one asked for or safe, and nothing races.
func TestOrdersAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := pump
		c.MaxOn, c.SafeAfter = 5*time.Second, 3*time.Second
		n := open(t, sim.New(), c, Config{Name: "fan", Pin: "GPIO5"})
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
		n.is("GPIO27", Off)
		stop()
		if err := n.bank.Close(); err != nil {
			t.Error(err)
		}
	})
}
