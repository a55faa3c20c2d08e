package command

import (
	"slices"
	"time"

	"fieldpost/daemon/clock"
)

// How long orders wait.
const (
	// laneMost is how many orders may wait for one output: what a broker sends at
	// once after an outage, and more.
	laneMost = 64
	// laneRoom is how many of them may wait for longer than crowdedAfter, because
	// the line hangs or the disk is slow. With the one that is under way they fit
	// into what a broker sends without acknowledgements (mosquitto 20, AWS IoT
	// Core 100), so that one hung line does not keep the orders for others away.
	laneRoom     = 8
	crowdedAfter = 5 * time.Second
	// unstampedLife is in how much time an order without an expiry that
	// energises must act. [CMD-7]
	unstampedLife = 10 * time.Second
	// safePatience is how long an order to the safe level waits for a line.
	safePatience = time.Minute
)

// ticket is an order on its way from the gate to its answer. The desk's mu
// guards what stands below order.
type ticket struct {
	from  source
	came  time.Time // with package time's monotonic clock
	order Order

	energises bool
	noted     bool          // its id is to be remembered
	note      *pending      // its intent, on its way to the disk
	lane      *lane         // where it waits; nil before and after
	turn      chan struct{} // closed when it is its turn
	hasTurn   bool
	begun     bool          // the line may move: it cannot be overtaken any more
	over      chan struct{} // closed when an order to the safe level has overtaken it
	overtaken bool
	lost      []func() bool // of all messages that brought it; one that is nil is never lost
	done      chan struct{} // closed when answer stands
	answer    Answer
}

func newTicket(o Order, from source) *ticket {
	return &ticket{
		order: o, from: from, came: time.Now(), lost: []func() bool{from.lost},
		turn: make(chan struct{}), over: make(chan struct{}), done: make(chan struct{}),
	}
}

// gone reports whether the connections of all messages that brought it have
// ended: the broker sends it again.
func (t *ticket) gone() bool {
	return !slices.ContainsFunc(t.lost, func(lost func() bool) bool { return lost == nil || !lost() })
}

// joins notes that the same order came once more, and forgets connections that
// have ended. It reports whether there is room.
func (t *ticket) joins(from source) bool {
	t.lost = slices.DeleteFunc(t.lost, func(lost func() bool) bool { return lost != nil && lost() })
	if len(t.lost) > laneRoom {
		return false
	}
	t.lost = append(t.lost, from.lost)
	return true
}

// left is how long an order may take until it acts.
func (t *ticket) left(now clock.Stamp, life time.Duration) time.Duration {
	switch {
	case !t.energises:
		return safePatience - time.Since(t.came)
	case t.order.Expires.IsZero():
		return unstampedLife - time.Since(t.came)
	}
	return min(t.order.Expires.Sub(now.Wall), life)
}

// lane is the orders for one output, in the order in which they came. The
// first has its turn. With the desk's mu held.
type lane struct{ queue []*ticket }

// enter puts an order at the end, and reports whether there is room. One to the
// safe level does not wait for the ledger: it overtakes the orders that have
// not begun, and those are not carried out any more.
func (l *lane) enter(t *ticket) bool {
	if !t.energises {
		for _, o := range slices.Clone(l.queue) {
			if o.energises && !o.begun {
				o.overtaken = true
				close(o.over)
				l.leave(o)
			}
		}
	}
	if len(l.queue) > laneMost {
		return false
	}
	l.queue = append(l.queue, t)
	t.lane = l
	l.next()
	return true
}

// leave takes an order out, and gives the next its turn.
func (l *lane) leave(t *ticket) {
	l.queue = slices.DeleteFunc(l.queue, func(o *ticket) bool { return o == t })
	t.lane = nil
	l.next()
}

// far reports whether so many are before an order that it is not to wait.
func (t *ticket) far() bool { return t.lane != nil && slices.Index(t.lane.queue, t) > laneRoom }

func (l *lane) next() {
	if len(l.queue) > 0 && !l.queue[0].hasTurn {
		l.queue[0].hasTurn = true
		close(l.queue[0].turn)
	}
}

// lane gives an output's lane. Only outputs that exist have one.
func (d *Desk) lane(name string) *lane {
	l, ok := d.lanes[name]
	if !ok {
		l = &lane{}
		d.lanes[name] = l
	}
	return l
}

// leave takes a ticket out of its lane, if it is in one.
func (t *ticket) leave() {
	if t.lane != nil {
		t.lane.leave(t)
	}
}
