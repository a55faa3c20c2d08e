package output

import (
	"testing"
	"testing/synctest"
	"time"

	"fieldpost/sensors/board"
	"fieldpost/sensors/sim"
)

// Nothing moves when an output begins as its line is; the event says how it is.
func TestInitialKeep(t *testing.T) {
	for _, c := range []struct{ high, activeLow bool }{{false, false}, {true, false}, {false, true}, {true, true}} {
		synctest.Test(t, func(t *testing.T) {
			s := sim.New()
			s.Line("GPIO6").Drive(c.high)
			before := len(s.Line("GPIO6").History())
			n := open(t, s, Config{Name: "lamp", Pin: "GPIO6", ActiveLow: c.activeLow, Initial: InitialKeep, Safe: SafeKeep, MaxOn: time.Minute})
			defer n.run()()
			want := Level(c.high != c.activeLow)
			if h := s.Line("GPIO6").History()[before:]; len(h) != 1 || h[0].High != c.high || !h[0].Driven {
				t.Errorf("the lamp felt %+v", h)
			}
			n.toldAll("output=lamp state=" + want.String() + " cause=initial")
			n.after(time.Minute)
			if want == On {
				n.toldAll("output=lamp state=off cause=max_on")
			}
		})
	}
}

// A line found away from safe while one that it is interlocked with is too is
// made safe.
func TestInitialKeepAgainstAnInterlock(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := sim.New()
		up, down := blind()
		up.Initial, down.Initial = InitialOff, InitialKeep
		s.Line("GPIO6").Drive(true)
		s.Line("GPIO5").Hold("gpio-keys") // so its level is not known
		n := open(t, s, up, down)
		n.toldAll("output=down state=on cause=initial", "output=down state=off cause=interlock")
		n.is("GPIO6", Off)
	})
}

// A compressor that is to start on waits for its min_off first, because it may
// have been switched off a moment ago; an order, a stop or a lost link comes
// before that.
func TestInitialLevelWaitsForMinOff(t *testing.T) {
	for _, c := range []struct {
		what  string
		first func(n *bench)
		want  Level
	}{
		{"nothing else", func(*bench) {}, On},
		{"an order to safe", func(n *bench) { n.do("pump", ActionOff, 0) }, Off},
		{"a stop", func(n *bench) { _ = n.bank.Safe(CauseStop) }, Off},
		{"a lost link", func(n *bench) { n.bank.Link(false) }, Off},
		{"a link", func(n *bench) { n.bank.Link(true) }, On},
	} {
		t.Run(c.what, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				pump := compressor
				pump.Initial = InitialOn
				if c.what == "a lost link" {
					pump.SafeAfter = time.Minute
				}
				n := open(t, sim.New(), pump)
				defer n.run()()
				n.after(time.Second)
				c.first(n)
				n.after(3*time.Minute - time.Second - 1)
				n.is("GPIO27", Off)
				n.after(2)
				n.is("GPIO27", c.want)
			})
		})
	}
}

// It does not start when what it is interlocked with is on by then.
func TestInitialLevelGivesWayToAnInterlock(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		up, down := blind()
		up.Initial, up.MinOff = InitialOn, time.Minute
		n := open(t, sim.New(), up, down)
		defer n.run()()
		n.do("down", ActionOn, 0)
		n.after(time.Hour)
		n.is("GPIO5", Off)
		n.do("down", ActionOff, 0)
		n.do("up", ActionOn, 0)
	})
}

// With safe: keep and min_off a line that is on already stays on; one that is
// off waits as it is.
func TestInitialOnOfWhatIsKept(t *testing.T) {
	for _, high := range []bool{true, false} {
		synctest.Test(t, func(t *testing.T) {
			s := sim.New()
			s.Line("GPIO27").Drive(high)
			pump := compressor
			pump.Initial, pump.Safe = InitialOn, SafeKeep
			n := open(t, s, pump)
			defer n.run()()
			n.after(3*time.Minute - 1)
			n.is("GPIO27", Level(high))
			n.after(1)
			n.is("GPIO27", On)
		})
	}
}

// Outputs may be named in every way that the board knows.
func TestPinNames(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := sim.New()
		var outputs []Config
		for name, pin := range map[string]string{"kernel": "GPIO5", "number": "6", "header": "P1_13", "label": sim.Label + ":22", "device": "gpiochip0:23"} {
			outputs = append(outputs, Config{Name: name, Pin: pin, ActiveLow: true, Drive: board.OpenSource})
		}
		for _, line := range []string{"GPIO5", "GPIO6", "GPIO27", "GPIO22", "GPIO23"} {
			s.Line(line).SetPull(board.PullDown)
		}
		n := open(t, s, outputs...)
		n.faulted()
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
