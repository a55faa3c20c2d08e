package uplink

import (
	"time"

	"fieldpost/daemon/health"
)

// A policy of AWS IoT Core may refuse a CONNECT for its will or for its persistent
// session (condition key iot:ConnectAttributes), and says no more than that it is
// refused. So when CONNECTs have been refused some times, one is made without a will.
// That costs nothing, as no will is published of a connection that does not stand. If
// it is accepted the link goes on without a will. To try without the session is no way
// to find out: a clean session throws away the orders that the broker has kept.

const (
	refusalsBeforeWithout = 3         // CONNECTs with a will were refused before one goes without
	withoutEvery          = 4         // and of those that follow, one in so many
	retryWillAfter        = time.Hour // until one with a will is tried again, where it was the will
)

// willRetry is what is known of CONNECTs that were refused. Run's goroutine.
type willRetry struct {
	refused      int       // in a row
	withoutUntil time.Time // until then no CONNECT has a will; zero where it is not refused
}

// useWill reports whether the next CONNECT has the will that there is.
func (w *willRetry) useWill(now time.Time) bool {
	if !w.withoutUntil.IsZero() && !now.Before(w.withoutUntil) {
		w.retryNow()
	}
	return w.withoutUntil.IsZero() && w.refused%withoutEvery != refusalsBeforeWithout
}

// triedWithout reports whether a CONNECT without a will was among those refused.
func (w *willRetry) triedWithout() bool { return w.refused > refusalsBeforeWithout }

// accepted notes that a CONNECT was. It reports whether it is news that it is only
// without a will.
func (w *willRetry) accepted(with bool, now time.Time) (news bool) {
	news = !with && w.withoutUntil.IsZero()
	*w = willRetry{}
	if !with {
		w.withoutUntil = now.Add(retryWillAfter)
	}
	return news
}

// retryNow has the next CONNECT go with a will, and if that is refused the next one
// without.
func (w *willRetry) retryNow() {
	if !w.withoutUntil.IsZero() {
		*w = willRetry{refused: refusalsBeforeWithout - 1}
	}
}

// willRefused is what is amiss with a link that stands without a will.
func (l *Link) willRefused() *Explained { return WillRefused(l.cfg.ClientID) }

// WillRefused says what it means that a client id is accepted without a will only.
func WillRefused(clientID string) *Explained {
	return explained(health.WillRefused, "On AWS IoT Core let the policy's condition on iot:ConnectAttributes allow LastWill; or set broker.will: none.",
		"the broker refuses the client id %q with a will and accepts it without, so no `offline` is published when this board is lost", clientID)
}
