package daemon

import (
	"context"
	"log/slog"
	"slices"
	"time"

	"fieldpost/daemon/clock"
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

// times remembers over reboots when each boot knew the time, so that what waits
// in the spool since before then can still be given its own. It writes once when
// the clock becomes true, and again when it was set or had been lost. What it
// cannot read or write costs only those times.
//
// It is run's alone, but for boots.
type times struct {
	clock   clock.Clock
	journal *journal.Journal
	log     *slog.Logger
	boots   clock.Boots

	kept   clock.Stamp   // what this run wrote last; zero is nothing
	lapsed bool          // the clock was not true since then
	next   time.Duration // no write before then, on the time since boot
	failed bool          // the last write did
}

// newTimes reads what earlier boots have left.
func newTimes(c clock.Clock, s journal.Storage, log *slog.Logger) *times {
	t := &times{clock: c, journal: journal.New(s), log: log}
	t.load()
	return t
}

// load reads the journal, once it can be. Where the spool's directory cannot be
// used, the spool says so.
func (t *times) load() {
	damage, err := t.journal.Read(t.boots.Read)
	if err == nil && damage.Any() {
		t.log.Warn("times of earlier boots are damaged; what they took before they knew the time is sent without it", "places", damage.Holes, "tail", damage.Tail)
	}
}

// run looks at the clock until ctx ends, and then once more.
func (t *times) run(ctx context.Context) error {
	journal.Keep(ctx, nil, func(last bool) time.Duration {
		t.look(last)
		return lookEvery
	})
	return nil
}

// look takes note of the present moment, and writes it if that is news.
func (t *times) look(last bool) {
	t.load()
	now := t.clock.Now()
	if !now.Synced {
		t.lapsed = true
		return
	}
	t.boots.Learn(now)
	switch {
	case t.kept.Synced && !t.lapsed && apart(t.kept, now) < timesStep:
		return
	case now.Mono < t.next && !last:
		return
	}
	if err := t.journal.Rewrite(slices.Values(t.boots.Entries())); err != nil {
		if !t.failed {
			t.log.Warn("time of this boot cannot be kept; what it took before it knew the time is sent without it after a reboot", "err", err)
		}
		t.failed, t.next = true, now.Mono+timesRetry
		return
	}
	t.failed, t.lapsed = false, false
	t.kept, t.next = now, now.Mono+timesEvery
}

// apart is by how much the wall clock was set between two moments of one boot.
func apart(a, b clock.Stamp) time.Duration {
	return (b.Wall.Sub(a.Wall) - (b.Mono - a.Mono)).Abs()
}
