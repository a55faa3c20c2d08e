// Package daemon is fieldpost's lifecycle: it builds the parts from a
// configuration, runs them, and shuts them down in order. It is the only place
// that knows them all.
//
// A reading's way is sensors, sampler, spool, uplink, broker; the PUBACK walks
// back to the spool. An order's way is broker, uplink, command, output, and its
// answer goes out through the spool too. This package only joins the ends.
package daemon

import (
	"context"
	"errors"
	"log/slog"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"fieldpost/daemon/access"
	"fieldpost/daemon/api"
	"fieldpost/daemon/clock"
	"fieldpost/daemon/command"
	"fieldpost/daemon/config"
	"fieldpost/daemon/health"
	"fieldpost/daemon/journal"
	"fieldpost/daemon/local"
	"fieldpost/daemon/message"
	"fieldpost/daemon/outbox"
	"fieldpost/daemon/output"
	"fieldpost/daemon/records"
	"fieldpost/daemon/refresh"
	"fieldpost/daemon/sampler"
	"fieldpost/daemon/spool"
	"fieldpost/daemon/systemd"
	"fieldpost/daemon/task"
	"fieldpost/daemon/uplink"
	"fieldpost/sensors"
	"fieldpost/sensors/board"
)

// Options is what a daemon is built from.
type Options struct {
	Config  *config.Config
	Board   board.Board
	Clock   clock.Clock
	Log     *slog.Logger
	Notify  *systemd.Notifier
	Version string // said in the online message
	// Runtime is the directory of the crash record of the outputs, and where a
	// run without a disk is noted, and orders that such a disk cannot take,
	// /run/fieldpost; "" keeps none of these.
	Runtime string
	// Fingerprint is of this board, from [fingerprint.Board]; "" is not known.
	Fingerprint string
	// Socket is the path of the local socket, in a directory that is there; ""
	// opens none.
	Socket string
	// Held is the lines of the run before, from [TakeOver]; nil is none.
	Held *output.Held
	// ReadFile reads a file of the credentials, of that many bytes at most; nil is
	// [regular.Read]. For tests.
	ReadFile func(path string, most int64) ([]byte, error)
	// Watchdog is how often the service manager wants proof of life; 0 never.
	Watchdog time.Duration
	// Taken and Acked are told every record on its way in and every one the
	// broker has acknowledged; either may be nil. They must not block.
	Taken, Acked func(message.Record)
	// Linked is told every change of the link; may be nil. It must not block.
	Linked func(uplink.Status)
}

// Daemon is a built daemon, its lines claimed.
type Daemon struct {
	o             Options
	log           *slog.Logger
	health        *health.Health
	faults        faultQueue
	heartbeats    health.Heartbeats
	spool         *records.Spool
	times         *clock.BootLog
	subscriptions *uplink.SubscriptionLog
	bank          *output.Bank
	sampler       *sampler.Sampler
	files         *uplink.CredentialFiles
	open          *refresh.Value[access.Found]
	link          *uplink.Link
	linkBeat      *health.Heartbeat
	dispatcher    *command.Dispatcher
	answers       outbox.Answers
	watch         linkWatch
	local         *local.Server
	seen          lastSeen
	started       clock.Stamp
}

