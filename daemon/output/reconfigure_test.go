package output

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"fieldpost/sensors/board"
	"fieldpost/sensors/sim"
)

// reconfigure gives the bank another set of outputs and checks the reported changes.
func (n *harness) reconfigure(want Changes, outputs ...Config) {
	n.t.Helper()
	ctx, cancel := context.WithTimeout(n.t.Context(), time.Minute)
	defer cancel()
	got, err := n.bank.Reconfigure(ctx, outputs)
	synctest.Wait()
	if err != nil {
		n.t.Errorf("reconfigure: %v", err)
	}
	if fmt.Sprint(got) != fmt.Sprint(want) {
		n.t.Errorf("changes %+v, want %+v", got, want)
	}
}

// edges returns how often a line has changed, or the board began or stopped driving it.
func edges(b *sim.Board, line string) int { return len(b.Line(line).History()) }

// recordChecker is a board and its crash record. It checks that the record always has
// every line that is ours, as requested: before the request, while the line is held, and
// in every record written meanwhile. So `fieldpost safe` makes every line safe whenever
// the process is killed.
type recordChecker struct {
	*sim.Board
	t      testing.TB
	before func(step string) // called before each step; may be nil

	mu     sync.Mutex
	record []Line
	ours   map[string]Line // by line name
	steps  []string
}

func newRecordChecker(t testing.TB) *recordChecker {
	return &recordChecker{Board: newBoard(), t: t, ours: map[string]Line{}}
}

func (w *recordChecker) step(format string, args ...any) {
	w.mu.Lock()
	s, before := fmt.Sprintf(format, args...), w.before
	w.steps = append(w.steps, s)
	w.mu.Unlock()
	if before != nil {
		before(s)
	}
}

func (w *recordChecker) write(_ string, lines []Line) error {
	var names []string
	for _, l := range lines {
		names = append(names, l.Output+"@"+l.Name)
	}
	w.step("record %s", strings.Join(names, " "))
	w.mu.Lock()
	defer w.mu.Unlock()
	w.record = slices.Clone(lines)
	seen := map[string]bool{}
	for _, l := range lines {
		if seen[l.Name] {
			w.t.Errorf("the record has line %s twice: %v", l.Name, lines)
		}
		seen[l.Name] = true
	}
	for _, l := range w.ours {
		w.checkLocked(l)
	}
	return nil
}

// checkLocked checks that the record has a line.
func (w *recordChecker) checkLocked(l Line) {
	l.Held = false
	if !slices.ContainsFunc(w.record, func(r Line) bool { r.Held = false; return r == l }) {
		w.t.Errorf("%+v is ours, and the record has %+v", l, w.record)
	}
}

