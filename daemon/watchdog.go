package daemon

import (
	"context"
	"errors"
	"time"

	"fieldpost/daemon/output"
	"fieldpost/daemon/task"
)

// prove feeds the service manager's watchdog for as long as all loops turn,
// until ctx ends. It has a goroutine of its own and touches neither the spool
// nor, before the end, a line, so that it waits for no disk and no wire.
//
// The manager counts from the last feed, and the loop may have hung just
// after it had turned and been fed for: that would be up to a third of the time
// more. So a loop that has not turned for the whole time is told at once.
func (d *Daemon) prove(ctx context.Context) error {
	limit := d.o.Watchdog
	if limit == 0 {
		<-ctx.Done()
		return nil
	}
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-timer.C:
		}
		next := limit / 3
		stuck, ok := d.progress.Take()
		loop, idle := d.progress.Idle()
		switch {
		case ok:
			d.notice(d.o.Notify.Watchdog())
		case idle >= limit:
			d.hung(loop, idle)
		default:
			d.log.Warn("a loop does not turn; the watchdog is not fed", "loop", stuck)
			next = min(next, limit-idle)
		}
		timer.Reset(next)
	}
}

// hung has the service manager kill this daemon and start another. The lines
// come first and are handed over as at a stop: until every goroutine has
// printed where it is and the sandbox of `fieldpost safe` is set up, seconds
// pass on a small board. Where the outputs are what hangs, they are left to it.
func (d *Daemon) hung(loop string, idle time.Duration) {
	err := task.Within(time.Second, "make outputs safe", func() error {
		return errors.Join(d.bank.Safe(output.CauseStop), d.keepLines())
	})
	d.log.Error("a loop hangs; the service manager is to restart the daemon", "loop", loop, "for", idle)
	d.notice(d.o.Notify.Hung())
	if err != nil {
		d.log.Error("a loop hangs", "err", err)
	}
}
