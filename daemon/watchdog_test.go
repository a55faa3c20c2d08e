package daemon

import (
	"context"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"fieldpost/daemon/clock"
	"fieldpost/daemon/output"
	"fieldpost/daemon/systemd"
	"fieldpost/sensors/sim"
)

// watched is a daemon of which only the loops, the watchdog and one output, on,
// are there. What the service manager is told comes with its time.
type watched struct {
	d     *process
	board *sim.Board
	takes atomic.Int64 // nanoseconds, to set an output
	start time.Time
	mu    sync.Mutex
	told  []notified
}

type notified struct {
	at    time.Duration
	state string
	on    bool // the output, when that was told
}

func newWatched(t *testing.T, limit time.Duration) *watched {
	w := &watched{start: time.Now(), board: sim.New()}
	w.board.BeforeSet(func(string, bool) { <-time.After(time.Duration(w.takes.Load())) })
	w.d = &process{log: slog.New(slog.DiscardHandler), o: Options{Watchdog: limit, Notify: &systemd.Notifier{Send: func(state string) error {
		w.mu.Lock()
		defer w.mu.Unlock()
		on, _ := w.board.Line("GPIO27").Level()
		w.told = append(w.told, notified{time.Since(w.start), state, on})
		return nil
	}}}}
	w.d.bank = output.Open(output.Options{
		Board: w.board, Clock: clock.Fake(), Outputs: []output.Config{{Name: "pump", Pin: "GPIO27"}},
	})
	t.Cleanup(func() { w.d.bank.Close() })
	if _, err := w.d.bank.Do(output.Order{Output: "pump", Action: output.ActionOn}); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error)
	go func() { done <- w.d.prove(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return w
}

// turns has a loop of that name turn every second, but not between from and to.
func (w *watched) turns(t *testing.T, name string, from, to time.Duration) {
	loop := w.d.heartbeats.Register(name)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		tick := time.NewTicker(time.Second)
		defer tick.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
			}
			if at := time.Since(w.start); at < from || at > to {
				loop.Beat()
			}
		}
	}()
	t.Cleanup(func() { cancel(); <-done })
}

// after lets that much time pass and gives what was told in it, without the times.
func (w *watched) after(d time.Duration) []string {
	<-time.After(d)
	synctest.Wait()
	w.mu.Lock()
	defer w.mu.Unlock()
	var states []string
	for _, x := range w.told {
		states = append(states, x.state)
	}
	w.told = nil
	return states
}

const (
	fed  = "WATCHDOG=1"
	hung = "WATCHDOG=trigger"
	ever = 1000 * time.Hour
)

func TestWatchdogIsFedWhileAllLoopsTurn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWatched(t, 30*time.Second)
		w.turns(t, "scheduler", ever, ever)
		w.turns(t, "link", ever, ever)
		if got := w.after(10*time.Minute + time.Second); len(got) < 60 || slices.Contains(got, hung) {
			t.Errorf("in ten minutes: %d messages, %q", len(got), slices.Compact(got))
		}
	})
}

// Whenever a loop hangs: systemd is told when it has hung for the watchdog's
// time, no later, and the others do not hide it.
func TestHangIsToldWhenTheTimeIsOver(t *testing.T) {
	for at := 21 * time.Second; at < 33*time.Second; at += 700 * time.Millisecond {
		synctest.Test(t, func(t *testing.T) {
			w := newWatched(t, 30*time.Second)
			w.turns(t, "scheduler", ever, ever)
			w.turns(t, "link", at, ever)
			last := at.Truncate(time.Second) // its last turn
			if at == last {
				last -= time.Second
			}
			<-time.After(2 * time.Minute)
			synctest.Wait()
			w.mu.Lock()
			defer w.mu.Unlock()
			i := slices.IndexFunc(w.told, func(x notified) bool { return x.state == hung })
			if i < 0 || w.told[i].at != last+30*time.Second {
				t.Fatalf("last turn after %v: told %v", last, w.told)
			}
			for _, x := range w.told[:i] {
				if x.at > last+10*time.Second {
					t.Errorf("last turn after %v, fed after %v", last, x.at)
				}
			}
			if slices.ContainsFunc(w.told[i:], func(x notified) bool { return x.state == fed || x.on }) {
				t.Errorf("fed, or on, after the hang: %v", w.told[i:])
			}
		})
	}
}

// Outputs that do not come back from the kernel keep nobody from being told.
func TestHangOfTheOutputsIsTold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWatched(t, 30*time.Second)
		w.turns(t, "output timers", 0, ever)
		w.takes.Store(int64(time.Hour))
		if got := w.after(32 * time.Second); !slices.Contains(got, hung) {
			t.Errorf("told %q", got)
		}
		<-time.After(2 * time.Hour)
	})
}

// A loop that is late and then turns again is no hang.
func TestLateLoopIsNoHang(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWatched(t, 30*time.Second)
		w.turns(t, "output timers", 60*time.Second, 85*time.Second)
		if got := w.after(5 * time.Minute); slices.Contains(got, hung) {
			t.Errorf("told %q", got)
		}
		if got := w.after(time.Minute); len(got) < 5 {
			t.Errorf("a minute later: %q", got)
		}
	})
}

func TestNobodyWatches(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWatched(t, 0)
		w.turns(t, "link", 0, ever)
		if got := w.after(time.Hour); got != nil {
			t.Errorf("told %q", got)
		}
	})
}
