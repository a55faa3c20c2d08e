package output

import (
	"errors"
	"log/slog"
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

	"fieldpost/daemon/health"
	"fieldpost/sensors/board"
	"fieldpost/sensors/sim"
)

// timedOutputs has one output for each timer that makes it safe after 20 s.
var timedOutputs = []Config{
	{Name: "max", Pin: "GPIO20", MaxOn: 20 * time.Second},
	{Name: "refresh", Pin: "GPIO21", Refresh: 20 * time.Second},
	{Name: "link", Pin: "GPIO22", SafeAfter: 20 * time.Second},
	{Name: "for", Pin: "GPIO23"},
}

// timedHarness is a running bank with a check that its timers act.
type timedHarness struct {
	*harness
	heartbeats health.Heartbeats
	end        func()
}

// newTimedHarness runs a bank with the timed outputs and those of o.
func newTimedHarness(t *testing.T, s *sim.Board, o Options) *timedHarness {
	t.Helper()
	n := &timedHarness{}
	o.Outputs, o.Heartbeat = append(slices.Clone(timedOutputs), o.Outputs...), n.heartbeats.Register("output timers")
	if o.Board == nil {
		o.Board = s
	}
	n.harness = openWith(t, s, o)
	n.end = n.run()
	n.bank.Link(true)
	return n
}

// actOnTime switches the timed outputs on and checks that each goes off exactly on time,
// that the heartbeat never stops, and that orders are carried out.
func (n *timedHarness) actOnTime() {
	n.t.Helper()
	for _, c := range timedOutputs {
		d := time.Duration(0)
		if c.Name == "for" {
			d = 20 * time.Second
		}
		n.do(c.Name, ActionOn, d)
	}
	n.bank.Link(false)
	for range 9 {
		n.after(health.IdleEvery)
		if stuck, ok := n.heartbeats.Check(); !ok {
			n.t.Errorf("the %s do not turn", stuck)
		}
	}
	n.after(health.IdleEvery - 1)
	for _, c := range timedOutputs {
		n.wantWire(c.Pin, On)
	}
	n.after(1)
	for _, c := range timedOutputs {
		n.wantWire(c.Pin, Off)
	}
	n.bank.Link(true)
}

// A disk that hangs during a write of the crash record delays no timer. After some time
// it is a fault, and the line is requested without being recorded, as after a failed
// write. The fault clears when the disk answers.
func TestHungRecordDelaysNoTimer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newBoard()
		hang := make(chan struct{})
		var hangs atomic.Bool
		var writes [][]Line
		n := newTimedHarness(t, s, Options{Outputs: []Config{pump}, Record: "outputs", write: func(_ string, lines []Line) error {
			if hangs.Load() {
				<-hang
			}
			writes = append(writes, slices.Clone(lines))
			return nil
		}})
		hangs.Store(true)
		s.Line("GPIO27").Fail(syscall.ENODEV) // its chip is unplugged and plugged in again
		if _, err := n.bank.Do(Order{Output: "pump", Action: ActionOn}); err == nil {
			t.Error("an order to a chip that is gone succeeded")
		}
		s.Line("GPIO27").Fail(nil)
		n.wantFaults("pump output_failed raised")
		n.after(2 * time.Second)
		if st := n.bank.States()[len(timedOutputs)]; st.Err == nil || len(writes) != 1 {
			t.Errorf("claimed before it was recorded: %+v, %d writes", st, len(writes))
		}
		n.actOnTime()
		n.wantFaults("outputs safe_unrecorded raised", "pump output_failed cleared")
		n.do("pump", ActionOn, 0)
		n.actOnTime()
		hangs.Store(false)
		close(hang)
		n.after(time.Second)
		n.wantFaults("outputs safe_unrecorded cleared")
		if last := writes[len(writes)-1]; len(last) != len(timedOutputs)+1 {
			t.Errorf("recorded at last %+v", last)
		}
		n.end()
	})
}