func (w *recordChecker) Output(c board.OutputConfig) (board.Output, error) {
	id, err := w.Find(c.Line)
	if err != nil {
		return nil, err
	}
	w.step("request %s", id.Name)
	w.mu.Lock()
	i := slices.IndexFunc(w.record, func(l Line) bool { return l.ID() == id })
	if i < 0 {
		w.t.Errorf("%s is requested, and the record has %+v", id.Name, w.record)
		i, w.record = 0, []Line{{}}
	}
	l := w.record[i]
	w.mu.Unlock()
	if drive := driveOf(Config{Drive: c.Drive}); l.ActiveLow != c.ActiveLow || l.Drive != drive {
		w.t.Errorf("%s is requested as %+v, and recorded as %+v", id.Name, c, l)
	}
	o, err := w.Board.Output(c)
	if err != nil {
		return nil, err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.ours[id.Name] = l
	return &checkedOutput{o, w, l}, nil
}

// checkedOutput is a line of a recordChecker.
type checkedOutput struct {
	board.Output
	w *recordChecker
	l Line
}

func (o *checkedOutput) Set(active bool) error {
	o.w.step("set %s %s", o.l.Name, LevelOf(active))
	o.w.mu.Lock()
	o.w.checkLocked(o.l)
	o.w.mu.Unlock()
	return o.Output.Set(active)
}

func (o *checkedOutput) Close() error {
	o.w.step("release %s", o.l.Name)
	o.w.mu.Lock()
	o.w.checkLocked(o.l)
	delete(o.w.ours, o.l.Name)
	o.w.mu.Unlock()
	return o.Output.Close()
}

// did checks the steps since its last call.
func (w *recordChecker) did(want ...string) {
	w.t.Helper()
	w.mu.Lock()
	defer w.mu.Unlock()
	if !slices.Equal(w.steps, want) {
		w.t.Errorf("steps\n%q, want\n%q", w.steps, want)
	}
	w.steps = nil
}

// openChecked runs a bank on a recordChecker.
func openChecked(t *testing.T, o Options) (*harness, *recordChecker) {
	t.Helper()
	w := newRecordChecker(t)
	o.Board, o.Record, o.write = w, "outputs", w.write
	n := openWith(t, w.Board, o)
	t.Cleanup(n.run())
	n.bank.Link(true)
	synctest.Wait()
	w.mu.Lock()
	defer w.mu.Unlock()
	w.steps = nil
	return n, w
}

// An unchanged output is not touched: its line has no edge, its state is the same, and
// its timers continue.
func TestReconfigureKeepsUnchanged(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		lamp, fan := Config{Name: "lamp", Pin: "GPIO6"}, Config{Name: "fan", Pin: "GPIO5", Initial: InitialOn}
		valve := Config{Name: "valve", Pin: "GPIO22", ActiveLow: true, Initial: InitialOn}
		n, w := openChecked(t, Options{Outputs: []Config{pump, lamp, fan}})
		n.do("pump", ActionOn, time.Minute)
		n.do("lamp", ActionPulse, 2*time.Minute)
		n.after(20 * time.Second)
		before, states := [2]int{edges(w.Board, "GPIO27"), edges(w.Board, "GPIO6")}, n.bank.States()
		n.wantEvents()
		same := pump
		same.Pin, same.Drive = sim.Label+":27", board.PushPull // the same line, written differently
		lamp.MaxOn = time.Hour
		n.reconfigure(Changes{Kept: []string{"pump"}, Adjusted: []string{"lamp"}, Removed: []string{"fan"}, Added: []string{"valve"}}, lamp, valve, same)
		if after := [2]int{edges(w.Board, "GPIO27"), edges(w.Board, "GPIO6")}; after != before {
			t.Errorf("edges on lines that do not change: %v, before %v", after, before)
		}
		if got := n.bank.States(); got[2] != states[0] || got[0] != states[1] || got[1].Name != "valve" {
			t.Errorf("states %+v, before %+v", got, states)
		}
		if high, driven := w.Line("GPIO22").Level(); high || !driven {
			t.Error("the valve is not on")
		}
		if high, driven := w.Line("GPIO5").Level(); high || driven {
			t.Error("the fan's line is still driven")
		}
		n.wantEvents("output=fan state=off cause=removed")
		n.after(40*time.Second - 1)
		n.wantWire("GPIO27", On)
		n.after(1)
		n.wantWire("GPIO27", Off)
		n.after(time.Minute)
		n.wantWire("GPIO6", Off)
		n.wantEvents("output=pump state=off cause=for_ended", "output=lamp state=off cause=pulse_ended")
		if c, err := n.bank.Reconfigure(t.Context(), []Config{lamp, valve, same}); err != nil || c.Any() {
			t.Errorf("the same again: %+v, %v", c, err)
		}
	})
}