// New opens the spool, claims the output lines at their initial levels and
// builds the rest. What does not work is a fault and the rest goes on; an
// error means that nothing can go on: another daemon has the spool.
func New(o Options) (*Daemon, error) {
	d := &Daemon{o: o, log: o.Log, started: o.Clock.Now(), faults: faultQueue{ready: make(chan struct{}, 1)}, watch: linkWatch{stands: make(chan struct{}, 1)}}
	cfg := o.Config
	d.health = health.New(d.faults.put)
	d.health.Know(subjects(cfg))
	var err error
	d.spool, err = records.Open(spool.Options{
		Thing: cfg.Thing, Board: o.Fingerprint, Dir: cfg.Spool.Dir, Beside: o.Runtime, AtRisk: cfg.Spool.AtRisk, MaxBytes: cfg.Spool.MaxBytes, MaxAge: cfg.Spool.MaxAge,
		Sensors: sensorNames(cfg.Sensors), Clock: o.Clock, Health: d.health, Log: d.log,
	})
	if err != nil {
		return nil, err
	}
	d.times = clock.NewBootLog(o.Clock, d.spool.Journal("boots"), d.log)
	// All that can fail comes before the first line is touched.
	d.linkBeat = d.heartbeats.Register("link")
	d.files = uplink.NewCredentialFiles(uplink.CredentialFilesConfig{
		CA: cfg.Broker.CA, Certificate: cfg.Broker.Certificate, Key: cfg.Broker.Key, Read: o.ReadFile, Stuck: d.filesStuck,
	})
	d.open = refresh.New(func() access.Found { return access.Look(cfg.Places(o.Runtime)) }, nil)
	d.link, err = uplink.New(d.linkConfig())
	if err != nil {
		return nil, errors.Join(err, d.spool.Close())
	}
	d.bank = output.Open(output.Options{
		Board: o.Board, Outputs: cfg.Outputs, Record: d.recordPath(), Held: o.Held, Store: d.store(), Unstore: systemd.RemoveHandle, Levels: d.spool.Journal("levels"),
		Clock: o.Clock, Health: d.health, Heartbeat: d.heartbeats.Register("output timers"), Log: d.log, Event: d.take,
	})
	d.sampler = sampler.New(sampler.Options{
		Board: o.Board, Sensors: cfg.Sensors, Run: d.spool.RunNumber(), Clock: o.Clock, Health: d.health,
		Heartbeat: d.heartbeats.Register("scheduler"), Log: d.log, Emit: d.take,
	})
	d.dispatcher = command.New(command.Options{
		Thing: cfg.Thing, Topic: d.ordersTopic(), MaxLife: cfg.Commands.MaxLife, Outputs: d.bank, Clock: o.Clock, Answer: d.answer,
		Journal: d.ledger(), RuntimeJournal: d.fallback(), Health: d.health, Log: d.log, Unstamped: d.unstamped(),
	})
	d.local = local.New(local.Options{Path: o.Socket, Calls: d.calls(), Urgent: []string{api.CallOrder}, Health: d.health, Log: d.log})
	return d, nil
}

func sensorNames(all []sensors.Config) []string {
	var out []string
	for _, s := range all {
		out = append(out, s.Name)
	}
	return out
}

// ledger is where orders are remembered; a daemon without outputs takes none.
func (d *Daemon) ledger() journal.Storage {
	if len(d.o.Config.Outputs) == 0 {
		return nil
	}
	return d.spool.Journal("orders")
}

// ordersTopic is the topic on which orders come by MQTT, "" where none do: without
// outputs there is nothing to order.
func (d *Daemon) ordersTopic() string {
	if len(d.o.Config.Outputs) == 0 {
		return ""
	}
	return d.o.Config.CommandsTopic()
}

// fallback is where orders are noted that the ledger cannot take.
func (d *Daemon) fallback() journal.Storage {
	if d.o.Runtime == "" {
		return nil
	}
	return journal.FileAt(d.o.Runtime, "orders")
}

// unstamped reports whether orders may go without id and expires.
func (d *Daemon) unstamped() bool { return d.o.Config.Commands.Unstamped == "accept" }

func (d *Daemon) recordPath() string {
	if d.o.Runtime == "" {
		return ""
	}
	return filepath.Join(d.o.Runtime, "outputs")
}