// A crash record that somebody removes or empties while the daemon runs is written again, or
// is a fault if it cannot be: without it no line would be made safe after a crash.
func TestRecordIsWrittenAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := filepath.Join(t.TempDir(), "run")
		if err := os.Mkdir(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		s, path := newBoard(), filepath.Join(dir, "outputs")
		n := openOn(t, s, s, path, pump)
		defer n.run()()
		n.after(time.Second) // no write is under way
		for name, lose := range map[string]func() error{
			"removed":   func() error { return os.Remove(path) },
			"emptied":   func() error { return os.Truncate(path, 0) },
			"all of it": func() error { return errors.Join(os.RemoveAll(dir), os.Mkdir(dir, 0o755)) },
		} {
			if err := lose(); err != nil {
				t.Fatal(err)
			}
			n.after(retryMost)
			if lines, err := Recorded(path); err != nil || len(lines) != 1 || lines[0].Output != "pump" {
				t.Errorf("%s: recorded %v, %v", name, lines, err)
			}
		}
		n.wantFaults()
		if err := os.RemoveAll(dir); err != nil {
			t.Fatal(err)
		}
		n.after(retryMost)
		n.wantFaults("outputs safe_unrecorded raised")
		if err := os.Mkdir(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		n.after(retryMost)
		n.wantFaults("outputs safe_unrecorded cleared")
	})
}

// A line that is found later is recorded before it is requested if the disk works.
func TestLateLineIsRecordedBeforeItsRequest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newBoard()
		var written []string
		var mu sync.Mutex // guards written
		b := &hidingBoard{Board: s, line: "GPIO27", requested: func(line string) {
			mu.Lock()
			defer mu.Unlock()
			if !slices.Contains(written, line) {
				t.Errorf("%s is requested, and recorded are %q", line, written)
			}
		}}
		b.hidden.Store(true)
		n := newTimedHarness(t, s, Options{Board: b, Outputs: []Config{pump}, Record: "outputs", write: func(_ string, lines []Line) error {
			<-time.After(300 * time.Millisecond) // a slow card
			mu.Lock()
			defer mu.Unlock()
			written = nil
			for _, l := range lines {
				written = append(written, l.Name)
			}
			return nil
		}})
		n.after(time.Minute)
		b.hidden.Store(false)
		n.after(retryMost + time.Second)
		n.do("pump", ActionOn, 0)
		n.wantWire("GPIO27", On)
		n.wantFaults("pump absent raised", "pump absent cleared")
		n.end()
	})
}

// hidingBoard is a board that does not find one of its lines.
type hidingBoard struct {
	*sim.Board
	line      string
	hidden    atomic.Bool
	requested func(line string)
}

func (b *hidingBoard) Find(line string) (board.LineID, error) {
	if line == b.line && b.hidden.Load() {
		return board.LineID{}, board.ErrAbsent
	}
	return b.Board.Find(line)
}

func (b *hidingBoard) Output(c board.OutputConfig) (board.Output, error) {
	b.requested(c.Line)
	return b.Board.Output(c)
}

// If systemd does not answer a request to store or to close a handle, no timer is
// delayed.
func TestHungSystemdDelaysNoTimer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newBoard()
		hang, asked := make(chan struct{}), 0
		store := func([]string, []*os.File) error {
			if asked++; asked == 1 {
				return errors.New("no sign of systemd")
			}
			<-hang
			return nil
		}
		n := newTimedHarness(t, s, Options{Board: handleBoard{Board: s, t: t}, Outputs: []Config{kept}, Record: filepath.Join(t.TempDir(), "outputs"), Store: store})
		n.after(retryMost + time.Second)
		if asked != 2 {
			t.Errorf("systemd was asked %d times", asked)
		}
		n.actOnTime()
		n.do("lamp", ActionOn, 0)
		n.wantWire("GPIO6", On)
		close(hang)
		n.after(time.Second)
		if lines, err := Recorded(n.bank.o.Record); err != nil || !lines[len(timedOutputs)].Held {
			t.Errorf("recorded %+v, %v; want the lamp held", lines, err)
		}
		n.end()
	})
	synctest.Test(t, func(t *testing.T) {
		s := newNextRun(t)
		name, f := s.inherit("pump", "GPIO27")
		hang, removing := make(chan struct{}), 0
		held, err := TakeOver(Inheritance{
			Record: filepath.Join(t.TempDir(), "none"), Handles: map[string]*os.File{name: f},
			Adopt: func(*os.File, bool) error { return nil },
			Remove: func(string) error {
				if removing++; removing <= 2 { // at the beginning of Open, and when it claims the line
					return errors.New("no sign of systemd")
				}
				<-hang
				s.sim.Line("GPIO27").Hold("")
				return nil
			},
		})
		if err != nil {
			t.Fatal(err)
		}
		n := newTimedHarness(t, s.sim, Options{Outputs: []Config{pump}, Held: held})
		n.after(3 * time.Second)
		n.actOnTime()
		if st := n.bank.States()[len(timedOutputs)]; st.Err == nil || removing != 3 {
			t.Errorf("the pump is ours though systemd has its line: %+v, asked %d times", st, removing)
		}
		close(hang)
		n.after(time.Minute)
		if st := n.bank.States()[len(timedOutputs)]; st.Err != nil {
			t.Errorf("the pump: %+v", st)
		}
		n.end()
	})
}

