package daemon

import (
	"context"
	"errors"
	"time"

	"fieldpost/daemon/output"
	"fieldpost/daemon/task"
)

// prove feeds the service manager's watchdog until ctx ends, as long as all loops
// beat. It has a goroutine of its own. It does not touch the spool, and no line before
// the end, so it waits for no disk and no wire.
//
// The manager counts from the last feed, and a loop may have hung just after its last
// beat, which was fed for: that would add up to a third of the time. So a loop that has
// not beaten for the whole time is reported at once.
func (p *process) prove(ctx context.Context) error {
	limit := p.o.Watchdog
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
		stuck, ok := p.heartbeats.Check()
		loop, idle := p.heartbeats.Slowest()
		switch {
		case ok:
			p.notice(p.o.Notify.Watchdog())
		case idle >= limit:
			p.hung(loop, idle)
		default:
			p.log.Warn("a loop does not beat; not feeding the watchdog", "loop", stuck)
			next = min(next, limit-idle)
		}
		timer.Reset(next)
	}
}

// hung has the service manager kill this daemon and start another. Before that it
// makes the lines safe and hands them over, as at a stop: on a small board seconds pass
// until every goroutine has printed where it is and the sandbox of `fieldpost safe` is
// set up. Where the outputs themselves hang, `fieldpost safe` does it.
func (p *process) hung(loop string, idle time.Duration) {
	err := task.Within(time.Second, "make outputs safe", func() error {
		return errors.Join(p.bank.Safe(output.CauseStop), p.keepLines())
	})
	p.log.Error("a loop hangs; asking the service manager to restart the daemon", "loop", loop, "for", idle)
	p.notice(p.o.Notify.Hung())
	if err != nil {
		p.log.Error("a loop hangs", "err", err)
	}
}
