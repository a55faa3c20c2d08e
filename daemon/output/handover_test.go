package output

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"fieldpost/daemon/clock"
	"fieldpost/daemon/health"
	"fieldpost/sensors/board"
	"fieldpost/sensors/sim"
)

// nextRun is a start of the daemon after a crash. It simulates the kernel, which knows
// the open handles of each line: ours and systemd's copies.
type nextRun struct {
	t     *testing.T
	sim   *sim.Board
	steps []string            // what was done, in order
	ours  map[string]*os.File // our handle of a line
	store map[string]string   // lines by the names of systemd's copies
	slow  map[string]bool     // lines whose copies systemd closes later
	deaf  error               // the error of RemoveHandle
}

func newNextRun(t *testing.T) *nextRun {
	return &nextRun{t: t, sim: newBoard(), ours: map[string]*os.File{}, store: map[string]string{}, slow: map[string]bool{}}
}

// inherit makes systemd pass a handle of the line.
func (s *nextRun) inherit(output, line string) (name string, f *os.File) {
	id := s.sim.Line(line).ID()
	name = Handle{Line: Line{Output: output, Label: id.Label, Offset: id.Offset}}.Name()
	s.ours[line], s.store[name] = openFile(s.t, line), line
	s.sim.Line(line).Hold("fieldpost")
	return name, s.ours[line]
}

func (s *nextRun) hold(c board.OutputConfig) (*os.File, error) {
	id, err := s.sim.Find(c.Line)
	if err != nil {
		return nil, err
	}
	s.steps = append(s.steps, "hold "+id.Name+" "+LevelOf(c.Active).String())
	s.ours[id.Name] = openFile(s.t, id.Name)
	s.sim.Line(id.Name).Hold("fieldpost")
	return s.ours[id.Name], nil
}

func (s *nextRun) adopt(f *os.File, active bool) error {
	for line, ours := range s.ours {
		if ours == f {
			s.steps = append(s.steps, "adopt "+line+" "+LevelOf(active).String())
			return nil
		}
	}
	return errors.New("adopted what is no handle of ours")
}

func (s *nextRun) removeHandle(name string) error {
	if s.deaf != nil {
		return s.deaf
	}
	line := s.store[name]
	s.steps = append(s.steps, "remove "+line)
	if !isOpen(s.ours[line]) {
		s.t.Errorf("%s: systemd's copy was closed when ours was closed already: the line is undriven", line)
	}
	delete(s.store, name)
	return nil
}

// Output succeeds for lines without open handles, like the kernel.
func (s *nextRun) Output(c board.OutputConfig) (board.Output, error) {
	id, err := s.sim.Find(c.Line)
	if err != nil {
		return nil, err
	}
	s.steps = append(s.steps, "request "+id.Name)
	if f := s.ours[id.Name]; f != nil && !isOpen(f) && !s.slow[id.Name] && !slices.Contains(values(s.store), id.Name) {
		s.sim.Line(id.Name).Hold("")
	}
	s.slow[id.Name] = false
	return s.sim.Output(c)
}

func values(m map[string]string) (vs []string) {
	for _, v := range m {
		vs = append(vs, v)
	}
	return vs
}

// successorBoard is a board with nextRun's Output.
type successorBoard struct {
	*sim.Board
	s *nextRun
}

func (b successorBoard) Output(c board.OutputConfig) (board.Output, error) { return b.s.Output(c) }

// takingBoard is a board that can make outputs from handles.
type takingBoard struct {
	successorBoard
	fails error
	saw   func(board.OutputConfig) // may be nil
}

func (b takingBoard) Take(f *os.File, id board.LineID, c board.OutputConfig) (board.Output, error) {
	if b.fails != nil {
		return nil, b.fails
	}
	if f != b.s.ours[id.Name] || !isOpen(f) {
		b.s.t.Errorf("%s: taken by a handle that is not its own, or closed", id)
	}
	if b.saw != nil {
		b.saw(c)
	}
	b.s.steps = append(b.s.steps, "take "+id.Name+" "+LevelOf(c.Active).String())
	b.s.sim.Line(id.Name).Hold("")
	return b.s.sim.Output(c)
}

