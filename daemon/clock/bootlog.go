package clock

import (
	"context"
	"log/slog"
	"slices"
	"time"

	"fieldpost/daemon/journal"
)

const (
	// checkEvery bounds how late the log notices that the clock has become true. A power cut
	// before then costs the true times of this boot's records from before.
	checkEvery = 10 * time.Second
	// A moment is written again only when it says something new, and no more often than
	// this, except at the end of the run.
	timesEvery = time.Hour
	// timesRetry is when a failed write is tried again.
	timesRetry = time.Minute
	// timesStep is the smallest step of the wall clock that is worth a write.
	timesStep = time.Second
)

// BootLog stores, across reboots, a moment at which each boot knew the time. With it, older
// records in the spool can still get their true time. It writes once when the clock becomes
// true, and again when the clock was stepped or had lost its synchronisation. A failed read
// or write costs only those times.
//
// Run is for one goroutine. Any goroutine may call Boots.
type BootLog struct {
	clock   Clock
	journal *journal.Journal
	log     *slog.Logger
	boots   Boots                                                 // may be used by any goroutine
	wait    func(now time.Time, most time.Duration) time.Duration // see WakeWith

	kept   Stamp         // what this run wrote last; zero if nothing
	lapsed bool          // the clock has not been true for some time since
	next   time.Duration // no write before this time since boot
	failed bool          // the last write failed
}

// NewBootLog returns a log that stores its moments in s, and reads the moments of earlier
// boots from it.
func NewBootLog(c Clock, s journal.Storage, log *slog.Logger) *BootLog {
	l := &BootLog{clock: c, journal: journal.New(s), log: log, wait: func(_ time.Time, most time.Duration) time.Duration { return most }}
	l.load()
	return l
}

// WakeWith makes Run wake up together with other loops: wait returns how long Run may wait
// from now, at most most. Call it before Run.
func (l *BootLog) WakeWith(wait func(now time.Time, most time.Duration) time.Duration) { l.wait = wait }

// Boots returns the known moments. While Run runs, new ones are added.
func (l *BootLog) Boots() *Boots { return &l.boots }

// load reads the journal, once it can be read. If the spool's directory cannot be used, the
// spool reports that.
func (l *BootLog) load() {
	damage, err := l.journal.Read(l.boots.Read)
	if err == nil && damage.Any() {
		l.log.Warn("times of earlier boots are damaged; their early records are sent without their time", "places", damage.Holes, "tail", damage.Tail)
	}
}

// Run checks the clock until ctx ends, and then once more.
func (l *BootLog) Run(ctx context.Context) error {
	journal.Keep(ctx, nil, func(last bool) time.Duration {
		l.check(last)
		return l.wait(time.Now(), checkEvery)
	})
	return nil
}

// check takes the present moment, and writes it if it says something new.
func (l *BootLog) check(last bool) {
	l.load()
	now := l.clock.Now()
	if !now.Synced {
		l.lapsed = true
		return
	}
	l.boots.Learn(now)
	switch {
	case l.kept.Synced && !l.lapsed && apart(l.kept, now) < timesStep:
		return
	case now.Mono < l.next && !last:
		return
	}
	if err := l.journal.Rewrite(slices.Values(l.boots.Entries())); err != nil {
		if !l.failed {
			l.log.Warn("cannot store the time of this boot; its early records are sent without their time after a reboot", "err", err)
		}
		l.failed, l.next = true, now.Mono+timesRetry
		return
	}
	l.failed, l.lapsed = false, false
	l.kept, l.next = now, now.Mono+timesEvery
}

// apart returns how far the wall clock was stepped between two moments of one boot.
func apart(a, b Stamp) time.Duration {
	return (b.Wall.Sub(a.Wall) - (b.Mono - a.Mono)).Abs()
}
