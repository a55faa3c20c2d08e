package uplink

import "time"

const (
	minBytesInFlight = 8 << 10                // bytes that may be under way whatever the link
	ackSpan  = 500 * time.Millisecond // besides a round trip, for how long a link may be kept busy by what is under way
)

// transit bounds the bytes under way: twice what the broker acknowledged within a
// round trip and half a second, and 8 KiB at least. A link that is fast has twice
// as many after each round trip, until the window of messages is what binds; one
// that is slow has what it takes in a second or two, so that what matters does not
// wait behind dozens of batches that the kernel has already. It is the acknowledged
// bytes that are measured, and not the time they take, as that tells nothing where
// many are under way.
type byteLimit struct {
	roundTrip  time.Duration // the least that one acknowledgement took; 0 while there was none
	began time.Time     // of the present span
	acked   int           // bytes acknowledged in it
	ackedBefore  int           // in the one before
}

// acked takes note of an acknowledgement.
func (t *byteLimit) noteAck(f inFlight, at time.Time) {
	if d := max(at.Sub(f.sent), 1); t.roundTrip == 0 || d < t.roundTrip {
		t.roundTrip = d
	}
	t.roll(at)
	t.acked += f.size
}

// turn begins a span where one is over.
func (t *byteLimit) roll(at time.Time) {
	switch over := at.Sub(t.began) - t.roundTrip - ackSpan; {
	case over < 0:
		return
	case over < t.roundTrip+ackSpan:
		t.ackedBefore = t.acked
	default: // nothing came for longer
		t.ackedBefore = 0
	}
	t.began, t.acked = at, 0
}

// most gives how many bytes may be under way before another message is sent.
func (t *byteLimit) max(at time.Time) int {
	t.roll(at)
	return max(minBytesInFlight, 2*max(t.acked, t.ackedBefore))
}

// underWay gives the bytes of what is not acknowledged.
func (s *connection) underWay() (n int) {
	for _, f := range s.window {
		if !f.acked {
			n += f.size
		}
	}
	return n
}