func (d *Daemon) linkConfig() uplink.Config {
	cfg := d.o.Config
	box := outbox.New(outbox.Options{Spool: d.spool, Config: cfg, Clock: d.o.Clock, Boots: d.times.Boots(), Answers: &d.answers, Acked: d.o.Acked})
	c := uplink.Config{
		Endpoint: cfg.Endpoint(), ClientID: cfg.Broker.ClientID,
		Files: d.files, KeepAlive: cfg.Broker.KeepAlive,
		Limits:     uplink.Limits(cfg.Broker.Limits),
		MaxPayload: command.MaxOrder, Outbox: box, Observe: d.linked, Heartbeat: d.linkBeat.Beat, Log: d.log,
		Farewell: func() uplink.Publication {
			r := message.Farewell(d.spool.RunNumber(), d.o.Clock.Now(), d.spool.Source())
			return uplink.Publication{Topic: cfg.ReadingsTopic(""), Payload: message.Encode(cfg.Thing, r)}
		},
	}
	if cfg.Broker.Will != "none" {
		// It carries no time: it is written long before it is sent.
		c.Will = &uplink.Publication{Topic: cfg.ReadingsTopic(""), Payload: message.Encode(cfg.Thing, message.Will())}
	}
	if cfg.Broker.Verify != "none" {
		c.Echo = uplink.Echo{Topic: cfg.ReadingsTopic(""), Subscribe: cfg.Broker.Verify == "subscribe"}
	}
	if t := d.ordersTopic(); t != "" {
		c.Subscriptions = []uplink.Subscription{{Filter: t, QoS: 1}}
		if d.unstamped() {
			// Nothing may lie with the broker that acts when we come back: not
			// from an earlier session, nor where it stores QoS 0 too.
			c.Subscriptions[0].QoS, c.Clean = 0, true
		}
	}
	var kept []string // by the broker's session
	for _, s := range c.Subscriptions {
		if !c.Clean {
			kept = append(kept, s.Filter)
		}
	}
	if c.Echo.Subscribe && !c.Clean && !slices.Contains(kept, c.Echo.Topic) {
		kept = append(kept, c.Echo.Topic) // where a connection ends before it is taken back
	}
	d.subscriptions = uplink.NewSubscriptionLog(c.ClientID, kept, d.spool.Journal("subscriptions"), d.log)
	c.Unsubscribe, c.Unsubscribed = d.subscriptions.Stale(), d.subscriptions.Released
	return c
}

// Run runs the daemon until ctx ends, then ends it in order. It returns nil
// after an orderly end; an error when a part ended by itself or did not end.
func (d *Daemon) Run(ctx context.Context) error {
	failed := make(chan error, 11)
	keeping := task.Start("spool", failed, d.spool.Run)
	timing := task.Start("clock and subscriptions", failed, d.remember)
	pins := task.Start("outputs", failed, d.bank.Run)
	reading := task.Start("sampler", failed, d.sampler.Run)
	fetching := task.Start("credentials", failed, d.files.Run)
	looking := task.Start("access", failed, d.open.Run)
	linking := task.Start("link", failed, d.link.Run)
	orders := task.Start("orders", failed, func(ctx context.Context) error { return d.dispatcher.Serve(ctx, d.link.Messages()) })
	telling := task.Start("status", failed, d.tell)
	proving := task.Start("watchdog", failed, d.prove)
	serving := task.Start("local socket", failed, d.serveLocal)
	d.log.Info("started", systemd.MessageID(health.StartedID), "thing", d.o.Config.Thing, "spool", d.spool.Source().Spool, "run", d.spool.RunNumber(), "version", d.o.Version,
		"board", d.o.Board.String(), "sensors", len(d.o.Config.Sensors), "outputs", len(d.o.Config.Outputs))
	d.notice(d.o.Notify.Ready(d.statusLine()))

	var ended error
	select {
	case <-ctx.Done():
	case ended = <-failed:
	}
	return errors.Join(ended, d.shutdown(ended, orders, serving, pins, reading, linking, fetching, looking, telling, proving, timing, keeping))
}

