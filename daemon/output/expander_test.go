package output

import (
	"errors"
	"fmt"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"fieldpost/sensors/board"
	"fieldpost/sensors/sim"
)

// kinds are the expanders that are simulated.
var kinds = map[string]sim.ExpanderKind{"MCP23017": sim.MCP23017, "TCA9555": sim.TCA9555, "PCF8574": sim.PCF8574}

// onEachKind runs a test for every kind of expander, whose lines are relays:0 and so on.
func onEachKind(t *testing.T, test func(t *testing.T, b *sim.Board, e *sim.Expander)) {
	for name, kind := range kinds {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := sim.New()
				test(t, b, b.AddExpander("relays", "1-0020", kind))
			})
		})
	}
}

// relays returns outputs on the expander, active high with a pull-down outside.
func relays(names ...string) (all []Config) {
	for i, name := range names {
		all = append(all, Config{Name: name, Pin: "relays:" + string(rune('0'+i)), ActiveLow: true})
	}
	return all
}

// pullUp wires relays as the usual boards are: they are on at low, and pulled up.
func pullUp(b *sim.Board, outputs []Config) {
	for _, c := range outputs {
		b.Line(c.Pin).SetPull(board.PullUp)
	}
}

// wasOn returns how often the line went on, which is low, since its history had that
// length.
func wasOn(b *sim.Board, line string, since int) (n int) {
	for _, c := range b.Line(line).History()[since:] {
		if !c.High {
			n++
		}
	}
	return n
}

// An expander that loses its power for a moment forgets its levels. That is a fault of
// each output that lost its own. It is made safe, driven again, and is not switched on
// again before the next order.
func TestExpanderLosesPower(t *testing.T) {
	onEachKind(t, func(t *testing.T, b *sim.Board, e *sim.Expander) {
		outputs := relays("pump", "lamp", "fan")
		pullUp(b, outputs)
		n := open(t, b, outputs...)
		defer n.run()()
		n.do("pump", ActionOn, 0)
		n.do("lamp", ActionOn, 0)
		n.after(3 * time.Second)
		n.wantFaults()
		before := len(b.Line("relays:1").History())
		e.LosePower()
		n.after(2 * checkEvery)
		for i, line := range []string{"relays:0", "relays:1", "relays:2"} {
			if high, _ := b.Line(line).Level(); !high {
				t.Errorf("%s is on", line)
			}
			if s := n.bank.States()[i]; s.Level != Off || s.Err != nil {
				t.Errorf("state %+v", s)
			}
		}
		n.wantSet("pump level_lost raised", "lamp level_lost raised")
		n.wantEvents("output=pump state=off cause=level_lost", "output=lamp state=off cause=level_lost")
		if on := wasOn(b, "relays:1", before); on > 1 {
			t.Errorf("the lamp was on %d times since", on) // on a PCF8574 once, while the pump's level is set
		}
		n.do("pump", ActionOn, 0)
		if high, driven := b.Line("relays:0").Level(); high || !driven {
			t.Errorf("the pump does not go on again: high %v, driven %v", high, driven)
		}
		n.wantFaults("pump level_lost cleared")
		n.after(time.Minute)
		n.wantFaults()
		n.wantEvents()
		if high, _ := b.Line("relays:1").Level(); !high {
			t.Error("the lamp went on with the pump")
		}
	})
}

// A resistor may hold a line at the safe level after its chip lost its power. One loss
// that is seen has all outputs of the chip driven again: what was on at its safe level,
// and those that were safe all the time. That is no event of theirs.
func TestExpanderDrivesWhatAPullHolds(t *testing.T) {
	onEachKind(t, func(t *testing.T, b *sim.Board, e *sim.Expander) {
		outputs := relays("pump", "lamp", "fan")
		outputs = append(outputs, Config{Name: "siren", Pin: "relays:7", ActiveLow: true})
		pullUp(b, outputs)
		if !strings.HasSuffix(t.Name(), "PCF8574") { // which has eight lines
			other := Config{Name: "horn", Pin: "relays:9", ActiveLow: true}
			pullUp(b, []Config{other})
			outputs = append(outputs, other)
		}
		n := open(t, b, outputs...)
		defer n.run()()
		n.do("lamp", ActionOn, 0)
		n.after(3 * time.Second)
		since := map[string]int{}
		for _, c := range outputs {
			since[c.Pin] = len(b.Line(c.Pin).History())
		}
		e.LosePower()
		n.after(2 * checkEvery)
		level, input := e.Registers()
		for _, c := range outputs {
			offset := b.Line(c.Pin).ID().Offset
			if input>>offset&1 == 1 || level>>offset&1 == 0 {
				t.Errorf("%s: registers: level %04x, input %04x", c.Name, level, input)
			}
			if on := wasOn(b, c.Pin, since[c.Pin]); on > 0 {
				t.Errorf("%s was on %d times", c.Name, on)
			}
		}
		n.wantFaults("lamp level_lost raised")
		n.wantEvents("output=lamp state=off cause=level_lost")
		n.do("lamp", ActionOn, 0)
		n.wantFaults("lamp level_lost cleared")
	})
}

