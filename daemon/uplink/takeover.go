package uplink

import "time"

// takeover finds out whether another client connects with our client id: the broker
// then closes our connection (MQTT 3.1.1, section 3.1.4). It counts short connections
// that the broker closed, with none between them that lasted or ended otherwise. Run's
// goroutine.
//
// A close by which something is denied says nothing for another client, and nothing
// against it. But where publishing was denied and nothing had been acknowledged
// before, the denial may have been another client's doing. So the next connection
// publishes nothing at first: a close that comes then is about nothing that we sent.
type takeover struct {
	idle      int        // closes while nothing was under way
	busy      int        // closes with messages in flight, after others were acknowledged
	holdBack  bool       // the next connection publishes nothing at first
	explained *Explained // why another client is suspected, until a connection has lasted
}

// detected reports whether the closes are those of another client, come or come back.
// A close with messages in flight says less: it may be about one of them.
func (t *takeover) detected() bool { return 2*t.idle+t.busy >= 6 }

// connectionEnded counts how a connection ended in a phase. closed says that the broker
// closed it before it was stable, denied that it did so because of what it denies, and
// acked that it had acknowledged anything before.
func (t *takeover) connectionEnded(phase Phase, closed, denied, acked bool) {
	switch {
	case closed && phase == Idle:
		t.idle++
	case closed && denied:
	case closed && phase == Publishing && acked:
		t.busy++
	case closed && phase >= Subscribing && t.explained != nil:
	default:
		t.idle, t.busy = 0, 0
	}
	doubtful := phase == Publishing && denied && !acked
	t.holdBack = !t.detected() && (doubtful || t.holdBack && t.idle > 0)
}

// holdsBack reports whether nothing is to be published yet on a connection that has
// stood for so long.
func (t *takeover) holdsBack(stood time.Duration) bool {
	t.holdBack = t.holdBack && stood < answerWithin
	return t.holdBack
}

// over notes that no other client uses our client id any more.
func (t *takeover) over() { t.idle, t.busy, t.explained = 0, 0, nil }