// New bounds apply at once. They count from when the output was switched on, from the
// last order, or from the loss of the link.
func TestReconfigureBounds(t *testing.T) {
	const on = 30 * time.Second // how long the output has been on and the link down at the reload
	for _, c := range []struct {
		name        string
		before, now func(*Config)
		off         time.Duration // after the reload; 0: at once, -1: never
		cause       string
	}{
		{"max_on that is over", nil, func(c *Config) { c.MaxOn = 20 * time.Second }, 0, CauseMaxOn},
		{"max_on that is not over", nil, func(c *Config) { c.MaxOn = 50 * time.Second }, 20 * time.Second, CauseMaxOn},
		{"longer max_on", func(c *Config) { c.MaxOn = 31 * time.Second }, func(c *Config) { c.MaxOn = time.Minute }, 30 * time.Second, CauseMaxOn},
		{"no max_on", func(c *Config) { c.MaxOn = 31 * time.Second }, nil, -1, ""},
		{"refresh that is over", nil, func(c *Config) { c.Refresh = time.Second }, 0, CauseRefresh},
		{"refresh that is not over", nil, func(c *Config) { c.Refresh = 40 * time.Second }, 10 * time.Second, CauseRefresh},
		{"no refresh", func(c *Config) { c.Refresh = 31 * time.Second }, nil, -1, ""},
		{"safe_after that is over", nil, func(c *Config) { c.SafeAfter = 30 * time.Second }, 0, CauseLinkLost},
		{"safe_after that is not over", nil, func(c *Config) { c.SafeAfter = time.Minute }, 30 * time.Second, CauseLinkLost},
		{"no safe_after", func(c *Config) { c.SafeAfter = 31 * time.Second }, nil, -1, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				before, now := pump, pump
				if c.before != nil {
					c.before(&before)
				}
				if c.now != nil {
					c.now(&now)
				}
				n, w := openChecked(t, Options{Outputs: []Config{before}})
				n.do("pump", ActionOn, 0)
				n.bank.Link(false)
				n.after(on)
				had := edges(w.Board, "GPIO27")
				n.reconfigure(Changes{Adjusted: []string{"pump"}}, now)
				synctest.Wait()
				if c.off < 0 {
					n.after(time.Hour)
					n.wantWire("GPIO27", On)
					return
				}
				if c.off > 0 {
					n.after(c.off - 1)
					if edges(w.Board, "GPIO27") != had {
						t.Error("the line has moved too early")
					}
					n.after(1)
				}
				n.wantWire("GPIO27", Off)
				n.wantEvents("output=pump state=off cause=" + c.cause)
			})
		})
	}
}

// An order that waits for min_on waits for the new one, which may be shorter or longer.
func TestReconfigureWhileAnOrderWaitsForMinOn(t *testing.T) {
	for _, left := range []time.Duration{0, 10 * time.Second, 50 * time.Second} {
		synctest.Test(t, func(t *testing.T) {
			c := pump
			c.MinOn = 30 * time.Second
			n, _ := openChecked(t, Options{Outputs: []Config{c}})
			n.do("pump", ActionOn, 0)
			n.after(10 * time.Second)
			done := n.orderAsync(Order{Output: "pump", Action: ActionOff, Cause: "waited"})
			c.MinOn = 10*time.Second + left
			n.reconfigure(Changes{Adjusted: []string{"pump"}}, c)
			if left > 0 {
				n.after(left - 1)
				n.wantWire("GPIO27", On)
				n.after(1)
			}
			synctest.Wait()
			n.wantWire("GPIO27", Off)
			if err := <-done; err != nil {
				t.Error(err)
			}
			n.wantEvents("output=pump state=off cause=waited")
		})
	}
}

// An initial level that waits for min_off waits for the new one.
func TestReconfigureWhileTheInitialLevelWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := pump
		c.Initial, c.MinOff = InitialOn, time.Hour
		n, _ := openChecked(t, Options{Outputs: []Config{c}})
		n.after(time.Minute)
		n.wantWire("GPIO27", Off)
		c.MinOff = time.Minute
		n.reconfigure(Changes{Adjusted: []string{"pump"}}, c)
		synctest.Wait()
		n.wantWire("GPIO27", On)
	})
}