// The chip goes silent right after the loss was seen: once it answers, it is driven again.
func TestExpanderDrivesAgainAfterSilence(t *testing.T) {
	onEachKind(t, func(t *testing.T, b *sim.Board, e *sim.Expander) {
		outputs := relays("pump", "lamp")
		pullUp(b, outputs)
		n := open(t, b, outputs...)
		defer n.run()()
		n.do("pump", ActionOn, 0)
		n.after(3 * time.Second)
		e.LosePower()
		first := true
		b.BeforeSet(func(string, bool) {
			if first {
				e.Silence(true)
			}
			first = false
		})
		n.after(5 * checkEvery)
		e.Silence(false)
		n.after(time.Minute)
		if level, input := e.Registers(); input&3 != 0 || level&3 != 3 {
			t.Errorf("registers: level %04x, input %04x", level, input)
		}
		if s := n.bank.States()[0]; s.Level != Off || s.Err != nil {
			t.Errorf("state %+v", s)
		}
	})
}

// wantSet is wantFaults for faults that come in any order.
func (n *harness) wantSet(want ...string) {
	n.t.Helper()
	slices.Sort(want)
	n.mu.Lock()
	slices.Sort(n.faults)
	n.mu.Unlock()
	n.wantFaults(want...)
}

// A safe level that was lost is set again at once, and then the fault is over.
func TestExpanderLosesTheSafeLevel(t *testing.T) {
	onEachKind(t, func(t *testing.T, b *sim.Board, e *sim.Expander) {
		lock := Config{Name: "lock", Pin: "relays:0", ActiveLow: true, Safe: SafeOn, Initial: InitialOn}
		pullUp(b, []Config{lock})
		n := open(t, b, lock)
		defer n.run()()
		e.LosePower()
		if high, _ := b.Line("relays:0").Level(); !high {
			t.Fatal("the lock kept its level")
		}
		n.after(3 * checkEvery)
		if high, driven := b.Line("relays:0").Level(); high || !driven {
			t.Error("the lock is not on again")
		}
		n.wantFaults("lock level_lost raised", "lock level_lost cleared")
		n.wantEvents()
	})
}

// An output with safe: keep stays as its chip left it.
func TestExpanderLosesAKeptLevel(t *testing.T) {
	onEachKind(t, func(t *testing.T, b *sim.Board, e *sim.Expander) {
		fan := Config{Name: "fan", Pin: "relays:0", ActiveLow: true, Safe: SafeKeep, Initial: InitialKeep}
		pullUp(b, []Config{fan})
		n := open(t, b, fan)
		defer n.run()()
		n.do("fan", ActionOn, 0)
		e.LosePower()
		n.after(3 * checkEvery)
		if high, _ := b.Line("relays:0").Level(); !high {
			t.Error("the fan is on again")
		}
		n.wantFaults("fan level_lost raised")
		n.wantEvents("output=fan state=off cause=level_lost")
		n.do("fan", ActionOn, 0)
		if high, _ := b.Line("relays:0").Level(); high {
			t.Error("the fan is not on")
		}
		n.wantFaults("fan level_lost cleared")
	})
}

// replugged is a board whose expander gets another name each time that it is looked at.
type replugged struct {
	*sim.Board
	names int
}

func (b *replugged) Expander(id board.LineID) string {
	if b.Board.Expander(id) == "" {
		return ""
	}
	b.names++
	return fmt.Sprintf("%d-0020", b.names)
}

