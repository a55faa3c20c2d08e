package output

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"fieldpost/sensors/board"
)

// watched is an output with a refresh.
var watched = Config{Name: "pump", Pin: "GPIO27", Refresh: 30 * time.Second}

// wantTrips checks how often an output was made safe because no order came.
func (n *harness) wantTrips(name string, want uint64) {
	n.t.Helper()
	for _, s := range n.bank.States() {
		if s.Name == name && s.Trips != want {
			n.t.Errorf("%s has tripped %d times, want %d", name, s.Trips, want)
		}
	}
}

// An output stays energised while orders come, and is made safe if none comes within
// refresh. An order for the present level makes no event.
func TestRefresh(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := open(t, newBoard(), watched)
		defer n.run()()
		for range 10 {
			n.do("pump", ActionOn, 0)
			n.after(30*time.Second - 1)
			n.wantWire("GPIO27", On)
		}
		n.wantAllEvents("output=pump state=off cause=initial", "output=pump state=on cause=test")
		n.wantTrips("pump", 0)
		n.after(1)
		n.wantWire("GPIO27", Off)
		n.wantEvents("output=pump state=off cause=refresh_lost")
		n.wantTrips("pump", 1)
		n.after(time.Hour) // at its safe level it needs no orders
		n.wantEvents()
		n.do("pump", ActionOn, 0)
		n.after(30 * time.Second)
		n.wantEvents("output=pump state=off cause=refresh_lost")
		n.wantTrips("pump", 2)
	})
}

// The state has the last order that restarted refresh.
func TestRefreshIsInTheState(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := open(t, newBoard(), watched)
		defer n.run()()
		for _, id := range []string{"c-1", "c-2"} {
			if s, err := n.bank.Do(Order{Output: "pump", Action: ActionOn, ID: id, Cause: "mqtt"}); err != nil || s.Order != id || s.Level != On {
				t.Errorf("%+v, %v", s, err)
			}
			n.after(10 * time.Second)
		}
		if s := n.bank.States()[0]; s.Order != "c-2" || time.Since(s.Since) != 20*time.Second {
			t.Errorf("state %+v", s)
		}
	})
}

