package command

import (
	"slices"
	"time"

	"fieldpost/daemon/clock"
)

// How long orders wait.
const (
	// maxQueued is how many orders may wait for one output, more than a broker sends at
	// once after an outage.
	maxQueued = 64
	// maxQueuedLong is how many of them may wait for longer than crowdedAfter, because
	// the line hangs or the disk is slow. With the present one they must fit into the
	// number that a broker sends without acknowledgements (mosquitto 20, AWS IoT Core
	// 100), so that one hung line does not block orders for other outputs.
	maxQueuedLong = 8
	crowdedAfter  = 5 * time.Second
	// unstampedLife is the time within which an energising order without an expiry must
	// act. [CMD-7]
	unstampedLife = 10 * time.Second
	// safePatience is how long an order to the safe level waits for a line.
	safePatience = time.Minute
)

// job is an order between the gate and its answer. The dispatcher's mu guards the fields
// below order.
type job struct {
	from  source
	came  time.Time // on package time's monotonic clock
	order Order

	energises bool
	remember  bool          // record it under its id
	intent    *queuedWrite  // the write of its intent
	queue     *outputQueue  // its queue; nil before and after
	turn      chan struct{} // closed when its turn comes
	hasTurn   bool
	begun     bool          // the line may be set: it cannot be overtaken any more
	over      chan struct{} // closed when an order to the safe level has overtaken it
	overtaken bool
	lost      []func() bool // for each of its messages, whether the connection has ended; nil: never
	done      chan struct{} // closed when answer is set
	answer    Answer
}

func newJob(o Order, from source) *job {
	return &job{
		order: o, from: from, came: time.Now(), lost: []func() bool{from.lost},
		turn: make(chan struct{}), over: make(chan struct{}), done: make(chan struct{}),
	}
}

// allLost reports whether the connections of all its messages have ended, so the broker
// sends it again.
func (j *job) allLost() bool {
	return !slices.ContainsFunc(j.lost, func(lost func() bool) bool { return lost == nil || !lost() })
}

// join adds another message with the same order, and drops those whose connection has
// ended. It reports whether there is room.
func (j *job) join(from source) bool {
	j.lost = slices.DeleteFunc(j.lost, func(lost func() bool) bool { return lost != nil && lost() })
	if len(j.lost) > maxQueuedLong {
		return false
	}
	j.lost = append(j.lost, from.lost)
	return true
}

// timeLeft returns the time within which an order must act.
func (j *job) timeLeft(now clock.Stamp, life time.Duration) time.Duration {
	switch {
	case !j.energises:
		return safePatience - time.Since(j.came)
	case j.order.Expires.IsZero():
		return unstampedLife - time.Since(j.came)
	}
	return min(j.order.Expires.Sub(now.Wall), life)
}

// outputQueue holds the orders for one output, in the order in which they came. It is the
// first one's turn. Call its methods with the dispatcher's mu held.
type outputQueue struct{ jobs []*job }

// add appends an order and reports whether there is room. An order to the safe level
// overtakes those that have not begun, which are then not carried out.
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

// remove removes an order and starts the next one's turn.
func (q *outputQueue) remove(j *job) {
	q.jobs = slices.DeleteFunc(q.jobs, func(other *job) bool { return other == j })
	j.queue = nil
	q.startNext()
}

// farBack reports whether too many orders are in front of this one to keep waiting.
func (j *job) farBack() bool { return j.queue != nil && slices.Index(j.queue.jobs, j) > maxQueuedLong }

func (q *outputQueue) startNext() {
	if len(q.jobs) > 0 && !q.jobs[0].hasTurn {
		q.jobs[0].hasTurn = true
		close(q.jobs[0].turn)
	}
}

// queueLocked returns an output's queue. Only existing outputs have one.
func (d *Dispatcher) queueLocked(name string) *outputQueue {
	q, ok := d.queues[name]
	if !ok {
		q = &outputQueue{}
		d.queues[name] = q
	}
	return q
}

// leaveQueue removes a job from its queue, if it is in one.
func (j *job) leaveQueue() {
	if j.queue != nil {
		j.queue.remove(j)
	}
}
