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
	"fmt"
	"log/slog"
	"net"
	"sync/atomic"
	"time"

	"fieldpost/daemon/access"
	"fieldpost/daemon/clock"
	"fieldpost/daemon/command"
	"fieldpost/daemon/config"
	"fieldpost/daemon/health"
	"fieldpost/daemon/history"
	"fieldpost/daemon/local"
	"fieldpost/daemon/message"
	"fieldpost/daemon/outbox"
	"fieldpost/daemon/output"
	"fieldpost/daemon/page"
	"fieldpost/daemon/records"
	"fieldpost/daemon/refresh"
	"fieldpost/daemon/sampler"
	"fieldpost/daemon/spool"
	"fieldpost/daemon/systemd"
	"fieldpost/daemon/task"
	"fieldpost/daemon/totals"
	"fieldpost/daemon/uplink"
	"fieldpost/daemon/wake"
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
	// PageListener is the address of local.listen if it is open already, so that nobody else
	// can have taken it; nil is none. [Daemon.Run] closes it.
	PageListener net.Listener
	// Console lets the page subscribe and publish at the demo's broker; nil does not.
	Console *page.Console
	// Held is the lines of the run before, from [TakeOver]; nil is none.
	Held *output.Held
	// ReadFile reads a file of the credentials, of that many bytes at most; nil is
	// [regular.Read]. For tests.
	ReadFile func(path string, most int64) ([]byte, error)
	// LoadConfig reads the configuration file again, for [Daemon.Reload]; nil where there
	// is none. It is called on a goroutine of its own, since a disk may hang.
	LoadConfig func() (*config.Config, error)
	// Watchdog is how often the service manager wants proof of life; 0 never.
	Watchdog time.Duration
	// Taken and Acked are told every record on its way in and every one the
	// broker has acknowledged; either may be nil. They must not block.
	Taken, Acked func(message.Record)
	// Linked is told every change of the link; may be nil. It must not block.
	Linked func(uplink.Status)
}

// tasks is the most tasks that can run at one time and end by themselves.
const tasks = 16

// Daemon is a built daemon, its lines claimed. Its parts live as long as the process;
// what they do is as the present generation says, which lives as long as a
// configuration.
type Daemon struct {
	process
	present atomic.Pointer[generation]

	behind   bool                      // the link has not followed the last swap; belongs to who has the turn
	late     chan *generation          // the one that the link is behind of, for followLate; one at most
	turn     turn                      // taken by the swap that runs; there while Run runs
	loading  atomic.Bool               // the configuration file is being read
	swapped  wake.Signal               // another generation is the present one
	stopping context.Context           // ended when the daemon begins to stop
	stop     context.CancelFunc        // ends it
	failed   chan error                // told of a task that has ended by itself
	fetching atomic.Pointer[task.Task] // of the present generation's files
	paging   atomic.Pointer[task.Task] // serves the page; nil if the present generation has none
	metering atomic.Pointer[task.Task] // serves the metrics at an address; nil if the present generation names none
}

// generation gives the present one. Any goroutine.
func (d *Daemon) generation() *generation { return d.present.Load() }

// SpoolStats returns the spool in numbers. Any goroutine.
func (d *Daemon) SpoolStats() spool.Stats { return d.spool.Stats() }

// config gives the configuration that holds now. Any goroutine.
func (d *Daemon) config() *config.Config { return d.generation().config }

// New opens the spool, claims the output lines at their initial levels and
// builds the rest. What does not work is a fault and the rest goes on; an
// error means that nothing can go on: another daemon has the spool, or something
// panicked. Then all lines are safe and released.
func New(o Options) (*Daemon, error) {
	cfg := o.Config
	o.Config = nil
	d := &Daemon{process: process{
		o: o, log: o.Log, started: o.Clock.Now(),
		faults: faultQueue{ready: wake.New()}, watch: linkWatch{stands: wake.New()},
	}, late: make(chan *generation, 1), turn: make(turn, 1), swapped: wake.New(), failed: make(chan error, tasks)}
	d.stopping, d.stop = context.WithCancel(context.Background())
	if err := task.Guard(func() error { return d.build(cfg) }); err != nil {
		return nil, errors.Join(err, d.abandon())
	}
	return d, nil
}