// A line is driven safe and released before it is removed from the record, and is in the
// record before it is requested. For a changed output the one follows the other.
func TestReconfigureKeepsTheRecordRight(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		lock := Config{Name: "lock", Pin: "GPIO5", Safe: SafeOn, Initial: InitialOn}
		n, w := openChecked(t, Options{Outputs: []Config{pump, lock}})
		n.do("pump", ActionOn, 0)
		n.do("lock", ActionOff, 0)
		w.did("set GPIO27 on", "set GPIO5 off")
		n.reconfigure(Changes{Kept: []string{"pump"}, Removed: []string{"lock"}}, pump)
		n.after(time.Second)
		w.did("set GPIO5 on", "release GPIO5", "record pump@GPIO27")
		n.reconfigure(Changes{Kept: []string{"pump"}, Added: []string{"lock"}}, pump, lock)
		n.after(time.Second)
		w.did("record pump@GPIO27 lock@GPIO5", "request GPIO5")
		inverse := pump
		inverse.ActiveLow = true
		n.reconfigure(Changes{Kept: []string{"lock"}, Removed: []string{"pump"}, Added: []string{"pump"}}, inverse, lock)
		n.after(time.Second)
		w.did("set GPIO27 off", "release GPIO27", "record pump@GPIO27 lock@GPIO5", "request GPIO27")
		n.wantWire("GPIO27", On) // off, with the other polarity
		n.wantFaults()
	})
}

// If two outputs exchange their lines, each is safe before the other gets its line.
func TestReconfigureExchangesLines(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b := Config{Name: "a", Pin: "GPIO5"}, Config{Name: "b", Pin: "GPIO6", Safe: SafeOn, Initial: InitialOn}
		n, w := openChecked(t, Options{Outputs: []Config{a, b}})
		n.do("a", ActionOn, 0)
		n.do("b", ActionOff, 0)
		a.Pin, b.Pin = b.Pin, a.Pin
		n.reconfigure(Changes{Removed: []string{"a", "b"}, Added: []string{"a", "b"}}, a, b)
		n.wantWire("GPIO6", Off)
		n.wantWire("GPIO5", On)
		n.wantFaults()
		want := []sim.Change{{High: true, Driven: true}, {High: false, Driven: true}, {High: false, Driven: false}, {High: true, Driven: true}}
		got := w.Line("GPIO5").History()[1:]
		for i := range got {
			got[i].At = 0
		}
		if !slices.Equal(got, want) {
			t.Errorf("GPIO5 was %+v, want on, safe for a, released, safe for b", got)
		}
	})
}

// A line that cannot be requested is a fault of its output only. The others change, and
// it is retried.
func TestReconfigureAddsWhatIsBusyLater(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n, w := openChecked(t, Options{Outputs: []Config{pump}})
		w.Line("GPIO5").Hold("gpio-keys")
		fan, lamp, gone := Config{Name: "fan", Pin: "GPIO5"}, Config{Name: "lamp", Pin: "GPIO6"}, Config{Name: "gone", Pin: "GPIO99"}
		n.reconfigure(Changes{Removed: []string{"pump"}, Added: []string{"fan", "gone", "lamp"}}, fan, gone, lamp)
		n.do("lamp", ActionOn, 0)
		n.wantWire("GPIO6", On)
		slices.Sort(n.faults)
		n.wantFaults("fan line_busy raised", "gone output_failed raised")
		w.Line("GPIO5").Hold("")
		n.after(retryMost)
		n.do("fan", ActionOn, 0)
		n.wantFaults("fan line_busy cleared")
		n.reconfigure(Changes{Kept: []string{"fan", "lamp"}, Removed: []string{"gone"}}, fan, lamp)
		n.wantFaults("gone output_failed cleared")
	})
}

