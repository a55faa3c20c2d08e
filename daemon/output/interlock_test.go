package output

import (
	"errors"
	"fmt"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
)

// upAndDown returns the two directions of a motor. One names the other.
func upAndDown() (up, down Config) {
	return Config{Name: "up", Pin: "GPIO5", Interlock: []string{"down"}}, Config{Name: "down", Pin: "GPIO6"}
}

func (n *harness) wantInterlocked(name string, by string, known bool) {
	n.t.Helper()
	var locked *InterlockError
	if _, err := n.bank.Do(Order{Output: name, Action: ActionOn}); !errors.As(err, &locked) || locked.Other != by || locked.Known != known {
		n.t.Errorf("%s: %v, want it locked by %s, known %v", name, err, by, known)
	}
}

// An interlock works in both directions and for every energising action, and ends when
// the other output is safe.
func TestInterlock(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		up, down := upAndDown()
		n := open(t, newBoard(), up, down)
		defer n.run()()
		n.do("up", ActionOn, time.Minute)
		for _, a := range []Action{ActionOn, ActionToggle, ActionPulse} {
			if _, err := n.bank.Do(Order{Output: "down", Action: a}); err == nil {
				t.Errorf("%s acted", a)
			}
		}
		n.do("down", ActionOff, 0)
		n.do("up", ActionOn, time.Minute) // it is
		n.after(time.Minute)
		n.do("down", ActionOn, 0)
		n.wantInterlocked("up", "down", true)
		n.do("down", ActionOff, 0)
		n.do("up", ActionPulse, 0)
		n.after(DefaultPulse)
		n.do("down", ActionToggle, 0)
	})
}

// With many concurrent orders to both, they are never both on.
func TestInterlockedOrdersAtOnce(t *testing.T) {
	s := newBoard()
	up, down := upAndDown()
	n := open(t, s, up, down)
	var both sync.WaitGroup
	for _, name := range []string{"up", "down"} {
		for range 2 {
			both.Go(func() {
				for i := range 500 {
					_, err := n.bank.Do(Order{Output: name, Action: []Action{ActionOn, ActionOff, ActionToggle}[i%3]})
					var locked *InterlockError
					if err != nil && !errors.As(err, &locked) {
						t.Error(err)
					}
				}
			})
		}
	}
	both.Wait()
	on := map[string]bool{}
	at := 0
	u, d := s.Line("GPIO5").History(), s.Line("GPIO6").History()
	for len(u) > 0 || len(d) > 0 { // in the order of their times
		name, c := "up", &u
		if len(u) == 0 || len(d) > 0 && (d[0].At < u[0].At || d[0].At == u[0].At && !d[0].High) {
			name, c = "down", &d
		}
		on[name] = (*c)[0].High
		*c = (*c)[1:]
		if at++; on["up"] && on["down"] {
			t.Fatalf("both were on at change %d", at)
		}
	}
	if at < 10 {
		t.Errorf("only %d changes", at)
	}
}

// A peer with an unknown level locks: one that is not requested, one that fails, one that
// hangs.
func TestInterlockWithTheUnknown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		up, down := upAndDown()
		s := newBoard()
		s.Line("GPIO6").Hold("gpio-keys")
		n := open(t, s, up, down)
		defer n.run()()
		n.wantInterlocked("up", "down", false)
		s.Line("GPIO6").Hold("")
		n.after(retryMost)
		n.do("up", ActionOn, 0)
		n.do("up", ActionOff, 0)
		s.Line("GPIO6").Fail(syscall.EIO)
		if _, err := n.bank.Do(Order{Output: "down", Action: ActionOff}); !errors.Is(err, syscall.EIO) {
			t.Errorf("error %v", err)
		}
		n.wantInterlocked("up", "down", false)
		s.Line("GPIO6").Fail(nil)
		n.after(retryFirst)
		n.do("up", ActionOn, 0)
		n.wantWire("GPIO5", On)
	})
}

func TestInterlockWithAHungLine(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		up, down := upAndDown()
		h := newHangingBoard("GPIO6")
		n := openOn(t, h.Board, h, "", up, down)
		done := n.orderAsync(Order{Output: "down", Action: ActionOn})
		n.wantInterlocked("up", "down", true)
		close(h.release)
		if err := <-done; err != nil {
			t.Error(err)
		}
		n.wantWire("GPIO5", Off)
	})
}

// If two outputs would both begin on, the second does not. Package config refuses that if
// it can see it.
func TestInterlockAtTheStart(t *testing.T) {
	for _, initial := range []Initial{InitialOn, InitialKeep, InitialLast} {
		t.Run(initial.String(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newBoard()
				s.Line("GPIO5").Drive(true)
				s.Line("GPIO6").Drive(true)
				up, down := upAndDown()
				up.Initial, down.Initial = initial, initial
				j := &memJournal{entries: []string{`{"output":"up","level":"on"}`, `{"output":"down","level":"on"}`}}
				n := openWith(t, s, Options{Board: s, Levels: j, Outputs: []Config{up, down}})
				defer n.run()()
				n.after(time.Second)
				states := n.bank.States()
				if states[0].Level == On && states[1].Level == On {
					t.Errorf("both are on: %+v", states)
				}
				// The order is not defined if both begin away from safe: at most one is
				// on.
				for _, name := range []string{"up", "down"} {
					n.do(name, ActionOff, 0)
				}
				n.do("up", ActionOn, 0)
				n.wantInterlocked("down", "up", true)
			})
		})
	}
}

// An output that begins on is requested after one that begins safe, whatever their order.
func TestInterlockedInitialLevel(t *testing.T) {
	for _, first := range []bool{true, false} {
		synctest.Test(t, func(t *testing.T) {
			up, down := upAndDown()
			up.Initial = InitialOn
			outputs := []Config{up, down}
			if !first {
				outputs = []Config{down, up}
			}
			n := open(t, newBoard(), outputs...)
			n.wantWire("GPIO5", On)
			n.wantInterlocked("down", "up", true)
		})
	}
}

func TestInterlockSaysWhy(t *testing.T) {
	for known, want := range map[bool]string{true: "not at its safe level", false: "not known"} {
		if e := (&InterlockError{"up", "down", known}); !strings.Contains(e.Error(), want) || !strings.Contains(fmt.Sprint(e), `"up" is interlocked with "down"`) {
			t.Errorf("%v", e)
		}
	}
}
