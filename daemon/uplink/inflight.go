package uplink

import (
	"sync"
	"time"

	"fieldpost/daemon/wake"
)

// inFlight is a message that was sent and is not acknowledged.
type inFlight struct {
	id          uint64 // the outbox's
	packet      uint16 // the packet identifier
	topic       string
	size        int // of the packet, in bytes, roughly
	sent        time.Time
	acked       bool // its PUBACK has come
	urgent      bool // somebody waits for its PUBACK
	overAWSRate bool // sent in a second in which AWS IoT Core takes no more
}

// window is the in-flight window of one connection: the messages that were sent and
// are not acknowledged, in the order sent, and how many bytes of them there may be.
type window struct {
	messages []inFlight
	limit    byteLimit
}

// add adds a message that is sent.
func (w *window) add(m inFlight) { w.messages = append(w.messages, m) }

// len gives how many messages are in flight.
func (w *window) len() int { return len(w.messages) }

// full reports whether so many bytes are in flight that no more may follow.
func (w *window) full(now time.Time) bool { return w.bytes() >= w.limit.max(now) }

// bytes gives the bytes of the messages whose PUBACK has not come.
func (w *window) bytes() (n int) {
	for _, m := range w.messages {
		if !m.acked {
			n += m.size
		}
	}
	return n
}

// unacked gives how many messages wait for their PUBACK, and whether somebody else waits
// for one of them.
func (w *window) unacked() (n int, urgent bool) {
	for _, m := range w.messages {
		if !m.acked {
			n, urgent = n+1, urgent || m.urgent
		}
	}
	return n, urgent
}

// acked notes a PUBACK. One for nothing that is in flight is ignored.
func (w *window) acked(packet uint16, now time.Time) {
	for i := range w.messages {
		if w.messages[i].packet == packet {
			w.messages[i].acked = true
			w.limit.noteAck(w.messages[i], now)
			return
		}
	}
}

// takeAcked removes the acknowledged messages that all before them are acknowledged
// too, and gives them, in order.
func (w *window) takeAcked() []inFlight {
	n := 0
	for n < len(w.messages) && w.messages[n].acked {
		n++
	}
	taken := w.messages[:n:n]
	w.messages = w.messages[n:]
	return taken
}

// takeAllAcked removes all acknowledged messages and gives them, in order.
func (w *window) takeAllAcked() (taken []inFlight) {
	var left []inFlight
	for _, m := range w.messages {
		if m.acked {
			taken = append(taken, m)
		} else {
			left = append(left, m)
		}
	}
	w.messages = left
	return taken
}

const (
	minBytesInFlight = 8 << 10                // whatever the link
	ackSpan          = 500 * time.Millisecond // and a round trip: for so long a link may be kept busy by what is in flight
)

// byteLimit bounds the bytes in flight: twice what the broker acknowledged within a
// round trip and half a second, and 8 KiB at least. A fast link gets twice as many
// after each round trip, until the window of messages is what bounds it. A slow link
// gets what it takes in a second or two, so that what is urgent does not wait behind
// dozens of batches that the kernel has already. The limit goes by acknowledged bytes
// and not by the time that acknowledgements take, as that says nothing where many
// messages are in flight.
type byteLimit struct {
	roundTrip   time.Duration // the shortest time that an acknowledgement took; 0 while there was none
	began       time.Time     // of the present span
	acked       int           // bytes acknowledged in it
	ackedBefore int           // in the span before
}

// noteAck notes an acknowledgement.
func (l *byteLimit) noteAck(m inFlight, now time.Time) {
	if d := max(now.Sub(m.sent), 1); l.roundTrip == 0 || d < l.roundTrip {
		l.roundTrip = d
	}
	l.roll(now)
	l.acked += m.size
}

// roll begins a new span where the present one is over.
func (l *byteLimit) roll(now time.Time) {
	switch over := now.Sub(l.began) - l.roundTrip - ackSpan; {
	case over < 0:
		return
	case over < l.roundTrip+ackSpan:
		l.ackedBefore = l.acked
	default: // nothing came for longer
		l.ackedBefore = 0
	}
	l.began, l.acked = now, 0
}

// max gives how many bytes may be in flight before another message is sent.
func (l *byteLimit) max(now time.Time) int {
	l.roll(now)
	return max(minBytesInFlight, 2*max(l.acked, l.ackedBefore))
}

// maxPubacks bounds the PUBACKs that wait: far more than the window can be for what
// we have sent.
const maxPubacks = 4096

// pubacks hands PUBACKs from the goroutine that reads to Run's, which it wakes only when
// as many have come as that waits for.
type pubacks struct {
	ready wake.Signal // set when enough have come

	mu     sync.Mutex
	came   []cameAck
	enough int // so many; 0 and 1 are each
}

// cameAck is a PUBACK that has come.
type cameAck struct {
	packet uint16 // its packet identifier
	at     time.Time
}

// add adds one, and reports whether there was room. A broker that acknowledges only
// what we have sent cannot fill it.
func (a *pubacks) add(packet uint16) (ok bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	ok = len(a.came) < maxPubacks
	if ok {
		a.came = append(a.came, cameAck{packet, time.Now()})
	}
	if !ok || len(a.came) >= a.enough {
		a.ready.Set()
	}
	return ok
}

// await sets how many are enough.
func (a *pubacks) await(enough int) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.enough = enough
	if n := len(a.came); n > 0 && n >= enough {
		a.ready.Set()
	}
}

// takeEach calls f for each PUBACK that has come.
func (a *pubacks) takeEach(f func(packet uint16, at time.Time)) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, p := range a.came {
		f(p.packet, p.at)
	}
	a.came = a.came[:0]
}
