package output

import (
	"errors"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"fieldpost/sensors/sim"
)

func TestRefusedOrders(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := open(t, sim.New(), pump)
		if _, err := n.bank.Do(Order{Output: "pumpe", Action: ActionOn}); !errors.Is(err, ErrUnknown) || !strings.Contains(err.Error(), `"pumpe"`) {
			t.Errorf("unknown output: %v", err)
		}
		if _, err := n.bank.Do(Order{Output: "pump", Action: "blink"}); !errors.Is(err, ErrAction) {
			t.Errorf("unknown action: %v", err)
		}
		if _, err := n.bank.Do(Order{Output: "pump", Action: ActionOn, For: -time.Second}); err == nil {
			t.Error("negative duration was accepted")
		}
		for a, want := range map[Action]bool{ActionOn: true, ActionOff: false, ActionToggle: true} {
			if e, ok := n.bank.Energises("pump", a); e != want || !ok {
				t.Errorf("%s energises the pump: %v, %v", a, e, ok)
			}
		}
		if _, ok := n.bank.Energises("pumpe", ActionOff); ok {
			t.Error("an output that is not there exists")
		}
		n.is("GPIO27", Off)
	})
}

func TestSafeIsForGood(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := sim.New()
		b.KeepOnRelease(true)
		b.Line("GPIO6").Fail(nil)
		n := open(t, b, pump, Config{Name: "valve", Pin: "GPIO6"}, Config{Name: "lock", Pin: "GPIO5", Initial: InitialOn, Safe: SafeOn})
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
			if _, err := n.bank.Do(Order{Output: "pump", Action: a}); !errors.Is(err, ErrStopped) {
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
