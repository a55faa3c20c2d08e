package uplink

import "time"

// takeover finds out whether another client connects with our client id. The broker then
// closes our connection (MQTT 3.1.1, section 3.1.4). It counts short connections that the
// broker closed, without one among them that lasted or ended otherwise. Only Run's goroutine
// uses it.
//
// A close that denies something is no evidence for or against another client. But if
// publishing was denied before anything was acknowledged, the close may have been caused by
// another client. So the next connection publishes nothing at first: a close during that time
// is not about anything we sent.
type takeover struct {
	idle      int        // closes while no request was pending
	busy      int        // closes with messages in flight, after others were acknowledged
	holdBack  bool       // the next connection publishes nothing at first
	explained *Explained // explains the suspicion, until a connection has lasted
}

// detected reports whether the closes show another client, whether new or returning. A close
// with messages in flight counts less, because it may be about one of them.
func (t *takeover) detected() bool { return 2*t.idle+t.busy >= 6 }

// connectionEnded records in which phase a connection ended. closed: the broker closed it
// before it was stable. denied: it did so to deny something. acked: it had acknowledged
// anything before.
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

// holdsBack reports whether publishing must wait on a connection that has been up for stood.
func (t *takeover) holdsBack(stood time.Duration) bool {
	t.holdBack = t.holdBack && stood < answerWithin
	return t.holdBack
}

// over records that no other client uses our client id any more.
func (t *takeover) over() { t.idle, t.busy, t.explained = 0, 0, nil }
