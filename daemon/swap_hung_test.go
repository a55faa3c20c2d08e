package daemon_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"fieldpost/daemon"
	"fieldpost/daemon/config"
	"fieldpost/daemon/daemontest"
	"fieldpost/daemon/systemd"
	"fieldpost/daemon/uplink"
	"fieldpost/sensors/sim"
)

// hangFan has the fan's line hang in the kernel from now on, until release.
func hangFan(t *testing.T, b *sim.Board) (hung <-chan struct{}, release func()) {
	entered, free := make(chan struct{}, 16), make(chan struct{})
	b.BeforeSet(func(line string, _ bool) {
		if line == "GPIO5" {
			entered <- struct{}{}
			<-free
		}
	})
	release = sync.OnceFunc(func() { close(free) })
	t.Cleanup(release)
	return entered, release
}

// isDriven reports whether a line is driven, and its level.
func isDriven(l *sim.Line) (driven, high bool) {
	high, driven = l.Level()
	return driven, high
}

// swapping swaps on a goroutine of its own.
func swapping(d *daemon.Daemon, cfg *config.Config) <-chan swapped {
	done := make(chan swapped, 1)
	go func() {
		c, err := d.Swap(context.Background(), cfg)
		done <- swapped{c, err}
	}()
	return done
}

type swapped struct {
	changes daemon.Changes
	err     error
}

// The line of an output that a reload removes hangs: the swap names the outputs and is
// over, everything else has followed, and the line is made safe and released when it can
// be.
func TestSwapWithALineThatHangs(t *testing.T) {
	t.Parallel() // it waits for a quarter of a minute
	s := daemontest.NewSite(t, nil)
	heard, say := s.Listen("test-ear"), s.Publisher("test-mouth")
	r := s.Start(s.Config("", "  - {name: fan, pin: GPIO5, initial: on, safe: off}")).AwaitLink(t)
	hung, release := hangFan(t, s.Board)
	next := s.Config(door, "  - {name: lamp, pin: GPIO6}")
	done := swapping(r.Daemon, next)
	daemontest.Receive(t, "hanging line", hung)
	say(daemontest.Order("c-1", "on", time.Hour)) // while the swap waits
	if a := answered(t, heard, "c-1"); a["status"] != "done" {
		t.Errorf("answer %v", a)
	}
	x := daemontest.Receive(t, "end of the swap", done)
	if c := x.changes; x.err != nil || !slices.Equal(c.Slow, []string{"outputs"}) || fmt.Sprint(c.Outputs.Kept, c.Outputs.Removed, c.Outputs.Added, c.Sensors.Added) != "[pump] [fan] [lamp] [door]" {
		t.Errorf("swap: %+v, %v", c, x.err)
	}
	if driven, _ := isDriven(s.Board.Line("GPIO6")); !driven {
		t.Error("the lamp waits for the fan")
	}
	if driven, high := isDriven(s.Board.Line("GPIO5")); !driven || !high {
		t.Errorf("the fan's line, which hangs: driven %v, high %v", driven, high)
	}
	release()
	if c := swap(t, r, next); c.Outputs.Any() || c.Sensors.Any() || c.Connect != nil {
		t.Errorf("the same again: %+v", c)
	}
	swap(t, r, s.Config(door, "")) // waits for what is being removed, too
	h := s.Board.Line("GPIO5").History()
	if before, last := h[len(h)-2], h[len(h)-1]; before.High || !before.Driven || last.Driven {
		t.Errorf("it was not safe first and released then: %v", h)
	}
	if err := r.Stop(); err != nil {
		t.Error(err)
	}
}

// The daemon is stopped in the middle of a swap whose line hangs: the other outputs are
// made safe at once, and the swap says that the daemon stops.
func TestStopInASwapThatHangs(t *testing.T) {
	t.Parallel()
	s := daemontest.NewSite(t, nil)
	heard, say := s.Listen("test-ear"), s.Publisher("test-mouth")
	linked := make(chan uplink.Status, 256)
	d, err := daemon.New(daemon.Options{
		Config: s.Config("", "  - {name: fan, pin: GPIO5, initial: on, safe: off}"), Board: s.Board, Clock: s.Clock(),
		Log: daemontest.Log(t), Notify: &systemd.Notifier{}, Linked: daemontest.ConnectionChanges(linked),
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	ended := make(chan error, 1)
	go func() { ended <- d.Run(ctx) }()
	daemontest.Await(t, "link", linked, func(st uplink.Status) bool { return st.Connected })
	say(daemontest.Order("c-1", "on", time.Hour))
	if a := answered(t, heard, "c-1"); a["status"] != "done" {
		t.Errorf("answer %v", a)
	}
	hung, release := hangFan(t, s.Board)
	done := swapping(d, s.Config("", "  - {name: lamp, pin: GPIO6, initial: on, safe: off}"))
	daemontest.Receive(t, "hanging line", hung)
	cancel()
	if x := daemontest.Receive(t, "end of the swap", done); !errors.Is(x.err, daemon.ErrStopping) {
		t.Errorf("the swap: %v", x.err)
	}
	if err := daemontest.Receive(t, "end", ended); err == nil || !strings.Contains(err.Error(), "make outputs safe") {
		t.Errorf("Run returned %v, want the outputs named", err)
	}
	if _, high := isDriven(s.Board.Line("GPIO27")); !high { // it is active low
		t.Error("the pump is still on")
	}
	if _, high := isDriven(s.Board.Line("GPIO6")); high {
		t.Error("the lamp is still on")
	}
	release()
}