// build builds the parts. All that can fail comes before the first line is touched.
func (d *Daemon) build(cfg *config.Config) error {
	o := d.o
	d.health = health.New(d.faults.put)
	var err error
	d.spool, err = records.Open(spool.Options{
		Thing: cfg.Thing, Board: o.Fingerprint, Dir: cfg.Spool.Dir, RuntimeDir: o.Runtime, AtRisk: cfg.Spool.AtRisk, MaxBytes: cfg.Spool.MaxBytes, MaxAge: cfg.Spool.MaxAge,
		Sensors: sensorNames(cfg.Sensors), Clock: o.Clock, Health: d.health, Log: d.log,
	})
	if err != nil {
		return err
	}
	d.times = clock.NewBootLog(o.Clock, d.spool.Journal("boots"), d.log)
	d.times.WakeWith(d.heartbeats.Wait)
	d.linkBeat = d.heartbeats.Register("link")
	d.open = refresh.New(func() access.Found { return access.Look(d.config().Places(o.Runtime)) }, nil)
	d.box = outbox.New(outbox.Options{Spool: d.spool, Config: cfg, Clock: o.Clock, Boots: d.times.Boots(), Acked: o.Acked})
	g := d.newGeneration(cfg, nil)
	d.present.Store(g)
	d.health.Know(g.subjects)
	if err := d.buildLink(g); err != nil {
		return err
	}
	d.provisioner = newProvisioner(d, cfg)
	d.events.take, d.events.late = d.take, wake.New()
	d.bank = output.New(output.Options{
		Board: o.Board, Outputs: cfg.Outputs, Record: d.recordPath(), Held: o.Held, Store: d.store(), Unstore: systemd.RemoveHandle, Levels: d.spool.Journal("levels"),
		Clock: o.Clock, Health: d.health, Heartbeat: d.heartbeats.Register("output timers"), Log: d.log, Event: d.events.put,
	})
	d.totals = totals.New(totals.Options{Storage: d.spool.Journal("totals"), Health: d.health, Log: d.log})
	d.totals.Configure(sensorNames(cfg.Sensors))
	d.history = history.New(history.Options{
		Settings: historySettings(cfg), Files: history.Files{d.spool.Journal("history-1"), d.spool.Journal("history-2")}, Clock: o.Clock, Health: d.health, Log: d.log,
	})
	d.sampler = sampler.New(sampler.Options{
		Board: o.Board, Sensors: cfg.Sensors, Run: d.spool.RunNumber(), Clock: o.Clock, Health: d.health,
		Heartbeat: d.heartbeats.Register("scheduler"), Log: d.log, Emit: d.takeAll, Linger: cfg.Readings.Linger, Rest: d.spool.Flush,
		Totals: d.totals,
	})
	d.dispatcher = command.New(command.Options{
		Thing: cfg.Thing, Topic: g.ordersTopic(), MaxLife: cfg.Commands.MaxLife, Outputs: d.bank, Clock: o.Clock, Answer: d.answer,
		Journal: d.spool.Journal("orders"), RuntimeJournal: d.runtimeJournal(), Health: d.health, Log: d.log, Unstamped: g.unstamped(),
	})
	d.local = local.New(local.Options{Path: o.Socket, Endpoints: socketCalls{d}.endpoints(), Health: d.health, Log: d.log})
	d.bank.Claim()
	return nil
}

// buildLink makes the link, and the memory of what its sessions hold.
func (d *Daemon) buildLink(g *generation) (err error) {
	d.subscriptions = uplink.NewSubscriptionLog(g.link.ClientID, g.session, d.spool.Journal("subscriptions"), d.log)
	c := g.link
	c.Observe, c.Unsubscribe, c.Unsubscribed = d.linked, d.subscriptions.Stale(), d.subscriptions.Released
	d.link, err = uplink.New(c)
	return err
}

// Run runs the daemon until ctx ends, then ends it in order. It returns nil
// after an orderly end; an error when a part ended by itself or did not end.
func (d *Daemon) Run(ctx context.Context) error {
	failed := d.failed
	keeping := task.Start("spool", failed, d.spool.Run)
	timing := task.Start("clock, subscriptions, totals and history", failed, d.remember)
	pins := task.Start("outputs", failed, d.bank.Run)
	reading := task.Start("sampler", failed, d.sampler.Run)
	d.fetching.Store(task.Start("credentials", failed, d.generation().files.Run))
	looking := task.Start("access", failed, d.open.Run)
	linking := task.Start("link", failed, d.link.Run)
	renewing := task.Start("provisioning", failed, provisioning(d.provisioner))
	following := task.Start("configuration of the link", failed, d.followLate)
	orders := task.Start("orders", failed, func(ctx context.Context) error { return d.dispatcher.Serve(ctx, d.link.Messages()) })
	telling := task.Start("status", failed, d.tell)
	proving := task.Start("watchdog", failed, d.prove)
	serving := task.Start("local socket", failed, d.serveLocal)
	d.metering.Store(socketCalls{d}.serveMetrics(d.config()))
	d.paging.Store(socketCalls{d}.servePage(d.config()))
	ended := task.Guard(func() error { return d.await(ctx) })
	return errors.Join(ended, d.guardShutdown(func() error {
		return d.shutdown(ended, orders, serving, pins, reading, linking, following, renewing, looking, telling, proving, timing, keeping)
	}))
}

