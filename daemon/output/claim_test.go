package output

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"fieldpost/daemon/health"
	"fieldpost/sensors/board"
	"fieldpost/sensors/sim"
)

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
				on.Initial = InitialOn
				n := open(t, b, on, Config{Name: "fan", Pin: "GPIO5", Initial: InitialOn})
				defer n.run()()
				n.after(time.Minute)
				n.is("GPIO5", On)
				n.faulted(fmt.Sprintf("pump %s raised", c.code))
				var failed *FailedError
				if s, err := n.bank.Do(Order{Output: "pump", Action: ActionOff}); !errors.As(err, &failed) || s.Err == nil {
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
