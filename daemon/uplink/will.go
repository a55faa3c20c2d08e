package uplink

import (
	"time"

	"fieldpost/daemon/health"
)

// A policy of AWS IoT Core may refuse a CONNECT for its will or for its persistent
// session (condition key iot:ConnectAttributes), and says no more than that it is
// refused. So when it has been refused some times, one is made without a will: that
// costs nothing, as no will is published of a connection that is not. If it is
// taken the link goes on without. To try without the session is no way to find
// out: a clean one throws away the orders that the broker has kept.

const (
	refusedBefore = 3         // CONNECTs with a will were refused before one goes without
	refusedAgain  = 4         // and of those that follow, one in so many
	willAgain     = time.Hour // until one with a will is tried again, where it was the will
)

// wills is what is known of CONNECTs that were refused.
type wills struct {
	refused int       // in a row
	without time.Time // until then no CONNECT has a will; zero where it is not refused
}

// wanted reports whether the next CONNECT has the will that there is.
func (w *wills) wanted(now time.Time) bool {
	if !w.without.IsZero() && !now.Before(w.without) {
		w.again()
	}
	return w.without.IsZero() && w.refused%refusedAgain != refusedBefore
}

// tried reports whether one without was among those that were refused.
func (w *wills) tried() bool { return w.refused > refusedBefore }

// taken notes that a CONNECT was. It reports whether it is news that it is only
// without a will.
func (w *wills) taken(with bool, now time.Time) (news bool) {
	news = !with && w.without.IsZero()
	*w = wills{}
	if !with {
		w.without = now.Add(willAgain)
	}
	return news
}

// again has the next CONNECT go with a will, and if that is refused the next one
// without.
func (w *wills) again() {
	if !w.without.IsZero() {
		*w = wills{refused: refusedBefore - 1}
	}
}

// willRefused is what is amiss with a link that stands without a will.
func (l *Link) willRefused() *Explained {
	return explained(health.WillRefused, "On AWS IoT Core let the policy's condition on iot:ConnectAttributes allow LastWill; or set broker.will: none.",
		"the broker refuses the client id %q with a will and takes it without, so nobody says offline when this board is lost", l.cfg.ClientID)
}
