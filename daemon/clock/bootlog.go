package clock

import (
	"context"
	"log/slog"
	"slices"
	"time"

	"fieldpost/daemon/journal"
)

const (
	// lookEvery is how soon it is noticed that the clock has become true: a power
	// cut before then costs the times of what this boot took before it was.
	lookEvery = 10 * time.Second
	// A moment is written again only when it says something else, and then no more
	// often than this, but for the end of the run.
	timesEvery = time.Hour
	// timesRetry is how soon a write that failed is tried again.
	timesRetry = time.Minute
	// timesStep is by how much the wall clock must have been set for the moment to
	// be worth a write.
	timesStep = time.Second
)

// BootLog remembers over reboots when each boot knew the time, so that what waits
// in the spool since before then can still be given its own. It writes once when
// the clock becomes true, and again when it was set or had been lost. What it
// cannot read or write costs only those times.
//
// Run is for one goroutine; Boots may be called from any.
type BootLog struct {
	clock   Clock
	journal *journal.Journal
	log     *slog.Logger
	boots   Boots // any goroutine

	kept   Stamp         // what this run wrote last; zero is nothing
	lapsed bool          // the clock was not true since then
	next   time.Duration // no write before then, on the time since boot
	failed bool          // the last write did
}

// NewBootLog makes one that keeps its moments in s, and reads what earlier boots have
// left there.
func NewBootLog(c Clock, s journal.Storage, log *slog.Logger) *BootLog {
	l := &BootLog{clock: c, journal: journal.New(s), log: log}
	l.load()
	return l
}

// Boots gives what is known: it is learnt from as long as Run runs.
func (l *BootLog) Boots() *Boots { return &l.boots }

// load reads the journal, once it can be. Where the spool's directory cannot be
// used, the spool says so.
func (l *BootLog) load() {
	damage, err := l.journal.Read(l.boots.Read)
	if err == nil && damage.Any() {
		l.log.Warn("times of earlier boots are damaged; what they took before they knew the time is sent without it", "places", damage.Holes, "tail", damage.Tail)
	}
}

// Run looks at the clock until ctx ends, and then once more.
func (l *BootLog) Run(ctx context.Context) error {
	journal.Keep(ctx, nil, func(last bool) time.Duration {
		l.look(last)
		return lookEvery
	})
	return nil
}

// look takes note of the present moment, and writes it if that is news.
func (l *BootLog) look(last bool) {
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
			l.log.Warn("time of this boot cannot be kept; what it took before it knew the time is sent without it after a reboot", "err", err)
		}
		l.failed, l.next = true, now.Mono+timesRetry
		return
	}
	l.failed, l.lapsed = false, false
	l.kept, l.next = now, now.Mono+timesEvery
}

// apart is by how much the wall clock was set between two moments of one boot.
func apart(a, b Stamp) time.Duration {
	return (b.Wall.Sub(a.Wall) - (b.Mono - a.Mono)).Abs()
}
