package output

import (
	"errors"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"fieldpost/sensors/board"
	"fieldpost/sensors/sim"
)

var compressor = Config{Name: "pump", Pin: "GPIO27", MinOn: time.Minute, MinOff: 3 * time.Minute}

// ordered gives an order from another goroutine, and says when it has ended.
func (n *bench) ordered(o Order) <-chan error {
	done := make(chan error, 1)
	go func() {
		_, err := n.bank.Do(o)
		done <- err
	}()
	synctest.Wait()
	return done
}

func (n *bench) refused(o Order, level Level, left time.Duration) {
	n.t.Helper()
	var soon *TooSoonError
	if s, err := n.bank.Do(o); !errors.As(err, &soon) || soon.Level != level || soon.Left != left || s.Level != level {
		n.t.Errorf("%s: %+v, %v; want it refused for another %s", o.Action, s, err, left)
	}
}

// What switches on too soon is refused; what makes safe too soon waits, and is
// done when the line is safe.
func TestMinimumTimes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := open(t, sim.New(), compressor)
		defer n.run()()
		on, off := Order{Output: "pump", Action: ActionOn}, Order{Output: "pump", Action: ActionOff, ID: "c-1", Cause: "mqtt"}
		n.after(time.Minute)
		n.refused(on, Off, 2*time.Minute) // nobody knows what was before the start
		n.after(2 * time.Minute)
		n.do("pump", ActionOn, 0)
		n.after(20 * time.Second)
		n.refused(Order{Output: "pump", Action: ActionToggle}, On, 40*time.Second)
		n.do("pump", ActionOn, 0) // it is
		done := n.ordered(off)
		again := n.ordered(off)
		n.refused(on, On, 0)
		n.after(40*time.Second - 1)
		if n.is("GPIO27", On); len(done)+len(again) > 0 {
			t.Error("answered before the line was safe")
		}
		n.after(1)
		if err := errors.Join(<-done, <-again); err != nil {
			t.Error(err)
		}
		n.is("GPIO27", Off)
		n.told("output=pump state=off cause=mqtt id=c-1")
		n.refused(on, Off, 3*time.Minute)
		n.do("pump", ActionOff, 0) // it is
		n.after(3 * time.Minute)
		n.do("pump", ActionPulse, time.Second) // ends no sooner than min_on lets it
		n.after(time.Minute - 1)
		n.is("GPIO27", On)
		n.after(1)
		n.is("GPIO27", Off)
		n.told("output=pump state=off cause=pulse_ended")
	})
}

// Stop, max_on and the loss of the link do not wait for min_on, and end the
// wait of orders that do.
func TestWhatOverridesMinOn(t *testing.T) {
	for _, c := range []struct {
		cause string
		make  func(n *bench)
		late  error
	}{
		{CauseStop, func(n *bench) { _ = n.bank.Safe(CauseStop) }, ErrStopped},
		{CauseLinkLost, func(n *bench) { n.bank.Link(false); n.after(10 * time.Second) }, nil},
		{CauseMaxOn, func(n *bench) { n.after(30 * time.Second) }, nil},
	} {
		t.Run(c.cause, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				pump := compressor
				pump.SafeAfter, pump.MinOff = 10*time.Second, 0
				if c.cause == CauseMaxOn {
					pump.MaxOn = 30 * time.Second // package config refuses it so short
				}
				n := open(t, sim.New(), pump)
				defer n.run()()
				n.bank.Link(true)
				n.do("pump", ActionOn, 0)
				done := n.ordered(Order{Output: "pump", Action: ActionOff})
				c.make(n)
				if err := <-done; err != nil {
					t.Errorf("the order to safe: %v", err)
				}
				n.is("GPIO27", Off)
				if _, err := n.bank.Do(Order{Output: "pump", Action: ActionOn}); !errors.Is(err, c.late) {
					t.Errorf("on: %v, want %v", err, c.late)
				}
			})
		})
	}
}

