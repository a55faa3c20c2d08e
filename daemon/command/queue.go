package command

import (
	"slices"
	"time"

	"fieldpost/daemon/clock"
)

// How long orders wait.
const (
	// maxQueued is how many orders may wait for one output: what a broker sends at
	// once after an outage, and more.
	maxQueued = 64
	// maxQueuedLong is how many of them may wait for longer than crowdedAfter, because
	// the line hangs or the disk is slow. With the one that is under way they fit
	// into what a broker sends without acknowledgements (mosquitto 20, AWS IoT
	// Core 100), so that one hung line does not keep the orders for others away.
	maxQueuedLong = 8
	crowdedAfter  = 5 * time.Second
	// unstampedLife is in how much time an order without an expiry that
	// energises must act. [CMD-7]
	unstampedLife = 10 * time.Second
	// safePatience is how long an order to the safe level waits for a line.
	safePatience = time.Minute
)

// job is an order on its way from the gate to its answer. The dispatcher's mu
// guards the fields below order.
type job struct {
	from  source
	came  time.Time // with package time's monotonic clock
	order Order

	energises bool
	remember  bool          // its id is to be remembered
	intent    *queuedWrite  // its intent, on its way to the disk
	queue     *outputQueue  // where it waits; nil before and after
	turn      chan struct{} // closed when it is its turn
	hasTurn   bool
	begun     bool          // the line may move: it cannot be overtaken any more
	over      chan struct{} // closed when an order to the safe level has overtaken it
	overtaken bool
	lost      []func() bool // of all messages that brought it; one that is nil is never lost
	done      chan struct{} // closed when answer stands
	answer    Answer
}

func newJob(o Order, from source) *job {
	return &job{
		order: o, from: from, came: time.Now(), lost: []func() bool{from.lost},
		turn: make(chan struct{}), over: make(chan struct{}), done: make(chan struct{}),
	}
}

// allLost reports whether the connections of all messages that brought it have
// ended: the broker sends it again.
func (j *job) allLost() bool {
	return !slices.ContainsFunc(j.lost, func(lost func() bool) bool { return lost == nil || !lost() })
}

// join notes that the same order came once more, and forgets connections that
// have ended. It reports whether there is room.
func (j *job) join(from source) bool {
	j.lost = slices.DeleteFunc(j.lost, func(lost func() bool) bool { return lost != nil && lost() })
	if len(j.lost) > maxQueuedLong {
		return false
	}
	j.lost = append(j.lost, from.lost)
	return true
}

// timeLeft is how long an order may take until it acts.
func (j *job) timeLeft(now clock.Stamp, life time.Duration) time.Duration {
	switch {
	case !j.energises:
		return safePatience - time.Since(j.came)
	case j.order.Expires.IsZero():
		return unstampedLife - time.Since(j.came)
	}
	return min(j.order.Expires.Sub(now.Wall), life)
}

// outputQueue is the orders for one output, in the order in which they came. The
// first has its turn. With the dispatcher's mu held.
type outputQueue struct{ jobs []*job }

// add puts an order at the end, and reports whether there is room. One to the
// safe level does not wait for the ledger: it overtakes the orders that have
// not begun, and those are not carried out any more.
func (q *outputQueue) add(j *job) bool {
	if !j.energises {
		for _, other := range slices.Clone(q.jobs) {
			if other.energises && !other.begun {
				other.overtaken = true
				close(other.over)
				q.remove(other)
			}
		}
	}
	if len(q.jobs) > maxQueued {
		return false
	}
	q.jobs = append(q.jobs, j)
	j.queue = q
	q.startNext()
	return true
}

// remove takes an order out, and gives the next its turn.
func (q *outputQueue) remove(j *job) {
	q.jobs = slices.DeleteFunc(q.jobs, func(other *job) bool { return other == j })
	j.queue = nil
	q.startNext()
}

// farBack reports whether so many are before an order that it is not to wait.
func (j *job) farBack() bool { return j.queue != nil && slices.Index(j.queue.jobs, j) > maxQueuedLong }

func (q *outputQueue) startNext() {
	if len(q.jobs) > 0 && !q.jobs[0].hasTurn {
		q.jobs[0].hasTurn = true
		close(q.jobs[0].turn)
	}
}

// queueLocked gives an output's queue. Only outputs that exist have one.
func (d *Dispatcher) queueLocked(name string) *outputQueue {
	q, ok := d.queues[name]
	if !ok {
		q = &outputQueue{}
		d.queues[name] = q
	}
	return q
}

// leaveQueue takes a job out of its queue, if it is in one.
func (j *job) leaveQueue() {
	if j.queue != nil {
		j.queue.remove(j)
	}
}
