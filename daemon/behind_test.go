package daemon

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"testing"
	"testing/synctest"
	"time"

	"fieldpost/daemon/clock"
	"fieldpost/daemon/command"
	"fieldpost/daemon/config"
	"fieldpost/daemon/health"
	"fieldpost/daemon/journal/journaltest"
	"fieldpost/daemon/message"
	"fieldpost/daemon/output"
	"fieldpost/daemon/task"
	"fieldpost/daemon/uplink"
	"fieldpost/daemon/wake"
)

// pumpOnly is outputs for a dispatcher: one pump that does nothing.
type pumpOnly struct{}

func (pumpOnly) Do(o output.Order) (output.State, error) { return output.State{Name: o.Output}, nil }
func (pumpOnly) Energises(string, output.Action, output.Level) (energises, ok bool) {
	return true, true
}

// setBroker names a broker and files of credentials that are not there.
func setBroker(c *config.Config) {
	c.Broker.Endpoint, c.Broker.ClientID, c.Broker.KeepAlive, c.Broker.Will = "a.example", "thing", time.Minute, "none"
	c.Broker.CA, c.Broker.Certificate, c.Broker.Key = "ca", "certificate", "key"
}

// slowLink is a daemon whose link does not run, and its first generation; next makes
// another one that accepts orders without id and expires.
func slowLink(t *testing.T) (d *Daemon, first *generation, next func(before *generation) *generation) {
	t.Helper()
	d = &Daemon{
		process: process{log: slog.New(slog.DiscardHandler), health: health.New(nil)}, swapped: wake.New(),
		late: make(chan *generation, 1), turn: make(chan struct{}),
	}
	d.stopping, d.stop = context.WithCancel(context.Background())
	t.Cleanup(d.stop)
	of := func(unstamped string, before *generation) *generation {
		cfg := &config.Config{Thing: "thing", Outputs: []output.Config{{Name: "pump"}}}
		setBroker(cfg)
		cfg.Readings.Topic, cfg.Commands.Topic, cfg.Commands.Unstamped = "r", "o", unstamped
		return d.newGeneration(cfg, before)
	}
	first = of("refuse", nil)
	d.subscriptions = uplink.NewSubscriptionLog("thing", first.session, &journaltest.Storage{}, d.log)
	c := first.link
	c.Dial = func(context.Context, string, string) (net.Conn, error) { return nil, errors.New("no network") }
	var err error
	if d.link, err = uplink.New(c); err != nil {
		t.Fatal(err)
	}
	d.dispatcher = command.New(command.Options{Thing: "thing", Topic: "o", Outputs: pumpOnly{}, Clock: clock.Fake(), Answer: func(message.Record) <-chan struct{} { return nil }})
	return d, first, func(before *generation) *generation { return of("accept", before) }
}

// accepts reports whether the dispatcher takes an order without id and expires.
func accepts(t *testing.T, d *Daemon) bool {
	t.Helper()
	a, ours := d.dispatcher.Handle([]byte(`{"action":"on","output":"pump"}`), false, "test")
	if !ours {
		t.Errorf("not ours: %+v", a)
	}
	return a.Reason != command.Unstamped
}

// As long as the link has not followed to a clean session, no order without id and
// expires is taken, however often the same configuration is loaded again: the session
// before may have stored some.
func TestNoUnstampedOrderBeforeTheLinkFollows(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d, first, accepting := slowLink(t)
		next := accepting(first)
		for i, x := range []*swap{{d: d, before: first, after: next}, {d: d, before: next, after: accepting(next)}} {
			x.orders()
			if len(x.changes.Slow) != 1 || x.changes.Slow[0] != "link" {
				t.Errorf("swap %d: slow is %v", i, x.changes.Slow)
			}
			if accepts(t, d) {
				t.Errorf("swap %d: an order without id is accepted", i)
			}
		}
	})
}

// When a link follows late, orders without id and expires are accepted from then on, if
// the configuration that it follows to is still the present one.
func TestLinkFollowsLate(t *testing.T) {
	for _, present := range []bool{true, false} {
		d, first, accepting := slowLink(t)
		next := accepting(first)
		d.present.Store(first)
		if present {
			d.present.Store(next)
		}
		d.behind = true
		d.late <- next
		failed := make(chan error, 3)
		following := task.Start("following", failed, d.followLate)
		linking := task.Start("link", failed, d.link.Run)
		reading := task.Start("credentials", failed, first.files.Run)
		d.turn <- struct{}{} // it is taken when the link has followed
		<-d.turn
		if got := accepts(t, d); got != present || d.behind == present {
			t.Errorf("accepted: %v; behind: %v; want %v", got, d.behind, present)
		}
		for _, p := range []*task.Task{following, linking, reading} {
			if err := p.Stop(time.Minute); err != nil {
				t.Error(err)
			}
		}
	}
}

// A swap that was about to begin when the daemon began to stop changes nothing.
func TestNoSwapAfterTheStopBegan(t *testing.T) {
	var beats health.Heartbeats
	d := &Daemon{process: process{log: slog.New(slog.DiscardHandler), linkBeat: beats.Register("link"), o: Options{Clock: clock.Fake()}}, failed: make(chan error, 1)}
	d.stopping, d.stop = context.WithCancel(context.Background())
	cfg := &config.Config{Thing: "thing"}
	setBroker(cfg)
	cfg.Readings.Topic = "r"
	first := d.newGeneration(cfg, nil)
	d.present.Store(first)
	d.stop()
	other := *cfg
	other.Readings.Topic = "elsewhere"
	if _, err := d.swapInTurn(&other); !errors.Is(err, ErrStopping) {
		t.Errorf("got %v", err)
	}
	if d.generation() != first || len(d.failed) > 0 {
		t.Error("it has begun")
	}
}