// Orders for a removed output are answered: one that waits for its min_on when the output
// is safe, and a later one with ErrUnknown.
func TestReconfigureAnswersOrders(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := pump
		c.MinOn = time.Hour
		n, _ := openChecked(t, Options{Outputs: []Config{c}})
		n.do("pump", ActionOn, 0)
		waits := n.orderAsync(Order{Output: "pump", Action: ActionOff})
		n.reconfigure(Changes{Removed: []string{"pump"}})
		if err := <-waits; err != nil {
			t.Errorf("the order that waits: %v", err)
		}
		if _, err := n.bank.Do(Order{Output: "pump", Action: ActionOff}); !errors.Is(err, ErrUnknown) {
			t.Errorf("a later order: %v", err)
		}
		if _, ok := n.bank.Energises("pump", ActionOn, 0); ok || len(n.bank.States()) != 0 {
			t.Error("the pump is still an output")
		}
	})
}

// An order whose output is busy and then removed goes to the output that has its name
// then. An order to the safe level does nothing if it would energise that output.
func TestReconfigureUnderAnOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHangingBoard("GPIO27")
		n := openOn(t, h.Board, h, "", pump)
		defer n.run()()
		first := n.orderAsync(Order{Output: "pump", Action: ActionOn})
		off := n.orderAsync(Order{Output: "pump", Action: ActionOff, Safe: true})
		toggle := n.orderAsync(Order{Output: "pump", Action: ActionToggle})
		moved := pump
		moved.Pin, moved.Safe, moved.Initial = "GPIO5", SafeOn, InitialOn
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		defer cancel()
		if _, err := n.bank.Reconfigure(ctx, []Config{moved}); !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), `["pump"]`) {
			t.Errorf("with a line that hangs: %v", err)
		}
		n.wantFaults("pump output_failed raised")
		n.wantWire("GPIO5", Off) // its line waits until the old one is safe
		close(h.release)
		if err := <-first; err != nil {
			t.Errorf("the order under way: %v", err)
		}
		var failed *FailedError // not requested yet, or energises
		for _, err := range []error{<-off, <-toggle} {
			if !errors.Is(err, ErrEnergises) && !errors.As(err, &failed) {
				t.Errorf("an order that waited for its line: %v", err)
			}
		}
		n.after(time.Second)
		n.wantWire("GPIO5", On)
		n.wantWire("GPIO27", Off)
		n.wantFaults("pump output_failed cleared")
		if _, err := n.bank.Do(Order{Output: "pump", Action: ActionOff, Safe: true}); !errors.Is(err, ErrEnergises) {
			t.Errorf("off, when safe is on: %v", err)
		}
	})
}

// A line that hangs while it is made safe delays no timer, no other line and no order,
// nor the stop of the bank.
func TestReconfigureWithALineThatHangs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHangingBoard("GPIO27")
		n := newTimedHarness(t, h.Board, Options{Board: h, Outputs: []Config{pump, {Name: "fan", Pin: "GPIO5"}}})
		done := make(chan error, 1)
		go func() {
			_, err := n.bank.Reconfigure(t.Context(), append(slices.Clone(timedOutputs), Config{Name: "valve", Pin: "GPIO5", Initial: InitialOn}))
			done <- err
		}()
		<-h.entered
		n.after(time.Second)
		n.wantWire("GPIO5", On)
		n.actOnTime()
		n.wantFaults("pump output_failed raised")
		close(h.release)
		if err := <-done; err != nil {
			t.Error(err)
		}
		n.wantFaults("pump output_failed cleared")
		n.end()
	})
}

// Of several reloads while a line hangs the last one counts when the line is released. An
// output that was added and removed meanwhile is never requested.
func TestReconfigureAgainWhileALineHangs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n, w := openChecked(t, Options{Outputs: []Config{pump}})
		hang := make(chan struct{})
		w.before = func(step string) {
			if step == "set GPIO27 off" {
				<-hang
			}
		}
		other, last := pump, pump
		other.Drive, last.Initial = board.OpenDrain, InitialOn
		lamp := Config{Name: "lamp", Pin: "GPIO27"}
		for _, next := range [][]Config{{other}, {lamp}, {}, {last}} {
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			if _, err := n.bank.Reconfigure(ctx, next); !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("reconfigured to %+v while a line hangs: %v", next, err)
			}
			cancel()
		}
		w.before = nil
		close(hang)
		n.after(time.Second)
		n.wantWire("GPIO27", On)
		n.wantFaults()
		requests := 0
		for _, s := range w.steps {
			if strings.HasPrefix(s, "request") {
				requests++
			}
		}
		if requests != 1 || len(n.bank.outputs.Load().leaving) != 0 {
			t.Errorf("steps %q, %d still leave", w.steps, len(n.bank.outputs.Load().leaving))
		}
	})
}