// An expander that has another name each time that it is plugged in leaves no goroutine
// behind.
func TestReplugLeavesNoGoroutine(t *testing.T) {
	onEachKind(t, func(t *testing.T, b *sim.Board, e *sim.Expander) {
		n := openOn(t, b, &replugged{Board: b}, "", relays("pump")...)
		stop := n.run()
		synctest.Wait()
		before := runtime.NumGoroutine()
		const plugs = 20
		for range plugs {
			b.Line("relays:0").Fail(syscall.ENODEV)
			n.after(2 * checkEvery)
			b.Line("relays:0").Fail(nil)
			n.after(retryMost)
			n.do("pump", ActionToggle, 0)
		}
		n.after(time.Minute)
		// The count is the process's, so other goroutines may have come and gone.
		if now := runtime.NumGoroutine(); now > before+plugs/2 {
			t.Errorf("%d goroutines, before it was plugged in again %d", now, before)
		}
		stop()
	})
}

// A chip that is unplugged ends what was scheduled: when it is back, its outputs begin at
// their initial levels, and no earlier order changes them.
func TestUnpluggedExpanderEndsWhatWasScheduled(t *testing.T) {
	onEachKind(t, func(t *testing.T, b *sim.Board, e *sim.Expander) {
		n := open(t, b, Config{Name: "valve", Pin: "relays:0", Safe: SafeKeep, Initial: InitialOff})
		defer n.run()()
		n.do("valve", ActionOn, 0)
		n.do("valve", ActionOff, 10*time.Minute) // then on again
		b.Line("relays:0").Fail(syscall.ENODEV)
		n.after(2 * checkEvery)
		b.Line("relays:0").Fail(nil)
		n.after(retryMost)
		if s := n.bank.States()[0]; s.Err != nil || s.Cause != CauseInitial {
			t.Errorf("not requested again: %+v", s)
		}
		n.after(10 * time.Minute)
		n.wantWire("relays:0", Off)
		n.wantEvents()
	})
}

// An order does not bring back the levels that other outputs on its chip have lost: the
// kernel writes them all, and the check before the order makes them safe.
func TestOrderBringsNoLostLevelBack(t *testing.T) {
	onEachKind(t, func(t *testing.T, b *sim.Board, e *sim.Expander) {
		outputs := relays("pump", "lamp")
		pullUp(b, outputs)
		n := open(t, b, outputs...)
		n.do("lamp", ActionOn, 0)
		before := len(b.Line("relays:1").History())
		e.LosePower()
		n.do("pump", ActionOn, 0) // no check in between: the bank does not run
		if on := wasOn(b, "relays:1", before); on > 0 {
			t.Errorf("the lamp was on %d times", on)
		}
		if s := n.bank.States()[1]; s.Level != Off || s.Cause != CauseLevelLost {
			t.Errorf("the lamp's state: %+v", s)
		}
		if high, driven := b.Line("relays:0").Level(); high || !driven {
			t.Error("the pump is not on")
		}
	})
}

// Orders for a chip that does not answer fail with a clear error, also where its driver
// reports no error at all. Nothing is done with a level that may still be there: if it is,
// all goes on when the chip answers again.
func TestExpanderDoesNotAnswer(t *testing.T) {
	onEachKind(t, func(t *testing.T, b *sim.Board, e *sim.Expander) {
		outputs := relays("pump", "lamp")
		n := open(t, b, outputs...)
		defer n.run()()
		n.do("lamp", ActionOn, 0)
		e.Silence(true)
		n.after(2 * checkEvery)
		if s := n.bank.States()[1]; s.Err == nil || s.Level != On {
			t.Errorf("the lamp's state: %+v", s)
		}
		n.wantSet("pump output_failed raised", "lamp output_failed raised")
		for _, a := range []Action{ActionOn, ActionOff} {
			var failed *FailedError
			if _, err := n.bank.Do(Order{Output: "pump", Action: a}); !errors.As(err, &failed) || !strings.Contains(err.Error(), "its chip does not answer, check its power and wires") {
				t.Errorf("%s: %v", a, err)
			}
		}
		e.Silence(false)
		n.after(5 * time.Second)
		n.wantSet("pump output_failed cleared", "lamp output_failed cleared")
		if high, driven := b.Line("relays:1").Level(); high || !driven {
			t.Error("the lamp is not on any more")
		}
		if high, driven := b.Line("relays:0").Level(); !high || !driven && e != nil && !isPCF(b) {
			t.Errorf("the pump is not safe: high %v, driven %v", high, driven)
		}
		n.do("pump", ActionOn, 0)
		if high, driven := b.Line("relays:0").Level(); high || !driven {
			t.Error("the pump is not on")
		}
		n.wantEvents()
	})
}

