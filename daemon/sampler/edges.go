package sampler

import (
	"cmp"
	"fmt"
	"time"

	"fieldpost/daemon/clock"
	"fieldpost/daemon/health"
	"fieldpost/daemon/message"
	"fieldpost/sensors"
	"fieldpost/sensors/board"
)

// openedLine is a line that was opened, on its way to the follower.
type openedLine struct {
	edges <-chan board.Edge
	taken chan struct{} // closed when all that the line before it had to tell is told
}

// follow has a sensor's edges handed on, until the runner ends. It returns when
// those of the line opened before are, so that what is read of the new line is
// told after them. Only the runner calls it, and waits for the follower at its
// end.
func (u *unit) follow(edges <-chan board.Edge) {
	if u.opened == nil {
		u.opened = make(chan openedLine)
		f := newFollower(u)
		u.followers.Go(f.run)
	}
	l := openedLine{edges, make(chan struct{})}
	u.opened <- l
	<-l.taken
}

// follower hands on one sensor's edges: each by itself, or while the line
// changes more often than max_edges allows all of a second as one summary. Its
// fields are its goroutine's own.
type follower struct {
	u      *unit
	rate   int // max_edges, changes a second
	bucket bucket
	edges  <-chan board.Edge // nil while there is no line
	tick   *time.Ticker      // goes while the line chatters

	chatters bool
	since    time.Time  // when the last summary was due
	changes  uint64     // since the last message about the line
	last     board.Edge // the last of them
	calm     int        // summaries in a row that were calm
}

func newFollower(u *unit) *follower {
	o, _ := u.driver.config.Options.(sensors.GPIO)
	rate := cmp.Or(o.MaxEdges, sensors.DefaultMaxEdges)
	f := &follower{u: u, rate: rate, bucket: newBucket(rate), tick: time.NewTicker(summaryEvery)}
	f.tick.Stop()
	return f
}

// run hands on edges until the runner ends, and then what has arrived.
func (f *follower) run() {
	defer f.tick.Stop()
	for {
		select {
		case e, open := <-f.edges:
			if open {
				f.edge(e)
			} else {
				f.edges = nil
			}
		case l := <-f.u.opened:
			f.settle()
			f.edges = l.edges
			close(l.taken)
		case now := <-f.tick.C:
			f.summary(now)
		case <-f.u.quit:
			f.settle()
			return
		}
	}
}

// settle tells all that has arrived.
func (f *follower) settle() {
	f.drain()
	f.flush()
}

// drain takes the edges that have arrived.
func (f *follower) drain() {
	for range len(f.edges) {
		f.edge(<-f.edges)
	}
}

// edge tells a change, or while the line chatters counts it.
func (f *follower) edge(e board.Edge) {
	n := uint64(e.Lost) + 1
	switch {
	case f.chatters:
		f.changes, f.last = f.changes+n, e
		return
	case !f.bucket.take(n, e.Mono):
		f.begin(n, e)
		return
	case e.Lost > 0:
		f.u.o.Health.Raise(health.EdgesLost, f.u.name, fmt.Sprintf("%d changes were not seen", e.Lost))
		if !f.u.lost.Swap(true) {
			f.u.o.Log.Warn("edges lost", "sensor", f.u.name, "lost", e.Lost)
		}
	}
	f.tell(e, n)
}

// begin begins to count changes. Those that the kernel dropped count too, so
// that none of them is lost to whoever reads the summary.
func (f *follower) begin(n uint64, e board.Edge) {
	f.chatters, f.changes, f.last, f.calm, f.since = true, n, e, 0, time.Now()
	f.tick.Reset(summaryEvery)
	f.u.o.Health.Raise(health.Chatters, f.u.name, fmt.Sprintf("changes more often than max_edges allows, %d/s", f.rate))
}

// summary tells the changes since the last one, and finds out whether the line
// still chatters.
func (f *follower) summary(now time.Time) {
	f.drain()
	n, over := f.changes, now.Sub(f.since).Seconds()
	f.since = now
	f.flush()
	switch limit := float64(f.rate) * over; {
	case 2*float64(n) <= limit:
		f.calm++
	default:
		f.calm = 0
		f.u.o.Health.Raise(health.Chatters, f.u.name, fmt.Sprintf("%.0f changes/s; max_edges allows %d/s", float64(n)/over, f.rate))
	}
	if f.calm < calmFor {
		return
	}
	f.chatters = false
	f.tick.Stop()
	f.bucket.fill()
	f.u.o.Health.Clear(health.Chatters, f.u.name)
}

// flush tells what was counted.
func (f *follower) flush() {
	if f.changes > 0 {
		f.tell(f.last, f.changes)
	}
	f.changes = 0
}

// tell hands on the line's level since its last change, and for how many changes
// the record stands. What was read has no such count: so a receiver can tell the
// two apart, and add up the counts.
func (f *follower) tell(e board.Edge, changes uint64) {
	u := f.u
	field := "active"
	if q := u.driver.chip.Quantities; len(q) > 0 {
		field = q[0].Name
	}
	fields := []sensors.Field{{Name: field, Value: e.Active}, {Name: "changes", Value: int64(changes)}}
	u.emit(message.Record{Kind: message.Edge, Stamp: stampOf(u.o.Clock.Now(), e.Mono), Fields: fields})
}

// stampOf gives the moment of an edge from the one at which it arrived here.
//
// The kernel stamps edges on CLOCK_MONOTONIC, and now.Mono is CLOCK_BOOTTIME.
// The two differ by the time the machine was suspended (clock_gettime(2)), and
// the boards that fieldpost is for do not suspend. An edge from the future is
// of a clock that cannot be compared; it happened now.
func stampOf(now clock.Stamp, mono time.Duration) clock.Stamp {
	age := max(now.Mono-mono, 0)
	now.Mono -= age
	now.Wall = now.Wall.Add(-age)
	return now
}