// await says that the daemon has started, and waits until ctx ends, or a part of the daemon
// has ended or panicked, which is the error.
func (d *Daemon) await(ctx context.Context) error {
	cfg := d.config()
	d.log.Info("started", systemd.MessageID(health.StartedID), "thing", cfg.Thing, "spool", d.spool.Source().Spool, "run", d.spool.RunNumber(), "version", d.o.Version,
		"board", d.o.Board.String(), "sensors", len(cfg.Sensors), "outputs", len(cfg.Outputs))
	d.notice(d.o.Notify.Ready(d.statusLine()))
	d.turn.giveBack() // from now on swaps may run
	select {
	case <-ctx.Done():
		return nil
	case err := <-d.failed:
		return err
	}
}

// guardShutdown calls shutdown. If that panics, the lines are still made safe and handed
// over, and the panic is an error.
func (d *Daemon) guardShutdown(shutdown func() error) error {
	var err error
	panicked := task.Guard(func() error {
		err = shutdown()
		return nil
	})
	if panicked == nil {
		return err
	}
	return errors.Join(panicked, d.handOver())
}

// shutdown stops the daemon in the only safe order: no more orders, pins safe, sensors
// closed, messages and `offline` sent, disconnected, spool on disk. Each step has a time
// limit, so a line or disk that hangs delays no other step for long; all limits together
// are less than TimeoutStopSec of the unit. Pins come first, even before the first line
// of the log, because the log may block; orders that wait for a min_on end with them.
// ended is the reason, or nil after a signal.
func (d *Daemon) shutdown(ended error, orders, serving, pins, reading, linking, following, renewing, looking, telling, proving, timing, keeping *task.Task) error {
	d.failing.Store(ended != nil)
	d.stop()
	orders.Cancel()
	serving.Cancel()
	looking.Cancel()
	following.Cancel()
	renewing.Cancel()
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
	try(d.awaitSwap(time.Second))
	if metering := d.metering.Load(); metering != nil {
		try(metering.Stop(time.Second))
	}
	if paging := d.paging.Load(); paging != nil {
		try(paging.Stop(time.Second))
	}
	try(orders.Stop(2 * time.Second))
	d.events.release()
	try(reading.Stop(5 * time.Second))
	if d.config().Spool.AtRisk == 0 { // nothing is sent that is not on disk
		limit, over := context.WithTimeout(context.Background(), time.Second)
		d.spool.Settle(limit) // what comes at the stop itself is to be sent by the link's end
		over()
	}
	try(linking.Stop(12 * time.Second))
	for _, p := range []*task.Task{d.fetching.Load(), telling, proving} { // a message to systemd may take a second
		p.Cancel()
	}
	try(proving.Stop(3 * time.Second / 2))
	try(task.StopAll(time.Second/2, following, renewing, telling, d.fetching.Load(), looking))
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

// awaitSwap waits until a swap that is under way has ended. No other swap can begin.
func (d *Daemon) awaitSwap(limit time.Duration) error {
	over := time.NewTimer(limit)
	defer over.Stop()
	select {
	case <-d.turn:
		return nil
	case <-over.C:
		return fmt.Errorf("end the swap of the configuration: still under way after %v", limit)
	}
}

// answer puts an answer into the spool. kept is closed when a crash can no longer lose
// the answer, and never closed if it could not be stored.
func (d *Daemon) answer(r message.Record) (kept <-chan struct{}) {
	r = d.register(r)
	kept, err := d.spool.AppendKept(r)
	if err != nil {
		d.log.Error("cannot store an answer in the spool", "err", err)
		return make(chan struct{})
	}
	d.events.answered(r.Field("id"))
	return kept
}