// The handle of a line with safe: keep that is found later is stored at once, not at the
// next retry.
func TestLateLineIsKeptAtOnce(t *testing.T) {
	for range 50 {
		synctest.Test(t, func(t *testing.T) {
			s := newBoard()
			var asked atomic.Int32
			n := newTimedHarness(t, s, Options{Board: handleBoard{Board: s, t: t}, Outputs: []Config{kept}, Store: func([]string, []*os.File) error {
				asked.Add(1)
				return nil
			}})
			n.after(time.Minute + time.Second/2) // not when an expander is read back
			s.Line("GPIO6").Fail(syscall.ENODEV)
			_, _ = n.bank.Do(Order{Output: "lamp", Action: ActionOn}) // its error is that of the chip
			s.Line("GPIO6").Fail(nil)
			n.after(retryFirst + time.Millisecond)
			if st := n.bank.States()[len(timedOutputs)]; st.Err != nil || asked.Load() != 2 {
				t.Errorf("%+v; systemd was asked %d times", st, asked.Load())
			}
			n.end()
		})
	}
}

// A systemd that never stores handles is asked for ever, and named in the log once, until the
// reason is another one.
func TestNotStoredIsLoggedOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newBoard()
		var log strings.Builder
		asked, full := 0, atomic.Bool{}
		n := openWith(t, s, Options{Board: handleBoard{Board: s, t: t}, Outputs: []Config{kept}, Log: slog.New(slog.NewTextHandler(&log, nil)), Store: func([]string, []*os.File) error {
			asked++
			if full.Load() {
				return errors.New("the store is full")
			}
			return errors.New("no sign of systemd")
		}})
		end := n.run()
		n.after(2 * time.Hour)
		full.Store(true)
		n.after(2 * time.Hour)
		end()
		if asked < 400 || strings.Count(log.String(), "no sign of systemd") != 1 || strings.Count(log.String(), "the store is full") != 1 {
			t.Errorf("asked %d times, %d lines, such as %.300s", asked, strings.Count(log.String(), "\n"), log.String())
		}
	})
}

// While a disk hangs the outputs are made safe as usual. Only the end of Run waits for
// the disk, because Run waits for everything that it has started.
func TestSafeWhileTheRecordHangs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newBoard()
		hang := make(chan struct{})
		var hangs atomic.Bool
		n := newTimedHarness(t, s, Options{Outputs: []Config{pump}, Record: "outputs", write: func(string, []Line) error {
			if hangs.Load() {
				<-hang
			}
			return nil
		}})
		n.do("for", ActionOn, 0)
		hangs.Store(true)
		s.Line("GPIO27").Fail(syscall.ENODEV)
		_, _ = n.bank.Do(Order{Output: "pump", Action: ActionOn}) // its error is that of the chip
		n.after(5 * time.Second)
		if err := n.bank.Safe(CauseStop); err != nil {
			t.Error(err)
		}
		n.wantWire("GPIO23", Off)
		close(hang)
		n.end()
	})
}

var kept = Config{Name: "lamp", Pin: "GPIO6", Initial: InitialKeep, Safe: SafeKeep}

// With safe: keep the line is not driven on stop and lost link, and every order
// energises.
func TestSafeKeep(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newBoard()
		s.KeepOnRelease(true)
		n := open(t, s, kept, pump)
		defer n.run()()
		for _, a := range []Action{ActionOn, ActionOff, ActionToggle, ActionPulse} {
			if e, ok := n.bank.Energises("lamp", a, Off); !e || !ok {
				t.Errorf("%s does not energise", a)
			}
		}
		n.do("lamp", ActionOn, time.Minute)
		n.do("pump", ActionOn, 0)
		n.bank.Link(false)
		n.after(59 * time.Second)
		if err := n.bank.Safe(CauseStop); err != nil {
			t.Error(err)
		}
		n.after(time.Hour) // the end of its minute changes nothing
		if err := n.bank.Close(); err != nil {
			t.Error(err)
		}
		n.wantWire("GPIO6", On)
		n.wantWire("GPIO27", Off)
		n.wantEvents("output=pump state=off cause=stop")
	})
}