// refresh together with each of the other bounds.
func TestRefreshWithOtherBounds(t *testing.T) {
	on := func(n *harness) { n.do("pump", ActionOn, 0) }
	for _, c := range []struct {
		name  string
		set   func(*Config)
		begin func(n *harness)
		ends  time.Duration // after the begin
		cause string
	}{
		{"a safe level that is on", func(c *Config) { c.Safe, c.Initial = SafeOn, InitialOn }, func(n *harness) { n.do("pump", ActionOff, 0) }, 30 * time.Second, CauseRefresh},
		{"a time that is longer", nil, func(n *harness) { n.do("pump", ActionOn, time.Hour) }, 30 * time.Second, CauseRefresh},
		{"a time that is shorter", nil, func(n *harness) { n.do("pump", ActionOn, 10*time.Second) }, 10 * time.Second, CauseForEnded},
		{"a pulse that is longer", nil, func(n *harness) { n.do("pump", ActionPulse, time.Minute) }, 30 * time.Second, CauseRefresh},
		{"a toggle", nil, func(n *harness) { n.do("pump", ActionToggle, 0) }, 30 * time.Second, CauseRefresh},
		{"min_on, which it does not wait for", func(c *Config) { c.MinOn = time.Hour }, on, 30 * time.Second, CauseRefresh},
		{"max_on, which an order does not restart", func(c *Config) { c.MaxOn = 50 * time.Second }, func(n *harness) {
			on(n)
			n.after(25 * time.Second)
			on(n)
		}, 25 * time.Second, CauseMaxOn},
		{"safe_after, which is shorter", func(c *Config) { c.SafeAfter = 20 * time.Second }, func(n *harness) {
			on(n)
			n.bank.Link(false)
		}, 20 * time.Second, CauseLinkLost},
		{"safe_after, which is longer", func(c *Config) { c.SafeAfter = time.Minute }, func(n *harness) {
			on(n)
			n.bank.Link(false)
		}, 30 * time.Second, CauseRefresh},
		{"a link that is lost", nil, func(n *harness) {
			on(n)
			n.bank.Link(false)
		}, 30 * time.Second, CauseRefresh},
		{"an initial level away from safe", func(c *Config) { c.Initial = InitialOn }, func(*harness) {}, 30 * time.Second, CauseRefresh},
		{"a level that the line was found at", func(c *Config) { c.Initial = InitialKeep }, func(*harness) {}, 30 * time.Second, CauseRefresh},
		{"an initial level that had to wait", func(c *Config) { c.Initial, c.MinOff = InitialOn, time.Minute }, func(n *harness) { n.after(time.Minute) }, 30 * time.Second, CauseRefresh},
		{"an order that was refused", func(c *Config) { c.MinOn = time.Hour }, func(n *harness) {
			on(n)
			n.after(20 * time.Second)
			if _, err := n.bank.Do(Order{Output: "pump", Action: ActionToggle}); !errors.As(err, new(*TooSoonError)) {
				n.t.Errorf("toggle: %v", err)
			}
		}, 10 * time.Second, CauseRefresh},
		{"an order that had expired", nil, func(n *harness) {
			on(n)
			n.after(20 * time.Second)
			if _, err := n.bank.Do(Order{Output: "pump", Action: ActionOn, Expires: time.Now()}); !errors.Is(err, ErrExpired) {
				n.t.Errorf("on: %v", err)
			}
		}, 10 * time.Second, CauseRefresh},
		{"an order for another output", nil, func(n *harness) {
			on(n)
			n.after(20 * time.Second)
			n.do("valve", ActionOn, 0)
		}, 10 * time.Second, CauseRefresh},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				out := watched
				if c.set != nil {
					c.set(&out)
				}
				b := newBoard()
				b.Line("GPIO27").SetPull(board.PullUp)
				n := open(t, b, out, Config{Name: "valve", Pin: "GPIO5"})
				defer n.run()()
				n.bank.Link(true)
				c.begin(n)
				synctest.Wait()
				safe, _ := out.Safe.Level()
				n.after(c.ends - 1)
				n.wantWire("GPIO27", safe.opposite())
				n.after(1)
				n.wantWire("GPIO27", safe)
				n.wantEvents(fmt.Sprintf("output=pump state=%s cause=%s", safe, c.cause))
				want := uint64(0)
				if c.cause == CauseRefresh {
					want = 1
				}
				n.wantTrips("pump", want)
			})
		})
	}
}

// An order to the safe level that waits for min_on does not restart refresh. It is done
// when refresh makes the line safe.
func TestRefreshEndsTheWaitForMinOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		out := watched
		out.MinOn = time.Hour
		n := open(t, newBoard(), out)
		defer n.run()()
		n.do("pump", ActionOn, 0)
		n.after(20 * time.Second)
		done := n.orderAsync(Order{Output: "pump", Action: ActionOff})
		n.after(10 * time.Second)
		if err := <-done; err != nil {
			t.Error(err)
		}
		n.wantWire("GPIO27", Off)
		n.wantEvents("output=pump state=off cause=refresh_lost")
	})
}

// An output that refresh made safe no longer locks its interlocked output.
func TestRefreshFreesAnInterlock(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := open(t, newBoard(), watched, Config{Name: "valve", Pin: "GPIO5", Interlock: []string{"pump"}})
		defer n.run()()
		n.do("pump", ActionOn, 0)
		if _, err := n.bank.Do(Order{Output: "valve", Action: ActionOn}); !errors.As(err, new(*InterlockError)) {
			t.Errorf("valve: %v", err)
		}
		n.after(30 * time.Second)
		n.do("valve", ActionOn, 0)
	})
}

// A line that fails counts one trip, however often it is retried.
func TestRefreshOfALineThatFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBoard()
		n := open(t, b, watched)
		defer n.run()()
		n.do("pump", ActionOn, 0)
		n.after(20 * time.Second)
		b.Line("GPIO27").Fail(errors.New("input/output error"))
		n.after(time.Minute)
		b.Line("GPIO27").Fail(nil)
		n.after(time.Minute)
		n.wantWire("GPIO27", Off)
		n.wantEvents("output=pump state=off cause=refresh_lost")
		n.wantTrips("pump", 1)
	})
}

