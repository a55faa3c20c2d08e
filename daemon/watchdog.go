package daemon

import (
	"context"
	"time"
)

// prove feeds the service manager's watchdog for as long as all loops turn,
// until ctx ends. It has a goroutine of its own and touches neither the spool
// nor a line, so that it waits for no disk and no wire.
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
			d.log.Error("a loop hangs; the service manager is to restart the daemon", "loop", loop, "for", idle)
			d.notice(d.o.Notify.Hung())
		default:
			d.log.Warn("a loop does not turn; the watchdog is not fed", "loop", stuck)
			next = min(next, limit-idle)
		}
		timer.Reset(next)
	}
}