// A line that does not become safe is retried for some time, with a fault, and then
// released with a warning. A new output on it is requested then.
func TestReconfigureReleasesABrokenLine(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log strings.Builder
		n, w := openChecked(t, Options{Outputs: []Config{pump}, Log: slog.New(slog.NewTextHandler(&log, nil))})
		n.do("pump", ActionOn, 0)
		w.Line("GPIO27").Fail(syscall.EIO)
		other := Config{Name: "other", Pin: "GPIO27"}
		done := make(chan error, 1)
		go func() {
			_, err := n.bank.Reconfigure(t.Context(), []Config{other})
			done <- err
		}()
		n.after(removalPatience - time.Second)
		n.wantFaults("pump output_failed raised")
		n.after(time.Second)
		if err := <-done; err != nil {
			t.Error(err)
		}
		n.wantFaults("pump output_failed cleared", "other output_failed raised")
		w.Line("GPIO27").Fail(nil)
		n.after(retryMost)
		n.wantFaults("other output_failed cleared")
		if !strings.Contains(log.String(), "but perhaps not safe") {
			t.Errorf("log: %s", log.String())
		}
	})
}

// A line whose chip was unplugged is not waited for.
func TestReconfigureWithoutTheChip(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n, w := openChecked(t, Options{Outputs: []Config{pump}})
		w.Line("GPIO27").Fail(syscall.ENODEV)
		n.reconfigure(Changes{Removed: []string{"pump"}})
		n.wantFaults("pump output_failed raised", "pump output_failed cleared")
	})
}

// systemd closes the handle of an output with safe: keep before its line is removed from
// the record. If systemd does not answer, the line stays recorded.
func TestReconfigureOfAStoredLine(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newBoard()
		path := filepath.Join(t.TempDir(), "outputs")
		var stored, removed []string
		var deaf atomic.Bool
		deaf.Store(true)
		n := openWith(t, s, Options{Board: handleBoard{Board: s, t: t}, Outputs: []Config{kept}, Record: path, Store: func(names []string, _ []*os.File) error {
			stored = append(stored, names...)
			return nil
		}, Unstore: func(name string) error {
			removed = append(removed, name)
			if deaf.Load() {
				return errors.New("no sign of systemd")
			}
			return nil
		}})
		defer n.run()()
		n.do("lamp", ActionOn, 0)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := n.bank.Reconfigure(ctx, nil); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("while systemd has the line: %v", err)
		}
		if lines, err := Recorded(path); err != nil || len(lines) != 1 {
			t.Errorf("recorded %v, %v", lines, err)
		}
		deaf.Store(false)
		n.after(retryMost)
		if lines, err := Recorded(path); err != nil || len(lines) != 0 || len(stored) != 1 || !slices.Equal(removed, []string{stored[0], stored[0]}) {
			t.Errorf("recorded %v, %v; stored %q, removed %q", lines, err, stored, removed)
		}
		n.wantAllEvents("output=lamp state=off cause=initial", "output=lamp state=on cause=test") // the removal did not drive it
	})
}

// A line of the last run that was never claimed is released with its output.
func TestReconfigureOfAHeldLine(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newNextRun(t)
		name, f := s.inherit("pump", "GPIO27")
		s.deaf = errors.New("no sign of systemd")
		bank, _ := s.open(s.takeOver("none", map[string]*os.File{name: f}), "", pump)
		n := &harness{t: t, board: s.sim, bank: bank}
		s.deaf = nil
		defer n.run()()
		n.reconfigure(Changes{Removed: []string{"pump"}})
		if isOpen(f) || len(s.store) != 0 {
			t.Errorf("the line is still held; systemd has %v", s.store)
		}
	})
}