// Without a safe level a duration ends at the opposite level, and a pulse, also a
// repeated one, at the level before.
func TestEndsWithoutASafeLevel(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := open(t, newBoard(), kept)
		defer n.run()()
		n.do("lamp", ActionOn, 10*time.Second)
		n.do("lamp", ActionOn, 10*time.Second)
		n.after(10 * time.Second)
		n.wantWire("GPIO6", Off)
		n.do("lamp", ActionOn, 0)
		n.do("lamp", ActionOff, 10*time.Second) // a router's power
		n.after(10 * time.Second)
		n.wantWire("GPIO6", On)
		for range 3 {
			n.do("lamp", ActionPulse, time.Second)
			n.after(time.Second / 2)
			n.wantWire("GPIO6", Off)
		}
		n.after(time.Second)
		n.wantWire("GPIO6", On)
		n.wantEvents("output=lamp state=off cause=for_ended", "output=lamp state=on cause=for_ended", "output=lamp state=on cause=pulse_ended")
	})
}

// After a failed order the line goes back to the level before.
func TestFailedOrderWithoutASafeLevel(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newBoard()
		c := kept
		c.MaxOn = time.Minute
		n := open(t, s, c)
		defer n.run()()
		n.do("lamp", ActionOn, 0)
		s.Line("GPIO6").Fail(syscall.EIO)
		if st, err := n.bank.Do(Order{Output: "lamp", Action: ActionOff}); !errors.Is(err, syscall.EIO) || st.Level != On {
			t.Errorf("%+v, %v", st, err)
		}
		s.Line("GPIO6").Fail(nil)
		n.after(retryFirst)
		n.wantWire("GPIO6", On)
		s.Line("GPIO6").Fail(syscall.EIO)
		n.after(time.Minute)
		s.Line("GPIO6").Fail(nil)
		n.after(retryFirst)
		n.wantWire("GPIO6", Off) // max_on still applies
		n.wantEvents("output=lamp state=off cause=max_on")
	})
}

// systemd has a copy of the handle of a line with safe: keep from the start, so that a
// crash does not change it. The record says so, and the handle is not passed again at the
// end.
func TestKeptLineIsStoredFromTheStart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newBoard()
		record := filepath.Join(t.TempDir(), "outputs")
		deaf := errors.New("no sign of systemd")
		var stored []string
		b := handleBoard{Board: s, t: t}
		n := openWith(t, s, Options{Board: b, Outputs: []Config{pump, kept}, Record: record, Store: func(names []string, files []*os.File) error {
			if len(files) != len(names) || !isOpen(files[0]) {
				t.Errorf("%d files for %q", len(files), names)
			}
			if deaf == nil {
				stored = append(stored, names...)
			}
			return deaf
		}})
		held := func(want bool) {
			t.Helper()
			lines, err := Recorded(record)
			if err != nil || len(lines) != 2 || lines[0].Held || lines[1].Held != want || lines[1].Safe != SafeKeep {
				t.Errorf("recorded %+v, %v; want the lamp held %v", lines, err, want)
			}
		}
		held(false)
		deaf = nil
		defer n.run()()
		n.after(retryMost)
		held(true)
		n.after(time.Hour)
		if want := []string{"safe-lamp@" + sim.Label + ".6"}; !slices.Equal(stored, want) {
			t.Errorf("stored %q, want %q", stored, want)
		}
		handles, err := n.bank.Handles()
		if err != nil || len(handles) != 1 || handles[0].Line.Output != "pump" {
			t.Errorf("handed over at the end %+v, %v", handles, err)
		}
	})
}

// `fieldpost safe` and the next start do not change a line with safe: keep.
func TestKeptLineAfterACrash(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		line := simLine("lamp", 6, SafeKeep)
		if c := line.Config(); !c.Keep || c.Line != sim.Label+":6" {
			t.Errorf("the request is %+v", c)
		}
		s := newNextRun(t)
		record := filepath.Join(t.TempDir(), "outputs")
		if err := writeRecord(record, []Line{line, simLine("pump", 27, SafeOff)}); err != nil {
			t.Fatal(err)
		}
		name, f := s.inherit("lamp", "GPIO6")
		held := s.takeOver(record, map[string]*os.File{name: f})
		s.wantSteps("hold GPIO27 off") // and the lamp is not touched
		var asked board.OutputConfig
		b := takingBoard{successorBoard: successorBoard{s.sim, s}, saw: func(c board.OutputConfig) { asked = c }}
		s.openOn(b, held, record, kept)
		if !asked.Keep {
			t.Errorf("taken over with %+v", asked)
		}
	})
}
