package uplink

import (
	"sync"
	"time"

	"fieldpost/daemon/wake"
)

// inFlight is a message that was sent and is not acknowledged yet.
type inFlight struct {
	id          uint64 // the outbox's id of the message
	packet      uint16 // the packet identifier
	topic       string
	size        int // approximate size of the packet, in bytes
	sent        time.Time
	acked       bool // its PUBACK has come
	urgent      bool // somebody waits for its PUBACK
	overAWSRate bool // sent in a second in which AWS IoT Core would accept no more
}

// window is the in-flight window of one connection: the messages that were sent and are not
// acknowledged, in the order sent, and the limit of their bytes.
type window struct {
	messages []inFlight
	limit    byteLimit
}

// add adds a message that was sent.
func (w *window) add(m inFlight) { w.messages = append(w.messages, m) }

// len returns the number of messages in flight.
func (w *window) len() int { return len(w.messages) }

// full reports whether so many bytes are in flight that no further message may follow.
func (w *window) full(now time.Time) bool { return w.bytes() >= w.limit.max(now) }

// bytes returns the bytes of the messages whose PUBACK has not come.
func (w *window) bytes() (n int) {
	for _, m := range w.messages {
		if !m.acked {
			n += m.size
		}
	}
	return n
}

// unacked returns how many messages wait for their PUBACK, and whether one of them is urgent.
func (w *window) unacked() (n int, urgent bool) {
	for _, m := range w.messages {
		if !m.acked {
			n, urgent = n+1, urgent || m.urgent
		}
	}
	return n, urgent
}

// acked records a PUBACK. It ignores one that does not belong to a message in flight.
func (w *window) acked(packet uint16, now time.Time) {
	for i := range w.messages {
		if w.messages[i].packet == packet {
			w.messages[i].acked = true
			w.limit.noteAck(w.messages[i], now)
			return
		}
	}
}

// takeAcked removes and returns, in order, the acknowledged messages up to the first that is
// not acknowledged.
func (w *window) takeAcked() []inFlight {
	n := 0
	for n < len(w.messages) && w.messages[n].acked {
		n++
	}
	taken := w.messages[:n:n]
	w.messages = w.messages[n:]
	return taken
}

// takeAllAcked removes and returns all acknowledged messages, in order.
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
	minBytesInFlight = 8 << 10                // however slow the link is
	ackSpan          = 500 * time.Millisecond // plus a round trip: how long the bytes in flight may keep a link busy
)

// byteLimit bounds the bytes in flight: twice what the broker acknowledged within a round
// trip and half a second, and at least 8 KiB. On a fast link the limit doubles after each
// round trip, until the window of messages is the limit. A slow link gets what it can carry
// in a second or two, so an urgent message does not wait behind dozens of batches that the
// kernel already has. The limit is based on acknowledged bytes and not on the time that
// acknowledgements take, because that time says nothing when many messages are in flight.
type byteLimit struct {
	roundTrip   time.Duration // the shortest time until an acknowledgement; 0 if there was none yet
	began       time.Time     // start of the current span
	acked       int           // bytes acknowledged in the current span
	ackedBefore int           // bytes acknowledged in the previous span
}

// noteAck records an acknowledgement.
func (l *byteLimit) noteAck(m inFlight, now time.Time) {
	if d := max(now.Sub(m.sent), 1); l.roundTrip == 0 || d < l.roundTrip {
		l.roundTrip = d
	}
	l.roll(now)
	l.acked += m.size
}

// roll starts a new span if the current one is over.
func (l *byteLimit) roll(now time.Time) {
	switch over := now.Sub(l.began) - l.roundTrip - ackSpan; {
	case over < 0:
		return
	case over < l.roundTrip+ackSpan:
		l.ackedBefore = l.acked
	default: // nothing has come for more than a span
		l.ackedBefore = 0
	}
	l.began, l.acked = now, 0
}

// max returns how many bytes may be in flight before another message is sent.
func (l *byteLimit) max(now time.Time) int {
	l.roll(now)
	return max(minBytesInFlight, 2*max(l.acked, l.ackedBefore))
}

// maxPubacks bounds the waiting PUBACKs. It is far more than the window can be.
const maxPubacks = 4096

// pubacks passes PUBACKs from the reading goroutine to Run's goroutine. It wakes Run's
// goroutine only when there are as many as that waits for.
type pubacks struct {
	ready wake.Signal // set when enough have come

	mu     sync.Mutex
	came   []cameAck
	enough int // how many are enough; 0 and 1: every one
}

// cameAck is a PUBACK that was received.
type cameAck struct {
	packet uint16 // its packet identifier
	at     time.Time
}

// add adds a PUBACK and reports whether there was room. A broker that acknowledges only what
// we have sent cannot fill it.
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

// takeEach removes all PUBACKs and calls f for each.
func (a *pubacks) takeEach(f func(packet uint16, at time.Time)) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, p := range a.came {
		f(p.packet, p.at)
	}
	a.came = a.came[:0]
}
