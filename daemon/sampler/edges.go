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

// openedLine hands a line that was opened to the follower.
type openedLine struct {
	edges <-chan board.Edge
	taken chan struct{} // closed when all edges of the previous line are emitted
}

// followLine makes the follower emit a line's edges until the runner ends. It returns when
// the edges of the previous line are emitted, so readings of the new line come after them.
// Only the runner calls it.
func (r *runner) followLine(edges <-chan board.Edge) {
	if r.opened == nil {
		r.opened = make(chan openedLine)
		f := newFollower(r)
		r.followers.Go("edges", f.run)
	}
	l := openedLine{edges, make(chan struct{})}
	r.opened <- l
	<-l.taken
}

// follower emits one sensor's edges: each as a record, or one summary per second while the
// line chatters. Only its own goroutine uses its fields.
type follower struct {
	r      *runner
	rate   int // max_edges, changes per second
	bucket bucket
	edges  <-chan board.Edge // nil while there is no line
	tick   *time.Ticker      // runs while the line chatters

	chatters bool
	since    time.Time  // when the last summary was due
	changes  uint64     // since the last record
	last     board.Edge // the last of them
	calm     int        // calm summaries in a row
}

func newFollower(r *runner) *follower {
	o, _ := r.driver.config.Options.(sensors.GPIO)
	rate := cmp.Or(o.MaxEdges, sensors.DefaultMaxEdges)
	f := &follower{r: r, rate: rate, bucket: newBucket(rate), tick: time.NewTicker(summaryEvery)}
	f.tick.Stop()
	return f
}

// run emits edges until the runner ends, and then those that have arrived.
func (f *follower) run() {
	defer f.tick.Stop()
	for {
		select {
		case e, open := <-f.edges:
			if open {
				f.handleEdge(e)
			} else {
				f.edges = nil
			}
		case l := <-f.r.opened:
			f.emitAll()
			f.edges = l.edges
			close(l.taken)
		case now := <-f.tick.C:
			f.summarise(now)
		case <-f.r.quit:
			f.emitAll()
			return
		}
	}
}

// emitAll emits every change that has arrived.
func (f *follower) emitAll() {
	f.drainEdges()
	f.emitCounted()
}

// drainEdges handles the edges that have arrived.
func (f *follower) drainEdges() {
	for range len(f.edges) {
		f.handleEdge(<-f.edges)
	}
}

// handleEdge emits a change, or counts it while the line chatters.
func (f *follower) handleEdge(e board.Edge) {
	n := uint64(e.Lost) + 1
	switch {
	case f.chatters:
		f.changes, f.last = f.changes+n, e
		return
	case !f.bucket.takeTokens(n, e.Mono):
		f.startCounting(n, e)
		return
	case e.Lost > 0:
		f.r.o.Health.Raise(health.EdgesLost, f.r.name, fmt.Sprintf("%d changes were missed", e.Lost))
		if !f.r.lost.Swap(true) {
			f.r.o.Log.Warn("edges lost", "sensor", f.r.name, "lost", e.Lost)
		}
	}
	f.emitChanges(e, n)
}

// startCounting starts to count changes instead of emitting them. It also counts changes that
// the kernel dropped, so the summary is complete.
func (f *follower) startCounting(n uint64, e board.Edge) {
	f.chatters, f.changes, f.last, f.calm, f.since = true, n, e, 0, time.Now()
	f.tick.Reset(summaryEvery)
	f.r.o.Health.Raise(health.Chatters, f.r.name, fmt.Sprintf("changes more often than max_edges allows, %d/s", f.rate))
}

// summarise emits the changes since the last summary, and decides whether the line still
// chatters.
func (f *follower) summarise(now time.Time) {
	f.drainEdges()
	n, over := f.changes, now.Sub(f.since).Seconds()
	f.since = now
	f.emitCounted()
	switch limit := float64(f.rate) * over; {
	case 2*float64(n) <= limit:
		f.calm++
	default:
		f.calm = 0
		f.r.o.Health.Raise(health.Chatters, f.r.name, fmt.Sprintf("%.0f changes/s; max_edges allows %d/s", float64(n)/over, f.rate))
	}
	if f.calm < calmFor {
		return
	}
	f.chatters = false
	f.tick.Stop()
	f.bucket.fill()
	f.r.o.Health.Clear(health.Chatters, f.r.name)
}

// emitCounted emits the changes that were counted.
func (f *follower) emitCounted() {
	if f.changes > 0 {
		f.emitChanges(f.last, f.changes)
	}
	f.changes = 0
}

// emitChanges emits the line's level after its last change, with the number of changes that
// the record stands for. A reading has no such number, so a receiver can tell the two apart
// and add up the numbers.
func (f *follower) emitChanges(e board.Edge, changes uint64) {
	r := f.r
	field := "active"
	if q := r.driver.chip.Quantities; len(q) > 0 {
		field = q[0].Name
	}
	fields := []sensors.Field{{Name: field, Value: e.Active}, {Name: "changes", Value: int64(changes)}}
	r.records.emitNow(r.record(message.Edge, stampOf(r.o.Clock.Now(), e.Mono), fields))
}

// stampOf returns the stamp of an edge. now is when the edge arrived here, mono when the
// kernel saw it.
//
// The kernel stamps edges on CLOCK_MONOTONIC, and now.Mono is CLOCK_BOOTTIME. The two
// differ by the time that the machine was suspended (clock_gettime(2)); the boards that
// fieldpost is for do not suspend. An edge from the future comes from a clock that cannot
// be compared, so it counts as having happened now.
func stampOf(now clock.Stamp, mono time.Duration) clock.Stamp {
	age := max(now.Mono-mono, 0)
	now.Mono -= age
	now.Wall = now.Wall.Add(-age)
	return now
}
