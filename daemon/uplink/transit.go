package uplink

import "time"

const (
	transitLeast = 8 << 10                // bytes that may be under way whatever the link
	transitSpan  = 500 * time.Millisecond // besides a round trip, for how long a link may be kept busy by what is under way
)

// transit bounds the bytes under way: twice what the broker acknowledged within a
// round trip and half a second, and 8 KiB at least. A link that is fast has twice
// as many after each round trip, until the window of messages is what binds; one
// that is slow has what it takes in a second or two, so that what matters does not
// wait behind dozens of batches that the kernel has already. It is the acknowledged
// bytes that are measured, and not the time they take, as that tells nothing where
// many are under way.
type transit struct {
	trip  time.Duration // the least that one acknowledgement took; 0 while there was none
	began time.Time     // of the present span
	now   int           // bytes acknowledged in it
	last  int           // in the one before
}

// acked takes note of an acknowledgement.
func (t *transit) acked(f flight, at time.Time) {
	if d := max(at.Sub(f.sent), 1); t.trip == 0 || d < t.trip {
		t.trip = d
	}
	t.turn(at)
	t.now += f.size
}

// turn begins a span where one is over.
func (t *transit) turn(at time.Time) {
	switch over := at.Sub(t.began) - t.trip - transitSpan; {
	case over < 0:
		return
	case over < t.trip+transitSpan:
		t.last = t.now
	default: // nothing came for longer
		t.last = 0
	}
	t.began, t.now = at, 0
}

// most gives how many bytes may be under way before another message is sent.
func (t *transit) most(at time.Time) int {
	t.turn(at)
	return max(transitLeast, 2*max(t.now, t.last))
}

// underWay gives the bytes of what is not acknowledged.
func (s *session) underWay() (n int) {
	for _, f := range s.window {
		if !f.taken {
			n += f.size
		}
	}
	return n
}