// The next run does not restore the level of an output that refresh made safe. A restored
// level has refresh again.
func TestRefreshOverARestart(t *testing.T) {
	for _, tripped := range []bool{true, false} {
		synctest.Test(t, func(t *testing.T) {
			out := watched
			out.Initial = InitialLast
			j, s := &memJournal{}, newBoard()
			n := openWith(t, s, Options{Board: s, Outputs: []Config{out}, Levels: j})
			stop := n.run()
			n.do("pump", ActionOn, 0)
			if tripped {
				n.after(31 * time.Second)
			} else {
				n.after(10 * time.Second)
			}
			stop()
			if err := n.bank.Close(); err != nil {
				t.Fatal(err)
			}
			again := openWith(t, s, Options{Board: s, Outputs: []Config{out}, Levels: j})
			defer again.run()()
			again.wantWire("GPIO27", LevelOf(!tripped))
			again.after(30*time.Second - 1)
			again.wantWire("GPIO27", LevelOf(!tripped))
			again.after(1)
			again.wantWire("GPIO27", Off)
		})
	}
}

// refreshModel is a second implementation of the timers of an output with refresh.
type refreshModel struct {
	c           Config
	level       Level
	since, last time.Time // last: of the last order
	ends, down  time.Time
	told        []string
	trips       uint64
}

func (m *refreshModel) set(l Level, cause string, at time.Time) {
	m.ends = time.Time{}
	if l == m.level {
		return
	}
	m.level, m.since = l, at
	m.told = append(m.told, fmt.Sprintf("output=pump state=%s cause=%s", l, cause))
}

