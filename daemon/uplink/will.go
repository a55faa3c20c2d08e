package uplink

import (
	"time"

	"fieldpost/daemon/health"
)

// A policy of AWS IoT Core may refuse a CONNECT because of its will or its persistent session
// (condition key iot:ConnectAttributes), and does not say which. So after several refused
// CONNECTs, one is made without a will. That loses nothing, because no will is published for
// a connection that was not accepted. If it is accepted, the link continues without a will.
// Trying without the session would not do: a clean session discards the orders that the
// broker has stored.

const (
	refusalsBeforeWithout = 3         // refused CONNECTs with a will before one is made without
	withoutEvery          = 4         // of the following ones, every fourth is made without
	retryWillAfter        = time.Hour // time until a CONNECT with a will is tried again, if the will was the cause
)

// willRetry counts refused CONNECTs and decides which ones have a will. Only Run's goroutine
// uses it.
type willRetry struct {
	refused      int       // refused CONNECTs in a row
	withoutUntil time.Time // no CONNECT has a will before this time; zero if the will is not refused
}

// useWill reports whether the next CONNECT has the configured will.
func (w *willRetry) useWill(now time.Time) bool {
	if !w.withoutUntil.IsZero() && !now.Before(w.withoutUntil) {
		w.retryNow()
	}
	return w.withoutUntil.IsZero() && w.refused%withoutEvery != refusalsBeforeWithout
}

// triedWithout reports whether a CONNECT without a will was among those refused.
func (w *willRetry) triedWithout() bool { return w.refused > refusalsBeforeWithout }

// accepted records that a CONNECT was accepted. It reports whether it is new that only a
// CONNECT without a will is accepted.
func (w *willRetry) accepted(with bool, now time.Time) (news bool) {
	news = !with && w.withoutUntil.IsZero()
	*w = willRetry{}
	if !with {
		w.withoutUntil = now.Add(retryWillAfter)
	}
	return news
}

// retryNow makes the next CONNECT have a will, and if that is refused the one after it none.
func (w *willRetry) retryNow() {
	if !w.withoutUntil.IsZero() {
		*w = willRetry{refused: refusalsBeforeWithout - 1}
	}
}

// willRefused explains a link that works only without a will.
func (l *Link) willRefused() *Explained { return WillRefused(l.cfg.ClientID) }

// WillRefused explains that a client id is accepted only without a will.
func WillRefused(clientID string) *Explained {
	return explained(health.WillRefused, "On AWS IoT Core let the policy's condition on iot:ConnectAttributes allow LastWill; or set broker.will: none.",
		"the broker refuses the client id %q with a will and accepts it without, so no `offline` is published when this board is lost", clientID)
}