// With safe: on, min_off is what an order to safe waits for, and min_on what
// one away from it is refused for; with keep all are refused.
func TestMinimumTimesOfOtherSafeLevels(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		vent, lamp := compressor, compressor
		vent.Name, vent.Pin, vent.Safe, vent.Initial = "vent", "GPIO5", SafeOn, InitialOn
		lamp.Name, lamp.Pin, lamp.Safe, lamp.Initial = "lamp", "GPIO6", SafeKeep, InitialKeep
		n := open(t, sim.New(), vent, lamp)
		defer n.run()()
		n.refused(Order{Output: "vent", Action: ActionOff}, On, time.Minute)
		n.refused(Order{Output: "lamp", Action: ActionOn}, Off, 3*time.Minute)
		n.after(3 * time.Minute)
		n.do("vent", ActionOff, 0)
		n.do("lamp", ActionOn, 0)
		n.refused(Order{Output: "lamp", Action: ActionOff}, On, time.Minute)
		done := n.ordered(Order{Output: "vent", Action: ActionOn})
		n.after(3*time.Minute - 1)
		n.is("GPIO5", Off)
		n.after(1)
		if err := <-done; err != nil {
			t.Error(err)
		}
		n.is("GPIO5", On)
	})
}

// An order that waits for min_on leaves its queue, and does not expire; the
// ninth stays in its queue.
func TestOrderThatWaitsFreesItsQueue(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := open(t, sim.New(), Config{Name: "pump", Pin: "GPIO27", MinOn: time.Hour})
		defer n.run()()
		n.do("pump", ActionOn, 0)
		var freed atomic.Int32
		var done []<-chan error
		for range mostWaiting + 2 {
			done = append(done, n.ordered(Order{
				Output: "pump", Action: ActionOff, Expires: time.Now().Add(time.Minute), Waits: func() { freed.Add(1) },
			}))
		}
		if got := freed.Load(); got != mostWaiting {
			t.Errorf("%d orders left their queue, want %d", got, mostWaiting)
		}
		n.after(time.Hour)
		for _, d := range done {
			if err := <-d; err != nil {
				t.Error(err)
			}
		}
		n.is("GPIO27", Off)
	})
}

// A failed attempt may have moved the compressor: min_off counts from it.
func TestMinOffAfterAFailedAttempt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := sim.New()
		pump := compressor
		pump.Drive = board.OpenDrain // and nothing pulls it up
		n := open(t, b, pump)
		defer n.run()()
		n.after(time.Hour)
		if _, err := n.bank.Do(Order{Output: "pump", Action: ActionOn}); !errors.Is(err, errMismatch) {
			t.Errorf("error %v", err)
		}
		b.Line("GPIO27").SetPull(board.PullUp)
		n.after(time.Minute)
		n.refused(Order{Output: "pump", Action: ActionOn}, Off, 2*time.Minute)
	})
}

// A line that vanishes while an order waits for min_on ends that wait.
func TestLineVanishesWhileAnOrderWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := sim.New()
		n := open(t, b, Config{Name: "pump", Pin: "GPIO27", MinOn: time.Minute})
		defer n.run()()
		n.do("pump", ActionOn, 0)
		done := n.ordered(Order{Output: "pump", Action: ActionOff})
		b.Line("GPIO27").Fail(syscall.ENODEV)
		n.after(time.Minute)
		if err := <-done; !errors.Is(err, syscall.ENODEV) {
			t.Errorf("error %v", err)
		}
	})
}

func TestTooSoonSaysWhy(t *testing.T) {
	for want, e := range map[string]*TooSoonError{
		`output "pump" stays off for another 12s, by its min_off`: {"pump", Off, 11*time.Second + 1},
		`output "pump" stays on for another 1m0s, by its min_on`:  {"pump", On, time.Minute},
		`until its min_on is over`:                                {"pump", On, 0},
	} {
		if !strings.Contains(e.Error(), want) {
			t.Errorf("%q, want %q", e, want)
		}
	}
}
