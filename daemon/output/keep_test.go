package output

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"fieldpost/sensors/board"
	"fieldpost/sensors/sim"
)

var kept = Config{Name: "lamp", Pin: "GPIO6", Initial: InitialKeep, Safe: SafeKeep}

// Nobody drives it on stop and lost link; every order energises.
func TestSafeKeep(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := sim.New()
		s.KeepOnRelease(true)
		n := open(t, s, kept, pump)
		defer n.run()()
		for _, a := range []Action{ActionOn, ActionOff, ActionToggle, ActionPulse} {
			if e, ok := n.bank.Energises("lamp", a); !e || !ok {
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
		n.after(time.Hour) // the end of its minute comes to nothing: nobody drives it
		if err := n.bank.Close(); err != nil {
			t.Error(err)
		}
		n.is("GPIO6", On)
		n.is("GPIO27", Off)
		n.told("output=pump state=off cause=stop")
	})
}

// Without a safe level a time ends at the other level, and a pulse at the one
// before it, however often it comes.
func TestEndsWithoutASafeLevel(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := open(t, sim.New(), kept)
		defer n.run()()
		n.do("lamp", ActionOn, 10*time.Second)
		n.do("lamp", ActionOn, 10*time.Second)
		n.after(10 * time.Second)
		n.is("GPIO6", Off)
		n.do("lamp", ActionOn, 0)
		n.do("lamp", ActionOff, 10*time.Second) // a router's power
		n.after(10 * time.Second)
		n.is("GPIO6", On)
		for range 3 {
			n.do("lamp", ActionPulse, time.Second)
			n.after(time.Second / 2)
			n.is("GPIO6", Off)
		}
		n.after(time.Second)
		n.is("GPIO6", On)
		n.told("output=lamp state=off cause=for_ended", "output=lamp state=on cause=for_ended", "output=lamp state=on cause=pulse_ended")
	})
}

// An order that fails leaves the line on its way to where it was.
func TestFailedOrderWithoutASafeLevel(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := sim.New()
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
		n.is("GPIO6", On)
		s.Line("GPIO6").Fail(syscall.EIO)
		n.after(time.Minute)
		s.Line("GPIO6").Fail(nil)
		n.after(retryFirst)
		n.is("GPIO6", Off) // max_on is not given up
		n.told("output=lamp state=off cause=max_on")
	})
}

// systemd has a copy of its handle from the start, so that a crash leaves it
// as it is; the record says so, and at the end it is not handed over again.
func TestKeptLineIsStoredFromTheStart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := sim.New()
		record := filepath.Join(t.TempDir(), "outputs")
		deaf := errors.New("no sign of systemd")
		var stored []string
		b := sharing{Board: s, t: t}
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

// `fieldpost safe` and the next start leave it as it is.
func TestKeptLineAfterACrash(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		line := simLine("lamp", 6, SafeKeep)
		if c := line.Config(); !c.Keep || c.Line != sim.Label+":6" {
			t.Errorf("the request is %+v", c)
		}
		s := newSuccessor(t)
		record := filepath.Join(t.TempDir(), "outputs")
		if err := writeRecord(record, []Line{line, simLine("pump", 27, SafeOff)}); err != nil {
			t.Fatal(err)
		}
		name, f := s.inherit("lamp", "GPIO6")
		held := s.takeOver(record, map[string]*os.File{name: f})
		s.did("hold GPIO27 off") // and the lamp is not touched
		var asked board.OutputConfig
		b := taking{asBoard: asBoard{s.sim, s}, saw: func(c board.OutputConfig) { asked = c }}
		s.openOn(b, held, record, kept)
		if !asked.Keep {
			t.Errorf("taken over with %+v", asked)
		}
	})
}