// shutdown ends the daemon in the one order that is safe: no more orders, pins
// safe, sensors, mail flushed and offline said, disconnected, spool on disk.
// No step waits for ever, so that a line or disk that hangs costs no other step;
// all limits together are less than TimeoutStopSec of the unit. Pins come before
// all else, even before a word in the log, which may block; orders that wait for
// a min_on end with them. ended is why, where it was no signal.
func (d *Daemon) shutdown(ended error, orders, serving, pins, reading, linking, fetching, looking, telling, proving, timing, keeping *task.Task) error {
	orders.Cancel()
	serving.Cancel()
	looking.Cancel()
	safe := task.Within(3*time.Second, "make outputs safe", func() error { return d.bank.Safe(output.CauseStop) })
	if ended != nil {
		d.log.Error("a part of the daemon ended", "err", ended)
	}
	d.log.Info("stopping")
	d.notice(d.o.Notify.Stopping())
	var errs []error
	try := func(err error) {
		if err != nil {
			d.log.Error("stop", "err", err)
			errs = append(errs, err)
		}
	}
	try(safe)
	try(serving.Stop(time.Second))
	try(orders.Stop(2 * time.Second))
	try(reading.Stop(5 * time.Second))
	d.settle(time.Second)
	try(linking.Stop(12 * time.Second))
	for _, p := range []*task.Task{fetching, telling, proving} { // a message to systemd may take a second
		p.Cancel()
	}
	try(proving.Stop(3 * time.Second / 2))
	for _, p := range []*task.Task{telling, fetching, looking} {
		try(p.Stop(time.Second / 2))
	}
	try(pins.Stop(2 * time.Second))
	try(task.Within(6*time.Second, "keep outputs safe", d.keepLines))
	try(task.Within(2*time.Second, "release outputs", d.bank.Close))
	d.tellFaults()
	try(timing.Stop(time.Second))
	try(keeping.Stop(10 * time.Second))
	if keeping.Ended() { // else its files are still its own
		try(d.spool.Close())
	}
	d.log.Info("stopped", systemd.MessageID(health.StoppedID), "left_in_spool", d.waiting())
	return errors.Join(errs...)
}

// remember keeps what is known over restarts beside the spool, until ctx ends: what
// the time was, and what the broker's session may hold.
func (d *Daemon) remember(ctx context.Context) error {
	var both sync.WaitGroup
	var failed error
	both.Go(func() { failed = d.subscriptions.Run(ctx) })
	err := d.times.Run(ctx)
	both.Wait()
	return errors.Join(err, failed)
}

// settle waits until what was taken last is on disk, where nothing is sent that
// is not (spool.at_risk: 0): what comes at the stop itself is to be sent by the
// link's end. A disk that fails is not waited for, and one that hangs until limit.
func (d *Daemon) settle(limit time.Duration) {
	if d.o.Config.Spool.AtRisk > 0 {
		return
	}
	over := time.NewTimer(limit)
	defer over.Stop()
	look := time.NewTicker(2 * time.Millisecond)
	defer look.Stop()
	for d.spool.Stats().Disk && d.spool.Backlog().AtRisk > 0 {
		select {
		case <-over.C:
			return
		case <-look.C:
		}
	}
}

// answer puts an answer into the spool. kept is closed when the broker has it
// or it is on disk.
func (d *Daemon) answer(r message.Record) (kept <-chan struct{}) {
	kept = d.answers.Await(r, outbox.DurableAfter(d.o.Config.Spool.AtRisk))
	d.take(r)
	return kept
}

// take puts a record into the spool.
func (d *Daemon) take(r message.Record) {
	r.Source = d.spool.Source()
	if d.o.Taken != nil {
		d.o.Taken(r)
	}
	d.seen.put(r)
	if err := d.spool.Append(r); err != nil {
		d.log.Error("spool does not take a message", "kind", string(r.Kind), "sensor", r.Sensor, "err", err)
	}
}

// notice logs that the service manager could not be told something.
func (d *Daemon) notice(err error) {
	if err != nil {
		d.log.Warn("service manager cannot be notified", "err", err)
	}
}