// until does everything that is due by now.
func (m *refreshModel) until(now time.Time) {
	for safe, _ := m.c.Safe.Level(); m.level != safe; {
		type due struct {
			at    time.Time
			cause string
		}
		dues := []due{{later(m.last, m.since).Add(m.c.Refresh), CauseRefresh}}
		if !m.ends.IsZero() {
			dues = append(dues, due{m.ends, CauseForEnded})
		}
		if m.c.MaxOn > 0 && m.level == On {
			dues = append(dues, due{m.since.Add(m.c.MaxOn), CauseMaxOn})
		}
		if m.c.SafeAfter > 0 && !m.down.IsZero() {
			dues = append(dues, due{later(m.last, m.down).Add(m.c.SafeAfter), CauseLinkLost})
		}
		first := slices.MinFunc(dues, func(a, b due) int { return a.at.Compare(b.at) })
		if first.at.After(now) {
			return
		}
		if first.cause == CauseRefresh {
			m.trips++
		}
		m.set(safe, first.cause, first.at)
	}
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// With random orders, link changes and times, an output with refresh always has the level
// and the causes of the model.
func TestRefreshAgainstModel(t *testing.T) {
	for seed := range uint64(300) {
		synctest.Test(t, func(t *testing.T) {
			r := rand.New(rand.NewPCG(seed, 30))
			c := Config{Name: "pump", Pin: "GPIO27", Safe: Safe(On) * Safe(r.IntN(2)), Refresh: 30*time.Second + 7*time.Millisecond}
			c.Initial = Initial(c.Safe)
			if r.IntN(2) == 0 {
				c.SafeAfter = time.Duration(10+r.IntN(60))*time.Second + 3*time.Millisecond
			}
			if c.Safe == SafeOff && r.IntN(2) == 0 {
				c.MaxOn = time.Duration(31+r.IntN(120))*time.Second + 11*time.Millisecond
			}
			n := open(t, newBoard(), c)
			defer n.run()()
			n.bank.Link(true)
			safe, _ := c.Safe.Level()
			m := &refreshModel{c: c, level: safe, since: time.Now()}
			for range 150 {
				n.after(time.Duration(r.IntN(45_000)) * time.Millisecond)
				now := time.Now()
				m.until(now)
				n.wantWire("GPIO27", m.level)
				m.step(n, r, now)
				synctest.Wait()
			}
			n.wantWire("GPIO27", m.level)
			n.wantTrips("pump", m.trips)
			n.mu.Lock()
			defer n.mu.Unlock()
			if got, want := len(n.events)-1, len(m.told); got != want {
				t.Fatalf("seed %d: %d events, want %d", seed, got, want)
			}
			for i, want := range m.told {
				if !strings.HasPrefix(n.events[i+1], want) {
					t.Fatalf("seed %d, event %d: %q, want %s", seed, i, n.events[i+1], want)
				}
			}
		})
	}
}

// step does one thing to the bank and to the model.
func (m *refreshModel) step(n *harness, r *rand.Rand, now time.Time) {
	safe, _ := m.c.Safe.Level()
	away := map[Level]Action{On: ActionOn, Off: ActionOff}[safe.opposite()]
	var long time.Duration
	if r.IntN(4) == 0 {
		long = time.Duration(1+r.IntN(60))*time.Second + 5*time.Millisecond
	}
	switch r.IntN(8) {
	default:
		n.do("pump", away, long)
		m.set(safe.opposite(), "test", now)
		m.last = now
		if long > 0 {
			m.ends = now.Add(long)
		}
	case 0:
		n.do("pump", map[Level]Action{On: ActionOn, Off: ActionOff}[safe], 0)
		m.set(safe, "test", now)
		m.last = now
	case 1:
		n.do("pump", ActionToggle, 0)
		m.set(m.level.opposite(), "test", now)
		m.last = now
	case 2:
		n.bank.Link(false)
		if m.down.IsZero() {
			m.down = now
		}
	case 3:
		n.bank.Link(true)
		m.down = time.Time{}
	case 4: // refused, so it does not count
		if _, err := n.bank.Do(Order{Output: "pump", Action: away, Expires: now}); !errors.Is(err, ErrExpired) {
			n.t.Errorf("expired order: %v", err)
		}
	}
}

var compressor = Config{Name: "pump", Pin: "GPIO27", MinOn: time.Minute, MinOff: 3 * time.Minute}

// orderAsync carries out an order on another goroutine. The channel gets its error.
func (n *harness) orderAsync(o Order) <-chan error {
	done := make(chan error, 1)
	go func() {
		_, err := n.bank.Do(o)
		done <- err
	}()
	synctest.Wait()
	return done
}

func (n *harness) wantTooSoon(o Order, level Level, left time.Duration) {
	n.t.Helper()
	var soon *TooSoonError
	if s, err := n.bank.Do(o); !errors.As(err, &soon) || soon.Level != level || soon.Left != left || s.Level != level {
		n.t.Errorf("%s: %+v, %v; want it refused for another %s", o.Action, s, err, left)
	}
}

// An order that switches on too soon is refused. One that makes safe too soon waits, and
// is done when the line is safe.
func TestMinimumTimes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := open(t, newBoard(), compressor)
		defer n.run()()
		on, off := Order{Output: "pump", Action: ActionOn}, Order{Output: "pump", Action: ActionOff, ID: "c-1", Cause: "mqtt"}
		n.after(time.Minute)
		n.wantTooSoon(on, Off, 2*time.Minute) // the level before the start is not known
		n.after(2 * time.Minute)
		n.do("pump", ActionOn, 0)
		n.after(20 * time.Second)
		n.wantTooSoon(Order{Output: "pump", Action: ActionToggle}, On, 40*time.Second)
		n.do("pump", ActionOn, 0) // it is
		done := n.orderAsync(off)
		again := n.orderAsync(off)
		n.wantTooSoon(on, On, 0)
		n.after(40*time.Second - 1)
		if n.wantWire("GPIO27", On); len(done)+len(again) > 0 {
			t.Error("answered before the line was safe")
		}
		n.after(1)
		if err := errors.Join(<-done, <-again); err != nil {
			t.Error(err)
		}
		n.wantWire("GPIO27", Off)
		n.wantEvents("output=pump state=off cause=mqtt id=c-1")
		n.wantTooSoon(on, Off, 3*time.Minute)
		n.do("pump", ActionOff, 0) // it is
		n.after(3 * time.Minute)
		n.do("pump", ActionPulse, time.Second) // ends only after min_on
		n.after(time.Minute - 1)
		n.wantWire("GPIO27", On)
		n.after(1)
		n.wantWire("GPIO27", Off)
		n.wantEvents("output=pump state=off cause=pulse_ended")
	})
}

