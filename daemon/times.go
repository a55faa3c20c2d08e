package daemon

import (
	"context"
	"iter"
	"log/slog"
	"slices"
	"time"

	"fieldpost/daemon/clock"
	"fieldpost/daemon/spool"
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

// timesJournal is where times keeps what it knows: a [spool.Journal].
type timesJournal interface {
	Replay(take func(payload []byte)) (spool.Damage, error)
	Rewrite(entries iter.Seq[[]byte]) error
}

// times remembers over reboots when each boot knew the time, so that what waits
// in the spool since before then can still be given its own. It writes once when
// the clock becomes true, and again when it was set or had been lost. What it
// cannot read or write costs only those times.
//
// It is run's alone, but for boots.
type times struct {
	clock   clock.Clock
	journal timesJournal
	log     *slog.Logger
	boots   clock.Boots

	read   bool          // the journal has been read
	kept   clock.Stamp   // what this run wrote last; zero is nothing
	lapsed bool          // the clock was not true since then
	next   time.Duration // no write before then, on the time since boot
	failed bool          // the last write did
}

// newTimes reads what earlier boots have left.
func newTimes(c clock.Clock, j timesJournal, log *slog.Logger) *times {
	t := &times{clock: c, journal: j, log: log}
	t.load()
	return t
}

// load reads the journal, once it can be. Where the spool's directory cannot be
// used, the spool says so.
func (t *times) load() {
	if t.read {
		return
	}
	strange := 0
	damage, err := t.journal.Replay(func(entry []byte) {
		if !t.boots.Read(entry) {
			strange++
		}
	})
	t.read = err == nil
	if n := strange + damage.Holes; n > 0 || damage.Tail > 0 {
		t.log.Warn("times of earlier boots are damaged; what they took before they knew the time is sent without it", "places", n, "tail", damage.Tail)
	}
}

// run looks at the clock until ctx ends, and then once more.
func (t *times) run(ctx context.Context) error {
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	for {
		t.look(false)
		select {
		case <-ctx.Done():
			t.look(true)
			return nil
		case <-tick.C:
		}
	}
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
	// What could not be read by now is gone.
	t.read, t.failed, t.lapsed = true, false, false
	t.kept, t.next = now, now.Mono+timesEvery
}

// apart is by how much the wall clock was set between two moments of one boot.
func apart(a, b clock.Stamp) time.Duration {
	return (b.Wall.Sub(a.Wall) - (b.Mono - a.Mono)).Abs()
}
