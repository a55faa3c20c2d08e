package daemon

import (
	"context"
	"errors"
	"log/slog"
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
	"fieldpost/daemon/uplink"
	"fieldpost/daemon/wake"
)

// pumpOnly is outputs for a dispatcher: one pump that does nothing.
type pumpOnly struct{}

func (pumpOnly) Do(o output.Order) (output.State, error) { return output.State{Name: o.Output}, nil }
func (pumpOnly) Energises(string, output.Action) (energises, ok bool) {
	return true, true
}

// setBroker names a broker and files of credentials that are not there.
func setBroker(c *config.Config) {
	c.Broker.Endpoint, c.Broker.ClientID, c.Broker.KeepAlive, c.Broker.Will = "a.example", "thing", time.Minute, "none"
	c.Broker.CA, c.Broker.Certificate, c.Broker.Key = "ca", "certificate", "key"
}

// As long as the link has not followed to a clean session, no order without id and
// expires is taken, however often the same configuration is loaded again: the session
// before may have stored some.
func TestNoUnstampedOrderBeforeTheLinkFollows(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := &Daemon{process: process{log: slog.New(slog.DiscardHandler), health: health.New(nil)}, swapped: wake.New()}
		d.stopping, d.stop = context.WithCancel(context.Background())
		defer d.stop()
		of := func(unstamped string, before *generation) *generation {
			cfg := &config.Config{Thing: "thing", Outputs: []output.Config{{Name: "pump"}}}
			setBroker(cfg)
			cfg.Readings.Topic, cfg.Commands.Topic, cfg.Commands.Unstamped = "r", "o", unstamped
			return d.newGeneration(cfg, before)
		}
		first := of("refuse", nil)
		next := of("accept", first)
		d.subscriptions = uplink.NewSubscriptionLog("thing", first.session, &journaltest.Storage{}, d.log)
		var err error
		if d.link, err = uplink.New(first.link); err != nil { // it does not run, and so never follows
			t.Fatal(err)
		}
		d.dispatcher = command.New(command.Options{Thing: "thing", Topic: "o", Outputs: pumpOnly{}, Clock: clock.Fake(), Answer: func(message.Record) <-chan struct{} { return nil }})
		for i, x := range []*swap{{d: d, before: first, after: next}, {d: d, before: next, after: of("accept", next)}} {
			x.orders()
			if len(x.changes.Slow) != 1 || x.changes.Slow[0] != "link" {
				t.Errorf("swap %d: slow is %v", i, x.changes.Slow)
			}
			a, ours := d.dispatcher.Handle([]byte(`{"action":"on","output":"pump"}`), false, "test")
			if !ours || a.Reason != command.Unstamped {
				t.Errorf("swap %d: an order without id is answered %+v", i, a)
			}
		}
	})
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