// A stop, max_on and the loss of the link do not wait for min_on, and end the wait of
// orders that do.
func TestWhatOverridesMinOn(t *testing.T) {
	for _, c := range []struct {
		cause string
		make  func(n *harness)
		late  error
	}{
		{CauseStop, func(n *harness) { _ = n.bank.Safe(CauseStop) }, ErrStopped},
		{CauseLinkLost, func(n *harness) { n.bank.Link(false); n.after(10 * time.Second) }, nil},
		{CauseMaxOn, func(n *harness) { n.after(30 * time.Second) }, nil},
	} {
		t.Run(c.cause, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				pump := compressor
				pump.SafeAfter, pump.MinOff = 10*time.Second, 0
				if c.cause == CauseMaxOn {
					pump.MaxOn = 30 * time.Second // shorter than package config allows
				}
				n := open(t, newBoard(), pump)
				defer n.run()()
				n.bank.Link(true)
				n.do("pump", ActionOn, 0)
				done := n.orderAsync(Order{Output: "pump", Action: ActionOff})
				c.make(n)
				if err := <-done; err != nil {
					t.Errorf("the order to safe: %v", err)
				}
				n.wantWire("GPIO27", Off)
				if _, err := n.bank.Do(Order{Output: "pump", Action: ActionOn}); !errors.Is(err, c.late) {
					t.Errorf("on: %v, want %v", err, c.late)
				}
			})
		})
	}
}

// With safe: on, an order to the safe level waits for min_off, and an energising one is
// refused during min_on. With keep all are refused.
func TestMinimumTimesOfOtherSafeLevels(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		vent, lamp := compressor, compressor
		vent.Name, vent.Pin, vent.Safe, vent.Initial = "vent", "GPIO5", SafeOn, InitialOn
		lamp.Name, lamp.Pin, lamp.Safe, lamp.Initial = "lamp", "GPIO6", SafeKeep, InitialKeep
		n := open(t, newBoard(), vent, lamp)
		defer n.run()()
		n.wantTooSoon(Order{Output: "vent", Action: ActionOff}, On, time.Minute)
		n.wantTooSoon(Order{Output: "lamp", Action: ActionOn}, Off, 3*time.Minute)
		n.after(3 * time.Minute)
		n.do("vent", ActionOff, 0)
		n.do("lamp", ActionOn, 0)
		n.wantTooSoon(Order{Output: "lamp", Action: ActionOff}, On, time.Minute)
		done := n.orderAsync(Order{Output: "vent", Action: ActionOn})
		n.after(3*time.Minute - 1)
		n.wantWire("GPIO5", Off)
		n.after(1)
		if err := <-done; err != nil {
			t.Error(err)
		}
		n.wantWire("GPIO5", On)
	})
}

// An order that waits for min_on leaves its queue and does not expire. The ninth stays in
// its queue.
func TestOrderThatWaitsFreesItsQueue(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := open(t, newBoard(), Config{Name: "pump", Pin: "GPIO27", MinOn: time.Hour})
		defer n.run()()
		n.do("pump", ActionOn, 0)
		var freed atomic.Int32
		var done []<-chan error
		for range mostWaiting + 2 {
			done = append(done, n.orderAsync(Order{
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
		n.wantWire("GPIO27", Off)
	})
}

// A failed attempt may have switched the compressor, so min_off counts from it.
func TestMinOffAfterAFailedAttempt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBoard()
		pump := compressor
		pump.Drive = board.OpenDrain // and nothing pulls the line up
		n := open(t, b, pump)
		defer n.run()()
		n.after(time.Hour)
		if _, err := n.bank.Do(Order{Output: "pump", Action: ActionOn}); !errors.Is(err, errMismatch) {
			t.Errorf("error %v", err)
		}
		b.Line("GPIO27").SetPull(board.PullUp)
		n.after(time.Minute)
		n.wantTooSoon(Order{Output: "pump", Action: ActionOn}, Off, 2*time.Minute)
	})
}

// If the chip is unplugged while an order waits for min_on, the wait ends.
func TestLineVanishesWhileAnOrderWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBoard()
		n := open(t, b, Config{Name: "pump", Pin: "GPIO27", MinOn: time.Minute})
		defer n.run()()
		n.do("pump", ActionOn, 0)
		done := n.orderAsync(Order{Output: "pump", Action: ActionOff})
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