// takeOver takes over without errors.
func (s *nextRun) takeOver(record string, handles map[string]*os.File) *Held {
	h, err := TakeOver(Inheritance{Record: record, Handles: handles, Hold: s.hold, Adopt: s.adopt, Remove: s.removeHandle})
	if err != nil {
		s.t.Error(err)
	}
	return h
}

func (s *nextRun) open(h *Held, record string, outputs ...Config) (*Bank, *health.Health) {
	return s.openOn(successorBoard{s.sim, s}, h, record, outputs...)
}

func (s *nextRun) openOn(b board.Board, h *Held, record string, outputs ...Config) (*Bank, *health.Health) {
	hl := health.New(func(c health.Change) {
		if c.Raised {
			s.steps = append(s.steps, "fault "+c.Subject+" "+string(c.Fault.Code))
		}
	})
	return Open(Options{Board: b, Outputs: outputs, Record: record, Held: h, Clock: clock.Fake(), Health: hl}), hl
}

func (s *nextRun) wantSteps(want ...string) {
	s.t.Helper()
	if !slices.Equal(s.steps, want) {
		s.t.Errorf("steps\n%q, want\n%q", s.steps, want)
	}
	s.steps = nil
}

func simLine(output string, offset int, safe Safe) Line {
	return Line{Output: output, Label: sim.Label, Offset: offset, Drive: board.PushPull, Safe: safe}
}

func TestTakeOver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newNextRun(t)
		record := filepath.Join(t.TempDir(), "outputs")
		// The pump's handle came from systemd, the lock's did not.
		if err := writeRecord(record, []Line{simLine("pump", 27, SafeOff), simLine("lock", 5, SafeOn)}); err != nil {
			t.Fatal(err)
		}
		name, f := s.inherit("pump", "GPIO27")
		other := openFile(t, "not a line")
		held := s.takeOver(record, map[string]*os.File{name: f, "api.socket": other})
		s.wantSteps("adopt GPIO27 off", "hold GPIO5 on")

		bank, h := s.open(held, record, pump, Config{Name: "lock", Pin: "GPIO5", Initial: InitialOn, Safe: SafeOn})
		s.wantSteps("remove GPIO27", "request GPIO27", "request GPIO5")
		if all := h.Current(); len(all) != 0 {
			t.Errorf("faults %v", all)
		}
		if _, err := bank.Do(Order{Output: "pump", Action: ActionOn}); err != nil {
			t.Error(err)
		}
		if !isOpen(other) {
			t.Error("a handle that is not ours was closed")
		}
		if err := errors.Join(bank.Close(), held.Close()); err != nil {
			t.Error(err)
		}
	})
}

// A board with Take makes the outputs from the handles, and releases nothing.
func TestTakeOverWithoutRelease(t *testing.T) {
	for _, c := range []struct {
		fails error
		want  []string
	}{
		{nil, []string{"adopt GPIO27 off", "remove GPIO27", "take GPIO27 on"}},
		{syscall.ENODEV, []string{"adopt GPIO27 off", "remove GPIO27", "request GPIO27"}},
	} {
		synctest.Test(t, func(t *testing.T) {
			s := newNextRun(t)
			record := filepath.Join(t.TempDir(), "outputs")
			if err := writeRecord(record, []Line{simLine("pump", 27, SafeOff)}); err != nil {
				t.Fatal(err)
			}
			name, f := s.inherit("pump", "GPIO27")
			on := pump
			on.Initial = InitialOn
			bank, h := s.openOn(takingBoard{successorBoard: successorBoard{s.sim, s}, fails: c.fails}, s.takeOver(record, map[string]*os.File{name: f}), record, on)
			s.wantSteps(c.want...)
			if isOpen(f) != (c.fails == nil) {
				t.Errorf("the handle is open: %v", isOpen(f))
			}
			if all := h.Current(); len(all) != 0 || bank.States()[0].Level != On {
				t.Errorf("faults %v, states %+v", all, bank.States())
			}
		})
	}
}

// systemd closes its copy a little after its answer.
func TestTakeOverWaitsForTheStore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newNextRun(t)
		record := filepath.Join(t.TempDir(), "outputs")
		if err := writeRecord(record, []Line{simLine("pump", 27, SafeOff)}); err != nil {
			t.Fatal(err)
		}
		name, f := s.inherit("pump", "GPIO27")
		s.slow["GPIO27"] = true
		_, h := s.open(s.takeOver(record, map[string]*os.File{name: f}), record, pump)
		s.wantSteps("adopt GPIO27 off", "remove GPIO27", "request GPIO27", "request GPIO27")
		if all := h.Current(); len(all) != 0 {
			t.Errorf("faults %v", all)
		}
	})
}

