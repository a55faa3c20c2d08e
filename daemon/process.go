package daemon

import (
	"context"
	"errors"
	"log/slog"
	"path/filepath"
	"sync/atomic"
	"time"

	"fieldpost/daemon/access"
	"fieldpost/daemon/clock"
	"fieldpost/daemon/command"
	"fieldpost/daemon/health"
	"fieldpost/daemon/history"
	"fieldpost/daemon/journal"
	"fieldpost/daemon/local"
	"fieldpost/daemon/message"
	"fieldpost/daemon/outbox"
	"fieldpost/daemon/output"
	"fieldpost/daemon/provision"
	"fieldpost/daemon/records"
	"fieldpost/daemon/refresh"
	"fieldpost/daemon/sampler"
	"fieldpost/daemon/task"
	"fieldpost/daemon/totals"
	"fieldpost/daemon/uplink"
)

// process is what lives as long as the process. What of it follows the configuration
// is told of each [generation], and changes no more than it has to.
type process struct {
	o       Options // without its configuration, which is the first generation's
	log     *slog.Logger
	started clock.Stamp

	// No configuration reaches these.
	health     *health.Health
	faults     faultQueue
	heartbeats health.Heartbeats
	times      *clock.BootLog
	open       *refresh.Value[access.Found]
	watch      linkWatch
	local      *local.Server
	seen       lastSeen
	measured   metricsText
	events     orderEvents
	linkBeat   *health.Heartbeat
	failing    atomic.Bool // it stops because a part ended by itself

	// These follow the configuration while they run.
	spool         *records.Spool
	bank          *output.Bank
	totals        *totals.Store
	history       *history.Store
	sampler       *sampler.Sampler
	box           *outbox.Outbox
	subscriptions *uplink.SubscriptionLog
	link          *uplink.Link
	provisioner   *provision.Provisioner // nil: the certificate comes from elsewhere
	dispatcher    *command.Dispatcher
}

// recordPath is where the crash record of the outputs is; "" is nowhere.
func (p *process) recordPath() string {
	if p.o.Runtime == "" {
		return ""
	}
	return filepath.Join(p.o.Runtime, "outputs")
}

// runtimeJournal is where orders are noted that the ledger cannot take.
func (p *process) runtimeJournal() journal.Storage {
	if p.o.Runtime == "" {
		return nil
	}
	return journal.FileAt(p.o.Runtime, "orders")
}

// remember keeps what is known over restarts beside the spool, until ctx ends: what
// the time was, what the broker's session may hold, what counters have counted, and past
// readings.
func (p *process) remember(ctx context.Context) error {
	others := task.NewGroup(ctx)
	var subscriptions, totals, history error
	others.Go("subscriptions", func() { subscriptions = p.subscriptions.Run(ctx) })
	others.Go("totals", func() { totals = p.totals.Run(ctx) })
	others.Go("history", func() { history = p.history.Run(ctx) })
	err := p.times.Run(ctx)
	others.Wait()
	return errors.Join(err, subscriptions, totals, history)
}

// take puts a record into the spool.
func (p *process) take(r message.Record) { p.takeAll([]message.Record{r}) }

// takeAll puts records into the spool at once. It sets their source.
func (p *process) takeAll(rs []message.Record) {
	for i := range rs {
		rs[i] = p.register(rs[i])
	}
	if err := p.spool.AppendAll(rs); err != nil {
		p.log.Error("cannot store messages in the spool", "messages", len(rs), "err", err)
	}
}

// register shows a record to those who follow what is taken, before the spool has it.
// It returns the record with its source.
func (p *process) register(r message.Record) message.Record {
	r.Source = p.spool.Source()
	if p.o.Taken != nil {
		p.o.Taken(r)
	}
	p.history.Record(r) // before the status shows it
	p.seen.put(r)
	return r
}

// farewellReason returns the reason in the last message of the run. Any goroutine.
func (p *process) farewellReason() string {
	if p.failing.Load() {
		return message.ReasonFailed
	}
	return message.ReasonStop
}

// abandon ends what a start that failed has begun: the lines that it has requested are made
// safe and handed over, and the spool is closed.
func (p *process) abandon() error {
	var errs []error
	if p.bank != nil {
		errs = append(errs, p.handOver(), task.Within(2*time.Second, "release outputs", p.bank.Close))
	}
	if p.spool != nil {
		errs = append(errs, task.Within(10*time.Second, "close the spool", p.spool.Close))
	}
	return errors.Join(errs...)
}

// handOver makes the lines safe and hands them to systemd, after a panic.
func (p *process) handOver() error {
	return task.Within(2*time.Second, "hand over outputs", func() error {
		return errors.Join(p.bank.Safe(output.CauseStop), p.keepLines())
	})
}

// notice logs that the service manager could not be told something.
func (p *process) notice(err error) {
	if err != nil {
		p.log.Warn("cannot notify the service manager", "err", err)
	}
}

// waiting counts the messages that the broker has not acknowledged.
func (p *process) waiting() uint64 { return uint64(p.spool.Stats().Pending()) }