func isPCF(b *sim.Board) bool { return len(b.Chips()[1].Lines) == 8 }

// A write that failed stays in the driver's copy, so writing the same again would do
// nothing. The output is made safe nevertheless.
func TestWriteThatFailedIsMadeUpFor(t *testing.T) {
	onEachKind(t, func(t *testing.T, b *sim.Board, e *sim.Expander) {
		outputs := relays("pump")
		outputs[0].MaxOn = 10 * time.Second
		n := open(t, b, outputs...)
		defer n.run()()
		n.do("pump", ActionOn, 0)
		n.after(9500 * time.Millisecond)
		e.Silence(true) // max_on fails
		n.after(30 * time.Second)
		if high, _ := b.Line("relays:0").Level(); high {
			t.Fatal("a chip that does not answer was switched")
		}
		e.Silence(false)
		n.after(2 * time.Second)
		if high, _ := b.Line("relays:0").Level(); !high {
			t.Error("the pump is still on")
		}
		n.wantEvents("output=pump state=off cause=max_on")
	})
}

// A chip that hangs delays no other output and not the heartbeat's loop, and the bank ends.
func TestExpanderHangs(t *testing.T) {
	onEachKind(t, func(t *testing.T, b *sim.Board, e *sim.Expander) {
		near := Config{Name: "near", Pin: "GPIO5", MaxOn: 10 * time.Second}
		n := open(t, b, append(relays("pump", "lamp"), near)...)
		stop := n.run()
		n.do("pump", ActionOn, 0)
		n.do("near", ActionOn, 0)
		release := e.Hang()
		n.after(10 * time.Second)
		n.wantEvents("output=near state=off cause=max_on")
		n.wantSet("pump output_failed raised")
		done := make(chan error)
		go func() { done <- n.bank.Safe(CauseStop) }()
		n.after(time.Second)
		release()
		if err := <-done; err != nil {
			t.Error(err)
		}
		if high, _ := b.Line("relays:0").Level(); !high {
			t.Error("the pump is on")
		}
		stop()
	})
}

// At a stop and in `fieldpost safe`, lines that need no bus come first.
func TestExpandersComeLast(t *testing.T) {
	onEachKind(t, func(t *testing.T, b *sim.Board, e *sim.Expander) {
		record := filepath.Join(t.TempDir(), "outputs")
		near := Config{Name: "near", Pin: "GPIO5"}
		n := openOn(t, b, b, record, append(relays("pump"), near)...)
		var set []string
		b.BeforeSet(func(line string, _ bool) { set = append(set, line) })
		if err := n.bank.Safe(CauseStop); err != nil || !slices.Equal(set, []string{"GPIO5", "relays:0"}) {
			t.Errorf("%q, %v", set, err)
		}
		lines, err := Recorded(record)
		if err != nil || len(lines) != 2 || lines[0].Expander != "1-0020" || lines[1].Expander != "" {
			t.Errorf("record %+v, %v", lines, err)
		}
		expanderLinesLast(lines)
		if lines[0].Output != "near" {
			t.Errorf("%+v", lines)
		}
	})
}

// A short circuit of one line is that output's fault alone.
func TestShortOnAnExpander(t *testing.T) {
	onEachKind(t, func(t *testing.T, b *sim.Board, e *sim.Expander) {
		outputs := relays("pump", "lamp")
		outputs[0].Drive = board.OpenDrain
		pullUp(b, outputs)
		n := open(t, b, outputs...)
		defer n.run()()
		n.do("lamp", ActionOn, 0)
		b.Line("relays:0").Drive(false) // to ground: always on
		n.after(5 * time.Second)
		if s := n.bank.States(); s[0].Err == nil || s[1].Err != nil || s[1].Level != On {
			t.Errorf("states %+v", s)
		}
		n.wantEvents()
		b.Line("relays:0").Float()
		n.after(5 * time.Second)
		if s := n.bank.States(); s[0].Err != nil {
			t.Errorf("states %+v", s)
		}
	})
}