// Interlocks include a leaving output until its line is safe.
func TestReconfigureInterlocks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHangingBoard("GPIO6")
		up, down := Config{Name: "up", Pin: "GPIO5"}, Config{Name: "down", Pin: "GPIO6"}
		n := openOn(t, h.Board, h, "", up, down)
		defer n.run()()
		n.do("up", ActionOn, 0)
		locked := up
		locked.Interlock = []string{"down"}
		n.reconfigure(Changes{Kept: []string{"down"}, Adjusted: []string{"up"}}, locked, down)
		n.wantWire("GPIO5", On)
		n.wantInterlocked("down", "up", true)
		n.do("up", ActionOff, 0)
		on := n.orderAsync(Order{Output: "down", Action: ActionOn})
		left := make(chan error, 1)
		go func() {
			_, err := n.bank.Reconfigure(t.Context(), []Config{locked})
			left <- err
		}()
		synctest.Wait()
		n.wantInterlocked("up", "down", true) // it is leaving, and may be on
		close(h.release)
		if err := errors.Join(<-on, <-left); err != nil {
			t.Error(err)
		}
		n.do("up", ActionOn, 0)
	})
}

// When a removed output is added again, its last level is the one before its removal.
func TestReconfigureRestoresLastLevel(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		j := &memJournal{}
		last := pump
		last.Initial = InitialLast
		n, _ := openChecked(t, Options{Outputs: []Config{last}, Levels: j})
		n.do("pump", ActionOn, 0)
		n.after(time.Second)
		n.reconfigure(Changes{Removed: []string{"pump"}})
		n.wantWire("GPIO27", Off)
		n.reconfigure(Changes{Added: []string{"pump"}}, last)
		n.wantWire("GPIO27", On)
		last.Pin = "GPIO5"
		n.reconfigure(Changes{Removed: []string{"pump"}, Added: []string{"pump"}}, last)
		n.wantWire("GPIO5", On)
		n.do("pump", ActionOff, 0)
		n.after(time.Minute)
		j.wantLevels(t, 2, `{"output":"pump","level":"on"}`, `{"output":"pump","level":"off"}`)
	})
}

// A stopped bank does not change. If it is stopped during a change, it makes old and new
// lines safe.
func TestReconfigureAndStop(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHangingBoard("GPIO27")
		fan := Config{Name: "fan", Pin: "GPIO5", Initial: InitialOn}
		n := openOn(t, h.Board, h, "", pump)
		end := n.run()
		first := n.orderAsync(Order{Output: "pump", Action: ActionOn})
		ended := make(chan error, 2)
		go func() {
			_, err := n.bank.Reconfigure(t.Context(), []Config{fan})
			ended <- err
		}()
		n.after(time.Second)
		n.wantWire("GPIO5", On)
		go func() { ended <- n.bank.Safe(CauseStop) }()
		if err := <-ended; !errors.Is(err, ErrStopped) {
			t.Errorf("stopped meanwhile: %v", err)
		}
		close(h.release)
		if err := errors.Join(<-ended, <-first); err != nil {
			t.Error(err)
		}
		n.after(time.Second)
		n.wantWire("GPIO5", Off)
		if high, driven := h.Line("GPIO27").Level(); high || !driven { // until Close, unless systemd has its handle
			t.Errorf("the line that leaves: high %v, driven %v", high, driven)
		}
		if _, err := n.bank.Reconfigure(t.Context(), []Config{pump}); !errors.Is(err, ErrStopped) || n.bank.States()[0].Name != "fan" {
			t.Errorf("when stopped: %v, %+v", err, n.bank.States())
		}
		if err := n.bank.Close(); err != nil {
			t.Error(err)
		}
		end()
	})
}

