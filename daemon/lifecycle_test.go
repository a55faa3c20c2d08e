package daemon_test

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"fieldpost/daemon"
	"fieldpost/daemon/daemontest"
	"fieldpost/daemon/message"
	"fieldpost/daemon/records"
	"fieldpost/daemon/spool"
	"fieldpost/daemon/systemd"
	"fieldpost/daemon/task"
	"fieldpost/sensors/sim"
)

// hanging has the pump's line, once it is told to, hang in the kernel until it is
// let go.
type hanging struct {
	hang atomic.Bool
	free chan struct{}
	hung chan struct{} // told when it hangs
}

func newHanging(b *sim.Board) *hanging {
	h := &hanging{free: make(chan struct{}), hung: make(chan struct{}, 1)}
	b.BeforeSet(func(line string, _ bool) {
		if line != "GPIO27" || !h.hang.Load() {
			return
		}
		select {
		case h.hung <- struct{}{}:
		default:
		}
		<-h.free
	})
	return h
}

// A line that hangs keeps the end from nothing else: the other line is safe, the messages
// and `offline` are sent, and the spool is closed in order.
func TestHungLineDoesNotKeepTheEnd(t *testing.T) {
	s := daemontest.NewSite(t, nil)
	heard := s.Listen("test-ear")
	b := newHanging(s.Board)
	taken, acked := make(chan message.Record, 4096), make(chan message.Record, 4096)
	now := s.Clock()
	cfg := s.Config("", "  - {name: fan, pin: GPIO5, initial: on, safe: off}")
	d, err := daemon.New(daemon.Options{
		Config: cfg, Board: s.Board, Clock: now, Log: daemontest.Log(t),
		Notify: &systemd.Notifier{Send: func(string) error { return nil }},
		Taken:  func(r message.Record) { taken <- r }, Acked: func(r message.Record) { acked <- r },
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	ended := make(chan error, 1)
	go func() { ended <- d.Run(ctx) }()
	daemontest.Await(t, "acknowledged reading", acked, func(r message.Record) bool { return r.Kind == message.Reading })
	b.hang.Store(true)
	s.Publisher("test-mouth")(daemontest.Order("c-1", "on", time.Minute))
	daemontest.Await(t, "our own order", heard, daemontest.Has("id", "c-1"))
	cancel()
	daemontest.Await(t, "end with the outputs named", ended, func(err error) bool {
		return err != nil && strings.Contains(err.Error(), "make outputs safe")
	})
	if high, _ := s.Board.Line("GPIO5").Level(); high {
		t.Error("the fan is still on")
	}
	daemontest.Await(t, "offline", heard, daemontest.Has("reason", "stop"))
	close(b.free)
	again, err := records.Open(spool.Options{Dir: cfg.Spool.Dir, AtRisk: time.Second, MaxBytes: 1 << 20, Clock: now})
	if err != nil {
		t.Fatalf("the spool was not let go: %v", err)
	}
	if err := again.Close(); err != nil {
		t.Error(err)
	}
}

// An end because of a panic is in order too, and the last message says that it was no stop.
func TestFarewellAfterAPanic(t *testing.T) {
	s := daemontest.NewSite(t, nil)
	heard := s.Listen("test-ear")
	acked := make(chan message.Record, 4096)
	var mistake atomic.Bool
	d, err := daemon.New(daemon.Options{
		Config: s.Config("", "  - {name: fan, pin: GPIO5, initial: on, safe: off}"), Board: s.Board, Clock: s.Clock(), Log: daemontest.Log(t),
		Notify: &systemd.Notifier{Send: func(string) error { return nil }},
		Taken: func(r message.Record) {
			if r.Kind == message.Reading && mistake.CompareAndSwap(true, false) {
				panic("a mistake of ours")
			}
		},
		Acked: func(r message.Record) { acked <- r },
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	ended := make(chan error, 1)
	go func() { ended <- d.Run(ctx) }()
	daemontest.Await(t, "acknowledged reading", acked, func(r message.Record) bool { return r.Kind == message.Reading })
	mistake.Store(true)
	daemontest.Await(t, "end with the panic named", ended, func(err error) bool { return errors.Is(err, task.ErrPanicked) })
	if high, _ := s.Board.Line("GPIO5").Level(); high {
		t.Error("the fan is still on")
	}
	off := daemontest.Await(t, "offline", heard, daemontest.Has("state", "offline"))
	if off["reason"] != message.ReasonFailed {
		t.Errorf("the last message says %v", off)
	}
}

// What cannot work is found before a line is touched: with a restart every
// second a relay would otherwise click every second.
func TestNoLineIsTouchedInVain(t *testing.T) {
	s := daemontest.NewSite(t, nil)
	cfg := s.Config("", "  - {name: fan, pin: GPIO5, initial: on, safe: off}")
	cfg.Broker.KeepAlive = time.Millisecond
	_, err := daemon.New(daemon.Options{Config: cfg, Board: s.Board, Clock: s.Clock(), Log: slog.New(slog.DiscardHandler), Notify: &systemd.Notifier{}})
	if err == nil || !strings.Contains(err.Error(), "keep-alive") {
		t.Errorf("got %v, want the keep-alive refused", err)
	}
	if h := s.Board.Line("GPIO5").History(); len(h) > 0 {
		t.Errorf("the fan's line went %+v", h)
	}
}