// A start does not wait long for a line that somebody else holds.
func TestTakeOverDoesNotWaitForEver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newNextRun(t)
		name, f := s.inherit("pump", "GPIO27")
		held := s.takeOver(filepath.Join(t.TempDir(), "none"), map[string]*os.File{name: f})
		s.store["another copy"] = "GPIO27"
		before := time.Now()
		_, h := s.open(held, "", pump)
		if took := time.Since(before); took > storePatience+storeRetry {
			t.Errorf("waited for %s", took)
		}
		if all := h.Current(); len(all) != 1 || all[0].Fault.Code != health.LineBusy {
			t.Errorf("faults %v, want line_busy", all)
		}
	})
}

// A line that is no longer an output is released at the end. One without a record is
// known by its handle's name.
func TestTakeOverUnconfigured(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newNextRun(t)
		record := filepath.Join(t.TempDir(), "outputs")
		lost, f := s.inherit("pump", "GPIO27")
		if err := writeRecord(record, []Line{simLine("old", 6, SafeOff)}); err != nil {
			t.Fatal(err)
		}
		held := s.takeOver(record, map[string]*os.File{lost: f})
		s.wantSteps("hold GPIO6 off")
		s.open(held, record, pump)
		s.wantSteps("remove GPIO27", "request GPIO27")
		if isOpen(s.ours["GPIO6"]) || len(held.lines) != 0 {
			t.Error("the old line is still held")
		}
		if lines, err := Recorded(record); err != nil || len(lines) != 1 || lines[0].Output != "pump" {
			t.Errorf("record %v, %v", lines, err)
		}
	})
}

// If systemd does not answer, its copy keeps the line safe. That is a fault, and is
// retried.
func TestTakeOverWithoutSystemd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newNextRun(t)
		name, f := s.inherit("pump", "GPIO27")
		held := s.takeOver(filepath.Join(t.TempDir(), "none"), map[string]*os.File{name: f})
		s.deaf = errors.New("no sign of systemd")
		bank, _ := s.open(held, "", pump)
		s.wantSteps("fault pump output_failed")
		if !isOpen(f) {
			t.Error("the handle was closed, though its line could not be claimed")
		}
		s.deaf = nil
		n := &harness{t: t, board: s.sim, bank: bank}
		defer n.run()()
		n.after(retryMost)
		s.wantSteps("remove GPIO27", "request GPIO27")
		n.do("pump", ActionOn, 0)
	})
}

func TestTakeOverGoesOn(t *testing.T) {
	record := recordOf(t, "garbage", pumpLine, strings.Replace(pumpLine, `:27`, `:28`, 1), strings.Replace(pumpLine, `:27`, `:29`, 1))
	dead := Handle{Line: Line{Output: "pump", Label: "pinctrl-bcm2711", Offset: 27}}.Name()
	k := &heldLines{t: t, busy: map[string]error{"pinctrl-bcm2711:28": &board.BusyError{}}}
	held, err := TakeOver(Inheritance{
		Record: record, Handles: map[string]*os.File{dead: openFile(t, "")}, Hold: k.hold,
		Adopt: func(*os.File, bool) error { return syscall.ENODEV },
	})
	for _, want := range []string{"outputs:1: ", "bcm2711:27", "bcm2711:28"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error does not say %q:\n%v", want, err)
		}
	}
	if len(held.lines) != 2 {
		t.Errorf("%d lines are held, want the inherited and the one that is free", len(held.lines))
	}
	if err := held.Close(); err != nil || len(held.lines) != 0 {
		t.Errorf("Close: %v", err)
	}
}

func TestTakeOverOnFirstStart(t *testing.T) {
	held, err := TakeOver(Inheritance{Record: filepath.Join(t.TempDir(), "none")})
	if err != nil || len(held.lines) != 0 {
		t.Errorf("%v, %v", held, err)
	}
	if err := errors.Join(held.Close(), (*Held)(nil).Close()); err != nil {
		t.Error(err)
	}
}