// Random configurations during random orders, timers and faults. The record always has
// the lines that are ours, a reload moves no line of an unchanged output, and in the end
// the lines are those of the last configuration.
func TestReconfigureAgainstTheRecord(t *testing.T) {
	for seed := range uint64(60) {
		synctest.Test(t, func(t *testing.T) {
			r := rand.New(rand.NewPCG(seed, 8))
			var slow atomic.Int64
			var outputs []Config
			n, w := openChecked(t, Options{})
			w.before = func(step string) {
				if d := slow.Load(); d > 0 && strings.HasPrefix(step, "record") {
					<-time.After(time.Duration(d))
				}
			}
			for range 25 {
				next := randomOutputs(r, outputs)
				slow.Store(int64(r.IntN(3)) * int64(r.IntN(2000)) * int64(time.Millisecond))
				untouched := map[string]int{}
				for _, c := range next {
					if i := slices.IndexFunc(outputs, func(o Config) bool { return o.Name == c.Name }); i >= 0 && fmt.Sprint(outputs[i]) == fmt.Sprint(c) {
						untouched[c.Pin] = edges(w.Board, c.Pin)
					}
				}
				var orders sync.WaitGroup
				for range r.IntN(4) {
					o := Order{Output: string(rune('a' + r.IntN(5))), Action: []Action{ActionOn, ActionOff, ActionToggle, ActionPulse}[r.IntN(4)], Expires: time.Now().Add(time.Minute)}
					for _, c := range next { // an order may move its line
						if c.Name == o.Output {
							delete(untouched, c.Pin)
						}
					}
					orders.Go(func() { _, _ = n.bank.Do(o) }) // the result does not matter
				}
				now := time.Now()
				if _, err := n.bank.Reconfigure(t.Context(), next); err != nil {
					t.Fatal(err)
				}
				if time.Since(now) == 0 { // otherwise a timer may have acted
					for pin, before := range untouched {
						if got := edges(w.Board, pin); got != before {
							t.Errorf("seed %d: %d edges on %s, which does not change", seed, got-before, pin)
						}
					}
				}
				outputs = next
				n.after(time.Duration(r.IntN(40)) * time.Second)
				orders.Wait()
			}
			slow.Store(0)
			n.after(time.Minute)
			var want, got []string
			for _, c := range outputs {
				want = append(want, c.Name+"@"+c.Pin)
			}
			for _, l := range w.record {
				got = append(got, l.Output+"@"+l.Name)
			}
			if !slices.Equal(got, want) || len(w.ours) != len(want) {
				t.Errorf("seed %d: at last the record has %q, ours are %d, want %q", seed, got, len(w.ours), want)
			}
			if err := n.bank.Close(); err != nil || len(w.ours) != 0 {
				t.Errorf("seed %d: closed: %v, still ours %v", seed, err, w.ours)
			}
		})
	}
}

// randomOutputs changes some outputs of a configuration.
func randomOutputs(r *rand.Rand, before []Config) (next []Config) {
	pins := r.Perm(8)
	used := map[string]bool{}
	for _, c := range before {
		switch r.IntN(6) {
		case 0: // removed
			continue
		case 1:
			c.ActiveLow = !c.ActiveLow
		case 2:
			c.Safe, c.Initial = Safe(On)*Safe(r.IntN(2)), Initial(On)*Initial(r.IntN(2))
		case 3:
			c.MaxOn, c.MinOn, c.Refresh = time.Duration(r.IntN(20))*time.Second, time.Duration(r.IntN(10))*time.Second, time.Duration(r.IntN(20))*time.Second
		}
		used[c.Pin], used[c.Name] = true, true
		next = append(next, c)
	}
	for i := range 5 {
		name, pin := string(rune('a'+i)), fmt.Sprintf("GPIO%d", 20+pins[i])
		if r.IntN(2) == 0 && !used[name] && !used[pin] {
			next = append(next, Config{Name: name, Pin: pin, Initial: Initial(On) * Initial(r.IntN(2)), SafeAfter: time.Duration(r.IntN(2)) * time.Minute})
		}
	}
	return next
}
